/*
 * Translations that the CPU keeps: none is used after it was taken away, and with PCID those that may be kept are.
 *
 * Each change of the memory map is looked at through both halves of an address space: ring 3 loads and stores, and
 * the kernel copies (a pipe's read and write). On Linux and here alike.
 *
 * Then what /proc/ringwall counted meanwhile, where there is one (docs/counters.md): a switch to an address space that
 * was loaded before keeps its translations with PCID, and drops them without.
 *
 * Last line before the verdict: `getppid NUMBER`, the kernel's instructions where the TSC counts instructions.
 */
#include "others.h"

#include <pthread.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>

enum { PAGE = 4096, MANY = 64, ROUNDS = 200 };

static int ends[2];
static sigjmp_buf faulted;

static void fault(int signal)
{
    siglongjmp(faulted, signal);
}

static volatile char *map(int pages, int fill)
{
    char *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(at, fill, pages * PAGE);
    return at;
}

/* What ring 3 reads at `at`, or minus the signal. */
static int load(volatile char *at)
{
    int signal = sigsetjmp(faulted, 1);
    return signal ? -signal : *at;
}

static int store(volatile char *at, char value)
{
    int signal = sigsetjmp(faulted, 1);
    if (signal)
        return -signal;
    *at = value;
    return value;
}

/* The same by the kernel's copies: what it read, or minus errno. */
static int kernel_load(volatile char *at)
{
    char value;
    if (write(ends[1], (char *)at, 1) != 1)
        return -errno;
    return read(ends[0], &value, 1) == 1 ? value : -errno;
}

static int kernel_store(volatile char *at, char value)
{
    char lost;
    if (write(ends[1], &value, 1) != 1)
        return -errno;
    if (read(ends[0], (char *)at, 1) == 1)
        return value;
    int error = errno;
    /* A pipe whose reader had no place for it keeps it, or not. */
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    while (read(ends[0], &lost, 1) == 1)
        ;
    fcntl(ends[0], F_SETFL, 0);
    return -error;
}

static void unmapped(int pages)
{
    for (int round = 0; round < 10; round++) {
        volatile char *at = map(pages, 'a');
        volatile char *last = at + (pages - 1) * PAGE;
        require_long("ring 3 reads what was mapped", load(at), 'a');
        require_long("so does the kernel", kernel_load(last), 'a');
        munmap((void *)at, pages * PAGE);
        require_long("ring 3 reads nothing that is unmapped", load(last), -SIGSEGV);
        require_long("nor the first page", load(at), -SIGSEGV);
        require_long("the kernel reads nothing that is unmapped", kernel_load(at), -EFAULT);
        require_long("nor writes", kernel_store(last, 'b'), -EFAULT);
        volatile char *again = mmap((void *)at, pages * PAGE, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        require_long("ring 3 reads the new page", load(again), 0);
        require_long("so does the kernel, at the end", kernel_load(again + (pages - 1) * PAGE), 0);
        munmap((void *)again, pages * PAGE);
    }
}

static void protected(int pages)
{
    volatile char *at = map(pages, 'a');
    for (int round = 0; round < 10; round++) {
        volatile char *page = at + round % pages * PAGE;
        mprotect((void *)at, pages * PAGE, PROT_READ);
        require_long("ring 3 does not write what is read-only", store(page, 'b'), -SIGSEGV);
        require_long("nor does the kernel", kernel_store(page, 'b'), -EFAULT);
        mprotect((void *)at, pages * PAGE, PROT_NONE);
        require_long("ring 3 does not read what is closed", load(page), -SIGSEGV);
        require_long("nor does the kernel", kernel_load(page), -EFAULT);
        mprotect((void *)at, pages * PAGE, PROT_READ | PROT_WRITE);
        require_long("ring 3 writes again", store(page, 'a'), 'a');
        require_long("so does the kernel", kernel_store(page, 'a'), 'a');
    }
    munmap((void *)at, pages * PAGE);
}

static void moved(void)
{
    volatile char *at = map(1, 'a'), *to = map(1, 'b');
    require_long("both are there", load(at) + load(to), 'a' + 'b');
    require_long("a page moves", mremap((void *)at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to, 1);
    require_long("ring 3 reads it there", load(to), 'a');
    require_long("so does the kernel", kernel_load(to), 'a');
    require_long("and not where it was", load(at), -SIGSEGV);
    require_long("nor the kernel", kernel_load(at), -EFAULT);
    munmap((void *)to, PAGE);
}

/* Another process breaks a copy-on-write page of this one, while this one is not loaded. */
static void changed_from_outside(void)
{
    for (int round = 0; round < 10; round++) {
        volatile char *at = map(1, 'a');
        int mine[2];
        char byte = 0;
        if (pipe(mine) != 0)
            return;
        pid_t child = fork();
        if (child == 0) {
            char value = 'b';
            struct iovec from = {&value, 1}, to = {(void *)at, 1};
            read(mine[0], &byte, 1);
            long done = process_vm_writev(getppid(), &from, 1, &to, 1, 0);
            _exit(done == 1 && *at == 'a' ? 0 : 1);
        }
        require_long("the page is as it was", load(at), 'a');
        write(mine[1], &byte, 1);
        int status = -1;
        waitpid(child, &status, 0);
        require_long("the other process wrote, and has its own page", status, 0);
        require_long("ring 3 reads what it wrote", load(at), 'b');
        require_long("so does the kernel", kernel_load(at), 'b');
        close(mine[0]);
        close(mine[1]);
        munmap((void *)at, PAGE);
    }
}

/* The words after `NAME:` in /proc/ringwall; NULL if there is none. */
static const char *line(const char *name)
{
    static char text[8192];
    int file = open("/proc/ringwall", O_RDONLY);
    if (file < 0)
        return NULL;
    ssize_t length = 0, more;
    while ((more = read(file, text + length, sizeof text - 1 - length)) > 0)
        length += more;
    close(file);
    text[length] = 0;
    for (char *at = strtok(text, "\n"); at; at = strtok(NULL, "\n")) {
        size_t size = strlen(name);
        if (strncmp(at, name, size) == 0 && at[size] == ':')
            return at + size + 1;
    }
    return NULL;
}

/* What all CPUs have counted. */
static long counted(const char *name)
{
    const char *at = line(name);
    long sum = 0;
    if (!at)
        check_that(name, false);
    else
        for (char *end; strtol(at, &end, 10), end != at; at = end)
            sum += strtol(at, NULL, 10);
    return sum;
}

static void echo(int from, int to)
{
    char byte;
    while (read(from, &byte, 1) == 1)
        write(to, &byte, 1);
    _exit(0);
}

/* To another process and back. */
static void switches(int rounds)
{
    int there[2], back[2];
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
    for (int i = 0; i < rounds; i++) {
        write(there[1], &byte, 1);
        read(back[0], &byte, 1);
    }
    close(there[1]);
    close(back[0]);
    waitpid(child, NULL, 0);
}

/* Whether ring 3 has a root of its own: not in a process whose isolation is switched off. */
static bool is_isolated(void)
{
    enum { GET = 0x50544947, DISABLE = 4 };
    int word = prctl(GET, 0, 0, 0, 0);
    return strstr(line("isolation"), "on") != NULL && (word < 0 || (word & DISABLE) == 0);
}

static void count(void)
{
    const char *tlb = line("tlb");
    if (!tlb)
        return check_skip("counters", "no /proc/ringwall");
    bool pcid = strstr(tlb, "PCID") != NULL, isolated = is_isolated();
    say("tlb:%s", line("tlb"));

    long kept = counted("switch-kept"), flushed = counted("switch-flushed");
    switches(ROUNDS);
    kept = counted("switch-kept") - kept;
    flushed = counted("switch-flushed") - flushed;
    say("%d round trips: %ld switches kept, %ld flushed", ROUNDS, kept, flushed);
    /* The child's first and its last, and whatever else runs. */
    check_that("switches are spared their flush with PCID, and only then",
               pcid ? kept >= 2 * ROUNDS && flushed <= 20 : kept == 0 && flushed >= 2 * ROUNDS);

    long few = counted("flush-pages"), whole = counted("flush-whole"), due = counted("flush-exit");
    /* Its neighbours keep the page table. */
    munmap((void *)(map(3, 'a') + PAGE), PAGE);
    check_that("one page is flushed by its address", counted("flush-pages") > few);
    check_long("and nothing more", counted("flush-whole"), whole);
    munmap((void *)map(MANY, 'a'), MANY * PAGE);
    check_that("many are flushed at once", counted("flush-whole") > whole);
    check_that("the user half of a PCID by the next exit, and only there",
               (counted("flush-exit") > due) == (pcid && isolated));
}

static volatile bool is_there, may_go;

static void *keep_loaded(void *unused)
{
    pin(1);
    is_there = true;
    while (!may_go)
        ;
    return NULL;
}

/* A thread on the other CPU has to be told of every change, and of none when it is gone. */
static void count_shootdowns(void)
{
    enum { CHANGES = 50 };
    pthread_t thread;
    if (!line("tlb"))
        return;
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
        return check_skip("shootdowns", "one CPU");
    if (pthread_create(&thread, NULL, keep_loaded, NULL) != 0)
        return check_that("a thread", false);
    while (!is_there)
        sched_yield();
    long sent = counted("shootdown-sent"), served = counted("shootdown-served");
    for (int i = 0; i < CHANGES; i++)
        munmap((void *)map(1, 'a'), PAGE);
    sent = counted("shootdown-sent") - sent;
    served = counted("shootdown-served") - served;
    say("shootdowns: %ld sent, %ld served for %d changes", sent, served, CHANGES);
    check_that("each change is told", sent >= CHANGES && served >= CHANGES);
    may_go = true;
    pthread_join(thread, NULL);
}

/* With `ringwall.count=on` the ways in are counted; else they stay 0. */
static void count_calls(void)
{
    enum { CALLS = 1000 };
    if (!line("tlb"))
        return;
    bool isolated = is_isolated();
    const char *name = isolated ? "entries-switched" : "entries-open";
    long before = counted(name), other = counted(isolated ? "entries-open" : "entries-switched");
    for (int i = 0; i < CALLS; i++)
        syscall(SYS_getppid);
    long ways = counted(name) - before;
    say("entries: %s", ways == 0 ? "not counted" : "counted");
    /* Reading the file takes some, other processes and the timer may take more. */
    check_that("each call is one way in", before == 0 ? ways == 0 : ways >= CALLS && ways < 2 * CALLS);
    check_long("and of its own kind", other, 0);
}

static inline uint64_t now(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high)::"memory");
    return (uint64_t)high << 32 | low;
}

static void cost(void)
{
    uint64_t nothing = UINT64_MAX, call = UINT64_MAX;
    for (int i = 0; i < 1000; i++) {
        long number = SYS_getppid;
        uint64_t start = now();
        __asm__ volatile("" : "+a"(number)::"rcx", "r11", "memory");
        uint64_t spent = now() - start;
        nothing = spent < nothing ? spent : nothing;
        number = SYS_getppid;
        start = now();
        __asm__ volatile("syscall" : "+a"(number)::"rcx", "r11", "memory");
        spent = now() - start;
        call = spent < call ? spent : call;
    }
    /* SYSCALL itself is the program's instruction. */
    say("getppid %lu", (unsigned long)(call - nothing - 1));
}

int main(void)
{
    /* Two processes on two CPUs switch nothing. */
    pin(0);
    check_quiet = true;
    signal(SIGSEGV, fault);
    if (pipe(ends) != 0)
        return 1;
    unmapped(1);
    unmapped(MANY);
    protected(1);
    protected(MANY);
    moved();
    changed_from_outside();
    count();
    count_shootdowns();
    count_calls();
    cost();
    return check_end("tlb");
}
