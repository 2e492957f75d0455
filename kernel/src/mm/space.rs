//! A program's memory: its regions and its page tables.

use crate::errno::Result;
use crate::fs::Inode;
use alloc::{string::String, sync::Arc, vec::Vec};

/// A user address space. Shared by threads, and by vfork and CLONE_VM children.
pub struct Mm;

/// What an instruction wanted of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Load.
    Read,
    /// Store.
    Write,
    /// Fetch.
    Execute,
}

/// Why a fault could not be satisfied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing is mapped there (SIGSEGV, SEGV_MAPERR).
    NotMapped,
    /// Mapped without that permission (SIGSEGV, SEGV_ACCERR).
    Denied,
    /// Past the end of the mapped file (SIGBUS, BUS_ADRERR).
    BeyondFile,
    /// No memory left.
    NoMemory,
}

/// A program image made ready to run.
pub struct Loaded {
    /// Its memory.
    pub mm: Arc<Mm>,
    /// First instruction.
    pub entry: u64,
    /// Stack pointer, argc at it.
    pub stack: u64,
    /// Where the arguments lie, for /proc/PID/cmdline.
    pub arguments: core::ops::Range<u64>,
}

impl Mm {
    /// Makes the memory of a new program from an ELF image (static or static-pie, 64-bit).
    /// Interpreter scripts (#!) are resolved by the caller.
    ///
    /// # Errors
    /// `ENOEXEC`, `ENOMEM`, `E2BIG`, `ENOENT` (a dynamic loader that is not there), `EINVAL`.
    pub fn load(
        _image: &Arc<dyn Inode>,
        _path: &[u8],
        _arguments: &[Vec<u8>],
        _environment: &[Vec<u8>],
    ) -> Result<Loaded> {
        todo!()
    }

    /// A copy-on-write copy.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn fork(&self) -> Result<Arc<Mm>> {
        todo!()
    }

    /// Resolves a page fault at `address`.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn fault(&self, _address: u64, _access: Access) -> core::result::Result<(), Fault> {
        todo!()
    }

    /// The library's address space: both roots.
    pub fn roots(&self) -> &ringwall::AddressSpace {
        todo!()
    }

    /// The text of /proc/PID/maps.
    pub fn maps(&self) -> String {
        todo!()
    }

    /// Pages mapped in regions and pages present, for /proc/PID/status and statm.
    pub fn sizes(&self) -> (usize, usize) {
        todo!()
    }

    /// Reads another process's memory (for /proc/PID/cmdline and tracers), without faulting it in.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn peek(&self, _address: u64, _into: &mut [u8]) -> Result<()> {
        todo!()
    }
}
