//! Memory: frames, the kernel's heap, and programs' address spaces.

pub mod frame;
pub mod layout;
pub mod space;

pub use frame::Page;
pub use space::{Access, Fault, Mm};
