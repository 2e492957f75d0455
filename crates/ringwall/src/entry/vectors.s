# The 256 vector stubs: four bytes each, in eight groups of 32 with a jump island in the middle of each,
# so that every stub reaches its island with a short jump. 1.1 KiB in all.
#
# In:   what the CPU pushed on the entry stack (from ring 3) or on the interrupted stack (from ring 0).
# Out:  the vector on top of it; jumps to trap_entry with an error code below the vector.
#
# PUSH sign-extends: vectors from 128 up arrive as negative numbers and are cut to a byte later.

.macro vector_stub variant, number, direction
    .pushsection .rodata.ringwall.\variant\().stubs, "a"
    .short 779f - ringwall_text_\variant
    .popsection
779:
    .byte 0x6a, \number
# Vectors with an error code: SDM vol. 3, table 6-1; 29 and 30 are AMD's #VC and #SX.
.if (\number == 8) || ((\number >= 10) && (\number <= 14)) || (\number == 17) || (\number == 21) || (\number == 29) || (\number == 30)
    jmp short 778\direction
.else
    jmp short 777\direction
.endif
.endm

.macro vector_stubs variant
    .set ringwall_group, 0
    .rept 8
    .set ringwall_index, 0
    .rept 16
    vector_stub \variant, (ringwall_group * 32 + ringwall_index), f
    .set ringwall_index, ringwall_index + 1
    .endr
777:
    jmp trap_entry_without_error_\variant
.if ringwall_group == 0
778:
    jmp trap_entry_\variant
.endif
    .rept 16
    vector_stub \variant, (ringwall_group * 32 + ringwall_index), b
    .set ringwall_index, ringwall_index + 1
    .endr
    .set ringwall_group, ringwall_group + 1
    .endr
.endm
