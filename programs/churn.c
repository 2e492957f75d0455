/*
 * Phases of little, changing and much, for those who look at the machine from outside.
 *
 *      PHASE alone    this process only, in ring 3
 *      PHASE storm    threads are created and joined, processes forked and ended, without a pause
 *      PHASE crowd    PROCESSES live, each with THREADS more, and some of them stay in ring 3
 *
 * A line from the console ends a phase; the last one ends with `PASS churn`. As process 1 it takes the
 * two numbers from its arguments.
 */
#include "check.h"

#include <poll.h>
#include <pthread.h>

enum { SPINNERS = 3, SPINS = 2000000 };

static int number(int count, char **arguments, int index, int otherwise)
{
    return index < count ? atoi(arguments[index]) : otherwise;
}

static bool told_to_go_on(void)
{
    struct pollfd console = {.fd = 0, .events = POLLIN};
    char line[100];
    return poll(&console, 1, 0) > 0 && read(0, line, sizeof line) > 0;
}

static void spin(void)
{
    for (int i = 0; i < SPINS; i++)
        __asm__ volatile("pause" ::: "memory");
}

static void *short_thread(void *unused)
{
    return unused;
}

static void *sleeping_thread(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static void start(pthread_t *thread, void *(*body)(void *))
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    int error = pthread_create(thread, &attributes, body, NULL);
    if (error != 0)
        check_long("pthread_create", error, 0);
}

static void storm(void)
{
    pthread_t threads[8];
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        start(&threads[i], short_thread);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        start(&thread, short_thread);
        pthread_join(thread, NULL);
        _exit(0);
    }
    require_long("waitpid", waitpid(child, NULL, 0), child);
}

static void make_crowd(int processes, int threads, pid_t *children)
{
    int ready[2];
    if (pipe(ready) != 0)
        _exit(1);
    for (int i = 0; i < processes; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            pthread_t thread;
            for (int j = 0; j < threads; j++)
                start(&thread, sleeping_thread);
            if (write(ready[1], "r", 1) != 1)
                _exit(1);
            while (i < SPINNERS)
                spin();
            sleeping_thread(NULL);
        }
        char byte;
        require_long("the child says that it is ready", read(ready[0], &byte, 1), 1);
    }
}

int main(int count, char **arguments)
{
    int processes = number(count, arguments, 1, 50), threads = number(count, arguments, 2, 4);
    pid_t *children = calloc((size_t)processes + 1, sizeof *children);
    say("PHASE alone");
    while (!told_to_go_on())
        spin();
    say("PHASE storm");
    while (!told_to_go_on())
        storm();
    make_crowd(processes, threads, children);
    say("PHASE crowd");
    while (!told_to_go_on())
        spin();
    for (int i = 0; i < processes; i++) {
        kill(children[i], SIGKILL);
        require_long("the child's end", waitpid(children[i], NULL, 0), children[i]);
    }
    return check_end("churn");
}
