//! gzip (RFC 1952), and the names of what is not supported.

use alloc::{boxed::Box, format, string::String, vec::Vec};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

/// Largest result: what the machine could not hold anyway.
const MOST: usize = 2 << 30;

/// Unpacks the gzip member at the start of `data`. Gives its contents and the bytes it took.
///
/// # Errors
/// What is wrong.
pub fn gunzip(data: &[u8]) -> Result<(Vec<u8>, usize), String> {
    let start = header(data).ok_or("truncated or unknown header")?;
    let mut plain = Vec::new();
    let (mut taken, mut made) = (0, 0);
    // The last four bytes tell the size of the last member: most often that is this one.
    let hint = data.last_chunk().map_or(0, |size| u32::from_le_bytes(*size) as usize);
    let hint = hint.min(data.len().saturating_mul(8)).max(data.len()).max(1 << 16);
    let mut state: Box<DecompressorOxide> = Box::default();
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    loop {
        if made == plain.len() {
            let more = if made == 0 { hint } else { made };
            if made + more > MOST || plain.try_reserve_exact(more).is_err() {
                return Err(format!("no memory for more than {made} bytes"));
            }
            plain.resize(made + more, 0);
        }
        let input = &data[start + taken..];
        let (status, used, written) = decompress(&mut state, input, &mut plain, made, flags);
        taken += used;
        made += written;
        match status {
            TINFLStatus::Done => break,
            TINFLStatus::HasMoreOutput => {}
            TINFLStatus::NeedsMoreInput | TINFLStatus::FailedCannotMakeProgress => {
                return Err(format!("truncated after {} bytes", data.len()));
            }
            _ => return Err(format!("corrupt at its byte {}", start + taken)),
        }
    }
    plain.truncate(made);
    let end = start + taken;
    let trailer = data.get(end..end + 8).ok_or("truncated before its checksum")?;
    let word =
        |at| u32::from_le_bytes([trailer[at], trailer[at + 1], trailer[at + 2], trailer[at + 3]]);
    let sum = crc32fast::hash(&plain);
    if sum != word(0) {
        return Err(format!("checksum {sum:#010x} is not {:#010x} as stored", word(0)));
    }
    if made as u32 != word(4) {
        return Err(format!("size {made} is not {} as stored", word(4)));
    }
    Ok((plain, end + 8))
}

/// Length of the header; `None` if it does not end or is none.
fn header(data: &[u8]) -> Option<usize> {
    const HEADER_CHECKSUM: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let [0x1f, 0x8b, 8, flags, _, _, _, _, _, _, ..] = *data else { return None };
    if flags & 0xe0 != 0 {
        return None;
    }
    let mut at = 10;
    if flags & EXTRA != 0 {
        let length = data.get(at..at + 2)?;
        at += 2 + usize::from(u16::from_le_bytes([length[0], length[1]]));
    }
    for flag in [NAME, COMMENT] {
        if flags & flag != 0 {
            at += data.get(at..)?.iter().position(|&byte| byte == 0)? + 1;
        }
    }
    if flags & HEADER_CHECKSUM != 0 {
        at += 2;
    }
    (at <= data.len()).then_some(at)
}

/// The compression that `data` begins with, if it is a known one.
pub fn compression(data: &[u8]) -> Option<&'static str> {
    const MAGICS: &[(&[u8], &str)] = &[
        (b"\xfd7zXZ\0", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\x02\x21\x4c\x18", "lz4"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"BZh", "bzip2"),
        (b"\x5d\0\0", "lzma"),
        (b"\x89LZO", "lzo"),
    ];
    MAGICS.iter().find(|(magic, _)| data.starts_with(magic)).map(|&(_, name)| name)
}
