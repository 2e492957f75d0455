/*
 * Segments of one's own: modify_ldt, and set_thread_area by INT 0x80, with what one asks them for.
 *
 * modify_ldt gives a C int: an error comes back in the lower half of RAX, not as a negative long.
 */
#ifndef SEGMENT_H
#define SEGMENT_H

#include "check.h"

#include <sys/mman.h>

/* struct user_desc of Linux. */
struct segment {
    uint32_t number, base, limit;
    uint32_t wide : 1, kind : 2, read_exec_only : 1, pages : 1, not_present : 1, useable : 1, lm : 1;
};

enum { DATA, EXPAND_DOWN, CODE, CONFORMING };

enum {
    READ, WRITE_OLD, READ_DEFAULT, WRITE = 0x11, /* functions of modify_ldt */
    MOST_ENTRIES = 8192,
    FLAT_CODE = 0x33,                            /* 64-bit code, as it is at the start of a program */
    FLAT_DATA = 0x2b,
    CPU_NUMBER = 0x7b,
    SET_THREAD_AREA = 243, GET_THREAD_AREA = 244, /* numbers of INT 0x80 */
};

/* Selectors of ring 3. */
UNUSED static uint32_t of_ldt(uint32_t number)
{
    return number << 3 | 7;
}

UNUSED static uint32_t of_gdt(uint32_t number)
{
    return number << 3 | 3;
}

/* 4 GiB from address 0. */
UNUSED static struct segment flat(uint32_t number, uint32_t kind)
{
    return (struct segment){.number = number, .limit = 0xfffff, .wide = 1, .kind = kind, .pages = 1};
}

/* 64 KiB from `base`, 16 bits. */
UNUSED static struct segment narrow(uint32_t number, uint32_t kind, const void *base)
{
    return (struct segment){
        .number = number, .base = (uint32_t)(uintptr_t)base, .limit = 0xffff, .kind = kind};
}

UNUSED static struct segment none(uint32_t number)
{
    return (struct segment){.number = number, .read_exec_only = 1, .not_present = 1};
}

/* The result in all its 64 bits. */
UNUSED static long modify_ldt(int function, void *pointer, unsigned long bytes)
{
    long rax = SYS_modify_ldt;
    __asm__ volatile("syscall"
                     : "+a"(rax)
                     : "D"((long)function), "S"(pointer), "d"(bytes)
                     : "rcx", "r11", "memory");
    return rax;
}

/* What an error looks like. */
UNUSED static long failure(int number)
{
    return (uint32_t)-number;
}

UNUSED static long set_entry(struct segment segment)
{
    return modify_ldt(WRITE, &segment, sizeof segment);
}

UNUSED static long call_32(uint32_t number, const void *argument)
{
    long rax = number;
    __asm__ volatile("int $0x80"
                     : "+a"(rax)
                     : "b"(argument)
                     : "memory", "r8", "r9", "r10", "r11");
    return rax;
}

/* Memory that 32 bits can name. */
UNUSED static void *low_memory(size_t bytes)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT;
    void *place = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (place == MAP_FAILED) {
        say("FAIL memory below 4 GiB: expected some got none");
        _exit(1);
    }
    return place;
}

/* LAR: the access rights of what a selector names, -1 if it names nothing. Four bits are undefined. */
UNUSED static long rights_of(uint32_t selector)
{
    uint32_t rights = 0;
    bool valid;
    __asm__("lar %2, %0" : "+r"(rights), "=@ccz"(valid) : "r"(selector));
    return valid ? (long)(rights & 0xf0ff00) : -1;
}

/* LSL: the limit in bytes, -1 if there is none. */
UNUSED static long limit_of(uint32_t selector)
{
    uint32_t limit = 0;
    bool valid;
    __asm__("lsl %2, %0" : "+r"(limit), "=@ccz"(valid) : "r"(selector));
    return valid ? (long)limit : -1;
}

#define SEGMENT_REGISTER(name)                                                                    \
    UNUSED static uint32_t get_##name(void)                                                       \
    {                                                                                             \
        uint32_t selector;                                                                        \
        __asm__ volatile("mov %%" #name ", %0" : "=r"(selector));                                 \
        return selector;                                                                          \
    }                                                                                             \
    UNUSED static void set_##name(uint32_t selector)                                              \
    {                                                                                             \
        __asm__ volatile("mov %0, %%" #name : : "r"(selector));                                   \
    }

SEGMENT_REGISTER(ds)
SEGMENT_REGISTER(es)
SEGMENT_REGISTER(fs)
SEGMENT_REGISTER(gs)

#endif
