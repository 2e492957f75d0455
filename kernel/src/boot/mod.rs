//! From the boot loader to process 1.
//!
//! Invariant: what the loader left in memory is not given away before it was read.

pub mod info;
pub mod init;
pub mod memory;
pub mod multiboot2;
pub mod place;
pub mod pvh;
pub mod roots;

pub use roots::kernel_root;

core::arch::global_asm!(
    include_str!("start.s"),
    DIRECT_SLOT = const ringwall::core::paging::index(4, ringwall_rules::places::Places::FIXED.direct_map),
    MULTIBOOT2_MAGIC = const ringwall_multiboot2::MAGIC,
    PVH_MAGIC = const pvh::MAGIC,
    LIST_BYTES = const place::LIST_BYTES,
    PLACE = sym place::place,
    KERNEL_MAIN = sym crate::kernel_main,
);
