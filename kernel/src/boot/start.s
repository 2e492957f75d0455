# From a boot loader's 32-bit entry to Rust in the top 2 GiB.
#
# In: protected mode, paging off, EBX = physical address of what the loader hands over
#     (PVH, Xen's start_info ABI: the start info; multiboot2: its information, EAX = its magic number).
# Out: kernel_main(magic number of the protocol, that address) on the boot stack; a boot root that maps the first 4 GiB three times: at
#      0, at the direct map, and (its first GiB) at the image's base. The kernel makes a better root soon.

.section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18                  # name size, descriptor size, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .balign 4
    .long pvh_start

.section .boot.header, "a", @progbits
    .balign 8                       # multiboot2 3.1.1: in the file's first 32768 bytes
multiboot2_header:
    .long 0xe85250d6, 0             # magic number, 32-bit protected mode
    .long multiboot2_header_end - multiboot2_header
    .long -(0xe85250d6 + multiboot2_header_end - multiboot2_header)
    .balign 8
    .short 1, 0                     # wanted: command line, modules, memory map
    .long 20, 1, 3, 6
    .balign 8
    .short 3, 0                     # entry point, other than the file's
    .long 12, multiboot2_start
    .balign 8
    .short 6, 0                     # modules at whole pages
    .long 8
    .balign 8
    .short 0, 0                     # end
    .long 8
multiboot2_header_end:

.section .boot, "awx", @progbits
.code32
.global pvh_start
pvh_start:
    mov eax, {PVH_MAGIC}
    jmp start_32
multiboot2_start:
    cmp eax, {MULTIBOOT2_MAGIC}
    je start_32
    xor eax, eax                    # some other protocol: Rust says so
start_32:
    cli
    cld
    mov esp, offset boot_stack_end
    mov ebp, eax
    mov esi, ebx
    mov eax, 0x80000001
    cpuid
    test edx, 1 << 20               # NX
    jz no_cpu
    test edx, 1 << 29               # long mode
    jz no_cpu
    mov eax, offset boot_level_3 + 3
    mov [boot_root], eax
    mov [boot_root + {DIRECT_SLOT} * 8], eax
    mov eax, offset boot_image_level_3 + 3
    mov [boot_root + 511 * 8], eax
    mov eax, offset boot_level_2 + 3
    mov [boot_image_level_3 + 510 * 8], eax
    xor ecx, ecx
1:  mov [boot_level_3 + ecx * 8], eax
    add eax, 4096
    inc ecx
    cmp ecx, 4
    jb 1b
    mov edi, offset boot_level_2
    mov eax, 0x83                   # 2 MiB, writable, present
    mov ecx, 4 * 512
2:  mov [edi], eax
    add eax, 0x200000
    add edi, 8
    dec ecx
    jnz 2b
    mov eax, cr4
    or eax, 1 << 5                  # PAE
    mov cr4, eax
    mov eax, offset boot_root
    mov cr3, eax
    mov ecx, 0xc0000080             # EFER
    rdmsr
    or eax, 1 << 8 | 1 << 11        # LME, NXE
    wrmsr
    mov eax, cr0
    and eax, 0x9fffffff             # caches on
    or eax, 0x80010001              # PG, WP, PE
    mov cr0, eax
    lgdt [boot_gdt_pointer]
    .byte 0xea                      # far jump
    .long start_64
    .word 8
no_cpu:
    mov esi, offset no_cpu_text
3:  mov dx, 0x3fd
4:  in al, dx
    test al, 0x20
    jz 4b
    lodsb
    test al, al
    jz 5f
    mov dx, 0x3f8
    out dx, al
    jmp 3b
5:  hlt
    jmp 5b

.code64
start_64:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    movabs rsp, offset kernel_boot_stack_end
    mov edi, ebp
    mov esi, esi
    xor ebp, ebp
    movabs rax, offset {KERNEL_MAIN}
    call rax
    ud2

    .balign 8
boot_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
boot_gdt_pointer:
    .word 23
    .long boot_gdt
no_cpu_text:
    .asciz "ringwall: this CPU has no 64-bit mode with NX; use another (QEMU: -cpu max)\r\n"

.section .boot.bss, "aw", @nobits
    .balign 8192
boot_root:
    .skip 8192                      # a pair's size: the paranoid entries take bit 12 for the user root's
boot_level_3:
    .skip 4096
boot_image_level_3:
    .skip 4096
boot_level_2:
    .skip 4 * 4096
    .skip 256
boot_stack_end:

.section .bss.kernel_boot_stack, "aw", @nobits
    .balign 4096
    .skip 65536
kernel_boot_stack_end:
.text
