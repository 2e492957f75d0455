/*
 * Signals: handlers and their flags, masks, pending and waited-for signals, queued values, alternate
 * stacks, interrupted and restarted calls, timers, groups, children, job control, threads.
 *
 * Sources: signal(7), sigaction(2), sigaltstack(2), sigtimedwait(2), rt_sigqueueinfo(2), waitpid(2),
 * setitimer(2), pthread_kill(3). Where process 1 could differ (default actions do not reach it), the
 * work is done in a child.
 */
#include "others.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>

static volatile sig_atomic_t calls, last, depth, deepest, code, sender, value;
static volatile uintptr_t handler_stack;

static void count(int signal)
{
    int variable;
    calls++;
    last = signal;
    handler_stack = (uintptr_t)&variable;
}

static void count_info(int signal, siginfo_t *info, void *context)
{
    count(signal);
    code = info->si_code;
    sender = info->si_pid;
    value = info->si_value.sival_int;
}

static void handle(int signal, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(signal, &action, NULL);
    calls = 0;
}

static void handle_info(int signal, int flags)
{
    struct sigaction action = {.sa_sigaction = count_info, .sa_flags = SA_SIGINFO | flags};
    sigaction(signal, &action, NULL);
    calls = 0;
}

static void pause_ms(long milliseconds)
{
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    while (nanosleep(&time, &time) != 0 && errno == EINTR)
        ;
}

static sigset_t set_of(int first, int second)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, first);
    if (second)
        sigaddset(&set, second);
    return set;
}

/* ---- handlers ---- */

static void handlers(void)
{
    handle(SIGUSR1, count, 0);
    check_long("kill", result(kill(getpid(), SIGUSR1)), 0);
    check_long("delivered before kill returns", calls, 1);
    raise(SIGUSR1);
    check_long("handler stays", calls, 2);
    handle_info(SIGUSR1, 0);
    kill(getpid(), SIGUSR1);
    check_long("si_code", code, SI_USER);
    check_long("si_pid", sender, getpid());
    sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 4711});
    check_long("queued code", code, SI_QUEUE);
    check_long("queued value", value, 4711);

    handle(SIGUSR1, count, SA_RESETHAND);
    raise(SIGUSR1);
    struct sigaction now;
    sigaction(SIGUSR1, NULL, &now);
    check_long("SA_RESETHAND called", calls, 1);
    check_that("SA_RESETHAND resets", now.sa_handler == SIG_DFL);
    signal(SIGUSR1, SIG_IGN);
    calls = 0;
    raise(SIGUSR1);
    check_long("ignored", calls, 0);
    struct sigaction action = {.sa_handler = count};
    check_long("SIGKILL keeps", result(sigaction(SIGKILL, &action, NULL)), -EINVAL);
    check_long("SIGSTOP keeps", result(sigaction(SIGSTOP, &action, NULL)), -EINVAL);
    check_long("signal 65", result(syscall(SYS_rt_sigaction, 65, NULL, NULL, 8)), -EINVAL);
    check_long("mask size", result(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4)), -EINVAL);
    check_long("kill unknown signal", result(kill(getpid(), 99)), -EINVAL);
    check_long("kill nobody", result(kill(999999, 0)), -ESRCH);
}

static void nest(int signal)
{
    calls++;
    if (++depth > deepest)
        deepest = depth;
    if (calls < 4)
        raise(SIGUSR1);
    depth--;
}

static void raise_other(int signal)
{
    raise(SIGUSR2);
    deepest = calls; /* how many of SIGUSR2 ran inside */
}

static void nesting(void)
{
    deepest = 0;
    handle(SIGUSR1, nest, SA_NODEFER);
    raise(SIGUSR1);
    check_long("SA_NODEFER nests", deepest, 4);
    deepest = 0;
    handle(SIGUSR1, nest, 0);
    raise(SIGUSR1);
    check_long("deferred does not nest", deepest, 1);
    check_long("deferred all ran", calls, 4);

    handle(SIGUSR1, raise_other, 0);
    handle(SIGUSR2, count, 0);
    raise(SIGUSR1);
    check_long("another signal nests", deepest, 1);
    struct sigaction action = {.sa_handler = raise_other};
    sigaddset(&action.sa_mask, SIGUSR2);
    sigaction(SIGUSR1, &action, NULL);
    calls = 0;
    raise(SIGUSR1);
    check_long("sa_mask holds back", deepest, 0);
    check_long("until the handler ends", calls, 1);
}

static void alternate_stack(void)
{
    static char memory[65536];
    stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory}, now;
    check_long("sigaltstack", result(sigaltstack(&stack, NULL)), 0);
    handle(SIGUSR1, count, SA_ONSTACK);
    raise(SIGUSR1);
    check_that("runs on it", handler_stack >= (uintptr_t)memory && handler_stack < (uintptr_t)memory + sizeof memory);
    handle(SIGUSR1, count, 0);
    raise(SIGUSR1);
    check_that("not without the flag", handler_stack < (uintptr_t)memory || handler_stack >= (uintptr_t)memory + sizeof memory);
    sigaltstack(NULL, &now);
    check_that("reads back", now.ss_sp == memory && now.ss_size == sizeof memory && now.ss_flags == 0);
    stack.ss_size = 100;
    check_long("too small", result(sigaltstack(&stack, NULL)), -ENOMEM);
    stack.ss_flags = SS_DISABLE;
    check_long("disable", result(sigaltstack(&stack, NULL)), 0);
    sigaltstack(NULL, &now);
    check_long("disabled", now.ss_flags, SS_DISABLE);
}

/* ---- masks ---- */

static void masks(void)
{
    sigset_t block = set_of(SIGUSR1, SIGUSR2), before, pending;
    handle(SIGUSR1, count, 0);
    handle(SIGUSR2, count, 0);
    check_long("block", result(sigprocmask(SIG_BLOCK, &block, &before)), 0);
    check_that("was not blocked", !sigismember(&before, SIGUSR1));
    raise(SIGUSR1);
    raise(SIGUSR1);
    check_long("held back", calls, 0);
    sigpending(&pending);
    check_that("pending", sigismember(&pending, SIGUSR1) && !sigismember(&pending, SIGUSR2));
    sigprocmask(SIG_SETMASK, &before, NULL);
    check_long("delivered once", calls, 1);
    check_long("unknown how", result(sigprocmask(77, &block, NULL)), -EINVAL);

    /* SIGKILL cannot be blocked; asking is not an error. */
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    sigprocmask(SIG_SETMASK, NULL, &all);
    check_that("never blocked", !sigismember(&all, SIGKILL) && !sigismember(&all, SIGSTOP));
    sigprocmask(SIG_SETMASK, &before, NULL);

    sigprocmask(SIG_BLOCK, &block, NULL);
    calls = 0;
    raise(SIGUSR2);
    sigset_t none;
    sigemptyset(&none);
    check_long("sigsuspend", result(sigsuspend(&none)), -EINTR);
    check_long("sigsuspend delivers", calls, 1);
    sigprocmask(SIG_SETMASK, NULL, &all);
    check_that("mask is back", sigismember(&all, SIGUSR1) && sigismember(&all, SIGUSR2));
    sigprocmask(SIG_SETMASK, &before, NULL);
}

static void waiting(void)
{
    int queued = SIGRTMIN + 1;
    sigset_t set = set_of(SIGUSR1, queued);
    siginfo_t info;
    struct timespec none = {0, 0}, little = {0, 20000000};
    sigprocmask(SIG_BLOCK, &set, NULL);
    check_long("nothing pending", result(sigtimedwait(&set, &info, &none)), -EAGAIN);
    check_long("times out", result(sigtimedwait(&set, &info, &little)), -EAGAIN);
    for (int i = 0; i < 3; i++)
        sigqueue(getpid(), queued, (union sigval){.sival_int = i + 100});
    for (int i = 0; i < 3; i++) {
        check_long("sigwaitinfo", sigwaitinfo(&set, &info), queued);
        check_long("in order", info.si_value.sival_int, i + 100);
    }
    sigqueue(getpid(), queued, (union sigval){.sival_int = 1});
    kill(getpid(), SIGUSR1);
    check_long("standard signals first", sigtimedwait(&set, &info, &none), SIGUSR1);
    check_long("then the queued", sigtimedwait(&set, &info, &none), queued);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

/* Signals that come during the wait are the wait's, whatever their action: to be ignored, or to kill. */
static void waiting_before_they_come(void)
{
    sigset_t set = set_of(SIGUSR1, SIGCHLD), before;
    siginfo_t info;
    struct timespec long_enough = {10, 0};
    signal(SIGUSR1, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_BLOCK, &set, &before);
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        pause_ms(50);
        kill(parent, SIGUSR1);
        pause_ms(50);
        _exit(0);
    }
    check_long("a signal that kills", sigtimedwait(&set, &info, &long_enough), SIGUSR1);
    check_long("a signal that is ignored", sigtimedwait(&set, &info, &long_enough), SIGCHLD);
    check_long("and its sender", info.si_pid, child);
    waitpid(child, NULL, 0);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

/* ---- interrupted calls ---- */

/* Sends SIGUSR1 when its parent waits, then, when it waits again, or goes on waiting, a byte. */
static pid_t interrupter(int fd)
{
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        falls_asleep(parent);
        pause_ms(20);
        kill(parent, SIGUSR1);
        falls_asleep(parent);
        pause_ms(20);
        _exit(write(fd, "x", 1) != 1);
    }
    return child;
}

static void interrupted_calls(void)
{
    int ends[2];
    char byte = 0;
    if (pipe(ends) != 0)
        return;
    handle(SIGUSR1, count, 0);
    pid_t child = interrupter(ends[1]);
    check_long("read is interrupted", result(read(ends[0], &byte, 1)), -EINTR);
    check_long("handler ran", calls, 1);
    check_long("read again", read(ends[0], &byte, 1), 1);
    waitpid(child, NULL, 0);

    handle(SIGUSR1, count, SA_RESTART);
    child = interrupter(ends[1]);
    check_long("read is restarted", result(read(ends[0], &byte, 1)), 1);
    check_long("handler ran", calls, 1);
    check_long("wait4", waitpid(child, NULL, 0), child);

    child = interrupter(ends[1]);
    struct timespec time = {5, 0}, left = {9, 9};
    check_long("nanosleep is not restarted", result(nanosleep(&time, &left)), -EINTR);
    check_that("time left", left.tv_sec == 4);
    waitpid(child, NULL, 0);
    check_long("byte", read(ends[0], &byte, 1), 1);

    signal(SIGUSR1, SIG_IGN);
    child = interrupter(ends[1]);
    check_long("ignored signals do not interrupt", result(read(ends[0], &byte, 1)), 1);
    waitpid(child, NULL, 0);
    close(ends[0]);
    close(ends[1]);
}

static void broken_pipe(void)
{
    int ends[2];
    if (pipe(ends) != 0)
        return;
    close(ends[0]);
    handle(SIGPIPE, count, 0);
    check_long("EPIPE", result(write(ends[1], "x", 1)), -EPIPE);
    check_long("SIGPIPE", calls, 1);
    close(ends[1]);
    signal(SIGPIPE, SIG_DFL);
}

static void timers(void)
{
    handle(SIGALRM, count, 0);
    struct itimerval timer = {{0, 5000}, {0, 5000}}, old;
    check_long("setitimer", result(setitimer(ITIMER_REAL, &timer, NULL)), 0);
    for (int i = 0; i < 1000 && calls < 5; i++)
        pause_ms(2);
    check_that("periodic timer", calls >= 5);
    timer = (struct itimerval){{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &timer, &old);
    check_long("old interval", old.it_interval.tv_usec, 5000);
    calls = 0;
    pause_ms(20);
    check_long("disarmed", calls, 0);
    check_long("alarm", alarm(100), 0);
    check_that("alarm returns what was left", alarm(0) >= 99);
    alarm(1);
    check_long("pause", result(pause()), -EINTR);
    check_long("alarm came", last, SIGALRM);
    signal(SIGALRM, SIG_DFL);
}

/* ---- processes ---- */

static void default_actions(void)
{
    static const struct {
        int signal;
        bool ends;
    } actions[] = {
        {SIGTERM, true}, {SIGUSR1, true}, {SIGALRM, true}, {SIGPIPE, true},
        {SIGCHLD, false}, {SIGURG, false}, {SIGWINCH, false}, {SIGCONT, false},
    };
    for (size_t i = 0; i < COUNT_OF(actions); i++) {
        pid_t child = fork();
        if (child == 0) {
            signal(actions[i].signal, SIG_DFL);
            raise(actions[i].signal);
            _exit(3);
        }
        int status = -1;
        waitpid(child, &status, 0);
        check_long("default action", status & 0xff7f, actions[i].ends ? actions[i].signal : 3 << 8);
    }
}

static void children(void)
{
    handle_info(SIGCHLD, 0);
    pid_t child = fork();
    if (child == 0)
        _exit(5);
    for (int i = 0; i < 1000 && calls == 0; i++)
        pause_ms(2);
    check_long("SIGCHLD", calls, 1);
    check_long("SIGCHLD code", code, CLD_EXITED);
    check_long("SIGCHLD pid", sender, child);
    waitpid(child, NULL, 0);
    handle_info(SIGCHLD, SA_NOCLDWAIT);
    child = fork();
    if (child == 0)
        _exit(5);
    check_long("SA_NOCLDWAIT", result(waitpid(child, NULL, 0)), -ECHILD);
    signal(SIGCHLD, SIG_DFL);
}

static void job_control(void)
{
    int status;
    pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    kill(child, SIGSTOP);
    check_long("WUNTRACED", waitpid(child, &status, WUNTRACED), child);
    check_that("stopped", WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    check_long("reported once", waitpid(child, &status, WUNTRACED | WNOHANG), 0);
    kill(child, SIGTERM);
    pause_ms(20);
    check_long("stopped processes do not act", waitpid(child, &status, WNOHANG), 0);
    kill(child, SIGCONT);
    check_long("then they do", waitpid(child, &status, 0), child);
    check_long("by the signal", status, SIGTERM);

    child = fork();
    if (child == 0) {
        raise(SIGSTOP);
        for (;;)
            pause();
    }
    check_long("stops itself", waitpid(child, &status, WUNTRACED), child);
    kill(child, SIGCONT);
    check_long("WCONTINUED", waitpid(child, &status, WCONTINUED), child);
    check_that("continued", WIFCONTINUED(status));
    kill(child, SIGKILL);
    check_long("killed", waitpid(child, &status, 0), child);
}

static void groups(void)
{
    int ready[2];
    char byte;
    if (pipe(ready) != 0)
        return;
    pid_t leader = 0, members[3];
    for (int i = 0; i < 3; i++) {
        members[i] = fork();
        if (members[i] == 0) {
            setpgid(0, leader);
            if (write(ready[1], "r", 1) != 1)
                _exit(1);
            for (;;)
                pause();
        }
        setpgid(members[i], leader);
        if (i == 0)
            leader = members[0];
        check_long("member ready", read(ready[0], &byte, 1), 1);
    }
    check_long("kill the group", result(kill(-leader, SIGTERM)), 0);
    for (int i = 0; i < 3; i++) {
        int status = -1;
        waitpid(members[i], &status, 0);
        check_long("member ended", status, SIGTERM);
    }
    check_long("no such group", result(kill(-leader, 0)), -ESRCH);
    close(ready[0]);
    close(ready[1]);
}

/* ---- threads ---- */

static volatile pid_t handled_by;
static volatile int stop;

static void note_thread(int signal)
{
    handled_by = (pid_t)syscall(SYS_gettid);
    calls++;
}

static void *spin(void *id)
{
    *(volatile pid_t *)id = (pid_t)syscall(SYS_gettid);
    while (!stop)
        pause_ms(1);
    return NULL;
}

static void threads(void)
{
    pthread_t thread;
    volatile pid_t id = 0;
    handle(SIGUSR1, note_thread, SA_RESTART);
    pthread_create(&thread, NULL, spin, (void *)&id);
    while (id == 0)
        pause_ms(1);
    check_long("pthread_kill", pthread_kill(thread, SIGUSR1), 0);
    for (int i = 0; i < 1000 && calls == 0; i++)
        pause_ms(1);
    check_long("that thread handles it", handled_by, id);

    sigset_t set = set_of(SIGUSR1, 0);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    calls = 0;
    kill(getpid(), SIGUSR1);
    for (int i = 0; i < 1000 && calls == 0; i++)
        pause_ms(1);
    check_long("a thread that does not block it", handled_by, id);
    calls = 0;
    syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1);
    pause_ms(20);
    check_long("aimed at the first thread", calls, 0);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    check_long("delivered there", handled_by, getpid());
    check_long("tgkill nobody", result(syscall(SYS_tgkill, getpid(), 999999, SIGUSR1)), -ESRCH);
    stop = 1;
    pthread_join(thread, NULL);
}

static void *kill_process(void *unused)
{
    kill(getpid(), SIGTERM);
    for (;;)
        pause();
    return NULL;
}

static void threads_die(void)
{
    pthread_t thread;
    signal(SIGTERM, SIG_DFL);
    for (int i = 0; i < 4; i++)
        pthread_create(&thread, NULL, kill_process, NULL);
    for (;;)
        pause();
}

/* A storm: every signal sent by a child arrives, however its moments fall. */
static void storm(void)
{
    enum { COUNT = 2000 };
    int queued = SIGRTMIN + 2;
    handle(queued, count, SA_RESTART);
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        int sent = 0;
        while (sent < COUNT) {
            if (sigqueue(parent, queued, (union sigval){.sival_int = sent}) == 0)
                sent++;
            else
                sched_yield();
        }
        _exit(0);
    }
    waitpid(child, NULL, 0);
    check_long("queued signals all arrive", calls, COUNT);
}

int main(void)
{
    handlers();
    nesting();
    alternate_stack();
    masks();
    waiting();
    waiting_before_they_come();
    interrupted_calls();
    broken_pipe();
    timers();
    default_actions();
    children();
    job_control();
    groups();
    threads();
    check_long("the whole process ends", child_status(threads_die), SIGTERM);
    storm();
    return check_end("signals");
}
