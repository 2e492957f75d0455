/*
 * process_vm_readv(2) and process_vm_writev(2): the memory of a child, its pages that nobody has touched
 * yet, parts, and everything that must be refused. Linux's rules, mm/process_vm_access.c.
 */
#include "check.h"

#include <sys/mman.h>
#include <sys/uio.h>

#define PAGE 4096

static char *shared_with_child; /* private: the same address in both */

static long read_from(pid_t pid, void *own, size_t own_size, void *other, size_t size)
{
    struct iovec local = {own, own_size}, remote = {other, size};
    return result(syscall(SYS_process_vm_readv, pid, &local, 1, &remote, 1, 0));
}

static long write_to(pid_t pid, void *own, size_t size, void *other)
{
    struct iovec local = {own, size}, remote = {other, size};
    return result(syscall(SYS_process_vm_writev, pid, &local, 1, &remote, 1, 0));
}

static void with_child(pid_t child, int to_child, int from_child)
{
    static char buffer[3 * PAGE];
    char byte;
    check_long("read a child's memory", read_from(child, buffer, 5, shared_with_child, 5), 5);
    check_text("its bytes", buffer, "child");
    check_text("not ours", shared_with_child, "parent");
    check_long("over a page's end",
               read_from(child, buffer, 2 * PAGE, shared_with_child + 100, 2 * PAGE), 2 * PAGE);
    check_long("up to the end", read_from(child, buffer, sizeof buffer, shared_with_child + PAGE, sizeof buffer),
               2 * PAGE);
    check_long("less room here", read_from(child, buffer, 3, shared_with_child, PAGE), 3);
    check_long("nothing there", read_from(child, buffer, 1, shared_with_child + 3 * PAGE, 1), -EFAULT);
    check_long("nothing here", read_from(child, NULL, 1, shared_with_child, 1), -EFAULT);
    check_long("write where the child has not been", write_to(child, "hello", 6, shared_with_child + 2 * PAGE), 6);
    check_long("write to what may only be read", write_to(child, "x", 1, (void *)"text"), -EFAULT);

    struct iovec local[2] = {{buffer, 2}, {buffer + 10, 3}};
    struct iovec remote[3] = {{shared_with_child, 1}, {NULL, 0}, {shared_with_child + 1, 4}};
    memset(buffer, '.', 20);
    check_long("pieces", result(syscall(SYS_process_vm_readv, child, local, 2, remote, 3, 0)), 5);
    check_that("where they belong", memcmp(buffer, "ch........ild", 13) == 0);
    check_long("flags", result(syscall(SYS_process_vm_readv, child, local, 2, remote, 3, 1)), -EINVAL);
    check_long("too many", result(syscall(SYS_process_vm_readv, child, local, 2, remote, 2000, 0)), -EINVAL);
    check_long("none", result(syscall(SYS_process_vm_readv, child, local, 0, remote, 3, 0)), 0);
    check_long("nobody", read_from(0x7ffffff, buffer, 1, shared_with_child, 1), -ESRCH);

    if (write(to_child, "g", 1) != 1 || read(from_child, &byte, 1) != 1)
        byte = 0;
    check_long("the child finds what was written", byte, 'y');
}

static void child_body(int from_parent, int to_parent)
{
    char byte;
    strcpy(shared_with_child, "child");
    munmap(shared_with_child + 3 * PAGE, PAGE);
    if (write(to_parent, "r", 1) != 1 || read(from_parent, &byte, 1) != 1)
        _exit(1);
    byte = strcmp(shared_with_child + 2 * PAGE, "hello") == 0 ? 'y' : 'n';
    _exit(write(to_parent, &byte, 1) != 1);
}

static void as_nobody(void)
{
    char byte;
    pid_t parent = getppid();
    check_long("oneself", read_from(getpid(), &byte, 1, shared_with_child, 1), 1);
    if (setuid(1) != 0)
        return;
    check_long("root's memory, as nobody", read_from(parent, &byte, 1, shared_with_child, 1), -EPERM);
}

int main(void)
{
    int down[2], up[2];
    char byte;
    shared_with_child = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (shared_with_child == MAP_FAILED || pipe(down) != 0 || pipe(up) != 0)
        return 1;
    strcpy(shared_with_child, "parent");
    pid_t child = fork();
    if (child == 0)
        child_body(down[0], up[1]);
    if (read(up[0], &byte, 1) != 1)
        return 1;
    with_child(child, down[1], up[0]);
    int status = -1;
    waitpid(child, &status, 0);
    check_long("the child's end", status, 0);
    check_long("a child that is gone", read_from(child, &byte, 1, shared_with_child, 1), -ESRCH);
    check_in_child("nobody", as_nobody);
    return check_end("across");
}
