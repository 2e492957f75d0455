/*
 * RIPs that SYSRET cannot carry. On an Intel CPU it faults in ring 0, on the program's stack, if RCX is not
 * canonical: CVE-2012-0217 (RIP one past the user half), CVE-2014-4699 (RIP set by ptrace). Each such
 * return has to end in SIGSEGV with just that RIP, and the kernel goes on.
 *
 * RCX and R11 are what SYSRET would want, RIP and RFLAGS: a kernel that only compares them is not warned.
 * Sources: Intel SDM vol. 2, SYSRET; ptrace(2); sigreturn(2).
 */
#include "probe.h"

#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

enum { PAGE = 4096, STATUS = 7 };
#define LAST_USER_PAGE 0x7fffffffe000u

/* Neither canonical nor mapped; canonical with five levels only; the kernel's; beyond the user half. */
static const uint64_t places[] = {
    0x8000000000000000, 0x0000800000000000, 0xffff7fffffffffff, 0x0100000000000000,
    0xffff800000000000, 0xffffffff81000000, 0x00007ffffffff000, 0xffffffffffffffff,
};

PROBE("call", "syscall");
PROBE_SYMBOLS(call);

static struct {
    volatile sig_atomic_t count;
    int signal;
    uint64_t rip;
} seen;

static void note(int signal, siginfo_t *info, void *context)
{
    greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;
    seen.count++;
    seen.signal = signal;
    seen.rip = (uint64_t)gregs[REG_RIP];
    gregs[REG_RIP] = (greg_t)probe_done;
    gregs[REG_RSP] = (greg_t)probe_stack;
}

static uint64_t place;

static void move_away(int signal, siginfo_t *info, void *context)
{
    greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;
    gregs[REG_RIP] = gregs[REG_RCX] = (greg_t)place;
    gregs[REG_R11] = gregs[REG_EFL];
}

static void install_handlers(void)
{
    static char alternate[65536];
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    action.sa_sigaction = move_away;
    sigaction(SIGUSR1, &action, NULL);
}

/* ---- SYSCALL as the last instruction that a program can have ---- */

static void at_the_end(void)
{
    char *code = mmap((void *)LAST_USER_PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (code != (char *)LAST_USER_PAGE) {
        check_skip("a call at the end of the user half", "the page is in use");
        return;
    }
    static const long numbers[] = {SYS_getppid, SYS_sched_yield, 100000};
    memcpy(code + PAGE - 2, "\x0f\x05", 2);
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        struct registers in = probe_pattern(i), out;
        in.value[RAX] = (uint64_t)numbers[i];
        memset(&seen, 0, sizeof seen);
        run_probe(code + PAGE - 2, &in, &out);
        require_long("a call at the end: signal", seen.signal, SIGSEGV);
        require_long("a call at the end: rip", (long)seen.rip, (long)(LAST_USER_PAGE + PAGE));
    }
    check_that("a call at the end of the user half", seen.count == 1);
}

/* ---- sigreturn ---- */

static void by_sigreturn(void)
{
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        struct registers in = probe_pattern(i), out;
        place = places[i];
        in.value[RAX] = SYS_kill;
        in.value[RDI] = (uint64_t)getpid();
        in.value[RSI] = SIGUSR1;
        memset(&seen, 0, sizeof seen);
        run_probe(probe_call, &in, &out);
        char name[64];
        snprintf(name, sizeof name, "sigreturn to %#lx", place);
        check_that(name, seen.count == 1 && seen.signal == SIGSEGV && seen.rip == place);
    }
}

/* ---- ptrace ---- */

static void traced(void)
{
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    for (;;)
        if (syscall(SYS_getppid) < 0)
            _exit(STATUS);
}

static long wait_stop(pid_t child)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFSTOPPED(status) ? WSTOPSIG(status) : -1;
}

/* Takes the child to a stop of a call, the first (entry) or second one (exit), and away to `place`. */
static void from_stop(pid_t child, int stops, const char *name)
{
    struct user_regs_struct saved, registers;
    for (int i = 0; i < stops; i++) {
        ptrace(PTRACE_SYSCALL, child, NULL, NULL);
        require_long("a call's stop", wait_stop(child), SIGTRAP);
    }
    require_long("registers", ptrace(PTRACE_GETREGS, child, NULL, &saved), 0);
    registers = saved;
    registers.rip = registers.rcx = place;
    registers.r11 = registers.eflags;
    require_long("set registers", ptrace(PTRACE_SETREGS, child, NULL, &registers), 0);
    ptrace(PTRACE_CONT, child, NULL, NULL);
    check_long(name, wait_stop(child), SIGSEGV);
    require_long("registers", ptrace(PTRACE_GETREGS, child, NULL, &registers), 0);
    require_long("rip", (long)registers.rip, (long)place);
    require_long("rsp", (long)registers.rsp, (long)saved.rsp);
    require_long("rbx", (long)registers.rbx, (long)saved.rbx);
    /* Back behind the call, which has not failed. */
    saved.rax = 1;
    saved.orig_rax = (unsigned long long)-1;
    ptrace(PTRACE_SETREGS, child, NULL, &saved);
}

static void by_ptrace(void)
{
    pid_t child = fork();
    if (child == 0)
        traced();
    check_long("the traced child stops", wait_stop(child), SIGSTOP);
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        char name[64];
        place = places[i];
        snprintf(name, sizeof name, "ptrace to %#lx, on the way in", place);
        from_stop(child, 1, name);
        snprintf(name, sizeof name, "ptrace to %#lx, on the way out", place);
        from_stop(child, 2, name);
    }
    /* It is still well: a call that fails makes it end by itself. */
    struct user_regs_struct registers;
    ptrace(PTRACE_SYSCALL, child, NULL, NULL);
    wait_stop(child);
    ptrace(PTRACE_SYSCALL, child, NULL, NULL);
    wait_stop(child);
    ptrace(PTRACE_GETREGS, child, NULL, &registers);
    registers.rax = (unsigned long long)-1;
    ptrace(PTRACE_SETREGS, child, NULL, &registers);
    ptrace(PTRACE_CONT, child, NULL, NULL);
    int status = 0;
    waitpid(child, &status, 0);
    check_long("the traced child ends well", status, STATUS << 8);
}

int main(void)
{
    install_handlers();
    at_the_end();
    by_sigreturn();
    by_ptrace();
    return check_end("sysret");
}
