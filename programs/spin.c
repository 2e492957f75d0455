/*
 * Stays in ring 3, for those who look at the machine from outside.
 *
 * Without arguments: prints READY and loops for ever, without a system call. `spin PROCESSES THREADS`
 * first starts that many processes with that many more threads each; they sleep. When every one of them
 * has said that it lives, it prints READY and loops. As process 1 it takes its arguments from the
 * kernel's command line, behind `--`.
 */
#include "check.h"

#include <pthread.h>

static int say_so;

static void *sleeping_thread(void *unused)
{
    if (write(say_so, "t", 1) != 1)
        _exit(1);
    for (;;)
        pause();
    return unused;
}

static void start_threads(int count)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    for (int i = 0; i < count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, &attributes, sleeping_thread, NULL) != 0) {
            say("FAIL spin: pthread_create");
            exit(1);
        }
    }
}

static void start_processes(int processes, int threads)
{
    for (int i = 0; i < processes; i++) {
        pid_t child = fork();
        if (child == 0) {
            start_threads(threads);
            sleeping_thread(NULL);
        }
        if (child < 0) {
            say("FAIL spin: fork");
            exit(1);
        }
    }
}

static int argument(int count, char **arguments, int index)
{
    return index < count ? atoi(arguments[index]) : 0;
}

int main(int count, char **arguments)
{
    int processes = argument(count, arguments, 1), threads = argument(count, arguments, 2);
    int ends[2];
    if (pipe(ends) != 0)
        return 1;
    say_so = ends[1];
    start_processes(processes, threads);
    for (int heard = 0; heard < processes * (threads + 1);) {
        char bytes[256];
        ssize_t n = read(ends[0], bytes, sizeof bytes);
        if (n > 0)
            heard += (int)n;
    }
    say("READY");
    for (;;)
        __asm__ volatile("pause" ::: "memory");
}
