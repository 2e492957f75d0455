//! Reading a model-specific register that may not be there, whatever CPUID says: Bochs's CPUs claim the
//! machine-check architecture and lack its registers.
//!
//! SDM vol. 2, RDMSR: #GP(0) for a register that does not exist.

core::arch::global_asm!(
    // In: edi = register, rsi = where the value goes. Out: eax = 1, or 0 if it faulted.
    ".pushsection .text.msr_read, \"ax\"",
    ".globl msr_read, msr_read_access, msr_read_fixup",
    "msr_read:",
    "    mov ecx, edi",
    "msr_read_access:",
    "    rdmsr",
    "    mov [rsi], eax",
    "    mov [rsi + 4], edx",
    "    mov eax, 1",
    "    ret",
    "msr_read_fixup:",
    "    xor eax, eax",
    "    ret",
    ".popsection",
);

unsafe extern "sysv64" {
    safe static msr_read_access: u8;
    safe static msr_read_fixup: u8;
    fn msr_read(register: u32, value: *mut u64) -> u32;
}

/// The register's value, if it exists. Not before this CPU's exceptions have handlers.
pub fn read(register: u32) -> Option<u64> {
    let mut value = 0;
    // SAFETY: reading a register changes nothing, and a fault ends at the fixup.
    let exists = unsafe { msr_read(register, &raw mut value) };
    (exists != 0).then_some(value)
}

/// Where to go on if a read at `rip` faulted.
pub fn fixup(rip: u64) -> Option<u64> {
    (rip == (&raw const msr_read_access).addr() as u64)
        .then(|| (&raw const msr_read_fixup).addr() as u64)
}
