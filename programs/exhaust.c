/*
 * Uses up the memory in every way that a program can, several times over, and expects an errno or the
 * death of the one who asked too much, and everything as good as new afterwards.
 *
 * Wants to be a child of something that lives on: what is killed for lack of memory may be anything
 * that uses much. Nothing here says how much memory there is: it takes what it gets.
 */
#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>

enum { PAGE = 4096, PIECE = 1 << 20, MOST_PROCESSES = 4000, MOST_THREADS = 4000 };

static uint64_t total_memory(void)
{
    struct sysinfo information;
    sysinfo(&information);
    return (uint64_t)information.totalram * information.mem_unit;
}

/* Maps and touches twice the memory; says how it ended. */
static void touch_too_much(void)
{
    uint64_t limit = 2 * total_memory();
    for (uint64_t done = 0; done < limit; done += PIECE) {
        char *piece = mmap(NULL, PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (piece == MAP_FAILED)
            _exit(errno == ENOMEM ? 10 : 11);
        for (int i = 0; i < PIECE; i += PAGE)
            piece[i] = 1;
    }
    _exit(12);
}

static void check_touching(const char *name)
{
    int status = child_status(touch_too_much);
    bool refused = WIFEXITED(status) && WEXITSTATUS(status) == 10;
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (!refused && !killed)
        say("status %#x", status);
    check_that(name, refused || killed);
}

/* More than there are addresses, and more than there is memory, in one piece. */
static void check_huge_requests(void)
{
    const size_t sizes[] = {(size_t)1 << 62, ((size_t)1 << 47) - PAGE, (size_t)1 << 46};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        char *piece = mmap(NULL, sizes[i], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        check_that("a huge mapping is refused", piece == MAP_FAILED && errno == ENOMEM);
        if (piece != MAP_FAILED)
            munmap(piece, sizes[i]);
    }
}

/* Forks until it is refused; every child waits for the end of the pipe. */
static void fork_bomb(void)
{
    int gate[2];
    check_long("pipe", pipe(gate), 0);
    int children = 0, error = 0;
    while (children < MOST_PROCESSES) {
        pid_t child = fork();
        if (child == 0) {
            char byte;
            close(gate[1]);
            _exit(read(gate[0], &byte, 1) == 0 ? 0 : 1);
        }
        if (child < 0) {
            error = errno;
            break;
        }
        children++;
    }
    check_that("forks are many, or refused for want of something",
               error == 0 || error == ENOMEM || error == EAGAIN);
    check_that("some forks succeed", children >= 50);
    close(gate[1]);
    close(gate[0]);
    int good = 0, killed = 0, status;
    for (int i = 0; i < children; i++) {
        if (wait(&status) < 0)
            break;
        good += status == 0;
        killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    }
    check_long("every child ended well or was killed", good + killed, children);
}

/* Runs something that the kernel may kill, with all that it started, and no harm done. */
static void check_bomb(const char *name, void (*bomb)(void))
{
    check_body = bomb;
    int status = child_status(check_child_body);
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (status != 0 && !killed)
        say("status %#x", status);
    check_that(name, status == 0 || killed);
}

static void *until_told(void *gate)
{
    char byte;
    if (read(*(int *)gate, &byte, 1) != 0)
        _exit(1);
    return NULL;
}

/* Creates threads until it is refused. */
static void thread_bomb(void)
{
    static pthread_t threads[MOST_THREADS];
    int gate[2], count = 0, error = 0;
    check_long("pipe", pipe(gate), 0);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    while (count < MOST_THREADS && error == 0) {
        error = pthread_create(&threads[count], &attributes, until_told, &gate[0]);
        count += error == 0;
    }
    check_that("threads are many, or refused for want of something",
               error == 0 || error == ENOMEM || error == EAGAIN);
    check_that("some threads are made", count >= 50);
    close(gate[1]);
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}

/* Writes a file until there is no more room. */
static void check_full_files(const char *directory)
{
    static char piece[PIECE];
    char path[100];
    snprintf(path, sizeof path, "%s/full", directory);
    memset(piece, 0x5a, sizeof piece);
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0) {
        check_skip("a full file system", directory);
        return;
    }
    uint64_t written = 0, limit = 2 * total_memory();
    ssize_t n = 0;
    while (written < limit && (n = write(file, piece, sizeof piece)) > 0)
        written += (uint64_t)n;
    check_that("a full file system says so", n < 0 && errno == ENOSPC);
    check_long("the file is as long as was written", (long)lseek(file, 0, SEEK_END), (long)written);
    char byte = 0;
    check_long("its last byte can be read", pread(file, &byte, 1, (off_t)written - 1), 1);
    check_long("and is what was written", byte, 0x5a);
    /* Whatever happens to a fork now, the file can go and all is well. */
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    if (child > 0)
        waitpid(child, NULL, 0);
    close(file);
    check_long("unlink", unlink(path), 0);
}

/* Fills pipes, each as far as it goes, until descriptors or memory end. */
static void full_pipes(void)
{
    static char piece[65536];
    for (;;) {
        int ends[2];
        if (pipe2(ends, O_NONBLOCK) != 0) {
            check_that("no more pipes, for want of something",
                       errno == EMFILE || errno == ENFILE || errno == ENOMEM);
            return;
        }
        while (write(ends[1], piece, sizeof piece) > 0)
            ;
        check_that("a full pipe says so", errno == EAGAIN || errno == ENOMEM);
    }
}

static void check_full_pipes(void)
{
    check_quiet = true;
    check_in_child("full pipes", full_pipes);
    check_quiet = false;
    say("ok full pipes");
}

/* Orphans of a bomb that was killed need a moment to end; how long, is a matter of the machine. */
static void wait_for_the_end_of_others(void)
{
    struct sysinfo before, now;
    sysinfo(&now);
    for (int i = 0; i < 300; i++) {
        before = now;
        usleep(200000);
        sysinfo(&now);
        if (now.procs >= before.procs && now.freeram <= before.freeram)
            return;
    }
}

/* What an ordinary program does all the time. */
static void check_ordinary(const char *when)
{
    char text[100];
    wait_for_the_end_of_others();
    char *piece = mmap(NULL, PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    snprintf(text, sizeof text, "%s: there is memory again", when);
    check_that(text, piece != MAP_FAILED);
    if (piece == MAP_FAILED)
        return;
    memset(piece, 1, PIECE);
    munmap(piece, PIECE);
    pid_t child = fork();
    if (child == 0)
        _exit(7);
    int status = -1;
    snprintf(text, sizeof text, "%s: fork, exit and wait work", when);
    check_long(text, child > 0 && waitpid(child, &status, 0) == child ? status : -1, 7 << 8);
}

int main(void)
{
    mkdir("/tmp", 0777);
    check_ordinary("before");
    check_huge_requests();
    for (int round = 0; round < 3; round++) {
        check_touching("memory that is not there");
        check_ordinary("after touching");
    }
    check_full_files("/tmp");
    check_ordinary("after full files");
    check_bomb("a fork bomb ends well or is killed", fork_bomb);
    check_ordinary("after a fork bomb");
    check_bomb("a thread bomb ends well or is killed", thread_bomb);
    check_ordinary("after a thread bomb");
    check_full_pipes();
    check_ordinary("after full pipes");
    check_touching("memory that is not there, again");
    return check_end("exhaust");
}
