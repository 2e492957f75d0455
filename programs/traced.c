/*
 * Tracees that stop with their group, threads as tracees, PTRACE_SEIZE with its requests.
 *
 * Source: ptrace(2), "Group-stop", "PTRACE_EVENT stops"; what Linux 6.1 does where the page is silent.
 */
#include "tracing.h"

#include <pthread.h>
#include <sched.h>

static int rests(void)
{
    while (pause() < 0)
        ;
    return 0;
}

static int counts(void)
{
    for (volatile long i = 0;; i++)
        ;
    return 0;
}

static pid_t plain_child(int (*body)(void))
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(body());
    wait_a_little();
    return pid;
}

static long group_stop(int signal)
{
    return (long)EVENT_STOP << 16 | signal << 8 | 0x7f;
}

static long nothing(pid_t pid)
{
    int status;
    wait_a_little();
    long waited = result(waitpid(pid, &status, WNOHANG | ANY_CHILD));
    return waited > 0 ? status : waited;
}

static void attached(void)
{
    pid_t pid = plain_child(rests);
    trace(ATTACH, pid, 0, 0);
    check_long("attached", event_of(pid), stopped_by(SIGSTOP));
    check_long("not seized", trace(INTERRUPT, pid, 0, 0), -EIO);
    check_long("nothing to listen to", trace(LISTEN, pid, 0, 0), -EIO);
    goes_on("SIGSTOP delivered stops the group", pid, CONT, SIGSTOP, stopped_by(SIGSTOP));
    siginfo_t info = {0};
    check_long("without details", trace(GETSIGINFO, pid, 0, (long)&info), -EINVAL);
    check_long("nor can they be set", trace(SETSIGINFO, pid, 0, (long)&info), -EINVAL);
    trace(CONT, pid, 0, 0);
    check_long("it goes on nevertheless", nothing(pid), 0);
    kill(pid, SIGTSTP);
    check_long("a second signal to stop", event_of(pid), stopped_by(SIGTSTP));
    check_long("with details", info_of(pid).si_code, SI_USER);
    trace(CONT, pid, 0, 0);
    kill(pid, SIGCONT);
    check_long("SIGCONT", event_of(pid), stopped_by(SIGCONT));
    check_long("left to stop", trace(DETACH, pid, 0, SIGSTOP), 0);
    int status = 0;
    check_that("it stops", waitpid(pid, &status, WUNTRACED) == pid);
    check_long("with its group", status, stopped_by(SIGSTOP));
    check_long("attached while it is stopped", trace(ATTACH, pid, 0, 0), 0);
    check_long("is one stop", event_of(pid), stopped_by(SIGSTOP));
    dispose(pid);
}

static void seized(void)
{
    pid_t pid = plain_child(counts);
    check_long("an address", trace(SEIZE, pid, 1, 0), -EIO);
    check_long("no such option", trace(SEIZE, pid, 0, 0x4000), -EIO);
    check_long("seize", trace(SEIZE, pid, 0, SYSGOOD), 0);
    check_long("it runs", nothing(pid), 0);
    check_long("no requests", peek_user(pid, 0), -ESRCH);
    check_long("interrupt", trace(INTERRUPT, pid, 0, 0), 0);
    check_long("it stops", event_of(pid), group_stop(SIGTRAP));
    check_long("its code", info_of(pid).si_code, EVENT_STOP << 8 | SIGTRAP);
    trace(CONT, pid, 0, 0);
    check_long("it runs again", nothing(pid), 0);
    kill(pid, SIGSTOP);
    check_long("a signal to stop", event_of(pid), stopped_by(SIGSTOP));
    goes_on("the stop", pid, CONT, SIGSTOP, group_stop(SIGSTOP));
    check_long("listen", trace(LISTEN, pid, 0, 0), 0);
    check_long("no requests to one that listens", peek_user(pid, 0), -ESRCH);
    check_long("nothing to be heard", nothing(pid), 0);
    kill(pid, SIGCONT);
    check_long("it goes on", event_of(pid), group_stop(SIGTRAP));
    goes_on("by SIGCONT", pid, CONT, 0, stopped_by(SIGCONT));
    trace(CONT, pid, 0, 0);
    kill(pid, SIGSTOP);
    check_long("stop again", event_of(pid), stopped_by(SIGSTOP));
    goes_on("and again", pid, CONT, SIGSTOP, group_stop(SIGSTOP));
    trace(LISTEN, pid, 0, 0);
    check_long("interrupted while it listens", trace(INTERRUPT, pid, 0, 0), 0);
    check_long("it stops anew", event_of(pid), group_stop(SIGSTOP));
    check_long("left while its group is stopped", trace(DETACH, pid, 0, 0), 0);
    check_long("it stays so", nothing(pid), 0);
    kill(pid, SIGCONT);
    kill(pid, SIGTERM);
    check_long("and dies", event_of(pid), SIGTERM);

    pid = plain_child(rests);
    wait_for_sleep(pid);
    trace(SEIZE, pid, 0, 0);
    trace(INTERRUPT, pid, 0, 0);
    check_long("interrupted in a call", event_of(pid), group_stop(SIGTRAP));
    check_long("to be made anew", peek_user(pid, USER(regs.rax)), -514);
    goes_on("made anew", pid, SYSCALL, 0, stopped_by(SIGTRAP));
    check_long("the same", peek_user(pid, USER(regs.orig_rax)), SYS_pause);
    dispose(pid);
}

static int forks(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(3);
    waitpid(pid, NULL, 0);
    return 1;
}

static int stops_and_forks(void)
{
    raise_here(SIGUSR1);
    return forks();
}

static void seized_children(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        usleep(60000);
        _exit(stops_and_forks());
    }
    trace(SEIZE, pid, 0, TRACE_FORK);
    check_long("seized and signalled", event_of(pid), stopped_by(SIGUSR1));
    goes_on("a fork of a seized one", pid, CONT, 0, stopped_at(EVENT_FORK));
    long child = 0;
    trace(GETEVENTMSG, pid, 0, (long)&child);
    check_long("its child stops without a signal", event_of((pid_t)child), group_stop(SIGTRAP));
    ends("and ends", (pid_t)child, 0, 3);
    goes_on("SIGCHLD", pid, CONT, 0, stopped_by(SIGCHLD));
    ends("the fork's end", pid, 0, 1);
}

/* Its own parent sees a stop, too, when it does not trace. */
static void parent_and_tracer(void)
{
    pid_t pid = plain_child(rests);
    pid_t tracer = fork();
    if (tracer == 0) {
        check_failures = 0;
        trace(SEIZE, pid, 0, 0);
        kill(pid, SIGSTOP);
        check_long("the tracer's stop", event_of(pid), stopped_by(SIGSTOP));
        goes_on("the group's stop", pid, CONT, SIGSTOP, group_stop(SIGSTOP));
        _exit(check_failures);
    }
    check_long("the tracer's part", event_of(tracer), 0);
    int status = 0;
    check_that("the parent's stop", waitpid(pid, &status, WUNTRACED) == pid);
    check_long("by that signal", status, stopped_by(SIGSTOP));
    kill(pid, SIGCONT);
    check_that("goes on", waitpid(pid, &status, WCONTINUED) == pid && WIFCONTINUED(status));
    dispose(pid);
}

/* Threads. */

static volatile int stage, second_thread;

static void *second(void *unused)
{
    second_thread = (int)syscall(SYS_gettid);
    while (stage == 0)
        usleep(1000);
    raise_here(SIGUSR1);
    syscall(SYS_exit, 7);
    return NULL;
}

static int two_threads(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, second, NULL);
    stage = 1;
    /* The C libraries' joins do not all notice a thread that ends by the call itself. */
    while (second_thread == 0 || syscall(SYS_tgkill, getpid(), second_thread, 0) == 0)
        usleep(1000);
    raise_here(SIGUSR2);
    return 6;
}

static void threads(void)
{
    pid_t pid = traced_child(two_threads);
    trace(SETOPTIONS, pid, 0, TRACE_CLONE);
    goes_on("a thread", pid, CONT, 0, stopped_at(EVENT_CLONE));
    long thread = 0;
    trace(GETEVENTMSG, pid, 0, (long)&thread);
    check_long("stops", event_of((pid_t)thread), stopped_by(SIGSTOP));
    trace(CONT, pid, 0, 0);
    goes_on("gets its signal", (pid_t)thread, CONT, 0, stopped_by(SIGUSR1));
    check_long("the other runs", peek_user(pid, 0), -ESRCH);
    int status;
    check_long("not by its identifier without __WALL or tracing", result(waitpid((pid_t)thread, &status, WNOHANG)), 0);
    goes_on("ends with its own status", (pid_t)thread, CONT, 0, 7 << 8);
    check_long("once", event_of((pid_t)thread), -ECHILD);
    check_long("its process goes on", event_of(pid), stopped_by(SIGUSR2));
    ends("and ends", pid, 0, 6);
}

static int ends_process(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, second, NULL);
    usleep(20000);
    return 9;
}

static void whole_groups(void)
{
    pid_t pid = traced_child(ends_process);
    trace(SETOPTIONS, pid, 0, TRACE_CLONE | TRACE_EXIT);
    goes_on("a second thread", pid, CONT, 0, stopped_at(EVENT_CLONE));
    long thread = 0, status = 0;
    trace(GETEVENTMSG, pid, 0, (long)&thread);
    check_long("stops too", event_of((pid_t)thread), stopped_by(SIGSTOP));
    trace(CONT, (pid_t)thread, 0, 0);
    goes_on("the process ends", pid, CONT, 0, stopped_at(EVENT_EXIT));
    trace(GETEVENTMSG, pid, 0, (long)&status);
    check_long("its status", status, 9 << 8);
    check_long("and the second", event_of((pid_t)thread), stopped_at(EVENT_EXIT));
    trace(GETEVENTMSG, (pid_t)thread, 0, (long)&status);
    check_long("with the same status", status, 9 << 8);
    trace(CONT, pid, 0, 0);
    check_long("the first waits for it", nothing(pid), 0);
    goes_on("the second has ended", (pid_t)thread, CONT, 0, 9 << 8);
    check_long("and then the first", event_of(pid), 9 << 8);
}

static void *executes(void *unused)
{
    execl("/proc/self/exe", "traced", "end", NULL);
    return NULL;
}

static int thread_executes(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, executes, NULL);
    pause();
    return 1;
}

static void threads_execute(void)
{
    pid_t pid = traced_child(thread_executes);
    trace(SETOPTIONS, pid, 0, TRACE_CLONE | TRACE_EXEC);
    goes_on("one that will execute", pid, CONT, 0, stopped_at(EVENT_CLONE));
    long thread = 0, former = 0;
    trace(GETEVENTMSG, pid, 0, (long)&thread);
    check_long("is stopped", event_of((pid_t)thread), stopped_by(SIGSTOP));
    trace(CONT, pid, 0, 0);
    trace(CONT, (pid_t)thread, 0, 0);
    check_long("executes as the first", event_of(pid), stopped_at(EVENT_EXEC));
    trace(GETEVENTMSG, pid, 0, (long)&former);
    check_that("and tells who it was", former == thread);
    check_long("which is nobody", trace(CONT, (pid_t)thread, 0, 0), -ESRCH);
    ends("and ends", pid, 0, 42);
}

/* Only the tracing thread makes requests. */
static pid_t tracee;
static long from_another;

static void *requests(void *unused)
{
    from_another = peek_user(tracee, 0);
    return NULL;
}

static void one_tracer(void)
{
    tracee = traced_child(rests);
    pthread_t thread;
    pthread_create(&thread, NULL, requests, NULL);
    pthread_join(thread, NULL);
    check_long("another thread's request", from_another, -ESRCH);
    dispose(tracee);
}

/* Many signals and stops at once. */
static void storm(void)
{
    pid_t pid = plain_child(counts);
    trace(SEIZE, pid, 0, 0);
    long stops = 0;
    for (int i = 0; i < 300; i++) {
        trace(INTERRUPT, pid, 0, 0);
        long status = event_of(pid);
        stops += status == group_stop(SIGTRAP);
        trace(i % 2 ? STEP : CONT, pid, 0, 0);
        if (i % 2 && event_of(pid) == stopped_by(SIGTRAP))
            trace(CONT, pid, 0, 0);
    }
    check_long("interrupted often", stops, 300);
    dispose(pid);
}

int main(int count, char **arguments)
{
    if (count > 1 && strcmp(arguments[1], "end") == 0)
        return 42;
    attached();
    seized();
    seized_children();
    parent_and_tracer();
    threads();
    whole_groups();
    threads_execute();
    one_tracer();
    storm();
    return check_end("traced");
}
