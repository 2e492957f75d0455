/*
 * A minimal check framework, in one header so that every program stays one file and one compile line.
 *
 * Each check prints `ok NAME` or `FAIL NAME: expected X got Y`; the last line is `PASS program` or
 * `FAIL program N`. Output goes through file descriptor 1 with write(2) alone, one call a line, so it
 * works as process 1, after fork, and from several threads. Include it first: it selects the feature
 * macros that glibc and musl want.
 */
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static int check_failures;
static bool check_quiet; /* print failures only */

/* Prints one formatted line with a single write, where the file descriptor takes it. */
UNUSED __attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (length > (int)sizeof line - 2)
        length = sizeof line - 2;
    line[length++] = '\n';
    for (int done = 0; done < length;) {
        ssize_t n = write(1, line + done, length - done);
        if (n <= 0 && errno != EINTR)
            return;
        if (n > 0)
            done += n;
    }
}

/* The kernel's own convention: the result, or minus errno. */
UNUSED static long result(long returned)
{
    return returned == -1 ? -(long)errno : returned;
}

UNUSED static void check_that(const char *name, bool holds)
{
    if (!holds) {
        check_failures++;
        say("FAIL %s: expected it to hold, got otherwise", name);
    } else if (!check_quiet) {
        say("ok %s", name);
    }
}

UNUSED static void check_long(const char *name, long got, long expected)
{
    if (got != expected) {
        check_failures++;
        say("FAIL %s: expected %ld (%#lx) got %ld (%#lx)", name, expected, expected, got, got);
    } else if (!check_quiet) {
        say("ok %s", name);
    }
}

/* For checks made many times: silent while they hold. */
UNUSED static void require_long(const char *name, long got, long expected)
{
    if (got != expected)
        check_long(name, got, expected);
}

UNUSED static void check_text(const char *name, const char *got, const char *expected)
{
    if (strcmp(got, expected) != 0) {
        check_failures++;
        say("FAIL %s: expected \"%s\" got \"%s\"", name, expected, got);
    } else if (!check_quiet) {
        say("ok %s", name);
    }
}

UNUSED static void check_skip(const char *name, const char *why)
{
    say("skip %s: %s", name, why);
}

/* Runs `body` in a child, waits for exactly that child, and returns its wait status. */
UNUSED static int child_status(void (*body)(void))
{
    pid_t child = fork();
    if (child == 0) {
        body();
        _exit(0);
    }
    int status = -1;
    if (child < 0)
        return -1;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

/* Runs checks in a child, so that what they change stays there, and counts their failures here. */
static void (*check_body)(void);
UNUSED static void check_child_body(void)
{
    check_failures = 0;
    check_body();
    _exit(check_failures > 99 ? 99 : check_failures);
}

UNUSED static void check_in_child(const char *name, void (*body)(void))
{
    check_body = body;
    int status = child_status(check_child_body);
    if (WIFEXITED(status))
        check_failures += WEXITSTATUS(status);
    else
        check_long(name, status, 0);
}

UNUSED static int check_end(const char *program)
{
    if (check_failures)
        say("FAIL %s %d", program, check_failures);
    else
        say("PASS %s", program);
    return check_failures ? 1 : 0;
}

#endif
