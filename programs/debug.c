/*
 * Single steps and debug registers, by a tracer and by a program's own TF: through system calls, into
 * handlers and out of them, over instructions that change TF; watchpoints and breakpoints, with what
 * DR6 tells.
 *
 * Sources: Intel SDM vol. 3, 17.2 and 17.3; ptrace(2); what Linux 6.1 does where these are silent.
 */
#include "tracing.h"

#include <sched.h>
#include <ucontext.h>

#define DEBUG(number) USER(u_debugreg[number])
#define TRAP 0x100l
#define RESUME 0x10000l
/* DR6 with nothing in it. */
#define QUIET 0xffff0ff0l

extern const char after_getpid[], at_nops[], at_popf[], after_popf[], at_sysret[], handler_start[], at_loop[];

static long rip(pid_t pid)
{
    return peek_user(pid, USER(regs.rip));
}

static long flags(pid_t pid)
{
    return peek_user(pid, USER(regs.eflags));
}

static int code_of(pid_t pid)
{
    return info_of(pid).si_code;
}

/* Steps. */

static int some_code(void)
{
    asm volatile("int3\n"
                 "at_nops: nop\n"
                 "xor %%eax, %%eax\n"
                 "mov $39, %%eax\n"
                 "syscall\n"
                 "after_getpid: nop\n"
                 "at_popf: pushf\n"
                 "popf\n"
                 "after_popf: mov $3, %%ecx\n"
                 "rep movsb\n"
                 "nop"
                 : : "S"(at_nops), "D"(malloc(8)) : "rax", "rcx", "r11", "memory");
    return 4;
}

static void steps(void)
{
    pid_t pid = traced_child(some_code);
    goes_on("to the code", pid, CONT, 0, stopped_by(SIGTRAP));
    check_long("at the first instruction", rip(pid), (long)at_nops);
    goes_on("a step", pid, STEP, 0, stopped_by(SIGTRAP));
    check_long("one byte on", rip(pid), (long)at_nops + 1);
    check_long("a trace trap", code_of(pid), TRAP_TRACE);
    check_that("at its place", (long)info_of(pid).si_addr == rip(pid));
    check_long("TF is the tracer's", flags(pid) & TRAP, 0);
    check_long("DR6", peek_user(pid, DEBUG(6)), QUIET | 0x4000);
    trace(POKEUSER, pid, USER(regs.eflags), flags(pid));
    goes_on("a step after flags were set", pid, STEP, 0, stopped_by(SIGTRAP));
    goes_on("a step before a call", pid, STEP, 0, stopped_by(SIGTRAP));
    goes_on("a step over a call", pid, STEP, 0, stopped_by(SIGTRAP));
    check_long("right behind it", rip(pid), (long)after_getpid);
    check_long("another kind of trap", code_of(pid), TRAP_BRKPT);
    check_that("with a result", peek_user(pid, USER(regs.rax)) == pid);
    check_long("a call", peek_user(pid, USER(regs.orig_rax)), SYS_getpid);
    check_that("its place", (long)info_of(pid).si_addr == rip(pid));
    goes_on("a step behind a call", pid, STEP, 0, stopped_by(SIGTRAP));
    check_long("one byte on again", rip(pid), (long)at_popf);
    check_long("a trace trap again", code_of(pid), TRAP_TRACE);
    check_long("no call", peek_user(pid, USER(regs.orig_rax)), -1);
    goes_on("a step over PUSHF", pid, STEP, 0, stopped_by(SIGTRAP));
    long pushed = 0;
    trace(PEEKDATA, pid, peek_user(pid, USER(regs.rsp)), (long)&pushed);
    check_long("which has seen TF", pushed & TRAP, TRAP);
    trace(POKEDATA, pid, peek_user(pid, USER(regs.rsp)), pushed & ~TRAP);
    goes_on("a step over POPF", pid, STEP, 0, stopped_by(SIGTRAP));
    check_long("which has taken it away", flags(pid) & TRAP, 0);
    goes_on("a step behind it", pid, STEP, 0, stopped_by(SIGTRAP));
    check_long("to a string", rip(pid), (long)after_popf + 5);
    for (int i = 0; i < 2; i++)
        goes_on("a step within a string", pid, STEP, 0, stopped_by(SIGTRAP));
    check_long("stays there", rip(pid), (long)after_popf + 5);
    goes_on("a step out of it", pid, STEP, 0, stopped_by(SIGTRAP));
    check_long("leaves it", rip(pid), (long)after_popf + 7);
    check_long("since POPF, TF is the program's", flags(pid) & TRAP, TRAP);
    trace(POKEUSER, pid, USER(regs.eflags), flags(pid) & ~TRAP);
    ends("no step", pid, 0, 4);
}

static void own_flag_by_tracer(void)
{
    pid_t pid = traced_child(some_code);
    goes_on("to that code", pid, CONT, 0, stopped_by(SIGTRAP));
    trace(POKEUSER, pid, USER(regs.eflags), flags(pid) | TRAP);
    check_long("TF is the program's", flags(pid) & TRAP, TRAP);
    goes_on("it traps by itself", pid, CONT, 0, stopped_by(SIGTRAP));
    check_long("after one instruction", rip(pid), (long)at_nops + 1);
    check_long("as a trace trap", code_of(pid), TRAP_TRACE);
    check_long("TF stays", flags(pid) & TRAP, TRAP);
    goes_on("again", pid, CONT, 0, stopped_by(SIGTRAP));
    goes_on("and again", pid, CONT, 0, stopped_by(SIGTRAP));
    goes_on("over a call", pid, CONT, 0, stopped_by(SIGTRAP));
    check_long("and one instruction more", rip(pid), (long)after_getpid + 1);
    goes_on("a step with TF set", pid, STEP, 0, stopped_by(SIGTRAP));
    check_long("TF is still there", flags(pid) & TRAP, TRAP);
    trace(POKEDATA, pid, peek_user(pid, USER(regs.rsp)), 0x202);
    trace(POKEUSER, pid, USER(regs.eflags), flags(pid) & ~TRAP);
    ends("TF taken away", pid, 0, 4);
}

static volatile int handled;

asm(".text\nhandler_start: nop\nmovl $1, handled(%rip)\nret");

static int signalled(void)
{
    struct sigaction action = {.sa_handler = (void (*)(int))(long)handler_start};
    sigaction(SIGUSR1, &action, NULL);
    raise_here(SIGUSR1);
    return handled ? 3 : 4;
}

static void handlers(void)
{
    pid_t pid = traced_child(signalled);
    goes_on("to a signal", pid, CONT, 0, stopped_by(SIGUSR1));
    long before = rip(pid);
    goes_on("a step into its handler", pid, STEP, SIGUSR1, stopped_by(SIGTRAP));
    check_long("before its first instruction", rip(pid), (long)handler_start);
    check_long("not a trap of the CPU", code_of(pid), SIGTRAP);
    check_long("no TF", flags(pid) & TRAP, 0);
    struct user_regs_struct registers;
    trace(GETREGS, pid, 0, (long)&registers);
    long saved;
    trace(PEEKDATA, pid, registers.rdx + offsetof(ucontext_t, uc_mcontext.gregs[REG_EFL]), (long)&saved);
    check_long("nor in its frame", saved & TRAP, 0);
    goes_on("a step in it", pid, STEP, 0, stopped_by(SIGTRAP));
    check_long("one instruction", rip(pid), (long)handler_start + 1);
    for (int i = 0; i < 20 && rip(pid) != before; i++) {
        trace(STEP, pid, 0, 0);
        if (event_of(pid) != stopped_by(SIGTRAP))
            break;
    }
    check_that("steps out of it", rip(pid) == before);
    check_long("by sigreturn", code_of(pid), TRAP_BRKPT);
    goes_on("and one more", pid, STEP, 0, stopped_by(SIGTRAP));
    check_that("which moves", rip(pid) != before);
    ends("handled", pid, 0, 3);

    pid = traced_child(signalled);
    goes_on("to a signal again", pid, CONT, 0, stopped_by(SIGUSR1));
    before = rip(pid);
    goes_on("a step without it", pid, STEP, 0, stopped_by(SIGTRAP));
    check_that("is a step", rip(pid) > before && rip(pid) < before + 16);
    ends("not handled", pid, 0, 4);
}

static int makes_a_child(void)
{
    pid_t pid;
    asm volatile("int3\nsyscall" : "=a"(pid) : "a"(SYS_fork) : "rcx", "r11", "memory");
    if (pid == 0)
        _exit(5);
    int status;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

static int executes(void)
{
    execl("/proc/self/exe", "debug", "end", NULL);
    return 1;
}

static void steps_over_calls(void)
{
    pid_t pid = traced_child(makes_a_child);
    goes_on("to a fork", pid, CONT, 0, stopped_by(SIGTRAP));
    goes_on("a step over it", pid, STEP, 0, stopped_by(SIGTRAP));
    check_that("a child", peek_user(pid, USER(regs.rax)) > pid);
    goes_on("to its end", pid, CONT, 0, stopped_by(SIGCHLD));
    ends("it did not step", pid, 0, 5);

    pid = traced_child(makes_a_child);
    goes_on("to that fork", pid, CONT, 0, stopped_by(SIGTRAP));
    trace(POKEUSER, pid, USER(regs.eflags), flags(pid) | TRAP);
    /* The child may die before its parent is back from the call. */
    bool over = false, told = false;
    for (int events = 0; events < 2; events++) {
        trace(CONT, pid, 0, 0);
        long event = event_of(pid);
        told |= event == stopped_by(SIGCHLD);
        if (event != stopped_by(SIGTRAP))
            continue;
        over = true;
        trace(POKEUSER, pid, USER(regs.eflags), flags(pid) & ~TRAP);
    }
    check_that("over it with TF", over);
    check_that("to the end of its child", told);
    ends("which had TF and died", pid, 0, 99);

    pid = traced_child(executes);
    trace(SETOPTIONS, pid, 0, TRACE_EXEC);
    goes_on("to a program", pid, CONT, 0, stopped_at(EVENT_EXEC));
    goes_on("a step into it", pid, STEP, 0, stopped_by(SIGTRAP));
    check_long("at its beginning", code_of(pid), TRAP_BRKPT);
    goes_on("another", pid, STEP, 0, stopped_by(SIGTRAP));
    check_long("in it", code_of(pid), TRAP_TRACE);
    ends("through it", pid, 0, 42);
}

static void emulated_steps(void)
{
    pid_t pid = traced_child(some_code);
    goes_on("to some code", pid, CONT, 0, stopped_by(SIGTRAP));
    for (int i = 0; i < 3; i++)
        goes_on("an emulated step", pid, SYSEMU_STEP, 0, stopped_by(SIGTRAP));
    goes_on("to its call", pid, SYSEMU_STEP, 0, stopped_by(SIGTRAP));
    check_long("which begins", peek_user(pid, USER(regs.rax)), -ENOSYS);
    check_long("as a call", code_of(pid), SIGTRAP);
    goes_on("over it", pid, SYSEMU_STEP, 0, stopped_by(SIGTRAP));
    check_long("one instruction", rip(pid), (long)after_getpid + 1);
    check_long("without a result", peek_user(pid, USER(regs.rax)), -ENOSYS);
    ends("to the end", pid, 0, 4);
}

/* A program's own TF. */

static volatile int traps, codes, flags_in_handler;
static volatile long places[40], saved_flags;

static void on_trap(int signal, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    long now;
    asm volatile("pushf; pop %0" : "=r"(now));
    flags_in_handler |= (now & TRAP) != 0;
    if (traps < 40)
        places[traps] = uc->uc_mcontext.gregs[REG_RIP];
    traps++;
    codes |= 1 << info->si_code;
    saved_flags = uc->uc_mcontext.gregs[REG_EFL];
}

static void own_flag(void)
{
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    sigaction(SIGTRAP, &action, NULL);
    asm volatile("sub $256, %%rsp\n" /* the red zone */
                 "pushf; orl $0x100, (%%rsp); popf\n"
                 "at_sysret: nop\n"
                 "mov $39, %%eax\n"
                 "syscall\n"
                 "nop\n"
                 "pushf; andl $~0x100, (%%rsp); popf\n"
                 "nop\n"
                 "add $256, %%rsp"
                 : : : "rax", "rcx", "r11", "memory");
    const int distances[] = {1, 6, 9, 10, 17, 18};
    check_long("traps", traps, COUNT_OF(distances));
    for (size_t i = 0; i < COUNT_OF(distances); i++)
        check_long("at", places[i] - (long)at_sysret, distances[i]);
    check_long("trace traps", codes, 1 << TRAP_TRACE);
    check_long("no TF in the handler", flags_in_handler, 0);
    traps = 0;
    asm volatile("int3" : : : "memory");
    check_long("a breakpoint instruction", traps, 1);
    signal(SIGTRAP, SIG_DFL);
}

/* Debug registers. */

static volatile long watched[4] __attribute__((aligned(32)));
static long source = 9;

static int touches(void)
{
    watched[1] = 5;
    long read = watched[1];
    asm volatile("nop" : : "r"(read));
    int ends[2];
    if (pipe(ends))
        return 1;
    write(ends[1], &source, 8);
    read = syscall(SYS_read, ends[0], watched, 8);
    asm volatile("int3");
    asm volatile("mov $2, %%ecx\nat_loop: nop\ndec %%ecx\njnz at_loop" : : : "ecx");
    return watched[0] == 9 ? 8 : 9;
}

enum { ONE = 0, TWO = 1, EIGHT = 2, FOUR = 3 };
enum { EXECUTE = 0, WRITE = 1, PORT = 2, ANY = 3 };

static long control(int number, int kind, int length)
{
    return 1l << number * 2 | (long)(kind | length << 2) << (16 + number * 4);
}

static void watchpoints(void)
{
    pid_t pid = traced_child(touches);
    check_long("nothing in DR6", peek_user(pid, DEBUG(6)), QUIET);
    check_long("nothing in DR7", peek_user(pid, DEBUG(7)), 0);
    check_long("an address", trace(POKEUSER, pid, DEBUG(1), (long)&watched[1]), 0);
    check_long("which is there", peek_user(pid, DEBUG(1)), (long)&watched[1]);
    check_long("stores", trace(POKEUSER, pid, DEBUG(7), control(1, WRITE, EIGHT)), 0);
    check_long("which are there", peek_user(pid, DEBUG(7)), control(1, WRITE, EIGHT));
    goes_on("a store", pid, CONT, 0, stopped_by(SIGTRAP));
    check_long("a watchpoint", code_of(pid), TRAP_HWBKPT);
    check_long("the second", peek_user(pid, DEBUG(6)), QUIET | 2);
    long value = 0;
    trace(PEEKDATA, pid, (long)&watched[1], (long)&value);
    check_long("it was stored", value, 5);
    trace(POKEUSER, pid, DEBUG(6), 0);
    check_long("DR6 is the tracer's", peek_user(pid, DEBUG(6)), 0);
    check_long("loads too", trace(POKEUSER, pid, DEBUG(7), control(1, ANY, EIGHT)), 0);
    goes_on("a load", pid, CONT, 0, stopped_by(SIGTRAP));
    check_long("a watchpoint again", code_of(pid), TRAP_HWBKPT);
    check_long("the same", peek_user(pid, DEBUG(6)), QUIET | 2);
    check_long("none", trace(POKEUSER, pid, DEBUG(7), 0), 0);
    check_long("another address", trace(POKEUSER, pid, DEBUG(3), (long)&watched[0]), 0);
    check_long("and stores", trace(POKEUSER, pid, DEBUG(7), control(3, WRITE, FOUR)), 0);
    goes_on("not by the kernel's stores", pid, CONT, 0, stopped_by(SIGTRAP));
    check_long("a breakpoint instruction", code_of(pid), SI_KERNEL);
    check_long("of which DR6 does not tell", peek_user(pid, DEBUG(6)), QUIET | 2);
    check_long("no store any more", trace(POKEUSER, pid, DEBUG(7), 0), 0);
    check_long("an instruction's address", trace(POKEUSER, pid, DEBUG(0), (long)at_loop), 0);
    check_long("an instruction", trace(POKEUSER, pid, DEBUG(7), control(0, EXECUTE, ONE)), 0);
    goes_on("that instruction", pid, CONT, 0, stopped_by(SIGTRAP));
    check_long("not executed yet", rip(pid), (long)at_loop);
    check_long("a breakpoint", code_of(pid), TRAP_HWBKPT);
    check_long("the first", peek_user(pid, DEBUG(6)), QUIET | 1);
    check_long("RF is set", flags(pid) & RESUME, RESUME);
    goes_on("and once more", pid, CONT, 0, stopped_by(SIGTRAP));
    check_long("at the same place", rip(pid), (long)at_loop);
    check_long("later", peek_user(pid, USER(regs.rcx)) & 0xffffffff, 1);
    ends("through all of them", pid, 0, 8);
}

static void refused(void)
{
    pid_t pid = traced_child(touches);
    check_long("DR4", trace(POKEUSER, pid, DEBUG(4), 0), -EIO);
    check_long("DR5", trace(POKEUSER, pid, DEBUG(5), 0), -EIO);
    check_long("DR4 reads", peek_user(pid, DEBUG(4)), 0);
    check_long("ports", trace(POKEUSER, pid, DEBUG(7), control(0, PORT, ONE)), -EINVAL);
    check_long("long instructions", trace(POKEUSER, pid, DEBUG(7), control(0, EXECUTE, FOUR)), -EINVAL);
    check_long("nothing was set", peek_user(pid, DEBUG(7)), 0);
    check_long("any address", trace(POKEUSER, pid, DEBUG(0), 0x1001), 0);
    check_long("but not for four bytes", trace(POKEUSER, pid, DEBUG(7), control(0, WRITE, FOUR)), -EINVAL);
    check_long("for one", trace(POKEUSER, pid, DEBUG(7), control(0, WRITE, ONE)), 0);
    check_long("moved", trace(POKEUSER, pid, DEBUG(0), 0x1003), 0);
    check_long("disabled", trace(POKEUSER, pid, DEBUG(7), 0), 0);
    check_long("a kernel address", trace(POKEUSER, pid, DEBUG(0), -4096), -EINVAL);
    check_long("one just below", trace(POKEUSER, pid, DEBUG(0), 0x7fffffffeff8), 0);
    check_long("eight bytes of it", trace(POKEUSER, pid, DEBUG(7), control(0, WRITE, EIGHT)), 0);
    dispose(pid);
}

static int lends(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        watched[2] = 1;
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    if (status != 0)
        return 1;
    for (int i = 0; i < 3; i++) {
        sched_yield();
        usleep(1000);
    }
    watched[2] = 2;
    return executes();
}

static void whose(void)
{
    pid_t pid = traced_child(lends), other = traced_child(lends);
    trace(POKEUSER, pid, DEBUG(2), (long)&watched[2]);
    check_long("a child's store", trace(POKEUSER, pid, DEBUG(7), control(2, WRITE, EIGHT)), 0);
    goes_on("does not trap", pid, CONT, 0, stopped_by(SIGCHLD));
    goes_on("nor another process's", other, CONT, 0, stopped_by(SIGCHLD));
    trace(CONT, other, 0, 0);
    goes_on("but its own", pid, CONT, 0, stopped_by(SIGTRAP));
    check_long("as a watchpoint", code_of(pid), TRAP_HWBKPT);
    goes_on("until it executes", pid, CONT, 0, stopped_by(SIGTRAP));
    check_long("no DR2", peek_user(pid, DEBUG(2)), 0);
    check_long("no DR7", peek_user(pid, DEBUG(7)), 0);
    check_long("no DR6", peek_user(pid, DEBUG(6)), QUIET);
    ends("then it ends", pid, 0, 42);
    check_long("the other executes too", event_of(other), stopped_by(SIGTRAP));
    ends("and ends too", other, 0, 42);
}

int main(int count, char **arguments)
{
    if (count > 1 && strcmp(arguments[1], "end") == 0)
        return 42;
    steps();
    own_flag_by_tracer();
    handlers();
    steps_over_calls();
    emulated_steps();
    check_in_child("its own TF", own_flag);
    watchpoints();
    refused();
    whose();
    return check_end("debug");
}
