/*
 * A machine without memory keeps going: whoever asks for more is refused or killed, and when it is gone
 * everything works again. The memory that is left is in single pages at first, then there is none.
 *
 * On a machine with more memory than a test machine has it does nothing. What Linux kills and what it
 * refuses is for it to choose: the checks are that the rest stays as it was.
 */
#include "check.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <time.h>

enum { PAGE = 4096, BLOCK = 8 << 20, MOST_BLOCKS = 256, POPULATE_WRITE = 23 };

static char *blocks[MOST_BLOCKS];
static int count;

/* Takes all pages there are, without a fault that could be refused. */
static void take_all(void)
{
    for (count = 0; count < MOST_BLOCKS; count++) {
        blocks[count] = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (blocks[count] == MAP_FAILED)
            return;
        if (madvise(blocks[count], BLOCK, POPULATE_WRITE) != 0)
            break;
    }
    for (size_t at = 0; count < MOST_BLOCKS && at < BLOCK; at += PAGE)
        if (madvise(blocks[count] + at, PAGE, POPULATE_WRITE) != 0)
            break;
}

/* All that makes the kernel keep something, until it is refused. */
static void ask_for_everything(int sleepers)
{
    char path[64];
    for (int number = 0; number < 100000; number++) {
        snprintf(path, sizeof path, "/hoard/%d-a-name-that-takes-some-room", number);
        int file = open(path, O_CREAT | O_RDWR, 0600);
        if (file < 0)
            break;
        close(file);
    }
    for (int number = 0; number < 900; number++) {
        int ends[2];
        timer_t timer;
        epoll_create1(0);
        if (pipe(ends) == 0)
            fcntl(ends[0], F_SETPIPE_SZ, 1 << 20);
        timer_create(CLOCK_MONOTONIC, NULL, &timer);
        memfd_create("hoard", 0);
    }
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (int number = 0; number < 5000; number++)
        sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = number});
    for (int number = 0; number < sleepers; number++) {
        pid_t child = fork();
        if (child == 0) {
            static struct pollfd watched[1000];
            for (size_t index = 0; index < COUNT_OF(watched); index++)
                watched[index] = (struct pollfd){.fd = -1};
            poll(watched, COUNT_OF(watched), 200);
            _exit(0);
        }
        if (child < 0)
            break;
    }
    while (wait(NULL) > 0)
        ;
}

static void single_pages(void)
{
    take_all();
    /* Every other page comes back. */
    for (int block = 0; block < count; block++)
        for (size_t at = 0; at < BLOCK; at += 2 * PAGE)
            if (madvise(blocks[block] + at, PAGE, MADV_DONTNEED) != 0)
                _exit(1); /* giving back is never refused */
    ask_for_everything(300);
}

static void nothing_left(void)
{
    take_all();
    ask_for_everything(20);
}

/* Touches memory until it is killed. */
static void glutton(void)
{
    for (;;) {
        char *more = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (more == MAP_FAILED)
            _exit(1);
        for (size_t at = 0; at < BLOCK; at += PAGE)
            more[at] = 1;
    }
}

static void clean_up(void)
{
    char path[64];
    for (int number = 0; number < 100000; number++) {
        snprintf(path, sizeof path, "/hoard/%d-a-name-that-takes-some-room", number);
        if (unlink(path) != 0)
            break;
    }
}

static void survive(const char *name, void (*body)(void))
{
    int status = child_status(body);
    bool good = status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    check_long(name, good ? 0 : status, 0);
    clean_up();
    check_long("then a child", child_status(clean_up), 0);
}

/* Does nothing but use a little memory, while others take it all. */
static void bystander(void)
{
    for (int round = 0; round < 30; round++) {
        char *little = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (little != MAP_FAILED) {
            memset(little, round, 16 * PAGE);
            munmap(little, 16 * PAGE);
        }
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
}

int main(void)
{
    struct sysinfo machine;
    sysinfo(&machine);
    if (machine.totalram * machine.mem_unit > (size_t)1 << 30) {
        check_skip("hoard", "this machine has memory to lose");
        return check_end("hoard");
    }
    mkdir("/hoard", 0700);
    survive("memory in single pages", single_pages);
    survive("no memory at all", nothing_left);
    pid_t quiet = fork();
    if (quiet == 0) {
        bystander();
        _exit(0);
    }
    survive("a glutton", glutton);
    survive("another", glutton);
    int status = -1;
    waitpid(quiet, &status, 0);
    check_long("a bystander lives", status, 0);
    rmdir("/hoard");
    return check_end("hoard");
}
