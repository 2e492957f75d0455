/*
 * Runs before everything else, for moments that nobody foresees, until it is killed: whoever it runs beside is interrupted
 * anywhere, and where a process is preempted, Linux and programs do things that they do nowhere else.
 *
 * Sources: sched_setscheduler(2), nanosleep(2), rseq(2).
 */
#include "random.h"

#include <sched.h>
#include <time.h>
#include <x86intrin.h>

enum { LEAST_PAUSE = 20000, PAUSES = 400000 /* ns */, TURNS = 200000 /* cycles */ };

int main(void)
{
    struct sched_param priority = {.sched_priority = 50};
    sched_setscheduler(0, SCHED_FIFO, &priority); /* where there is such a thing */
    random_bits ^= __rdtsc();
    for (;;) {
        struct timespec pause = {.tv_nsec = LEAST_PAUSE + (long)pick(PAUSES)};
        nanosleep(&pause, NULL);
        uint64_t end = __rdtsc() + pick(TURNS);
        while (__rdtsc() < end)
            ;
    }
}
