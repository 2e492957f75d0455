/*
 * Which CPU runs what: affinity of the caller, of others, of what spins and of what sleeps; inherited by fork and by
 * threads, kept by exec; spinning threads spread over all CPUs; and what has to reach a program that spins on another
 * CPU: signals, stops, kills, processor-time timers. On one CPU the same, as far as it goes.
 */
#include "check.h"

#include <cpuid.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

enum { MOST = 64, PATIENCE = 10000 /* ms */ };

static int cpus[MOST], count;

static cpu_set_t one(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return set;
}

static bool pin(pid_t tid, int cpu)
{
    cpu_set_t set = one(cpu);
    return sched_setaffinity(tid, sizeof set, &set) == 0;
}

/* Where the caller may run, if that is one CPU; -1 if there are more. */
static int pinned_to(pid_t tid)
{
    cpu_set_t set;
    if (sched_getaffinity(tid, sizeof set, &set) != 0 || CPU_COUNT(&set) != 1)
        return -1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &set))
            return cpu;
    return -1;
}

static void wait_a_little(void)
{
    struct timespec moment = {0, 1000000};
    while (nanosleep(&moment, &moment) != 0)
        ;
}

/* Waits until `*word` is `wanted`; false if that takes too long. */
static bool becomes(volatile int *word, int wanted)
{
    for (int i = 0; i < PATIENCE && *word != wanted; i++)
        wait_a_little();
    return *word == wanted;
}

static void find_cpus(void)
{
    cpu_set_t set;
    check_long("getaffinity", sched_getaffinity(0, sizeof set, &set), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE && count < MOST; cpu++)
        if (CPU_ISSET(cpu, &set))
            cpus[count++] = cpu;
    check_that("there is a CPU", count > 0);
    check_that("sysconf agrees", sysconf(_SC_NPROCESSORS_ONLN) == count);
    unsigned char bytes[256];
    long length = syscall(SYS_sched_getaffinity, 0, sizeof bytes, bytes);
    check_that("getaffinity tells its length", length >= 8 && length % 8 == 0);
}

static void errors(void)
{
    cpu_set_t none;
    CPU_ZERO(&none);
    check_long("no CPU at all", result(sched_setaffinity(0, sizeof none, &none)), -EINVAL);
    cpu_set_t absent = one(1023);
    check_long("a CPU that cannot be", result(sched_setaffinity(0, sizeof absent, &absent)), -EINVAL);
    check_long("no length", result(sched_setaffinity(0, 0, &none)), -EINVAL);
    check_long("getaffinity of nobody", result(sched_getaffinity(0x3fffffff, sizeof none, &none)), -ESRCH);
    cpu_set_t first = one(cpus[0]);
    check_long("setaffinity of nobody", result(sched_setaffinity(0x3fffffff, sizeof first, &first)), -ESRCH);
    check_long("from nowhere", result(syscall(SYS_sched_setaffinity, 0, 8, 1)), -EFAULT);
    check_long("to nowhere", result(syscall(SYS_sched_getaffinity, 0, 128, 1)), -EFAULT);
    check_long("too short", result(syscall(SYS_sched_getaffinity, 0, 4, &none)), -EINVAL);
}

/* Another user's process is not to be moved. */
static void others(void)
{
    pid_t parent = getppid();
    cpu_set_t first = one(cpus[0]);
    if (setuid(1000) != 0) {
        check_skip("another user's process", "not root");
        return;
    }
    check_long("another user's process", result(sched_setaffinity(parent, sizeof first, &first)), -EPERM);
    check_long("its own", result(sched_setaffinity(0, sizeof first, &first)), 0);
}

static long field_of_stat(int wanted)
{
    char text[1024];
    int file = open("/proc/self/stat", O_RDONLY);
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    if (length <= 0)
        return -1;
    text[length] = 0;
    char *at = strrchr(text, ')');
    for (int field = 2; at && field < wanted; field++)
        at = strchr(at + 1, ' ');
    return at ? strtol(at, NULL, 10) : -1;
}

/* Whether RDTSCP, if there is such an instruction, gives this CPU's number, as Linux lets it. */
static bool rdtscp_tells(int cpu)
{
    unsigned a, b, c, d, number = (unsigned)cpu;
    if (__get_cpuid(0x80000001, &a, &b, &c, &d) && (d & 1 << 27))
        __builtin_ia32_rdtscp(&number);
    return (number & 0xfff) == (unsigned)cpu;
}

static void tour(void)
{
    bool there = true, stays = true, told = true, read_back = true, numbered = true;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < count; i++) {
            there &= pin(0, cpus[i]) && sched_getcpu() == cpus[i];
            read_back &= pinned_to(0) == cpus[i];
            numbered &= rdtscp_tells(cpus[i]);
            for (int k = 0; k < 20; k++) {
                sched_yield();
                stays &= sched_getcpu() == cpus[i];
            }
            wait_a_little();
            stays &= sched_getcpu() == cpus[i];
            told &= field_of_stat(39) == cpus[i];
        }
    }
    check_that("a call moves at once", there);
    check_that("getaffinity says so", read_back);
    check_that("it stays after yields and sleeps", stays);
    check_that("/proc/self/stat tells the CPU", told);
    check_that("RDTSCP tells the CPU", numbered);
}

static void forked(void)
{
    _exit(pinned_to(0) == cpus[count - 1] && sched_getcpu() == cpus[count - 1] ? 0 : 1);
}

static void executed(void)
{
    char cpu[8];
    snprintf(cpu, sizeof cpu, "%d", cpus[count - 1]);
    execl("/proc/self/exe", "affinity", cpu, NULL);
    _exit(127);
}

static void *in_thread(void *unused)
{
    (void)unused;
    return (void *)(uintptr_t)(pinned_to(0) == cpus[count - 1]);
}

static void inherited(void)
{
    pin(0, cpus[count - 1]);
    check_long("fork inherits", child_status(forked), 0);
    check_long("exec keeps", child_status(executed), 0);
    pthread_t thread;
    void *good = NULL;
    check_that("a thread inherits", pthread_create(&thread, NULL, in_thread, NULL) == 0
        && pthread_join(thread, &good) == 0 && good);
}

/* What a spinning thread tells of itself. */
struct spinner {
    volatile int tid, cpu, stop;
    volatile unsigned long turns;
};

static struct spinner *spinners;

static void spin(struct spinner *self)
{
    self->tid = (int)syscall(SYS_gettid);
    while (!self->stop) {
        self->cpu = sched_getcpu();
        self->turns++;
        for (volatile int i = 0; i < 1000; i++)
            ;
    }
}

static void *spin_in_thread(void *self)
{
    spin(self);
    return NULL;
}

/* Somebody else moves what spins, from one CPU to the next. */
static void moved_while_spinning(void)
{
    struct spinner *other = &spinners[0];
    pid_t child = fork();
    if (child == 0) {
        spin(other);
        _exit(0);
    }
    bool good = true;
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < count; i++)
            good &= pin(child, cpus[i]) && becomes(&other->cpu, cpus[i]) && pinned_to(child) == cpus[i];
    other->stop = 1;
    int status = -1;
    waitpid(child, &status, 0);
    check_that("what spins is moved", good && status == 0);
}

/* What sleeps wakes up where it was moved to meanwhile. */
static void moved_while_sleeping(void)
{
    bool good = true;
    for (int i = 0; i < count; i++) {
        int ends[2];
        char byte = 0;
        good &= pipe(ends) == 0;
        pid_t child = fork();
        if (child == 0) {
            good = read(ends[0], &byte, 1) == 1;
            _exit(good && sched_getcpu() == cpus[i] ? 0 : 1);
        }
        wait_a_little();
        good &= pin(child, cpus[i]) && write(ends[1], &byte, 1) == 1;
        int status = -1;
        waitpid(child, &status, 0);
        good &= status == 0;
        close(ends[0]);
        close(ends[1]);
    }
    check_that("what sleeps is moved", good);
}

/* As many spinning threads as CPUs: each gets its own, sooner or later. */
static void spread(void)
{
    pthread_t threads[MOST];
    for (int i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, spin_in_thread, &spinners[i]);
    bool different = false;
    for (int k = 0; k < PATIENCE && !different; k++) {
        wait_a_little();
        different = true;
        for (int i = 0; i < count; i++)
            for (int j = 0; j <= i; j++)
                different &= spinners[i].turns != 0 && (i == j || spinners[i].cpu != spinners[j].cpu);
    }
    check_that("spinning threads spread over all CPUs", different);
    for (int i = 0; i < count; i++)
        spinners[i].stop = 1;
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}

/* Three that may run on one CPU only stay there, though others have nothing to do, and take turns. */
static void kept_together(void)
{
    enum { SPINNERS = 3 };
    pthread_t threads[SPINNERS];
    pin(0, cpus[count - 1]);
    for (int i = 0; i < SPINNERS; i++)
        pthread_create(&threads[i], NULL, spin_in_thread, &spinners[i]);
    bool there = true, all = false;
    for (int k = 0; k < PATIENCE && !all; k++) {
        wait_a_little();
        all = true;
        for (int i = 0; i < SPINNERS; i++) {
            all &= spinners[i].turns > 10;
            there &= spinners[i].turns == 0 || spinners[i].cpu == cpus[count - 1];
        }
    }
    for (int i = 0; i < SPINNERS; i++)
        spinners[i].stop = 1;
    for (int i = 0; i < SPINNERS; i++)
        pthread_join(threads[i], NULL);
    check_that("what may run on one CPU takes turns there", all);
    check_that("and is never taken elsewhere", there);
}

static volatile int handled;

static void handle(int signal)
{
    (void)signal;
    handled++;
    spinners[0].stop = 1;
}

static pid_t spinning_child(void)
{
    spinners[0].tid = 0;
    spinners[0].stop = 0;
    spinners[0].turns = 0;
    pid_t child = fork();
    if (child == 0) {
        signal(SIGUSR1, handle);
        pin(0, cpus[count - 1]);
        spinners[0].tid = 1;
        while (!handled)
            spinners[0].turns++;
        _exit(7);
    }
    return child;
}

/* Signals reach what makes no system call. */
static void signalled(void)
{
    int status = -1;
    pin(0, cpus[0]);
    pid_t child = spinning_child();
    becomes(&spinners[0].tid, 1);
    kill(child, SIGUSR1);
    waitpid(child, &status, 0);
    check_long("a handler runs on another CPU", status, 7 << 8);

    child = spinning_child();
    becomes(&spinners[0].tid, 1);
    kill(child, SIGSTOP);
    check_that("a stop", waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
    unsigned long turns = spinners[0].turns;
    wait_a_little();
    check_that("it stands still", spinners[0].turns == turns);
    kill(child, SIGCONT);
    check_that("it goes on", waitpid(child, &status, WCONTINUED) == child && WIFCONTINUED(status));
    bool moves = false;
    for (int k = 0; k < PATIENCE && !moves; k++) {
        wait_a_little();
        moves = spinners[0].turns != turns;
    }
    check_that("and moves", moves);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    check_long("a kill", status, SIGKILL);
}

/* The time of threads on other CPUs counts for the process's timer, and sets it off. */
static volatile int profiled;

static void profile(int signal)
{
    (void)signal;
    profiled = 1;
}

static void processor_time(void)
{
    pthread_t thread;
    signal(SIGPROF, profile);
    pthread_create(&thread, NULL, spin_in_thread, &spinners[0]);
    struct itimerval timer = {{0, 0}, {0, 50000}};
    setitimer(ITIMER_PROF, &timer, NULL);
    check_that("a timer on the time of another thread", becomes(&profiled, 1));
    struct timespec before, after;
    bool forward = true;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    for (int i = 0; i < 20000; i++) {
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
        forward &= after.tv_sec > before.tv_sec
            || (after.tv_sec == before.tv_sec && after.tv_nsec >= before.tv_nsec);
        before = after;
    }
    check_that("the process's clock never goes back", forward);
    spinners[0].stop = 1;
    pthread_join(thread, NULL);
}

/* exit, exec and SIGKILL end threads that spin on all CPUs. */
static void leave(void)
{
    pthread_t thread;
    for (int i = 0; i < count; i++)
        pthread_create(&thread, NULL, spin_in_thread, &spinners[i]);
    exit(9);
}

static void replace(void)
{
    pthread_t thread;
    for (int i = 0; i < count; i++)
        pthread_create(&thread, NULL, spin_in_thread, &spinners[i]);
    pin(0, cpus[count - 1]);
    executed();
}

static void ends(void)
{
    bool good = true;
    for (int i = 0; i < 10; i++)
        good &= child_status(leave) == 9 << 8;
    check_that("exit ends what spins elsewhere", good);
    good = true;
    for (int i = 0; i < 10; i++)
        good &= child_status(replace) == 0;
    check_that("exec ends what spins elsewhere", good);
}

int main(int argument_count, char **arguments)
{
    if (argument_count == 2 && arguments[1][0] >= '0' && arguments[1][0] <= '9')
        return pinned_to(0) == atoi(arguments[1]) && sched_getcpu() == atoi(arguments[1]) ? 0 : 1;
    size_t bytes = MOST * sizeof *spinners;
    spinners = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    void (*parts[])(void) = {
        errors, others, tour, inherited, moved_while_spinning, moved_while_sleeping, spread, kept_together,
        signalled, processor_time, ends,
    };
    find_cpus();
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        memset(spinners, 0, bytes);
        check_in_child("part", parts[i]);
    }
    return check_end("affinity");
}
