/*
 * Which addresses wait in the same bucket of the kernel's futex table as a word at which many sleep: a wake at such an
 * address takes longer, as it looks through all that sleep there. Each `collides` line names one. They may depend on
 * anything but on where the kernel has its memory. Needs a time-stamp counter that counts instructions.
 */
#include "workers.h"

#include <pthread.h>
#include <sched.h>
#include <x86intrin.h>

enum { SLEEPERS = 64, ADDRESSES = 2500, TRIES = 5 };

static _Atomic uint32_t word;
static uint64_t costs[ADDRESSES];

static void *sleeper(void *unused)
{
    for (;;)
        sleep_at(&word);
    return unused;
}

/* Any that nobody sleeps at: nothing need be mapped there. The same in each run. */
static uint64_t address_of(unsigned index)
{
    return 0x10000000 + index * 0x3fa7c94ull % 0x7f0000000000;
}

static uint64_t cost_of_a_wake(uint64_t address)
{
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < TRIES; i++) {
        uint64_t start = __rdtsc();
        syscall(SYS_futex, address, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        uint64_t cost = __rdtsc() - start;
        if (cost < least)
            least = cost;
    }
    return least;
}

int main(void)
{
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    for (int i = 0; i < SLEEPERS; i++) {
        pthread_t thread;
        check_long("a thread", pthread_create(&thread, &small, sleeper, NULL), 0);
    }
    for (int i = 0; i < 2 * SLEEPERS; i++)
        sched_yield();
    usleep(10000);

    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < ADDRESSES; i++) {
        costs[i] = cost_of_a_wake(address_of(i));
        if (costs[i] < least)
            least = costs[i];
    }
    for (unsigned i = 0; i < ADDRESSES; i++)
        if (costs[i] > least + least / 2)
            say("collides %#lx", (long)address_of(i));
    return check_end("collisions");
}
