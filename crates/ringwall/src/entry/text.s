# The entry text, whole: one page at most. Assembled here as a template and copied into the entry area, so
# everything in it is relative to itself; what lies outside is reached through GS or the landing stack.

.macro entry_text variant, isolated, open
    .pushsection .rodata.ringwall.\variant, "a"
    .balign 4096
ringwall_text_\variant:
    window_begin
    vector_stubs \variant
    window_end \variant
    interrupt_paths \variant, \isolated, \open
    syscall_paths \variant, \isolated, \open
    paranoid_paths \variant, \isolated, \open
ringwall_text_end_\variant:
    .balign 4096, 0xcc
    .popsection

    .pushsection .rodata.ringwall.\variant\().points, "a"
    .balign 8
ringwall_points_\variant:
    .short ringwall_text_end_\variant - ringwall_text_\variant
    .short syscall_entry_\variant - ringwall_text_\variant
    .short syscall_compatibility_entry_\variant - ringwall_text_\variant
    .short sysenter_entry_\variant - ringwall_text_\variant
    .short exit_to_user_\variant - ringwall_text_\variant
    .short exit_iretq_\variant - ringwall_text_\variant
    .short paranoid_nmi_\variant - ringwall_text_\variant
    .short paranoid_debug_\variant - ringwall_text_\variant
    .short paranoid_machine_check_\variant - ringwall_text_\variant
    .short paranoid_double_fault_\variant - ringwall_text_\variant
    .popsection

    ringwall_table \variant, stubs
    ringwall_table \variant, windows
    ringwall_table \variant, spots
    ringwall_table \variant, patches
    ringwall_table \variant, breaks
    .globl ringwall_text_\variant, ringwall_points_\variant
.endm

# Bounds of a table whose rows the text above pushed: the start symbol is defined by ringwall_table_start
# before the text, the end symbol here.
.macro ringwall_table variant, name
    .pushsection .rodata.ringwall.\variant\().\name, "a"
ringwall_\name\()_end_\variant:
    .globl ringwall_\name\()_\variant, ringwall_\name\()_end_\variant
    .popsection
.endm

.macro ringwall_table_start variant, name
    .pushsection .rodata.ringwall.\variant\().\name, "a"
    .balign 8
ringwall_\name\()_\variant:
    .popsection
.endm

.macro ringwall_variant variant, isolated, open
    ringwall_table_start \variant, stubs
    ringwall_table_start \variant, windows
    ringwall_table_start \variant, spots
    ringwall_table_start \variant, patches
    ringwall_table_start \variant, breaks
    entry_text \variant, \isolated, \open
.endm

ringwall_variant isolated, 1, 0
ringwall_variant pcid, 2, 0
ringwall_variant plain, 0, 0
ringwall_variant open, 0, 1
