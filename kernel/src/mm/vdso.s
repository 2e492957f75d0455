# The vDSO: an ELF shared object of one page, written out by hand. Every address in it is an offset from
# its first byte, so it can be mapped anywhere. ELF-64 Object File Format; gABI chapter 5; the names and
# their version are Linux's (vdso(7)).
#
# Each function makes its system call: arguments and result are where a C function has them.

.set CODE_FLAGS, 5                      # PF_R + PF_X
.set READ_FLAG, 4                       # PF_R
.set GLOBAL_FUNCTION, 0x12              # STB_GLOBAL, STT_FUNC
.set WEAK_FUNCTION, 0x22                # STB_WEAK, STT_FUNC
.set THIS_SECTION, 1                    # any but SHN_UNDEF
.set BASE_VERSION, 1
.set LINUX_VERSION, 2
.set SYMBOLS, 11                        # with the null symbol

.macro vdso_symbol label, kind, function
    .long \label - vdso_strings
    .byte \kind, 0
    .short THIS_SECTION
    .quad \function - vdso_image
    .quad \function\()_end - \function
.endm

.macro vdso_function name, number
    .balign 16, 0xcc
\name\():
    mov eax, \number
    syscall
    ret
\name\()_end:
.endm

.section .rodata.vdso, "a", @progbits
.balign 4096
.global vdso_image
vdso_image:
    .byte 0x7f
    .ascii "ELF"
    .byte 2, 1, 1, 0                    # ELFCLASS64, ELFDATA2LSB, EV_CURRENT, ELFOSABI_NONE
    .quad 0
    .short 3, 62                        # ET_DYN, EM_X86_64
    .long 1
    .quad 0                             # no entry
    .quad vdso_headers - vdso_image
    .quad 0                             # no sections
    .long 0
    .short 64, 56, 3                    # sizes of this and of a program header, their number
    .short 0, 0, 0

vdso_headers:
    .long 1, CODE_FLAGS                 # PT_LOAD
    .quad 0, 0, 0
    .quad vdso_end - vdso_image, vdso_end - vdso_image, 4096
    .long 2, READ_FLAG                  # PT_DYNAMIC
    .quad vdso_dynamic - vdso_image, vdso_dynamic - vdso_image, vdso_dynamic - vdso_image
    .quad vdso_dynamic_end - vdso_dynamic, vdso_dynamic_end - vdso_dynamic, 8
    .long 0x6474e551, READ_FLAG         # PT_GNU_STACK: not executable
    .quad 0, 0, 0, 0, 0, 16

vdso_dynamic:
    .quad 14, vdso_soname - vdso_strings            # DT_SONAME
    .quad 4, vdso_hash - vdso_image                 # DT_HASH
    .quad 5, vdso_strings - vdso_image              # DT_STRTAB
    .quad 6, vdso_symbols - vdso_image              # DT_SYMTAB
    .quad 10, vdso_strings_end - vdso_strings       # DT_STRSZ
    .quad 11, 24                                    # DT_SYMENT
    .quad 0x6ffffff0, vdso_versions - vdso_image    # DT_VERSYM
    .quad 0x6ffffffc, vdso_defined - vdso_image     # DT_VERDEF
    .quad 0x6ffffffd, 2                             # DT_VERDEFNUM
    .quad 0, 0
vdso_dynamic_end:

vdso_symbols:
    .quad 0, 0, 0
    vdso_symbol vdso_name_1, GLOBAL_FUNCTION, vdso_clock_gettime
    vdso_symbol vdso_name_2, GLOBAL_FUNCTION, vdso_gettimeofday
    vdso_symbol vdso_name_3, GLOBAL_FUNCTION, vdso_time
    vdso_symbol vdso_name_4, GLOBAL_FUNCTION, vdso_getcpu
    vdso_symbol vdso_name_5, GLOBAL_FUNCTION, vdso_clock_getres
    vdso_symbol vdso_name_1 + 7, WEAK_FUNCTION, vdso_clock_gettime
    vdso_symbol vdso_name_2 + 7, WEAK_FUNCTION, vdso_gettimeofday
    vdso_symbol vdso_name_3 + 7, WEAK_FUNCTION, vdso_time
    vdso_symbol vdso_name_4 + 7, WEAK_FUNCTION, vdso_getcpu
    vdso_symbol vdso_name_5 + 7, WEAK_FUNCTION, vdso_clock_getres

# One bucket: all symbols in a row.
vdso_hash:
    .long 1, SYMBOLS
    .long 1
    .long 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0

vdso_versions:
    .short 0
    .rept SYMBOLS - 1
    .short LINUX_VERSION
    .endr

# Verdef: version, flags, index, count, hash, to its Verdaux, to the next. Verdaux: name, to the next.
.balign 4
vdso_defined:
    .short 1, 1, BASE_VERSION, 1        # VER_FLG_BASE
    .long 0x0deebfa1, 20, 28
    .long vdso_soname - vdso_strings, 0
    .short 1, 0, LINUX_VERSION, 1
    .long 0x03ae75f6, 20, 0
    .long vdso_version - vdso_strings, 0

vdso_strings:
    .byte 0
vdso_soname:
    .asciz "linux-vdso.so.1"
vdso_version:
    .asciz "LINUX_2.6"
vdso_name_1:
    .asciz "__vdso_clock_gettime"
vdso_name_2:
    .asciz "__vdso_gettimeofday"
vdso_name_3:
    .asciz "__vdso_time"
vdso_name_4:
    .asciz "__vdso_getcpu"
vdso_name_5:
    .asciz "__vdso_clock_getres"
vdso_strings_end:

    vdso_function vdso_clock_gettime, {CLOCK_GETTIME}
    vdso_function vdso_gettimeofday, {GETTIMEOFDAY}
    vdso_function vdso_time, {TIME}
    vdso_function vdso_getcpu, {GETCPU}
    vdso_function vdso_clock_getres, {CLOCK_GETRES}
vdso_end:
    .balign 4096, 0
.text
