/*
 * Every exception that ring 3 can raise: the signal it becomes, its siginfo, the saved RIP, trap number,
 * error code and fault address, and that every general register and flag is the program's own in the
 * handler and after it.
 *
 * Vectors and error codes: Intel SDM vol. 3, 6.15. Signals: sigaction(2) and what Linux does where the
 * page is silent. BOUND and INTO are 32-bit code's. #NM is never seen by a program.
 * Where emulators raise no exception though the manual asks for one (#AC, #XM on QEMU's TCG), none at
 * all is accepted, but a wrong one is not.
 */
#include "probe.h"

#include <sys/mman.h>

enum { PAGE = 4096 };
#define NON_CANONICAL 0x8000000000000000u
#define KERNEL_TEXT 0xffffffff81000000u
#define KERNEL_DIRECT_MAP 0xffff888000000000u
#define LAST_PAGE 0xfffffffffffff000u

enum trap { DE = 0, DB = 1, BP = 3, OF = 4, BR = 5, UD = 6, SS = 12, GP = 13, PF = 14, MF = 16, AC = 17, XM = 19 };

/* In a selector error code: the index is a vector. */
enum { IDT_ENTRY = 2 };

/* Which address si_addr and CR2 should be. */
enum where { NONE, RIP_OF_FAULT, ACCESS };

struct expectation {
    const char *name;
    const char *start;
    const char *rip;    /* saved RIP; NULL: the accessed address (an instruction fetch) */
    const char *resume;
    int signal, code;
    enum trap trap;
    long error;
    enum where address;
};

static struct {
    volatile sig_atomic_t count;
    int signal, code;
    uint64_t address, rip, trap, error, cr2;
    uint16_t cs;
    struct registers registers;
} seen;

static const char *resume_at;

/* The handler of an alignment fault starts with alignment checks on, which C code cannot live with. */
static inline __attribute__((always_inline)) void alignment_checks_off(void)
{
    __asm__ volatile("lea -128(%%rsp), %%rsp\n pushfq\n andl $~0x40000, (%%rsp)\n popfq\n"
                     "lea 128(%%rsp), %%rsp" ::: "memory", "cc");
}

static void handler(int signal, siginfo_t *info, void *context)
{
    alignment_checks_off();
    ucontext_t *uc = context;
    greg_t *gregs = uc->uc_mcontext.gregs;
    seen.count++;
    seen.signal = signal;
    seen.code = info->si_code;
    seen.address = (uint64_t)info->si_addr;
    seen.rip = gregs[REG_RIP];
    seen.trap = gregs[REG_TRAPNO];
    seen.error = gregs[REG_ERR];
    seen.cr2 = gregs[REG_CR2];
    for (int i = 0; i < REGISTERS; i++)
        seen.registers.value[i] = gregs[register_gregs[i]];
    seen.cs = (uint16_t)gregs[REG_CSGSFS];
    gregs[REG_CSGSFS] = (gregs[REG_CSGSFS] & ~0xffffL) | 0x33; /* 64-bit code */
    gregs[REG_EFL] &= ~(long)(FLAG_TRAP | FLAG_ALIGNMENT);
    gregs[REG_RIP] = (greg_t)resume_at;
}

static void install_handlers(void)
{
    static char alternate[65536];
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    check_long("sigaltstack", result(sigaltstack(&stack, NULL)), 0);
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    for (size_t i = 0; i < COUNT_OF(signals); i++)
        sigaction(signals[i], &action, NULL);
}

static void check_field(const char *name, const char *field, long got, long expected)
{
    char text[100];
    snprintf(text, sizeof text, "%s: %s", name, field);
    require_long(text, got, expected);
}

/* What a signal context shows in the flags beside those the program set: RF may be, TF is cleared by us. */
static struct registers without_volatile_flags(struct registers registers)
{
    registers.value[RFLAGS] &= ~(uint64_t)(FLAG_RESUME | FLAG_TRAP | FLAG_ALIGNMENT);
    return registers;
}

static void check_seen(const struct expectation *want, uint64_t access)
{
    uint64_t rip = want->rip ? (uint64_t)want->rip : access;
    check_field(want->name, "signals", seen.count, 1);
    check_field(want->name, "si_signo", seen.signal, want->signal);
    check_field(want->name, "si_code", seen.code, want->code);
    check_field(want->name, "trap number", seen.trap, want->trap);
    long error = seen.error;
    if (want->trap == GP && want->error & IDT_ENTRY && error == (want->error & ~IDT_ENTRY) * 2 + IDT_ENTRY)
        error = want->error; /* QEMU's TCG shifts the vector by four, the manual by three */
    check_field(want->name, "error code", error, want->error);
    check_field(want->name, "rip", seen.rip, rip);
    uint64_t address = want->address == NONE ? 0 : want->address == ACCESS ? access : rip;
    check_field(want->name, "si_addr", seen.address, address);
    if (want->trap == PF)
        check_field(want->name, "cr2", seen.cr2, access);
}

/* Runs one probe with RAX = `access` and compares everything. */
static void expect(const struct expectation *want, uint64_t access, uint64_t stack)
{
    struct registers in = probe_pattern(0x1122334455667788u), out;
    in.value[RAX] = access;
    in.value[RSP] = stack;
    memset(&seen, 0, sizeof seen);
    resume_at = want->resume;
    run_probe(want->start, &in, &out);
    int failures = check_failures;
    check_seen(want, access);
    uint32_t except = stack ? 0 : 1u << RSP;
    char text[100];
    bool quiet = check_quiet;
    check_quiet = true;
    snprintf(text, sizeof text, "%s: registers in the handler", want->name);
    struct registers handled = without_volatile_flags(seen.registers);
    check_registers(text, &handled, &in, except);
    snprintf(text, sizeof text, "%s: registers after the handler", want->name);
    out = without_volatile_flags(out);
    check_registers(text, &out, &in, except);
    check_quiet = quiet;
    if (failures == check_failures)
        say("ok %s", want->name);
}

#define FAULT(label, signal, code, trap, error, address)                                           \
    (&(const struct expectation){#label, probe_##label, probe_##label, probe_##label##_end,        \
                                 signal, code, trap, error, address})
#define TRAP(label, signal, code, trap, address)                                                   \
    (&(const struct expectation){#label, probe_##label, probe_##label##_end, probe_##label##_end,  \
                                 signal, code, trap, 0, address})

/* ---- #GP: instructions that ring 3 may not execute, and gates it may not use ---- */

#define PRIVILEGED(X)                                                                              \
    X(hlt, "hlt", 0)                                                                               \
    X(cli, "cli", 0)                                                                               \
    X(sti, "sti", 0)                                                                               \
    X(in_port, "inb $0x60, %al", 0)                                                                \
    X(out_port, "outb %al, $0x80", 0)                                                              \
    X(in_string, "insb", 0)                                                                        \
    X(wrmsr, "wrmsr", 0)                                                                           \
    X(rdmsr, "rdmsr", 0)                                                                           \
    X(read_cr0, "movq %cr0, %rax", 0)                                                              \
    X(read_cr3, "movq %cr3, %rax", 0)                                                              \
    X(write_cr3, "movq %rax, %cr3", 0)                                                             \
    X(write_cr4, "movq %rax, %cr4", 0)                                                             \
    X(read_dr7, "movq %db7, %rax", 0)                                                              \
    X(lgdt, "lgdt (%rsp)", 0)                                                                      \
    X(lidt, "lidt (%rsp)", 0)                                                                      \
    X(lldt, "lldt %ax", 0)                                                                         \
    X(ltr, "ltr %ax", 0)                                                                           \
    X(lmsw, "lmsw %ax", 0)                                                                         \
    X(clts, "clts", 0)                                                                             \
    X(invlpg, "invlpg (%rsp)", 0)                                                                  \
    X(wbinvd, "wbinvd", 0)                                                                         \
    X(swapgs, "swapgs", 0)                                                                         \
    X(sysretq, "sysretq", 0)                                                                       \
    X(int_0, "int $0", 0x02)                                                                       \
    X(int_1, "int $1", 0x0a)                                                                       \
    X(int_2, "int $2", 0x12)                                                                       \
    X(int_8, "int $8", 0x42)                                                                       \
    X(int_14, "int $14", 0x72)                                                                     \
    X(int_18, "int $18", 0x92)                                                                     \
    X(int_32, "int $32", 0x102)                                                                    \
    X(int_129, "int $0x81", 0x40a)                                                                 \
    X(int_236, "int $236", 0x762)                                                                  \
    X(int_255, "int $255", 0x7fa)                                                                  \
    X(selector_beyond, "movw selector_beyond(%rip), %ds", 0xfff8)                                                    \
    X(selector_ldt, "movw selector_ldt(%rip), %es", 4)                                                  \
    X(too_long, ".fill 15, 1, 0x66\nnop", 0)


__asm__(".pushsection .rodata\n"
        "selector_beyond: .word 0xfffb\n" /* past the end of any GDT */
        "selector_ldt: .word 0x0007\n"    /* in an LDT, and there is none */
        ".popsection\n");

#define DEFINE(label, text, error) PROBE(#label, text);
#define DECLARE(label, text, error) PROBE_SYMBOLS(label);
#define RUN(label, text, error) expect(FAULT(label, SIGSEGV, SI_KERNEL, GP, error, NONE), 0, 0);
PRIVILEGED(DEFINE)
PRIVILEGED(DECLARE)

PROBE("xsetbv", "xsetbv");
PROBE_SYMBOLS(xsetbv);

static bool have_xsave(void)
{
    uint32_t eax = 1, ebx, ecx = 0, edx;
    __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return ecx >> 27 & 1;
}

static void general_protection(void)
{
    PRIVILEGED(RUN)
    if (have_xsave())
        expect(FAULT(xsetbv, SIGSEGV, SI_KERNEL, GP, 0, NONE), 0, 0);
}

/* ---- #DE, #UD, #BP, #DB, #OF ---- */

PROBE("divide_by_zero", "divq zero_word(%rip)");
PROBE("divide_overflow", "idivb one_byte(%rip)");
PROBE("ud2", "ud2");
PROBE("lock_nop", ".byte 0xf0, 0x90");
PROBE("clac", "clac");
PROBE("int3", "int3");
PROBE("int_3", ".byte 0xcd, 3");
PROBE("int_4", "int $4");
PROBE("icebp", ".byte 0xf1");
PROBE("single_step", "pushfq\norl $0x100, (%rsp)\npopfq\nmovq %rbx, %rbx");
PROBE_SYMBOLS(divide_by_zero);
PROBE_SYMBOLS(divide_overflow);
PROBE_SYMBOLS(ud2);
PROBE_SYMBOLS(lock_nop);
PROBE_SYMBOLS(clac);
PROBE_SYMBOLS(int3);
PROBE_SYMBOLS(int_3);
PROBE_SYMBOLS(int_4);
PROBE_SYMBOLS(icebp);
PROBE_SYMBOLS(single_step);
__asm__(".pushsection .rodata\nzero_word: .quad 0\none_byte: .byte 1\n.popsection\n");

static void instructions(void)
{
    expect(FAULT(divide_by_zero, SIGFPE, FPE_INTDIV, DE, 0, RIP_OF_FAULT), 0, 0);
    expect(FAULT(divide_overflow, SIGFPE, FPE_INTDIV, DE, 0, RIP_OF_FAULT), 0x7000, 0);
    expect(FAULT(ud2, SIGILL, ILL_ILLOPN, UD, 0, RIP_OF_FAULT), 0, 0);
    expect(FAULT(lock_nop, SIGILL, ILL_ILLOPN, UD, 0, RIP_OF_FAULT), 0, 0);
    expect(FAULT(clac, SIGILL, ILL_ILLOPN, UD, 0, RIP_OF_FAULT), 0, 0);
    expect(TRAP(int3, SIGTRAP, SI_KERNEL, BP, NONE), 0, 0);
    expect(TRAP(int_3, SIGTRAP, SI_KERNEL, BP, NONE), 0, 0);
    expect(TRAP(int_4, SIGSEGV, SI_KERNEL, OF, NONE), 0, 0);
    expect(TRAP(single_step, SIGTRAP, TRAP_TRACE, DB, RIP_OF_FAULT), 0, 0);
}

/* INT1 is a trap like INT3 by the manual; QEMU's TCG knows no INT1 and raises #UD. */
static void int1(void)
{
    struct registers in = probe_pattern(0), out;
    memset(&seen, 0, sizeof seen);
    resume_at = probe_icebp_end;
    run_probe(probe_icebp, &in, &out);
    if (seen.trap == UD)
        expect(FAULT(icebp, SIGILL, ILL_ILLOPN, UD, 0, RIP_OF_FAULT), 0, 0);
    else
        expect(TRAP(icebp, SIGTRAP, TRAP_BRKPT, DB, RIP_OF_FAULT), 0, 0);
}

/* ---- memory: #PF, #GP and #SS ---- */

PROBE("read", "testb $1, (%rax)\n");
PROBE("write", "movb $1, (%rax)");
PROBE("execute", "jmp *%rax");
PROBE("push", "pushq %rbx");
PROBE_SYMBOLS(read);
PROBE_SYMBOLS(write);
PROBE_SYMBOLS(execute);
PROBE_SYMBOLS(push);

/* `read` sets the arithmetic flags only if it retires, and here it never does. */

enum access { READ, WRITE, EXECUTE };

static void expect_page_fault(const char *name, enum access access, uint64_t address, int signal, int code, long error)
{
    static const char *const probes[][2] = {
        {probe_read, probe_read_end},
        {probe_write, probe_write_end},
        {probe_execute, probe_execute_end},
    };
    struct expectation want = {
        .name = name,
        .start = probes[access][0],
        .rip = access == EXECUTE ? NULL : probes[access][0],
        .resume = probes[access][1],
        .signal = signal,
        .code = code,
        .trap = PF,
        .error = error,
        .address = ACCESS,
    };
    expect(&want, address, 0);
}

static uint64_t new_page(int protection)
{
    void *page = mmap(NULL, PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        check_long("mmap", result(-1), 0);
        exit(check_end("exceptions"));
    }
    return (uint64_t)page;
}

/* Bits of a page fault's error code. */
enum { PRESENT = 1, WRITING = 2, USER = 4, FETCH = 16 };

static void user_pages(void)
{
    uint64_t unmapped = new_page(PROT_NONE);
    munmap((void *)unmapped, PAGE);
    expect_page_fault("unmapped_read", READ, unmapped, SIGSEGV, SEGV_MAPERR, USER);
    expect_page_fault("unmapped_write", WRITE, unmapped + 0xfff, SIGSEGV, SEGV_MAPERR, USER | WRITING);
    expect_page_fault("unmapped_execute", EXECUTE, unmapped, SIGSEGV, SEGV_MAPERR, USER | FETCH);
    expect_page_fault("null_read", READ, 0, SIGSEGV, SEGV_MAPERR, USER);
    expect_page_fault("null_execute", EXECUTE, 0, SIGSEGV, SEGV_MAPERR, USER | FETCH);
    expect_page_fault("no_access_read", READ, new_page(PROT_NONE), SIGSEGV, SEGV_ACCERR, USER);

    uint64_t read_only = new_page(PROT_READ);
    check_long("zero page", *(volatile char *)read_only, 0);
    expect_page_fault("read_only_write", WRITE, read_only + 8, SIGSEGV, SEGV_ACCERR, USER | WRITING | PRESENT);
    expect_page_fault("text_write", WRITE, (uint64_t)probe_write, SIGSEGV, SEGV_ACCERR, USER | WRITING | PRESENT);

    uint64_t data = new_page(PROT_READ | PROT_WRITE);
    memset((void *)data, 0xc3, PAGE);
    expect_page_fault("data_execute", EXECUTE, data + 5, SIGSEGV, SEGV_ACCERR, USER | FETCH | PRESENT);
    volatile char on_stack = (char)0xc3;
    expect_page_fault("stack_execute", EXECUTE, (uint64_t)&on_stack, SIGSEGV, SEGV_ACCERR, USER | FETCH | PRESENT);
}

static void kernel_pages(void)
{
    static const struct {
        const char *name;
        uint64_t address;
    } places[] = {
        {"kernel_text", KERNEL_TEXT},
        {"direct_map", KERNEL_DIRECT_MAP},
        {"last_page", LAST_PAGE},
        {"last_byte", -1},
        {"first_kernel_byte", 0xffff800000000000},
    };
    /* Present or not: a program is not told. */
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        char name[64];
        snprintf(name, sizeof name, "%s_read", places[i].name);
        expect_page_fault(name, READ, places[i].address, SIGSEGV, SEGV_MAPERR, USER | PRESENT);
        snprintf(name, sizeof name, "%s_write", places[i].name);
        expect_page_fault(name, WRITE, places[i].address, SIGSEGV, SEGV_MAPERR, USER | PRESENT | WRITING);
        snprintf(name, sizeof name, "%s_execute", places[i].name);
        expect_page_fault(name, EXECUTE, places[i].address, SIGSEGV, SEGV_MAPERR, USER | PRESENT | FETCH);
    }
}

static void past_end_of_file(void)
{
    int fd = syscall(SYS_memfd_create, "short", 0);
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || page == MAP_FAILED) {
        check_long("memfd", result(-1), 0);
        return;
    }
    expect_page_fault("past_end_read", READ, (uint64_t)page, SIGBUS, BUS_ADRERR, USER);
    expect_page_fault("past_end_write", WRITE, (uint64_t)page, SIGBUS, BUS_ADRERR, USER | WRITING);
    munmap(page, PAGE);
    close(fd);
}

static void non_canonical(void)
{
    expect(&(const struct expectation){"non_canonical_read", probe_read, probe_read, probe_read_end, SIGSEGV,
                                       SI_KERNEL, GP, 0, NONE}, NON_CANONICAL, 0);
    expect(&(const struct expectation){"non_canonical_write", probe_write, probe_write, probe_write_end, SIGSEGV,
                                       SI_KERNEL, GP, 0, NONE}, NON_CANONICAL, 0);
    /* The manual asks for #SS(0), which Linux turns into SIGBUS; QEMU's TCG raises #GP. */
    struct expectation push = {"non_canonical_push", probe_push, probe_push, probe_push_end, SIGBUS,
                               SI_KERNEL, SS, 0, NONE};
    struct registers in = probe_pattern(0), out;
    in.value[RSP] = NON_CANONICAL + 64;
    resume_at = probe_push_end;
    run_probe(probe_push, &in, &out);
    if (seen.trap == GP) {
        push.trap = GP;
        push.signal = SIGSEGV;
    }
    expect(&push, 0, NON_CANONICAL + 64);
}

/* A push on a page that is not there is an ordinary page fault, and the handler runs on its own stack. */
static void bad_stack(void)
{
    uint64_t hole = new_page(PROT_NONE);
    munmap((void *)hole, PAGE);
    struct expectation want = {"push_unmapped", probe_push, probe_push, probe_push_end, SIGSEGV,
                               SEGV_MAPERR, PF, USER | WRITING, NONE};
    struct registers in = probe_pattern(7), out;
    in.value[RSP] = hole + 64;
    memset(&seen, 0, sizeof seen);
    resume_at = probe_push_end;
    run_probe(probe_push, &in, &out);
    want.address = ACCESS;
    check_seen(&want, hole + 56);
    in.value[RFLAGS] = without_volatile_flags(seen.registers).value[RFLAGS];
    check_registers("push_unmapped: registers", &out, &in, 0);
    expect_page_fault("after_bad_stack", READ, hole, SIGSEGV, SEGV_MAPERR, USER);
}

/* ---- #AC, #MF, #XM ---- */

PROBE("misaligned", "pushfq\norl $0x40000, (%rsp)\npopfq\n"
                    "misaligned_access: movl 1(%rax), %ebx\n");
PROBE("x87_divide", "fninit\nfldcw x87_unmasked(%rip)\nfld1\nfldz\nfdivrp\n"
                    "x87_wait: fwait\n"
                    "x87_divide_resume: fnclex\nfninit\n");
PROBE("sse_divide", "ldmxcsr sse_unmasked(%rip)\nmovss sse_one(%rip), %xmm0\n"
                    "sse_divss: divss zero_word(%rip), %xmm0\n"
                    "sse_divide_resume: ldmxcsr sse_masked(%rip)\n");
PROBE_SYMBOLS(misaligned);
PROBE_SYMBOLS(x87_divide);
PROBE_SYMBOLS(sse_divide);
extern char misaligned_access[], x87_wait[], x87_divide_resume[], sse_divss[], sse_divide_resume[];
__asm__(".pushsection .rodata\n"
        ".balign 4\n"
        "sse_one: .float 1.0\n"
        "sse_masked: .long 0x1f80\n"
        "sse_unmasked: .long 0x1d80\n" /* divide by zero not masked */
        "x87_unmasked: .word 0x037b\n" /* the same */
        ".popsection\n");

/* Accepts that the emulator raises nothing; everything else has to be right. */
static void expect_if_raised(const struct expectation *want, uint64_t access)
{
    struct registers in = probe_pattern(0), out;
    in.value[RAX] = access;
    memset(&seen, 0, sizeof seen);
    resume_at = want->resume;
    run_probe(want->start, &in, &out);
    if (seen.count)
        expect(want, access, 0);
    else
        say("ok %s", want->name);
    alignment_checks_off();
}

static void arithmetic(void)
{
    uint64_t page = new_page(PROT_READ | PROT_WRITE);
    *(volatile char *)page = 0;
    expect_if_raised(&(const struct expectation){"misaligned", probe_misaligned, misaligned_access,
                                                 probe_misaligned_end, SIGBUS, BUS_ADRALN, AC, 0, NONE}, page);
    expect(&(const struct expectation){"x87_divide", probe_x87_divide, x87_wait, x87_divide_resume, SIGFPE,
                                       FPE_FLTDIV, MF, 0, RIP_OF_FAULT}, 0, 0);
    expect_if_raised(&(const struct expectation){"sse_divide", probe_sse_divide, sse_divss, sse_divide_resume,
                                                 SIGFPE, FPE_FLTDIV, XM, 0, RIP_OF_FAULT}, 0);
}

/* ---- 32-bit code: exceptions that 64-bit code cannot have, and some that it can ---- */

PROBE("far_jump", "ljmp *(%rax)");
PROBE_SYMBOLS(far_jump);

enum { USER_CODE = 0x33, USER_CODE_32 = 0x23 };

static void compatibility(void)
{
    static const struct {
        const char *name, *bytes;
        int length, signal, code;
        enum trap trap;
        long error;
        int after; /* RIP at the signal, from the start */
    } cases[] = {
        {"into", "\xb0\x7f\x04\x01\xce", 5, SIGSEGV, SI_KERNEL, OF, 0, 5}, /* mov, add, into */
        {"no into", "\x31\xc0\xce\x0f\x0b", 5, SIGILL, ILL_ILLOPN, UD, 0, 3},
        {"bound", "\x83\xc8\xff\x62\x05\x40\x00\x00\x31", 9, SIGSEGV, SI_KERNEL, BR, 0, 3}, /* or eax, -1 */
        {"int3", "\xcc", 1, SIGTRAP, SI_KERNEL, BP, 0, 1},
        {"hlt", "\xf4", 1, SIGSEGV, SI_KERNEL, GP, 0, 0},
        {"unmapped", "\xa1\x00\x10\x00\x00", 5, SIGSEGV, SEGV_MAPERR, PF, USER, 0},
        {"far call", "\x9a\x00\x00\x00\x00\x00\x00", 7, SIGSEGV, SI_KERNEL, GP, 0, 0}, /* call 0:0 */
    };
    unsigned char *code = mmap((void *)0x31000000, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    struct {
        uint32_t offset;
        uint16_t selector;
    } target = {0x31000000, USER_CODE_32};
    uint16_t usual_ds;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        memset(code, 0xf4, PAGE);
        memcpy(code, cases[i].bytes, (size_t)cases[i].length);
        memset(code + 0x40, 0, 8); /* bounds 0 to 0 */
        struct registers in = probe_pattern(0), out;
        in.value[RAX] = (uint64_t)&target;
        memset(&seen, 0, sizeof seen);
        resume_at = probe_far_jump_end;
        __asm__ volatile("mov %%ds, %0\nmov %1, %%ds\nmov %1, %%es" : "=&r"(usual_ds) : "r"(0x2b));
        run_probe(probe_far_jump, &in, &out);
        __asm__ volatile("mov %0, %%ds\nmov %0, %%es" : : "r"(usual_ds));
        int failures = check_failures;
        check_field(cases[i].name, "signals", seen.count, 1);
        check_field(cases[i].name, "si_signo", seen.signal, cases[i].signal);
        check_field(cases[i].name, "si_code", seen.code, cases[i].code);
        check_field(cases[i].name, "trap number", (long)seen.trap, cases[i].trap);
        check_field(cases[i].name, "error code", (long)seen.error, cases[i].error);
        check_field(cases[i].name, "rip", (long)seen.rip, 0x31000000 + cases[i].after);
        check_field(cases[i].name, "cs", seen.cs, USER_CODE_32);
        if (failures == check_failures)
            say("ok 32-bit code: %s", cases[i].name);
    }
    munmap(code, PAGE);
}

/* ---- UMIP ---- */

/* What the kernel says in the CPU's place: always the same. */
PROBE("sgdt", "sgdt (%rax)");
PROBE("sidt", "sidt 16(%rax,%rbx,2)");
PROBE("smsw", "smsw 32(%rax)");
PROBE("sldt", "sldt %gs:48(%rax)");
PROBE("str", "str umip_word(%rip)");
PROBE("smsw_register", "smsw %r9d");
PROBE("str_register", ".byte 0x48, 0x0f, 0x00, 0xc9"); /* str %rcx, with REX.W */
PROBE("sldt_register", "sldt %bp");
PROBE_SYMBOLS(sgdt);
PROBE_SYMBOLS(sidt);
PROBE_SYMBOLS(smsw);
PROBE_SYMBOLS(sldt);
PROBE_SYMBOLS(str);
PROBE_SYMBOLS(smsw_register);
PROBE_SYMBOLS(str_register);
PROBE_SYMBOLS(sldt_register);
uint16_t umip_word;

static struct registers run_umip(const char *probe, const char *resume, uint64_t address)
{
    struct registers in = probe_pattern(0), out;
    in.value[RAX] = address;
    in.value[RBX] = 8;
    memset(&seen, 0, sizeof seen);
    resume_at = resume;
    run_probe(probe, &in, &out);
    check_long("no signal", seen.count, 0);
    return out;
}

static void umip_table(const char *name, const char *probe, const char *resume, uint64_t offset, uint64_t made_up)
{
    uint64_t page = new_page(PROT_READ | PROT_WRITE);
    memset((void *)page, 0x5a, 64);
    run_umip(probe, resume, page);
    uint16_t limit;
    uint64_t base;
    memcpy(&limit, (char *)page + offset, sizeof limit);
    memcpy(&base, (char *)page + offset + 2, sizeof base);
    check_that(name, limit == 0 && base == made_up && *((unsigned char *)page + offset + 10) == 0x5a);
}

static void user_mode_instruction_prevention(void)
{
    unsigned eax = 7, ebx, ecx = 0, edx;
    __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    if (!(ecx & 4)) {
        check_skip("sgdt", "no UMIP");
        return;
    }
    umip_table("sgdt", probe_sgdt, probe_sgdt_end, 0, 0xfffffffffffe0000);
    umip_table("sidt", probe_sidt, probe_sidt_end, 32, 0xffffffffffff0000);
    uint64_t page = new_page(PROT_READ | PROT_WRITE);
    memset((void *)page, 0x5a, 64);
    run_umip(probe_smsw, probe_smsw_end, page);
    check_long("smsw", *(uint32_t *)(page + 32), 0x5a5a0033);
    syscall(SYS_arch_prctl, 0x1001 /* ARCH_SET_GS */, 8);
    run_umip(probe_sldt, probe_sldt_end, page);
    syscall(SYS_arch_prctl, 0x1001, 0);
    check_long("sldt", *(uint32_t *)(page + 56), 0x5a5a0000);
    run_umip(probe_str, probe_str_end, 0);
    check_long("str", umip_word, 0x40);
    struct registers in = probe_pattern(0);
    struct registers out = run_umip(probe_smsw_register, probe_smsw_register_end, 0);
    check_long("smsw, a register", (long)out.value[R9], (long)((in.value[R9] & 0xffffffff00000000) | 0x80050033));
    out = run_umip(probe_str_register, probe_str_register_end, 0);
    check_long("str, a register", (long)out.value[RCX], 0x40);
    out = run_umip(probe_sldt_register, probe_sldt_register_end, 0);
    check_long("sldt, a register", (long)out.value[RBP], (long)(in.value[RBP] & ~0xfffful));

    struct expectation want = {"sgdt_unmapped", probe_sgdt, probe_sgdt, probe_sgdt_end, SIGSEGV,
                               SEGV_MAPERR, PF, USER | WRITING, ACCESS};
    expect(&want, 0x40, 0);
    expect(&want, NON_CANONICAL, 0);
}

int main(void)
{
    install_handlers();
    instructions();
    int1();
    general_protection();
    user_pages();
    kernel_pages();
    past_end_of_file();
    non_canonical();
    bad_stack();
    arithmetic();
    compatibility();
    user_mode_instruction_prevention();
    return check_end("exceptions");
}
