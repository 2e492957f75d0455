/*
 * INT 0x80 from 64-bit code: the 32-bit call numbers, arguments in EBX, ECX, EDX, ESI, EDI, EBP whose
 * upper halves do not count, a result as wide as RAX, and every other register left alone.
 *
 * Source: Linux (entry_64_compat and syscall_32.tbl), since version 4.17 for R8 to R11.
 */
#include "probe.h"

#include <sys/mman.h>

enum number {
    EXIT = 1, READ = 3, WRITE = 4, CLOSE = 6, GETPID = 20, GETPPID = 64, SCHED_YIELD = 158,
    GETUID = 199, GETGID = 200, GETEUID = 201, GETEGID = 202, GETTID = 224, EXIT_GROUP = 252,
    UNKNOWN = 999,
};

#define UPPER 0xdeadbeef00000000u

PROBE("interrupt", "int $0x80");
PROBE_SYMBOLS(interrupt);

/* Makes the call with rubbish in all upper halves and checks that only RAX changes. */
static long call(const char *name, uint64_t number, uint64_t first, uint64_t second, uint64_t third)
{
    struct registers in = probe_pattern(0xabcdef0123456789u), out;
    in.value[RAX] = UPPER | (uint32_t)number;
    in.value[RBX] = UPPER | (uint32_t)first;
    in.value[RCX] = UPPER | (uint32_t)second;
    in.value[RDX] = UPPER | (uint32_t)third;
    run_probe(probe_interrupt, &in, &out);
    char text[64];
    snprintf(text, sizeof text, "%s: registers", name);
    check_registers(text, &out, &in, 1u << RAX | 1u << RSP);
    return (long)out.value[RAX];
}

static void identity(void)
{
    check_long("getpid", call("getpid", GETPID, 0, 0, 0), getpid());
    check_long("getppid", call("getppid", GETPPID, 0, 0, 0), getppid());
    check_long("gettid", call("gettid", GETTID, 0, 0, 0), syscall(SYS_gettid));
    check_long("getuid", call("getuid", GETUID, 0, 0, 0), getuid());
    check_long("getgid", call("getgid", GETGID, 0, 0, 0), getgid());
    check_long("geteuid", call("geteuid", GETEUID, 0, 0, 0), geteuid());
    check_long("getegid", call("getegid", GETEGID, 0, 0, 0), getegid());
    check_long("sched_yield", call("sched_yield", SCHED_YIELD, 0, 0, 0), 0);
    check_long("unknown", call("unknown", UNKNOWN, 0, 0, 0), -ENOSYS);
    check_long("number -1", call("number -1", 0xffffffff, 0, 0, 0), -ENOSYS);
}

static void transfers(void)
{
    int ends[2];
    char *buffer = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (buffer == MAP_FAILED || pipe(ends) != 0) {
        check_long("preparation", result(-1), 0);
        return;
    }
    strcpy(buffer, "low half");
    check_long("write", call("write", WRITE, (uint64_t)ends[1], (uint64_t)buffer, 8), 8);
    memset(buffer, 0, 16);
    check_long("read", call("read", READ, (uint64_t)ends[0], (uint64_t)buffer, 16), 8);
    check_text("text", buffer, "low half");
    check_long("write from null", call("write from null", WRITE, (uint64_t)ends[1], 0, 8), -EFAULT);
    check_long("read to the top", call("read to the top", READ, (uint64_t)ends[0], 0xfffffff0, 0), 0);
    check_long("close", call("close", CLOSE, (uint64_t)ends[0], 0, 0), 0);
    check_long("close again", call("close again", CLOSE, (uint64_t)ends[0], 0, 0), -EBADF);
    check_long("close -1", call("close -1", CLOSE, 0xffffffff, 0, 0), -EBADF);
    close(ends[1]);
    munmap(buffer, 4096);
}

static void leave(void)
{
    call("exit", EXIT, 42, 0, 0);
}

static void leave_group(void)
{
    call("exit_group", EXIT_GROUP, 43, 0, 0);
}

/* The same number means another call through SYSCALL: 20 is writev there. */
static void tables_differ(void)
{
    check_long("64-bit number 20", result(syscall(20, -1, NULL, 0)), -EBADF);
    check_that("32-bit number 39 is not getpid", call("number 39", 39, 0, 0, 0) != getpid());
}

int main(void)
{
    identity();
    transfers();
    check_long("exit", child_status(leave), 42 << 8);
    check_long("exit_group", child_status(leave_group), 43 << 8);
    tables_differ();
    return check_end("int80");
}
