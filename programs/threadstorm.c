/*
 * Thousands of threads: created and joined one after the other, many at once, with thread-local storage
 * checked in each, mutex and condition contention, detached threads, and threads that the end of the
 * process cuts short.
 */
#include "check.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

enum { SERIAL = 2000, BATCHES = 20, BATCH = 50, WORKERS = 8, ROUNDS = 2000, ITEMS = 3000, DETACHED = 300 };

static __thread uint64_t local = 5;
static __thread char local_block[1000];

static bool local_is_fresh(void)
{
    for (size_t i = 0; i < sizeof local_block; i++)
        if (local_block[i] != 0)
            return false;
    return local == 5;
}

/* Returns its argument if its thread-local storage is its own all the time. */
static void *body(void *argument)
{
    if (!local_is_fresh())
        return NULL;
    local = (uintptr_t)argument;
    memset(local_block, (int)(uintptr_t)argument, sizeof local_block);
    for (int i = 0; i < 3; i++)
        sched_yield();
    return local == (uintptr_t)argument && local_block[999] == (char)(uintptr_t)argument ? argument : NULL;
}

static bool create(pthread_t *thread, void *(*start)(void *), uintptr_t argument)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    bool made = pthread_create(thread, &attributes, start, (void *)argument) == 0;
    pthread_attr_destroy(&attributes);
    return made;
}

static bool join(pthread_t thread, uintptr_t expected)
{
    void *returned = NULL;
    return pthread_join(thread, &returned) == 0 && returned == (void *)expected;
}

static void serial(void)
{
    bool good = true;
    for (uintptr_t i = 1; i <= SERIAL; i++) {
        pthread_t thread;
        good &= create(&thread, body, i) && join(thread, i);
    }
    check_that("one after the other", good && local == 5);
}

static void batches(void)
{
    bool good = true;
    for (int batch = 0; batch < BATCHES; batch++) {
        pthread_t threads[BATCH];
        for (uintptr_t i = 0; i < BATCH; i++)
            good &= create(&threads[i], body, i + 1);
        for (uintptr_t i = 0; i < BATCH; i++)
            good &= join(threads[i], i + 1);
    }
    check_that("fifty at once", good);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long counter;

static void *count_up(void *unused)
{
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&mutex);
        long before = counter;
        if (i % 16 == 0)
            sched_yield(); /* while others want the lock */
        counter = before + 1;
        pthread_mutex_unlock(&mutex);
    }
    return unused;
}

static void contention(void)
{
    pthread_t threads[WORKERS];
    bool good = true;
    for (int i = 0; i < WORKERS; i++)
        good &= create(&threads[i], count_up, 1);
    for (int i = 0; i < WORKERS; i++)
        good &= join(threads[i], 1);
    check_that("workers", good);
    check_long("mutex", counter, (long)WORKERS * ROUNDS);
}

static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER, not_full = PTHREAD_COND_INITIALIZER;
static int queue[4], queued;
static long consumed;

static void put(int item)
{
    pthread_mutex_lock(&mutex);
    while (queued == (int)COUNT_OF(queue))
        pthread_cond_wait(&not_full, &mutex);
    queue[queued++] = item;
    pthread_cond_signal(&not_empty);
    pthread_mutex_unlock(&mutex);
}

static int take(void)
{
    pthread_mutex_lock(&mutex);
    while (queued == 0)
        pthread_cond_wait(&not_empty, &mutex);
    int item = queue[--queued];
    if (item)
        consumed += item;
    pthread_cond_signal(&not_full);
    pthread_mutex_unlock(&mutex);
    return item;
}

static void *consumer(void *argument)
{
    while (take())
        ;
    return argument;
}

static void conditions(void)
{
    pthread_t threads[WORKERS];
    bool good = true;
    for (int i = 0; i < WORKERS; i++)
        good &= create(&threads[i], consumer, 1);
    for (int i = 1; i <= ITEMS; i++)
        put(i);
    /* The queue is last in, first out: let it run dry before the ends go in. */
    for (bool empty = false; !empty; sched_yield()) {
        pthread_mutex_lock(&mutex);
        empty = queued == 0;
        pthread_mutex_unlock(&mutex);
    }
    for (int i = 0; i < WORKERS; i++)
        put(0);
    for (int i = 0; i < WORKERS; i++)
        good &= join(threads[i], 1);
    check_that("consumers", good);
    check_long("condition variables", consumed, (long)ITEMS * (ITEMS + 1) / 2);
}

static volatile int finished;

static void *detached(void *unused)
{
    __atomic_fetch_add(&finished, 1, __ATOMIC_SEQ_CST);
    return unused;
}

static void detached_threads(void)
{
    bool good = true;
    for (int i = 0; i < DETACHED; i++) {
        pthread_t thread;
        good &= create(&thread, detached, 0) && pthread_detach(thread) == 0;
    }
    struct timespec moment = {0, 1000000};
    for (int i = 0; i < 10000 && finished < DETACHED; i++)
        nanosleep(&moment, NULL);
    check_that("detached threads start", good);
    check_long("detached threads end", finished, DETACHED);
}

static void *busy(void *unused)
{
    for (volatile unsigned long i = 0;; i++)
        ;
    return unused;
}

static void leave_busy(void)
{
    pthread_t thread;
    for (int i = 0; i < 10; i++)
        create(&thread, busy, 0);
    sched_yield();
    exit(9);
}

static void cut_short(void)
{
    bool good = true;
    for (int i = 0; i < 20; i++)
        good &= child_status(leave_busy) == 9 << 8;
    check_that("exit ends all threads", good);
}

int main(void)
{
    serial();
    batches();
    contention();
    conditions();
    detached_threads();
    cut_short();
    return check_end("threadstorm");
}
