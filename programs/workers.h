/*
 * Threads that work as long as a word is not 0, and sleep otherwise.
 */
#ifndef WORKERS_H
#define WORKERS_H

#include "check.h"

#include <stdatomic.h>

/* <linux/futex.h> comes with the kernel headers, which not every C library ships. */
enum { FUTEX_WAIT_PRIVATE = 128, FUTEX_WAKE_PRIVATE = 129 };

/* Sleeps if the word is 0; may return although it still is. */
UNUSED static void sleep_at(_Atomic uint32_t *works)
{
    syscall(SYS_futex, works, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

/* Sets the word, and wakes who sleeps there. */
UNUSED static void set_worker(_Atomic uint32_t *works, bool is_to)
{
    if (atomic_exchange(works, is_to) == 0 && is_to)
        syscall(SYS_futex, works, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

#endif
