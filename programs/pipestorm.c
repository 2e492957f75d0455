/*
 * Pipes under load: a ring of processes that pass a token, a pipeline through which megabytes flow in odd
 * pieces with a checksum at its end, many writers into one pipe whose small writes must not mix, ends that
 * close in every order; and files that are copied into each other.
 *
 * Source: pipe(7), in particular that writes of up to PIPE_BUF bytes are atomic.
 */
#include "check.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/sendfile.h>

enum { RING = 20, LAPS = 100, STAGES = 6, BYTES = 4 << 20, WRITERS = 8, RECORDS = 500, OPENINGS = 300, COPIES = 500 };

static int status_of(pid_t child)
{
    int status = -1;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

static void make_pipe(int ends[2])
{
    if (pipe(ends) != 0) {
        check_long("pipe", result(-1), 0);
        exit(check_end("pipestorm"));
    }
}

static void pass_on(int from, int to)
{
    int token;
    while (read(from, &token, sizeof token) == sizeof token) {
        token++;
        if (write(to, &token, sizeof token) != sizeof token)
            _exit(1);
    }
    _exit(0);
}

/* The token visits each process once a lap and counts the visits. */
static void ring(void)
{
    int first[2], in, token = 0;
    pid_t children[RING];
    make_pipe(first);
    in = first[0];
    for (int i = 0; i < RING; i++) {
        int next[2];
        make_pipe(next);
        children[i] = fork();
        if (children[i] == 0) {
            close(first[1]);
            close(next[0]);
            pass_on(in, next[1]);
        }
        close(in);
        close(next[1]);
        in = next[0];
    }
    bool good = true;
    for (int lap = 0; lap < LAPS; lap++)
        good &= write(first[1], &token, sizeof token) == sizeof token && read(in, &token, sizeof token) == sizeof token;
    close(first[1]);
    for (int i = 0; i < RING; i++)
        good &= status_of(children[i]) == 0;
    close(in);
    check_that("ring", good);
    check_long("token", token, RING * LAPS);
}

static uint32_t next_byte(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 24;
}

static void produce(int to)
{
    unsigned char buffer[9001];
    uint32_t state = 1;
    for (int done = 0, piece = 1; done < BYTES; piece = piece * 7 % 9001 + 1) {
        int length = piece < BYTES - done ? piece : BYTES - done;
        for (int i = 0; i < length; i++)
            buffer[i] = (unsigned char)next_byte(&state);
        for (int sent = 0; sent < length;) {
            ssize_t n = write(to, buffer + sent, (size_t)(length - sent));
            if (n <= 0)
                _exit(1);
            sent += (int)n;
        }
        done += length;
    }
    _exit(0);
}

static void relay(int from, int to, size_t piece)
{
    char buffer[8192];
    ssize_t n;
    while ((n = read(from, buffer, piece)) > 0)
        for (ssize_t sent = 0; sent < n;) {
            ssize_t written = write(to, buffer + sent, (size_t)(n - sent));
            if (written <= 0)
                _exit(1);
            sent += written;
        }
    _exit(n == 0 ? 0 : 1);
}

static void pipeline(void)
{
    int in = -1;
    pid_t children[STAGES];
    for (int i = 0; i < STAGES; i++) {
        int next[2];
        make_pipe(next);
        children[i] = fork();
        if (children[i] == 0) {
            close(next[0]);
            if (i == 0)
                produce(next[1]);
            relay(in, next[1], (size_t)(1000 + i * 1301));
        }
        close(next[1]);
        if (in >= 0)
            close(in);
        in = next[0];
    }
    unsigned char buffer[5000];
    uint32_t state = 1;
    long total = 0;
    bool good = true;
    for (ssize_t n; (n = read(in, buffer, sizeof buffer)) > 0; total += n)
        for (ssize_t i = 0; i < n; i++)
            good &= buffer[i] == next_byte(&state);
    for (int i = 0; i < STAGES; i++)
        good &= status_of(children[i]) == 0;
    close(in);
    check_long("pipeline length", total, BYTES);
    check_that("pipeline contents", good);
}

/* Records of one writer stay whole and in order, however many write. */
static void writers(void)
{
    enum { LENGTH = 512 };
    unsigned char record[LENGTH];
    int ends[2], seen[WRITERS] = {0};
    pid_t children[WRITERS];
    make_pipe(ends);
    for (int i = 0; i < WRITERS; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            for (int k = 0; k < RECORDS; k++) {
                memset(record, i, LENGTH);
                memcpy(record + 1, &k, sizeof k);
                if (write(ends[1], record, LENGTH) != LENGTH)
                    _exit(1);
            }
            _exit(0);
        }
    }
    close(ends[1]);
    bool good = true;
    ssize_t have;
    for (;;) {
        for (have = 0; have < LENGTH;) {
            ssize_t n = read(ends[0], record + have, (size_t)(LENGTH - have));
            if (n <= 0)
                break;
            have += n;
        }
        if (have < LENGTH)
            break;
        int number, writer = record[0];
        memcpy(&number, record + 1, sizeof number);
        good &= writer < WRITERS && number == seen[writer];
        for (size_t i = 1 + sizeof number; i < LENGTH; i++)
            good &= record[i] == writer;
        seen[writer % WRITERS]++;
    }
    for (int i = 0; i < WRITERS; i++)
        good &= status_of(children[i]) == 0 && seen[i] == RECORDS;
    close(ends[0]);
    check_that("records stay whole", good && have == 0);
}

static void closings(void)
{
    bool good = true;
    char byte;
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < OPENINGS; i++) {
        int ends[2];
        make_pipe(ends);
        good &= write(ends[1], "x", 1) == 1;
        if (i & 1) {
            close(ends[1]);
            good &= read(ends[0], &byte, 1) == 1 && read(ends[0], &byte, 1) == 0;
            close(ends[0]);
        } else {
            close(ends[0]);
            good &= write(ends[1], "x", 1) == -1 && errno == EPIPE;
            close(ends[1]);
        }
    }
    signal(SIGPIPE, SIG_DFL);
    check_that("closings", good);
    int fd = dup(1);
    check_that("no descriptor left over", fd < 10);
    close(fd);
}

/* Two files, each copied into the other at the same time, by their common positions: nobody waits for ever. */
static void copies(void)
{
    char page[4096] = {0};
    int files[2];
    for (int i = 0; i < 2; i++) {
        files[i] = memfd_create("copied", 0);
        for (int n = 0; n < 64; n++)
            if (write(files[i], page, sizeof page) < 0)
                check_that("a file of pages", false);
        lseek(files[i], 0, SEEK_SET);
    }
    pid_t children[2];
    for (int i = 0; i < 2; i++)
        if ((children[i] = fork()) == 0) {
            alarm(240);
            for (int n = 0; n < COPIES; n++)
                if (sendfile(files[!i], files[i], NULL, 4 * sizeof page) <= 0) {
                    lseek(files[0], 0, SEEK_SET);
                    lseek(files[1], 0, SEEK_SET);
                }
            _exit(0);
        }
    int first = status_of(children[0]), second = status_of(children[1]);
    check_that("copies both ways", first == 0 && second == 0);
    close(files[0]);
    close(files[1]);
}

int main(void)
{
    copies();
    ring();
    pipeline();
    writers();
    closings();
    return check_end("pipestorm");
}
