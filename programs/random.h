/*
 * Numbers that look like chance's and are the same in each run: Marsaglia's xorshift64.
 */
#ifndef RANDOM_H
#define RANDOM_H

#include "check.h"

/* Never 0. */
static uint64_t random_bits = 0x9e3779b97f4a7c15u;

UNUSED static uint64_t chance(void)
{
    random_bits ^= random_bits << 13;
    random_bits ^= random_bits >> 7;
    random_bits ^= random_bits << 17;
    return random_bits;
}

UNUSED static unsigned pick(unsigned below)
{
    return (unsigned)(chance() >> 20) % below;
}

#endif
