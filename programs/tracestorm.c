/*
 * Tracers, tracees and signals in every order that chance brings: tracers that end while their tracees
 * are stopped, tracees killed in the middle of a request, threads that come and go, registers and memory
 * of all of it with random contents. Nothing is expected but that all of it ends.
 */
#include "random.h"
#include "tracing.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

static void *thread_body(void *unused)
{
    for (int i = 0; i < 20; i++)
        syscall(SYS_getppid);
    return NULL;
}

/* What a tracee does: calls, forks, threads, signals, faults. */
static int lives(void)
{
    random_bits ^= getpid();
    signal(SIGUSR1, SIG_IGN);
    for (int i = 0; i < 6; i++) {
        pthread_t thread;
        pid_t pid;
        switch (chance() % 5) {
        case 0:
            if (pthread_create(&thread, NULL, thread_body, NULL) == 0)
                pthread_join(thread, NULL);
            break;
        case 1:
            pid = fork();
            if (pid == 0)
                _exit(0);
            waitpid(pid, NULL, 0);
            break;
        case 2:
            raise_here(SIGUSR1);
            break;
        case 3:
            asm volatile("int3");
            break;
        default:
            usleep(100);
        }
    }
    return 0;
}

static void random_registers(pid_t pid)
{
    struct user_regs_struct registers;
    uint64_t *words = (uint64_t *)&registers;
    if (trace(GETREGS, pid, 0, (long)&registers) < 0)
        return;
    for (size_t i = 0; i < sizeof registers / 8; i++)
        if (chance() % 8 == 0)
            words[i] = chance() >> chance() % 64;
    trace(SETREGS, pid, 0, (long)&registers);
}

static void random_state(pid_t pid)
{
    static unsigned char image[16384];
    struct iovec set = {image, sizeof image};
    if (trace(GETREGSET, pid, 0x202, (long)&set) < 0)
        return;
    for (int i = 0; i < 8; i++)
        image[chance() % set.iov_len] = (unsigned char)chance();
    trace(SETREGSET, pid, 0x202, (long)&set);
}

static void any_request(pid_t pid)
{
    static const int going_on[] = {CONT, SYSCALL, STEP, SYSEMU, SYSEMU_STEP, LISTEN, DETACH};
    long word;
    int wild = chance() % 4 == 0;
    switch (chance() % 8) {
    case 0:
        if (wild)
            random_registers(pid);
        break;
    case 1:
        if (wild)
            random_state(pid);
        break;
    case 2:
        trace(POKEUSER, pid, USER(u_debugreg[chance() % 8]), chance() % 2 ? (long)&random_bits
                                                                          : (long)(chance() >> chance() % 64));
        break;
    case 3:
        trace(POKEDATA, pid, (long)&random_bits, (long)chance());
        break;
    case 4:
        trace(PEEKDATA, pid, (long)(chance() >> chance() % 64), (long)&word);
        break;
    case 5:
        trace(INTERRUPT, pid, 0, 0);
        break;
    case 6:
        trace(SETOPTIONS, pid, 0, chance() & 0x10007f);
        break;
    default:
        if (chance() % 20 == 0)
            kill(pid, chance() % 2 ? SIGKILL : SIGSTOP);
    }
    trace(going_on[chance() % COUNT_OF(going_on)], pid, 0, chance() % 6 ? 0 : chance() % 32);
}

/* One tracer's life: it ends with its tracees in whatever state they are. */
static int traces(void)
{
    random_bits ^= getpid() * 0x2545f4914f6cdd1d;
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            if (chance() % 2)
                trace(TRACEME, 0, 0, 0);
            raise_here(chance() % 2 ? SIGSTOP : SIGUSR1);
            _exit(lives());
        }
        trace(SEIZE, pid, 0, chance() & 0x10007f);
    }
    for (int i = 0; i < 60; i++) {
        int status;
        pid_t pid = waitpid(-1, &status, ANY_CHILD | WNOHANG);
        if (pid > 0 && WIFSTOPPED(status))
            any_request(pid);
        else if (pid < 0)
            break;
        else
            sched_yield();
    }
    return 0;
}

int main(void)
{
    check_quiet = true;
    setpgid(0, 0);
    /* Among other storms each of a tracer's yields may take all of their turns: a round, seconds. */
    time_t end = time(NULL) + 6;
    for (long rounds = 0; rounds <= 10 || time(NULL) < end;) {
        pid_t pid = fork();
        if (pid == 0) {
            setpgid(0, 0);
            _exit(traces());
        }
        if (chance() % 3 == 0) {
            usleep(chance() % 3000);
            kill(pid, SIGKILL);
        }
        if (waitpid(pid, NULL, 0) == pid) {
            /* What is left of it: stopped ones, and those that loop. */
            kill(-pid, SIGKILL);
            rounds++;
        }
        random_bits += rounds;
    }
    return check_end("tracestorm");
}
