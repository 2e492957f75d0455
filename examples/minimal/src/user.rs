//! The user program: prints, touches memory that is not there yet, reaches for the kernel, ends.
//!
//! It is linked into the image on pages of its own and mapped at [`BASE`], so it uses nothing outside
//! its section: no constant tables, no panics.

/// Where the kernel maps the program.
pub const BASE: u64 = 0x40_0000;
/// A page that the kernel maps when it is first touched.
pub const LAZY: u64 = 0x60_0000;

/// System calls of this kernel.
pub mod call {
    /// Print the byte in RDI.
    pub const PRINT: u64 = 0;
    /// End the machine, saying the number in RDI.
    pub const END: u64 = 1;
}

#[inline(always)]
fn system_call(number: u64, argument: u64) -> u64 {
    let result;
    // SAFETY: the kernel preserves all registers but these.
    unsafe {
        core::arch::asm!("syscall", inout("rax") number => result, in("rdi") argument,
            out("rcx") _, out("r11") _);
    }
    result
}

/// The program's first function. `kernel_address`: something that only the kernel may read.
#[unsafe(link_section = ".user.first")]
pub extern "sysv64" fn user_main(kernel_address: u64) -> ! {
    for byte in [b'h', b'e', b'l', b'l', b'o', b'\n'] {
        system_call(call::PRINT, byte.into());
    }
    let lazy = LAZY as *mut u64;
    // SAFETY: the kernel maps this page on demand.
    unsafe { lazy.write_volatile(7) };
    // SAFETY: as above.
    let seven = unsafe { lazy.read_volatile() };
    let stolen: u64;
    // SAFETY: this faults; the kernel answers with 0 in RAX, and goes on behind it.
    unsafe {
        core::arch::asm!("mov rax, [{}]", in(reg) kernel_address, out("rax") stolen);
    }
    loop {
        system_call(call::END, seven + stolen);
    }
}
