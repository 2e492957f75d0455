//! What can be wrong with the information, for the console.

use core::fmt;

/// What is wrong; the loader's fault, each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It says that it is smaller than a header and an end.
    Size {
        /// Bytes.
        size: u32,
    },
    /// The tags go on past the end of the information.
    NoEnd {
        /// Where the next tag should be.
        offset: usize,
    },
    /// A tag is longer than what is left, or shorter than its kind has to be.
    Truncated {
        /// What the tag holds.
        kind: u32,
        /// Where it begins.
        offset: usize,
        /// Bytes, by its header.
        size: u32,
    },
    /// The memory map's entries are too small.
    EntrySize {
        /// Bytes.
        size: u32,
    },
    /// A module that ends before it begins.
    Module {
        /// Physical address.
        start: u32,
        /// Physical address.
        end: u32,
    },
    /// There is no memory map, or it has no entry.
    NoMemoryMap,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::Size { size } => write!(f, "it has {size} bytes, too few for any tag"),
            Error::NoEnd { offset } => {
                write!(f, "its list of tags has no end (next one at byte {offset})")
            }
            Error::Truncated { kind, offset, size } => {
                write!(f, "the tag at byte {offset} (kind {kind}) cannot have {size} bytes")
            }
            Error::EntrySize { size } => {
                write!(f, "its memory map has entries of {size} bytes, which is too small")
            }
            Error::Module { start, end } => {
                write!(f, "its module ends at {end:#x}, before it begins at {start:#x}")
            }
            Error::NoMemoryMap => write!(f, "it has no memory map"),
        }
    }
}

impl core::error::Error for Error {}
