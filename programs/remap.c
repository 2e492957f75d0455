/*
 * One page is unmapped, mapped anew, moved, write-protected, dropped and copied on write, over and over, while
 * threads on the other CPUs load from it, store to it, and let the kernel copy from it and to it. After a
 * call that changed the page has returned, nobody may see what was there before, through either half of the
 * address space: not in ring 3, and not the kernel.
 *
 *   remap [ROUNDS [CHECKERS [EVERY]]]     2000 rounds and a checker for every CPU but one (0: the same), if not said;
 *                                         every so many rounds isolation is switched, where a kernel can do that
 *
 * Long runs say every SAY_EVERY rounds how far they are.
 *
 * The mapper publishes what the page shows in one word, the epoch: the number of the round, what may be done to
 * the page, and whether it is being changed. The page's first word is that epoch. A checker that finds the same epoch
 * before and after its access knows what it must have found. Each round waits for a checker that has looked in ring 3
 * and through the kernel, and each eighth for all that work. Stores need no such care: one that lands in a page that
 * was taken away is found there, by its owner, who filled it with a pattern.
 *
 * The page lies alone in its 512 GiB, so unmapping it frees its page tables too.
 */
#include "others.h"
#include "random.h"
#include "workers.h"

#include <pthread.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/prctl.h>

enum { PAGE = 4096, WORDS = PAGE / 8, OBJECTS = 8, MOST_CHECKERS = 63, BESIDE = 200, FIRST_SLOT = 8, FORK_EVERY = 64 };
enum { SAY_EVERY = 10000, NOBODY = -1 };

/* What a checker may do in an epoch. */
enum mode { WRITABLE, READABLE, ABSENT };

enum { BUSY = 1, MODE_SHIFT = 1, ROUND_SHIFT = 3 };

#define POISON 0x5a5a5a5a5a5a5a5aul

static volatile uint64_t *const window = (void *)(0x200000000000ul + 300 * PAGE);
static volatile uint64_t *const elsewhere = (void *)(0x210000000000ul + 9 * PAGE);

static _Atomic uint64_t epoch = BUSY;
static atomic_bool over;
static atomic_long wrong_count;
static uint64_t (*alias)[WORDS]; /* the objects, where nobody takes them away */
static int file;
static long rounds_done;
static atomic_int storer = NOBODY; /* the checker that is to store to the page while it is being changed */

struct checker {
    pthread_t thread;
    int number;
    _Atomic uint64_t seen; /* the last epoch that it made a check in */
    _Atomic uint32_t works; /* a futex: 0 while it is to sleep */
    long loads, stores, copies_from, copies_to, faults;
} __attribute__((aligned(64)));
static struct checker checkers[MOST_CHECKERS];
static int count, cpus = 1;

static __thread sigjmp_buf after_fault;
static __thread volatile bool may_fault;

static void on_fault(int number)
{
    if (!may_fault) {
        signal(number, SIG_DFL);
        return;
    }
    siglongjmp(after_fault, 1);
}

static void wrong(const char *what, uint64_t at, uint64_t got)
{
    if (atomic_fetch_add(&wrong_count, 1) < 20)
        say("FAIL %s: round %ld, mode %d: got %#lx (round %ld)", what, (long)(at >> ROUND_SHIFT),
            (int)(at >> MODE_SHIFT & 3), (long)got, (long)(got >> ROUND_SHIFT));
}

static enum mode mode_of(uint64_t at)
{
    return at >> MODE_SHIFT & 3;
}

static bool is_still(uint64_t at)
{
    atomic_thread_fence(memory_order_seq_cst);
    return atomic_load(&epoch) == at;
}

/* Loads in a row: the translation stays in the TLB from one to the next. */
static void check_load(struct checker *me, uint64_t at)
{
    if (sigsetjmp(after_fault, 0) != 0) {
        me->faults++;
        if (mode_of(at) != ABSENT && is_still(at))
            wrong("a load faulted", at, 0);
        return;
    }
    may_fault = true;
    for (int i = 0; i < 200; i++) {
        uint64_t found = window[0];
        if (!is_still(at))
            break;
        if (mode_of(at) == ABSENT)
            wrong("a load from what was unmapped", at, found);
        else if (found != at)
            wrong("a load from another page", at, found);
    }
    may_fault = false;
    me->loads++;
}

static void check_store(struct checker *me, uint64_t at)
{
    if (sigsetjmp(after_fault, 0) != 0) {
        me->faults++;
        if (mode_of(at) == WRITABLE && is_still(at))
            wrong("a store faulted", at, 0);
        return;
    }
    may_fault = true;
    for (int i = 0; i < 200; i++) {
        window[FIRST_SLOT + me->number] = at;
        if (!is_still(at))
            break;
        if (mode_of(at) != WRITABLE)
            wrong("a store to what is not writable", at, 0);
    }
    may_fault = false;
    me->stores++;
}

/* The kernel reads the page: into a pipe. */
static void check_copy_from(struct checker *me, uint64_t at, const int *pipes)
{
    uint64_t found = 0;
    ssize_t done = write(pipes[1], (const void *)window, 8);
    bool still = is_still(at);
    if (done > 0 && read(pipes[0], &found, 8) != done)
        wrong("the pipe", at, found);
    if (still && mode_of(at) == ABSENT && done > 0)
        wrong("the kernel read what was unmapped", at, found);
    if (still && mode_of(at) != ABSENT && (done != 8 || found != at))
        wrong("the kernel read another page", at, found);
    me->copies_from++;
}

/* The kernel writes the page: from a pipe. */
static void check_copy_to(struct checker *me, uint64_t at, const int *pipes)
{
    uint64_t value = at;
    if (write(pipes[1], &value, 8) != 8)
        wrong("the pipe", at, 0);
    ssize_t done = read(pipes[0], (void *)&window[FIRST_SLOT + me->number], 8);
    bool still = is_still(at);
    if (still && mode_of(at) == WRITABLE && done != 8)
        wrong("the kernel could not write", at, 0);
    if (still && mode_of(at) != WRITABLE && done > 0)
        wrong("the kernel wrote what is not writable", at, 0);
    while (read(pipes[0], &value, 8) > 0)
        ;
    me->copies_to++;
}

/* Uses the page while it is being changed: what the TLB learns now is what was there before, or what comes. One may be
 * told to store, once. */
static void touch(struct checker *me)
{
    if (sigsetjmp(after_fault, 0) != 0)
        return;
    may_fault = true;
    while (atomic_load(&epoch) & BUSY) {
        (void)window[0];
        if (atomic_load(&storer) == me->number) {
            atomic_store(&storer, NOBODY);
            window[FIRST_SLOT + me->number] = POISON;
        }
    }
    may_fault = false;
}

static void *check(void *argument)
{
    struct checker *me = argument;
    pin(me->number + 1);
    int pipes[2];
    if (pipe2(pipes, O_NONBLOCK) != 0)
        return NULL;
    for (unsigned turn = (unsigned)me->number; !atomic_load(&over); turn++) {
        uint64_t at = atomic_load(&epoch);
        if (at & BUSY) {
            if (cpus == 1)
                sched_yield();
            touch(me);
            /* From here to the first check in ring 3: an emulator's TLB may lose everything in the kernel. */
            while ((at = atomic_load(&epoch)) & BUSY && cpus > 1)
                ;
        }
        if (at & BUSY)
            continue;
        while (!atomic_load(&me->works))
            sleep_at(&me->works);
        /* Through both halves, ring 3's first: what the kernel's own entries flush is no longer there to be found. */
        if (turn % 2)
            check_load(me, at);
        else
            check_store(me, at);
        if (turn / 2 % 2)
            check_copy_from(me, at, pipes);
        else
            check_copy_to(me, at, pipes);
        atomic_store(&me->seen, at);
    }
    close(pipes[0]);
    close(pipes[1]);
    return me;
}

/* Most of the time one checker works, so that an emulator's CPUs need not wait for each other; now and then all do, in
 * long runs less often: where there are more CPUs than the host has, that takes fifteen times as long. */
static bool is_to_work(int checker, long round)
{
    long block = round / 32, all = block < 1024 ? 4 : 64;
    return round < 0 || block % all == all - 1 || checker == block % count;
}

/* Gives how many work in this round. */
static int set_to_work(long round)
{
    int working = 0;
    for (int i = 0; i < count; i++) {
        bool works = is_to_work(i, round);
        working += works;
        set_worker(&checkers[i].works, works);
    }
    return working;
}

/* Waits until `wanted` checkers have had their turn in this epoch. */
static void let_them_look(uint64_t at, int wanted)
{
    for (long turns = 0;; turns++) {
        int seen = 0;
        for (int i = 0; i < count; i++)
            seen += atomic_load(&checkers[i].seen) == at;
        if (seen >= wanted)
            return;
        if (turns % 64 == 63)
            sched_yield();
    }
}

/* The page of an object was taken away: nothing more may arrive there. */
static void fill(volatile uint64_t *page)
{
    for (int i = 0; i < WORDS; i++)
        page[i] = POISON;
}

static void check_filled(volatile uint64_t *page, const char *what)
{
    for (int i = 0; i < WORDS; i++)
        if (page[i] != POISON) {
            wrong(what, atomic_load(&epoch), page[i]);
            return;
        }
}

static void *must(void *mapped)
{
    if (mapped == MAP_FAILED) {
        say("FAIL no memory");
        _exit(1);
    }
    return mapped;
}

static void map_object(volatile uint64_t *at, int object)
{
    must(mmap((void *)at, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, (off_t)object * PAGE));
}

static void map_own(volatile uint64_t *at)
{
    must(mmap((void *)at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
}

/* What a child has from its parent stays as it is, however the parent's threads go on storing. */
static void check_fork(uint64_t at)
{
    pid_t child = fork();
    if (child == 0) {
        uint64_t first[MOST_CHECKERS];
        for (int i = 0; i < count; i++)
            first[i] = window[FIRST_SLOT + i];
        for (int look = 0; look < 20; look++) {
            sched_yield();
            for (int i = 0; i < count; i++)
                if (window[FIRST_SLOT + i] != first[i])
                    _exit(1);
        }
        _exit(0);
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        wrong("a child's page changed", at, (uint64_t)status);
}

/* What the page shows now. */
static struct {
    int object; /* -1: memory of its own, or nothing */
    enum mode mode;
} now;

/* What was there is gone; gives a page that most likely is the frame that was freed, filled. */
static volatile uint64_t *catch_frame(void)
{
    volatile uint64_t *page =
        must(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    for (int i = 0; i < WORDS; i++)
        if (page[i] != 0) {
            wrong("a new page is not zeros", atomic_load(&epoch), page[i]);
            break;
        }
    fill(page);
    return page;
}

static void show(int object, enum mode mode)
{
    now.object = object;
    now.mode = mode;
}

/* Changes the page in one of many ways. */
static void change(void)
{
    int next = (now.object + 1 + (int)pick(OBJECTS - 1)) % OBJECTS;
    if (next == now.object)
        next = (next + 1) % OBJECTS;
    int before = now.object;
    switch (pick(9)) {
    case 0:
    case 1: /* another page in its place */
        check_filled(alias[next], "a store to a page that was replaced");
        map_object(window, next);
        show(next, WRITABLE);
        break;
    case 2: /* another page moved there */
        check_filled(alias[next], "a store to a page that was moved over");
        map_object(elsewhere, next);
        must(mremap((void *)elsewhere, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, window));
        show(next, WRITABLE);
        break;
    case 3: /* memory of its own */
        map_own(window);
        show(-1, WRITABLE);
        break;
    case 4: /* nothing */
        munmap((void *)window, PAGE);
        show(-1, ABSENT);
        break;
    case 5: { /* nothing, at the end of much that goes with it: long after the first pages went */
        char *first = (char *)window - BESIDE * PAGE;
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE;
        must(mmap(first, BESIDE * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0));
        munmap(first, (BESIDE + 1) * PAGE);
        show(-1, ABSENT);
        break;
    }
    case 6: /* moved away */
        if (now.mode == ABSENT)
            map_own(window);
        must(mremap((void *)window, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere));
        mprotect((void *)elsewhere, PAGE, PROT_READ | PROT_WRITE);
        fill(elsewhere);
        show(-1, ABSENT);
        break;
    case 7: /* read-only, or writable again */
        if (now.mode == ABSENT)
            return;
        now.mode = now.mode == READABLE ? WRITABLE : READABLE;
        mprotect((void *)window, PAGE, now.mode == READABLE ? PROT_READ : PROT_READ | PROT_WRITE);
        return;
    default: /* its memory dropped, and new memory when it is touched */
        if (now.object >= 0 || now.mode != WRITABLE)
            return;
        madvise((void *)window, PAGE, MADV_DONTNEED);
    }
    if (before >= 0)
        fill(alias[before]);
}

/* Writes the page's first word, which need not be writable. */
static void stamp(uint64_t at)
{
    if (now.object >= 0)
        alias[now.object][0] = at;
    else if (now.mode == WRITABLE) {
        /* At about the same time as a checker, and while others load: of what they all touch first, each gets its own. */
        atomic_store(&storer, (int)pick((unsigned)count));
        for (volatile unsigned turns = pick(1024); turns > 0; turns--)
            ;
        window[0] = at;
        atomic_store(&storer, NOBODY);
    } else if (now.mode == READABLE) {
        mprotect((void *)window, PAGE, PROT_READ | PROT_WRITE);
        window[0] = at;
        mprotect((void *)window, PAGE, PROT_READ);
    }
}

/* Isolation off and on: by this process's own word, then by the machine's, which this process follows. */
static long every, switches;

static bool write_machine(const char *text)
{
    int setting = open("/proc/sys/kernel/pti", O_WRONLY);
    bool done = setting >= 0 && write(setting, text, 1) == 1;
    close(setting);
    return done;
}

static void switch_isolation(void)
{
    enum { SET = 0x50544953, FOLLOW = 0, DISABLE = 4 };
    switch (switches++ % 4) {
    case 0:
        if (prctl(SET, DISABLE, 0, 0, 0) != 0) {
            check_skip("isolation", "this kernel does not switch it");
            every = switches = 0;
        }
        break;
    case 1:
        check_that("this process's isolation is on again", prctl(SET, FOLLOW, 0, 0, 0) == 0);
        break;
    case 2:
        check_that("the machine's isolation is off", write_machine("0"));
        break;
    default:
        check_that("the machine's isolation is on again", write_machine("1"));
    }
}

static void run(long rounds)
{
    uint64_t at = epoch;
    for (long round = 1; round <= rounds && atomic_load(&wrong_count) == 0; round++) {
        if (every > 0 && round % every == 0)
            switch_isolation();
        atomic_store(&epoch, at | BUSY);
        change();
        volatile uint64_t *caught = catch_frame();
        at = (uint64_t)round << ROUND_SHIFT | (uint64_t)now.mode << MODE_SHIFT;
        stamp(at);
        atomic_store(&epoch, at);
        int working = set_to_work(round);
        let_them_look(at, round % 8 == 0 ? working : 1);
        if (now.mode == WRITABLE && now.object < 0 && round % FORK_EVERY < 8)
            check_fork(at);
        check_filled(caught, "a store to freed memory");
        munmap((void *)caught, PAGE);
        if (now.mode == ABSENT)
            munmap((void *)elsewhere, PAGE);
        rounds_done = round;
        if (round % SAY_EVERY == 0)
            say("remap: round %ld", round);
    }
    atomic_store(&over, true);
    set_to_work(-1);
    if (every > 0)
        say("remap: isolation switched %ld times", switches);
    while (switches % 4 != 0)
        switch_isolation();
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 2000;
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        cpus = CPU_COUNT(&set);
    count = argc > 2 && atoi(argv[2]) > 0 ? atoi(argv[2]) : cpus - 1;
    every = argc > 3 ? atol(argv[3]) : 0;
    count = count < 1 ? 1 : count > MOST_CHECKERS ? MOST_CHECKERS : count;
    file = memfd_create("remap", 0);
    check_that("objects", file >= 0 && ftruncate(file, OBJECTS * PAGE) == 0);
    alias = must(mmap(NULL, OBJECTS * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
    for (int object = 0; object < OBJECTS; object++)
        fill(alias[object]);
    struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    show(-1, ABSENT);
    for (int i = 0; i < count; i++) {
        checkers[i].number = i;
        check_long("a checker", pthread_create(&checkers[i].thread, NULL, check, &checkers[i]), 0);
    }
    pin(0);
    run(rounds);
    struct checker all = {0};
    for (int i = 0; i < count; i++) {
        pthread_join(checkers[i].thread, NULL);
        all.loads += checkers[i].loads;
        all.stores += checkers[i].stores;
        all.copies_from += checkers[i].copies_from;
        all.copies_to += checkers[i].copies_to;
        all.faults += checkers[i].faults;
    }
    say("remap: %ld rounds, %d checkers on %d CPUs: %ld load loops, %ld store loops, %ld and %ld copies by the kernel, "
        "%ld faults",
        rounds_done, count, cpus, all.loads, all.stores, all.copies_from, all.copies_to, all.faults);
    check_failures += wrong_count;
    check_long("rounds", rounds_done, rounds);
    check_that("every way was checked", all.loads && all.stores && all.copies_from && all.copies_to);
    return check_end("remap");
}
