/*
 * Stops of groups whose threads do different things: one is not there yet, one sleeps where nothing stops it, one is
 * traced, one ends. A group has stopped when each of its threads has, which is told once; and each tracer hears of its
 * tracees' part.
 *
 * Sources: signal(7), waitpid(2), ptrace(2) (group-stop, PTRACE_LISTEN).
 */
#include "tracing.h"

#include <pthread.h>

enum { PATIENCE = 20 }; /* seconds for what has to come */

/* What a test and its processes share. */
static struct {
    volatile pid_t threads[3];
    volatile int in_vfork;
    volatile int begin, end;
} *shared;

/* Pipes: a byte lets who reads go on. */
static int leader_gate[2], thread_gate[2];

static void fresh(void)
{
    memset((void *)shared, 0, sizeof *shared);
    for (int i = 0; i < 2; i++) {
        int *gate = i ? thread_gate : leader_gate;
        if (gate[1]) {
            close(gate[0]);
            close(gate[1]);
        }
        if (pipe(gate) < 0)
            check_that("a pipe", false);
    }
}

static void open_gate(int *gate)
{
    if (write(gate[1], "", 1) != 1)
        check_that("a gate opens", false);
}

static pid_t own_tid(void)
{
    return (pid_t)syscall(SYS_gettid);
}

static void send_to(pid_t pid, pid_t thread, int signal)
{
    syscall(SYS_tgkill, pid, thread, signal);
}

/* A child of this program's; the others of its kind end with it. */
static pid_t child_that(void (*body)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        body();
        _exit(0);
    }
    return pid;
}

static bool comes(volatile pid_t *what)
{
    for (time_t end = time(NULL) + PATIENCE; *what == 0;) {
        if (time(NULL) > end)
            return false;
        usleep(500);
    }
    return true;
}

/* The next event of `pid`; -ETIME if none comes. */
static long event_in_time(pid_t pid, int options)
{
    for (time_t end = time(NULL) + PATIENCE; time(NULL) <= end; usleep(200)) {
        int status;
        pid_t waited = waitpid(pid, &status, options | WNOHANG);
        if (waited != 0)
            return waited < 0 ? -(long)errno : status;
    }
    return -ETIME;
}

static long nothing_of(pid_t pid, int options)
{
    int status;
    wait_a_little();
    long waited = result(waitpid(pid, &status, options | WNOHANG));
    return waited > 0 ? status : waited;
}

static long group_stop(int signal)
{
    return (long)EVENT_STOP << 16 | signal << 8 | 0x7f;
}

/* Waits until a thread's state, as /proc tells it, is that letter. */
static void becomes(pid_t pid, pid_t thread, char letter)
{
    for (time_t end = time(NULL) + PATIENCE; time(NULL) <= end; usleep(500))
        if (state_of(pid, thread) == letter)
            return;
    check_that("a thread gets there", false);
}

static void end_child(pid_t pid, pid_t tracee)
{
    kill(pid, SIGKILL);
    /* A process does not end before its tracees' ends were told. */
    for (long status = stopped_by(SIGSTOP); tracee && status >= 0 && WIFSTOPPED((int)status);)
        status = event_of(tracee);
    waitpid(pid, NULL, 0);
}

static void *rests(void *place)
{
    shared->threads[(long)place] = own_tid();
    for (;;)
        pause();
    return NULL;
}

/* Ends, alone, when its gate is opened. */
static void *reads(void *place)
{
    char byte;
    shared->threads[(long)place] = own_tid();
    while (read(thread_gate[0], &byte, 1) != 1)
        ;
    syscall(SYS_exit, 0);
    return NULL;
}

static void start(void *(*body)(void *), long place)
{
    pthread_t thread;
    pthread_create(&thread, NULL, body, (void *)place);
    comes(&shared->threads[place]);
}

/* Nothing stops the first thread before its gate is opened. */
static void sleep_in_vfork(void)
{
    if (vfork() == 0) {
        char byte;
        shared->in_vfork = 1;
        while (read(leader_gate[0], &byte, 1) != 1)
            ;
        _exit(0);
    }
    for (;;)
        pause();
}

static void two_rest(void)
{
    start(rests, 0);
    shared->begin = 1;
    rests((void *)1);
}

/* The second stop comes before both threads have left the first one. */
static void stopped_again(void)
{
    fresh();
    pid_t pid = child_that(two_rest);
    comes(&shared->begin);
    long good = 0;
    enum { ROUNDS = 50 };
    for (int i = 0; i < ROUNDS; i++) {
        kill(pid, SIGSTOP);
        if (event_in_time(pid, WUNTRACED) != stopped_by(SIGSTOP))
            break;
        kill(pid, SIGCONT);
        if (i % 3 == 0)
            sched_yield();
        good++;
    }
    check_long("stopped again at once", good, ROUNDS);
    end_child(pid, 0);
}

static void one_in_vfork(void)
{
    start(rests, 0);
    sleep_in_vfork();
}

/* A thread that has stopped already, and is traced then, counts once. */
static void stopped_and_traced(bool seized)
{
    fresh();
    pid_t pid = child_that(one_in_vfork);
    comes(&shared->in_vfork);
    pid_t thread = shared->threads[0];
    send_to(pid, thread, SIGSTOP);
    becomes(pid, thread, 'T');
    check_long("one of two has stopped", nothing_of(pid, WUNTRACED), 0);
    check_long("it is traced", trace(seized ? SEIZE : ATTACH, thread, 0, 0), 0);
    long expected = seized ? group_stop(SIGSTOP) : stopped_by(SIGSTOP);
    check_long("stopped still", event_in_time(thread, ANY_CHILD), expected);
    check_long("one of two still", nothing_of(pid, WUNTRACED), 0);
    open_gate(leader_gate);
    check_long("both have stopped", event_in_time(pid, WUNTRACED), stopped_by(SIGSTOP));
    end_child(pid, thread);
}

static void one_ends(void)
{
    start(reads, 0);
    start(rests, 1);
    sleep_in_vfork();
}

/* A tracee that stopped with its group, was let go on and ends counts no more. */
static void counted_one_ends(void)
{
    fresh();
    pid_t pid = child_that(one_ends);
    comes(&shared->in_vfork);
    pid_t thread = shared->threads[0], other = shared->threads[1];
    check_long("a tracee of three", trace(SEIZE, thread, 0, 0), 0);
    send_to(pid, other, SIGSTOP);
    check_long("stops with its group", event_in_time(thread, ANY_CHILD), group_stop(SIGSTOP));
    becomes(pid, other, 'T');
    check_long("two of three", nothing_of(pid, WUNTRACED), 0);
    trace(CONT, thread, 0, 0);
    open_gate(thread_gate);
    check_long("it ends", event_in_time(thread, ANY_CHILD), 0);
    check_long("one of two", nothing_of(pid, WUNTRACED), 0);
    open_gate(leader_gate);
    check_long("all that are left", event_in_time(pid, WUNTRACED), stopped_by(SIGSTOP));
    end_child(pid, 0);
}

static void reads_and_rests(void)
{
    start(reads, 0);
    shared->begin = 1;
    rests((void *)1);
}

/* A group's stop interrupts a call, whose end is another stop: the group's comes after it. */
static void stop_behind_another(bool seized)
{
    fresh();
    pid_t pid = child_that(reads_and_rests);
    comes(&shared->begin);
    pid_t thread = shared->threads[0];
    if (seized) {
        trace(SEIZE, thread, 0, SYSGOOD);
        trace(INTERRUPT, thread, 0, 0);
        check_long("interrupted", event_in_time(thread, ANY_CHILD), group_stop(SIGTRAP));
    } else {
        trace(ATTACH, thread, 0, 0);
        check_long("attached", event_in_time(thread, ANY_CHILD), stopped_by(SIGSTOP));
        trace(SETOPTIONS, thread, 0, SYSGOOD);
    }
    long call = stopped_by(SIGTRAP | 0x80);
    trace(SYSCALL, thread, 0, 0);
    check_long("a call begins", event_in_time(thread, ANY_CHILD), call);
    trace(SYSCALL, thread, 0, 0);
    becomes(pid, thread, 'S');
    send_to(pid, pid, SIGSTOP);
    check_long("the stop ends it", event_in_time(thread, ANY_CHILD), call);
    check_long("one of two", nothing_of(pid, WUNTRACED), 0);
    trace(CONT, thread, 0, 0);
    long expected = seized ? group_stop(SIGSTOP) : stopped_by(SIGSTOP);
    check_long("then it stops with its group", event_in_time(thread, ANY_CHILD), expected);
    siginfo_t info;
    check_long("details of that", trace(GETSIGINFO, thread, 0, (long)&info), seized ? 0 : -EINVAL);
    check_long("both have", event_in_time(pid, WUNTRACED), stopped_by(SIGSTOP));
    trace(CONT, thread, 0, 0);
    check_long("once", nothing_of(thread, ANY_CHILD), 0);
    end_child(pid, thread);
}

/* Sends a signal whenever it is told to. */
static pid_t sender(pid_t target, int signal)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    for (int sent = 0; !shared->end;) {
        if (shared->begin == sent) {
            sched_yield();
            continue;
        }
        sent = shared->begin;
        kill(target, signal);
    }
    _exit(0);
}

static void only_rests(void)
{
    shared->threads[0] = own_tid();
    for (;;)
        pause();
}

/* SIGCONT comes while the tracer asks in vain for something about a tracee that listens. */
static void goes_on_while_asked(void)
{
    fresh();
    pid_t pid = child_that(only_rests);
    comes(&shared->threads[0]);
    trace(SEIZE, pid, 0, 0);
    pid_t helper = sender(pid, SIGCONT);
    enum { ROUNDS = 200 };
    long good = 0;
    for (int i = 0; i < ROUNDS; i++) {
        kill(pid, SIGSTOP);
        if (event_in_time(pid, ANY_CHILD) != stopped_by(SIGSTOP))
            break;
        trace(CONT, pid, 0, SIGSTOP);
        if (event_in_time(pid, ANY_CHILD) != group_stop(SIGSTOP))
            break;
        shared->begin = i + 1;
        trace(LISTEN, pid, 0, 0);
        long status = 0;
        for (time_t end = time(NULL) + PATIENCE; status == 0 && time(NULL) <= end;) {
            for (int asked = 0; asked < 20; asked++)
                peek_user(pid, 0);
            int told;
            if (waitpid(pid, &told, ANY_CHILD | WNOHANG) == pid)
                status = told;
        }
        if (status != group_stop(SIGTRAP))
            break;
        trace(CONT, pid, 0, 0);
        if (event_in_time(pid, ANY_CHILD) != stopped_by(SIGCONT))
            break;
        trace(CONT, pid, 0, 0);
        good++;
    }
    check_long("goes on while it is asked", good, ROUNDS);
    shared->end = 1;
    waitpid(helper, NULL, 0);
    dispose(pid);
}

int main(void)
{
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    stopped_again();
    stopped_and_traced(true);
    stopped_and_traced(false);
    counted_one_ends();
    stop_behind_another(false);
    stop_behind_another(true);
    goes_on_while_asked();
    return check_end("stops");
}
