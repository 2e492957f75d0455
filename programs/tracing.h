/*
 * What the programs about ptrace share: the raw call, waits, and children that wait to be traced.
 *
 * Sources: ptrace(2), and <asm/ptrace-abi.h>, whose numbers stand here so that both C libraries agree.
 */
#ifndef TRACING_H
#define TRACING_H

#include "others.h"

#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/user.h>

enum {
    TRACEME = 0, PEEKTEXT = 1, PEEKDATA = 2, PEEKUSER = 3, POKETEXT = 4, POKEDATA = 5, POKEUSER = 6, CONT = 7,
    KILL = 8, STEP = 9, GETREGS = 12, SETREGS = 13, GETFPREGS = 14, SETFPREGS = 15, ATTACH = 16, DETACH = 17,
    SYSCALL = 24, ARCH_PRCTL = 30, SYSEMU = 31, SYSEMU_STEP = 32, SETOPTIONS = 0x4200, GETEVENTMSG = 0x4201,
    GETSIGINFO = 0x4202, SETSIGINFO = 0x4203, GETREGSET = 0x4204, SETREGSET = 0x4205, SEIZE = 0x4206,
    INTERRUPT = 0x4207, LISTEN = 0x4208, PEEKSIGINFO = 0x4209, GETSIGMASK = 0x420a, SETSIGMASK = 0x420b,
    GET_SYSCALL_INFO = 0x420e,
};
enum {
    SYSGOOD = 1, TRACE_FORK = 2, TRACE_VFORK = 4, TRACE_CLONE = 8, TRACE_EXEC = 16, TRACE_VFORKDONE = 32,
    TRACE_EXIT = 64, EXITKILL = 1 << 20,
};
enum { EVENT_FORK = 1, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC, EVENT_VFORK_DONE, EVENT_EXIT, EVENT_STOP = 128 };

#define USER(field) ((long)offsetof(struct user, field))
#define ANY_CHILD 0x40000000 /* __WALL */

UNUSED static long trace(int request, pid_t pid, long address, long data)
{
    return result(syscall(SYS_ptrace, (long)request, (long)pid, address, data));
}

/* The wait status of the next event of `pid`, or minus errno. */
UNUSED static long event_of(pid_t pid)
{
    int status;
    long waited = result(waitpid(pid, &status, ANY_CHILD));
    return waited < 0 ? waited : status;
}

/* The status of a stop: by a signal, or by SIGTRAP with an event. */
UNUSED static long stopped_by(int signal)
{
    return signal << 8 | 0x7f;
}

UNUSED static long stopped_at(int event)
{
    return (long)event << 16 | SIGTRAP << 8 | 0x7f;
}

UNUSED static long peek_user(pid_t pid, long offset)
{
    long value = 0;
    long error = trace(PEEKUSER, pid, offset, (long)&value);
    return error < 0 ? error : value;
}

UNUSED static siginfo_t info_of(pid_t pid)
{
    siginfo_t info;
    memset(&info, 0x55, sizeof info);
    trace(GETSIGINFO, pid, 0, (long)&info);
    return info;
}

/* Sends the thread a signal by one call and no other: musl's raise changes the mask around it. */
UNUSED static void raise_here(int signal)
{
    syscall(SYS_tgkill, syscall(SYS_getpid), syscall(SYS_gettid), signal);
}

/* A child that is traced, runs `body` after a stop, and ends with what that returns. */
UNUSED static pid_t traced_child(int (*body)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        trace(TRACEME, 0, 0, 0);
        raise_here(SIGSTOP);
        _exit(body());
    }
    if (event_of(pid) != stopped_by(SIGSTOP))
        check_that("a traced child stops", false);
    return pid;
}

/* Lets a tracee go on and expects that event. */
UNUSED static void goes_on(const char *name, pid_t pid, int request, int signal, long status)
{
    long done = trace(request, pid, 0, signal);
    check_long(name, done < 0 ? done : event_of(pid), status);
}

UNUSED static void ends(const char *name, pid_t pid, int signal, int status)
{
    goes_on(name, pid, CONT, signal, status << 8);
}

/* Kills a tracee whose test is over. */
UNUSED static void dispose(pid_t pid)
{
    kill(pid, SIGKILL);
    for (long status = stopped_by(SIGKILL); status >= 0 && !WIFSIGNALED((int)status) && !WIFEXITED((int)status);)
        status = event_of(pid);
}

UNUSED static void wait_a_little(void)
{
    usleep(30000);
}

/* Waits until a process sleeps. */
UNUSED static void wait_for_sleep(pid_t pid)
{
    if (!falls_asleep(pid))
        check_that("a process gets to sleep", false);
}

#endif
