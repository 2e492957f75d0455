/*
 * Copy on write by several threads at once. All know a page as the one page of zeros; then two of them store to it, each a
 * word of its own, and say so, while the third goes on loading. Who has heard that a word was stored must find it, whichever
 * of the two came first, and made the copy.
 *
 *   copies [ROUNDS]     1000, if not said
 */
#include "others.h"
#include "random.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum { PAGE = 4096, STORERS = 2, THREADS = STORERS + 1, LOADER = STORERS };

static volatile long *page;
static _Atomic long looked[THREADS]; /* the last round in which each has loaded what is there before the stores */
static _Atomic long go;              /* the round in which to store */
static _Atomic long said[STORERS];   /* the last round whose store was made */
static _Atomic long rounds_done;
static long rounds = 1000;

/* The first is the last. */
static void wrong(int thread, long round, long found)
{
    say("FAIL what thread %d has stored: round %ld: got %ld", thread, round, found);
    _exit(1);
}

static void wait_until(_Atomic long *word, long value)
{
    for (unsigned turns = 0; atomic_load(word) < value; turns++)
        if (turns % 1024 == 1023)
            sched_yield();
}

static void look(int thread, long round)
{
    for (int storer = 0; storer < STORERS; storer++)
        if (page[storer * 64] != 0)
            wrong(storer, round, page[storer * 64]);
    atomic_store(&looked[thread], round);
}

static void store(int thread, long round)
{
    page[thread * 64] = round;
    atomic_store(&said[thread], round);
}

static void *second_storer(void *argument)
{
    pin(1);
    for (long round = 1; round <= rounds; round++) {
        wait_until(&rounds_done, round - 1);
        look(1, round);
        wait_until(&go, round);
        store(1, round);
    }
    return argument;
}

/* Loads, so that the page's translation stays in the TLB, until both have stored. */
static void *loader(void *argument)
{
    pin(2);
    for (long round = 1; round <= rounds; round++) {
        wait_until(&rounds_done, round - 1);
        look(LOADER, round);
        for (int stored = 0; stored < STORERS;) {
            stored = 0;
            for (int thread = 0; thread < STORERS; thread++) {
                bool is_said = atomic_load(&said[thread]) == round;
                long found = page[thread * 64];
                stored += is_said;
                if (is_said && found != round)
                    wrong(thread, round, found);
            }
        }
        atomic_store(&looked[LOADER], -round);
    }
    return argument;
}

int main(int count, char **arguments)
{
    if (count > 1)
        rounds = atol(arguments[1]);
    page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check_that("a page", page != MAP_FAILED);
    pthread_t threads[THREADS];
    check_long("a thread", pthread_create(&threads[1], NULL, second_storer, NULL), 0);
    check_long("a thread", pthread_create(&threads[LOADER], NULL, loader, NULL), 0);
    pin(0);
    for (long round = 1; round <= rounds; round++) {
        look(0, round);
        wait_until(&looked[1], round);
        wait_until(&looked[LOADER], round);
        atomic_store(&go, round);
        for (volatile unsigned turns = pick(1u << pick(12)); turns > 0; turns--)
            ;
        store(0, round);
        wait_until(&said[1], round);
        while (atomic_load(&looked[LOADER]) != -round)
            sched_yield();
        madvise((void *)page, PAGE, MADV_DONTNEED);
        atomic_store(&rounds_done, round);
    }
    for (int thread = 1; thread < THREADS; thread++)
        pthread_join(threads[thread], NULL);
    say("copies: %ld rounds", (long)rounds_done);
    check_long("rounds", rounds_done, rounds);
    return check_end("copies");
}
