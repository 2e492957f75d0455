/*
 * Traps that wait: MOV SS holds back what the instruction before it and itself have caused until the next
 * instruction is over. If that one enters the kernel, #DB comes at the first instruction of the entry, in
 * ring 0, with the stack, the GS base and the page tables of the program (CVE-2018-8897). A watchpoint on
 * the word that MOV SS reads does it for every way in, TF for SYSCALL and SYSENTER.
 *
 * Each way is taken with the watchpoint, with TF, and with both, from a GS base in the kernel's half where
 * the CPU lets a program set it. The program must get what it would get without: the same result, the same
 * signal, all registers. How many of the traps it is told of is the CPU's affair and is printed: a CPU (or
 * Bochs) keeps back those that came in ring 0, QEMU's TCG knows no such thing.
 *
 * Sources: Intel SDM vol. 3, 6.8.3 and 17.3.1; vol. 2, MOV; Linux for what becomes of each trap.
 */
#include "probe.h"

#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>

/* In AT_HWCAP2: ring 3 may execute WRGSBASE. */
enum { HWCAP2_FSGSBASE = 2 };
#define KERNEL_GS_BASE 0xffffffffc0001000u
#define NON_CANONICAL 0x8000000000000000u

/* What MOV SS reads, and what is watched. */
uint16_t movss_selector;

#define MOVSS "movw movss_selector(%rip), %ss\n"
#define WAYS(X)                                                                                    \
    X(nop, "nop", 0)                                                                               \
    X(syscall, "syscall", 0)                                                                       \
    X(int80, "int $0x80", 0)                                                                       \
    X(int3, "int3", SIGTRAP)                                                                       \
    X(int_3, "int $3", SIGTRAP)                                                                    \
    X(ud2, "ud2", SIGILL)                                                                          \
    X(hlt, "hlt", SIGSEGV)                                                                         \
    X(int_1, "int $1", SIGSEGV)                                                                    \
    X(read, "movq (%rdx), %rbx", SIGSEGV)                                                          \
    X(push, "pushq %rbx", 0)                                                                       \
    X(sysenter, "sysenter", SIGSEGV)
#define DEFINE(name, text, signal)                                                                 \
    PROBE(#name, MOVSS "way_" #name ": " text);                                                    \
    PROBE_SYMBOLS(name);                                                                           \
    extern char way_##name[];
WAYS(DEFINE)

static const struct way {
    const char *name;
    const char *start, *rip, *end;
    int signal;
} ways[] = {
#define ENTRY(name, text, signal) {#name, probe_##name, way_##name, probe_##name##_end, signal},
    WAYS(ENTRY)
};

enum { TRAP_FLAG_MODE = 1, WATCH_MODE = 2 };
static const char *const mode_names[] = {"plain", "TF", "watched", "watched and TF"};

static const struct way *current;
static greg_t good_selectors;
static struct {
    volatile sig_atomic_t signals, traps, strange;
    int signal;
    uint64_t rip;
} seen;

/* A trap, and not INT3's: counted, and the program goes on. */
static bool is_debug_trap(int signal, const siginfo_t *info)
{
    return signal == SIGTRAP && (info->si_code == TRAP_TRACE || info->si_code == TRAP_HWBKPT);
}

static void handler(int signal, siginfo_t *info, void *context)
{
    greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;
    const char *rip = (const char *)gregs[REG_RIP];
    if (is_debug_trap(signal, info)) {
        bool in_probe = rip > current->start && rip <= current->end;
        seen.traps += in_probe;
        seen.strange += !in_probe && !(gregs[REG_EFL] & FLAG_TRAP);
        if (rip == probe_done)
            gregs[REG_EFL] &= ~(greg_t)FLAG_TRAP;
        if (!good_selectors)
            good_selectors = gregs[REG_CSGSFS];
        return;
    }
    seen.signals++;
    seen.signal = signal;
    seen.rip = (uint64_t)rip;
    gregs[REG_CSGSFS] = good_selectors ? good_selectors : gregs[REG_CSGSFS];
    gregs[REG_RIP] = (greg_t)current->end;
}

static void install_handlers(void)
{
    static char alternate[65536];
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP};
    for (size_t i = 0; i < COUNT_OF(signals); i++)
        sigaction(signals[i], &action, NULL);
}

/* ---- the watchpoint ---- */

#define DEBUG_REGISTER(number) ((void *)(offsetof(struct user, u_debugreg) + 8 * (number)))
/* DR7: local 0, reads and writes, two bytes (SDM vol. 3, 17.2.4). */
#define WATCH_READS_OF_A_WORD (1ul | 3ul << 16 | 1ul << 18)

/* A child sets this process's debug registers, and ends with 0 if it could. */
static int set_watchpoint(uint64_t control)
{
    pid_t watched = getpid();
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    pid_t child = fork();
    if (child == 0) {
        int status;
        if (ptrace(PTRACE_ATTACH, watched, NULL, NULL) != 0 || waitpid(watched, &status, 0) != watched)
            _exit(1);
        long bad = ptrace(PTRACE_POKEUSER, watched, DEBUG_REGISTER(7), 0);
        if (bad == 0 && control)
            bad = ptrace(PTRACE_POKEUSER, watched, DEBUG_REGISTER(0), &movss_selector);
        if (bad == 0 && control)
            bad = ptrace(PTRACE_POKEUSER, watched, DEBUG_REGISTER(7), control);
        ptrace(PTRACE_DETACH, watched, NULL, NULL);
        _exit(bad != 0);
    }
    int status = -1;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

/* ---- the ways in ---- */

/* What the registers should be after it. */
static struct registers outcome(const struct way *way, const struct registers *in)
{
    struct registers out = *in;
    if (way->start == probe_syscall) {
        out.value[RCX] = (uint64_t)way->end;
        out.value[R11] = in->value[RFLAGS];
    }
    if (way->start == probe_syscall || way->start == probe_int80)
        out.value[RAX] = (uint64_t)getppid();
    if (way->start == probe_push && in->value[RSP])
        out.value[RSP] -= 8;
    return out;
}

static void take(const struct way *way, int mode, uint64_t stack)
{
    enum { GETPPID_32 = 64 };
    struct registers in = probe_pattern(0x3c3c3c3c), out;
    in.value[RAX] = way->start == probe_int80 ? GETPPID_32 : SYS_getppid;
    in.value[RDX] = NON_CANONICAL;
    in.value[RBP] = 0; /* SYSENTER: no program has a word there */
    in.value[RSP] = stack;
    if (mode & TRAP_FLAG_MODE)
        in.value[RFLAGS] |= FLAG_TRAP;
    memset(&seen, 0, sizeof seen);
    current = way;
    run_probe(way->start, &in, &out);
    struct registers want = outcome(way, &in);
    out.value[RFLAGS] &= ~(uint64_t)FLAG_TRAP;
    want.value[RFLAGS] &= ~(uint64_t)FLAG_TRAP;

    char text[80];
    const char *kind = mode_names[mode], *wild = stack ? ", wild stack" : "";
    int failures = check_failures;
    bool lost = way->start == probe_sysenter; /* it forgets RIP, RSP and more */
    snprintf(text, sizeof text, "%s %s%s: signal", kind, way->name, wild);
    if (!(lost && seen.signal == SIGILL)) /* AMD's CPUs have no SYSENTER here */
        require_long(text, seen.signal, way->signal);
    snprintf(text, sizeof text, "%s %s%s: rip", kind, way->name, wild);
    if (way->signal && !lost)
        require_long(text, (long)seen.rip, (long)(way->signal == SIGTRAP ? way->end : way->rip));
    snprintf(text, sizeof text, "%s %s%s: traps from nowhere", kind, way->name, wild);
    require_long(text, seen.strange, 0);
    snprintf(text, sizeof text, "%s %s%s", kind, way->name, wild);
    check_quiet = true;
    if (!lost)
        check_registers(text, &out, &want, stack ? 0 : 1u << RSP);
    check_quiet = false;
    if (failures == check_failures)
        say("ok %s, traps told: %d", text, (int)seen.traps);
}

static void take_all(int mode)
{
    for (size_t i = 0; i < COUNT_OF(ways); i++)
        take(&ways[i], mode, 0);
    for (size_t i = 0; i < COUNT_OF(ways); i++)
        if (ways[i].start == probe_syscall || ways[i].start == probe_int80 || ways[i].start == probe_int3)
            take(&ways[i], mode, NON_CANONICAL);
}

int main(void)
{
    bool has_gs_base = getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE;
    uint64_t gs_base = KERNEL_GS_BASE;
    __asm__("movw %%ss, %0" : "=m"(movss_selector));
    install_handlers();
    if (has_gs_base)
        __asm__ volatile("wrgsbase %0" ::"r"(gs_base));
    take_all(0);
    take_all(TRAP_FLAG_MODE);
    if (set_watchpoint(WATCH_READS_OF_A_WORD) == 0) {
        take_all(WATCH_MODE);
        take_all(WATCH_MODE | TRAP_FLAG_MODE);
        check_long("the watchpoint goes", set_watchpoint(0), 0);
    } else {
        check_skip("watched", "this kernel gives out no debug registers");
    }
    if (has_gs_base) {
        __asm__ volatile("rdgsbase %0" : "=r"(gs_base));
        check_long("GS base", (long)gs_base, (long)KERNEL_GS_BASE);
    }
    return check_end("movss");
}
