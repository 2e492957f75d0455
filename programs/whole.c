/*
 * What one call does, others see whole or not at all: a write of up to PIPE_BUF bytes to a pipe, writev and readv of
 * several buffers, a hole made in a file that is mapped, the events of a pipe, the seals of a file in memory. Writers on
 * other CPUs try to come between.
 *
 * `whole lines` has eight processes write long lines to the terminal instead: whether they stay whole, its reader sees.
 *
 * Sources: pipe(7), readv(2), fallocate(2), epoll(7), F_ADD_SEALS in fcntl(2).
 */
#include "others.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>

enum { PAGE = 4096, OFFSET = 2096, FILLS = 200, RECORD = 1000, WRITERS = 3, BLOCKS = 500, ROUNDS = 6, HOLES = 2000 };
enum { SECONDS = 2, TALKERS = 8, LINES = 5, LINE = 3000 };

static int collected(const pid_t *children, int count)
{
    int bad = 0;
    for (int i = 0; i < count; i++) {
        int status = -1;
        while (waitpid(children[i], &status, 0) < 0 && errno == EINTR)
            ;
        bad += status != 0;
    }
    return bad;
}

static bool is_same(const unsigned char *bytes, size_t length)
{
    for (size_t i = 1; i < length; i++)
        if (bytes[i] != bytes[0])
            return false;
    return true;
}

static atomic_int draining;
static atomic_bool over;

/* Counts how often a part of a record was in the pipe, while nobody reads it. */
static void *watch(void *pipe)
{
    long torn = 0;
    while (!over) {
        int before = draining, there = -1;
        ioctl(*(int *)pipe, FIONREAD, &there);
        if (before % 2 == 0 && before == draining)
            torn += there > 0 && (there - OFFSET) % PIPE_BUF != 0;
    }
    return (void *)torn;
}

/* Nobody ever finds a part of a record, wherever the pipe's pages end. The second part of each comes from a page that
   has to be fetched. */
static void small_writes(void)
{
    static unsigned char buffer[1 << 16];
    char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int ends[2];
    pthread_t thread;
    void *torn = NULL;
    check_long("pipe", pipe(ends), 0);
    over = false;
    check_long("thread", pthread_create(&thread, NULL, watch, ends), 0);
    double end = seconds() + SECONDS;
    for (int i = 0; i < FILLS && seconds() < end; i++) {
        require_long("offset", write(ends[1], buffer, OFFSET), OFFSET);
        for (int k = 0; k < 15; k++) {
            madvise(pages + PAGE, PAGE, MADV_DONTNEED);
            require_long("record", write(ends[1], pages + OFFSET, PIPE_BUF), PIPE_BUF);
        }
        draining++;
        require_long("drain", read(ends[0], buffer, sizeof buffer), OFFSET + 15 * PIPE_BUF);
        draining++;
    }
    over = true;
    pthread_join(thread, &torn);
    check_long("parts of records", (long)torn, 0);
    munmap(pages, 2 * PAGE);
    close(ends[0]);
    close(ends[1]);
}

/* A pipe with room for the first of two buffers takes neither. */
static void small_vector(void)
{
    static char fill[PAGE];
    int ends[2];
    check_long("pipe", pipe2(ends, O_NONBLOCK), 0);
    for (int i = 0; i < 15; i++)
        require_long("fill", write(ends[1], fill, PAGE), PAGE);
    check_long("fill but 100", write(ends[1], fill, PAGE - 100), PAGE - 100);
    struct iovec parts[2] = {{fill, 100}, {fill, 100}};
    check_long("writev without room", result(writev(ends[1], parts, 2)), -EAGAIN);
    check_long("empty", read(ends[0], fill, PAGE), PAGE);
    check_long("writev with room", result(writev(ends[1], parts, 2)), 200);
    close(ends[0]);
    close(ends[1]);
}

/* Blocks of one byte value, in three buffers each, from several processes into `to`. */
static void write_blocks(int to, pid_t *children)
{
    for (int i = 0; i < WRITERS; i++) {
        if ((children[i] = fork()) != 0)
            continue;
        alarm(480);
        unsigned char block[RECORD];
        memset(block, 'a' + i, sizeof block);
        struct iovec parts[3] = {{block, 10}, {block, 400}, {block, RECORD - 410}};
        for (int k = 0; k < BLOCKS; k++)
            if (writev(to, parts, 3) != RECORD)
                _exit(1);
        _exit(0);
    }
}

static void vectors_to_a_pipe(void)
{
    unsigned char block[RECORD];
    pid_t children[WRITERS];
    int ends[2];
    check_long("pipe", pipe(ends), 0);
    write_blocks(ends[1], children);
    close(ends[1]);
    long torn = 0, blocks = 0;
    for (size_t have = 0;;) {
        ssize_t n = read(ends[0], block + have, sizeof block - have);
        if (n <= 0)
            break;
        have += (size_t)n;
        if (have == sizeof block) {
            torn += !is_same(block, sizeof block);
            blocks++;
            have = 0;
        }
    }
    close(ends[0]);
    check_long("writers to a pipe", collected(children, WRITERS), 0);
    check_long("blocks in the pipe", blocks, WRITERS * BLOCKS);
    check_long("blocks mixed in the pipe", torn, 0);
}

/* By the position that all writers share, and by an end that each looks for. */
static void vectors_to_a_file(const char *how, int flags)
{
    unsigned char block[RECORD];
    pid_t children[WRITERS];
    int file = open("/whole.blocks", O_RDWR | O_CREAT | O_TRUNC | flags, 0600);
    unlink("/whole.blocks");
    write_blocks(file, children);
    check_long("writers to a file", collected(children, WRITERS), 0);
    long torn = 0, blocks = 0;
    for (; pread(file, block, sizeof block, blocks * RECORD) == RECORD; blocks++)
        torn += !is_same(block, sizeof block);
    check_long("blocks in the file", blocks, WRITERS * BLOCKS);
    check_long(how, torn, 0);
    close(file);
}

/* Of two readers, each gets whole blocks into its two buffers, and nobody sleeps with half of one. */
static void readers(void)
{
    unsigned char block[64];
    pid_t children[2];
    int ends[2], bad = 0;
    for (int round = 0; round < ROUNDS; round++) {
        require_long("pipe", pipe(ends), 0);
        for (int i = 0; i < 1000; i++) {
            memset(block, i, sizeof block);
            require_long("block", write(ends[1], block, sizeof block), sizeof block);
        }
        for (int i = 0; i < 2; i++) {
            if ((children[i] = fork()) != 0)
                continue;
            close(ends[1]);
            alarm(480);
            struct iovec parts[2] = {{block, 30}, {block + 30, 34}};
            ssize_t n;
            while ((n = readv(ends[0], parts, 2)) == sizeof block && is_same(block, sizeof block))
                ;
            _exit(n != 0);
        }
        close(ends[0]);
        close(ends[1]);
        bad += collected(children, 2);
    }
    check_long("readers with parts of a block", bad, 0);
}

static void *punch(void *file)
{
    while (!over) {
        require_long("hole", fallocate(*(int *)file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE), 0);
        sched_yield();
    }
    return NULL;
}

/* A file's page is one frame at any time: what one mapping has, the other, which is filled anew each time, has too. If
   a hole was made in between, the first has lost it as well. */
static void holes(void)
{
    int file = memfd_create("holes", 0);
    check_long("size", ftruncate(file, PAGE), 0);
    atomic_int *first = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    atomic_int *second = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    pthread_t thread;
    over = false;
    check_long("thread", pthread_create(&thread, NULL, punch, &file), 0);
    long apart = 0;
    double end = seconds() + SECONDS;
    for (int i = 1; i <= HOLES && seconds() < end; i++) {
        madvise(second, PAGE, MADV_DONTNEED);
        *first = i;
        bool gone = *second != i;
        apart += gone && *first == i;
    }
    over = true;
    pthread_join(thread, NULL);
    check_long("two frames for one page", apart, 0);
    munmap(first, PAGE);
    munmap(second, PAGE);
    close(file);
}

/* Half a page, a whole one that is mapped, and half a one: zeros, and the whole one given back. */
static void hole_of_parts(void)
{
    int file = memfd_create("parts", 0);
    check_long("size", ftruncate(file, 4 * PAGE), 0);
    unsigned char *shared = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    unsigned char *private = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    memset(shared, 1, 4 * PAGE);
    private[PAGE] = 2;
    check_long("shown", private[2 * PAGE], 1);
    check_long("hole", fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE / 2, 3 * PAGE), 0);
    check_long("blocks", lseek(file, 0, SEEK_HOLE), PAGE);
    check_long("data behind", lseek(file, PAGE, SEEK_DATA), 3 * PAGE);
    check_long("before", shared[PAGE / 2 - 1], 1);
    check_long("start", shared[PAGE / 2], 0);
    check_long("whole page", shared[PAGE], 0);
    check_long("end", shared[3 * PAGE + PAGE / 2 - 1], 0);
    check_long("after", shared[3 * PAGE + PAGE / 2], 1);
    check_long("private copy", private[PAGE], 2);
    check_long("private, not copied", private[2 * PAGE], 0);
    munmap(shared, 4 * PAGE);
    munmap(private, 4 * PAGE);
    close(file);
}

/* By edges, each write is an event, whether or not what was there has been read. */
static void edges(void)
{
    int ends[2], set = epoll_create1(0);
    check_long("pipe", pipe(ends), 0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    check_long("add", epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event), 0);
    check_long("write", write(ends[1], "a", 1), 1);
    check_long("first edge", epoll_wait(set, &event, 1, 5000), 1);
    check_long("no edge", epoll_wait(set, &event, 1, 0), 0);
    pid_t child = fork();
    if (child == 0) {
        usleep(100000);
        _exit(write(ends[1], "b", 1) != 1);
    }
    double start = seconds();
    check_long("second edge", epoll_wait(set, &event, 1, 20000), 1);
    check_that("second edge in time", seconds() - start < 15);
    check_long("writer", collected(&child, 1), 0);
    close(set);
    close(ends[0]);
    close(ends[1]);
}

/* F_SEAL_WRITE waits for all that became of a mapping that may write: its parts, and a child's. */
static void seals(void)
{
    int file = memfd_create("seals", MFD_ALLOW_SEALING), ends[2];
    char byte;
    check_long("size", ftruncate(file, 3 * PAGE), 0);
    char *shared = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    char *private = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    check_long("pipe", pipe(ends), 0);
    check_long("seal under a mapping", result(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE)), -EBUSY);
    check_long("another seal", fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    munmap(shared + PAGE, PAGE);
    munmap(shared, PAGE);
    check_long("seal under a part", result(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE)), -EBUSY);
    pid_t child = fork();
    if (child == 0) {
        close(ends[1]);
        _exit(read(ends[0], &byte, 1) != 0);
    }
    munmap(shared + 2 * PAGE, PAGE);
    check_long("seal under a child's", result(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE)), -EBUSY);
    close(ends[1]);
    check_long("child", collected(&child, 1), 0);
    check_long("seal", fcntl(file, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL), 0);
    check_long("seals", fcntl(file, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_WRITE | F_SEAL_SEAL);
    check_long("seal once more", result(fcntl(file, F_ADD_SEALS, F_SEAL_GROW)), -EPERM);
    check_long("write", result(write(file, "x", 1)), -EPERM);
    check_that("map", mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, file, 0) == MAP_FAILED && errno == EPERM);
    private[0] = 1;
    check_long("private copy", private[0], 1);
    munmap(private, PAGE);
    close(ends[0]);
    close(file);
}

/* More writers than there are CPUs, and lines that take a good part of a turn on one. */
static void lines(void)
{
    pid_t children[TALKERS];
    int gate[2];
    check_long("pipe", pipe(gate), 0);
    for (int i = 0; i < TALKERS; i++) {
        if ((children[i] = fork()) != 0)
            continue;
        static char line[LINE];
        close(gate[1]);
        if (read(gate[0], line, 1) != 0)
            _exit(1);
        memset(line, 'a' + i, LINE);
        line[LINE - 1] = '\n';
        for (int k = 0; k < LINES; k++)
            if (write(1, line, LINE) != LINE)
                _exit(1);
        _exit(0);
    }
    close(gate[0]);
    close(gate[1]);
    check_long("writers of lines", collected(children, TALKERS), 0);
}

int main(int count, char **arguments)
{
    if (count > 1 && strcmp(arguments[1], "lines") == 0) {
        lines();
        return check_end("whole");
    }
    small_writes();
    small_vector();
    vectors_to_a_pipe();
    vectors_to_a_file("blocks mixed by position", 0);
    vectors_to_a_file("blocks mixed at the end", O_APPEND);
    readers();
    holes();
    hole_of_parts();
    edges();
    seals();
    return check_end("whole");
}
