# SYSCALL in, SYSRETQ out.

.macro syscall_paths variant, isolated, open
.balign 64, 0xcc
# syscall_entry
#
# In:   RCX = user RIP, R11 = user RFLAGS, CS and SS the kernel's; RSP, GS and CR3 still the user's;
#       IF, TF, DF, AC, NT clear (FMASK). Jumped to by SYSCALL (LSTAR).
# Out:  calls the system-call handler on the task stack with RDI = frame; kernel root, kernel GS.
# Uses: RSP as the only scratch register and USER_RSP as the only scratch word.
    window_begin
syscall_entry_\variant:
    swapgs
    mov gs:[{USER_RSP}], rsp
    to_kernel_root \variant, \isolated, rsp, {IN_RSP}
.if \isolated
    window_end \variant
.endif
    mov rsp, gs:[{TASK_STACK_TOP}]
# Without a switch RSP is the program's up to here.
.if \isolated == 0
    window_end \variant
.endif
    push {USER_DATA_SELECTOR}
    push qword ptr gs:[{ALIAS} * (1 - \open) + {USER_RSP}]
    push r11
    push {USER_CODE_SELECTOR}
    push rcx
    push rax
    push {ENTERED_BY_SYSCALL}
    push rdi
    push_registers_below_rdi
    detour
    mov rdi, rsp
    call qword ptr gs:[{SYSCALL_HANDLER}]
    detour_end \variant, {ENTRY_FEATURES}, syscall_hardened_\variant

# syscall_exit
#
# In:   RSP = frame; kernel root, kernel GS, IF clear.
# Out:  ring 3 by SYSRETQ, if the frame is as SYSCALL left it; else exit_to_user.
#
# SYSRETQ cannot carry RF, would trap too early with TF, and faults in ring 0 with the user's RSP if RCX
# is not canonical (CVE-2012-0217). Only a RIP just past the end of the user half can be that here: bit
# 47 tells. A frame that any setter touched has lost its mark.
syscall_exit_\variant:
    detour
    cmp dword ptr [rsp + {FRAME_VECTOR}], {ENTERED_BY_SYSCALL}
    detour_end \variant, {FEATURE_IBRS}, syscall_exit_hardened_\variant
syscall_exit_compared_\variant:
    jne exit_to_user_\variant
    test dword ptr [rsp + {FRAME_RFLAGS}], {RF_TF}
    jnz exit_to_user_\variant
    bt dword ptr [rsp + {FRAME_RIP} + 4], 47 - 32
    jc exit_to_user_\variant
    pop_registers_to_rsi
.if {BREAKS}
    broken
    xor r10d, r10d
    broken_end \variant, {BREAK_REGISTER}
.endif
    pop rdi
    add rsp, 5 * 8
    pop qword ptr gs:[{ALIAS} * (1 - \open) + {USER_RSP}]
    sound
    to_user_root \variant, \isolated, rsp, {IN_RSP}
    sound_end \variant, {BREAK_CR3_WRITE}
    window_begin
    mov rsp, gs:[{USER_RSP}]
    when
    mov qword ptr gs:[{USER_RSP}], 0
    when_end \variant, {FEATURE_SCRUB}
    detour
    swapgs
    sysretq
    detour_end \variant, {FEATURE_CLEAR_BUFFERS}, sysretq_hardened_\variant

sysretq_hardened_\variant:
    clear_buffers \variant, gs:[{KERNEL_SELECTOR}]
    swapgs
    sysretq

# syscall_compatibility_entry
#
# In:   SYSCALL from a 32-bit code segment (CSTAR; AMD only). This ABI has no 32-bit calls.
# Out:  EAX = -ENOSYS, back by SYSRET. Touches no stack and no root, so there is nothing to switch.
syscall_compatibility_entry_\variant:
    mov eax, -38
    sysret

# sysenter_entry
#
# In:   SYSENTER (Intel only): RSP = top of the entry stack (IA32_SYSENTER_ESP), IF clear; RIP, RSP and IF of the
#       program are lost, all its other flags, GS and CR3 are still there.
# Out:  as if ring 3 had raised #GP(0): this ABI has no call by SYSENTER, and there is no place to go back to.
#       RAX is -ENOSYS, RIP 0, RSP what 32-bit code keeps in RBP. TF is the program's, if a handler of the #DB that
#       it causes here leaves it set.
sysenter_entry_\variant:
    push {USER_DATA_SELECTOR}
    push rbp
    pushfq
    or dword ptr [rsp], {INTERRUPT_FLAG}
    push {USER_CODE_SELECTOR}
    push 0
    push 0
    push {GENERAL_PROTECTION}
    push rdi
    mov rax, -38
# NT would fault the next IRETQ, TF has trapped already.
    push {ALWAYS_SET_FLAG}
    popfq
# Below what the trap's way scrubs.
    mov qword ptr [rsp - 8], 0
    jmp trap_from_user_\variant
    window_end \variant

syscall_hardened_\variant:
    count_entry \variant, \isolated
    write_spec_ctrl \variant, {SPEC_CTRL_IBRS}
    fill_return_stack_buffer \variant
    clear_registers \variant
    mov rdi, rsp
    call qword ptr gs:[{SYSCALL_HANDLER}]
    jmp syscall_exit_\variant

syscall_exit_hardened_\variant:
    write_spec_ctrl \variant, 0
    cmp dword ptr [rsp + {FRAME_VECTOR}], {ENTERED_BY_SYSCALL}
    jmp syscall_exit_compared_\variant
.endm
