/*
 * Ends that meet other things: a tracer ends while its tracee stops, or while its child asks to be traced; a group is
 * killed while its members fork. Whatever meets, every process ends and is collected: by this program, to which all of them come in the end. With one CPU
 * nothing meets; with several it does.
 *
 * Sources: ptrace(2), prctl(2) (PR_SET_CHILD_SUBREAPER), wait(2).
 */
#include "tracing.h"

#include <sys/prctl.h>
#include <time.h>

static void spin(unsigned turns)
{
    for (volatile unsigned i = 0; i < turns; i++)
        ;
}

/*
 * Collects whatever comes until there are no children; false if that takes longer than so many seconds. A child
 * whose parent was gone when it asked to be traced is this program's tracee.
 */
static bool collect_all(int seconds)
{
    time_t end = time(NULL) + seconds;
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, ANY_CHILD | WNOHANG);
        if (pid < 0)
            return true;
        if (pid > 0) {
            if (WIFSTOPPED(status))
                trace(CONT, pid, 0, 0);
            continue;
        }
        if (time(NULL) > end)
            return false;
        usleep(200);
    }
}

/* A tracee that stops again and again, and a tracer that ends at some point of that. */
static void stops_as_tracer_ends(unsigned round)
{
    if (fork() != 0)
        return;
    if (fork() == 0) {
        signal(SIGUSR1, SIG_IGN);
        trace(TRACEME, 0, 0, 0);
        for (int i = 0; i < 8; i++)
            raise_here(SIGUSR1);
        _exit(0);
    }
    int status;
    for (unsigned i = 0; i < round % 5; i++) {
        pid_t pid = waitpid(-1, &status, ANY_CHILD);
        if (pid > 0 && WIFSTOPPED(status))
            trace(CONT, pid, 0, 0);
    }
    spin(round * 37 % 4000);
    _exit(0);
}

/* A child that makes its parent its tracer, and a parent that ends. */
static void traced_as_parent_ends(unsigned round)
{
    if (fork() != 0)
        return;
    if (fork() == 0) {
        spin(round * 53 % 6000);
        trace(TRACEME, 0, 0, 0);
        _exit(0);
    }
    _exit(0);
}

/*
 * A group whose only member is ever another one, and that is sent a signal: it ends that one, whoever it is. SIGKILL
 * ends it at once, SIGQUIT as it returns from the call that it is in.
 */
static void killed_as_it_forks(unsigned round)
{
    pid_t leader = fork();
    if (leader == 0) {
        setpgid(0, 0);
        for (time_t end = time(NULL) + 60; time(NULL) < end;)
            if (fork() > 0)
                _exit(0);
        _exit(0);
    }
    if (leader < 0)
        return;
    setpgid(leader, leader);
    usleep(round * 97 % 3000);
    kill(-leader, round % 2 ? SIGKILL : SIGQUIT);
}

static void check_ends(const char *what, void (*begin)(unsigned), unsigned rounds)
{
    for (unsigned round = 0; round < rounds; round += 4) {
        for (unsigned i = 0; i < 4; i++)
            begin(round + i);
        if (!collect_all(40)) {
            check_that(what, false);
            return;
        }
    }
    check_that(what, true);
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 200;
    setpgid(0, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    check_ends("a tracee stops as its tracer ends", stops_as_tracer_ends, rounds);
    check_ends("a child is traced as its parent ends", traced_as_parent_ends, rounds);
    check_ends("a group is killed as it forks", killed_as_it_forks, rounds);
    return check_end("orphans");
}
