//! What /proc tells of the kernel and its settings.

use crate::errno::{Errno, Result};
use crate::fs::generated::Subject;
use crate::fs::{current, mount};
use crate::sync::Once;
use crate::syscall::system;
use crate::task::way;
use alloc::{format, string::String, vec::Vec};
use core::sync::atomic::Ordering;
use linux_raw_sys::general as abi;

/// The result of a text.
type Text = Result<Vec<u8>>;

/// The kernel's command line, set at boot.
pub static COMMAND_LINE: Once<Vec<u8>> = Once::new();

pub fn command_line(_: &Subject) -> Text {
    let mut text = COMMAND_LINE.get().cloned().unwrap_or_default();
    text.push(b'\n');
    Ok(text)
}

pub fn nothing(_: &Subject) -> Text {
    Ok(Vec::new())
}

pub fn accept(_: &Subject, _: &[u8]) -> Result<()> {
    Ok(())
}

pub fn devices(_: &Subject) -> Text {
    Ok(b"Character devices:\n  1 mem\n  4 ttyS\n  5 /dev/tty\n  5 /dev/console\n\nBlock devices:\n"
        .to_vec())
}

pub fn file_systems(_: &Subject) -> Text {
    Ok(crate::fs::mount_types::TYPES
        .iter()
        .map(|kind| format!("nodev\t{}\n", kind.name))
        .collect::<String>()
        .into_bytes())
}

pub fn partitions(_: &Subject) -> Text {
    Ok(b"major minor  #blocks  name\n\n".to_vec())
}

pub fn swaps(_: &Subject) -> Text {
    Ok(b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_vec())
}

pub fn version(_: &Subject) -> Text {
    Ok(format!("{} version {} (ringwall) {}\n", "Linux", system::RELEASE, system::VERSION)
        .into_bytes())
}

pub fn system_name(_: &Subject) -> Text {
    Ok(format!("{}\n", "Linux").into_bytes())
}

pub fn release(_: &Subject) -> Text {
    Ok(format!("{}\n", system::RELEASE).into_bytes())
}

pub fn build(_: &Subject) -> Text {
    Ok(format!("{}\n", system::VERSION).into_bytes())
}

pub fn host_name(_: &Subject) -> Text {
    let mut name = system::host_name();
    name.push(b'\n');
    Ok(name)
}

pub fn set_host_name(_: &Subject, name: &[u8]) -> Result<()> {
    let end = name.iter().position(|&byte| byte == b'\n' || byte == 0).unwrap_or(name.len());
    system::set_host_name(&name[..end.min(64)]);
    Ok(())
}

pub fn domain_name(_: &Subject) -> Text {
    Ok(b"(none)\n".to_vec())
}

pub fn isolation(_: &Subject) -> Text {
    Ok(format!("{}\n", u32::from(way::machine_is_isolated())).into_bytes())
}

pub fn switch_isolation(_: &Subject, text: &[u8]) -> Result<()> {
    way::switch_machine(ringwall_rules::isolation::of_text(text).ok_or(Errno::EINVAL)?)
}

macro_rules! constants {
    ($($name:ident $text:literal)*) => {$(
        pub fn $name(_: &Subject) -> Text {
            Ok($text.to_vec())
        }
    )*};
}

constants! {
    zero b"0\n"
    zero_digit b"0"
    two b"2\n"
    pid_max b"32768\n"
    last_capability b"40\n"
    groups_max b"65536\n"
    printk b"7\t4\t1\t7\n"
    entropy b"256\n"
    map_max b"65530\n"
    swappiness b"60\n"
    file_max b"9223372036854775807\n"
    file_open_max b"1048576\n"
    pipe_max b"1048576\n"
}

fn identifier() -> Vec<u8> {
    let mut bytes = [0; 16];
    crate::random::fill(&mut bytes);
    // Version 4, variant 1 (RFC 9562).
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text.push('\n');
    text.into_bytes()
}

pub fn boot_identifier(_: &Subject) -> Text {
    static IDENTIFIER: Once<Vec<u8>> = Once::new();
    Ok(IDENTIFIER.call_once(identifier).clone())
}

pub fn new_identifier(_: &Subject) -> Text {
    Ok(identifier())
}

/// Spaces and the like as mount tables write them.
fn escaped(text: &[u8]) -> String {
    let mut result = String::new();
    for &byte in text {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => result.push_str(&format!("\\{byte:03o}")),
            _ => result.push(byte as char),
        }
    }
    result
}

fn flags(mount: &mount::Mount) -> String {
    let flags = mount.flags.load(Ordering::Relaxed);
    let mut text = String::from(if flags & abi::MS_RDONLY != 0 { "ro" } else { "rw" });
    let names = [
        (abi::MS_NOSUID, ",nosuid"),
        (abi::MS_NODEV, ",nodev"),
        (abi::MS_NOEXEC, ",noexec"),
        (abi::MS_NOATIME, ",noatime"),
    ];
    for (flag, name) in names {
        if flags & flag != 0 {
            text.push_str(name);
        }
    }
    if mount.covers.is_some() && flags & abi::MS_NOATIME == 0 {
        text.push_str(",relatime");
    }
    text
}

fn target(mount: &mount::Mount) -> Option<String> {
    let paths = current::paths();
    match &mount.covers {
        None => Some(String::from("/")),
        Some(place) => Some(escaped(&paths.path_of(place).ok()?)),
    }
}

pub fn mounts(_: &Subject) -> Text {
    let mut text = String::new();
    for mount in mount::all() {
        let Some(target) = target(&mount) else { continue };
        let options = mount.options.read();
        let comma = if options.is_empty() { "" } else { "," };
        text.push_str(&format!(
            "{} {} {} {}{}{} 0 0\n",
            escaped(mount.source.as_bytes()),
            target,
            mount.kind,
            flags(&mount),
            comma,
            options,
        ));
    }
    Ok(text.into_bytes())
}

pub fn mount_information(_: &Subject) -> Text {
    let mut text = String::new();
    for mount in mount::all() {
        let Some(target) = target(&mount) else { continue };
        let (major, minor) = crate::fs::inode::device_parts(mount.root.identity().0);
        let above = mount.covers.as_ref().map_or(mount.number, |covers| covers.mount.number);
        let options = mount.options.read();
        let comma = if options.is_empty() { "" } else { "," };
        text.push_str(&format!(
            "{} {} {}:{} / {} {} - {} {} rw{}{}\n",
            mount.number,
            above,
            major,
            minor,
            target,
            flags(&mount),
            mount.kind,
            escaped(mount.source.as_bytes()),
            comma,
            options,
        ));
    }
    Ok(text.into_bytes())
}
