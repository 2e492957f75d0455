# NMI, #DB, #MC, #DF: entries that may find any CR3, any GS and any stack.

# In:   [error code, #DF only][RIP][CS][RFLAGS][RSP][SS] on the vector's landing stack, in the stack page
#       of whichever view was loaded.
# Out:  paranoid_common on the vector's own, kernel-only stack; RDI = the landed words, reachable;
#       RSI = CR3 as it was (plain: still the interrupted program's RSI); kernel root; GS unknown.
.macro paranoid_entry variant, isolated, name, number, stack
    window_begin
paranoid_\name\()_\variant:
.if \number != 8
    push 0
.endif
    push \number
    push rdi
    push rsi
.if \isolated
773:
    mov rsi, cr3
774:
    mov rdi, rsi
    and rdi, {ROOT_MASK}
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
# would not do: with FSGSBASE ring 3 may have set it to anything.
    and rsp, -4096
    mov rsp, [rsp + \stack]
.if \number != 8
    jmp paranoid_common_\variant
.endif
.endm

.macro push_landed_words
    push qword ptr [rdi + 64]
    push qword ptr [rdi + 56]
    push qword ptr [rdi + 48]
    push qword ptr [rdi + 40]
    push qword ptr [rdi + 32]
    push qword ptr [rdi + 24]
    push qword ptr [rdi + 16]
    push qword ptr [rdi + 8]
    push qword ptr [rdi]
    scrub_words rdi, 9
    push_registers_below_rsi
.endm

.macro paranoid_paths variant, isolated
    paranoid_entry \variant, \isolated, nmi, 2, {NMI_STACK}
    paranoid_entry \variant, \isolated, debug, 1, {DEBUG_STACK}
    paranoid_entry \variant, \isolated, machine_check, 18, {MACHINE_CHECK_STACK}
    paranoid_entry \variant, \isolated, double_fault, 8, {DOUBLE_FAULT_STACK}

# paranoid_common
#
# In:   as paranoid_entry leaves it.
# Out:  the paranoid handler with RDI = frame and, isolated only, RSI = CR3 as it was; then back to exactly
#       the CR3 and GS base that were there, by IRETQ from this stack, or from the landing stack if the user
#       root was loaded.
# Uses: RBX frame, RBP landed words, R12 CR3 to go back to, R13 GS base to go back to, R14 GS base of the CPU.
paranoid_common_\variant:
    push_landed_words
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
    mov ecx, {MSR_GS_BASE}
    rdmsr
    shl rdx, 32
    lea r13, [rdx + rax]
    mov rax, r14
    mov rdx, r14
    shr rdx, 32
    wrmsr
    mov rdi, rbx
    mov rsi, r12
    call qword ptr gs:[{PARANOID_HANDLER}]
    mov ecx, {MSR_GS_BASE}
    mov rax, r13
    mov rdx, r13
    shr rdx, 32
    wrmsr
.if \isolated
    test r12d, {USER_ROOT_BIT}
    jnz 779f
.endif
    pop_registers_to_rsi
    pop rdi
    add rsp, 16
    iretq
.if \isolated
# The frame goes back through the landing stack, whose words under the user root are at RBP - ALIAS. RDI
# travels there too, because it carries the root to load.
779:
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
    mov [rbx + {FRAME_RDI}], r12
    lea rax, [rbp - {ALIAS} + 24]
    mov [rbx + {FRAME_VECTOR}], rax
    pop_registers_to_rsi
    pop rdi
    pop rsp
    mov cr3, rdi
775:
    root_in_registers \variant, 775b, 775b+1, 775b, {IN_RDI}
    window_begin
    pop rdi
    iretq
    window_end \variant
.endif

# In: RDI = the landed words, reachable; kernel root; user GS; from ring 3.
paranoid_from_user_\variant:
    swapgs
    lfence
    mov rsp, gs:[{TASK_STACK_TOP}]
    push_landed_words
    jmp handle_trap_from_user_\variant
.endm
