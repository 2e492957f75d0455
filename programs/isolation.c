/*
 * Isolation switched while it runs: by prctl for this process, by /proc/sys/kernel/pti for the machine.
 *
 * What is compared is everything that could break where a thread comes in by one way and leaves by another: threads
 * that are in ring 3, that sleep in the kernel, that take signals, while somebody else switches. On Linux there is
 * nothing to switch, and all of it is skipped but the part that asks.
 */
#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define PR_GET_PTI 0x50544947
#define PR_SET_PTI 0x50544953
#define SWITCHABLE (1 << 0)
#define ENABLE (1 << 1)
#define DISABLE (1 << 2)
#define OWN (1 << 3)
#define INHERIT (1 << 5)

static const char *self;

static long get(void)
{
    return result(prctl(PR_GET_PTI, 0, 0, 0, 0));
}

static long set(long word)
{
    return result(prctl(PR_SET_PTI, word, 0, 0, 0));
}

static int machine(void)
{
    char digit = 0;
    int file = open("/proc/sys/kernel/pti", O_RDONLY);
    if (file < 0 || read(file, &digit, 1) != 1)
        digit = '?';
    close(file);
    return digit - '0';
}

/* What the CPU's state is said to be. */
static void read_status(char *text, size_t size)
{
    int file = open("/sys/devices/system/cpu/vulnerabilities/meltdown", O_RDONLY);
    ssize_t length = file < 0 ? -1 : read(file, text, size - 1);
    text[length > 0 ? length : 0] = 0;
    close(file);
}

static long set_machine(const char *text)
{
    int file = open("/proc/sys/kernel/pti", O_WRONLY);
    if (file < 0)
        return -errno;
    long done = result(write(file, text, strlen(text)));
    close(file);
    return done == (long)strlen(text) ? 0 : done;
}

/* ---- what a thread does meanwhile */

static volatile int stop;
static volatile unsigned long spins, faults, calls, sleeps;

static void *spin(void *unused)
{
    (void)unused;
    /* Registers that a wrong frame would not bring back. */
    while (!stop) {
        unsigned long a = 0x1111, b = 0x2222, c = 0x3333;
        __asm__ volatile("mov $200, %%ecx\n1: add $1, %0\n add $1, %1\n add $1, %2\n dec %%ecx\n jnz 1b"
                         : "+r"(a), "+r"(b), "+r"(c)
                         :
                         : "ecx", "cc");
        if (a != 0x1111 + 200 || b != 0x2222 + 200 || c != 0x3333 + 200)
            check_long("registers of a thread in ring 3", a, 0x1111 + 200);
        spins++;
    }
    return NULL;
}

static void *call(void *unused)
{
    (void)unused;
    long parent = getppid();
    while (!stop) {
        if (syscall(SYS_getppid) != parent)
            check_long("a call's result", syscall(SYS_getppid), parent);
        calls++;
    }
    return NULL;
}

static void *fault(void *unused)
{
    (void)unused;
    while (!stop) {
        unsigned char *page = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (int i = 0; i < 16384; i += 4096)
            page[i] = (unsigned char)(i >> 12);
        for (int i = 0; i < 16384; i += 4096)
            require_long("a page's contents", page[i], i >> 12);
        munmap(page, 16384);
        faults++;
    }
    return NULL;
}

static int there[2], back[2];

static void *echo(void *unused)
{
    (void)unused;
    unsigned long word;
    while (read(there[0], &word, sizeof word) == sizeof word) {
        word ^= 0x5a5a;
        if (write(back[1], &word, sizeof word) != sizeof word)
            break;
    }
    return NULL;
}

static void ask_echo(unsigned long number)
{
    unsigned long answer = 0;
    if (write(there[1], &number, sizeof number) != sizeof number ||
        read(back[0], &answer, sizeof answer) != sizeof answer)
        check_long("the sleeping thread's answer", errno, 0);
    require_long("what the sleeping thread was sent", answer, number ^ 0x5a5a);
    sleeps++;
}

static volatile sig_atomic_t caught;
static void catch (int number)
{
    (void)number;
    caught++;
}

/* Everything at once, while `turn` switches. */
static void meanwhile(const char *name, void (*turn)(int), int rounds)
{
    pthread_t threads[4];
    void *(*bodies[4])(void *) = {spin, call, fault, echo};
    stop = 0;
    if (pipe(there) || pipe(back))
        check_long("pipe", errno, 0);
    for (int i = 0; i < 4; i++)
        if (pthread_create(&threads[i], NULL, bodies[i], NULL))
            check_long("pthread_create", errno, 0);
    caught = 0;
    for (int i = 0; i < rounds; i++) {
        turn(i);
        ask_echo(i);
        raise(SIGUSR1);
        if (i % 8 == 0) {
            pid_t child = fork();
            if (child == 0)
                _exit(syscall(SYS_getppid) == 0);
            int status = -1;
            waitpid(child, &status, 0);
            require_long("a child made meanwhile", status, 0);
        }
        if (i % 4 == 0)
            usleep(1000);
    }
    stop = 1;
    close(there[1]);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    close(there[0]), close(back[0]), close(back[1]);
    check_long(name, caught, rounds);
    check_that("every thread got somewhere", spins && calls && faults && sleeps);
}

static void turn_process(int round)
{
    require_long("switching this process", set(round % 2 ? ENABLE : DISABLE), 0);
}

static void turn_machine(int round)
{
    require_long("switching the machine", set_machine(round % 2 ? "1" : "0"), 0);
}

/* ---- the rules */

static long after_exec(const char *question)
{
    pid_t child = fork();
    if (child == 0) {
        execl(self, self, question, NULL);
        _exit(99);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void check_words(void)
{
    check_long("isolated at first", get(), SWITCHABLE | ENABLE);
    check_long("off", set(DISABLE), 0);
    check_long("off is told", get(), SWITCHABLE | DISABLE | OWN);
    int status;
    pid_t child = fork();
    if (child == 0)
        _exit(get() == (SWITCHABLE | DISABLE | OWN) ? 0 : 1);
    waitpid(child, &status, 0);
    check_long("a child is as its parent", status, 0);
    check_long("a program is not, unasked", after_exec("get"), SWITCHABLE | ENABLE);
    check_long("off, over exec", set(DISABLE | INHERIT), 0);
    check_long("a program is, when asked", after_exec("get"), SWITCHABLE | DISABLE | OWN | INHERIT);
    check_long("as the machine", set(0), 0);
    check_long("as the machine is told", get(), SWITCHABLE | ENABLE);
    check_long("both", set(ENABLE | DISABLE), -ERANGE);
    check_long("no word", set(1 << 9), -ERANGE);
    check_long("an argument too many", result(prctl(PR_SET_PTI, ENABLE, 1, 0, 0)), -EINVAL);
}

static void check_privilege(void)
{
    require_long("setuid", setuid(1000), 0);
    check_long("off, by a user", set(DISABLE), -EPERM);
    check_long("the machine off, by a user", set_machine("0"), -EACCES);
    check_long("on, by a user", set(ENABLE | INHERIT), 0);
    check_long("on is kept", set(ENABLE), -EPERM);
    check_long("on is told", get(), SWITCHABLE | ENABLE | OWN | INHERIT);
}

static void check_machine(void)
{
    char before[64], status[64];
    read_status(before, sizeof before);
    check_long("the machine off", set_machine("0\n"), 0);
    read_status(status, sizeof status);
    if (strcmp(before, "Mitigation: PTI\n") == 0)
        check_text("what is said of the CPU", status, "Vulnerable\n");
    check_long("the machine is off", machine(), 0);
    check_long("this process follows", get(), SWITCHABLE | DISABLE);
    check_long("a program follows", after_exec("get"), SWITCHABLE | DISABLE);
    check_long("on, this process alone", set(ENABLE), 0);
    check_long("it is on", get(), SWITCHABLE | ENABLE | OWN);
    check_long("as the machine again", set(0), 0);
    check_long("neither 0 nor 1", set_machine("2"), -EINVAL);
    check_long("the machine on", set_machine("1"), 0);
    check_long("the machine is on", machine(), 1);
    read_status(status, sizeof status);
    check_text("what is said of the CPU again", status, before);
    check_long("this process follows back", get(), SWITCHABLE | ENABLE);
}

static unsigned long vfork_word;
static void check_vfork(void)
{
    pid_t child = vfork();
    if (child == 0) {
        vfork_word = set(DISABLE);
        _exit(get() == (SWITCHABLE | DISABLE | OWN) ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    check_long("a child in the same memory", status, 0);
    check_long("switches it for both", get(), SWITCHABLE | DISABLE | OWN);
}

/* ---- no memory for a change */

enum { PROCESSES = 8600, MOST_MAPPINGS = 1000 };

static struct {
    char *start;
    size_t length;
} taken[MOST_MAPPINGS];

/* A child in this memory that waits for ever, and needs no stack for that. */
static pid_t pausing_child(void)
{
    long pid;
    register long none asm("r10") = 0;
    asm volatile("syscall\n test %%rax, %%rax\n jnz 2f\n 1: mov %4, %%eax\n syscall\n jmp 1b\n 2:"
                 : "=a"(pid)
                 : "a"((long)SYS_clone), "D"((long)(CLONE_VM | SIGCHLD)), "S"(0L), "i"(SYS_pause), "d"(0L), "r"(none)
                 : "rcx", "r11", "r8", "memory");
    return (pid_t)pid;
}

/* Takes all the memory there is, to the last page. Gives how many mappings that were. */
static int take_all(void)
{
    int count = 0;
    for (size_t length = (size_t)64 << 20; length >= 4096 && count < MOST_MAPPINGS;) {
        char *start = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (start == MAP_FAILED) {
            length /= 2;
            continue;
        }
        unsigned char last = 0;
        mincore(start + length - 4096, 4096, &last);
        taken[count].start = start;
        taken[count++].length = length;
        if (!(last & 1))
            length /= 2;
    }
    return count;
}

/* What a write of `digit` gives when all memory is taken. */
static long set_machine_without_memory(const char *digit)
{
    int file = open("/proc/sys/kernel/pti", O_WRONLY), count = take_all();
    long done = result(write(file, digit, 1));
    while (count--)
        munmap(taken[count].start, taken[count].length);
    close(file);
    return done;
}

/* A change that there is no memory for changes nothing, one that would have changed nothing included. */
static void check_without_memory(void)
{
    static pid_t children[PROCESSES];
    for (int i = 0; i < PROCESSES; i++)
        if ((children[i] = pausing_child()) < 0) {
            check_long("a process", children[i], 1);
            return;
        }
    for (int is_on = 1; is_on >= 0; is_on--) {
        check_long("the machine as it is to be", set_machine(is_on ? "1" : "0"), 0);
        for (int to = 1; to >= 0; to--) {
            check_long("no memory to change it", set_machine_without_memory(to ? "1" : "0"), -ENOMEM);
            check_long("the machine is as it was", machine(), is_on);
            check_long("and this process", get(), SWITCHABLE | (is_on ? ENABLE : DISABLE));
            check_long("and a program", after_exec("get"), SWITCHABLE | (is_on ? ENABLE : DISABLE));
        }
    }
    check_long("the machine on", set_machine("1"), 0);
    for (int i = 0; i < PROCESSES; i++)
        kill(children[i], SIGKILL);
    for (int i = 0; i < PROCESSES; i++)
        waitpid(children[i], NULL, 0);
}

/* For a look from outside: ring 3 for ever, its isolation off, or on again. */
static void show(const char *which)
{
    check_long("off", set(DISABLE), 0);
    if (strcmp(which, "closed") == 0)
        check_long("on again", set(0), 0);
    say("READY");
    for (;;)
        ;
}

int main(int argc, char **argv)
{
    self = argv[0];
    if (argc > 1 && strcmp(argv[1], "get") == 0)
        return (int)get();
    mkdir("/proc", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    mkdir("/sys", 0755);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    if (argc > 1 && strcmp(argv[1], "crowded") == 0) {
        check_without_memory();
        return check_end("isolation");
    }
    if (argc > 1)
        show(argv[1]);
    long now = get();
    if (now == -EINVAL || now == -ENXIO) {
        check_skip("isolation", now == -EINVAL ? "this kernel cannot switch it" : "booted without");
        if (now == -ENXIO) {
            check_long("nothing is on", machine(), 0);
            check_long("nothing can be", set_machine("1"), -EINVAL);
            check_long("nor for a process", set(ENABLE), -ENXIO);
        }
        return check_end("isolation");
    }
    signal(SIGUSR1, catch);
    check_in_child("words", check_words);
    check_in_child("privilege", check_privilege);
    check_in_child("vfork", check_vfork);
    check_machine();
    meanwhile("a process switched under its threads", turn_process, 200);
    check_long("as the machine", set(0), 0);
    meanwhile("the machine switched under a process", turn_machine, 60);
    check_long("the machine is on", machine(), 1);
    return check_end("isolation");
}
