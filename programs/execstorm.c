/*
 * Thousands of program starts: a chain of execs in one process, children that exec at once by fork and
 * by vfork, and execs that fail and leave the process as it was.
 *
 * With arguments it is the image: `:count N` execs itself with N - 1 until it is 0, `:exit N` ends with N.
 */
#include "check.h"

#include <fcntl.h>

enum { CHAIN = 500, SERIAL = 300, BATCHES = 10, BATCH = 30, FAILURES = 500 };

static const char *self;
static int initialised = 42; /* in each new image, whatever the old one did */

static void start(const char *command, int number)
{
    char text[16];
    snprintf(text, sizeof text, "%d", number);
    char *arguments[] = {(char *)self, (char *)command, text, NULL}, *environment[] = {NULL};
    execve(self, arguments, environment);
    _exit(255);
}

static int image(char **arguments)
{
    int number = atoi(arguments[2]);
    if (initialised != 42)
        return 254;
    initialised = 0;
    if (strcmp(arguments[1], ":exit") == 0)
        return number;
    if (number == 0)
        return 77;
    start(":count", number - 1);
    return 255;
}

static int status_of(pid_t child)
{
    int status = -1;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

static pid_t started(bool by_vfork, int number)
{
    static char text[16];
    snprintf(text, sizeof text, "%d", number);
    char *arguments[] = {(char *)self, ":exit", text, NULL}, *environment[] = {NULL};
    pid_t child = by_vfork ? vfork() : fork();
    if (child == 0) {
        execve(self, arguments, environment);
        _exit(255);
    }
    return child;
}

static void chain(void)
{
    pid_t child = fork();
    if (child == 0)
        start(":count", CHAIN);
    check_long("a chain of execs", status_of(child), 77 << 8);
}

static void serial(void)
{
    bool good = true;
    for (int i = 0; i < SERIAL; i++)
        good &= status_of(started(i & 1, i & 127)) == (i & 127) << 8;
    check_that("one after the other", good);
}

static void batches(void)
{
    bool good = true;
    for (int batch = 0; batch < BATCHES; batch++) {
        pid_t children[BATCH];
        for (int i = 0; i < BATCH; i++)
            children[i] = started(false, i);
        for (int i = 0; i < BATCH; i++)
            good &= status_of(children[i]) == i << 8;
    }
    check_that("thirty at once", good);
}

static void failures(void)
{
    char *none[] = {NULL};
    bool good = true;
    for (int i = 0; i < FAILURES; i++)
        good &= execve("/no/such/program", none, none) == -1 && errno == ENOENT;
    check_that("failed execs", good);
}

int main(int count, char **arguments)
{
    self = arguments[0][0] == '/' && access(arguments[0], X_OK) == 0 ? arguments[0] : "/proc/self/exe";
    if (count == 3 && arguments[1][0] == ':')
        return image(arguments);
    chain();
    serial();
    batches();
    failures();
    return check_end("execstorm");
}
