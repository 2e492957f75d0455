/*
 * What a thread may do beyond what page tables and the TSS say: protection keys (PKRU) and ports.
 *
 * PKRU: what it forbids ends in SIGSEGV, and in EFAULT where the kernel makes the access;
 * a handler starts with the initial rights and its return brings the old ones back. SDM vol. 3, 4.6.2.
 *
 * Ports: iopl(2) and ioperm(2), with the instructions that use them. 0x80 is the POST code port, which takes
 * everything; 0x71 behind 0x70 is the clock's memory, of which register 0x10 and above are just bytes.
 */
#include "check.h"

#include <cpuid.h>
#include <setjmp.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

#define INITIAL 0x55555554u
#define DENY_WRITE_0 2u

static volatile int got_signal, got_code;
static volatile long got_error;
static volatile unsigned rights_in_handler;
static sigjmp_buf back;

static unsigned read_rights(void)
{
    unsigned rights, high;
    asm volatile("rdpkru" : "=a"(rights), "=d"(high) : "c"(0));
    return rights;
}

static void write_rights(unsigned rights)
{
    asm volatile("wrpkru" ::"a"(rights), "d"(0), "c"(0) : "memory");
}

static bool has_keys(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c >> 4 & 1);
}

static void note(int signal, siginfo_t *info, void *context)
{
    ucontext_t *user = context;
    got_signal = signal;
    got_code = info->si_code;
    got_error = user->uc_mcontext.gregs[REG_ERR];
    rights_in_handler = has_keys() ? read_rights() : 0;
    siglongjmp(back, 1);
}

static void handle(int signal, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    sigaction(signal, &action, NULL);
}

static void look(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info, (void)context;
    rights_in_handler = read_rights();
}

static char page[4096] __attribute__((aligned(4096)));

/* Runs with key 0 not writable: nothing may be written to memory between the two WRPKRU. */
static long call_without_writing(long number, long a, long b, long c)
{
    long value;
    asm volatile("mov %%rax, %%r12; mov %%rdx, %%r13; xor %%ecx, %%ecx; xor %%edx, %%edx\n\t"
                 "mov %[deny], %%eax; wrpkru; mov %%r12, %%rax; mov %%r13, %%rdx; syscall\n\t"
                 "mov %%rax, %%r12; mov %[initial], %%eax; xor %%ecx, %%ecx; xor %%edx, %%edx; wrpkru\n\t"
                 "mov %%r12, %%rax"
                 : "=a"(value), "+d"(c)
                 : "a"(number), "D"(a), "S"(b), [deny] "i"(INITIAL | DENY_WRITE_0),
                   [initial] "i"(INITIAL)
                 : "rcx", "r11", "r12", "r13", "memory");
    return value;
}

/* Dies of it although there is a handler: its frame cannot be written either. */
static void forbidden_write(void)
{
    handle(SIGSEGV, note);
    if (sigsetjmp(back, 1) == 0)
        asm volatile("xor %%ecx, %%ecx; xor %%edx, %%edx; mov %0, %%eax; wrpkru; movb $1, %1" ::"i"(
                         INITIAL | DENY_WRITE_0),
                     "m"(page[0])
                     : "eax", "ecx", "edx", "memory");
}

/* Where glibc, not musl, has registered a place for rseq(2), which Linux writes to whenever the thread was preempted. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned __rseq_size __attribute__((weak));

/* A thread that may not write is killed there: glibc's place is taken back. */
static void leave_rseq(void)
{
    enum { SIZE = 32, UNREGISTER = 1, SIGNATURE = 0x53053053 };
    if (&__rseq_offset != NULL && __rseq_size != 0)
        syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset, (long)SIZE, (long)UNREGISTER, (long)SIGNATURE);
}

static void copies(void)
{
    leave_rseq();
    int ends[2];
    if (pipe(ends) != 0 || write(ends[1], "xyz", 3) != 3)
        _exit(1);
    page[0] = 0;
    check_long("read into what may not be written",
               call_without_writing(SYS_read, ends[0], (long)page, 3), -EFAULT);
    check_long("nothing of it arrived", page[0], 0);
    check_long("write of what may be read", call_without_writing(SYS_write, ends[1], (long)page, 1),
               1);
    check_long("getpid", call_without_writing(SYS_getpid, 0, 0, 0), getpid());
    struct timespec little = {.tv_nsec = 1000000};
    check_long("a sleep", call_without_writing(SYS_nanosleep, (long)&little, 0, 0), 0);
}

static void handler_and_return(void)
{
    handle(SIGUSR1, look);
    unsigned changed = INITIAL & ~0xcu; /* key 1 too */
    write_rights(changed);
    raise(SIGUSR1);
    check_long("rights in a handler", rights_in_handler, INITIAL);
    check_long("rights after it", read_rights(), changed);
    pid_t child = fork();
    if (child == 0)
        _exit(read_rights() == changed ? 0 : 1);
    int status = -1;
    waitpid(child, &status, 0);
    check_long("a child has them too", status, 0);
    write_rights(INITIAL);
}

static bool try_out(unsigned short port)
{
    handle(SIGSEGV, note);
    got_signal = 0;
    if (sigsetjmp(back, 1) == 0)
        asm volatile("outb %%al, %w0" ::"Nd"(port), "a"(0));
    return got_signal == 0;
}

static void ports(void)
{
    check_that("no port at first", !try_out(0x80));
    check_long("its code", got_code, SI_KERNEL);
    check_long("its error code", got_error, 0);
    check_long("no such level", result(syscall(SYS_iopl, 4)), -EINVAL);
    check_long("no ports", result(ioperm(0x80, 0, 1)), -EINVAL);
    check_long("past the last", result(ioperm(0xffff, 2, 1)), -EINVAL);
    check_long("two ports", result(ioperm(0x70, 2, 1)), 0);
    check_that("another one", !try_out(0x80));

    /* The clock's memory keeps what is written to it. */
    unsigned char byte = 0;
    asm volatile("outb %b1, $0x70; inb $0x71, %0" : "=a"(byte) : "0"(0x3f));
    unsigned char old = byte;
    unsigned long rax = 0x1122334455667788;
    asm volatile("mov $0x3f, %%al; outb %%al, $0x70; mov $0x5a, %%al; outb %%al, $0x71" ::: "rax");
    asm volatile("inb $0x71, %%al" : "+a"(rax));
    check_long("one byte of RAX is changed", rax, 0x112233445566775a);
    unsigned char bytes[4] = {1, 2, 3, 4};
    unsigned char *at = bytes;
    unsigned long count = 3;
    asm volatile("rep insb" : "+D"(at), "+c"(count) : "d"(0x71) : "memory");
    check_long("rep insb: its count", count, 0);
    check_long("its address", at - bytes, 3);
    check_long("its bytes", bytes[0] == 0x5a && bytes[2] == 0x5a && bytes[3] == 4, 1);
    at = &bytes[3];
    count = 2;
    asm volatile("std; rep outsb; cld" : "+S"(at), "+c"(count) : "d"(0x71) : "memory");
    check_long("rep outsb downwards: its address", at - bytes, 1);
    asm volatile("inb $0x71, %%al" : "+a"(rax));
    check_long("its last byte arrived", rax & 0xff, 0x5a);
    count = 0;
    asm volatile("rep insb" : "+D"(at), "+c"(count) : "d"(0x71) : "memory");
    check_long("none of it", at - bytes, 1);
    got_signal = 0;
    if (sigsetjmp(back, 1) == 0)
        asm volatile("insb" ::"D"(0x10), "d"(0x71) : "memory");
    check_long("insb to nowhere", got_signal, SIGSEGV);
    check_long("its code", got_code, 1 /* SEGV_MAPERR */);
    got_signal = 0;
    if (sigsetjmp(back, 1) == 0)
        asm volatile("inl %%dx, %%eax" : "=a"(count) : "d"(0x70));
    check_long("four ports of which two are allowed", got_signal, SIGSEGV);
    asm volatile("mov $0x3f, %%al; outb %%al, $0x70" ::: "rax");
    asm volatile("outb %0, $0x71" ::"a"(old));

    check_long("every port", result(syscall(SYS_iopl, 3)), 0);
    check_that("now another one", try_out(0x80));
    unsigned long flags = 0;
    asm volatile("cli; sti; pushf; pop %0" : "=r"(flags));
    check_long("flags", flags & 0x3200, 0x200);
    check_long("none", result(syscall(SYS_iopl, 0)), 0);
    got_signal = 0;
    if (sigsetjmp(back, 1) == 0)
        asm volatile("cli");
    check_long("cli", got_signal, SIGSEGV);
    if (setuid(1) == 0) {
        check_long("allow, as nobody", result(ioperm(0x80, 1, 1)), -EPERM);
        check_long("raise, as nobody", result(syscall(SYS_iopl, 1)), -EPERM);
        check_long("forbid, as nobody", result(ioperm(0x70, 2, 0)), 0);
        check_that("forbidden", !try_out(0x70));
    }
}

int main(void)
{
    if (has_keys()) {
        check_long("rights of a new program", read_rights(), INITIAL);
        int status = child_status(forbidden_write);
        check_long("a write that the keys forbid", WIFSIGNALED(status) ? WTERMSIG(status) : -1, SIGSEGV);
        check_in_child("copies", copies);
        check_in_child("handler", handler_and_return);
    } else {
        check_skip("keys", "the CPU has none");
    }
    check_in_child("ports", ports);
    return check_end("rights");
}
