/*
 * A tiny init: mounts what programs expect, runs programs one after the other, powers off.
 *
 * As process 1 it takes the names from its arguments (the kernel hands on what follows `--` on its
 * command line) or, without any, every file in /programs in alphabetical order. Arguments that begin with a digit
 * are handed on to each program. A program that dies is reported, and orphans are collected on the way. reboot(2):
 * RB_POWER_OFF.
 *
 * `open` as the first argument switches the machine's isolation off first, on a kernel that can.
 */
#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>

static int bad;

enum { NUMBERS = 8 };
static char *numbers[NUMBERS];
static int number_count;

static void mount_at(const char *type, const char *where)
{
    mkdir(where, 0755);
    if (mount(type, where, type, 0, NULL) != 0 && errno != EBUSY)
        say("run: mount %s: errno %d", where, errno);
}

static void wait_for(pid_t child, const char *name)
{
    int status;
    for (;;) {
        pid_t ended = waitpid(-1, &status, 0);
        if (ended == child)
            break;
        if (ended < 0 && errno != EINTR)
            return;
    }
    if (WIFSIGNALED(status))
        say("run: %s ended by signal %d", name, WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0)
        say("run: %s ended with status %d", name, WEXITSTATUS(status));
    bad += status != 0;
}

static void run(const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "/programs/%s", name);
    say("run: %s", name);
    pid_t child = fork();
    if (child == 0) {
        char *arguments[NUMBERS + 2] = {path};
        memcpy(arguments + 1, numbers, sizeof numbers);
        char *environment[] = {"PATH=/bin:/programs", "HOME=/", NULL};
        setsid();
        execve(path, arguments, environment);
        say("run: %s: errno %d", path, errno);
        _exit(127);
    }
    wait_for(child, name);
}

static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void switch_isolation_off(void)
{
    int file = open("/proc/sys/kernel/pti", O_WRONLY);
    if (file < 0 || write(file, "0", 1) != 1)
        say("run: isolation cannot be switched off: errno %d", errno);
    close(file);
}

int main(int count, char **arguments)
{
    mount_at("devtmpfs", "/dev");
    mount_at("proc", "/proc");
    mount_at("sysfs", "/sys");
    mount_at("tmpfs", "/tmp");
    if (count > 1 && strcmp(arguments[1], "open") == 0) {
        switch_isolation_off();
        count--, arguments++;
    }
    int names = 0;
    for (int i = 1; i < count; i++) {
        if (arguments[i][0] < '0' || arguments[i][0] > '9')
            names++;
        else if (number_count < NUMBERS)
            numbers[number_count++] = arguments[i];
    }
    if (names > 0) {
        for (int i = 1; i < count; i++)
            if (arguments[i][0] < '0' || arguments[i][0] > '9')
                run(arguments[i]);
    } else {
        struct dirent **entries;
        int found = scandir("/programs", &entries, visible, alphasort);
        for (int i = 0; i < found; i++)
            run(entries[i]->d_name);
    }
    say(bad ? "run: FAIL %d" : "run: PASS", bad);
    sync();
    if (getpid() == 1)
        reboot(RB_POWER_OFF);
    return bad != 0;
}
