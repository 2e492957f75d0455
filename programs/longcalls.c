/*
 * Calls that take long do not keep others waiting: while one CPU is inside a call that moves hundreds of megabytes,
 * threads on another CPU give memory back, which the first CPU has to be told of, and end.
 *
 * A wait may last half as long as the call, which moves so much that it takes a second or so: who was waited for until its
 * end fails, on a fast machine and on a slow one. If the host has stopped one of the CPUs, there is another try.
 *
 * Sources: process_vm_readv(2), preadv(2), sendfile(2), getrandom(2), munmap(2), sched_setaffinity(2).
 */
#include "others.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

enum { PAGE = 4096, TRIES = 4, PIECES = 4 };
static const size_t PIECE = 2 << 20, TOTAL = 512 << 20, MOST = 0x7ffff000, MOST_RANDOM = 0x1ffffff;
static const double ENOUGH = 0.7;

static int first, last, sparse, nowhere;
static char *aliases;
static atomic_bool ready, inside, over;

static pid_t twin; /* has the same pages, and a lock of its own for them */

/* So many bytes of memory, some of them more than once. */
static struct iovec all[PIECES];

static int fill(size_t bytes)
{
    int pieces = 0;
    for (; bytes > 0; bytes -= all[pieces++].iov_len)
        all[pieces] = (struct iovec){aliases, bytes < TOTAL ? bytes : TOTAL};
    return pieces;
}

static ssize_t to_twin(size_t bytes)
{
    int pieces = fill(bytes);
    return process_vm_writev(twin, all, pieces, all, pieces, 0);
}

static ssize_t from_twin(size_t bytes)
{
    int pieces = fill(bytes);
    return process_vm_readv(twin, all, pieces, all, pieces, 0);
}

static ssize_t from_file(size_t bytes)
{
    return preadv(sparse, all, fill(bytes), 0);
}

static ssize_t between_files(size_t bytes)
{
    off_t start = 0;
    return sendfile(nowhere, sparse, &start, bytes);
}

static ssize_t at_random(size_t bytes)
{
    return getrandom(aliases, bytes, 0);
}

static const struct call {
    const char *name;
    ssize_t (*run)(size_t);
    size_t most;
} calls[] = {
    {"process_vm_writev", to_twin, MOST},
    {"process_vm_readv", from_twin, MOST},
    {"preadv", from_file, MOST},
    {"sendfile", between_files, MOST},
    {"getrandom", at_random, MOST_RANDOM},
};

static void *nothing(void *argument)
{
    return argument;
}

/* Gives back a page that the other CPU may know, and lets a thread end; how long that took at most. */
static void *wait_for_others(void *longest)
{
    pin(first);
    ready = true;
    while (!inside)
        sched_yield();
    while (!over) {
        volatile char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED)
            break;
        *page = 1;
        double start = seconds();
        munmap((void *)page, PAGE);
        pthread_t thread;
        if (pthread_create(&thread, NULL, nothing, NULL) == 0)
            pthread_join(thread, NULL);
        double took = seconds() - start;
        if (took > *(double *)longest)
            *(double *)longest = took;
        usleep(5000);
    }
    return NULL;
}

struct times {
    double took, longest; /* the call, and the longest wait beside it */
    bool whole;
};

static struct times measure(const struct call *call, size_t bytes)
{
    struct times times = {0};
    pthread_t other;
    ready = inside = over = false;
    if (pthread_create(&other, NULL, wait_for_others, &times.longest) != 0)
        return times;
    while (!ready)
        sched_yield();
    inside = true;
    double start = seconds();
    times.whole = call->run(bytes) == (ssize_t)bytes;
    times.took = seconds() - start;
    over = true;
    pthread_join(other, NULL);
    return times;
}

static void try(const struct call *call)
{
    bool whole = true, well = false;
    size_t bytes = 16 << 20;
    for (int tries = 0; tries < TRIES && whole && !well;) {
        struct times times = measure(call, bytes);
        whole = times.whole;
        if (times.took < ENOUGH && bytes < call->most) {
            double more = (double)bytes / (times.took < 0.01 ? 0.01 : times.took);
            bytes = more < (double)call->most ? (size_t)more : call->most;
            continue;
        }
        tries++;
        well = times.longest * 2 < times.took;
        if (!well)
            say("%s took %d ms, and somebody waited for %d ms", call->name, (int)(times.took * 1000),
                (int)(times.longest * 1000));
    }
    char name[64];
    snprintf(name, sizeof name, "%s moves all", call->name);
    check_that(name, whole);
    snprintf(name, sizeof name, "%s lets others go on", call->name);
    check_that(name, well);
}

static bool prepare(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof set, &set);
    first = -1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &set)) {
            first = first < 0 ? cpu : first;
            last = cpu;
        }
    pin(last);
    int file = memfd_create("piece", 0);
    sparse = memfd_create("sparse", 0);
    nowhere = open("/dev/null", O_WRONLY);
    if (file < 0 || ftruncate(file, (off_t)PIECE) != 0 || ftruncate(sparse, (off_t)MOST) != 0)
        return false;
    aliases = mmap(NULL, TOTAL, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (size_t at = 0; aliases != MAP_FAILED && at < TOTAL; at += PIECE)
        if (mmap(aliases + at, PIECE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_POPULATE, file, 0) == MAP_FAILED)
            return false;
    if (aliases == MAP_FAILED || (twin = fork()) < 0)
        return false;
    for (; twin == 0; pause())
        ;
    return true;
}

int main(void)
{
    if (!prepare()) {
        check_that("memory for it", false);
        return check_end("longcalls");
    }
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        if (calls[i].run == between_files && nowhere < 0)
            continue; /* process 1, before /dev is there */
        try(&calls[i]);
    }
    kill(twin, SIGKILL);
    waitpid(twin, NULL, 0);
    return check_end("longcalls");
}
