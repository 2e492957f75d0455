# NMI, #DB, #MC, #DF: entries that may find any CR3, any GS and any stack.

# In:   [error code, #DF only][RIP][CS][RFLAGS][RSP][SS] on the vector's landing stack, in the stack page
#       of whichever view was loaded.
# Out:  paranoid_common on the vector's own, kernel-only stack; RDI = the landed words, reachable;
#       RSI = CR3 as it was (plain: still the interrupted program's RSI); kernel root; GS unknown.
.macro paranoid_entry variant, isolated, open, name, number, stack, landed
    window_begin
paranoid_\name\()_\variant:
.if \number != 8
    push 0
.endif
    push \number
    push rdi
    push rsi
.if \number == 8
    turn_back_exit_fault \variant, \open
.endif
.if \isolated
773:
    mov rsi, cr3
774:
    mov rdi, rsi
    and rdi, {ROOT_MASK}
    keep_translations \isolated, rdi
    mov cr3, rdi
775:
    root_in_registers \variant, 774b, 775b, 773b, {IN_RDI_RSI}
.endif
    window_end \variant
    mov rdi, rsp
.if \isolated
    test esi, {USER_ROOT_BIT}
    jz 779f
    add rdi, {ALIAS}
779:
.endif
# From ring 3, #DB and #MC go on like any trap, on the task stack: they may end in a signal.
.if (\number == 1) || (\number == 18)
    test byte ptr [rdi + 40], 3
    jnz paranoid_from_user_\variant
.endif
# The per-CPU pages stand in a fixed order, so the landing stack's address finds the CPU's own data. GS
# would not do: with FSGSBASE ring 3 may have set it to anything. RSP goes from one stack to the other in one
# step: a #MC that finds an NMI's RSP elsewhere would not know that an NMI runs.
    mov rsp, [rsp + \stack - \landed]
.if \number != 8
    jmp paranoid_common_\variant
.endif
.endm

# A #DF of the exit's IRETQ on the espfix stack, which is read-only and so took no fault frame. It becomes the
# #GP(0) of ring 3 that it was: the program's frame still stands on the entry stack, and there it goes on, all
# under the user root. Anything else falls through.
#
# In: [RSI][RDI][vector][error code][RIP][CS][RFLAGS][RSP][SS] at RSP, the #DF landing's end above. RDI is free.
.macro turn_back_exit_fault variant, open
    test byte ptr [rsp + 40], 3
    jnz 779f
    lea rdi, [rip + exit_iretq_\variant]
    cmp [rsp + 32], rdi
    jne 779f
.if \open
    lea rdi, [rsp + {ALIAS}]
    xor rdi, [rsp + 56]
.else
    mov rdi, [rsp + 56]
    xor rdi, rsp
.endif
    and rdi, -4096
    jz 779f
    pop rsi
    pop rdi
.if {BREAKS}
    broken
    swapgs
    mov rsp, gs:[{TASK_STACK_TOP}]
    push rdi
    swapgs
    broken_end \variant, {BREAK_DOUBLE_FAULT_STACK}
.endif
    add rsp, 56
    push_zeros 9
    and rsp, -4096
    add rsp, {ENTRY_STACK_TOP} - 40 + {ALIAS} * \open
    push 0
    push {GENERAL_PROTECTION}
    push rdi
    jmp trap_from_user_\variant
779:
.endm

.macro push_landed_words variant
    push qword ptr [rdi + 64]
    push qword ptr [rdi + 56]
    push qword ptr [rdi + 48]
    push qword ptr [rdi + 40]
    push qword ptr [rdi + 32]
    push qword ptr [rdi + 24]
    push qword ptr [rdi + 16]
    push qword ptr [rdi + 8]
    push qword ptr [rdi]
    when
    scrub_words rdi, 9
    when_end \variant, {FEATURE_SCRUB}
    push_registers_below_rsi
.endm

# All registers and the root as they were, RDI last: it carries the root, and waits on the landing.
#
# In: RBX = RSP = frame, R12 = the root, RAX = where the landing has RDI. Opens a window.
.macro go_to_landing variant, isolated
    keep_translations \isolated, r12
    mov [rbx + {FRAME_RDI}], r12
    mov [rbx + {FRAME_VECTOR}], rax
    pop_registers_to_rsi
    pop rdi
    pop rsp
    mov cr3, rdi
775:
    root_in_registers \variant, 775b, 775b+1, 775b, {IN_RDI}
    window_begin
    pop rdi
.endm

.macro paranoid_paths variant, isolated, open
    paranoid_entry \variant, \isolated, \open, nmi, 2, {NMI_STACK}, {NMI_LANDED}
    paranoid_entry \variant, \isolated, \open, debug, 1, {DEBUG_STACK}, {DEBUG_LANDED}
    paranoid_entry \variant, \isolated, \open, machine_check, 18, {MACHINE_CHECK_STACK}, {MACHINE_CHECK_LANDED}
    paranoid_entry \variant, \isolated, \open, double_fault, 8, {DOUBLE_FAULT_STACK}, {DOUBLE_FAULT_LANDED}

# paranoid_common
#
# In:   as paranoid_entry leaves it.
# Out:  the paranoid handler with RDI = frame, RSI = CR3 as it was (isolated only), RDX = GS base as it was. Then,
#       from ring 3 (an NMI): exit_to_user, like any trap. From ring 0 back to exactly the CR3, GS base and DR7
#       that were there: by IRETQ, from this stack or, if the user root was loaded, from the landing stack; but if
#       the handler's answer in RAX is not 0, an NMI may be under way, and it is POPFQ and RET on the interrupted
#       stack.
# Uses: RBX frame, RBP landed words, R12 CR3 to go back to, R13 GS base to go back to, R14 GS base of the CPU,
#       then IA32_SPEC_CTRL to go back to, R15 DR7 to go back to.
paranoid_common_\variant:
    push_landed_words \variant
    mov r15, dr7
    xor eax, eax
    mov dr7, rax
    clear_ac \variant
    cld
    mov rbx, rsp
    mov rbp, rdi
    mov r12, rsi
    mov r14, rdi
    and r14, -4096
.if \isolated
    test r12d, {USER_ROOT_BIT}
    jz 779f
    sub r14, {ALIAS}
779:
.endif
    when
    rdgsbase r13
    wrgsbase r14
    when_end \variant, {FEATURE_FSGSBASE}
    when
    mov ecx, {MSR_GS_BASE}
    rdmsr
    shl rdx, 32
    lea r13, [rdx + rax]
    mov rax, r14
    mov rdx, r14
    shr rdx, 32
    wrmsr
    when_end \variant, {FEATURE_NO_FSGSBASE}
# The GS base of the CPU has served; IA32_SPEC_CTRL as it was takes its register.
    when
    mov ecx, {MSR_SPEC_CTRL}
    rdmsr
    mov r14d, eax
    when_end \variant, {FEATURE_IBRS}
    write_spec_ctrl \variant, {SPEC_CTRL_IBRS}
    fill_return_stack_buffer \variant
    when
    xor eax, eax
    xor ecx, ecx
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r11d, r11d
    when_end \variant, {FEATURE_CLEAR_REGISTERS}
    mov rdi, rbx
    mov rsi, r12
    mov rdx, r13
.if \open
    call qword ptr gs:[{OPEN_PARANOID_HANDLER}]
.else
    call qword ptr gs:[{PARANOID_HANDLER}]
.endif
    mov [rbx + {FRAME_VECTOR}], rax
    mov dr7, r15
    test byte ptr [rbx + {FRAME_CS}], 3
    jnz paranoid_exit_to_user_\variant
    write_spec_ctrl \variant, r14d
    restore_gs_base \variant
.if \isolated
    test r12d, {USER_ROOT_BIT}
    jnz paranoid_exit_to_user_root_\variant
.endif
    cmp qword ptr [rbx + {FRAME_VECTOR}], 0
    jne 779f
    pop_registers_to_rsi
    pop rdi
    add rsp, 16
.if \isolated == 0
    clear_buffers \variant, [rsp + 32]
.endif
    iretq
779:
    return_without_iret

# An NMI's handler has ended; all that is left is an exit to ring 3, which may fault, and may be to a 16-bit stack
# segment. There is one way for that. No IRETQ in it comes too early: RSP leaves the NMI's stack when nothing on it
# and on the landing is needed any more.
#
# In: RBX = frame, R13 = the program's GS base; the CPU's own is in KERNEL_GS_BASE; nothing is on the task stack.
paranoid_exit_to_user_\variant:
    restore_gs_base \variant
    swapgs
    fence_swapgs \variant
    mov rdi, gs:[{TASK_STACK_TOP}]
    sub rdi, {FRAME_BYTES}
    mov rsi, rbx
    mov ecx, {FRAME_BYTES} / 8
    cld
    rep movsq
    lea rsp, [rdi - {FRAME_BYTES}]
    jmp exit_to_user_\variant

.if \isolated
# The frame goes back through the landing stack, whose words under the user root are at RBP - ALIAS. RDI
# travels there too, because it carries the root to load.
paranoid_exit_to_user_root_\variant:
.if {BREAKS}
    broken
    and r12, {ROOT_MASK}
    broken_end \variant, {BREAK_PARANOID_CR3}
.endif
    cmp qword ptr [rbx + {FRAME_VECTOR}], 0
    jne 779f
    mov rax, [rbx + {FRAME_RIP}]
    mov [rbp + 32], rax
    mov rax, [rbx + {FRAME_RIP} + 8]
    mov [rbp + 40], rax
    mov rax, [rbx + {FRAME_RIP} + 16]
    mov [rbp + 48], rax
    mov rax, [rbx + {FRAME_RIP} + 24]
    mov [rbp + 56], rax
    mov rax, [rbx + {FRAME_RIP} + 32]
    mov [rbp + 64], rax
    mov rax, [rbx + {FRAME_RDI}]
    mov [rbp + 24], rax
    lea rax, [rbp - {ALIAS} + 24]
    go_to_landing \variant, \isolated
    clear_buffers \variant, [rsp + 32]
    iretq
    window_end \variant

# What was interrupted is a paranoid entry or exit, on its landing stack: the three words go below that RSP.
779:
    mov rax, [rbx + {FRAME_RSP}]
    mov rcx, [rbx + {FRAME_RIP}]
    mov [rax + {ALIAS} - 8], rcx
    mov rcx, [rbx + {FRAME_RFLAGS}]
    mov [rax + {ALIAS} - 16], rcx
    mov rcx, [rbx + {FRAME_RDI}]
    mov [rax + {ALIAS} - 24], rcx
    sub rax, 24
    go_to_landing \variant, \isolated
    clear_buffers \variant, [rsp]
    popfq
    ret
    window_end \variant
.endif

# In: RDI = the landed words, reachable; kernel root; user GS; from ring 3.
paranoid_from_user_\variant:
    swapgs
    fence_swapgs \variant
    mov rsp, gs:[{TASK_STACK_TOP}]
    push_landed_words \variant
    jmp handle_trap_from_user_\variant
.endm
