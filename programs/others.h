/*
 * What programs share that watch others: a CPU to stay on, a clock, and a thread's state, to wait for instead of for some
 * time. Some time would do as well but where the machine is an emulator's, and the host lets that wait: the time passes
 * then, and nothing happens.
 */
#ifndef OTHERS_H
#define OTHERS_H

#include "check.h"

#include <fcntl.h>
#include <sched.h>
#include <time.h>

/* Keeps the calling thread on that CPU; where there is no such CPU, anywhere. */
UNUSED static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* Seconds since some time. */
UNUSED static double seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* The letter that /proc has for a thread's state; 0 if it has none. */
UNUSED static char state_of(pid_t pid, pid_t thread)
{
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, thread);
    int file = open(path, O_RDONLY);
    ssize_t length = file < 0 ? 0 : read(file, text, sizeof text - 1);
    close(file);
    text[length > 0 ? length : 0] = 0;
    char *name_end = strrchr(text, ')');
    return name_end && name_end[1] == ' ' ? name_end[2] : 0;
}

/* Waits until a process's first thread sleeps. Whether it did. */
UNUSED static bool falls_asleep(pid_t pid)
{
    for (int i = 0; i < 20000; i++) {
        if (state_of(pid, pid) == 'S')
            return true;
        usleep(1000);
    }
    return false;
}

#endif
