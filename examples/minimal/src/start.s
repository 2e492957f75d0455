# PVH's 32-bit entry: map the first 4 GiB at 0 and at the direct map, the first GiB at the image's base,
# and go to kernel_main in 64-bit mode.
.section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18
    .asciz "Xen"
    .balign 4
    .long pvh_start

.section .boot, "awx", @progbits
.code32
pvh_start:
    mov eax, offset level_3 + 3
    mov [boot_root], eax
    mov [boot_root + 256 * 8], eax
    mov eax, offset image_level_3 + 3
    mov [boot_root + 511 * 8], eax
    mov eax, offset level_2 + 3
    mov [image_level_3 + 510 * 8], eax
    xor ecx, ecx
1:  mov [level_3 + ecx * 8], eax
    add eax, 4096
    inc ecx
    cmp ecx, 4
    jb 1b
    mov edi, offset level_2
    mov eax, 0x83
    mov ecx, 4 * 512
2:  mov [edi], eax
    add eax, 0x200000
    add edi, 8
    dec ecx
    jnz 2b
    mov eax, 1 << 5
    mov cr4, eax
    mov eax, offset boot_root
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 1 << 8 | 1 << 11
    wrmsr
    mov eax, 0x80010001                # PG, WP, PE
    mov cr0, eax
    lgdt [gdt_pointer]
    .byte 0xea
    .long start_64
    .word 8
.code64
start_64:
    mov eax, 16
    mov ss, eax
    movabs rsp, offset boot_stack_end
    mov edi, offset boot_root
    movabs rax, offset {KERNEL_MAIN}
    call rax
    .balign 8
gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
    .word 23
    .long gdt
.section .boot.bss, "aw", @nobits
    .balign 8192
boot_root:
    .skip 8192
level_3:
    .skip 4096
image_level_3:
    .skip 4096
level_2:
    .skip 4 * 4096
.section .bss.boot_stack, "aw", @nobits
    .balign 16
    .skip 32768
boot_stack_end:
.text
