/*
 * System calls given pointers they cannot use: NULL, unmapped, mapped in part, read-only, kernel
 * addresses, non-canonical ones, sizes that wrap. The answer is EFAULT (or a short count where part of
 * the memory is good), nothing is lost from a pipe, and the kernel goes on.
 *
 * Sources: the Linux man pages, section 2, of the calls named, and Linux for short counts.
 */
#include "check.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>

enum { PAGE = 4096 };

/* [page of data][page without access] and [read-only page] */
static char *edge, *read_only;

static char *new_pages(size_t count, int protection)
{
    char *pages = mmap(NULL, count * PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) {
        check_long("mmap", result(-1), 0);
        exit(check_end("usercopy"));
    }
    return pages;
}

static void prepare(void)
{
    char *pages = new_pages(2, PROT_READ | PROT_WRITE);
    memset(pages, 'e', 2 * PAGE);
    mprotect(pages + PAGE, PAGE, PROT_NONE); /* not a hole: the next mapping would land in it */
    edge = pages + PAGE;
    read_only = new_pages(1, PROT_READ);
}

static const struct {
    const char *name;
    uint64_t address;
} wild[] = {
    {"null", 0},
    {"low", 8},
    {"kernel text", 0xffffffff81000000},
    {"direct map", 0xffff888000000000},
    {"lower end of the kernel half", 0xffff800000000000},
    {"-1", -1ull},
    {"-4095", -4095ull},
    {"-8", -8ull},
    {"non-canonical", 0x8000000000000000},
    {"first non-canonical", 0x0100000000000000},
    {"last user byte of five levels", 0x00fffffffffffffe},
};

/* One call with one wild pointer in each of the places asked for. */
struct call {
    const char *name;
    long number;
    long arguments[6];
    int pointer; /* which argument is wild */
    bool null_allowed;
    bool only_reads; /* from the program: a read-only page serves as well */
};

static const struct timespec zero_time;
static struct pollfd one_poll;

static void try_call(const struct call *call, const char *kind, uint64_t pointer, long expected)
{
    const long *given = call->arguments;
    long arguments[6] = {given[0], given[1], given[2], given[3], given[4], given[5]};
    char text[100];
    arguments[call->pointer] = (long)pointer;
    snprintf(text, sizeof text, "%s, %s", call->name, kind);
    require_long(text, result(syscall(call->number, arguments[0], arguments[1], arguments[2], arguments[3],
                                      arguments[4], arguments[5])), expected);
}

static void try_everything(const struct call *call)
{
    int before = check_failures;
    for (size_t i = 0; i < COUNT_OF(wild); i++)
        if (!(call->null_allowed && wild[i].address == 0))
            try_call(call, wild[i].name, wild[i].address, -EFAULT);
    try_call(call, "no access", (uint64_t)edge, -EFAULT);
    if (!call->only_reads)
        try_call(call, "read-only", (uint64_t)read_only, -EFAULT);
    if (check_failures == before)
        say("ok %s", call->name);
}

static void pointer_calls(void)
{
    int ends[2], file = memfd_create("usercopy", 0);
    if (pipe(ends) != 0 || write(ends[1], "0123456789", 10) != 10 || ftruncate(file, 3 * PAGE) != 0)
        check_long("preparation", result(-1), 0);
    const struct call calls[] = {
        {"read pipe", SYS_read, {ends[0], 0, 10}, 1, false, false},
        {"write pipe", SYS_write, {ends[1], 0, 10}, 1, false, true},
        {"read file", SYS_read, {file, 0, 10}, 1, false, false},
        {"write file", SYS_write, {file, 0, 10}, 1, false, true},
        {"pread64", SYS_pread64, {file, 0, 10, 0}, 1, false, false},
        {"pwrite64", SYS_pwrite64, {file, 0, 10, 0}, 1, false, true},
        {"readv", SYS_readv, {file, 0, 1}, 1, false, true},
        {"writev", SYS_writev, {file, 0, 1}, 1, false, true},
        {"open", SYS_open, {0, O_RDONLY}, 0, false, true},
        {"openat", SYS_openat, {AT_FDCWD, 0, O_RDONLY}, 1, false, true},
        {"stat path", SYS_stat, {0, 0}, 0, false, true},
        {"stat buffer", SYS_stat, {(long)"/", 0}, 1, false, false},
        {"fstat", SYS_fstat, {file, 0}, 1, false, false},
        {"lstat", SYS_lstat, {(long)"/", 0}, 1, false, false},
        {"newfstatat", SYS_newfstatat, {AT_FDCWD, (long)"/", 0, 0}, 2, false, false},
        {"access", SYS_access, {0, 0}, 0, false, true},
        {"pipe", SYS_pipe, {0}, 0, false, false},
        {"pipe2", SYS_pipe2, {0, 0}, 0, false, false},
        {"getcwd", SYS_getcwd, {0, PAGE}, 0, false, false},
        {"chdir", SYS_chdir, {0}, 0, false, true},
        {"mkdir", SYS_mkdir, {0, 0755}, 0, false, true},
        {"rmdir", SYS_rmdir, {0}, 0, false, true},
        {"unlink", SYS_unlink, {0}, 0, false, true},
        {"rename from", SYS_rename, {0, (long)"/x"}, 0, false, true},
        {"rename to", SYS_rename, {(long)"/no-such-file", 0}, 1, false, true},
        {"link", SYS_link, {0, (long)"/x"}, 0, false, true},
        {"symlink", SYS_symlink, {0, (long)"/x"}, 0, false, true},
        {"readlink path", SYS_readlink, {0, (long)edge - 64, 64}, 0, false, true},
        {"chmod", SYS_chmod, {0, 0644}, 0, false, true},
        {"truncate", SYS_truncate, {0, 0}, 0, false, true},
        {"execve", SYS_execve, {0, 0, 0}, 0, false, true},
        {"uname", SYS_uname, {0}, 0, false, false},
        {"sysinfo", SYS_sysinfo, {0}, 0, false, false},
        {"times", SYS_times, {0}, 0, true, false},
        {"getrusage", SYS_getrusage, {RUSAGE_SELF, 0}, 1, false, false},
        {"getrlimit", SYS_getrlimit, {RLIMIT_NOFILE, 0}, 1, false, false},
        {"prlimit64 new", SYS_prlimit64, {0, RLIMIT_NOFILE, 0, 0}, 2, true, true},
        {"prlimit64 old", SYS_prlimit64, {0, RLIMIT_NOFILE, 0, 0}, 3, true, false},
        {"clock_gettime", SYS_clock_gettime, {CLOCK_MONOTONIC, 0}, 1, false, false},
        {"clock_getres", SYS_clock_getres, {CLOCK_MONOTONIC, 0}, 1, true, false},
        {"gettimeofday", SYS_gettimeofday, {0, 0}, 0, true, false},
        {"time", SYS_time, {0}, 0, true, false},
        {"nanosleep", SYS_nanosleep, {0, 0}, 0, false, true},
        {"setitimer new", SYS_setitimer, {ITIMER_REAL, 0, 0}, 1, true, true},
        {"getitimer", SYS_getitimer, {ITIMER_REAL, 0}, 1, false, false},
        {"rt_sigaction new", SYS_rt_sigaction, {SIGUSR1, 0, 0, 8}, 1, true, true},
        {"rt_sigaction old", SYS_rt_sigaction, {SIGUSR1, 0, 0, 8}, 2, true, false},
        {"rt_sigprocmask new", SYS_rt_sigprocmask, {SIG_BLOCK, 0, 0, 8}, 1, true, true},
        {"rt_sigprocmask old", SYS_rt_sigprocmask, {SIG_BLOCK, 0, 0, 8}, 2, true, false},
        {"rt_sigpending", SYS_rt_sigpending, {0, 8}, 0, false, false},
        {"rt_sigtimedwait set", SYS_rt_sigtimedwait, {0, 0, (long)&zero_time, 8}, 0, false, true},
        {"rt_sigqueueinfo", SYS_rt_sigqueueinfo, {1, SIGUSR1, 0}, 2, false, true},
        {"sigaltstack new", SYS_sigaltstack, {0, 0}, 0, true, true},
        {"sigaltstack old", SYS_sigaltstack, {0, 0}, 1, true, false},
        {"poll", SYS_poll, {0, 1, 0}, 0, false, true},
        {"ppoll time", SYS_ppoll, {(long)&one_poll, 1, 0, 0, 8}, 2, true, true},
        {"select", SYS_select, {1, 0, 0, 0, (long)&zero_time}, 1, true, true},
        {"getrandom", SYS_getrandom, {0, 16, 0}, 0, false, false},
        {"sched_getaffinity", SYS_sched_getaffinity, {0, 128, 0}, 2, false, false},
        {"get_robust_list", SYS_get_robust_list, {0, 0, (long)edge - 8}, 1, false, false},
        {"futex time", SYS_futex, {(long)&one_poll, 0, 0, 0}, 3, true, true},
        {"arch_prctl get", SYS_arch_prctl, {0x1003, 0}, 1, false, false},
        {"prctl set name", SYS_prctl, {15, 0}, 1, false, true},
        {"prctl get name", SYS_prctl, {16, 0}, 1, false, false},
        {"memfd_create", SYS_memfd_create, {0, 0}, 0, false, true},
        {"getresuid", SYS_getresuid, {0, (long)edge - 16, (long)edge - 8}, 0, false, false},
        {"utimensat", SYS_utimensat, {AT_FDCWD, 0, (long)&zero_time, 0}, 1, true, true},
    };
    for (size_t i = 0; i < COUNT_OF(calls); i++)
        try_everything(&calls[i]);
    char text[16] = "";
    check_long("pipe kept its bytes", read(ends[0], text, 10), 10);
    check_text("the very bytes", text, "0123456789");
    close(ends[0]);
    close(ends[1]);
    close(file);
}

/* ---- memory that is there in part ---- */

static void partial_files(void)
{
    int file = memfd_create("partial", 0);
    char text[200];
    memset(text, 'f', sizeof text);
    check_long("fill file", write(file, text, 200), 200);
    lseek(file, 0, SEEK_SET);
    memset(edge - 100, 0, 100);
    check_long("read into part", result(read(file, edge - 100, 200)), 100);
    check_that("the part is filled", edge[-1] == 'f' && edge[-100] == 'f');
    check_long("position follows", lseek(file, 0, SEEK_CUR), 100);
    check_long("the rest", read(file, text, 200), 100);

    memset(edge - 100, 'w', 100);
    lseek(file, 0, SEEK_SET);
    check_long("write from part", result(write(file, edge - 100, 200)), 100);
    check_long("size unchanged", lseek(file, 0, SEEK_END), 200);
    check_long("pread", pread(file, text, 200, 0), 200);
    check_that("only the part is written", text[99] == 'w' && text[100] == 'f');

    struct iovec parts[2] = {{text, 10}, {(void *)16, 10}};
    lseek(file, 0, SEEK_SET);
    check_long("readv, second part bad", result(readv(file, parts, 2)), 10);
    lseek(file, 0, SEEK_SET);
    check_long("writev, second part bad", result(writev(file, parts, 2)), 10);
    parts[1].iov_len = SIZE_MAX;
    check_long("readv, length negative", result(readv(file, parts, 2)), -EINVAL);
    close(file);
}

/* The last entry of a structure lies beyond the edge. */
static void partial_structures(void)
{
    check_long("uname", result(syscall(SYS_uname, edge - 8)), -EFAULT);
    check_long("stat", result(syscall(SYS_stat, "/", edge - 8)), -EFAULT);
    check_long("clock_gettime", result(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, edge - 8)), -EFAULT);
    check_long("sysinfo", result(syscall(SYS_sysinfo, edge - 8)), -EFAULT);
    check_long("pipe", result(syscall(SYS_pipe, edge - 4)), -EFAULT);
    check_long("nanosleep", result(syscall(SYS_nanosleep, edge - 8, NULL)), -EFAULT);
    check_long("rt_sigaction", result(syscall(SYS_rt_sigaction, SIGUSR1, edge - 8, NULL, 8)), -EFAULT);
    edge[-1] = '/';
    check_long("path without an end", result(syscall(SYS_open, edge - 1, O_RDONLY)), -EFAULT);
    edge[-1] = 0;
    edge[-2] = '/';
    int fd = open(edge - 2, O_RDONLY);
    check_that("path up to the edge", fd >= 0);
    close(fd);
    char *arguments[] = {(char *)16, NULL}, *environment[] = {NULL};
    check_long("execve arguments", result(syscall(SYS_execve, "/", arguments, environment)) < 0, 1);
}

static void sizes(void)
{
    char buffer[64];
    int file = memfd_create("sizes", 0), ends[2];
    check_long("fill file", write(file, "12345678", 8), 8);
    lseek(file, 0, SEEK_SET);
    check_long("read SIZE_MAX", result(syscall(SYS_read, file, buffer, SIZE_MAX)), -EFAULT);
    check_long("write SIZE_MAX", result(syscall(SYS_write, file, buffer, SIZE_MAX)), -EFAULT);
    check_long("pread SIZE_MAX", result(syscall(SYS_pread64, file, buffer, SIZE_MAX, 0)), -EFAULT);
    check_long("read to the kernel half", result(syscall(SYS_read, file, buffer, 0xffff800000000000 - (uintptr_t)buffer)), -EFAULT);
    check_long("getrandom 0", result(syscall(SYS_getrandom, buffer, 0, 0)), 0);
    check_long("read 0 at null", result(syscall(SYS_read, file, NULL, 0)), 0);
    check_long("write 0 at null", result(syscall(SYS_write, file, NULL, 0)), 0);
    check_long("poll SIZE_MAX", result(syscall(SYS_poll, buffer, SIZE_MAX, 0)), -EINVAL);
    check_long("readv -1", result(syscall(SYS_readv, file, buffer, -1)), -EINVAL);
    check_long("getcwd SIZE_MAX", result(syscall(SYS_getcwd, buffer, SIZE_MAX)) > 0, 1);
    if (pipe(ends) == 0) {
        check_long("pipe write SIZE_MAX", result(syscall(SYS_write, ends[1], buffer, SIZE_MAX)), -EFAULT);
        close(ends[0]);
        close(ends[1]);
    }
    close(file);
}

/* A pipe whose reader gives memory that ends: what was not copied is still there. */
static void partial_pipe(void)
{
    int ends[2];
    char text[16] = "";
    if (pipe(ends) != 0)
        return;
    check_long("fill pipe", write(ends[1], "abcdefgh", 8), 8);
    check_long("no byte fits", result(read(ends[0], edge, 8)), -EFAULT);
    check_long("read-only target", result(read(ends[0], read_only, 8)), -EFAULT);
    check_long("nothing lost", read(ends[0], text, 8), 8);
    check_text("in order", text, "abcdefgh");
    check_long("write from nowhere", result(write(ends[1], edge, 8)), -EFAULT);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    check_long("nothing written", result(read(ends[0], text, 8)), -EAGAIN);
    close(ends[0]);
    close(ends[1]);
}

/* Pages not touched yet, and pages shared with a parent, are good targets. */
static void lazy_targets(void)
{
    int file = memfd_create("lazy", 0);
    char *fresh = new_pages(8, PROT_READ | PROT_WRITE), *target = new_pages(8, PROT_READ | PROT_WRITE);
    memset(target, 'o', 8 * PAGE);
    check_long("write from untouched pages", write(file, fresh, 8 * PAGE), 8 * PAGE);
    pid_t child = fork();
    if (child == 0) {
        lseek(file, 0, SEEK_SET);
        if (read(file, target + 5, 7 * PAGE) != 7 * PAGE)
            _exit(1);
        _exit(target[4] == 'o' && target[5] == 0 && target[7 * PAGE + 4] == 0 && target[7 * PAGE + 5] == 'o' ? 0 : 2);
    }
    int status = -1;
    waitpid(child, &status, 0);
    check_long("read into copy-on-write pages", status, 0);
    check_that("the parent's are its own", target[5] == 'o');
    char *untouched = new_pages(8, PROT_READ | PROT_WRITE);
    lseek(file, 0, SEEK_SET);
    check_long("read into untouched pages", read(file, untouched + 1, 7 * PAGE), 7 * PAGE);
    close(file);
}

int main(void)
{
    prepare();
    pointer_calls();
    partial_files();
    partial_structures();
    sizes();
    partial_pipe();
    lazy_targets();
    return check_end("usercopy");
}
