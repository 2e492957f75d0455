/*
 * Attacks on privilege through descriptors at address 0: after a reset, LDTR names a table of 64 KiB
 * there, and a kernel that leaves it so lets a program that maps page 0 write its own call gates.
 *
 * Page 0 gets a data segment, a code segment and a call gate to ring 0, at the places where selectors
 * of the LDT would find them. Every use of one has to be #GP with that selector as the error code (SDM
 * vol. 3, 5.8.3.1 and 6.13); code that runs in ring 0 says so by its CS. A kernel that does not give
 * out page 0 is fine too.
 */
#include "probe.h"

#include <sys/mman.h>

enum {
    PAGE = 4096,
    FROM_TABLE = 4,                            /* table indicator of a selector: the LDT */
    DATA_SELECTOR = 0x00 | FROM_TABLE | 3,     /* the table's first descriptor */
    GATE_SELECTOR = 0x08 | FROM_TABLE | 3,     /* the second, 16 bytes long */
    CODE_SELECTOR = 0x18 | FROM_TABLE | 3,     /* the fourth */
    ERROR_OF_RPL = 3,                          /* an error code has no RPL */
    GENERAL_PROTECTION = 13,
};

#define DATA_DESCRIPTOR 0x00cff2000000ffffull  /* present, DPL 3, writable data, 4 GiB */
#define CODE_DESCRIPTOR 0x00affb000000ffffull  /* present, DPL 3, 64-bit code */
#define GATE_RIGHTS 0xecull                    /* present, DPL 3, 64-bit call gate */

/* Selectors of ring 0's code segment: ours, Linux's. */
static const uint64_t kernel_code[] = {0x08, 0x10};

PROBE("ds", "movl %ecx, %ds");
PROBE("ss", "movl %ecx, %ss");
PROBE("call", "lcall *(%rdx)");
PROBE("jump", "ljmp *(%rdx)");
PROBE_SYMBOLS(ds);
PROBE_SYMBOLS(ss);
PROBE_SYMBOLS(call);
PROBE_SYMBOLS(jump);

/* Where a gate would lead: takes down which ring it is in and goes back. */
static volatile uint64_t code_segment;
extern char gate_target[];
__asm__(".pushsection .text\n"
        "gate_target:\n"
        "movl %cs, %eax\n"
        "movq %rax, code_segment(%rip)\n"
        "rex.w lret\n"
        ".popsection\n");

static struct {
    volatile sig_atomic_t count;
    uint64_t trap, error;
} seen;

static void handler(int signal, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    (void)signal;
    (void)info;
    seen.count++;
    seen.trap = uc->uc_mcontext.gregs[REG_TRAPNO];
    seen.error = uc->uc_mcontext.gregs[REG_ERR];
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)probe_done;
}

static void write_gate(volatile uint64_t *table, uint64_t kernel_selector)
{
    uint64_t target = (uint64_t)gate_target;
    table[1] = (target & 0xffff) | kernel_selector << 16 | GATE_RIGHTS << 40 |
               (target >> 16 & 0xffff) << 48;
    table[2] = target >> 32;
}

/* Runs a probe that must end in #GP for `selector`. */
static void refused(const char *name, const void *probe, uint64_t selector)
{
    struct registers in = probe_pattern(0x5a5a), out;
    struct __attribute__((packed)) {
        uint32_t offset; /* 32 bits: AMD knows no other form of a far call */
        uint16_t selector;
    } far = {(uint32_t)(uint64_t)gate_target, (uint16_t)selector};
    in.value[RCX] = selector;
    in.value[RDX] = (uint64_t)&far;
    memset(&seen, 0, sizeof seen);
    code_segment = 3;
    run_probe(probe, &in, &out);
    char text[100];
    snprintf(text, sizeof text, "%s: faults", name);
    check_long(text, seen.count, 1);
    snprintf(text, sizeof text, "%s: is a general protection fault", name);
    check_long(text, seen.trap, GENERAL_PROTECTION);
    snprintf(text, sizeof text, "%s: names the selector", name);
    check_long(text, seen.error, selector & ~(uint64_t)ERROR_OF_RPL);
    snprintf(text, sizeof text, "%s: ran nothing in ring 0", name);
    check_long(text, code_segment & 3, 3);
}

int main(void)
{
    static char alternate[65536];
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGILL, &action, NULL);

    volatile uint64_t *table = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (table == MAP_FAILED) {
        check_skip("descriptors at address 0", "this kernel does not give out page 0");
        return check_end("gates");
    }
    __asm__("" : "+r"(table)); /* the compiler knows that a null pointer cannot be used */
    table[0] = DATA_DESCRIPTOR;
    table[3] = CODE_DESCRIPTOR;
    for (size_t i = 0; i < COUNT_OF(kernel_code); i++) {
        write_gate(table, kernel_code[i]);
        refused("call through a gate", probe_call, GATE_SELECTOR);
        refused("jump through a gate", probe_jump, GATE_SELECTOR);
    }
    refused("load DS", probe_ds, DATA_SELECTOR);
    refused("load SS", probe_ss, DATA_SELECTOR);
    refused("call a code segment", probe_call, CODE_SELECTOR);
    refused("jump to a code segment", probe_jump, CODE_SELECTOR);
    return check_end("gates");
}
