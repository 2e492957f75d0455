//! The newc format of cpio. Pure, and sound on any bytes.
//!
//! ```text
//! magic, 13 numbers of 8 hexadecimal digits | name NUL, padded to 4 | data, padded to 4
//! ```

use core::fmt;

const HEADER: usize = 110;
const TRAILER: &[u8] = b"TRAILER!!!";
/// Longest name, its NUL included.
const PATH_MAX: usize = 4096;

/// A member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Entry<'a> {
    pub inode: u32,
    pub mode: u32,
    pub user: u32,
    pub group: u32,
    pub links: u32,
    pub modified: u32,
    /// Device it was on: with the inode number, what tells hard links.
    pub device: (u32, u32),
    pub special: (u32, u32),
    pub name: &'a [u8],
    pub data: &'a [u8],
}

/// Why a member cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The image ends inside a header; it needs this many bytes, and has that many.
    TruncatedHeader(usize, usize),
    /// Six bytes that are no magic.
    Magic,
    /// The older portable format.
    OldFormat,
    /// A field that is no hexadecimal number.
    Field(usize),
    /// The name's length is 0 or too large.
    NameLength(u32),
    /// The name does not end with a NUL.
    Name,
    /// The image ends inside a name or data: needed, there.
    Truncated(usize, usize),
    /// The data does not add up to this.
    Checksum(u32),
    /// The image ends where a member should begin.
    NoTrailer,
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::TruncatedHeader(needed, there) => {
                write!(formatter, "truncated cpio header ({there} of {needed} bytes)")
            }
            Error::Magic => write!(formatter, "bad cpio magic (070701 is expected)"),
            Error::OldFormat => {
                write!(formatter, "cpio archive in the old portable format (newc is needed)")
            }
            Error::Field(index) => {
                write!(formatter, "cpio header field {index} is not a hexadecimal number")
            }
            Error::NameLength(length) => write!(formatter, "cpio name of length {length}"),
            Error::Name => write!(formatter, "cpio name without an end"),
            Error::Truncated(needed, there) => {
                write!(formatter, "truncated cpio member ({there} of {needed} bytes)")
            }
            Error::Checksum(sum) => write!(formatter, "cpio data whose checksum is not {sum:#x}"),
            Error::NoTrailer => write!(formatter, "cpio archive without a trailer"),
        }
    }
}

/// Reads members one after another.
pub struct Reader<'a> {
    image: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of `image`.
    pub fn new(image: &'a [u8]) -> Reader<'a> {
        Reader { image, at: 0 }
    }

    /// Bytes read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The next member; `None` after the trailer.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn read(&mut self) -> Result<Option<Entry<'a>>, Error> {
        let rest = &self.image[self.at..];
        if rest.is_empty() {
            return Err(Error::NoTrailer);
        }
        let magic = rest.get(..6).ok_or(Error::TruncatedHeader(HEADER, rest.len()))?;
        let checked = match magic {
            b"070701" => false,
            b"070702" => true,
            b"070707" => return Err(Error::OldFormat),
            _ => return Err(Error::Magic),
        };
        let header = rest.get(..HEADER).ok_or(Error::TruncatedHeader(HEADER, rest.len()))?;
        let mut fields = [0; 13];
        for (index, field) in fields.iter_mut().enumerate() {
            *field = hexadecimal(&header[6 + index * 8..][..8]).ok_or(Error::Field(index))?;
        }
        let [inode, mode, user, group, links, modified, size, ..] = fields;
        let (name_size, sum) = (fields[11], fields[12]);
        if name_size == 0 || name_size as usize > PATH_MAX {
            return Err(Error::NameLength(name_size));
        }
        // Sizes are 32 bits wide, so nothing can overflow here.
        let data_start = (HEADER + name_size as usize).next_multiple_of(4);
        let data_end = data_start + size as usize;
        let there = rest.len();
        let name = rest
            .get(HEADER..HEADER + name_size as usize)
            .ok_or(Error::Truncated(HEADER + name_size as usize, there))?;
        let name = name.strip_suffix(b"\0").ok_or(Error::Name)?;
        let name = &name[..name.iter().position(|&byte| byte == 0).unwrap_or(name.len())];
        if name == TRAILER {
            self.at += data_start.min(there);
            return Ok(None);
        }
        let data = rest.get(data_start..data_end).ok_or(Error::Truncated(data_end, there))?;
        if checked
            && mode & 0o170_000 == 0o100_000
            && data.iter().fold(0u32, |sum, &byte| sum.wrapping_add(u32::from(byte))) != sum
        {
            return Err(Error::Checksum(sum));
        }
        self.at += data_end.next_multiple_of(4).min(there);
        Ok(Some(Entry {
            inode,
            mode,
            user,
            group,
            links,
            modified,
            device: (fields[7], fields[8]),
            special: (fields[9], fields[10]),
            name,
            data,
        }))
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, &digit| Some(value << 4 | (digit as char).to_digit(16)?))
}
