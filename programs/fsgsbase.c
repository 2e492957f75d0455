/*
 * FS and GS: selectors and bases, by instruction and by arch_prctl, over context switches, fork, clone, exec
 * and signals, with RDFSBASE and its kin and without; selectors of the LDT and of thread-local entries with
 * bases of their own. And what else arch_prctl answers.
 *
 * Which bases survive is the CPU's and Linux's rule: with FSGSBASE every one; without it, the base of a null
 * selector as arch_prctl set it, and a descriptor's base with its selector.
 *
 * Sources: arch_prctl(2), modify_ldt(2); Intel SDM vol. 3, 3.4.4; Linux's Documentation/x86/x86_64/fsgs.
 */
#include "check.h"

#include <pthread.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/mman.h>

enum { SET_GS = 0x1001, SET_FS, GET_FS, GET_GS, USER_DATA = 0x2b, HAS_FSGSBASE = 2 };
enum { LDT_DATA = 4 | 3, LDT_BASE = 0x12340000, PAGE = 4096 };

static bool has_instructions;

static long arch(unsigned long option, unsigned long argument)
{
    return result(syscall(SYS_arch_prctl, option, argument));
}

static unsigned long gs_base(void)
{
    unsigned long base = 0;
    arch(GET_GS, (unsigned long)&base);
    return base;
}

static unsigned long gs_by_instruction(void)
{
    unsigned long base;
    __asm__ volatile("rdgsbase %0" : "=r"(base));
    return base;
}

static void set_by_instruction(unsigned long base)
{
    __asm__ volatile("wrgsbase %0" : : "r"(base));
}

static unsigned gs(void)
{
    unsigned selector;
    __asm__ volatile("mov %%gs, %0" : "=r"(selector));
    return selector;
}

static void load_gs(unsigned selector)
{
    __asm__ volatile("mov %0, %%gs" : : "r"(selector));
}

/* Other threads and processes run meanwhile, with bases of their own. */
static void let_others_run(void)
{
    for (int i = 0; i < 3; i++)
        sched_yield();
}

static volatile bool stop;

static void *other(void *argument)
{
    unsigned long base = (unsigned long)argument;
    arch(SET_GS, base);
    while (!stop) {
        require_long("the others' base", (long)gs_base(), (long)base);
        sched_yield();
    }
    return NULL;
}

static void check_state(const char *name, unsigned selector, unsigned long base)
{
    char text[100];
    let_others_run();
    snprintf(text, sizeof text, "%s: selector", name);
    check_long(text, gs(), selector);
    snprintf(text, sizeof text, "%s: base", name);
    check_long(text, (long)gs_base(), (long)base);
    if (has_instructions)
        require_long(name, (long)gs_by_instruction(), (long)base);
    pid_t child = fork();
    if (child == 0)
        _exit(gs() == selector && gs_base() == base ? 0 : 1);
    int status = -1;
    waitpid(child, &status, 0);
    snprintf(text, sizeof text, "%s: fork", name);
    check_long(text, status, 0);
    raise(SIGUSR1);
    snprintf(text, sizeof text, "%s: after a signal", name);
    check_that(text, gs() == selector && gs_base() == base);
}

static void nothing(int signal)
{
}

/* ---- */

static void by_call(void)
{
    static const unsigned long bases[] = {1, 0x200000000, 0x7fffffffe000, 0};
    for (size_t i = 0; i < COUNT_OF(bases); i++) {
        check_long("ARCH_SET_GS", arch(SET_GS, bases[i]), 0);
        check_state("by call", 0, bases[i]);
    }
    check_long("a kernel address", arch(SET_GS, 0xffff800000000000), -EPERM);
    check_long("not canonical", arch(SET_GS, 0x8000000000000000), -EPERM);
    check_long("the last page", arch(SET_FS, 0xfffffffffffff000), -EPERM);
    check_long("nowhere to write", arch(GET_GS, 8), -EFAULT);
    load_gs(USER_DATA);
    check_state("a flat segment", USER_DATA, 0);
    check_long("ARCH_SET_GS", arch(SET_GS, 0x5000), 0);
    check_state("takes the selector away", 0, 0x5000);
    load_gs(0);
    for (unsigned null = 1; null < 4; null++) {
        load_gs(null);
        let_others_run();
        check_long("null of another ring", gs(), null);
    }
    load_gs(0);
    arch(SET_GS, 0);
}

static void by_instruction(void)
{
    check_that("AT_HWCAP2", ((getauxval(AT_HWCAP2) & HAS_FSGSBASE) != 0) == has_instructions);
    if (!has_instructions) {
        check_skip("instructions", "no FSGSBASE");
        return;
    }
    static const unsigned long bases[] = {0x1234, 0x7ffffffff000, 0xffff800000000000, UINT64_MAX, 0xffffffff81000000, 0};
    for (size_t i = 0; i < COUNT_OF(bases); i++) {
        set_by_instruction(bases[i]);
        check_state("by instruction", 0, bases[i]);
    }
    load_gs(USER_DATA);
    set_by_instruction(0x7777);
    check_state("a base beside a selector", USER_DATA, 0x7777);
    load_gs(0);
    set_by_instruction(0);
}

/* struct user_desc */
struct descriptor {
    uint32_t number, base, limit;
    uint32_t is_32_bit : 1, contents : 2, read_only : 1, in_pages : 1, absent : 1, useable : 1;
};

static void by_descriptor(void)
{
    struct descriptor data = {0, LDT_BASE, 0xfffff, 1, 0, 0, 1, 0, 1};
    check_long("modify_ldt", result(syscall(SYS_modify_ldt, 0x11, &data, sizeof data)), 0);
    load_gs(LDT_DATA);
    check_state("a segment of the LDT", LDT_DATA, LDT_BASE);
    if (has_instructions) {
        set_by_instruction(0x9999);
        check_state("another base", LDT_DATA, 0x9999);
    }
    check_long("ARCH_SET_GS", arch(SET_GS, 0x6000), 0);
    check_state("takes it away", 0, 0x6000);
    load_gs(LDT_DATA);
    struct descriptor empty = {0, 0, 0, 0, 0, 1, 0, 1, 0};
    check_long("take the entry out", result(syscall(SYS_modify_ldt, 0x11, &empty, sizeof empty)), 0);
    let_others_run();
    if (!has_instructions)
        check_long("its base goes with it", (long)gs_base(), 0);
    load_gs(0);
    arch(SET_GS, 0);
}

/* ---- FS: of a new thread, and of a new program ---- */

static int in_clone(void *unused)
{
    unsigned long base = 0;
    unsigned selector;
    /* Without the C library, which has its data at the old base. */
    long answer = SYS_arch_prctl;
    __asm__ volatile("syscall" : "+a"(answer) : "D"(GET_FS), "S"(&base) : "rcx", "r11", "memory");
    __asm__ volatile("mov %%fs, %0" : "=r"(selector));
    return base == 0x4321000 && selector == 0 ? gs() == USER_DATA ? 0 : 2 : 1;
}

static void new_threads(void)
{
    char *stack = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    load_gs(USER_DATA);
    pid_t child = clone(in_clone, stack + 4 * PAGE, CLONE_SETTLS | SIGCHLD, NULL, NULL, (void *)0x4321000, NULL);
    int status = -1;
    waitpid(child, &status, 0);
    check_long("CLONE_SETTLS", status, 0);
    check_long("CLONE_SETTLS of the kernel", result(clone(in_clone, stack + 4 * PAGE, CLONE_SETTLS | SIGCHLD, NULL, NULL,
                                                          (void *)0xffff800000000000, NULL)), -EPERM);
    load_gs(0);
}

static int fresh(void)
{
    struct { uint16_t ds, es, fs, gs; } now;
    __asm__ volatile("mov %%ds, %0\nmov %%es, %1\nmov %%fs, %2\nmov %%gs, %3"
                     : "=r"(now.ds), "=r"(now.es), "=r"(now.fs), "=r"(now.gs));
    return now.ds || now.es || now.fs || now.gs || gs_base() ? 1 : 0;
}

static void new_program(void)
{
    pid_t child = fork();
    if (child == 0) {
        char *arguments[] = {"fsgsbase", "fresh", NULL};
        __asm__ volatile("mov %0, %%ds\nmov %0, %%es" : : "r"(USER_DATA));
        arch(SET_GS, 0x5555000);
        load_gs(has_instructions ? USER_DATA : 0);
        execv("/proc/self/exe", arguments);
        _exit(99);
    }
    int status = -1;
    waitpid(child, &status, 0);
    check_long("a new program begins with nothing", status, 0);
}

/* ---- what else arch_prctl knows ---- */

static void other_requests(void)
{
    uint64_t mask = 0;
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    check_long("ARCH_GET_CPUID", arch(0x1011, 0), 1);
    check_long("ARCH_SET_CPUID", arch(0x1012, 0), -ENODEV);
    check_long("ARCH_GET_XCOMP_SUPP", arch(0x1021, (unsigned long)&mask), 0);
    check_that("all enabled state", mask == low);
    check_long("ARCH_GET_XCOMP_PERM", arch(0x1022, (unsigned long)&mask), 0);
    check_that("is permitted", mask == low);
    check_long("ARCH_GET_XCOMP_PERM, bad address", arch(0x1022, 8), -EFAULT);
    check_long("ARCH_REQ_XCOMP_PERM of nothing that is asked for", arch(0x1023, 2), -EOPNOTSUPP);
    check_long("ARCH_REQ_XCOMP_PERM beyond", arch(0x1023, 19), -EINVAL);
    check_long("ARCH_CET_STATUS", arch(0x3001, (unsigned long)&mask), -EINVAL);
    check_long("nothing", arch(0, 0), -EINVAL);
    check_long("the number is 32 bits", arch(0x100000000 | GET_GS, (unsigned long)&mask), 0);
}

int main(int count, char **arguments)
{
    if (count > 1)
        return fresh();
    unsigned eax = 7, ebx, ecx = 0, edx;
    __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    has_instructions = ebx & 1;
    signal(SIGUSR1, nothing);
    pthread_t threads[2];
    for (unsigned long i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, other, (void *)(0x1000 * (i + 1)));
    by_call();
    by_instruction();
    by_descriptor();
    new_threads();
    new_program();
    other_requests();
    stop = true;
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    return check_end("fsgsbase");
}
