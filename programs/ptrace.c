/*
 * ptrace: who may trace whom, stops at signals, memory and registers of another process, system calls,
 * events, ends.
 *
 * Source: ptrace(2), and what Linux 6.1 does where the page is silent. Steps and debug registers are
 * debug.c's, group stops and threads traced.c's.
 */
#include "tracing.h"

#include <fcntl.h>
#include <sys/prctl.h>

static volatile int handled, handled_value;

static void note(int signal, siginfo_t *info, void *context)
{
    handled = signal;
    handled_value = info->si_value.sival_int;
}

static void handle(int signal)
{
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
    sigaction(signal, &action, NULL);
}

/* Signals. */

static int two_signals(void)
{
    handle(SIGUSR1);
    handle(SIGUSR2);
    raise_here(SIGUSR1);
    return handled == SIGUSR2 ? 20 + handled_value : handled;
}

static void signals(void)
{
    pid_t pid = traced_child(two_signals);
    goes_on("a signal stops", pid, CONT, 0, stopped_by(SIGUSR1));
    siginfo_t info = info_of(pid);
    check_long("its number", info.si_signo, SIGUSR1);
    check_long("its code", info.si_code, SI_TKILL);
    check_that("its sender", info.si_pid == pid);
    ends("taken away", pid, 0, 0);

    pid = traced_child(two_signals);
    goes_on("a signal stops again", pid, CONT, 0, stopped_by(SIGUSR1));
    ends("delivered", pid, SIGUSR1, SIGUSR1);

    pid = traced_child(two_signals);
    goes_on("a signal to be changed", pid, CONT, 0, stopped_by(SIGUSR1));
    ends("another one delivered", pid, SIGUSR2, 20);

    pid = traced_child(two_signals);
    goes_on("a signal to be changed with details", pid, CONT, 0, stopped_by(SIGUSR1));
    info = info_of(pid);
    info.si_signo = SIGUSR2;
    info.si_code = SI_QUEUE;
    info.si_value.sival_int = 7;
    check_long("details", trace(SETSIGINFO, pid, 0, (long)&info), 0);
    ends("changed with details", pid, SIGUSR2, 27);

    pid = traced_child(two_signals);
    check_long("no such signal", trace(CONT, pid, 0, 65), -EIO);
    goes_on("killed by the tracer's signal", pid, CONT, SIGTERM, SIGTERM);
}

static int ignored(void)
{
    signal(SIGUSR1, SIG_IGN);
    raise_here(SIGUSR1);
    raise_here(SIGCHLD);
    return 3;
}

static void ignored_signals(void)
{
    pid_t pid = traced_child(ignored);
    goes_on("an ignored signal stops", pid, CONT, 0, stopped_by(SIGUSR1));
    goes_on("one without effect stops", pid, CONT, SIGUSR1, stopped_by(SIGCHLD));
    ends("and does nothing", pid, SIGCHLD, 3);
}

static int faults(void)
{
    asm volatile("movb $0, 8");
    return 4;
}

static void forced_signals(void)
{
    pid_t pid = traced_child(faults);
    goes_on("a fault stops", pid, CONT, 0, stopped_by(SIGSEGV));
    siginfo_t info = info_of(pid);
    check_long("its code", info.si_code, SEGV_MAPERR);
    check_long("its address", (long)info.si_addr, 8);
    check_long("no call is under way", peek_user(pid, USER(regs.orig_rax)), -1);
    goes_on("taken away, it comes again", pid, CONT, 0, stopped_by(SIGSEGV));
    goes_on("delivered, it kills", pid, CONT, SIGSEGV, SIGSEGV);
}

static int masked(void)
{
    handle(SIGUSR1);
    raise_here(SIGUSR1);
    sigset_t set;
    sigprocmask(SIG_SETMASK, NULL, &set);
    return sigismember(&set, SIGUSR2) + (handled ? 2 : 0);
}

static void masks(void)
{
    pid_t pid = traced_child(masked);
    uint64_t set = 0;
    check_long("the mask's size", trace(GETSIGMASK, pid, 4, (long)&set), -EINVAL);
    goes_on("to a signal", pid, CONT, 0, stopped_by(SIGUSR1));
    check_long("the mask", trace(GETSIGMASK, pid, 8, (long)&set), 0);
    check_long("is empty", (long)set, 0);
    set = ~0ull;
    check_long("a mask", trace(SETSIGMASK, pid, 8, (long)&set), 0);
    set = 0;
    trace(GETSIGMASK, pid, 8, (long)&set);
    check_long("not of all", (long)~set, 1 << (SIGKILL - 1) | 1 << (SIGSTOP - 1));
    ends("a blocked one waits", pid, SIGUSR1, 1);
}

/* Memory. */

static long cell[2] = {0x1122334455667788, 0x0102030405060708};
static const long constant[2] = {11, 12};
static char *pages;

static int looks(void)
{
    return cell[0] == 5 && *(volatile const long *)constant == 13 ? 6 : 7;
}

static void memory(void)
{
    pages = mmap(NULL, 5 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(pages, 0x41, 5 * 4096);
    mprotect(pages + 4096, 4096, PROT_NONE);
    char *shared = mmap(NULL, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    munmap(pages + 3 * 4096, 4096);
    pid_t pid = traced_child(looks);
    long word = 0;
    check_long("peek", trace(PEEKDATA, pid, (long)cell, (long)&word), 0);
    check_long("peeked", word, 0x1122334455667788);
    check_long("peek between words", trace(PEEKTEXT, pid, (long)cell + 4, (long)&word), 0);
    check_long("peeked between words", word, 0x0506070811223344);
    check_long("peek nothing", trace(PEEKDATA, pid, (long)pages + 3 * 4096, (long)&word), -EIO);
    check_long("peek over an end", trace(PEEKDATA, pid, (long)pages + 3 * 4096 - 4, (long)&word), -EIO);
    check_long("peek the kernel", trace(PEEKDATA, pid, -4096, (long)&word), -EIO);
    check_long("peek to nowhere", trace(PEEKDATA, pid, (long)cell, 8), -EFAULT);
    check_long("peek without rights", trace(PEEKDATA, pid, (long)pages + 4096, (long)&word), 0);
    check_long("peeked without rights", word, 0x4141414141414141);
    check_long("poke without rights", trace(POKEDATA, pid, (long)pages + 4096, 9), 0);
    trace(PEEKDATA, pid, (long)pages + 4096, (long)&word);
    check_long("poked without rights", word, 9);
    check_long("poke two pages", trace(POKEDATA, pid, (long)pages + 4092, 0x7766554433221100), 0);
    trace(PEEKDATA, pid, (long)pages + 4092, (long)&word);
    check_long("poked two pages", word, 0x7766554433221100);
    check_long("poke what is shared", trace(POKEDATA, pid, (long)shared, 1), -EIO);
    check_long("poke nothing", trace(POKEDATA, pid, (long)pages + 3 * 4096, 1), -EIO);
    check_long("poke", trace(POKEDATA, pid, (long)cell, 5), 0);
    check_long("poke constants", trace(POKETEXT, pid, (long)constant, 13), 0);
    trace(PEEKTEXT, pid, (long)looks, (long)&word);
    check_long("poke text", trace(POKETEXT, pid, (long)looks, word), 0);
    check_long("not our constants", *(volatile const long *)constant, 11);
    check_long("nor our variables", cell[0], 0x1122334455667788);
    check_long("nor our page", pages[4092], 0x41);
    ends("poked", pid, 0, 6);
}

static void other_memory(void)
{
    static char buffer[8192 + 8];
    pid_t pid = traced_child(looks);
    struct iovec local[2] = {{buffer, 6}, {buffer + 6, 10}}, remote = {cell, 16};
    check_long("read 16 bytes", result(process_vm_readv(pid, local, 2, &remote, 1, 0)), 16);
    check_long("which are those", memcmp(buffer, cell, 16), 0);
    struct iovec whole = {buffer, 8192}, beyond = {pages + 2 * 4096, 8192};
    check_long("read up to an end", result(process_vm_readv(pid, &whole, 1, &beyond, 1, 0)), 4096);
    beyond.iov_base = pages + 4096;
    check_long("not without rights", result(process_vm_readv(pid, &whole, 1, &beyond, 1, 0)), -EFAULT);
    long value = 5;
    struct iovec five = {&value, 8};
    remote.iov_len = 8;
    check_long("write 8 bytes", result(process_vm_writev(pid, &five, 1, &remote, 1, 0)), 8);
    struct iovec read_only = {(void *)constant, 8};
    check_long("not to constants", result(process_vm_writev(pid, &five, 1, &read_only, 1, 0)), -EFAULT);
    check_long("flags", result(process_vm_readv(pid, &five, 1, &remote, 1, 1)), -EINVAL);
    check_long("nobody", result(process_vm_readv(999999, &five, 1, &remote, 1, 0)), -ESRCH);
    long thirteen = 13;
    trace(POKETEXT, pid, (long)constant, thirteen);
    ends("written", pid, 0, 6);
}

/* Registers. */

static int end_with_rbx(void)
{
    long out;
    asm volatile("mov $60, %%ebx; int3; mov %%rbx, %0" : "=r"(out) : : "rbx");
    return (int)out;
}

static void registers(void)
{
    pid_t pid = traced_child(end_with_rbx);
    goes_on("to a breakpoint", pid, CONT, 0, stopped_by(SIGTRAP));
    check_long("its code", info_of(pid).si_code, SI_KERNEL);
    struct user_regs_struct all, again;
    check_long("all registers", trace(GETREGS, pid, 0, (long)&all), 0);
    check_long("rbx", all.rbx, 60);
    check_long("cs", all.cs, 0x33);
    check_long("ss", all.ss, 0x2b);
    check_long("ds", all.ds, 0);
    check_long("no call", all.orig_rax, -1);
    check_long("one register", peek_user(pid, USER(regs.rbx)), 60);
    check_long("not aligned", peek_user(pid, USER(regs.rbx) + 4), -EIO);
    check_long("beyond", peek_user(pid, 928), -EIO);
    check_long("before", peek_user(pid, -8), -EIO);
    check_long("of no use", peek_user(pid, USER(u_tsize)), 0);
    check_long("write what is of no use", trace(POKEUSER, pid, USER(u_tsize), 1), -EIO);
    check_long("write one", trace(POKEUSER, pid, USER(regs.rbx), 61), 0);
    check_long("a kernel selector", trace(POKEUSER, pid, USER(regs.cs), 0x10), -EIO);
    check_long("no code selector", trace(POKEUSER, pid, USER(regs.cs), 0), -EIO);
    check_long("no stack selector", trace(POKEUSER, pid, USER(regs.ss), 0), -EIO);
    check_long("a data selector of ring 1", trace(POKEUSER, pid, USER(regs.ds), 0x29), -EIO);
    check_long("a data selector", trace(POKEUSER, pid, USER(regs.ds), 0x2b), 0);
    check_long("which is there", peek_user(pid, USER(regs.ds)), 0x2b);
    check_long("a kernel's base", trace(POKEUSER, pid, USER(regs.gs_base), -4096), -EIO);
    check_long("a base", trace(POKEUSER, pid, USER(regs.gs_base), 0x1000), 0);
    check_long("which is there too", peek_user(pid, USER(regs.gs_base)), 0x1000);
    long base = 0;
    check_long("by the other way", trace(ARCH_PRCTL, pid, (long)&base, 0x1004), 0);
    check_long("the same", base, 0x1000);
    check_long("set by it", trace(ARCH_PRCTL, pid, 0, 0x1001), 0);
    check_long("set", peek_user(pid, USER(regs.gs_base)), 0);
    check_long("set too far", trace(ARCH_PRCTL, pid, -4096, 0x1001), -EPERM);
    check_long("any flags", trace(POKEUSER, pid, USER(regs.eflags), -1 & ~0x100), 0);
    check_long("some of them", peek_user(pid, USER(regs.eflags)) & ~2, 0x54ed5 & ~0x100);
    trace(POKEUSER, pid, USER(regs.eflags), 0);
    check_long("none", peek_user(pid, USER(regs.eflags)), 0x202);
    trace(GETREGS, pid, 0, (long)&again);
    struct iovec set = {&all, sizeof all};
    again.rbx = 62;
    check_long("all at once", trace(SETREGS, pid, 0, (long)&again), 0);
    check_long("as a set", trace(GETREGSET, pid, 1, (long)&set), 0);
    check_long("its length", set.iov_len, sizeof all);
    check_long("what was set", all.rbx, 62);
    set.iov_len = 16;
    check_long("part of a set", trace(GETREGSET, pid, 1, (long)&set), 0);
    check_long("that part", set.iov_len, 16);
    set.iov_len = 12;
    check_long("no whole words", trace(GETREGSET, pid, 1, (long)&set), -EINVAL);
    set.iov_len = 8;
    check_long("no such set", trace(GETREGSET, pid, 0x777, (long)&set), -EINVAL);
    set.iov_base = (void *)8;
    check_long("to nowhere", trace(GETREGSET, pid, 1, (long)&set), -EFAULT);
    check_long("from nowhere", trace(SETREGS, pid, 0, 8), -EFAULT);
    ends("with the register", pid, 0, 62);
}

static int end_with_xmm(void)
{
    long out;
    asm volatile("mov $70, %%eax; movq %%rax, %%xmm9; int3; movq %%xmm9, %0" : "=r"(out) : : "rax", "xmm9");
    return (int)out;
}

static void floating_point(void)
{
    static unsigned char image[16384] __attribute__((aligned(64)));
    pid_t pid = traced_child(end_with_xmm);
    goes_on("to a breakpoint with xmm9", pid, CONT, 0, stopped_by(SIGTRAP));
    struct user_fpregs_struct legacy;
    check_long("FXSAVE's image", trace(GETFPREGS, pid, 0, (long)&legacy), 0);
    check_long("xmm9", legacy.xmm_space[36], 70);
    check_long("mxcsr", legacy.mxcsr, 0x1f80);
    check_long("control word", legacy.cwd, 0x37f);
    legacy.xmm_space[36] = 71;
    check_long("set", trace(SETFPREGS, pid, 0, (long)&legacy), 0);
    legacy.mxcsr = 0xffff0000;
    check_long("a bad mxcsr", trace(SETFPREGS, pid, 0, (long)&legacy), -EINVAL);
    struct iovec set = {&legacy, sizeof legacy};
    check_long("as a set", trace(GETREGSET, pid, 2, (long)&set), 0);
    check_long("its length", set.iov_len, 512);
    check_long("xmm9 as set", legacy.xmm_space[36], 71);
    set.iov_len = 256;
    check_long("part cannot be set", trace(SETREGSET, pid, 2, (long)&set), -EINVAL);
    set = (struct iovec){image, sizeof image};
    check_long("XSAVE's image", trace(GETREGSET, pid, 0x202, (long)&set), 0);
    check_that("has a header", set.iov_len >= 576);
    check_long("with x87 and SSE", image[512] & 2, 2);
    uint64_t components;
    memcpy(&components, image + 464, 8);
    check_long("and what there is", components & 3, 3);
    check_long("xmm9 there", image[160 + 9 * 16], 71);
    image[160 + 9 * 16] = 72;
    check_long("set whole", trace(SETREGSET, pid, 0x202, (long)&set), 0);
    image[512 + 16] = 1;
    check_long("a bad header", trace(SETREGSET, pid, 0x202, (long)&set), -EINVAL);
    image[512 + 16] = 0;
    image[519] = 0x40;
    check_long("no such component", trace(SETREGSET, pid, 0x202, (long)&set), -EINVAL);
    set.iov_len -= 8;
    check_long("not whole", trace(SETREGSET, pid, 0x202, (long)&set), -EFAULT);
    ends("with xmm9", pid, 0, 72);
}

/* System calls. */

static long call_3(long number, long a, long b, long c)
{
    long out;
    asm volatile("syscall" : "=a"(out) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return out;
}

static int calls(void)
{
    long first = call_3(SYS_getuid, 1, 2, 3);
    long second = call_3(SYS_getppid, 4, 5, 6);
    return first == 77 && second == -ENOSYS ? 8 : 9;
}

struct call_info {
    uint8_t op, pad[3];
    uint32_t arch;
    uint64_t ip, sp;
    union {
        struct { uint64_t number, arguments[6]; } entry;
        struct { int64_t value; uint8_t is_error; } exit;
    };
};

static void system_calls(void)
{
    pid_t pid = traced_child(calls);
    struct call_info info;
    check_long("what kind of stop", trace(GET_SYSCALL_INFO, pid, sizeof info, (long)&info), 24);
    check_long("none", info.op, 0);
    check_long("of 64 bits", info.arch, 0xc000003e);
    long message = 1;
    goes_on("a call begins", pid, SYSCALL, 0, stopped_by(SIGTRAP));
    check_long("its code", info_of(pid).si_code, SIGTRAP);
    check_long("a message", trace(GETEVENTMSG, pid, 0, (long)&message), 0);
    check_long("entry", message, 1);
    check_long("its number", peek_user(pid, USER(regs.orig_rax)), SYS_getuid);
    check_long("no result yet", peek_user(pid, USER(regs.rax)), -ENOSYS);
    check_long("an argument", peek_user(pid, USER(regs.rsi)), 2);
    check_long("good", trace(SETOPTIONS, pid, 0, SYSGOOD), 0);
    goes_on("it ends", pid, SYSCALL, 0, stopped_by(SIGTRAP | 0x80));
    check_long("its code now", info_of(pid).si_code, SIGTRAP | 0x80);
    check_long("its result", peek_user(pid, USER(regs.rax)), 0);
    check_long("its end", trace(GET_SYSCALL_INFO, pid, sizeof info, (long)&info), 33);
    check_long("is one", info.op, 2);
    check_long("with a value", info.exit.value, 0);
    check_long("that is no error", info.exit.is_error, 0);
    trace(POKEUSER, pid, USER(regs.rax), 77);
    goes_on("the next begins", pid, SYSCALL, 0, stopped_by(SIGTRAP | 0x80));
    check_long("its beginning", trace(GET_SYSCALL_INFO, pid, sizeof info, (long)&info), 80);
    check_long("is one too", info.op, 1);
    check_long("with a number", info.entry.number, SYS_getppid);
    check_long("and arguments", info.entry.arguments[2], 6);
    check_that("its place", info.ip == (uint64_t)peek_user(pid, USER(regs.rip)));
    check_long("told in part", trace(GET_SYSCALL_INFO, pid, 8, (long)&info), 80);
    check_long("left out", trace(POKEUSER, pid, USER(regs.orig_rax), -1), 0);
    goes_on("it ends too", pid, SYSCALL, 0, stopped_by(SIGTRAP | 0x80));
    check_long("without a result", peek_user(pid, USER(regs.rax)), -ENOSYS);
    goes_on("the last begins", pid, SYSCALL, 0, stopped_by(SIGTRAP | 0x80));
    check_long("which is exit", peek_user(pid, USER(regs.orig_rax)), SYS_exit_group);
    check_long("with its argument", peek_user(pid, USER(regs.rdi)), 8);
    trace(POKEUSER, pid, USER(regs.rdi), 10);
    ends("another argument", pid, 0, 10);
}

static int one_call(void)
{
    return call_3(SYS_getuid, 0, 0, 0) == 55;
}

static int int80(void)
{
    long out;
    asm volatile("int $0x80" : "=a"(out) : "a"(0xffffffff00000018), "b"(1), "c"(0x700000002), "d"(3) : "r8", "r9", "r10", "r11", "memory");
    return out == 44 ? 2 : 3;
}

static void emulation(void)
{
    pid_t pid = traced_child(one_call);
    goes_on("an emulated call", pid, SYSEMU, 0, stopped_by(SIGTRAP));
    check_long("its number", peek_user(pid, USER(regs.orig_rax)), SYS_getuid);
    check_long("no result", peek_user(pid, USER(regs.rax)), -ENOSYS);
    trace(POKEUSER, pid, USER(regs.rax), 55);
    goes_on("the next, without an end between", pid, SYSEMU, 0, stopped_by(SIGTRAP));
    check_long("is exit", peek_user(pid, USER(regs.orig_rax)), SYS_exit_group);
    check_long("with what was emulated", peek_user(pid, USER(regs.rdi)), 1);
    dispose(pid);

    pid = traced_child(int80);
    trace(SETOPTIONS, pid, 0, SYSGOOD);
    goes_on("INT 80h", pid, SYSCALL, 0, stopped_by(SIGTRAP | 0x80));
    check_long("its number of 32 bits", peek_user(pid, USER(regs.orig_rax)), 24);
    check_long("no result of it", peek_user(pid, USER(regs.rax)), -ENOSYS);
    check_long("its argument", peek_user(pid, USER(regs.rbx)), 1);
    struct call_info info;
    trace(GET_SYSCALL_INFO, pid, sizeof info, (long)&info);
    check_long("of 32 bits", info.arch, 0x40000003);
    check_long("an argument of it", info.entry.arguments[1], 0x700000002);
    goes_on("INT 80h ends", pid, SYSCALL, 0, stopped_by(SIGTRAP | 0x80));
    trace(POKEUSER, pid, USER(regs.rax), 44);
    ends("with another result", pid, 0, 2);

    pid = traced_child(int80);
    goes_on("INT 80h emulated", pid, SYSEMU, 0, stopped_by(SIGTRAP));
    check_long("no result there", peek_user(pid, USER(regs.rax)), -ENOSYS);
    ends("left out", pid, 0, 3);
}

static int sleeps(void)
{
    handle(SIGUSR1);
    struct timespec time = {1, 0};
    return call_3(SYS_nanosleep, (long)&time, (long)&time, 0) == -EINTR ? 5 : 6;
}

static pid_t interrupted_sleeper(long *rip)
{
    pid_t pid = traced_child(sleeps);
    trace(SETOPTIONS, pid, 0, SYSGOOD);
    /* C libraries install a handler in more calls or fewer. */
    for (int i = 0; i < 20 && peek_user(pid, USER(regs.orig_rax)) != SYS_nanosleep; i++) {
        trace(SYSCALL, pid, 0, 0);
        event_of(pid);
    }
    check_long("which is one", peek_user(pid, USER(regs.orig_rax)), SYS_nanosleep);
    trace(CONT, pid, 0, 0);
    wait_for_sleep(pid);
    kill(pid, SIGUSR1);
    check_long("interrupted", event_of(pid), stopped_by(SIGUSR1));
    check_long("to go on", peek_user(pid, USER(regs.rax)), -516);
    check_long("a call", peek_user(pid, USER(regs.orig_rax)), SYS_nanosleep);
    *rip = peek_user(pid, USER(regs.rip));
    return pid;
}

static void restarts(void)
{
    long rip;
    pid_t pid = interrupted_sleeper(&rip);
    goes_on("goes on", pid, SYSCALL, 0, stopped_by(SIGTRAP | 0x80));
    check_long("as restart_syscall", peek_user(pid, USER(regs.orig_rax)), SYS_restart_syscall);
    check_that("at its place", peek_user(pid, USER(regs.rip)) == rip);
    ends("sleeps to the end", pid, 0, 6);
    pid = interrupted_sleeper(&rip);
    ends("ends with a handler", pid, SIGUSR1, 5);
    pid = interrupted_sleeper(&rip);
    trace(POKEUSER, pid, USER(regs.orig_rax), -1);
    trace(POKEUSER, pid, USER(regs.rax), -EINTR);
    ends("ends by the tracer", pid, 0, 5);
}

/* A debugger's call: registers of an interrupted call are put away, and brought back at a breakpoint. */
extern const char breakpoint[];
asm(".text\nbreakpoint: int3; ret");

static void inferior_calls(void)
{
    long rip;
    pid_t pid = interrupted_sleeper(&rip);
    struct user_regs_struct kept, used;
    trace(GETREGS, pid, 0, (long)&kept);
    used = kept;
    used.rip = (long)breakpoint;
    used.orig_rax = -1;
    trace(SETREGS, pid, 0, (long)&used);
    goes_on("somewhere else", pid, CONT, 0, stopped_by(SIGTRAP));
    check_long("at the breakpoint", peek_user(pid, USER(regs.rip)), (long)breakpoint + 1);
    check_long("in no call", peek_user(pid, USER(regs.orig_rax)), -1);
    kept.rax = -514;
    check_long("back", trace(SETREGS, pid, 0, (long)&kept), 0);
    trace(SETOPTIONS, pid, 0, SYSGOOD);
    goes_on("the call anew", pid, SYSCALL, 0, stopped_by(SIGTRAP | 0x80));
    check_long("the same call", peek_user(pid, USER(regs.orig_rax)), SYS_nanosleep);
    check_that("at its place", peek_user(pid, USER(regs.rip)) == rip);
    ends("to its end", pid, 0, 6);
}

/* Events. */

static int forks(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(3);
    int status;
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status) + 1;
}

static long message_of(pid_t pid)
{
    long message = -1;
    trace(GETEVENTMSG, pid, 0, (long)&message);
    return message;
}

static void fork_events(void)
{
    pid_t pid = traced_child(forks);
    check_long("unknown options", trace(SETOPTIONS, pid, 0, 0x400), -EINVAL);
    check_long("options", trace(SETOPTIONS, pid, 0, TRACE_FORK | TRACE_EXIT), 0);
    goes_on("a fork", pid, CONT, 0, stopped_at(EVENT_FORK));
    check_long("its code", info_of(pid).si_code, EVENT_FORK << 8 | SIGTRAP);
    pid_t child = (pid_t)message_of(pid);
    check_that("a child", child > pid);
    check_long("which is stopped", event_of(child), stopped_by(SIGSTOP));
    check_long("by nobody", info_of(child).si_code, SI_USER);
    check_long("with a result", peek_user(child, USER(regs.rax)), 0);
    goes_on("it ends", child, CONT, 0, stopped_at(EVENT_EXIT));
    check_long("with that status", message_of(child), 3 << 8);
    goes_on("has ended", child, CONT, 0, 3 << 8);
    goes_on("SIGCHLD", pid, CONT, 0, stopped_by(SIGCHLD));
    goes_on("its maker ends", pid, CONT, 0, stopped_at(EVENT_EXIT));
    check_long("with another status", message_of(pid), 4 << 8);
    ends("and has ended", pid, 0, 4);
}

static int vforks(void)
{
    pid_t pid = vfork();
    if (pid == 0)
        _exit(3);
    int status;
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status) + 2;
}

static void vfork_events(void)
{
    pid_t pid = traced_child(vforks);
    trace(SETOPTIONS, pid, 0, TRACE_VFORK | TRACE_VFORKDONE);
    goes_on("a vfork", pid, CONT, 0, stopped_at(EVENT_VFORK));
    pid_t child = (pid_t)message_of(pid);
    check_long("its child stops", event_of(child), stopped_by(SIGSTOP));
    trace(CONT, pid, 0, 0);
    ends("its child ends", child, 0, 3);
    check_long("it goes on", event_of(pid), stopped_at(EVENT_VFORK_DONE));
    check_that("after that child", message_of(pid) == child);
    goes_on("SIGCHLD of vfork", pid, CONT, 0, stopped_by(SIGCHLD));
    ends("the end of vfork", pid, 0, 5);
}

static int executes(void)
{
    execl("/proc/self/exe", "ptrace", "end", NULL);
    return 1;
}

static void exec_events(void)
{
    pid_t pid = traced_child(executes);
    goes_on("a program, without options", pid, CONT, 0, stopped_by(SIGTRAP));
    check_long("as if sent", info_of(pid).si_code, SI_USER);
    check_long("its call has ended", peek_user(pid, USER(regs.rax)), 0);
    check_long("its number", peek_user(pid, USER(regs.orig_rax)), SYS_execve);
    check_long("flags", peek_user(pid, USER(regs.eflags)) & ~2, 0x200);
    ends("and its end", pid, 0, 42);

    pid = traced_child(executes);
    trace(SETOPTIONS, pid, 0, TRACE_EXEC | SYSGOOD);
    goes_on("a program", pid, CONT, 0, stopped_at(EVENT_EXEC));
    check_that("of that process", message_of(pid) == pid);
    check_long("its call has not ended", peek_user(pid, USER(regs.rax)), -ENOSYS);
    check_long("it is known", peek_user(pid, USER(regs.orig_rax)), SYS_execve);
    goes_on("now it has", pid, SYSCALL, 0, stopped_by(SIGTRAP | 0x80));
    check_long("with a result", peek_user(pid, USER(regs.rax)), 0);
    ends("and the other's end", pid, 0, 42);
}

static int exits_or_dies(void)
{
    raise_here(SIGTERM);
    return 5;
}

static void exit_events(void)
{
    pid_t pid = traced_child(exits_or_dies);
    trace(SETOPTIONS, pid, 0, TRACE_EXIT);
    goes_on("a deadly signal", pid, CONT, 0, stopped_by(SIGTERM));
    goes_on("an end by it", pid, CONT, SIGTERM, stopped_at(EVENT_EXIT));
    check_long("its status", message_of(pid), SIGTERM);
    goes_on("the end by it", pid, CONT, 0, SIGTERM);
    pid = traced_child(exits_or_dies);
    trace(SETOPTIONS, pid, 0, TRACE_EXIT);
    kill(pid, SIGKILL);
    check_long("killed, it stops at its end", event_of(pid), stopped_at(EVENT_EXIT));
    check_long("by SIGKILL", message_of(pid), SIGKILL);
    goes_on("the end of it", pid, CONT, 0, SIGKILL);
    pid = traced_child(exits_or_dies);
    check_long("PTRACE_KILL", trace(KILL, pid, 0, 0), 0);
    check_long("kills", event_of(pid), SIGKILL);
}

/* Relations. */

static int rests(void)
{
    while (pause() < 0)
        ;
    return 0;
}

static pid_t plain_child(int (*body)(void))
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(body());
    return pid;
}

static long tracer_of(pid_t pid)
{
    char path[64], text[2048];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    int file = open(path, O_RDONLY);
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    text[length > 0 ? length : 0] = 0;
    char *line = strstr(text, "TracerPid:");
    char *state = strstr(text, "State:");
    return line && state ? strtol(line + 10, NULL, 10) * 1000 + state[7] : -1;
}

static void attaching(void)
{
    check_long("nobody", trace(ATTACH, 999999, 0, 0), -ESRCH);
    check_long("oneself", trace(ATTACH, getpid(), 0, 0), -EPERM);
    check_long("requests to nobody", trace(CONT, 999999, 0, 0), -ESRCH);
    pid_t pid = plain_child(rests);
    wait_for_sleep(pid);
    check_long("one that is not traced", trace(CONT, pid, 0, 0), -ESRCH);
    check_that("no tracer", tracer_of(pid) == 'S');
    check_long("attach", trace(ATTACH, pid, 0, 0), 0);
    check_long("it stops", event_of(pid), stopped_by(SIGSTOP));
    check_long("by the kernel", info_of(pid).si_code, SI_KERNEL);
    check_that("a tracer", tracer_of(pid) == getpid() * 1000l + 't');
    check_long("twice", trace(ATTACH, pid, 0, 0), -EPERM);
    check_long("an unknown request", trace(0x5555, pid, 0, 0), -EIO);
    trace(CONT, pid, 0, 0);
    wait_a_little();
    check_long("one that runs", peek_user(pid, 0), -ESRCH);
    kill(pid, SIGUSR1);
    check_long("a signal", event_of(pid), stopped_by(SIGUSR1));
    check_long("no such signal to leave with", trace(DETACH, pid, 0, 99), -EIO);
    check_long("detach", trace(DETACH, pid, 0, 0), 0);
    wait_for_sleep(pid);
    check_that("no tracer again", tracer_of(pid) == 'S');
    int status;
    check_long("it runs", waitpid(pid, &status, WNOHANG), 0);
    check_long("attach again", trace(ATTACH, pid, 0, 0), 0);
    check_long("stops again", event_of(pid), stopped_by(SIGSTOP));
    check_long("detach with a signal", trace(DETACH, pid, 0, SIGTERM), 0);
    check_long("of which it dies", event_of(pid), SIGTERM);
}

static void me_twice(void)
{
    check_long("traced", trace(TRACEME, 0, 0, 0), 0);
    check_long("traced twice", trace(TRACEME, 0, 0, 0), -EPERM);
}

static void not_allowed(void)
{
    pid_t root = plain_child(rests);
    pid_t tight = fork();
    if (tight == 0) {
        setgid(1000);
        setuid(1000);
        prctl(PR_SET_DUMPABLE, 0);
        _exit(rests());
    }
    pid_t equal = fork();
    if (equal == 0) {
        setgid(1000);
        setuid(1000);
        prctl(PR_SET_DUMPABLE, 1);
        _exit(rests());
    }
    wait_for_sleep(tight);
    wait_for_sleep(equal);
    pid_t pid = fork();
    if (pid == 0) {
        check_failures = 0;
        setgid(1000);
        setuid(1000);
        long word;
        struct iovec local = {&word, 8}, remote = {cell, 8};
        check_long("another's", trace(ATTACH, root, 0, 0), -EPERM);
        check_long("another's memory", result(process_vm_readv(root, &local, 1, &remote, 1, 0)), -EPERM);
        check_long("one that hides", trace(ATTACH, tight, 0, 0), -EPERM);
        check_long("one's own kind", trace(ATTACH, equal, 0, 0), 0);
        _exit(check_failures);
    }
    check_long("without rights", event_of(pid), 0);
    dispose(root);
    dispose(tight);
    dispose(equal);
}

static void tracers_end(void)
{
    pid_t pid = plain_child(rests);
    for (int with = 0; with < 2; with++) {
        pid_t tracer = fork();
        if (tracer == 0) {
            trace(SEIZE, pid, 0, with ? EXITKILL : 0);
            _exit(0);
        }
        event_of(tracer);
        int status = 0;
        bool has_ended = false;
        for (int i = 0; i < (with ? 1000 : 1) && !has_ended; i++) {
            wait_a_little();
            has_ended = waitpid(pid, &status, WNOHANG) == pid;
        }
        check_long(with ? "killed with its tracer" : "lives on without", has_ended, with);
    }
}

static int traced_now[2];

static int parents_end(void)
{
    char byte;
    return read(traced_now[0], &byte, 1) == 1 ? 6 : 7;
}

/* A tracer that is not the parent hears of an end first. */
static void two_who_wait(void)
{
    int ready[2], go[2];
    if (pipe(ready) || pipe(go) || pipe(traced_now))
        return;
    pid_t pid = plain_child(parents_end);
    pid_t tracer = fork();
    if (tracer == 0) {
        check_failures = 0;
        trace(SEIZE, pid, 0, 0);
        write(traced_now[1], "", 1);
        siginfo_t info = {0};
        check_long("seen and left", result(waitid(P_PID, pid, &info, WEXITED | WNOWAIT | ANY_CHILD)), 0);
        check_long("its status", info.si_status, 6);
        write(ready[1], "", 1);
        char byte;
        read(go[0], &byte, 1);
        check_long("seen by its tracer", event_of(pid), 6 << 8);
        check_long("once", event_of(pid), -ECHILD);
        _exit(check_failures);
    }
    char byte;
    read(ready[0], &byte, 1);
    int status;
    check_long("not seen by its parent", waitpid(pid, &status, WNOHANG), 0);
    write(go[1], "", 1);
    check_long("the tracer's checks", event_of(tracer), 0);
    check_long("seen by its parent", event_of(pid), 6 << 8);
    check_long("and gone", event_of(pid), -ECHILD);
}

static void other_waits(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        trace(TRACEME, 0, 0, 0);
        raise_here(SIGUSR1);
        _exit(2);
    }
    siginfo_t info = {0};
    check_long("waitid", result(waitid(P_PID, pid, &info, WEXITED | WNOWAIT)), 0);
    check_long("trapped", info.si_code, CLD_TRAPPED);
    check_long("by its signal", info.si_status, SIGUSR1);
    int status = 0;
    check_that("still there, without WUNTRACED", waitpid(pid, &status, 0) == pid);
    check_long("its status", status, stopped_by(SIGUSR1));
    check_long("only once", waitpid(pid, &status, WNOHANG), 0);
    ends("the end", pid, 0, 2);
}

static volatile int child_code, child_status_seen, child_signals;

static void on_child(int signal, siginfo_t *info, void *context)
{
    child_code = info->si_code;
    child_status_seen = info->si_status;
    child_signals++;
}

static void tracer_is_told(void)
{
    struct sigaction action = {.sa_sigaction = on_child, .sa_flags = SA_SIGINFO | SA_RESTART}, before;
    sigaction(SIGCHLD, &action, &before);
    pid_t pid = traced_child(exits_or_dies);
    check_long("SIGCHLD for a stop", child_code, CLD_TRAPPED);
    check_long("tells the signal", child_status_seen, SIGSTOP);
    goes_on("to another stop", pid, CONT, 0, stopped_by(SIGTERM));
    check_long("SIGCHLD again", child_signals, 2);
    check_long("tells that signal", child_status_seen, SIGTERM);
    ends("and the end", pid, 0, 5);
    check_long("SIGCHLD for the end", child_code, CLD_EXITED);
    action.sa_flags |= SA_NOCLDSTOP;
    sigaction(SIGCHLD, &action, NULL);
    child_signals = 0;
    pid = traced_child(exits_or_dies);
    check_long("none for stops", child_signals, 0);
    dispose(pid);
    sigaction(SIGCHLD, &before, NULL);
}

int main(int count, char **arguments)
{
    if (count > 1 && strcmp(arguments[1], "end") == 0)
        return 42;
    signals();
    ignored_signals();
    forced_signals();
    masks();
    memory();
    other_memory();
    registers();
    floating_point();
    system_calls();
    emulation();
    restarts();
    inferior_calls();
    fork_events();
    vfork_events();
    exec_events();
    exit_events();
    attaching();
    check_in_child("TRACEME", me_twice);
    not_allowed();
    tracers_end();
    two_who_wait();
    other_waits();
    tracer_is_told();
    return check_end("ptrace");
}
