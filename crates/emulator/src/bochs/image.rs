//! A CD that GRUB boots a kernel from, made by GRUB's own `grub-mkrescue`.

use std::fs;
use std::path::Path;

use super::{Bochs, Tools, settings};
use crate::Error;

const ACTION: &str = "write the files for a bootable CD";

/// How GRUB hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Multiboot2,
    Linux,
}

impl Protocol {
    /// A bzImage says so at a fixed place; anything else should have a multiboot2 header.
    fn of(kernel: &[u8]) -> Protocol {
        match kernel.get(0x202..0x206) {
            Some(b"HdrS") => Protocol::Linux,
            _ => Protocol::Multiboot2,
        }
    }

    /// GRUB's commands for the kernel and for the initramfs; the first is its module's name too.
    fn commands(self) -> (&'static str, &'static str) {
        match self {
            Protocol::Multiboot2 => ("multiboot2", "module2"),
            Protocol::Linux => ("linux", "initrd"),
        }
    }
}

/// Makes the CD in `directory`, under the name that the settings have. Returns how its kernel boots.
pub fn make(tools: &Tools, guest: &Bochs, directory: &Path) -> Result<Protocol, Error> {
    let contents = directory.join("cd");
    let boot = contents.join("boot");
    fs::create_dir_all(boot.join("grub")).map_err(Error::host(ACTION))?;
    let kernel = fs::read(&guest.kernel).map_err(Error::host("read the kernel"))?;
    let protocol = Protocol::of(&kernel);
    fs::write(boot.join("kernel"), kernel).map_err(Error::host(ACTION))?;
    if let Some(initrd) = &guest.initrd {
        fs::copy(initrd, boot.join("initramfs")).map_err(Error::host("copy the initramfs"))?;
    }
    let menu = menu(protocol, &guest.append, guest.initrd.is_some());
    fs::write(boot.join("grub/grub.cfg"), menu).map_err(Error::host(ACTION))?;
    let output = tools
        .command("grub-mkrescue")
        .arg(format!("--directory={}", tools.grub_modules().display()))
        .arg(format!("--xorriso={}", tools.program("xorriso").display()))
        .arg(format!("--install-modules={} normal iso9660 biosdisk", protocol.commands().0))
        .args(["--locales=", "--fonts=", "--themes=", "-o", settings::CD, "cd"])
        .current_dir(directory)
        .output()
        .map_err(Error::host("start grub-mkrescue"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Image { said });
    }
    Ok(protocol)
}

/// GRUB's script. Words of the command line are quoted: GRUB would take `;` and `$` for its own.
fn menu(protocol: Protocol, append: &str, initramfs: bool) -> String {
    let (load, add) = protocol.commands();
    let words = append.split_whitespace().map(|word| format!(" '{}'", word.replace('\'', "'\\''")));
    let words: String = words.collect();
    let add = if initramfs { format!("{add} /boot/initramfs\n") } else { String::new() };
    format!("{load} /boot/kernel{words}\n{add}boot\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted() {
        let menu = menu(Protocol::Multiboot2, "a=b  c;d 'e'", true);
        let expected =
            "multiboot2 /boot/kernel 'a=b' 'c;d' ''\\''e'\\'''\nmodule2 /boot/initramfs\nboot\n";
        assert_eq!(menu, expected);
    }

    #[test]
    fn a_linux_kernel_is_known_by_its_header() {
        let mut kernel = vec![0; 0x300];
        assert_eq!(Protocol::of(&kernel), Protocol::Multiboot2);
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        assert_eq!(Protocol::of(&kernel), Protocol::Linux);
        assert_eq!(Protocol::of(b"short"), Protocol::Multiboot2);
    }
}
