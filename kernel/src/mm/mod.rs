//! Memory: frames, the kernel's heap, and programs' address spaces.
//!
//! ```text
//!   syscall/memory   fault (arch)   exec, fork (task)   user (copies)
//!          └────────────┬───────────────┴────────────────┘
//!                      Mm            one lock: regions and tables change together
//!            ┌──────────┼──────────┐
//!         regions     tables      Inode::page (fs)
//!                       │
//!            roots (library), tlb, page, frame
//! ```
//!
//! Lock order: an [`Mm`], then a file system's, then the heap, then the frames. An [`Mm`]'s LDT has a lock
//! of its own, in the place of the other.

mod change;
mod fault;
pub mod frame;
pub mod heap;
pub mod kernel;
pub mod layout;
pub mod ldt;
mod load;
mod map;
mod mapping;
mod maps;
mod opening;
mod other;
mod page;
mod remap;
mod roots;
mod shared;
pub mod space;
pub mod spread;
mod stack;
mod table;
pub mod tlb;
mod truncate;
mod vdso;

pub use fault::{Access, Fault};
pub use frame::admit;
pub use load::Loaded;
pub use map::Request;
pub use mapping::{MappedFile, Protection, RegionFlags};
pub use page::{PAGE, Page};
pub use roots::start;
pub use space::Mm;
pub use truncate::forget_pages;
