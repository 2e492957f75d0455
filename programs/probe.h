/*
 * Runs a few instructions with every general register and the flags set to chosen values, and reads them
 * all back afterwards.
 *
 * A probe is named by PROBE("name", "instructions"): the symbols probe_NAME and probe_NAME_end hold its
 * first byte and the byte after it; then control goes back to run_probe. RSP may be set to anything too:
 * whoever probes with a bad one has to have a sigaltstack. Not for two threads at once.
 *
 *      run_probe: saves callee-saved -> loads `in` -> probe -> stores `out` -> restores
 */
#ifndef PROBE_H
#define PROBE_H

#include "check.h"

#include <sys/ucontext.h>

enum {
    RAX, RBX, RCX, RDX, RSI, RDI, RBP, R8, R9, R10, R11, R12, R13, R14, R15, RFLAGS, RSP, REGISTERS
};

UNUSED static const char *const register_names[REGISTERS] = {
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9",
    "r10", "r11", "r12", "r13", "r14", "r15", "rflags", "rsp",
};

/* Where ucontext keeps each of them. */
UNUSED static const int register_gregs[REGISTERS] = {
    REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI, REG_RBP, REG_R8, REG_R9,
    REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_EFL, REG_RSP,
};

struct registers {
    uint64_t value[REGISTERS];
};

enum {
    FLAG_CARRY = 1,
    FLAG_RESERVED = 2,
    FLAG_PARITY = 4,
    FLAG_ADJUST = 0x10,
    FLAG_ZERO = 0x40,
    FLAG_SIGN = 0x80,
    FLAG_TRAP = 0x100,
    FLAG_INTERRUPT = 0x200,
    FLAG_DIRECTION = 0x400,
    FLAG_OVERFLOW = 0x800,
    FLAG_IOPL = 0x3000,
    FLAG_NESTED = 0x4000,
    FLAG_RESUME = 0x10000,
    FLAG_ALIGNMENT = 0x40000,
    FLAG_ID = 0x200000,
    /* Flags that a probe starts with: arithmetic ones in a pattern, and the two that are always set. */
    FLAGS_PATTERN = FLAG_CARRY | FLAG_RESERVED | FLAG_ADJUST | FLAG_SIGN | FLAG_INTERRUPT | FLAG_OVERFLOW,
};

#define PROBE(name, text)                                                                         \
    __asm__(".pushsection .text\nprobe_" name ":\n" text "\nprobe_" name "_end:\n"                \
            "jmp probe_done\n.popsection\n")
#define PROBE_SYMBOLS(name) extern char probe_##name[], probe_##name##_end[]

/* An `rsp` of 0 in `in` means: keep the current stack. */
void run_probe(const void *probe, const struct registers *in, struct registers *out);
extern uint64_t probe_out, probe_stack;
extern char probe_done[];

__asm__(".pushsection .bss\n"
        ".balign 8\n"
        "probe_out: .quad 0\n"
        "probe_stack: .quad 0\n"
        "probe_entry: .quad 0\n"
        "probe_user_stack: .quad 0\n"
        ".popsection\n"
        ".pushsection .text\n"
        "run_probe:\n"
        "pushq %rbx\n pushq %rbp\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
        "movq %rdx, probe_out(%rip)\n"
        "movq %rsp, probe_stack(%rip)\n"
        "movq %rdi, probe_entry(%rip)\n"
        "movq 128(%rsi), %rax\n"
        "testq %rax, %rax\n"
        "cmovzq %rsp, %rax\n"
        "movq %rax, probe_user_stack(%rip)\n"
        "movq (%rsi), %rax\n movq 8(%rsi), %rbx\n movq 16(%rsi), %rcx\n movq 24(%rsi), %rdx\n"
        "movq 40(%rsi), %rdi\n movq 48(%rsi), %rbp\n movq 56(%rsi), %r8\n movq 64(%rsi), %r9\n"
        "movq 72(%rsi), %r10\n movq 80(%rsi), %r11\n movq 88(%rsi), %r12\n movq 96(%rsi), %r13\n"
        "movq 104(%rsi), %r14\n movq 112(%rsi), %r15\n"
        "pushq 120(%rsi)\n"
        "popfq\n"
        "movq 32(%rsi), %rsi\n"
        "movq probe_user_stack(%rip), %rsp\n"
        "jmp *probe_entry(%rip)\n"
        "probe_done:\n"
        "movq %rsp, probe_user_stack(%rip)\n"
        "movq probe_out(%rip), %rsp\n"
        "movq %rax, (%rsp)\n movq %rbx, 8(%rsp)\n movq %rcx, 16(%rsp)\n movq %rdx, 24(%rsp)\n"
        "movq %rsi, 32(%rsp)\n movq %rdi, 40(%rsp)\n movq %rbp, 48(%rsp)\n movq %r8, 56(%rsp)\n"
        "movq %r9, 64(%rsp)\n movq %r10, 72(%rsp)\n movq %r11, 80(%rsp)\n movq %r12, 88(%rsp)\n"
        "movq %r13, 96(%rsp)\n movq %r14, 104(%rsp)\n movq %r15, 112(%rsp)\n"
        "movq %rsp, %rdx\n"
        "movq probe_stack(%rip), %rsp\n"
        "pushfq\n"
        "popq 120(%rdx)\n"
        "movq probe_user_stack(%rip), %rax\n"
        "movq %rax, 128(%rdx)\n"
        "cld\n"
        "pushq $0x202\n popfq\n"
        "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbp\n popq %rbx\n"
        "ret\n"
        ".popsection\n");

/* Distinct, recognisable values; no two registers share a byte at the same place. */
UNUSED static struct registers probe_pattern(uint64_t seed)
{
    struct registers registers;
    for (int i = 0; i < REGISTERS; i++)
        registers.value[i] = seed ^ (0x0101010101010101u * (uint64_t)(i + 1)) ^ 0x8000700060005000u;
    registers.value[RFLAGS] = FLAGS_PATTERN;
    registers.value[RSP] = 0;
    return registers;
}

/* Compares all registers but those whose bit is set in `except`; says which differ. */
UNUSED static void check_registers(const char *name, const struct registers *got,
                                   const struct registers *expected, uint32_t except)
{
    int failures = check_failures;
    char text[100];
    for (int i = 0; i < REGISTERS; i++) {
        if (except >> i & 1)
            continue;
        snprintf(text, sizeof text, "%s: %s", name, register_names[i]);
        require_long(text, got->value[i], expected->value[i]);
    }
    if (failures == check_failures && !check_quiet)
        say("ok %s", name);
}

#endif
