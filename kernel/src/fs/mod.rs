//! Files: the in-memory file system, devices, /proc, pipes, the terminal.
//!
//! ```text
//! syscall::files -> table (descriptors) -> file (open files) -> pipe, terminal, device, memory ...
//!               \-> paths, walk, mount (names)               -> inode -> memory, generated
//! ```
//!
//! Lock order: a process's descriptors; `RENAMING`; directories (see `memory::directory`); a node's
//! pages or attributes; `MOUNTS` and the locks of pipes, terminal and epoll are leaves, taken one at
//! a time. Nothing here is held across a copy to or from a program, except a [`turn::Turn`].

pub mod current;
pub mod device;
pub mod epoll;
pub mod eventfd;
pub mod file;
pub mod generated;
pub mod hold;
pub mod initramfs;
pub mod inode;
pub mod lock;
pub mod memory;
pub mod mount;
pub mod mount_types;
pub mod nameless;
pub mod names;
pub mod paths;
pub mod permission;
pub mod pipe;
pub mod poll;
pub mod process;
pub mod seal;
pub mod segments;
pub mod system;
pub mod table;
pub mod terminal;
pub mod transfer;
pub mod turn;
pub mod walk;

/// A process that has closed its files has ended: its record locks go, and the terminal of a
/// session goes with the session's leader.
pub fn process_ended(pid: u32, session: u32) {
    lock::process_ended(pid);
    if pid == session {
        terminal::leader_ended(session);
    }
}

pub use file::{File, Operations};
pub use initramfs::unpack;
pub use inode::Inode;
pub use paths::Paths;
pub use process::COMMAND_LINE;
pub use system::MELTDOWN;
pub use table::FileTable;
pub use terminal::input as terminal_input;
