//! Unpacking the initramfs into the root.
//!
//! ```text
//! image = { zeros | newc archive | gzip member that holds such }*
//! ```
//!
//! As on Linux, archives may follow one another, each plain or compressed, with zeros between them.
//! Everything in the image is checked before it is used; whatever is wrong ends the unpacking with
//! a sentence that names the byte.

mod place;

use super::inode::{Kind, New, device_number};
use super::mount;
use alloc::{format, string::String};
use ringwall_archive::{Reader, compression, gunzip};

/// What is wrong, and where.
pub type Problem = String;

/// What a fresh root has before anything is unpacked, as Linux builds it in.
fn prepare() {
    let root = mount::root().root.clone();
    let directory = |mode| New::Node { kind: Kind::Directory, mode, special: 0 };
    if let Ok(dev) = root.clone().create(b"dev", directory(0o755)) {
        let special = device_number(5, 1);
        let console = New::Node { kind: Kind::Character, mode: 0o600, special };
        let _ = dev.create(b"console", console);
    }
    let _ = root.create(b"root", directory(0o700));
}

/// Unpacks `image` into the root.
///
/// # Errors
/// A sentence for the console: what is wrong and where.
pub fn unpack(image: &[u8]) -> Result<(), Problem> {
    prepare();
    let mut placer = place::Placer::new();
    let mut at = 0;
    while at < image.len() {
        let rest = &image[at..];
        match rest {
            [0, ..] => at += rest.iter().position(|&byte| byte != 0).unwrap_or(rest.len()),
            [0x1f, 0x8b, ..] => {
                let (plain, used) =
                    gunzip(rest).map_err(|problem| format!("gzip data at byte {at}: {problem}"))?;
                unpack_plain(&plain, &mut placer, &|offset| {
                    format!("byte {offset} of what the gzip data at byte {at} unpacks to")
                })?;
                at += used;
            }
            [b'0', ..] => {
                let start = at;
                at += unpack_one(rest, &mut placer, &|offset| format!("byte {}", start + offset))?;
            }
            _ => {
                return Err(match compression(rest) {
                    Some(name) => format!(
                        "{name} compression at byte {at} is not supported; \
                         use a plain or gzip newc archive"
                    ),
                    None => format!("neither a newc archive nor gzip data at byte {at}"),
                });
            }
        }
    }
    placer.finish();
    Ok(())
}

/// Unpacks archives and zeros.
fn unpack_plain(
    image: &[u8],
    placer: &mut place::Placer,
    position: &dyn Fn(usize) -> String,
) -> Result<(), Problem> {
    let mut at = 0;
    while at < image.len() {
        if image[at] == 0 {
            at += 1;
        } else {
            at += unpack_one(&image[at..], placer, &|offset| position(at + offset))?;
        }
    }
    Ok(())
}

/// Unpacks one archive; gives its length, trailer included.
fn unpack_one(
    image: &[u8],
    placer: &mut place::Placer,
    position: &dyn Fn(usize) -> String,
) -> Result<usize, Problem> {
    let mut reader = Reader::new(image);
    loop {
        let start = reader.position();
        let problem = |text: String| format!("{text} at {}", position(start));
        match reader.read().map_err(|error| problem(format!("{error}")))? {
            Some(entry) => placer.place(&entry).map_err(|error| {
                problem(format!("cannot make {}: {error}", String::from_utf8_lossy(entry.name)))
            })?,
            None => {
                placer.end_archive();
                return Ok(reader.position());
            }
        }
    }
}
