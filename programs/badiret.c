/*
 * IRETQ to stack and code segments that it refuses, CVE-2014-9322: the fault arrives in ring 0 with the
 * user's GS base, and a kernel that takes it for one of its own swaps GS once too often. Selectors of the
 * LDT, from a signal frame, and from a thread whose segment another thread takes away while it runs.
 * After each, GS and FS lead where they did, and the kernel does its work.
 *
 * Sources: Intel SDM vol. 2, IRET; modify_ldt(2); arch_prctl(2).
 */
#include "probe.h"
#include "segment.h"

#include <pthread.h>
#include <time.h>

PROBE("call", "syscall");
PROBE_SYMBOLS(call);

enum { NANOSECONDS_LONG = 1000000, ROUNDS = 20 };
enum { MARK = 0x6b72616d, SET_GS = 0x1001 }; /* ARCH_SET_GS */

/* Where GS base points: its first word is the mark. */
static uint64_t gs_block[8] = {MARK};
static __thread uint64_t thread_word;

static uint64_t gs_word(void)
{
    uint64_t word;
    __asm__ volatile("movq %%gs:0, %0" : "=r"(word));
    return word;
}

static void child_exits(void)
{
    _exit(gs_word() == MARK ? 3 : 4);
}

/* The kernel's and our own state after a fault: segment bases, calls, faults, fork. */
static void check_state(const char *name)
{
    char text[100], byte = 'x';
    int ends[2];
    snprintf(text, sizeof text, "%s: afterwards", name);
    require_long("gs", gs_word(), MARK);
    require_long("fs", thread_word, MARK);
    require_long("pipe", result(pipe(ends)), 0);
    require_long("write", result(write(ends[1], &byte, 1)), 1);
    byte = 0;
    require_long("read", result(read(ends[0], &byte, 1)), 1);
    require_long("byte", byte, 'x');
    close(ends[0]);
    close(ends[1]);
    check_long(text, child_status(child_exits), 3 << 8);
}

/* ---- the LDT ---- */

enum { GOOD, SIXTEEN_BITS, READ_ONLY, DOWN, CODE_SEGMENT, ABSENT, ABSENT_CODE, ENTRIES };

static struct segment described(uint32_t entry)
{
    bool code = entry == CODE_SEGMENT || entry == ABSENT_CODE;
    struct segment segment = flat(entry, code ? CODE : entry == DOWN ? EXPAND_DOWN : DATA);
    segment.wide = entry != SIXTEEN_BITS;
    segment.read_exec_only = entry == READ_ONLY;
    segment.not_present = entry == ABSENT || entry == ABSENT_CODE;
    return segment;
}

/* Puts the good segment into its entry, or makes it one that is not present. */
static long set_good_segment(bool present)
{
    struct segment segment = described(GOOD);
    segment.not_present = !present;
    return set_entry(segment);
}

static uint16_t local(uint32_t entry)
{
    return (uint16_t)of_ldt(entry);
}

/* ---- signal frames ---- */

static greg_t good_selectors;
static uint16_t bad_cs, bad_ss;

static struct {
    volatile sig_atomic_t count;
    int signal;
    long error;
    uint64_t rip, selectors;
} seen;

static void damage(int signal, siginfo_t *info, void *context)
{
    greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;
    good_selectors = gregs[REG_CSGSFS];
    gregs[REG_RIP] = (greg_t)probe_done;
    if (bad_cs)
        gregs[REG_CSGSFS] = (gregs[REG_CSGSFS] & ~0xffffL) | bad_cs;
    if (bad_ss)
        gregs[REG_CSGSFS] = (gregs[REG_CSGSFS] & 0xffffffffffffL) | (greg_t)((uint64_t)bad_ss << 48);
}

static void note(int signal, siginfo_t *info, void *context)
{
    greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;
    seen.count++;
    seen.signal = signal;
    seen.error = gregs[REG_ERR];
    seen.rip = (uint64_t)gregs[REG_RIP];
    seen.selectors = (uint64_t)gregs[REG_CSGSFS];
    gregs[REG_CSGSFS] = good_selectors;
    gregs[REG_RIP] = (greg_t)probe_done;
    gregs[REG_RSP] = (greg_t)probe_stack;
}

static void own_signal_stack(char *stack, size_t size)
{
    stack_t alternate = {.ss_sp = stack, .ss_size = size};
    sigaltstack(&alternate, NULL);
}

static void handle(int signal, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(signal, &action, NULL);
}

static void return_to(const char *name, uint16_t cs, uint16_t ss, int signal, long error)
{
    struct registers in = probe_pattern(3), out;
    bad_cs = cs;
    bad_ss = ss;
    in.value[RAX] = SYS_kill;
    in.value[RDI] = (uint64_t)getpid();
    in.value[RSI] = SIGUSR1;
    memset(&seen, 0, sizeof seen);
    run_probe(probe_call, &in, &out);
    char text[100];
    snprintf(text, sizeof text, "%s: signal", name);
    check_long(text, seen.signal, signal);
    if (signal != 0) {
        require_long("error code", seen.error, error);
        require_long("rip", seen.rip, (long)probe_done);
        require_long("cs", seen.selectors & 0xffff, cs ? cs : good_selectors & 0xffff);
        require_long("ss", seen.selectors >> 48, ss ? ss : FLAT_DATA);
    }
    check_state(name);
}

static void from_signal_frames(void)
{
    for (uint32_t entry = 0; entry < ENTRIES; entry++)
        check_long("modify_ldt", set_entry(described(entry)), 0);
    return_to("data", 0, local(GOOD), 0, 0);
    return_to("16-bit data", 0, local(SIXTEEN_BITS), 0, 0);
    return_to("expand-down data", 0, local(DOWN), 0, 0);
    return_to("absent data", 0, local(ABSENT), SIGSEGV, 0);
    return_to("read-only data", 0, local(READ_ONLY), SIGSEGV, 0);
    return_to("code as data", 0, local(CODE_SEGMENT), SIGSEGV, 0);
    return_to("beyond the ldt", 0, local(ENTRIES), SIGSEGV, 0);
    return_to("far beyond the ldt", 0, local(8191), SIGSEGV, 0);
    /* sigreturn makes a privilege level 3. */
    return_to("data for ring 0", 0, local(GOOD) & ~3, 0, 0);
    return_to("absent code", local(ABSENT_CODE), 0, SIGBUS, ABSENT_CODE << 3 | 4);
    return_to("data as code", local(GOOD), 0, SIGSEGV, GOOD << 3 | 4);
    return_to("absent code, absent data", local(ABSENT_CODE), local(ABSENT), SIGSEGV, 0);
    return_to("absent code, data", local(ABSENT_CODE), local(GOOD), SIGSEGV, 0);
}

/* ---- another thread takes the segment away ---- */

static volatile sig_atomic_t on_segment, faults;
static volatile bool done;

static void leave_segment(int signal, siginfo_t *info, void *context)
{
    greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;
    if ((uint64_t)gregs[REG_CSGSFS] >> 48 == local(GOOD))
        faults = faults + 1;
    gregs[REG_CSGSFS] = (gregs[REG_CSGSFS] & 0xffffffffffffL) | (greg_t)((uint64_t)FLAT_DATA << 48);
    on_segment = 0;
}

static void *ride(void *unused)
{
    static char stack[65536];
    thread_word = MARK;
    own_signal_stack(stack, sizeof stack);
    syscall(SYS_arch_prctl, SET_GS, gs_block);
    while (!done) {
        on_segment = 1;
        /* Interrupts return to this segment, until it is gone. The handler ends the loop. */
        __asm__ volatile("movw %w0, %%ss\n"
                         "1: pause\n"
                         "cmpl $0, %1\n"
                         "jne 1b" : : "r"(local(GOOD)), "m"(on_segment) : "memory");
        require_long("gs", gs_word(), MARK);
        require_long("fs", thread_word, MARK);
        while (faults > 0 && !done)
            sched_yield();
    }
    return unused;
}

static void rest(void)
{
    struct timespec while_ = {.tv_nsec = NANOSECONDS_LONG};
    nanosleep(&while_, NULL);
}

static void taken_away(void)
{
    pthread_t thread;
    handle(SIGSEGV, leave_segment);
    handle(SIGBUS, leave_segment);
    if (set_good_segment(true) != 0)
        return;
    faults = 0;
    if (pthread_create(&thread, NULL, ride, NULL) != 0) {
        check_long("pthread_create", 1, 0);
        return;
    }
    for (int round = 0; round < ROUNDS; round++) {
        while (!on_segment)
            rest();
        rest();
        set_good_segment(false);
        while (faults == 0)
            rest();
        set_good_segment(true);
        done = round == ROUNDS - 1;
        faults = 0;
    }
    pthread_join(thread, NULL);
    check_state("a segment taken away");
}

/* ---- without an LDT ---- */

static void without_ldt(void)
{
    return_to("no ldt", 0, local(0), SIGSEGV, 0);
    return_to("null ss", 0, 3, SIGSEGV, 0);
    return_to("no ldt, code", local(0), 0, SIGSEGV, 4);
}

int main(void)
{
    static char stack[65536];
    thread_word = MARK;
    check_long("GS base", result(syscall(SYS_arch_prctl, SET_GS, gs_block)), 0);
    own_signal_stack(stack, sizeof stack);
    handle(SIGUSR1, damage);
    handle(SIGSEGV, note);
    handle(SIGBUS, note);
    without_ldt();
    from_signal_frames();
    taken_away();
    return check_end("badiret");
}
