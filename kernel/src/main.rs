//! The reference kernel: Linux programs behind isolated page tables.
#![no_std]
#![no_main]

extern crate alloc;

pub mod arch;
pub mod errno;
pub mod fs;
pub mod mm;
pub mod sync;
pub mod syscall;
pub mod task;
pub mod time;
pub mod user;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

struct NoHeapYet;
// SAFETY: gives no memory.
unsafe impl core::alloc::GlobalAlloc for NoHeapYet {
    unsafe fn alloc(&self, _: core::alloc::Layout) -> *mut u8 {
        core::ptr::null_mut()
    }
    unsafe fn dealloc(&self, _: *mut u8, _: core::alloc::Layout) {}
}
#[global_allocator]
static HEAP: NoHeapYet = NoHeapYet;
