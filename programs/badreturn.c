/*
 * Returns to ring 3 that cannot work: signal frames with impossible RIP, CS, SS, RSP, flags and
 * floating-point state, SYSCALL as the last instruction of the address space, and odd flags set by the
 * program itself before it enters the kernel. Each case runs in its own child; what it gets is a signal
 * with the registers as they were to be restored, or nothing at all.
 *
 * Sources: Intel SDM vol. 2, IRET and SYSRET; CVE-2012-0217 (SYSRET to a non-canonical RIP) and
 * CVE-2014-9322 (IRET with bad selectors); rt_sigreturn(2), and Linux for the flags it ignores.
 */
#include "probe.h"

#include <sys/mman.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

enum { PAGE = 4096 };
#define NON_CANONICAL 0x8000000000000000u
#define KERNEL_ADDRESS 0xffffffff81000000u

PROBE("call", "syscall");
PROBE_SYMBOLS(call);

/* What the case does to the frame. */
static void (*damage)(ucontext_t *context);
static greg_t good_selectors;
static uint64_t wanted_rip;
static long wanted_signal, wanted_code;

static struct {
    volatile sig_atomic_t count;
    int signal, code;
    uint64_t rip, flags, selectors;
} seen;

static void damage_frame(int signal, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    good_selectors = uc->uc_mcontext.gregs[REG_CSGSFS];
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)probe_done;
    damage(uc);
}

/* Notes what arrived and leads back to run_probe's end with everything good again. */
static void note(int signal, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *gregs = uc->uc_mcontext.gregs;
    seen.count++;
    seen.signal = signal;
    seen.code = info->si_code;
    seen.rip = (uint64_t)gregs[REG_RIP];
    seen.flags = (uint64_t)gregs[REG_EFL];
    seen.selectors = (uint64_t)gregs[REG_CSGSFS];
    gregs[REG_CSGSFS] = good_selectors ? good_selectors : gregs[REG_CSGSFS];
    gregs[REG_RIP] = (greg_t)probe_done;
    gregs[REG_RSP] = (greg_t)probe_stack;
    gregs[REG_EFL] = FLAG_RESERVED | FLAG_INTERRUPT;
}

static void install_handlers(void)
{
    static char alternate[65536];
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    for (size_t i = 0; i < COUNT_OF(signals); i++)
        sigaction(signals[i], &action, NULL);
    action.sa_sigaction = damage_frame;
    sigaction(SIGUSR1, &action, NULL);
}

static void raise_by_probe(struct registers *out)
{
    struct registers in = probe_pattern(0x1234);
    in.value[RAX] = SYS_kill;
    in.value[RDI] = (uint64_t)getpid();
    in.value[RSI] = SIGUSR1;
    run_probe(probe_call, &in, out);
}

static const char *case_name;

static void case_body(void)
{
    struct registers out;
    raise_by_probe(&out);
    char text[80];
    snprintf(text, sizeof text, "%s: signal", case_name);
    check_long(text, seen.signal, wanted_signal);
    if (wanted_signal == 0)
        return;
    check_long("code", seen.code, wanted_code);
    if (wanted_rip)
        check_long("rip", seen.rip, wanted_rip);
}

static void expect_case(const char *name, void (*what)(ucontext_t *), long signal, long code, uint64_t rip)
{
    case_name = name;
    damage = what;
    wanted_signal = signal;
    wanted_code = code;
    wanted_rip = rip;
    check_in_child(name, case_body);
}

/* ---- RIP and RSP ---- */

static uint64_t bad_address;

static void set_rip(ucontext_t *context)
{
    context->uc_mcontext.gregs[REG_RIP] = (greg_t)bad_address;
}

static void set_rsp(ucontext_t *context)
{
    context->uc_mcontext.gregs[REG_RSP] = (greg_t)bad_address;
}

static void addresses(void)
{
    bad_address = NON_CANONICAL;
    expect_case("non-canonical rip", set_rip, SIGSEGV, SI_KERNEL, bad_address);
    bad_address = 0x0100000000000000;
    expect_case("first non-canonical rip", set_rip, SIGSEGV, SI_KERNEL, bad_address);
    bad_address = KERNEL_ADDRESS;
    expect_case("kernel rip", set_rip, SIGSEGV, SEGV_MAPERR, bad_address);
    bad_address = UINT64_MAX;
    expect_case("last rip", set_rip, SIGSEGV, SEGV_MAPERR, bad_address);
    bad_address = 0x10;
    expect_case("unmapped rip", set_rip, SIGSEGV, SEGV_MAPERR, bad_address);
    bad_address = NON_CANONICAL;
    expect_case("non-canonical rsp", set_rsp, 0, 0, 0);
    bad_address = KERNEL_ADDRESS;
    expect_case("kernel rsp", set_rsp, 0, 0, 0);
    bad_address = 0;
    expect_case("rsp 0", set_rsp, 0, 0, 0);
    bad_address = 0x7;
    expect_case("odd rsp", set_rsp, 0, 0, 0);
}

/* ---- selectors ---- */

static uint16_t bad_selector;

static void set_cs(ucontext_t *context)
{
    greg_t *selectors = &context->uc_mcontext.gregs[REG_CSGSFS];
    *selectors = (*selectors & ~0xffffL) | bad_selector;
}

static void set_ss(ucontext_t *context)
{
    greg_t *selectors = &context->uc_mcontext.gregs[REG_CSGSFS];
    *selectors = (*selectors & 0xffffffffffffL) | (greg_t)((uint64_t)bad_selector << 48);
}

/* Linux's privileged selectors; on any kernel these are below the user's. */
enum { KERNEL_CODE = 0x10, KERNEL_DATA = 0x18 };

static void selectors(void)
{
    bad_selector = 0;
    expect_case("null cs", set_cs, SIGSEGV, SI_KERNEL, (uint64_t)probe_done);
    bad_selector = KERNEL_CODE;
    expect_case("kernel cs", set_cs, SIGSEGV, SI_KERNEL, (uint64_t)probe_done);
    bad_selector = KERNEL_CODE | 3;
    expect_case("kernel cs, user level", set_cs, SIGSEGV, SI_KERNEL, (uint64_t)probe_done);
    bad_selector = 0x2b;
    expect_case("data as cs", set_cs, SIGSEGV, SI_KERNEL, (uint64_t)probe_done);
    bad_selector = 0xfffb;
    expect_case("cs beyond", set_cs, SIGSEGV, SI_KERNEL, (uint64_t)probe_done);
    bad_selector = 7;
    expect_case("cs of no ldt", set_cs, SIGSEGV, SI_KERNEL, (uint64_t)probe_done);
    bad_selector = 0;
    expect_case("null ss", set_ss, SIGSEGV, SI_KERNEL, (uint64_t)probe_done);
    bad_selector = KERNEL_DATA;
    expect_case("kernel ss", set_ss, SIGSEGV, SI_KERNEL, (uint64_t)probe_done);
    bad_selector = 0x33;
    expect_case("code as ss", set_ss, SIGSEGV, SI_KERNEL, (uint64_t)probe_done);
    bad_selector = 0xfffb;
    expect_case("ss beyond", set_ss, SIGSEGV, SI_KERNEL, (uint64_t)probe_done);
    bad_selector = 0xf;
    expect_case("ss of no ldt", set_ss, SIGSEGV, SI_KERNEL, (uint64_t)probe_done);
}

/* ---- flags ---- */

static uint64_t set_bits;

static void set_flags(ucontext_t *context)
{
    context->uc_mcontext.gregs[REG_EFL] |= (greg_t)set_bits;
}

static void clear_flags(ucontext_t *context)
{
    context->uc_mcontext.gregs[REG_EFL] = 0;
}

static uint64_t wanted_flags;

static void flags_body(void)
{
    struct registers out;
    raise_by_probe(&out);
    char text[80];
    snprintf(text, sizeof text, "%s: no signal", case_name);
    check_long(text, seen.count, 0);
    snprintf(text, sizeof text, "%s: flags", case_name);
    check_long(text, out.value[RFLAGS], wanted_flags);
}

static void expect_flags(const char *name, void (*what)(ucontext_t *), uint64_t bits, uint64_t wanted)
{
    case_name = name;
    damage = what;
    set_bits = bits;
    wanted_flags = wanted;
    check_in_child(name, flags_body);
}

/* The flags that the kernel decides stay; those the program may have are taken from the frame. */
static void flags(void)
{
    uint64_t own = FLAGS_PATTERN;
    expect_flags("nested task", set_flags, FLAG_NESTED, own);
    expect_flags("iopl", set_flags, FLAG_IOPL, own);
    expect_flags("direction", set_flags, FLAG_DIRECTION, own | FLAG_DIRECTION);
    expect_flags("alignment check", set_flags, FLAG_ALIGNMENT, own | FLAG_ALIGNMENT);
    expect_flags("id", set_flags, FLAG_ID, own);
    expect_flags("virtual 8086", set_flags, 0x1a0000, own);
    expect_flags("upper half", set_flags, 0xffffffff00000000, own);
    expect_flags("none", clear_flags, 0, FLAG_RESERVED | FLAG_INTERRUPT);
    set_bits = FLAG_TRAP;
    expect_case("trap flag", set_flags, SIGTRAP, TRAP_TRACE, 0);
}

/* ---- the frame itself ---- */

static void no_float_state(ucontext_t *context)
{
    context->uc_mcontext.fpregs = NULL;
}

static void kernel_float_state(ucontext_t *context)
{
    context->uc_mcontext.fpregs = (void *)KERNEL_ADDRESS;
}

static void unmapped_float_state(ucontext_t *context)
{
    context->uc_mcontext.fpregs = (void *)0x40;
}

static void wild_float_state(ucontext_t *context)
{
    memset((char *)context->uc_mcontext.fpregs + 464, 0xa5, 48); /* the software-reserved bytes */
}

/* rt_sigreturn without any frame: the stack pointer leads nowhere. */
static void frame_body(void)
{
    struct registers in = probe_pattern(5), out;
    in.value[RAX] = SYS_rt_sigreturn;
    in.value[RSP] = bad_address;
    run_probe(probe_call, &in, &out);
    check_long(case_name, seen.signal, SIGSEGV);
    check_long("code", seen.code, SI_KERNEL);
}

static void frames(void)
{
    expect_case("no float state", no_float_state, 0, 0, 0);
    expect_case("kernel float state", kernel_float_state, SIGSEGV, SI_KERNEL, 0);
    expect_case("unmapped float state", unmapped_float_state, SIGSEGV, SI_KERNEL, 0);
    expect_case("wild software bytes", wild_float_state, 0, 0, 0);
    static const uint64_t places[] = {0x1000, KERNEL_ADDRESS, NON_CANONICAL, UINT64_MAX - 7};
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        bad_address = places[i];
        case_name = "no frame";
        check_in_child("no frame", frame_body);
    }
}

/* No way to deliver at all: the signal's stack is bad, and the process ends by SIGSEGV. */
static void no_stack_body(void)
{
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
    struct registers in = probe_pattern(6), out;
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    in.value[RAX] = SYS_kill;
    in.value[RDI] = (uint64_t)getpid();
    in.value[RSI] = SIGUSR1;
    in.value[RSP] = bad_address;
    run_probe(probe_call, &in, &out);
}

static void no_stack(void)
{
    static const uint64_t places[] = {0x1000, KERNEL_ADDRESS, NON_CANONICAL, 16};
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        bad_address = places[i];
        check_long("no stack for a handler", child_status(no_stack_body) & 0x7f, SIGSEGV);
    }
}

/* ---- SYSCALL at the end of the address space ---- */

static void edge(const char *name, uint64_t page)
{
    char *code = mmap((void *)page, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (code == MAP_FAILED) {
        say("ok %s", name); /* refused, which is the safe answer, or in use */
        return;
    }
    memcpy(code + PAGE - 2, "\x0f\x05", 2);
    struct registers in = probe_pattern(9), out;
    in.value[RAX] = SYS_getppid;
    memset(&seen, 0, sizeof seen);
    run_probe(code + PAGE - 2, &in, &out);
    check_that(name, seen.count == 1 && seen.signal == SIGSEGV && seen.rip == page + PAGE);
    munmap(code, PAGE);
}

static void edges(void)
{
    edge("last page but one", 0x7fffffffe000);
    edge("last page, four levels", 0x7ffffffff000);
    edge("last page but one, five levels", 0xffffffffffe000);
    edge("last page, five levels", 0xfffffffffff000);
}

/* ---- flags that a program may set before it enters the kernel ---- */

PROBE("odd_call", "pushfq\norq %rbx, (%rsp)\npopfq\nsyscall\n");
PROBE("odd_interrupt", "pushfq\norq %rbx, (%rsp)\npopfq\nint $0x80\n");
PROBE("odd_fault", "pushfq\norq %rbx, (%rsp)\npopfq\nmovb $1, (%rbp)\n");
PROBE_SYMBOLS(odd_call);
PROBE_SYMBOLS(odd_interrupt);
PROBE_SYMBOLS(odd_fault);

static void odd_entry(const char *name, const char *probe, uint64_t bits)
{
    struct registers in = probe_pattern(1), out;
    char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    in.value[RAX] = SYS_getppid;
    in.value[RBX] = bits;
    in.value[RBP] = (uint64_t)page;
    memset(&seen, 0, sizeof seen);
    run_probe(probe, &in, &out);
    check_long(name, out.value[RFLAGS], in.value[RFLAGS] | bits);
    check_long("no signal", seen.count, 0);
    munmap(page, PAGE);
}

static void odd_entries(void)
{
    static const struct {
        const char *name;
        uint64_t bits;
    } kinds[] = {
        {"nested", FLAG_NESTED},
        {"direction", FLAG_DIRECTION},
        {"alignment", FLAG_ALIGNMENT},
        {"all", FLAG_NESTED | FLAG_DIRECTION | FLAG_ALIGNMENT | FLAG_ID},
    };
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        char name[64];
        snprintf(name, sizeof name, "%s in a call", kinds[i].name);
        odd_entry(name, probe_odd_call, kinds[i].bits);
        snprintf(name, sizeof name, "%s in int80", kinds[i].name);
        odd_entry(name, probe_odd_interrupt, kinds[i].bits);
        snprintf(name, sizeof name, "%s in a fault", kinds[i].name);
        odd_entry(name, probe_odd_fault, kinds[i].bits);
    }
}

int main(void)
{
    install_handlers();
    addresses();
    selectors();
    flags();
    frames();
    no_stack();
    edges();
    check_in_child("odd entries", odd_entries);
    return check_end("badreturn");
}
