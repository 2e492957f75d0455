# Exceptions and interrupts that need no IST stack, and the exit by IRETQ.

.macro interrupt_paths variant, isolated, open
# trap_entry
#
# In:   [vector][error code][RIP][CS][RFLAGS][RSP][SS] at RSP; IF clear. From ring 3: on the entry stack,
#       user root, user GS. From ring 0: kernel root and GS, on the interrupted stack; or, if the exit's
#       IRETQ faulted, on the entry stack below the frame it was to pop, user root, user GS.
# Out:  the trap handler with RDI = frame: on the task stack if from ring 3, else where it was.
    window_begin
trap_entry_without_error_\variant:
    push qword ptr [rsp]
    mov qword ptr [rsp + 8], 0
trap_entry_\variant:
    push rdi
    test byte ptr [rsp + 32], 3
    jz trap_from_ring_0_\variant
# In: [RDI][vector][error code] and the program's frame, which ends at the top of the entry stack; user root,
#     user GS. RDI is free.
trap_from_user_\variant:
    swapgs
    fence_swapgs \variant
    to_kernel_root \variant, \isolated, rdi, {IN_RDI}
    window_end \variant
    lea rdi, [rsp + {ALIAS} * (1 - \open)]
    mov rsp, gs:[{TASK_STACK_TOP}]
    push qword ptr [rdi + 56]
    push qword ptr [rdi + 48]
    push qword ptr [rdi + 40]
    push qword ptr [rdi + 32]
    push qword ptr [rdi + 24]
    push qword ptr [rdi + 16]
    push qword ptr [rdi + 8]
    push qword ptr [rdi]
    when
    scrub_words rdi, 8
    when_end \variant, {FEATURE_SCRUB}
    push_registers_below_rdi
handle_trap_from_user_\variant:
    clear_ac \variant
    cld
    and qword ptr [rsp + {FRAME_VECTOR}], 0xff
# AMD's SYSRET leaves SS's attributes as they are, and an interrupt made SS null: the thread that leaves next may
# leave by SYSRET.
    when
    mov ss, gs:[{ALIAS} + {KERNEL_SELECTOR}]
    when_end \variant, {FEATURE_SYSRET_KEEPS_SS}
    detour
    mov rdi, rsp
    call qword ptr gs:[{TRAP_HANDLER}]
    detour_end \variant, {ENTRY_FEATURES}, trap_from_user_hardened_\variant

# exit_to_user
#
# In:   RSP = frame; kernel root, kernel GS, IF clear.
# Out:  ring 3 by the exit IRETQ, the only one that leaves to ring 3 from here; its frame stands at the
#       top of the entry stack, written through the alias. An open process leaves from the alias itself: the
#       espfix stack is that page too.
exit_to_user_\variant:
    when
    mov qword ptr gs:[{ALIAS} * (1 - \open) + {USER_RSP}], 0
    when_end \variant, {FEATURE_SCRUB}
    detour
    pop r15
    pop r14
    pop r13
    detour_end \variant, {FEATURE_IBRS}, exit_to_user_hardened_\variant
exit_to_user_popped_\variant:
    pop_registers_r12_to_rsi
    mov rdi, rsp
    mov rsp, gs:[{ENTRY_STACK_ALIAS}]
    push qword ptr [rdi + 56]
    push qword ptr [rdi + 48]
    push qword ptr [rdi + 40]
    push qword ptr [rdi + 32]
    push qword ptr [rdi + 24]
    push qword ptr [rdi]
    test byte ptr [rdi + 56], {LOCAL_SELECTOR}
    sound
    jnz exit_by_espfix_\variant
    sound_end \variant, {BREAK_ESPFIX}
exit_by_entry_stack_\variant:
.if \open == 0
    sub rsp, {ALIAS}
.endif
exit_switch_\variant:
    to_user_root \variant, \isolated, rdi, {IN_RDI}
    window_begin
    pop rdi
    clear_buffers \variant, gs:[{KERNEL_SELECTOR}]
    swapgs
exit_iretq_\variant:
    iretq

# exit_fault: the exit's IRETQ faulted; what the CPU pushed moves up to the program's frame, as if ring 3 had
# raised it where it was to go on.
#
# In:   as trap_entry, RDI pushed; RSP = ENTRY_STACK_TOP - 112, because the CPU aligns RSP before it pushes.
# Out:  trap_from_user, nothing left below.
#
# With a stack segment of the LDT it is always #GP(0): the espfix stack, through which such an exit goes, takes
# no frame, and what comes out of that #DF is #GP(0) too. A program must not see which way it was.
exit_fault_\variant:
    test byte ptr [rsp + 104], {LOCAL_SELECTOR}
    jz 779f
    mov qword ptr [rsp + 8], {GENERAL_PROTECTION}
    mov qword ptr [rsp + 16], 0
779:
    mov rdi, [rsp + 16]
    mov [rsp + 64], rdi
    mov rdi, [rsp + 8]
    mov [rsp + 56], rdi
    pop rdi
    add rsp, 40
    push_zeros 6
    add rsp, 56
    push rdi
    jmp trap_from_user_\variant

# In: as trap_entry, RDI pushed, from ring 0. RDI is free.
trap_from_ring_0_\variant:
    lea rdi, [rip + exit_iretq_\variant]
    cmp [rsp + 24], rdi
    je exit_fault_\variant
    fence_swapgs \variant
    pop rdi
    window_end \variant
    push rdi
    push_registers_below_rdi
    clear_ac \variant
    cld
    and qword ptr [rsp + {FRAME_VECTOR}], 0xff
    mov rdi, rsp
    call qword ptr gs:[{TRAP_HANDLER}]
    test dword ptr [rsp + {FRAME_RFLAGS}], {INTERRUPT_FLAG}
    jz 779f
    pop_registers_to_rsi
    pop rdi
    add rsp, 16
    iretq
# With IF clear it may be an NMI's code.
779:
    mov rbx, rsp
    return_without_iret

# exit_by_espfix: IRETQ to a 16-bit stack segment loads SP alone, and the rest of RSP stays as it was. So RSP is
# the entry stack's second name in the private slot, whose bits 16 to 31 select nothing: they are the program's.
#
# In:   RDI = end of the frame less 56, its exit frame on the entry stack; kernel root.
exit_by_espfix_\variant:
    cmp qword ptr gs:[{LDT}], 0
    je exit_by_entry_stack_\variant
    mov esp, [rdi + 48]
    and esp, 0xffff0000
    add rsp, gs:[{ESPFIX_STACK}]
    jmp exit_switch_\variant

trap_from_user_hardened_\variant:
    count_entry \variant, \isolated
    write_spec_ctrl \variant, {SPEC_CTRL_IBRS}
    fill_return_stack_buffer \variant
    clear_registers \variant
    mov rdi, rsp
    call qword ptr gs:[{TRAP_HANDLER}]
    jmp exit_to_user_\variant

exit_to_user_hardened_\variant:
    write_spec_ctrl \variant, 0
    pop r15
    pop r14
    pop r13
    jmp exit_to_user_popped_\variant
.endm
