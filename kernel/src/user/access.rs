//! The instructions that touch user memory.
//!
//! Each routine lifts SMAP (STAC, SDM vol. 3, 4.6.1) for the few instructions that need it, if SMAP
//! is on. An instruction that may fault has a row in a table: where it is, and where its routine goes
//! on if the fault cannot be resolved. There RCX, or RDX, tells what was not done.
//!
//! Invariant: between STAC and CLAC nothing runs but these instructions and the page-fault entry,
//! which clears AC itself. Addresses are in the user half: callers check.

use core::arch::global_asm;

global_asm!(
    r#"
.macro user_access_begins
    cmp byte ptr [rip + {smap}], 0
    je 2f
    stac
2:
.endm

.macro user_access_ends
    cmp byte ptr [rip + {smap}], 0
    je 2f
    clac
2:
.endm

.pushsection .text.user_access, "ax", @progbits

// in: RDI to, RSI from, RDX bytes. out: RAX bytes not copied.
.globl user_access_copy
user_access_copy:
    mov rcx, rdx
    shr rcx, 3
    and edx, 7
    user_access_begins
.Lcopy_words:
    rep movsq
    mov ecx, edx
.Lcopy_bytes:
    rep movsb
.Lcopy_ends:
    user_access_ends
    mov rax, rcx
    ret
    // A word may reach over the end of what is there: go on by bytes, to count exactly.
.Lcopy_rest:
    lea rcx, [rdx + rcx * 8]
    jmp .Lcopy_bytes

// in: RDI to, RSI bytes. out: RAX bytes not cleared.
.globl user_access_clear
user_access_clear:
    mov rcx, rsi
    shr rcx, 3
    and esi, 7
    xor eax, eax
    user_access_begins
.Lclear_words:
    rep stosq
    mov ecx, esi
.Lclear_bytes:
    rep stosb
.Lclear_ends:
    user_access_ends
    mov rax, rcx
    ret
.Lclear_rest:
    lea rcx, [rsi + rcx * 8]
    jmp .Lclear_bytes

// in: RDI from. out: RAX value, RDX 1 or, if there was none, 0.
.globl user_access_load_8
user_access_load_8:
    user_access_begins
.Lload_8:
    mov rax, [rdi]
    jmp .Ldone
.globl user_access_load_4
user_access_load_4:
    user_access_begins
.Lload_4:
    mov eax, [rdi]
    jmp .Ldone
// The same of what is there already: no fault is resolved.
.globl user_access_look_4
user_access_look_4:
    user_access_begins
.globl user_access_looks
user_access_looks:
    mov eax, [rdi]
    jmp .Ldone

// in: RDI to, RSI value. out: RDX 1 or, if nothing was stored, 0.
.globl user_access_store_8
user_access_store_8:
    user_access_begins
.Lstore_8:
    mov [rdi], rsi
    jmp .Ldone
.globl user_access_store_4
user_access_store_4:
    user_access_begins
.Lstore_4:
    mov [rdi], esi
    jmp .Ldone

// in: RDI address, ESI old, EDX new. out: EAX what was there, RDX 1 or, if nothing was, 0.
.globl user_access_compare_exchange
user_access_compare_exchange:
    user_access_begins
    mov eax, esi
.Lexchange:
    lock cmpxchg [rdi], edx
.Ldone:
    user_access_ends
    mov edx, 1
    ret
.Lnot_done:
    user_access_ends
    xor edx, edx
    ret
.popsection

.pushsection .rodata.user_access, "a", @progbits
.balign 8
.globl user_access_fixups
user_access_fixups:
    .quad .Lcopy_words, .Lcopy_rest
    .quad .Lcopy_bytes, .Lcopy_ends
    .quad .Lclear_words, .Lclear_rest
    .quad .Lclear_bytes, .Lclear_ends
    .quad .Lload_8, .Lnot_done
    .quad .Lload_4, .Lnot_done
    .quad user_access_looks, .Lnot_done
    .quad .Lstore_8, .Lnot_done
    .quad .Lstore_4, .Lnot_done
    .quad .Lexchange, .Lnot_done
.popsection
"#,
    smap = sym crate::arch::smap::SMAP,
);

/// Rows of the table above.
const FIXUPS: usize = 10;

/// RAX and RDX.
#[repr(C)]
struct Outcome {
    value: u64,
    done: u64,
}

unsafe extern "sysv64" {
    fn user_access_copy(to: *mut u8, from: *const u8, bytes: usize) -> usize;
    fn user_access_clear(to: *mut u8, bytes: usize) -> usize;
    fn user_access_load_8(from: u64) -> Outcome;
    fn user_access_load_4(from: u64) -> Outcome;
    fn user_access_look_4(from: u64) -> Outcome;
    fn user_access_store_8(to: u64, value: u64) -> Outcome;
    fn user_access_store_4(to: u64, value: u32) -> Outcome;
    fn user_access_compare_exchange(address: u64, old: u32, new: u32) -> Outcome;
    static user_access_looks: u8;
    static user_access_fixups: [[u64; 2]; FIXUPS];
}

/// Where to go on after a page fault at `rip` that cannot be resolved, if `rip` is one of this
/// module's; else the fault is a bug of the kernel.
pub fn fixup(rip: u64) -> Option<u64> {
    // SAFETY: the table above: constant, aligned, that many rows of two words.
    let table = unsafe { &user_access_fixups };
    table.iter().find(|row| row[0] == rip).map(|row| row[1])
}

/// Whether `rip` is the instruction that a lock may be held at: its faults are not resolved.
pub fn is_look(rip: u64) -> bool {
    (&raw const user_access_looks).addr() as u64 == rip
}

/// Copies; gives how many bytes were not copied.
///
/// # Safety
/// One side is in the user half; the other is memory of the caller's, valid for `bytes`.
#[inline(always)]
pub(super) unsafe fn copy(to: *mut u8, from: *const u8, bytes: usize) -> usize {
    // SAFETY: the caller's promise; faults on the user's side are fixed up.
    unsafe { user_access_copy(to, from, bytes) }
}

/// Fills with zeros; gives how many bytes were not filled.
///
/// # Safety
/// The target is in the user half.
pub(super) unsafe fn clear(to: *mut u8, bytes: usize) -> usize {
    // SAFETY: the caller's promise; faults are fixed up.
    unsafe { user_access_clear(to, bytes) }
}

/// A word of the user half, or none if it cannot be read.
///
/// # Safety
/// The address is in the user half.
#[inline(always)]
pub(super) unsafe fn load_8(from: u64) -> Option<u64> {
    // SAFETY: the caller's promise; faults are fixed up.
    let outcome = unsafe { user_access_load_8(from) };
    (outcome.done != 0).then_some(outcome.value)
}

/// As [`load_8`], 4 bytes.
///
/// # Safety
/// The address is in the user half.
#[inline(always)]
pub(super) unsafe fn load_4(from: u64) -> Option<u32> {
    // SAFETY: the caller's promise; faults are fixed up.
    let outcome = unsafe { user_access_load_4(from) };
    (outcome.done != 0).then_some(outcome.value as u32)
}

/// [`load_4`] of what is there already: none, too, if it would have to be brought in.
///
/// # Safety
/// As [`load_8`].
pub(super) unsafe fn look_4(from: u64) -> Option<u32> {
    // SAFETY: the caller's promise; a fault is fixed up.
    let outcome = unsafe { user_access_look_4(from) };
    (outcome.done != 0).then_some(outcome.value as u32)
}

/// Stores a word in the user half; whether that was possible.
///
/// # Safety
/// The address is in the user half.
#[inline(always)]
pub(super) unsafe fn store_8(to: u64, value: u64) -> bool {
    // SAFETY: the caller's promise: no Rust object is there. Faults are fixed up.
    unsafe { user_access_store_8(to, value) }.done != 0
}

/// As [`store_8`], 4 bytes.
///
/// # Safety
/// The address is in the user half.
#[inline(always)]
pub(super) unsafe fn store_4(to: u64, value: u32) -> bool {
    // SAFETY: the caller's promise: no Rust object is there. Faults are fixed up.
    unsafe { user_access_store_4(to, value) }.done != 0
}

/// LOCK CMPXCHG on a word of the user half; what was there, or none if it cannot be written.
///
/// # Safety
/// The address is in the user half.
#[inline(always)]
pub(super) unsafe fn compare_exchange(address: u64, old: u32, new: u32) -> Option<u32> {
    // SAFETY: the caller's promise: no Rust object is there. Faults are fixed up.
    let outcome = unsafe { user_access_compare_exchange(address, old, new) };
    (outcome.done != 0).then_some(outcome.value as u32)
}
