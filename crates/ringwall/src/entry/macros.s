# Verbs of the entry code. A macro clobbers nothing but the scratch register that the call site names, and
# what its own comment names.
#
# Everything here is assembled four times: as variant `plain` (isolated = 0, for pti=off), which has no switch
# instruction at all, as variant `isolated` (isolated = 1), as variant `pcid` (isolated = 2, CR4.PCIDE is set),
# whose writes of CR3 keep the TLB's entries, and as variant `open` (isolated = 0, open = 1) for processes whose
# isolation is switched off while others have it. Ring 3 is then under the kernel root, where the CPU pushes on the
# kernel view's stack page, which is not the one behind the alias; else it is the plain one.

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
    keep_translations \isolated, \scratch
    mov cr3, \scratch
775:
    root_in_registers \variant, 774b, 775b, 773b, \registers
.endif
.endm

# With PCID, the write of this value to CR3 keeps the translations of its PCID (SDM vol. 3, 4.10.4.1).
.macro keep_translations isolated, value:vararg
.if \isolated == 2
    bts \value, {NO_FLUSH_BIT}
.endif
.endm

# CR3 := the user root that waits in the kernel-only page. The next instruction has to overwrite the
# scratch register. With PCID, a flush of the user half that is due is in the value, and is then due no more.
.macro to_user_root variant, isolated, scratch, registers
.if \isolated
    mov \scratch, gs:[{EXIT_CR3}]
    keep_translations \isolated, qword ptr gs:[{EXIT_CR3}]
    mov cr3, \scratch
775:
    root_in_registers \variant, 775b, 775b+1, 775b, \registers
.endif
.endm

# Bytes that are there only if one of these features is on (text.rs has their bits): otherwise NOPs, or a jump
# to their end.
.macro when
781:
.endm

.macro when_end variant, features
782:
    .pushsection .rodata.ringwall.\variant\().patches, "a"
    .short \features, 781b - ringwall_text_\variant, 782b - ringwall_text_\variant, 0
    .popsection
.endm

# Five bytes or more that become a jump to `target` if one of these features is on, and cost nothing if none is.
.macro detour
783:
.endm

.macro detour_end variant, features, target
784:
    .pushsection .rodata.ringwall.\variant\().patches, "a"
    .short \features, 783b - ringwall_text_\variant, 784b - ringwall_text_\variant
    .short \target - ringwall_text_\variant
    .popsection
.endm

# A deliberate break (breaks.rs). The bytes are gone if it is on; without the feature they are there, and that is all.
.macro sound
791:
.endm

.macro sound_end variant, break
.if {BREAKS}
792:
    .pushsection .rodata.ringwall.\variant\().breaks, "a"
    .short \break, 0, 791b - ringwall_text_\variant, 792b - ringwall_text_\variant
    .popsection
.endif
.endm

# The bytes are there only if it is on. Stands, with them, in `.if {BREAKS}`.
.macro broken
793:
.endm

.macro broken_end variant, break
794:
    .pushsection .rodata.ringwall.\variant\().breaks, "a"
    .short \break, 1, 793b - ringwall_text_\variant, 794b - ringwall_text_\variant
    .popsection
.endm

# Ring 0 must not run with the user's AC: SMAP would be off.
.macro clear_ac variant
    when
    clac
    when_end \variant, {FEATURE_CLEAR_AC}
.endm

# Behind a SWAPGS that a branch decided, or a branch that decided against one (CVE-2019-1125).
.macro fence_swapgs variant
    when
    lfence
    when_end \variant, {FEATURE_FENCE_SWAPGS}
.endm

# A program's registers are in the frame; what a handler does not load itself it finds zero.
#
# In: the frame is built. Uses: all general registers but RSP.
.macro clear_registers variant
    when
    xor eax, eax
    xor ecx, ecx
    xor edx, edx
    xor ebx, ebx
    xor ebp, ebp
    xor esi, esi
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r11d, r11d
    xor r12d, r12d
    xor r13d, r13d
    xor r14d, r14d
    xor r15d, r15d
    when_end \variant, {FEATURE_CLEAR_REGISTERS}
.endm

# IA32_SPEC_CTRL := value. Uses: EAX, ECX, EDX.
.macro write_spec_ctrl variant, value
    when
    mov ecx, {MSR_SPEC_CTRL}
    mov eax, \value
    xor edx, edx
    wrmsr
    when_end \variant, {FEATURE_IBRS}
.endm

# One more way in from ring 3, of those that switch the root or of those that do not.
.macro count_entry variant, isolated
    when
.if \isolated
    inc qword ptr gs:[{ENTRIES_SWITCHED}]
.else
    inc qword ptr gs:[{ENTRIES_OPEN}]
.endif
    when_end \variant, {FEATURE_COUNT_ENTRIES}
.endm

# 32 return addresses that lead to INT3. Uses: ECX, 256 bytes of the stack.
.macro fill_return_stack_buffer variant
    when
    mov ecx, 16
785:
    call 786f
    int3
786:
    call 787f
    int3
787:
    dec ecx
    jnz 785b
    add rsp, 32 * 8
    lfence
    when_end \variant, {FEATURE_FILL_RSB}
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
    pop_registers_r12_to_rsi
.endm

.macro pop_registers_r12_to_rsi
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

.macro push_zeros count
    .rept \count
    push 0
    .endr
.endm

# Back to interrupted ring 0, under the kernel root, without IRET: that would unmask NMIs, and the interrupted
# code may be an NMI's. RFLAGS and RIP go below the interrupted RSP (no red zone in ring 0); the words there may
# be this very frame's SS, RSP and RFLAGS, which is why they are read in this order. RF is lost. Only where IF is
# clear: POPFQ holds no interrupt back until the RET, and each that came there would leave 8 bytes behind.
#
# In:   RBX = RSP = frame.
# Uses: RAX, RCX before they get their values back.
.macro return_without_iret
    mov rax, [rbx + {FRAME_RSP}]
    mov rcx, [rbx + {FRAME_RIP}]
    mov [rax - 8], rcx
    mov rcx, [rbx + {FRAME_RFLAGS}]
    mov [rax - 16], rcx
    sub rax, 16
    mov [rbx + {FRAME_VECTOR}], rax
    pop_registers_to_rsi
    pop rdi
    pop rsp
    popfq
    ret
.endm

# GS base := R13. Uses: RAX, RCX, RDX.
.macro restore_gs_base variant
    sound
    when
    wrgsbase r13
    when_end \variant, {FEATURE_FSGSBASE}
    when
    mov ecx, {MSR_GS_BASE}
    mov rax, r13
    mov rdx, r13
    shr rdx, 32
    wrmsr
    when_end \variant, {FEATURE_NO_FSGSBASE}
    sound_end \variant, {BREAK_PARANOID_GS}
.endm

# The last thing before code that goes to ring 3, or to what may be past its own VERW. Uses: ZF.
.macro clear_buffers variant, selector:vararg
    when
    verw word ptr \selector
    when_end \variant, {FEATURE_CLEAR_BUFFERS}
.endm
