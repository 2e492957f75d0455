# From a boot loader's 32-bit entry to Rust in the top 2 GiB, at an address that nobody knew before.
#
# In: protected mode, paging off, EBX = physical address of what the loader hands over
#     (PVH, Xen's start_info ABI: the start info; multiboot2: its information, EAX = its magic number).
# Out: kernel_main(magic number of the protocol, that address) on the boot stack, where the image is now; a boot root that
#      maps the first 4 GiB at 0 and at the direct map, and the image. The kernel makes a better root soon.
#
# In between a first boot root maps the first 4 GiB at 0 and where the direct map is without randomness, and the first
# GiB where the image was linked. place() runs there: it chooses, and makes the boot root of above. Then every address in the
# image gets what the image slides by. The list of them is put into the kernel's file after it was linked, by
# `cargo xtask build`; without it place() lets the image stay. This part of the image stays in any case.

.set BOOT, 0x100000                     # link.ld's
.set boot_root, BOOT + 0x2000
.set boot_level_3, boot_root + 0x2000   # a root is a pair's size: the paranoid entries take bit 12 for the user root's
.set boot_image_level_3, boot_level_3 + 0x1000
.set boot_level_2, boot_image_level_3 + 0x1000
.set boot_stack_end, boot_level_2 + 4 * 0x1000 + 256

.section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18                  # name size, descriptor size, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .balign 4
    .long BOOT + pvh_start - boot_start

.section .boot, "awx", @progbits
    .balign 8                       # multiboot2 3.1.1: in the file's first 32768 bytes
boot_start:
multiboot2_header:
    .long 0xe85250d6, 0             # magic number, 32-bit protected mode
    .long multiboot2_header_end - multiboot2_header
    .long -(0xe85250d6 + multiboot2_header_end - multiboot2_header)
    .balign 8
    .short 1, 0                     # wanted: command line, modules, memory map
    .long 20, 1, 3, 6
    .balign 8
    .short 3, 0                     # entry point, other than the file's
    .long 12, BOOT + multiboot2_start - boot_start
    .balign 8
    .short 6, 0                     # modules at whole pages
    .long 8
    .balign 8
    .short 0, 0                     # end
    .long 8
multiboot2_header_end:

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
    mov esp, boot_stack_end
    mov ebp, eax
    mov esi, ebx
    mov eax, 0x80000001
    cpuid
    test edx, 1 << 20               # NX
    jz no_cpu
    test edx, 1 << 29               # long mode
    jz no_cpu
    mov eax, boot_level_3 + 3
    mov [boot_root], eax
    mov [boot_root + {DIRECT_SLOT} * 8], eax
    mov eax, boot_image_level_3 + 3
    mov [boot_root + 511 * 8], eax
    mov eax, boot_level_2 + 3
    mov [boot_image_level_3 + 510 * 8], eax
    xor ecx, ecx
1:  mov [boot_level_3 + ecx * 8], eax
    add eax, 4096
    inc ecx
    cmp ecx, 4
    jb 1b
    mov edi, boot_level_2
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
    mov eax, boot_root
    mov cr3, eax
    mov ecx, 0xc0000080             # EFER
    rdmsr
    or eax, 1 << 8 | 1 << 11        # LME, NXE
    wrmsr
    mov eax, cr0
    and eax, 0x9fffffff             # caches on
    or eax, 0x80010001              # PG, WP, PE
    mov cr0, eax
    lgdt [boot_gdt_pointer_at]
    .byte 0xea                      # far jump
    .long BOOT + start_64 - boot_start
    .word 8
no_cpu:
    mov esi, offset no_cpu_text_at
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
    mov rsp, [rip + boot_stack]
    mov ebx, esi
    mov edi, ebp
    mov esi, esi
    mov edx, boot_level_3
    call [rip + boot_place]         # RAX = the next boot root, RDX = what to add
    mov r8, rax

# The list is two: of 32-bit and of 64-bit fields. Each is the low halves of their addresses as linked, and 0 at its end.
    mov rsi, [rip + boot_list]
1:  lodsd
    movsxd rcx, eax
    test rcx, rcx
    jz 2f
    add [rcx], edx
    jmp 1b
2:  lodsd
    movsxd rcx, eax
    test rcx, rcx
    jz 3f
    add [rcx], rdx
    jmp 2b
3:
    mov cr3, r8
    mov rsp, [rip + boot_stack]     # these words are in the list, too
    mov edi, ebp
    mov esi, ebx
    xor ebp, ebp
    call [rip + boot_main]
    ud2

    .balign 8
boot_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
.set boot_gdt_pointer_at, BOOT + . - boot_start
    .word 23
    .long BOOT + boot_gdt - boot_start
.set no_cpu_text_at, BOOT + . - boot_start
    .asciz "ringwall: this CPU has no 64-bit mode with NX; use another (QEMU: -cpu max)\r\n"

    .balign 8
boot_stack:
    .quad kernel_boot_stack_end
boot_place:
    .quad {PLACE}
boot_main:
    .quad {KERNEL_MAIN}
boot_list:
    .quad image_list

.section .image_list, "a", @progbits
    .balign 4
    .skip {LIST_BYTES}

.section .boot.bss, "aw", @nobits
    .skip boot_stack_end - boot_root

.section .bss.kernel_boot_stack, "aw", @nobits
    .balign 4096
    .skip 65536
kernel_boot_stack_end:
.text
