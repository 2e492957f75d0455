/*
 * Files, directories, pipes, descriptors, polling, and the few device and /proc files that programs
 * rely on.
 *
 * Sources: the Linux man pages, section 2, of the calls named; proc(5), null(4). It works in a new
 * directory below /tmp (or below / where there is no /tmp) and removes it at the end.
 */
#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>

static char directory[64];

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        check_long(path, result(-1), 0);
    close(fd);
}

/* The file's contents as a string; empty where it cannot be read. */
static const char *contents(const char *path)
{
    static char text[16384];
    ssize_t length = 0, n;
    int fd = open(path, O_RDONLY);
    text[0] = 0;
    if (fd < 0)
        return text;
    while ((n = read(fd, text + length, sizeof text - 1 - length)) > 0)
        length += n;
    text[length] = 0;
    close(fd);
    return text;
}

static long size_of(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 ? status.st_size : -errno;
}

/* ---- open, read, write ---- */

static void open_flags(void)
{
    int fd = open("a", O_RDWR | O_CREAT | O_EXCL, 0640);
    check_that("create", fd >= 0);
    check_long("write", write(fd, "hello world", 11), 11);
    check_long("lseek set", lseek(fd, 6, SEEK_SET), 6);
    char buffer[64] = "";
    check_long("read", read(fd, buffer, sizeof buffer), 5);
    check_text("read text", buffer, "world");
    check_long("read at end", read(fd, buffer, sizeof buffer), 0);
    check_long("lseek end", lseek(fd, -3, SEEK_END), 8);
    check_long("lseek current", lseek(fd, 1, SEEK_CUR), 9);
    check_long("lseek before start", result(lseek(fd, -1, SEEK_SET)), -EINVAL);
    check_long("lseek unknown", result(lseek(fd, 0, 77)), -EINVAL);
    close(fd);
    check_long("closed", result(read(fd, buffer, 1)), -EBADF);
    check_long("exclusive", result(open("a", O_RDWR | O_CREAT | O_EXCL, 0640)), -EEXIST);
    check_long("missing", result(open("missing", O_RDONLY)), -ENOENT);
    check_long("missing directory", result(open("missing/x", O_CREAT | O_RDWR, 0600)), -ENOENT);
    check_long("not a directory", result(open("a/x", O_RDONLY)), -ENOTDIR);
    check_long("want a directory", result(open("a", O_RDONLY | O_DIRECTORY)), -ENOTDIR);
    check_long("write a directory", result(open(".", O_WRONLY)), -EISDIR);

    fd = open("a", O_WRONLY | O_APPEND);
    check_long("append", write(fd, "!!", 2), 2);
    check_long("read of write-only", result(read(fd, buffer, 1)), -EBADF);
    close(fd);
    check_text("appended", contents("a"), "hello world!!");
    fd = open("a", O_RDONLY);
    check_long("write of read-only", result(write(fd, "x", 1)), -EBADF);
    close(fd);
    fd = open("a", O_WRONLY | O_TRUNC);
    close(fd);
    check_long("truncated by open", size_of("a"), 0);
}

static void positions(void)
{
    int fd = open("p", O_RDWR | O_CREAT | O_TRUNC, 0600);
    check_long("pwrite past end", pwrite(fd, "end", 3, 10000), 3);
    check_long("size", size_of("p"), 10003);
    check_long("position unmoved", lseek(fd, 0, SEEK_CUR), 0);
    char buffer[16];
    check_long("pread hole", pread(fd, buffer, 4, 5000), 4);
    check_that("hole is zero", buffer[0] == 0 && buffer[3] == 0);
    check_long("pread end", pread(fd, buffer, sizeof buffer, 10001), 2);
    check_that("pread text", buffer[0] == 'n' && buffer[1] == 'd');
    check_long("pread beyond", pread(fd, buffer, 1, 20000), 0);
    check_long("pread negative", result(pread(fd, buffer, 1, -1)), -EINVAL);
    struct iovec parts[3] = {{"one", 3}, {"", 0}, {"three", 5}};
    check_long("writev", writev(fd, parts, 3), 8);
    char first[4] = "", second[8] = "";
    struct iovec places[2] = {{first, 3}, {second, 5}};
    lseek(fd, 0, SEEK_SET);
    check_long("readv", readv(fd, places, 2), 8);
    check_text("readv first", first, "one");
    check_text("readv second", second, "three");
    check_long("preadv", preadv(fd, places, 1, 3), 3);
    check_text("preadv text", first, "thr");
    check_long("writev too many", result(syscall(SYS_writev, fd, parts, 2000)), -EINVAL);
    check_long("ftruncate", result(ftruncate(fd, 2)), 0);
    check_long("size after ftruncate", size_of("p"), 2);
    check_long("truncate", result(truncate("p", 100)), 0);
    check_long("size after truncate", size_of("p"), 100);
    check_long("truncate missing", result(truncate("missing", 1)), -ENOENT);
    check_long("fsync", result(fsync(fd)), 0);
    close(fd);
}

/* A file big enough to need many blocks, written and read in odd pieces. */
static void large_file(void)
{
    enum { WORDS = 100003, PIECE = 777 };
    uint32_t piece[PIECE];
    int fd = open("large", O_RDWR | O_CREAT | O_TRUNC, 0600);
    uint32_t next = 0;
    while (next < WORDS) {
        size_t n = 0;
        for (; n < PIECE && next < WORDS; n++)
            piece[n] = next++ * 2654435761u;
        require_long("large write", write(fd, piece, n * 4), n * 4);
    }
    check_long("large size", size_of("large"), WORDS * 4L);
    lseek(fd, 0, SEEK_SET);
    uint32_t expected = 0;
    ssize_t n;
    bool good = true;
    while ((n = read(fd, piece, 1000)) > 0)
        for (ssize_t i = 0; i < n / 4; i++)
            good &= piece[i] == expected++ * 2654435761u;
    check_that("large contents", good && expected == WORDS);
    close(fd);
    check_long("unlink large", result(unlink("large")), 0);
}

/* ---- names ---- */

static void names(void)
{
    write_file("n1", "first");
    write_file("n2", "second");
    check_long("rename over", result(rename("n1", "n2")), 0);
    check_text("renamed", contents("n2"), "first");
    check_long("old name gone", size_of("n1"), -ENOENT);
    check_long("rename missing", result(rename("n1", "n3")), -ENOENT);

    struct stat one, two;
    check_long("link", result(link("n2", "n4")), 0);
    check_long("link exists", result(link("n2", "n4")), -EEXIST);
    stat("n2", &one);
    stat("n4", &two);
    check_that("same inode", one.st_ino == two.st_ino && one.st_dev == two.st_dev);
    check_long("links", two.st_nlink, 2);
    check_long("unlink", result(unlink("n2")), 0);
    check_text("other name stays", contents("n4"), "first");
    stat("n4", &two);
    check_long("links after unlink", two.st_nlink, 1);
    check_long("unlink missing", result(unlink("n2")), -ENOENT);

    int fd = open("n4", O_RDONLY);
    unlink("n4");
    char buffer[8] = "";
    check_long("read after unlink", read(fd, buffer, 8), 5);
    fstat(fd, &one);
    check_long("no links", one.st_nlink, 0);
    close(fd);
    char long_name[300];
    memset(long_name, 'x', sizeof long_name);
    long_name[299] = 0;
    check_long("name too long", result(open(long_name, O_RDONLY)), -ENAMETOOLONG);
    check_long("empty name", result(open("", O_RDONLY)), -ENOENT);
}

static void symbolic_links(void)
{
    char buffer[64] = "";
    struct stat status;
    write_file("target", "aimed");
    check_long("symlink", result(symlink("target", "s")), 0);
    check_text("through link", contents("s"), "aimed");
    check_long("readlink", readlink("s", buffer, sizeof buffer), 6);
    check_text("readlink text", buffer, "target");
    check_long("readlink cuts", readlink("s", buffer, 3), 3);
    check_long("readlink no link", result(readlink("target", buffer, 64)), -EINVAL);
    lstat("s", &status);
    check_that("lstat", S_ISLNK(status.st_mode) && status.st_size == 6);
    stat("s", &status);
    check_that("stat follows", S_ISREG(status.st_mode));
    check_long("nofollow", result(open("s", O_RDONLY | O_NOFOLLOW)), -ELOOP);
    symlink("loop2", "loop1");
    symlink("loop1", "loop2");
    check_long("loop", result(open("loop1", O_RDONLY)), -ELOOP);
    symlink("nowhere", "dangling");
    check_long("dangling", result(open("dangling", O_RDONLY)), -ENOENT);
    int fd = open("dangling", O_WRONLY | O_CREAT, 0600);
    close(fd);
    check_long("created through link", size_of("nowhere"), 0);
    unlink("s");
    check_text("target stays", contents("target"), "aimed");
    const char *const all[] = {"target", "loop1", "loop2", "dangling", "nowhere"};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        unlink(all[i]);
}

static void directories(void)
{
    char buffer[256], expected[256];
    check_long("mkdir", result(mkdir("d", 0755)), 0);
    check_long("mkdir exists", result(mkdir("d", 0755)), -EEXIST);
    check_long("mkdir missing parent", result(mkdir("no/d", 0755)), -ENOENT);
    check_long("chdir", result(chdir("d")), 0);
    snprintf(expected, sizeof expected, "%s/d", directory);
    check_text("getcwd", getcwd(buffer, sizeof buffer) ? buffer : "", expected);
    check_long("getcwd short", result(syscall(SYS_getcwd, buffer, 3)), -ERANGE);
    write_file("inside", "x");
    check_long("chdir up", result(chdir("..")), 0);
    check_long("rmdir not empty", result(rmdir("d")), -ENOTEMPTY);
    check_long("rmdir file", result(rmdir("a")), -ENOTDIR);
    check_long("unlink directory", result(unlink("d")), -EISDIR);
    check_text("dots", contents("./d/.././d/inside"), "x");

    int fd = open("d", O_RDONLY | O_DIRECTORY);
    int inside = openat(fd, "inside", O_RDONLY);
    check_that("openat", inside >= 0);
    close(inside);
    check_long("openat missing", result(openat(fd, "a", O_RDONLY)), -ENOENT);
    check_long("mkdirat", result(mkdirat(fd, "e", 0700)), 0);
    struct stat status;
    check_long("fstatat", result(fstatat(fd, "e", &status, 0)), 0);
    check_that("fstatat directory", S_ISDIR(status.st_mode));
    check_long("fstatat empty", result(fstatat(fd, "", &status, AT_EMPTY_PATH)), 0);
    check_long("faccessat", result(faccessat(fd, "inside", R_OK, 0)), 0);
    check_long("renameat", result(renameat(fd, "inside", fd, "renamed")), 0);
    check_long("read directory", result(read(fd, buffer, 10)), -EISDIR);
    check_long("unlinkat", result(unlinkat(fd, "renamed", 0)), 0);
    check_long("unlinkat directory", result(unlinkat(fd, "e", AT_REMOVEDIR)), 0);
    check_long("fchdir", result(fchdir(fd)), 0);
    chdir("..");
    check_long("openat bad descriptor", result(openat(999, "x", O_RDONLY)), -EBADF);
    close(fd);
    check_long("rename directory", result(rename("d", "d2")), 0);
    check_long("rmdir", result(rmdir("d2")), 0);
    check_long("rmdir gone", result(rmdir("d2")), -ENOENT);
}

static void listing(void)
{
    enum { COUNT = 200 };
    char name[32];
    bool seen[COUNT] = {false};
    mkdir("list", 0755);
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "list/file-%03d", i);
        write_file(name, "");
    }
    DIR *stream = opendir("list");
    struct dirent *entry;
    int dots = 0, files = 0;
    while (stream && (entry = readdir(stream))) {
        int i = -1;
        if (entry->d_name[0] == '.')
            dots++;
        else if (sscanf(entry->d_name, "file-%d", &i) == 1 && i >= 0 && i < COUNT && !seen[i])
            files += seen[i] = entry->d_type == DT_REG || entry->d_type == DT_UNKNOWN;
    }
    check_long("dots", dots, 2);
    check_long("each file once", files, COUNT);
    if (stream) {
        rewinddir(stream);
        check_that("rewind", readdir(stream) != NULL);
        closedir(stream);
    }
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "list/file-%03d", i);
        unlink(name);
    }
    check_long("rmdir list", result(rmdir("list")), 0);
}

/* ---- attributes ---- */

static void attributes(void)
{
    struct stat status;
    mode_t before = umask(027);
    int fd = open("m", O_CREAT | O_RDWR, 0666);
    fstat(fd, &status);
    check_long("umask applies", status.st_mode, S_IFREG | 0640);
    check_long("umask returns", umask(before), 027);
    check_long("chmod", result(chmod("m", 04755)), 0);
    stat("m", &status);
    check_long("mode", status.st_mode, S_IFREG | 04755);
    check_long("fchmod", result(fchmod(fd, 0600)), 0);
    fstat(fd, &status);
    check_long("mode by descriptor", status.st_mode, S_IFREG | 0600);
    check_long("owner", status.st_uid, getuid());
    check_long("group", status.st_gid, getgid());
    check_long("size 0", status.st_size, 0);
    check_long("blocks 0", status.st_blocks, 0);
    check_that("block size", status.st_blksize >= 512);
    if (write(fd, "12345", 5) == 5 && fstat(fd, &status) == 0)
        check_long("size 5", status.st_size, 5);
    check_that("blocks", status.st_blocks > 0);

    struct timespec times[2] = {{1000000000, 5}, {1234567890, 987654321}};
    check_long("utimensat", result(utimensat(AT_FDCWD, "m", times, 0)), 0);
    stat("m", &status);
    check_long("access time", status.st_atim.tv_sec, 1000000000);
    check_long("modification time", status.st_mtim.tv_sec, 1234567890);
    check_long("nanoseconds", status.st_mtim.tv_nsec, 987654321);
    check_long("futimens now", result(futimens(fd, NULL)), 0);
    fstat(fd, &status);
    check_that("now", status.st_mtim.tv_sec != 1234567890);
    check_long("access", result(access("m", R_OK | W_OK)), 0);
    check_long("access missing", result(access("missing", F_OK)), -ENOENT);
    if (geteuid() == 0)
        check_long("access execute", result(access("m", X_OK)), -EACCES);
    check_long("chmod missing", result(chmod("missing", 0)), -ENOENT);
    stat("/dev/null", &status);
    check_that("null is a device", S_ISCHR(status.st_mode) && status.st_rdev == 0x103);
    struct statfs system;
    check_long("statfs", result(statfs(".", &system)), 0);
    check_that("statfs fields", system.f_bsize > 0 && system.f_namelen >= 255);
    close(fd);
    unlink("m");
}

/* ---- descriptors ---- */

static void descriptors(void)
{
    int fd = open("a", O_RDWR);
    int copy = dup(fd);
    check_that("dup is lowest", copy == fd + 1);
    lseek(fd, 3, SEEK_SET);
    check_long("dup shares position", lseek(copy, 0, SEEK_CUR), 3);
    check_long("dup2", result(dup2(fd, 50)), 50);
    check_long("dup2 same", result(dup2(fd, fd)), fd);
    check_long("dup2 bad", result(dup2(999, 5)), -EBADF);
    check_long("dup3", result(dup3(fd, 51, O_CLOEXEC)), 51);
    check_long("dup3 same", result(dup3(fd, fd, 0)), -EINVAL);
    check_long("cloexec set", fcntl(51, F_GETFD), FD_CLOEXEC);
    check_long("cloexec clear", fcntl(50, F_GETFD), 0);
    check_long("F_DUPFD", result(fcntl(fd, F_DUPFD, 60)), 60);
    check_long("F_DUPFD_CLOEXEC", result(fcntl(fd, F_DUPFD_CLOEXEC, 60)), 61);
    check_long("F_SETFD", result(fcntl(60, F_SETFD, FD_CLOEXEC)), 0);
    check_long("F_GETFD", fcntl(60, F_GETFD), FD_CLOEXEC);
    check_long("F_GETFL", fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
    check_long("F_SETFL", result(fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK)), 0);
    check_long("F_GETFL shared", fcntl(copy, F_GETFL) & (O_APPEND | O_NONBLOCK), O_APPEND | O_NONBLOCK);
    check_long("F_GETFD bad", result(fcntl(999, F_GETFD)), -EBADF);
    check_long("fcntl unknown", result(fcntl(fd, 9999)), -EINVAL);
    const int opened[] = {fd, copy, 50, 51, 60, 61};
    for (size_t i = 0; i < COUNT_OF(opened); i++)
        check_long("close", result(close(opened[i])), 0);
    check_long("close twice", result(close(fd)), -EBADF);
    check_long("isatty of file", result(ioctl(fd = open("a", O_RDONLY), TIOCGWINSZ, directory)), -ENOTTY);
    close(fd);
}

static void pipes(void)
{
    int ends[2];
    char buffer[8192];
    check_long("pipe2", result(pipe2(ends, O_NONBLOCK | O_CLOEXEC)), 0);
    check_long("pipe cloexec", fcntl(ends[0], F_GETFD), FD_CLOEXEC);
    check_long("empty pipe", result(read(ends[0], buffer, 1)), -EAGAIN);
    check_long("pipe write", write(ends[1], "abcdef", 6), 6);
    int available = 0;
    check_long("FIONREAD", result(ioctl(ends[0], FIONREAD, &available)), 0);
    check_long("FIONREAD count", available, 6);
    check_long("pipe read", read(ends[0], buffer, 4), 4);
    check_long("pipe rest", read(ends[0], buffer, 4), 2);
    long total = 0, n;
    memset(buffer, 'p', sizeof buffer);
    while ((n = write(ends[1], buffer, 4096)) > 0)
        total += n;
    check_long("full pipe", result(n), -EAGAIN);
    check_long("pipe capacity", total, 65536);
    check_long("read makes room", read(ends[0], buffer, 4096), 4096);
    check_long("write again", write(ends[1], buffer, 4096), 4096);
    check_long("pipe lseek", result(lseek(ends[0], 0, SEEK_SET)), -ESPIPE);
    check_long("wrong end", result(write(ends[0], "x", 1)), -EBADF);
    close(ends[1]);
    for (total = 0; (n = read(ends[0], buffer, sizeof buffer)) > 0;)
        total += n;
    check_long("drained", total, 65536);
    check_long("end of file", n, 0);
    close(ends[0]);
    check_long("pipe2 unknown flag", result(pipe2(ends, 0x1)), -EINVAL);
    signal(SIGPIPE, SIG_IGN);
    check_long("pipe", result(pipe(ends)), 0);
    close(ends[0]);
    check_long("no reader", result(write(ends[1], "x", 1)), -EPIPE);
    signal(SIGPIPE, SIG_DFL);
    close(ends[1]);
}

/* ---- polling ---- */

static void polling(void)
{
    int ends[2];
    struct pollfd set[2];
    check_long("pipe", result(pipe(ends)), 0);
    set[0] = (struct pollfd){ends[0], POLLIN, 0};
    set[1] = (struct pollfd){ends[1], POLLOUT, 0};
    check_long("poll writable", poll(set, 2, 0), 1);
    check_that("poll events", set[0].revents == 0 && set[1].revents == POLLOUT);
    check_long("poll times out", poll(set, 1, 20), 0);
    if (write(ends[1], "x", 1) == 1)
        check_long("poll both", poll(set, 2, -1), 2);
    check_long("poll readable", set[0].revents, POLLIN);
    struct timespec no_time = {0, 0};
    check_long("ppoll", ppoll(set, 1, &no_time, NULL), 1);
    fd_set readable, writable;
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    FD_SET(ends[0], &readable);
    FD_SET(ends[1], &writable);
    struct timeval soon = {1, 0};
    check_long("select", select(ends[1] + 1, &readable, &writable, NULL, &soon), 2);
    FD_ZERO(&writable);
    check_long("pselect", pselect(ends[1] + 1, &readable, &writable, NULL, &no_time, NULL), 1);
    char byte;
    check_long("take", read(ends[0], &byte, 1), 1);
    FD_ZERO(&readable);
    FD_SET(ends[0], &readable);
    struct timeval little = {0, 20000};
    check_long("select times out", select(ends[0] + 1, &readable, NULL, NULL, &little), 0);
    check_that("select clears", !FD_ISSET(ends[0], &readable));
    close(ends[1]);
    set[0].revents = 0;
    check_long("poll hang-up", poll(set, 1, -1), 1);
    check_long("hang-up event", set[0].revents, POLLHUP);
    close(ends[0]);
    check_long("poll bad descriptor", poll(set, 1, -1), 1);
    check_long("bad descriptor event", set[0].revents, POLLNVAL);
    FD_ZERO(&readable);
    FD_SET(ends[0], &readable);
    check_long("select bad descriptor", result(select(ends[0] + 1, &readable, NULL, NULL, &little)), -EBADF);
    set[0].fd = -1;
    check_long("poll ignores negative", poll(set, 1, 0), 0);
    int fd = open("a", O_RDONLY);
    set[0] = (struct pollfd){fd, POLLIN | POLLOUT, 0};
    check_long("poll file", poll(set, 1, -1), 1);
    check_long("file is always ready", set[0].revents, POLLIN | POLLOUT);
    close(fd);
}

/* A blocked poll is woken by another process. */
static void poll_wakes(void)
{
    int ends[2];
    check_long("pipe", result(pipe(ends)), 0);
    pid_t child = fork();
    if (child == 0) {
        struct timespec pause = {0, 20000000};
        nanosleep(&pause, NULL);
        _exit(write(ends[1], "x", 1) != 1);
    }
    struct pollfd set = {ends[0], POLLIN, 0};
    check_long("poll wakes", poll(&set, 1, 10000), 1);
    waitpid(child, NULL, 0);
    close(ends[0]);
    close(ends[1]);
}

static void event_polling(void)
{
    int ends[2];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0 && errno == ENOSYS) {
        check_skip("epoll", "no such call");
        return;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0x1234567890}, got[4];
    check_long("pipe", result(pipe(ends)), 0);
    check_long("epoll add", result(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event)), 0);
    check_long("epoll add twice", result(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event)), -EEXIST);
    check_long("epoll idle", epoll_wait(epoll, got, 4, 0), 0);
    if (write(ends[1], "x", 1) == 1)
        check_long("epoll ready", epoll_wait(epoll, got, 4, 1000), 1);
    check_that("epoll event", got[0].events == EPOLLIN && got[0].data.u64 == 0x1234567890);
    check_long("epoll level", epoll_wait(epoll, got, 4, 1000), 1);
    event.events = 0;
    check_long("epoll modify", result(epoll_ctl(epoll, EPOLL_CTL_MOD, ends[0], &event)), 0);
    check_long("epoll masked", epoll_wait(epoll, got, 4, 0), 0);
    check_long("epoll remove", result(epoll_ctl(epoll, EPOLL_CTL_DEL, ends[0], NULL)), 0);
    check_long("epoll remove twice", result(epoll_ctl(epoll, EPOLL_CTL_DEL, ends[0], NULL)), -ENOENT);
    close(ends[0]);
    close(ends[1]);
    close(epoll);
}

/* ---- devices and /proc ---- */

static void devices(void)
{
    char buffer[100];
    int fd = open("/dev/null", O_RDWR);
    check_that("open null", fd >= 0);
    check_long("read null", read(fd, buffer, sizeof buffer), 0);
    check_long("write null", write(fd, buffer, sizeof buffer), sizeof buffer);
    close(fd);
    fd = open("/dev/zero", O_RDWR);
    if (fd < 0) {
        check_skip("zero", "no /dev/zero");
        return;
    }
    memset(buffer, 1, sizeof buffer);
    check_long("read zero", read(fd, buffer, sizeof buffer), sizeof buffer);
    check_that("zeroes", buffer[0] == 0 && buffer[99] == 0);
    check_long("write zero", write(fd, buffer, 7), 7);
    close(fd);
}

static void own_descriptors(void)
{
    char link[64], buffer[256], expected[100];
    int fd = open("a", O_RDONLY);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, buffer, sizeof buffer - 1);
    buffer[length < 0 ? 0 : length] = 0;
    snprintf(expected, sizeof expected, "%s/a", directory);
    check_text("proc fd", buffer, expected);
    int again = open(link, O_RDONLY);
    struct stat one, two;
    fstat(fd, &one);
    check_that("open by proc fd", again >= 0 && fstat(again, &two) == 0 && one.st_ino == two.st_ino);
    close(again);
    close(fd);
    check_long("proc fd closed", result(readlink(link, buffer, 10)), -ENOENT);
}

static void process_files(void)
{
    char buffer[256], line[64];
    if (access("/proc/self/status", R_OK) != 0) {
        check_skip("proc", "not mounted");
        return;
    }
    snprintf(line, sizeof line, "\nPid:\t%d\n", getpid());
    check_that("status pid", strstr(contents("/proc/self/status"), line));
    snprintf(line, sizeof line, "\nPPid:\t%d\n", getppid());
    check_that("status parent", strstr(contents("/proc/self/status"), line));
    check_that("status name", strncmp(contents("/proc/self/status"), "Name:\tfiles\n", 12) == 0);
    check_that("status threads", strstr(contents("/proc/self/status"), "\nThreads:\t1\n"));
    check_that("maps", strstr(contents("/proc/self/maps"), "[stack]"));
    ssize_t length = readlink("/proc/self/exe", buffer, sizeof buffer - 1);
    buffer[length < 0 ? 0 : length] = 0;
    check_that("exe", length > 6 && strcmp(buffer + length - 6, "/files") == 0);
    length = readlink("/proc/self", buffer, sizeof buffer - 1);
    buffer[length < 0 ? 0 : length] = 0;
    check_long("self", atoi(buffer), getpid());
    own_descriptors();

    check_that("cmdline", strstr(contents("/proc/cmdline"), "console=ttyS0"));
    check_that("cpuinfo", strstr(contents("/proc/cpuinfo"), "processor\t: 0\n"));
    check_that("meminfo", strncmp(contents("/proc/meminfo"), "MemTotal:", 9) == 0);
    struct utsname system;
    uname(&system);
    check_that("version", strstr(contents("/proc/version"), system.release));
    double up = 0;
    check_that("uptime", sscanf(contents("/proc/uptime"), "%lf", &up) == 1 && up > 0);
    check_long("missing in proc", result(open("/proc/missing", O_RDONLY)), -ENOENT);
}

static void mounts(void)
{
    static const char *const types[] = {"proc", "sysfs", "devtmpfs", "tmpfs"};
    if (geteuid() != 0 || getpid() == 1) {
        check_skip("mount", "needs root, and leaves process 1 as it is");
        return;
    }
    mkdir("mnt", 0755);
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        char name[64];
        snprintf(name, sizeof name, "mount %s", types[i]);
        long mounted = result(mount(types[i], "mnt", types[i], 0, NULL));
        check_that(name, mounted == 0 || mounted == -EBUSY);
        if (mounted == 0)
            check_long("umount", result(umount("mnt")), 0);
    }
    check_long("mount unknown", result(mount("x", "mnt", "no-such-system", 0, NULL)), -ENODEV);
    check_long("mount nowhere", result(mount("x", "missing", "tmpfs", 0, NULL)), -ENOENT);
    rmdir("mnt");
}

/* Things of which there can be many on top of one another, or one in the other. */
static void towers(void)
{
    /* Four layers of instances, each watching all of the next: 40^4 ways down. */
    enum { LAYERS = 4, WIDTH = 40 };
    static int layers[LAYERS][WIDTH];
    struct epoll_event event = {.events = EPOLLIN}, found;
    long refused = 0;
    for (int layer = LAYERS - 1; layer >= 0; layer--)
        for (int index = 0; index < WIDTH; index++) {
            layers[layer][index] = epoll_create1(0);
            for (int below = 0; layer + 1 < LAYERS && below < WIDTH; below++)
                refused |= result(epoll_ctl(layers[layer][index], EPOLL_CTL_ADD, layers[layer + 1][below], &event));
        }
    /* Linux allows 1000 ways down from one instance at most, and says EINVAL. */
    check_that("epoll on epoll on epoll", refused == 0 || refused == -EINVAL);
    check_long("nothing is ready", epoll_wait(layers[0][0], &found, 1, 0), 0);
    check_long("no ring of epolls", result(epoll_ctl(layers[LAYERS - 1][0], EPOLL_CTL_ADD, layers[0][0], &event)), -ELOOP);
    for (int layer = 0; layer < LAYERS; layer++)
        for (int index = 0; index < WIDTH; index++)
            close(layers[layer][index]);
    if (geteuid() != 0 || mkdir("tower", 0700) != 0) {
        check_skip("mounts in mounts", "needs root");
        return;
    }
    /* Mounts one in the other, taken away at once. */
    char *start = getcwd(NULL, 0);
    long depth = 0;
    long failed = chdir("tower");
    while (failed == 0 && depth < 300) {
        failed = mount("none", ".", "tmpfs", 0, "") != 0 || chdir("../tower") != 0;
        failed = failed || mkdir("tower", 0700) != 0 || chdir("tower") != 0;
        depth++;
    }
    check_long("mounts in mounts", failed, 0);
    chdir(start);
    check_long("all taken away at once", result(umount2("tower", MNT_DETACH)), 0);
    check_long("nothing is left", result(rmdir("tower")), 0);
    free(start);
}

int main(void)
{
    snprintf(directory, sizeof directory, "%s/files-%d", access("/tmp", W_OK) == 0 ? "/tmp" : "", getpid());
    if (mkdir(directory, 0755) != 0 || chdir(directory) != 0) {
        check_long("working directory", result(-1), 0);
        return check_end("files");
    }
    open_flags();
    positions();
    large_file();
    names();
    symbolic_links();
    directories();
    listing();
    attributes();
    descriptors();
    pipes();
    polling();
    poll_wakes();
    event_polling();
    devices();
    process_files();
    mounts();
    unlink("a");
    unlink("p");
    check_long("chdir out", result(chdir("/")), 0);
    check_long("nothing left", result(rmdir(directory)), 0);
    towers();
    return check_end("files");
}
