# Exceptions and interrupts that need no IST stack, and the exit by IRETQ.

.macro interrupt_paths variant, isolated
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
# The CPU realigns RSP before it pushes a fault of the exit's IRETQ, but the frame that IRETQ was to pop
# still stands at the top of the entry stack, just where the CPU would have pushed it on the way in: from
# here on both cases are one.
trap_from_user_\variant:
    swapgs
    lfence
    to_kernel_root \variant, \isolated, rdi, {IN_RDI}
    window_end \variant
    lea rdi, [rsp + {ALIAS}]
    mov rsp, gs:[{TASK_STACK_TOP}]
    push qword ptr gs:[{ALIAS} + {ENTRY_STACK_TOP} - 8]
    push qword ptr gs:[{ALIAS} + {ENTRY_STACK_TOP} - 16]
    push qword ptr gs:[{ALIAS} + {ENTRY_STACK_TOP} - 24]
    push qword ptr gs:[{ALIAS} + {ENTRY_STACK_TOP} - 32]
    push qword ptr gs:[{ALIAS} + {ENTRY_STACK_TOP} - 40]
    push qword ptr [rdi + 16]
    push qword ptr [rdi + 8]
    push qword ptr [rdi]
    scrub_words rdi, 8
    push_registers_below_rdi
    mov qword ptr gs:[{ALIAS} + {ENTRY_STACK_TOP} - 8], 0
    mov qword ptr gs:[{ALIAS} + {ENTRY_STACK_TOP} - 16], 0
    mov qword ptr gs:[{ALIAS} + {ENTRY_STACK_TOP} - 24], 0
    mov qword ptr gs:[{ALIAS} + {ENTRY_STACK_TOP} - 32], 0
    mov qword ptr gs:[{ALIAS} + {ENTRY_STACK_TOP} - 40], 0
handle_trap_from_user_\variant:
    clear_ac \variant
    cld
    and qword ptr [rsp + {FRAME_VECTOR}], 0xff
    mov rdi, rsp
    call qword ptr gs:[{TRAP_HANDLER}]

# exit_to_user
#
# In:   RSP = frame; kernel root, kernel GS, IF clear.
# Out:  ring 3 by the exit IRETQ, the only one that leaves to ring 3 from here; its frame stands at the
#       top of the entry stack, written through the alias.
exit_to_user_\variant:
    mov qword ptr gs:[{ALIAS} + {USER_RSP}], 0
    pop_registers_to_rsi
    mov rdi, rsp
    mov rsp, gs:[{ENTRY_STACK_ALIAS}]
    push qword ptr [rdi + 56]
    push qword ptr [rdi + 48]
    push qword ptr [rdi + 40]
    push qword ptr [rdi + 32]
    push qword ptr [rdi + 24]
    push qword ptr [rdi]
    sub rsp, {ALIAS}
    to_user_root \variant, \isolated, rdi, {IN_RDI}
    window_begin
    pop rdi
    swapgs
exit_iretq_\variant:
    iretq

# In: as trap_entry, RDI pushed, from ring 0. RDI is free.
trap_from_ring_0_\variant:
    lea rdi, [rip + exit_iretq_\variant]
    cmp [rsp + 24], rdi
    je trap_from_user_\variant
    lfence
    pop rdi
    window_end \variant
    push rdi
    push_registers_below_rdi
    clear_ac \variant
    cld
    and qword ptr [rsp + {FRAME_VECTOR}], 0xff
    mov rdi, rsp
    call qword ptr gs:[{TRAP_HANDLER}]
    pop_registers_to_rsi
    pop rdi
    add rsp, 16
    iretq
.endm
