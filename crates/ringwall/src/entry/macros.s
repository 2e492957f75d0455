# Verbs of the entry code. A macro clobbers nothing but the scratch register that the call site names.
#
# Everything here is assembled twice, as variant `isolated` (isolated = 1) and as variant `plain`
# (isolated = 0, for pti=off): the plain text has no switch instruction at all.

# A window: bytes that run under the user root, and so the only bytes its view of the page shows.
# windows.rs has one row for each, in the order of their ends.
.macro window_begin
771:
.endm

.macro window_end variant
772:
    .pushsection .rodata.ringwall.\variant\().windows, "a"
    .short 771b - ringwall_text_\variant, 772b - ringwall_text_\variant
    .popsection
.endm

# A spot at which the named registers hold a root's physical address while the user root is loaded. An NMI
# there spills them into a user-visible landing stack, and the way back from it leaves them there. So the
# paranoid exit resumes such a spot at `resume` with those registers zero: the code there fetches them anew.
.macro root_in_registers variant, after, until, resume, registers
    .pushsection .rodata.ringwall.\variant\().spots, "a"
    .short \after - ringwall_text_\variant, \until - ringwall_text_\variant
    .short \resume - ringwall_text_\variant, \registers
    .popsection
.endm

# CR3 := the kernel root of the pair that CR3 points into. Derived by clearing bits, never loaded, so
# that no user-visible byte holds a physical address. The write serialises (SDM vol. 3, 9.3): the next
# fetch comes from the kernel view.
.macro to_kernel_root variant, isolated, scratch, registers
.if \isolated
773:
    mov \scratch, cr3
774:
    and \scratch, {ROOT_MASK}
    mov cr3, \scratch
775:
    root_in_registers \variant, 774b, 775b, 773b, \registers
.endif
.endm

# CR3 := the user root that waits in the kernel-only page. The next instruction has to overwrite the
# scratch register.
.macro to_user_root variant, isolated, scratch, registers
.if \isolated
    mov \scratch, gs:[{EXIT_CR3}]
    mov cr3, \scratch
775:
    root_in_registers \variant, 775b, 775b+1, 775b, \registers
.endif
.endm

# Ring 0 must not run with the user's AC: SMAP would be off. Made NOPs where there is no SMAP.
.macro clear_ac variant
776:
    clac
    .pushsection .rodata.ringwall.\variant\().clac, "a"
    .short 776b - ringwall_text_\variant
    .popsection
.endm

.macro push_registers_below_rdi
    push rsi
    push_registers_below_rsi
.endm

.macro push_registers_below_rsi
    push rdx
    push rcx
    push rax
    push r8
    push r9
    push r10
    push r11
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
.endm

.macro pop_registers_to_rsi
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop r11
    pop r10
    pop r9
    pop r8
    pop rax
    pop rcx
    pop rdx
    pop rsi
.endm

.macro scrub_words base, count
    .set ringwall_word, 0
    .rept \count
    mov qword ptr [\base + ringwall_word], 0
    .set ringwall_word, ringwall_word + 8
    .endr
.endm
