//! Error numbers as Linux's callers know them.
//!
//! The number is as wide as a result register, so that `Result<usize, Errno>` travels in two
//! registers and a system call's plain path never touches memory for it.

use linux_raw_sys::errno as raw;

/// A Linux error number, positive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub usize);

/// What kernel operations on a program's behalf return.
pub type Result<T, E = Errno> = core::result::Result<T, E>;

macro_rules! numbers {
    ($($name:ident)*) => { impl Errno { $(
        #[allow(missing_docs)]
        pub const $name: Errno = Errno(raw::$name as usize);
    )* } };
}

numbers! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT
    EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC
    ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP
    EOVERFLOW ETIMEDOUT EOPNOTSUPP ENODATA EAFNOSUPPORT ENOTSOCK EOWNERDEAD
}

impl Errno {
    /// A restartable call was interrupted: restart it after the handler if SA_RESTART asks for it,
    /// else the program sees EINTR. Never reaches user mode (Linux's ERESTARTSYS).
    pub const ERESTARTSYS: Errno = Errno(512);
    /// Interrupted before anything was done: always restart (Linux's ERESTARTNOINTR).
    pub const ERESTARTNOINTR: Errno = Errno(513);
    /// Interrupted, restart only if no handler runs (Linux's ERESTARTNOHAND).
    pub const ERESTARTNOHAND: Errno = Errno(514);
    /// Interrupted, goes on through restart_syscall (Linux's ERESTART_RESTARTBLOCK).
    pub const ERESTART_RESTARTBLOCK: Errno = Errno(516);
}
