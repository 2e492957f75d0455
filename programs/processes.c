/*
 * Processes and what belongs to them: fork, vfork, clone, clone3, posix_spawn, execve and what it
 * refuses, wait4 and waitid, zombies and orphans, groups and sessions, futexes and robust lists, time,
 * limits, names.
 *
 * Sources: the Linux man pages, section 2, of the calls named; futex(2) and get_robust_list(2) for the
 * layouts, which are spelt out here because not every C library ships the kernel's headers.
 *
 * Run with an argument that starts with `:` it is the image that the exec tests start.
 */
#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/utsname.h>
#include <time.h>

#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static const char *self;
static char directory[64];

static void pause_ms(long milliseconds)
{
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    while (nanosleep(&time, &time) != 0 && errno == EINTR)
        ;
}

static int wait_status(pid_t child)
{
    int status = -1;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

/* ---- fork and its relatives ---- */

static void exit_codes(void)
{
    const int codes[] = {0, 1, 42, 255, 256 + 7};
    for (size_t i = 0; i < COUNT_OF(codes); i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(codes[i]);
        check_long("exit code", wait_status(child), (codes[i] & 255) << 8);
    }
    const int signals[] = {SIGKILL, SIGTERM, SIGUSR1, SIGHUP};
    for (size_t i = 0; i < COUNT_OF(signals); i++) {
        pid_t child = fork();
        if (child == 0)
            for (;;)
                pause();
        kill(child, signals[i]);
        check_long("killed", wait_status(child), signals[i]);
    }
}

static int vfork_variable;

static void vfork_shares(void)
{
    volatile pid_t child = vfork();
    if (child == 0) {
        vfork_variable = 5;
        _exit(3);
    }
    check_long("vfork shares memory", vfork_variable, 5);
    check_long("vfork status", wait_status(child), 3 << 8);
}

static int cloned(void *argument)
{
    *(volatile int *)argument = getpid();
    return 9;
}

static void clone_calls(void)
{
    static char stack[65536] __attribute__((aligned(16)));
    volatile int seen = 0;
    pid_t child = clone(cloned, stack + sizeof stack, CLONE_VM | SIGCHLD, (void *)&seen);
    check_long("clone status", wait_status(child), 9 << 8);
    check_long("clone shares memory", seen, child);
    seen = 0;
    child = clone(cloned, stack + sizeof stack, SIGCHLD, (void *)&seen);
    check_long("clone copy status", wait_status(child), 9 << 8);
    check_long("clone copies memory", seen, 0);
    pid_t parent_id = 0;
    child = syscall(SYS_clone, CLONE_PARENT_SETTID | SIGCHLD, 0, &parent_id, 0, 0);
    if (child == 0)
        _exit(0);
    check_long("CLONE_PARENT_SETTID", parent_id, child);
    wait_status(child);
    check_long("CLONE_SIGHAND alone", result(syscall(SYS_clone, CLONE_SIGHAND | SIGCHLD, 0, 0, 0, 0)), -EINVAL);
    check_long("CLONE_THREAD alone", result(syscall(SYS_clone, CLONE_THREAD, 0, 0, 0, 0)), -EINVAL);
}

struct clone3_arguments {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

static void clone3_call(void)
{
    struct clone3_arguments arguments = {.exit_signal = SIGCHLD};
    pid_t child = syscall(SYS_clone3, &arguments, 64);
    if (child == 0)
        _exit(11);
    check_that("clone3", child > 0);
    check_long("clone3 status", wait_status(child), 11 << 8);
    check_long("clone3 short", result(syscall(SYS_clone3, &arguments, 8)), -EINVAL);
    check_long("clone3 long", result(syscall(SYS_clone3, &arguments, 1 << 20)), -E2BIG);
    check_long("clone3 null", result(syscall(SYS_clone3, NULL, 64)), -EFAULT);
    arguments.exit_signal = 1000;
    check_long("clone3 bad signal", result(syscall(SYS_clone3, &arguments, 64)), -EINVAL);
    arguments = (struct clone3_arguments){.stack = 4096};
    check_long("clone3 stack without size", result(syscall(SYS_clone3, &arguments, 64)), -EINVAL);
}

/* ---- exec ---- */

/* The image that the tests below start: reports how it was started by its exit status. */
static int image(int count, char **arguments, char **environment)
{
    if (strcmp(arguments[1], ":arguments") == 0) {
        bool good = count == 4 && strcmp(arguments[0], "zero") == 0 && strcmp(arguments[2], "") == 0 &&
                    strcmp(arguments[3], "two words") == 0 && arguments[4] == NULL;
        good &= environment[0] && strcmp(environment[0], "KEY=value") == 0 && environment[1] == NULL;
        return good ? 21 : 22;
    }
    if (strcmp(arguments[1], ":descriptors") == 0)
        return (fcntl(40, F_GETFD) == 0 && fcntl(41, F_GETFD) == -1) ? 21 : 22;
    if (strcmp(arguments[1], ":signals") == 0) {
        struct sigaction handled, ignored;
        sigset_t blocked;
        sigaction(SIGUSR1, NULL, &handled);
        sigaction(SIGUSR2, NULL, &ignored);
        sigprocmask(SIG_BLOCK, NULL, &blocked);
        return handled.sa_handler == SIG_DFL && ignored.sa_handler == SIG_IGN && sigismember(&blocked, SIGHUP) ? 21 : 22;
    }
    if (strcmp(arguments[1], ":large") == 0)
        return count == 1002 && strlen(arguments[1001]) == 100 ? 21 : 22;
    return 21;
}

static int spawn_image(char *const *arguments)
{
    static char *environment[] = {"KEY=value", NULL};
    pid_t child = fork();
    if (child == 0) {
        execve(self, arguments, environment);
        _exit(126);
    }
    return wait_status(child) >> 8;
}

static void nothing(int signal)
{
}

static void exec_keeps(void)
{
    char *arguments[] = {"zero", ":arguments", "", "two words", NULL};
    check_long("arguments and environment", spawn_image(arguments), 21);

    int fd = open("/", O_RDONLY);
    dup2(fd, 40);
    dup3(fd, 41, O_CLOEXEC);
    char *descriptors[] = {"zero", ":descriptors", NULL};
    check_long("close on exec", spawn_image(descriptors), 21);
    close(40);
    close(41);
    close(fd);

    sigset_t hang_up;
    sigemptyset(&hang_up);
    sigaddset(&hang_up, SIGHUP);
    sigprocmask(SIG_BLOCK, &hang_up, NULL);
    signal(SIGUSR1, nothing);
    signal(SIGUSR2, SIG_IGN);
    char *signals[] = {"zero", ":signals", NULL};
    check_long("signals across exec", spawn_image(signals), 21);
    signal(SIGUSR1, SIG_DFL);
    signal(SIGUSR2, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &hang_up, NULL);

    static char text[101];
    char *large[1003] = {"zero", ":large"};
    memset(text, 'x', 100);
    for (int i = 2; i < 1002; i++)
        large[i] = text;
    check_long("100 kB of arguments", spawn_image(large), 21);
}

static long exec_errno(const char *path)
{
    char *arguments[] = {"image", NULL}, *environment[] = {NULL};
    pid_t child = fork();
    if (child == 0) {
        execve(path, arguments, environment);
        _exit(errno);
    }
    return -(wait_status(child) >> 8);
}

static void make_file(const char *path, const void *bytes, size_t length, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0700);
    if (fd < 0 || write(fd, bytes, length) != (ssize_t)length)
        check_long(path, result(-1), 0);
    fchmod(fd, mode);
    close(fd);
}

/* The header of our own image, and room behind it. */
static unsigned char header[4096];

static void read_header(void)
{
    int fd = open(self, O_RDONLY);
    if (fd < 0 || read(fd, header, sizeof header) != sizeof header)
        check_long(self, result(-1), 0);
    close(fd);
}

static long exec_header(const unsigned char *bytes, size_t length)
{
    make_file("image", bytes, length, 0700);
    return exec_errno("image");
}

static void exec_refuses(void)
{
    unsigned char bytes[4096];
    check_long("exec missing", exec_errno("missing"), -ENOENT);
    check_long("exec directory", exec_errno("/"), -EACCES);
    make_file("image", "text", 4, 0700);
    check_long("exec text", exec_errno("image"), -ENOEXEC);
    make_file("image", "", 0, 0700);
    check_long("exec empty", exec_errno("image"), -ENOEXEC);
    make_file("image", "text", 4, 0600);
    check_long("exec not executable", exec_errno("image"), -EACCES);
    check_long("exec through a file", exec_errno("image/x"), -ENOTDIR);

    read_header();
    check_long("exec short header", exec_header(header, 20), -ENOEXEC);
    memcpy(bytes, header, sizeof bytes);
    bytes[18] = 183; /* e_machine: AArch64 */
    check_long("exec other machine", exec_header(bytes, sizeof bytes), -ENOEXEC);
    memcpy(bytes, header, sizeof bytes);
    bytes[16] = 1; /* e_type: relocatable */
    check_long("exec object file", exec_header(bytes, sizeof bytes), -ENOEXEC);
    memcpy(bytes, header, sizeof bytes);
    memset(bytes + 56, 0, 2); /* e_phnum */
    check_long("exec without segments", exec_header(bytes, sizeof bytes), -ENOEXEC);
}

/* An image whose interpreter does not exist: one PT_INTERP, one PT_LOAD. */
static void exec_interpreter(void)
{
    unsigned char bytes[512];
    memcpy(bytes, header, 64);
    memset(bytes + 64, 0, sizeof bytes - 64);
    uint64_t *program = (uint64_t *)(bytes + 64);
    const char *name = "/lib/no-such-interpreter";
    memcpy(bytes + 56, &(uint16_t){2}, 2);
    memcpy(bytes + 32, &(uint64_t){64}, 8);
    uint64_t length = strlen(name) + 1;
    const uint64_t interpreter[] = {3 | 4ull << 32, 256, 0x400100, 0x400100, length, length, 1};
    const uint64_t load[] = {1 | 5ull << 32, 0, 0x400000, 0x400000, 512, 512, 4096};
    memcpy(program, interpreter, sizeof interpreter);
    memcpy(program + 7, load, sizeof load);
    memcpy(bytes + 256, name, length);
    check_long("exec without interpreter", exec_header(bytes, sizeof bytes), -ENOENT);
}

static void exec_script(void)
{
    char script[300];
    snprintf(script, sizeof script, "#!%s :script\n", self);
    make_file("script", script, strlen(script), 0700);
    pid_t child = fork();
    if (child == 0) {
        execl("./script", "./script", "x", (char *)NULL);
        _exit(126);
    }
    check_long("script", wait_status(child) >> 8, 21);
    make_file("script", "#!/no/such/shell\n", 17, 0700);
    check_long("script without interpreter", exec_errno("./script"), -ENOENT);
    make_file("script", "#!\n", 3, 0700);
    check_long("script without a name", exec_errno("./script"), -ENOEXEC);
    unlink("script");
    unlink("image");
}

static void spawn(void)
{
    pid_t child;
    char *arguments[] = {"zero", ":spawned", NULL}, *environment[] = {NULL};
    check_long("posix_spawn", posix_spawn(&child, self, NULL, NULL, arguments, environment), 0);
    check_long("posix_spawn status", wait_status(child) >> 8, 21);
    check_long("posix_spawn missing", posix_spawn(&child, "/missing", NULL, NULL, arguments, environment), ENOENT);
}

/* ---- wait ---- */

static void waiting(void)
{
    int status;
    check_long("no children", result(waitpid(-1, &status, WNOHANG)), -ECHILD);
    pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    check_long("WNOHANG", waitpid(child, &status, WNOHANG), 0);
    check_long("not a child", result(waitpid(getpid(), &status, 0)), -ECHILD);
    check_long("unknown option", result(waitpid(child, &status, 0x100000)), -EINVAL);
    kill(child, SIGKILL);

    siginfo_t info;
    memset(&info, 0, sizeof info);
    check_long("waitid WNOWAIT", result(waitid(P_PID, child, &info, WEXITED | WNOWAIT)), 0);
    check_long("waitid code", info.si_code, CLD_KILLED);
    check_long("waitid status", info.si_status, SIGKILL);
    check_long("waitid pid", info.si_pid, child);
    check_long("zombie can be signalled", result(kill(child, 0)), 0);
    struct rusage usage;
    check_long("wait4", wait4(child, &status, 0, &usage), child);
    check_long("zombie gone", result(kill(child, 0)), -ESRCH);
    check_long("waitid no children", result(waitid(P_ALL, 0, &info, WEXITED)), -ECHILD);
    check_long("waitid no option", result(waitid(P_ALL, 0, &info, 0)), -EINVAL);

    /* Children are collected in any order asked for. */
    pid_t children[20];
    for (int i = 0; i < 20; i++)
        if ((children[i] = fork()) == 0)
            _exit(i);
    for (int i = 19; i >= 0; i--)
        require_long("reverse order", wait_status(children[i]), i << 8);
    check_long("all collected", result(waitpid(-1, &status, 0)), -ECHILD);

    signal(SIGCHLD, SIG_IGN);
    child = fork();
    if (child == 0)
        _exit(1);
    check_long("ignored children vanish", result(waitpid(child, &status, 0)), -ECHILD);
    signal(SIGCHLD, SIG_DFL);
}

/* The child's child outlives its parent and reports who its new parent is. */
static void orphans(void)
{
    int report[2];
    pid_t parent = 0;
    if (pipe(report) != 0)
        return;
    pid_t child = fork();
    if (child == 0) {
        pid_t middle = getpid();
        if (fork() == 0) {
            while (getppid() == middle)
                pause_ms(1);
            parent = getppid();
            _exit(write(report[1], &parent, sizeof parent) != sizeof parent);
        }
        _exit(0);
    }
    wait_status(child);
    close(report[1]);
    check_long("orphan reports", read(report[0], &parent, sizeof parent), sizeof parent);
    check_long("orphan's parent", parent, 1);
    close(report[0]);
    if (getpid() == 1)
        check_that("process 1 collects the orphan", waitpid(-1, NULL, 0) > 0);
}

static void groups_body(void)
{
    pid_t session = getsid(0);
    check_that("child inherits its session", session == getsid(getppid()));
    check_long("setpgid", result(setpgid(0, 0)), 0);
    check_long("getpgrp", getpgrp(), getpid());
    check_long("leader cannot setsid", result(setsid()), -EPERM);
    pid_t child = fork();
    if (child == 0) {
        if (getpgrp() != getppid() || setsid() != getpid())
            _exit(1);
        _exit(getpgrp() == getpid() && getsid(0) == getpid() && getpgid(0) == getpid() ? 0 : 2);
    }
    check_long("setsid", wait_status(child), 0);
    check_long("getpgid of none", result(getpgid(999999)), -ESRCH);
    check_long("setpgid of none", result(setpgid(999999, 0)), -ESRCH);
    check_long("setpgid to a missing group", result(setpgid(0, 999999)), -EPERM);
    check_long("setpgid negative", result(setpgid(0, -1)), -EINVAL);
}

/* ---- futex ---- */

enum { WAIT = 0, WAKE = 1, REQUEUE = 3, CMP_REQUEUE = 4, WAIT_BITSET = 9, WAKE_BITSET = 10, PRIVATE = 128 };

static long futex(volatile uint32_t *word, int operation, uint32_t value, const void *timeout, volatile uint32_t *second,
                  uint32_t third)
{
    return result(syscall(SYS_futex, word, operation, value, timeout, second, third));
}

static volatile uint32_t word, other_word;
static volatile int woken;

static void *futex_waiter(void *argument)
{
    uint32_t bits = (uint32_t)(uintptr_t)argument;
    futex(&word, WAIT_BITSET | PRIVATE, 0, NULL, NULL, bits);
    __atomic_fetch_add(&woken, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* Wakes until `count` have been woken, because a waiter may not be asleep yet. Returns how many woke. */
static long wake_until(volatile uint32_t *from, uint32_t bits, long count)
{
    long total = 0;
    for (int i = 0; i < 5000 && total < count; i++) {
        total += futex(from, WAKE_BITSET | PRIVATE, (uint32_t)(count - total), NULL, NULL, bits);
        if (total < count)
            pause_ms(1);
    }
    return total;
}

static void futexes(void)
{
    struct timespec short_time = {0, 20000000}, bad_time = {0, 2000000000};
    check_long("futex other value", futex(&word, WAIT, 1, NULL, NULL, 0), -EAGAIN);
    check_long("futex times out", futex(&word, WAIT, 0, &short_time, NULL, 0), -ETIMEDOUT);
    check_long("futex bad time", futex(&word, WAIT, 0, &bad_time, NULL, 0), -EINVAL);
    check_long("futex wakes none", futex(&word, WAKE, 10, NULL, NULL, 0), 0);
    check_long("futex odd address", futex((uint32_t *)((char *)&word + 1), WAIT, 0, NULL, NULL, 0), -EINVAL);
    check_long("futex bad address", futex((uint32_t *)8, WAIT, 0, NULL, NULL, 0), -EFAULT);
    check_long("futex no bits", futex(&word, WAIT_BITSET, 0, NULL, NULL, 0), -EINVAL);
    check_long("futex unknown", futex(&word, 99, 0, NULL, NULL, 0), -ENOSYS);
    struct timespec past = {0, 1};
    check_long("futex absolute past", futex(&word, WAIT_BITSET, 0, &past, NULL, 1), -ETIMEDOUT);

    pthread_t threads[6];
    for (int i = 0; i < 6; i++)
        pthread_create(&threads[i], NULL, futex_waiter, (void *)(uintptr_t)(i < 3 ? 1 : 2));
    check_long("bitset wakes its own", wake_until(&word, 2, 3), 3);
    check_long("bitset wakes no other", futex(&word, WAKE_BITSET | PRIVATE, 10, NULL, NULL, 4), 0);
    long moved = 0;
    for (int i = 0; i < 5000 && moved < 3; i++) {
        moved += futex(&word, CMP_REQUEUE | PRIVATE, 0, (void *)3, &other_word, 0);
        pause_ms(1);
    }
    check_long("requeue", moved, 3);
    check_long("requeue other value", futex(&word, CMP_REQUEUE | PRIVATE, 0, (void *)3, &other_word, 7), -EAGAIN);
    check_long("none left", futex(&word, WAKE | PRIVATE, 10, NULL, NULL, 0), 0);
    check_long("wake the requeued", futex(&other_word, WAKE | PRIVATE, 10, NULL, NULL, 0), 3);
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    check_long("all woke", woken, 6);
}

static atomic_bool waking;
static long woken_by_nobody;

static void *wakes_all_the_time(void *argument)
{
    while (atomic_load(&waking))
        woken_by_nobody += futex(argument, WAKE | PRIVATE, 1, NULL, NULL, 0);
    return NULL;
}

/* Who finds another value does not wait, and takes no wake from those who do. */
static void futex_takes_no_wake(void)
{
    static volatile uint32_t zero;
    pthread_t other;
    atomic_store(&waking, true);
    check_long("thread", pthread_create(&other, NULL, wakes_all_the_time, (void *)&zero), 0);
    long wrong = 0;
    for (int i = 0; i < 20000; i++)
        wrong += futex(&zero, WAIT | PRIVATE, 1, NULL, NULL, 0) != -EAGAIN;
    atomic_store(&waking, false);
    pthread_join(other, NULL);
    check_long("futex waits for another value", wrong, 0);
    /* And so where the page is still to come, or cannot. */
    enum { BYTES = 4096 };
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    uint32_t *fresh = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
    check_long("futex in a page to come", futex(fresh, WAIT | PRIVATE, 1, NULL, NULL, 0), -EAGAIN);
    mprotect(fresh, BYTES, PROT_NONE);
    check_long("futex in a page without rights", futex(fresh, WAIT | PRIVATE, 1, NULL, NULL, 0), -EFAULT);
    munmap(fresh, BYTES);
    check_long("futex wakes who does not wait", woken_by_nobody, 0);
}

/* Two processes and a futex in memory that they share. */
static void shared_futex(void)
{
    volatile uint32_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = fork();
    if (child == 0) {
        while (*shared == 0)
            futex(shared, WAIT, 0, NULL, NULL, 0);
        _exit(*shared == 7 ? 0 : 1);
    }
    pause_ms(20);
    *shared = 7;
    futex(shared, WAKE, 1, NULL, NULL, 0);
    check_long("futex between processes", wait_status(child), 0);
    munmap((void *)shared, 4096);
}

struct robust_node {
    struct robust_node *next;
    uint32_t lock;
};

struct robust_head {
    struct robust_node *next;
    long offset;
    struct robust_node *pending;
};

enum { FUTEX_OWNER_DIED = 0x40000000 };

/* A process that ends holding a robust lock leaves the owner-died bit behind. */
static void robust_list(void)
{
    struct robust_node *node = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = fork();
    if (child == 0) {
        static struct robust_head head;
        head.next = node;
        head.offset = offsetof(struct robust_node, lock);
        node->next = (struct robust_node *)&head;
        node->lock = (uint32_t)getpid();
        if (syscall(SYS_set_robust_list, &head, sizeof head) != 0)
            _exit(1);
        _exit(0);
    }
    check_long("robust child", wait_status(child), 0);
    check_long("owner died", node->lock, FUTEX_OWNER_DIED);
    check_long("robust size", result(syscall(SYS_set_robust_list, node, 1)), -EINVAL);
    munmap(node, 4096);

    pthread_mutexattr_t attributes;
    pthread_mutex_t *mutex = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(mutex, &attributes);
    child = fork();
    if (child == 0)
        _exit(pthread_mutex_lock(mutex));
    check_long("locked by child", wait_status(child), 0);
    check_long("robust mutex", pthread_mutex_lock(mutex), EOWNERDEAD);
    check_long("made consistent", pthread_mutex_consistent(mutex), 0);
    check_long("unlock", pthread_mutex_unlock(mutex), 0);
    munmap(mutex, 4096);
}

/* ---- identity, limits, time ---- */

static void *thread_identity(void *unused)
{
    pid_t *ids = unused;
    ids[0] = (pid_t)syscall(SYS_gettid);
    ids[1] = getpid();
    return NULL;
}

static void identity(void)
{
    pid_t ids[2];
    pthread_t thread;
    check_long("gettid of the first thread", syscall(SYS_gettid), getpid());
    check_long("set_tid_address", syscall(SYS_set_tid_address, ids), getpid());
    pthread_create(&thread, NULL, thread_identity, ids);
    pthread_join(thread, NULL);
    check_that("gettid of another", ids[0] != getpid());
    check_long("getpid of another", ids[1], getpid());
    uid_t real, effective, saved;
    check_long("getresuid", result(getresuid(&real, &effective, &saved)), 0);
    check_that("user", real == getuid() && effective == geteuid());
    check_that("group", getgid() == getegid());

    char name[16] = "";
    check_long("PR_SET_NAME", result(prctl(PR_SET_NAME, "a-name-too-long-for-it")), 0);
    check_long("PR_GET_NAME", result(prctl(PR_GET_NAME, name)), 0);
    check_text("name", name, "a-name-too-long");
    check_long("prctl unknown", result(prctl(123456)), -EINVAL);
}

static void segment_bases(void)
{
    enum { SET_GS = 0x1001, GET_FS = 0x1003, GET_GS = 0x1004 };
    unsigned long base = 0, own;
    __asm__("movq %%fs:0, %0" : "=r"(own));
    check_long("ARCH_GET_FS", result(syscall(SYS_arch_prctl, GET_FS, &base)), 0);
    check_long("fs base", base, own);
    unsigned long word = 0x1234;
    check_long("ARCH_SET_GS", result(syscall(SYS_arch_prctl, SET_GS, &word)), 0);
    unsigned long read;
    __asm__ volatile("movq %%gs:0, %0" : "=r"(read) : "m"(word));
    check_long("gs base", read, 0x1234);
    check_long("ARCH_GET_GS", result(syscall(SYS_arch_prctl, GET_GS, &base)), 0);
    check_long("gs base read", base, (long)&word);
    check_long("kernel base refused", result(syscall(SYS_arch_prctl, SET_GS, 0xffff888000000000)), -EPERM);
    check_long("arch_prctl unknown", result(syscall(SYS_arch_prctl, 0x9999, &base)), -EINVAL);
    check_long("ARCH_SET_GS 0", result(syscall(SYS_arch_prctl, SET_GS, 0)), 0);
}

static void limits(void)
{
    struct rlimit limit;
    check_long("getrlimit", result(getrlimit(RLIMIT_NOFILE, &limit)), 0);
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = 20;
    check_long("setrlimit", result(setrlimit(RLIMIT_NOFILE, &limit)), 0);
    check_long("descriptor limit", result(dup2(1, 20)), -EBADF);
    check_long("below the limit", result(dup2(1, 19)), 19);
    close(19);
    limit.rlim_cur = before;
    check_long("prlimit", result(prlimit(0, RLIMIT_NOFILE, &limit, &limit)), 0);
    check_long("prlimit old", limit.rlim_cur, 20);
    check_long("unknown limit", result(getrlimit(99, &limit)), -EINVAL);
    limit = (struct rlimit){2, 1};
    check_long("soft above hard", result(setrlimit(RLIMIT_NOFILE, &limit)), -EINVAL);
    struct rusage usage;
    check_long("getrusage", result(getrusage(RUSAGE_SELF, &usage)), 0);
    check_that("maxrss", usage.ru_maxrss > 0);
    check_long("getrusage unknown", result(getrusage(77, &usage)), -EINVAL);
    struct tms process_times;
    check_that("times", times(&process_times) != -1);
}

static long long nanoseconds(clockid_t clock)
{
    struct timespec time;
    if (clock_gettime(clock, &time) != 0 || time.tv_nsec < 0 || time.tv_nsec > 999999999)
        return -1;
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static void clocks(void)
{
    long long start = nanoseconds(CLOCK_MONOTONIC), before = start;
    bool forward = true;
    for (int i = 0; i < 10000; i++) {
        long long next = nanoseconds(CLOCK_MONOTONIC);
        forward &= next >= before;
        before = next;
    }
    check_that("monotonic", start >= 0 && forward);
    start = nanoseconds(CLOCK_MONOTONIC);
    pause_ms(50);
    long long slept = nanoseconds(CLOCK_MONOTONIC) - start;
    check_that("sleeps 50 ms at least", slept >= 50000000);
    check_that("sleeps not much longer", slept < 15000000000);
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 10000000;
    if (until.tv_nsec > 999999999) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    check_long("absolute sleep", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL), 0);
    check_that("slept until", nanoseconds(CLOCK_MONOTONIC) >= until.tv_sec * 1000000000ll + until.tv_nsec);
    struct timespec bad = {0, 1000000000};
    check_long("nanosleep invalid", result(nanosleep(&bad, NULL)), -EINVAL);
    check_that("realtime", nanoseconds(CLOCK_REALTIME) > 0);
    check_that("boot time", nanoseconds(CLOCK_BOOTTIME) > 0);
    start = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
    for (volatile int i = 0; i < 3000000; i++)
        ;
    check_that("processor time", nanoseconds(CLOCK_PROCESS_CPUTIME_ID) > start);
    struct timeval day;
    check_long("gettimeofday", result(gettimeofday(&day, NULL)), 0);
    check_that("time", time(NULL) - day.tv_sec <= 1);
    check_long("unknown clock", result(syscall(SYS_clock_gettime, 9999, &bad)), -EINVAL);
    check_long("clock_getres", result(clock_getres(CLOCK_MONOTONIC, &bad)), 0);
}

static void system_information(void)
{
    struct utsname name;
    struct sysinfo information;
    check_long("uname", result(uname(&name)), 0);
    check_text("machine", name.machine, "x86_64");
    check_long("sysinfo", result(sysinfo(&information)), 0);
    check_that("memory", information.totalram > information.freeram && information.freeram > 0);
    unsigned char one[32] = {0}, two[32] = {0};
    check_long("getrandom", result(syscall(SYS_getrandom, one, 32, 0)), 32);
    check_long("getrandom again", result(syscall(SYS_getrandom, two, 32, 0)), 32);
    check_that("random differs", memcmp(one, two, 32) != 0);
    check_long("getrandom unknown flag", result(syscall(SYS_getrandom, one, 32, 0x100)), -EINVAL);
    cpu_set_t set;
    CPU_ZERO(&set);
    check_long("sched_getaffinity", result(sched_getaffinity(0, sizeof set, &set)), 0);
    check_that("CPU 0", CPU_ISSET(0, &set));
    check_long("sched_yield", result(sched_yield()), 0);
    check_long("unknown call", result(syscall(999)), -ENOSYS);
    check_long("negative call", result(syscall(-1)), -ENOSYS);
}

int main(int count, char **arguments, char **environment)
{
    if (count > 1 && arguments[1][0] == ':')
        return image(count, arguments, environment);
    self = access(arguments[0], X_OK) == 0 && arguments[0][0] == '/' ? arguments[0] : "/proc/self/exe";
    snprintf(directory, sizeof directory, "%s/processes-%d", access("/tmp", W_OK) == 0 ? "/tmp" : "", getpid());
    if (mkdir(directory, 0755) != 0 || chdir(directory) != 0)
        check_long("working directory", result(-1), 0);
    exit_codes();
    vfork_shares();
    clone_calls();
    clone3_call();
    exec_keeps();
    exec_refuses();
    exec_interpreter();
    exec_script();
    spawn();
    waiting();
    orphans();
    check_in_child("groups", groups_body);
    futexes();
    futex_takes_no_wake();
    shared_futex();
    robust_list();
    segment_bases();
    limits();
    clocks();
    system_information();
    check_in_child("identity", identity);
    check_long("chdir out", result(chdir("/")), 0);
    check_long("nothing left", result(rmdir(directory)), 0);
    return check_end("processes");
}
