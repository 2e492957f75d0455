/*
 * Thousands of processes: one after the other, many at once, a tree of them, and chains in which each
 * starts the next. Every exit status is checked, so is the memory that each inherits and that no process
 * is left over.
 */
#include "check.h"

#include <sched.h>
#include <sys/mman.h>

enum { SERIAL = 1000, BATCHES = 20, BATCH = 50, DEPTH = 8, CHAIN = 200, WORDS = 4096 };

static uint32_t memory[WORDS];

static uint32_t sum(void)
{
    uint32_t total = 0;
    for (int i = 0; i < WORDS; i++)
        total += memory[i];
    return total;
}

static int status_of(pid_t child)
{
    int status = -1;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

/* Each child inherits all that its elder sibling's parent wrote, and spoils its own copy. */
static void serial(void)
{
    bool good = true;
    for (int i = 0; i < SERIAL; i++) {
        memory[i % WORDS] += (uint32_t)i;
        uint32_t expected = sum();
        pid_t child = fork();
        if (child == 0) {
            bool same = sum() == expected;
            memset(memory, 0xff, sizeof memory);
            _exit(same ? i & 127 : 200);
        }
        good &= status_of(child) == (i & 127) << 8 && sum() == expected;
    }
    check_that("one after the other", good);
}

static void batches(void)
{
    bool good = true;
    for (int batch = 0; batch < BATCHES; batch++) {
        pid_t children[BATCH];
        for (int i = 0; i < BATCH; i++) {
            children[i] = fork();
            if (children[i] == 0) {
                for (int k = 0; k < i % 5; k++)
                    sched_yield();
                _exit(i);
            }
            good &= children[i] > 0;
        }
        for (int i = BATCH - 1; i >= 0; i--)
            good &= status_of(children[i]) == i << 8;
    }
    check_that("fifty at once", good);
}

/* Two children each, DEPTH generations: the exit status adds up, modulo 251. */
static int tree(int depth)
{
    int total = 1;
    if (depth == 0)
        return total;
    for (int i = 0; i < 2; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(tree(depth - 1));
        total += status_of(child) >> 8;
    }
    return total % 251;
}

/* Each process waits for the one it started: CHAIN are alive at the end. */
static int chain(int length)
{
    if (length == 0)
        return 7;
    pid_t child = fork();
    if (child == 0)
        _exit(chain(length - 1));
    return status_of(child) >> 8;
}

/* Parents that do not wait: their children are process 1's, and must not be ours. */
static void orphans(void)
{
    for (int i = 0; i < 100; i++) {
        pid_t child = fork();
        if (child == 0) {
            if (fork() == 0)
                _exit(0);
            _exit(0);
        }
        require_long("orphan's parent", status_of(child), 0);
    }
    if (getpid() == 1)
        while (waitpid(-1, NULL, 0) > 0)
            ;
    check_long("no child left", result(waitpid(-1, NULL, WNOHANG)), -ECHILD);
}

int main(void)
{
    serial();
    batches();
    check_long("a tree", tree(DEPTH), ((1 << (DEPTH + 1)) - 1) % 251);
    check_long("a chain", chain(CHAIN), 7);
    orphans();
    return check_end("forkstorm");
}
