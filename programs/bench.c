/*
 * Counts the kernel's instructions, by the time-stamp counter.
 *
 * Run it under `qemu-system-x86_64 -icount shift=0,sleep=off`, where the TSC counts instructions, one
 * each; elsewhere the numbers are cycles and mean what cycles mean. Each line reads
 * `bench NAME MEDIAN minimum MINIMUM average AVERAGE`: the median is the undisturbed path, the average
 * has timer interrupts in it. What is counted, with the readings' own cost taken off:
 *
 *   getppid, unknown-call, int80   the kernel's instructions; the one that enters it is not counted
 *   page-fault                     first write to an anonymous page; the write itself is not counted
 *   sigsegv                        fault, handler, rt_sigreturn; about 10 user instructions are in it
 *   pipe-pingpong                  a byte there and back between two processes: two reads, two writes,
 *                                  two switches; about 30 user instructions are in it
 *   context-switch                 one way of a futex ping-pong of two threads, likewise about 20
 *   thread                         pthread_create and pthread_join, the C library's own work included
 *   fork                           fork, exit and waitpid, the C library's own work included
 */
#include "workers.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/ucontext.h>

enum { PAGE = 4096 };

enum { SAMPLES = 10000 };

struct tally {
    uint32_t count;
    uint32_t samples[SAMPLES];
};

static inline uint64_t now(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high)::"memory");
    return (uint64_t)high << 32 | low;
}

/* What two adjacent readings differ by: counted in every measurement, so taken off again. */
static uint64_t reading_cost(void)
{
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 100; i++) {
        uint64_t start = now();
        uint64_t spent = now() - start;
        least = spent < least ? spent : least;
    }
    return least;
}

static void add(struct tally *tally, uint64_t spent)
{
    if (tally->count < SAMPLES)
        tally->samples[tally->count++] = spent > UINT32_MAX ? UINT32_MAX : spent;
}

/* One tally at a time is in use; its pages are touched here, not while something is measured. */
static struct tally *fresh(void)
{
    static struct tally tally;
    memset(&tally, 1, sizeof tally);
    tally.count = 0;
    return &tally;
}

static int by_size(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static void report(const char *name, struct tally *tally)
{
    uint64_t sum = 0;
    if (tally->count == 0)
        return;
    for (uint32_t i = 0; i < tally->count; i++)
        sum += tally->samples[i];
    qsort(tally->samples, tally->count, sizeof tally->samples[0], by_size);
    say("bench %s %u minimum %u average %lu", name, tally->samples[tally->count / 2], tally->samples[0],
        (unsigned long)((sum + tally->count / 2) / tally->count));
}

/* Bare system calls: what the C library adds is not the kernel's. */
static inline long call3(long number, long a, long b, long c)
{
    long returned;
    __asm__ volatile("syscall" : "=a"(returned) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return returned;
}

static inline long call4(long number, long a, long b, long c, long d)
{
    register long r10 __asm__("r10") = d;
    long returned;
    __asm__ volatile("syscall"
                     : "=a"(returned)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return returned;
}

/* Both readings, the number's MOV and `text`, in one piece of assembly that the compiler cannot widen. */
#define TIMED(text, number)                                                                       \
    ({                                                                                            \
        uint64_t start_, end_;                                                                    \
        __asm__ volatile("rdtsc\n"                                                                \
                         "shlq $32, %%rdx\n"                                                      \
                         "orq %%rax, %%rdx\n"                                                     \
                         "movq %%rdx, %%r8\n"                                                     \
                         "movl %2, %%eax\n" text "\n"                                             \
                         "rdtsc\n"                                                                \
                         "shlq $32, %%rdx\n"                                                      \
                         "orq %%rax, %%rdx\n"                                                     \
                         "movq %%r8, %0\n"                                                        \
                         : "=&r"(start_), "=&d"(end_)                                             \
                         : "i"(number)                                                            \
                         : "rax", "rcx", "r8", "r9", "r10", "r11", "memory");                     \
        end_ - start_;                                                                            \
    })

#define BENCH_CALL(name, text, number)                                                            \
    do {                                                                                          \
        uint64_t empty_ = UINT64_MAX;                                                             \
        for (int i_ = 0; i_ < 1000; i_++) {                                                       \
            uint64_t spent_ = TIMED("", number);                                                  \
            empty_ = spent_ < empty_ ? spent_ : empty_;                                           \
        }                                                                                         \
        for (int i_ = 0; i_ < 200; i_++)                                                          \
            (void)TIMED(text, number);                                                            \
        struct tally *tally_ = fresh();                                                           \
        for (int i_ = 0; i_ < SAMPLES; i_++)                                                      \
            add(tally_, TIMED(text, number) - empty_ - 1);                                        \
        report(name, tally_);                                                                     \
    } while (0)

enum { NUMBER_GETPPID = 110, NUMBER_UNKNOWN = 999, NUMBER_GETPPID_32 = 64 };

static void system_calls(void)
{
    BENCH_CALL("getppid", "syscall", NUMBER_GETPPID);
    BENCH_CALL("unknown-call", "syscall", NUMBER_UNKNOWN);
    BENCH_CALL("int80", "int $0x80", NUMBER_GETPPID_32);
}

static void page_fault(uint64_t overhead)
{
    enum { PAGES = 4096, ROUNDS = 3 };
    struct tally *tally = fresh();
    for (int round = 0; round < ROUNDS; round++) {
        char *pages = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        madvise(pages, PAGES * PAGE, MADV_NOHUGEPAGE);
        for (int i = 0; i < PAGES; i++) {
            uint64_t start = now();
            *(volatile char *)(pages + i * PAGE) = 1;
            uint64_t spent = now() - start - overhead;
            if (round > 0)
                add(tally, spent - 1);
        }
        munmap(pages, PAGES * PAGE);
    }
    report("page-fault", tally);
}

/* The faulting instruction is two bytes long: `movb (%rax), %al`. */
static void skip_instruction(int signal, siginfo_t *info, void *context)
{
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}

static void segmentation_fault(uint64_t overhead)
{
    struct sigaction action = {.sa_sigaction = skip_instruction, .sa_flags = SA_SIGINFO}, before;
    struct tally *tally = fresh();
    sigaction(SIGSEGV, &action, &before);
    for (int i = 0; i < 2200; i++) {
        uint64_t start = now();
        __asm__ volatile("movb (%0), %%al" ::"a"(0L) : "memory");
        uint64_t spent = now() - start - overhead;
        if (i >= 200)
            add(tally, spent);
    }
    sigaction(SIGSEGV, &before, NULL);
    report("sigsegv", tally);
}

static void echo(int from, int to)
{
    char byte;
    while (call3(SYS_read, from, (long)&byte, 1) == 1)
        call3(SYS_write, to, (long)&byte, 1);
    _exit(0);
}

static void pipe_pingpong(uint64_t overhead)
{
    int there[2], back[2];
    struct tally *tally = fresh();
    char byte = 'x';
    if (pipe(there) != 0 || pipe(back) != 0)
        return;
    pid_t child = fork();
    if (child == 0) {
        close(there[1]);
        close(back[0]);
        echo(there[0], back[1]);
    }
    close(there[0]);
    close(back[1]);
    for (int i = 0; i < 2200; i++) {
        uint64_t start = now();
        call3(SYS_write, there[1], (long)&byte, 1);
        call3(SYS_read, back[0], (long)&byte, 1);
        uint64_t spent = now() - start - overhead;
        if (i >= 200)
            add(tally, spent);
    }
    close(there[1]);
    close(back[0]);
    waitpid(child, NULL, 0);
    report("pipe-pingpong", tally);
}

enum { SWITCHES = 2000 };
static volatile uint32_t turn;

static void pass_turn(uint32_t mine, uint32_t theirs)
{
    while (turn != mine)
        call4(SYS_futex, (long)&turn, FUTEX_WAIT_PRIVATE, theirs, 0);
    turn = theirs;
    call3(SYS_futex, (long)&turn, FUTEX_WAKE_PRIVATE, 1);
}

static void *other_turns(void *unused)
{
    for (int i = 0; i < SWITCHES; i++)
        pass_turn(1, 0);
    return NULL;
}

static void context_switch(uint64_t overhead)
{
    pthread_t other;
    struct tally *tally = fresh();
    turn = 0;
    if (pthread_create(&other, NULL, other_turns, NULL) != 0)
        return;
    for (int i = 0; i < SWITCHES; i++) {
        uint64_t start = now();
        pass_turn(0, 1);
        uint64_t spent = now() - start - overhead;
        if (i >= 200)
            add(tally, spent / 2);
    }
    pthread_join(other, NULL);
    report("context-switch", tally);
}

static void *nothing(void *unused)
{
    return NULL;
}

static void threads(uint64_t overhead)
{
    struct tally *tally = fresh();
    for (int i = 0; i < 220; i++) {
        pthread_t thread;
        uint64_t start = now();
        if (pthread_create(&thread, NULL, nothing, NULL) != 0)
            return;
        pthread_join(thread, NULL);
        uint64_t spent = now() - start - overhead;
        if (i >= 20)
            add(tally, spent);
    }
    report("thread", tally);
}

static void processes(uint64_t overhead)
{
    struct tally *tally = fresh();
    for (int i = 0; i < 220; i++) {
        uint64_t start = now();
        pid_t child = fork();
        if (child == 0)
            exit(0);
        waitpid(child, NULL, 0);
        uint64_t spent = now() - start - overhead;
        if (i >= 20)
            add(tally, spent);
    }
    report("fork", tally);
}

int main(void)
{
    uint64_t overhead = reading_cost();
    system_calls();
    page_fault(overhead);
    segmentation_fault(overhead);
    pipe_pingpong(overhead);
    context_switch(overhead);
    threads(overhead);
    processes(overhead);
    return check_end("bench");
}
