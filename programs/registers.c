/*
 * Every register that a program owns survives everything but its own instructions: system calls (which
 * may change RAX, RCX and R11 only), INT 0x80, page faults, timer interrupts, signals, and context
 * switches among processes and threads that hold other values. rt_sigreturn restores any register,
 * RCX and R11 included, which only an exit by IRETQ can do.
 *
 * Sources: System V ABI AMD64 supplement, A.2.1 (calls); Intel SDM vol. 2, SYSCALL and SYSRET; Linux for
 * INT 0x80 from 64-bit code, which changes RAX alone.
 */
#include "probe.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

enum { PAGE = 4096, SET_GS_BASE = 0x1001, GET_GS_BASE = 0x1004 };
#define CLOBBERED_BY_SYSCALL (1u << RAX | 1u << RCX | 1u << R11)

/* ---- general registers, one entry to the kernel each ---- */

PROBE("syscall", "syscall");
PROBE("interrupt", "int $0x80");
PROBE("touch", "movb $1, (%rax)");
PROBE("spin", "1: decq spin_count(%rip)\njnz 1b");
PROBE("undefined", "ud2");
PROBE_SYMBOLS(syscall);
PROBE_SYMBOLS(interrupt);
PROBE_SYMBOLS(touch);
PROBE_SYMBOLS(spin);
PROBE_SYMBOLS(undefined);
uint64_t spin_count;

static void one_call(const char *name, long number, uint64_t first, uint64_t second, uint64_t third, long expected)
{
    struct registers in = probe_pattern(0x9e3779b97f4a7c15u), out;
    in.value[RAX] = (uint64_t)number;
    in.value[RDI] = first;
    in.value[RSI] = second;
    in.value[RDX] = third;
    run_probe(probe_syscall, &in, &out);
    char text[64];
    snprintf(text, sizeof text, "%s: result", name);
    require_long(text, out.value[RAX], expected);
    snprintf(text, sizeof text, "%s: rcx is the return address", name);
    require_long(text, out.value[RCX], (long)probe_syscall_end);
    snprintf(text, sizeof text, "%s: r11 is the flags", name);
    require_long(text, out.value[R11], in.value[RFLAGS]);
    check_registers(name, &out, &in, CLOBBERED_BY_SYSCALL | 1u << RSP);
}

static void calls(void)
{
    int ends[2];
    char buffer[4] = "ab";
    struct timespec moment = {0, 5000000};
    if (pipe(ends) != 0)
        return;
    one_call("getppid", SYS_getppid, 1, 2, 3, getppid());
    one_call("unknown call", 999, 1, 2, 3, -ENOSYS);
    one_call("call -1", -1, 1, 2, 3, -ENOSYS);
    one_call("write", SYS_write, (uint64_t)ends[1], (uint64_t)buffer, 2, 2);
    one_call("read", SYS_read, (uint64_t)ends[0], (uint64_t)buffer, 4, 2);
    one_call("write that faults", SYS_write, (uint64_t)ends[1], 16, 4, -EFAULT);
    one_call("nanosleep", SYS_nanosleep, (uint64_t)&moment, 0, 0, 0);
    one_call("sched_yield", SYS_sched_yield, 0, 0, 0, 0);
    close(ends[0]);
    close(ends[1]);

    struct registers in = probe_pattern(77), out;
    in.value[RAX] = 64; /* getppid in the 32-bit table */
    run_probe(probe_interrupt, &in, &out);
    check_long("int80: result", out.value[RAX], getppid());
    check_registers("int80", &out, &in, 1u << RAX | 1u << RSP);
}

static void interruptions(void)
{
    struct registers in = probe_pattern(0x0123456789abcdefu), out;
    char *pages = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    in.value[RAX] = (uint64_t)pages + PAGE;
    run_probe(probe_touch, &in, &out);
    check_registers("page fault", &out, &in, 1u << RSP);
    munmap(pages, 4 * PAGE);

    spin_count = 50000000; /* some dozen timer ticks */
    in = probe_pattern(0xfedcba9876543210u);
    run_probe(probe_spin, &in, &out);
    check_registers("timer interrupts", &out, &in, 1u << RSP | 1u << RFLAGS);
}

/* ---- rt_sigreturn sets every register ---- */

static struct registers replacement;

static void replace_registers(int signal, siginfo_t *info, void *context)
{
    greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;
    for (int i = 0; i < REGISTERS; i++)
        if (i != RSP)
            gregs[register_gregs[i]] = (greg_t)replacement.value[i];
    gregs[REG_RIP] = (greg_t)probe_done;
}

static void signal_return(void)
{
    struct sigaction action = {.sa_sigaction = replace_registers, .sa_flags = SA_SIGINFO};
    sigaction(SIGILL, &action, NULL);
    for (uint64_t seed = 1; seed < 5; seed++) {
        struct registers in = probe_pattern(seed), out;
        replacement = probe_pattern(~seed * 0x123456789u);
        replacement.value[RFLAGS] = FLAG_RESERVED | FLAG_INTERRUPT | FLAG_ZERO | FLAG_PARITY | (seed & 1 ? FLAG_DIRECTION : 0);
        run_probe(probe_undefined, &in, &out);
        check_registers("rt_sigreturn sets all", &out, &replacement, 1u << RSP);
    }
    signal(SIGILL, SIG_DFL);
}

/* The same from a signal that arrives in a system call: R11 and RCX are not what SYSCALL left there. */
static void signal_return_from_call(void)
{
    struct sigaction action = {.sa_sigaction = replace_registers, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, NULL);
    struct registers in = probe_pattern(3), out;
    in.value[RAX] = SYS_kill;
    in.value[RDI] = (uint64_t)getpid();
    in.value[RSI] = SIGUSR1;
    replacement = probe_pattern(0x5555555555555555u);
    run_probe(probe_syscall, &in, &out);
    check_registers("rt_sigreturn from a call", &out, &replacement, 1u << RSP);
    signal(SIGUSR1, SIG_DFL);
}

/* ---- the whole machine state, held through spinning and yielding ---- */

struct machine {
    uint64_t general[16];      /* as in enum RAX..R15 */
    unsigned char vector[16][32];
    unsigned char x87[8][16];  /* 80-bit values, 16 bytes apart */
    uint32_t mxcsr, x87_control;
};

_Static_assert(offsetof(struct machine, vector) == 128, "hold() below");
_Static_assert(offsetof(struct machine, x87) == 640, "hold() below");
_Static_assert(offsetof(struct machine, mxcsr) == 768, "hold() below");

/* Loads `in`, counts `spins` down, yields `yields` times, stores `out`. For any number of threads. */
void hold(const struct machine *in, struct machine *out, long spins, long yields);
int have_avx;

#define EACH16(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define EACH8(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define LOAD_YMM(n) "vmovdqu 128+32*" #n "(%rdi), %ymm" #n "\n"
#define LOAD_XMM(n) "movdqu 128+32*" #n "(%rdi), %xmm" #n "\n"
#define STORE_YMM(n) "vmovdqu %ymm" #n ", 128+32*" #n "(%rax)\n"
#define STORE_XMM(n) "movdqu %xmm" #n ", 128+32*" #n "(%rax)\n"
#define LOAD_X87(n) "fldt 640+16*(7-" #n ")(%rdi)\n"
#define STORE_X87(n) "fstpt 640+16*" #n "(%rax)\n"

__asm__(".pushsection .text\n"
        "hold:\n"
        "pushq %rbx\n pushq %rbp\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
        "pushq %rsi\n pushq %rcx\n pushq %rdx\n" /* out at 16, yields at 8, spins at 0 */
        "fninit\n"
        "fldcw 772(%rdi)\n"
        "ldmxcsr 768(%rdi)\n" EACH8(LOAD_X87)
        "cmpl $0, have_avx(%rip)\n"
        "je 1f\n" EACH16(LOAD_YMM) "jmp 2f\n"
        "1:\n" EACH16(LOAD_XMM)
        "2:\n"
        "movq (%rdi), %rax\n movq 8(%rdi), %rbx\n movq 16(%rdi), %rcx\n movq 24(%rdi), %rdx\n"
        "movq 32(%rdi), %rsi\n movq 48(%rdi), %rbp\n movq 56(%rdi), %r8\n movq 64(%rdi), %r9\n"
        "movq 72(%rdi), %r10\n movq 80(%rdi), %r11\n movq 88(%rdi), %r12\n movq 96(%rdi), %r13\n"
        "movq 104(%rdi), %r14\n movq 112(%rdi), %r15\n movq 40(%rdi), %rdi\n"
        "3: decq (%rsp)\n"
        "jns 3b\n"
        "4: decq 8(%rsp)\n"
        "js 5f\n"
        "movl $24, %eax\n" /* sched_yield */
        "syscall\n"
        "jmp 4b\n"
        "5: pushq %rax\n"
        "movq 24(%rsp), %rax\n"
        "popq (%rax)\n"
        "movq %rbx, 8(%rax)\n movq %rcx, 16(%rax)\n movq %rdx, 24(%rax)\n movq %rsi, 32(%rax)\n"
        "movq %rdi, 40(%rax)\n movq %rbp, 48(%rax)\n movq %r8, 56(%rax)\n movq %r9, 64(%rax)\n"
        "movq %r10, 72(%rax)\n movq %r11, 80(%rax)\n movq %r12, 88(%rax)\n movq %r13, 96(%rax)\n"
        "movq %r14, 104(%rax)\n movq %r15, 112(%rax)\n"
        "stmxcsr 768(%rax)\n"
        "fnstcw 772(%rax)\n" EACH8(STORE_X87)
        "cmpl $0, have_avx(%rip)\n"
        "je 6f\n" EACH16(STORE_YMM) "vzeroupper\n jmp 7f\n"
        "6:\n" EACH16(STORE_XMM)
        "7: addq $24, %rsp\n"
        "fninit\n"
        "pushq $0x1f80\n ldmxcsr (%rsp)\n popq %rax\n"
        "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbp\n popq %rbx\n"
        "ret\n"
        ".popsection\n");

static void detect_avx(void)
{
    uint32_t eax = 1, ebx, ecx = 0, edx;
    __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    if ((ecx >> 27 & 3) != 3) /* OSXSAVE, AVX */
        return;
    __asm__("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    have_avx = (eax & 6) == 6;
}

static void fill(struct machine *machine, uint64_t seed)
{
    memset(machine, 0, sizeof *machine);
    for (int i = 0; i < 15; i++)
        machine->general[i] = (seed + 1) * 0x9e3779b97f4a7c15u + (uint64_t)i * 0x0101010101010101u;
    for (int i = 0; i < 16; i++)
        memset(machine->vector[i], (int)(seed * 16 + (uint64_t)i), have_avx ? 32 : 16);
    for (int i = 0; i < 8; i++) {
        memset(machine->x87[i], (int)(seed * 8 + (uint64_t)i), 7);
        machine->x87[i][7] = 0x80; /* a normal number: integer bit, moderate exponent */
        machine->x87[i][9] = 0x3f;
        machine->x87[i][8] = (unsigned char)(seed + (uint64_t)i);
    }
    machine->mxcsr = 0x1f80 | (uint32_t)(seed & 3) << 13; /* rounding mode */
    machine->x87_control = 0x037f | (uint32_t)(seed & 3) << 10;
}

/* A number to say which part differs: 0 none, 1 general, 2 vector, 3 x87, 4 control. */
static int differs(const struct machine *in, const struct machine *out, bool yielded)
{
    for (int i = 0; i < 15; i++)
        if (in->general[i] != out->general[i] && !(yielded && CLOBBERED_BY_SYSCALL >> i & 1))
            return 1;
    if (memcmp(in->vector, out->vector, sizeof in->vector) != 0)
        return 2;
    for (int i = 0; i < 8; i++)
        if (memcmp(in->x87[i], out->x87[i], 10) != 0)
            return 3;
    return in->mxcsr == out->mxcsr && (in->x87_control & 0xffff) == (out->x87_control & 0xffff) ? 0 : 4;
}

static int hold_rounds(uint64_t seed, int rounds, long spins, long yields)
{
    struct machine in, out;
    for (int i = 0; i < rounds; i++) {
        fill(&in, seed + (uint64_t)i * 16);
        memset(&out, 0, sizeof out);
        hold(&in, &out, spins, yields);
        int part = differs(&in, &out, yields > 0);
        if (part)
            return part;
    }
    return 0;
}

static volatile sig_atomic_t alarms;

/* Spoils every vector and x87 register; the general ones are spoilt by being a C function. */
static void spoil(int signal)
{
    static const struct machine nothing = {.mxcsr = 0x1f80, .x87_control = 0x37f};
    struct machine out;
    hold(&nothing, &out, 0, 1);
    alarms++;
}

static void through_signals(void)
{
    struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    signal(SIGALRM, spoil);
    setitimer(ITIMER_REAL, &often, NULL);
    int part = 0;
    for (int i = 0; i < 200 && alarms < 50 && part == 0; i++)
        part = hold_rounds((uint64_t)i, 1, 1000000, 0);
    setitimer(ITIMER_REAL, &never, NULL);
    signal(SIGALRM, SIG_DFL);
    check_long("all registers through signals", part, 0);
    check_that("signals came", alarms >= 10);
}

static void among_processes(void)
{
    pid_t children[4];
    for (int i = 0; i < 4; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            syscall(SYS_arch_prctl, SET_GS_BASE, 0x10000UL * (unsigned long)(i + 1));
            int part = hold_rounds((uint64_t)i + 1, 30, 200000, 20);
            unsigned long base = 0;
            syscall(SYS_arch_prctl, GET_GS_BASE, &base);
            _exit(part ? part : base != 0x10000UL * (unsigned long)(i + 1) ? 5 : 0);
        }
    }
    for (int i = 0; i < 4; i++) {
        int status = -1;
        waitpid(children[i], &status, 0);
        check_long("all registers among processes", status, 0);
    }
}

static __thread uint64_t thread_word;

static void *thread_holds(void *argument)
{
    uint64_t seed = (uintptr_t)argument;
    thread_word = seed;
    syscall(SYS_arch_prctl, SET_GS_BASE, &thread_word);
    uintptr_t part = (uintptr_t)hold_rounds(seed, 30, 200000, 20);
    uint64_t by_gs;
    __asm__ volatile("movq %%gs:0, %0" : "=r"(by_gs));
    if (part == 0 && (by_gs != seed || thread_word != seed))
        part = 5;
    syscall(SYS_arch_prctl, SET_GS_BASE, 0);
    return (void *)part;
}

static void among_threads(void)
{
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, thread_holds, (void *)(i + 5));
    for (int i = 0; i < 4; i++) {
        void *part = (void *)9;
        pthread_join(threads[i], &part);
        check_long("all registers among threads", (long)part, 0);
    }
}

/* fork copies the state that exists only in registers. */
static void fork_copies(void)
{
    unsigned long base = 0;
    syscall(SYS_arch_prctl, SET_GS_BASE, 0x7654321000);
    pid_t child = fork();
    if (child == 0) {
        syscall(SYS_arch_prctl, GET_GS_BASE, &base);
        _exit(base == 0x7654321000 ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    check_long("fork copies the GS base", status, 0);
    syscall(SYS_arch_prctl, GET_GS_BASE, &base);
    check_long("GS base stays", base, 0x7654321000);
    syscall(SYS_arch_prctl, SET_GS_BASE, 0);
}

/* ---- segment selectors: a process's own, and a new program's are 0 ---- */

struct selectors {
    uint16_t ds, es, fs, gs;
};

static struct selectors selectors(void)
{
    struct selectors now;
    __asm__ volatile("mov %%ds, %0\nmov %%es, %1\nmov %%fs, %2\nmov %%gs, %3"
                     : "=r"(now.ds), "=r"(now.es), "=r"(now.fs), "=r"(now.gs));
    return now;
}

static long packed_selectors(void)
{
    struct selectors now = selectors();
    return (long)now.ds << 48 | (long)now.es << 32 | (long)now.fs << 16 | now.gs;
}

/* FS stays as it is: its base is the C library's. */
static void set_selectors(unsigned ds, unsigned es, unsigned gs)
{
    __asm__ volatile("mov %0, %%ds\nmov %1, %%es\nmov %2, %%gs" : : "r"(ds), "r"(es), "r"(gs));
}

enum { USER_DATA = 0x2b };

static void keep_selectors(unsigned ds, unsigned es, unsigned gs)
{
    set_selectors(ds, es, gs);
    long mine = packed_selectors();
    require_long("selectors: ds", selectors().ds, (long)ds);
    for (int round = 0; round < 200; round++) {
        sched_yield();
        require_long("selectors after a switch", packed_selectors(), mine);
    }
}

static void segment_selectors(void)
{
    check_long("a new program's selectors are 0", packed_selectors(), 0);
    pid_t children[3];
    for (int child = 0; child < 3; child++) {
        children[child] = fork();
        if (children[child] == 0) {
            check_failures = 0;
            keep_selectors(child == 0 ? USER_DATA : 0, child == 1 ? USER_DATA : 0, child == 2 ? USER_DATA : 0);
            long mine = packed_selectors();
            pid_t grandchild = fork();
            if (grandchild == 0)
                _exit(packed_selectors() == mine ? 0 : 1);
            int status = -1;
            waitpid(grandchild, &status, 0);
            require_long("selectors of a forked child", status, 0);
            _exit(check_failures ? 1 : 0);
        }
    }
    int failed = 0;
    for (int child = 0; child < 3; child++) {
        int status = -1;
        waitpid(children[child], &status, 0);
        failed |= status;
    }
    check_long("selectors through switches and fork", failed, 0);
    check_long("selectors of the parent", packed_selectors(), 0);
    /* A GS base that is set goes with selector 0. */
    unsigned long base = 0;
    set_selectors(0, 0, USER_DATA);
    syscall(SYS_arch_prctl, SET_GS_BASE, 0x12345000ul);
    check_long("setting the GS base clears GS", selectors().gs, 0);
    sched_yield();
    syscall(SYS_arch_prctl, GET_GS_BASE, &base);
    check_long("the GS base that was set", (long)base, 0x12345000);
    syscall(SYS_arch_prctl, SET_GS_BASE, 0ul);
}

int main(void)
{
    detect_avx();
    segment_selectors();
    calls();
    interruptions();
    signal_return();
    signal_return_from_call();
    check_long("all registers through calls", hold_rounds(1, 20, 0, 50), 0);
    check_long("all registers through ticks", hold_rounds(2, 5, 10000000, 0), 0);
    through_signals();
    fork_copies();
    among_processes();
    among_threads();
    return check_end("registers");
}
