/*
 * Every system call number with wild arguments: the machine survives, and so does everybody but the
 * process that makes the calls.
 *
 * Each number gets a child of its own, without privileges where they can be dropped, in its own session.
 * It goes through the patterns; how far it came is in shared memory, so that when a call blocks, exits,
 * crashes or takes the program's memory away, the parent kills what is left and starts a new child behind
 * that pattern. No result is compared: the verdict is that all patterns were tried and that the parent's
 * memory, descriptors, directory, signals and children are as before.
 */
#include "check.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>

enum { LAST_NUMBER = 460, PAGE = 4096, SHAPES = 4, PATIENCE_MS = 20 };

#ifndef __WALL
#define __WALL 0x40000000
#endif

static volatile int *progress;
static char *page, *read_only;

/* Numbers that a privileged process must not try: they are meant to end the machine. */
static bool forbidden(long number)
{
    enum { REBOOT = 169, KEXEC_LOAD = 246, KEXEC_FILE_LOAD = 320 };
    return number == REBOOT || number == KEXEC_LOAD || number == KEXEC_FILE_LOAD;
}

static uint64_t value(int index)
{
    const uint64_t values[] = {
        0,
        1,
        UINT64_MAX,
        -4096ull,
        -4095ull,
        INT64_MAX,
        (uint64_t)INT64_MIN,
        UINT32_MAX,
        0x80000000,
        0xffffffff81000000,
        0xffff888000000000,
        0x8000000000000000,
        0x0100000000000000,
        0x00007ffffffff000,
        0x1000,
        0x5a5a5a5a5a5a5a5a,
        (uint64_t)page,
        (uint64_t)page + PAGE - 8,
        (uint64_t)page + PAGE,
        (uint64_t)read_only,
    };
    return index < (int)COUNT_OF(values) ? values[index] : 0;
}

enum { VALUES = 20, PATTERNS = VALUES * SHAPES };

/* All arguments alike; a good descriptor first; good memory first; good memory second. */
static void one_call(long number, int pattern)
{
    uint64_t wild = value(pattern / SHAPES), a[6] = {wild, wild, wild, wild, wild, wild};
    switch (pattern % SHAPES) {
    case 1:
        a[0] = 2;
        break;
    case 2:
        a[0] = (uint64_t)page;
        break;
    case 3:
        a[1] = (uint64_t)page;
        break;
    }
    syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* Descriptors 0 and 1 are a pipe's ends, 2 is a file: nothing of the parent's is in reach. */
static void isolate(void)
{
    for (int fd = 0; fd < 16; fd++)
        close(fd);
    int ends[2];
    if (pipe(ends) != 0 || memfd_create("wild", 0) != 2)
        _exit(1);
    setsid();
    /* Straight to the kernel: the C library may keep threads in step, and there are none. */
    syscall(SYS_setgid, 65534);
    syscall(SYS_setuid, 65534);
}

static void child(long number, int first)
{
    isolate();
    pid_t self = (pid_t)syscall(SYS_getpid);
    for (int pattern = first; pattern < PATTERNS; pattern++) {
        *progress = pattern + 1;
        one_call(number, pattern);
        if ((pid_t)syscall(SYS_getpid) != self)
            _exit(0); /* the call made a process: this is it */
    }
    _exit(0);
}

/* Waits for `pid` as long as it gets on; kills it, and all it started, where it does not. */
static void supervise(pid_t pid)
{
    struct timespec moment = {0, 1000000};
    int seen = *progress, idle = 0;
    while (waitpid(pid, NULL, __WALL | WNOHANG) == 0) {
        nanosleep(&moment, NULL);
        idle = *progress == seen ? idle + 1 : 0;
        seen = *progress;
        if (idle > PATIENCE_MS) {
            kill(pid, SIGKILL);
            waitpid(pid, NULL, __WALL);
            break;
        }
    }
    kill(-pid, SIGKILL);
    /* Processes that a clone made ours. */
    for (pid_t other; (other = waitpid(-1, NULL, __WALL | WNOHANG)) >= 0; nanosleep(&moment, NULL))
        if (other == 0)
            kill(-pid, SIGKILL);
}

static void try_number(long number)
{
    *progress = 0;
    while (*progress < PATTERNS) {
        int first = *progress;
        pid_t pid = fork();
        if (pid == 0)
            child(number, first);
        if (pid < 0) {
            check_long("fork", result(pid), 1);
            return;
        }
        supervise(pid);
        if (*progress == first) {
            check_long("progress of call", number, -1);
            return;
        }
    }
}

/* The parent's own state, before and after. */
struct state {
    uint32_t sum;
    pid_t self, parent, session;
    char directory[256];
    int descriptor;
    sigset_t blocked;
};

static char memory[16 * PAGE];

static struct state current(void)
{
    struct state state;
    memset(&state, 0, sizeof state);
    for (size_t i = 0; i < sizeof memory; i++)
        state.sum = state.sum * 31 + (unsigned char)memory[i];
    state.self = getpid();
    state.parent = getppid();
    state.session = getsid(0);
    if (!getcwd(state.directory, sizeof state.directory))
        state.directory[0] = 0;
    state.descriptor = dup(1);
    close(state.descriptor);
    sigprocmask(SIG_BLOCK, NULL, &state.blocked);
    return state;
}

static void works(void)
{
    char *more = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (more == MAP_FAILED)
        _exit(1);
    memset(more, 1, 64 * PAGE);
    int ends[2];
    char byte = 'b';
    _exit(pipe(ends) == 0 && write(ends[1], &byte, 1) == 1 && read(ends[0], &byte, 1) == 1 ? 5 : 2);
}

int main(void)
{
    progress = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    read_only = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if ((void *)progress == MAP_FAILED || page == MAP_FAILED || read_only == MAP_FAILED) {
        check_long("mmap", result(-1), 0);
        return check_end("wildcalls");
    }
    mprotect(page + PAGE, PAGE, PROT_NONE);
    for (size_t i = 0; i < sizeof memory; i++)
        memory[i] = (char)(i * 7);
    struct state before = current();
    for (long number = 0; number <= LAST_NUMBER; number++)
        if (!forbidden(number))
            try_number(number);
    const long beyond[] = {512, 547, 1000, 0x40000000, 0x40000027, 0x7fffffff, -1, INT64_MIN};
    for (size_t i = 0; i < COUNT_OF(beyond); i++)
        try_number(beyond[i]);
    struct state after = current();
    check_that("the parent is as before", memcmp(&before, &after, sizeof before) == 0);
    check_long("the machine works", child_status(works), 5 << 8);
    check_long("no child left", result(waitpid(-1, NULL, __WALL)), -ECHILD);
    return check_end("wildcalls");
}
