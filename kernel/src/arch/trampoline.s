# Where an application processor begins: real mode, CS = this page's number << 8, IP = 0, after a start-up interrupt.
#
# It is copied to a page below 1 MiB and filled in there (`smp.rs`); it refers to nothing outside itself but by what was
# filled in. Real mode goes to 64-bit mode at once: SDM vol. 3, 10.8.5 asks for PAE, CR3 and EFER.LME before CR0.PG, and
# allows PE and PG to be set together.
#
# Out: the filled-in entry, on the filled-in stack, RDI = the filled-in argument, interrupts off, CR3 = the filled-in root.

.section .rodata.trampoline, "a", @progbits
.global trampoline, trampoline_end, trampoline_far, trampoline_long, trampoline_gdt, trampoline_gdt_base
.global trampoline_root, trampoline_stack, trampoline_argument, trampoline_entry
.code16
    .balign 16
trampoline:
    cli
    cld
    mov ax, cs
    mov ds, ax
    mov bx, offset GDT_POINTER
    lgdt [bx]
    mov eax, 1 << 5                 # PAE
    mov cr4, eax
    mov bx, offset ROOT
    mov eax, [bx]
    mov cr3, eax
    mov ecx, 0xc0000080             # EFER
    rdmsr
    or eax, 1 << 8 | 1 << 11        # LME, NXE
    wrmsr
    mov eax, cr0
    and eax, 0x9fffffff             # caches on
    or eax, 0x80010001              # PG, WP, PE
    mov cr0, eax
    .byte 0x66, 0xea                # far jump, 32-bit offset
trampoline_far:
    .long 0                         # filled in: physical address of trampoline_long
    .word 8

.code64
trampoline_long:
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov fs, eax
    mov gs, eax
    mov rsp, [rip + trampoline_stack]
    mov rdi, [rip + trampoline_argument]
    xor ebp, ebp
    call [rip + trampoline_entry]
    ud2

    .balign 8
trampoline_gdt:
    .quad 0, 0x00af9b000000ffff
trampoline_gdt_pointer:
    .word 15
trampoline_gdt_base:
    .long 0                         # filled in: physical address of trampoline_gdt
    .balign 8
trampoline_root:
    .quad 0
trampoline_stack:
    .quad 0
trampoline_argument:
    .quad 0
trampoline_entry:
    .quad 0
trampoline_end:
    .set GDT_POINTER, trampoline_gdt_pointer - trampoline
    .set ROOT, trampoline_root - trampoline
.text
