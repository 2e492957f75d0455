/*
 * Address spaces as a program sees them: mmap in all its kinds, mprotect, munmap, mremap, madvise, brk,
 * copy-on-write in both directions, sharing across fork, memfd, /proc/self/maps, stack growth.
 *
 * Sources: mmap(2), mremap(2), madvise(2), brk(2), memfd_create(2), proc(5), and Linux where they are
 * silent. A probe of an address that may fault goes through a SIGSEGV handler and siglongjmp.
 */
#include "check.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

enum { PAGE = 4096 };

/* ---- probing ---- */

static sigjmp_buf after_fault;

static void on_fault(int signal)
{
    siglongjmp(after_fault, signal);
}

static void install_handlers(void)
{
    struct sigaction action = {.sa_handler = on_fault};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
}

/* 0, or the signal that the access raises. */
static int try_read(const volatile char *address)
{
    int signal = sigsetjmp(after_fault, 1);
    if (signal == 0)
        (void)*address;
    return signal;
}

static int try_write(volatile char *address, char value)
{
    int signal = sigsetjmp(after_fault, 1);
    if (signal == 0)
        *address = value;
    return signal;
}

static char *map(size_t pages, int protection, int flags)
{
    return mmap(NULL, pages * PAGE, protection, flags | MAP_ANONYMOUS, -1, 0);
}

static char *map_private(size_t pages)
{
    return map(pages, PROT_READ | PROT_WRITE, MAP_PRIVATE);
}

static bool all_bytes(const char *from, size_t length, char value)
{
    for (size_t i = 0; i < length; i++)
        if (from[i] != value)
            return false;
    return true;
}

/* A memfd of `pages` pages, page number i filled with 'a' + i. */
static int new_file(size_t pages)
{
    char buffer[PAGE];
    int fd = memfd_create("memory", 0);
    for (size_t i = 0; i < pages; i++) {
        memset(buffer, 'a' + (int)i, PAGE);
        if (write(fd, buffer, PAGE) != PAGE)
            check_long("write memfd", result(-1), PAGE);
    }
    return fd;
}

/* ---- anonymous memory ---- */

static void anonymous(void)
{
    char *memory = map_private(16);
    check_that("anonymous is zero", all_bytes(memory, 16 * PAGE, 0));
    memset(memory, 0x5a, 16 * PAGE);
    check_that("anonymous keeps", all_bytes(memory, 16 * PAGE, 0x5a));
    check_that("page aligned", ((uintptr_t)memory & (PAGE - 1)) == 0);

    check_long("munmap hole", result(munmap(memory + 4 * PAGE, 2 * PAGE)), 0);
    check_long("hole faults", try_read(memory + 4 * PAGE), SIGSEGV);
    check_long("hole faults to its end", try_write(memory + 6 * PAGE - 1, 1), SIGSEGV);
    check_long("before hole", try_read(memory + 4 * PAGE - 1), 0);
    check_long("after hole", try_read(memory + 6 * PAGE), 0);
    check_long("munmap nothing there", result(munmap(memory + 4 * PAGE, PAGE)), 0);
    char *again = mmap(memory + 4 * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    check_that("fixed into hole", again == memory + 4 * PAGE);
    check_that("fixed is zero", all_bytes(again, PAGE, 0));
    char *over = mmap(memory, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    check_that("fixed replaces", over == memory && all_bytes(over, PAGE, 0) && memory[PAGE] == 0x5a);
    check_long("noreplace refuses",
               result((long)mmap(memory, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0)),
               -EEXIST);
    char *hinted = mmap(memory + 5 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    check_that("noreplace takes a hole", hinted == memory + 5 * PAGE);
    check_long("munmap all", result(munmap(memory, 16 * PAGE)), 0);
    check_long("gone", try_read(memory + 15 * PAGE), SIGSEGV);

    char *populated = map(8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_POPULATE);
    check_that("populate", all_bytes(populated, 8 * PAGE, 0));
    munmap(populated, 8 * PAGE);
}

static void bad_arguments(void)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    char *memory = map_private(1);
    check_long("mmap length 0", result((long)mmap(NULL, 0, PROT_READ, flags, -1, 0)), -EINVAL);
    check_long("mmap huge", result((long)mmap(NULL, SIZE_MAX - PAGE, PROT_READ, flags, -1, 0)), -ENOMEM);
    check_long("mmap no kind", result((long)mmap(NULL, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0)), -EINVAL);
    check_long("mmap bad descriptor", result((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 999, 0)), -EBADF);
    check_long("mmap odd address", result((long)mmap(memory + 1, PAGE, PROT_READ, flags | MAP_FIXED, -1, 0)), -EINVAL);
    check_long("mmap kernel address",
               result((long)mmap((void *)0xffff888000000000, PAGE, PROT_READ, flags | MAP_FIXED, -1, 0)), -ENOMEM);
    check_long("mmap end of the lower half",
               result((long)mmap((void *)0x00fffffffffff000, PAGE, PROT_READ, flags | MAP_FIXED, -1, 0)), -ENOMEM);
    check_long("munmap odd address", result(munmap(memory + 1, PAGE)), -EINVAL);
    check_long("munmap length 0", result(munmap(memory, 0)), -EINVAL);
    check_long("munmap kernel", result(munmap((void *)0xffff888000000000, PAGE)), -EINVAL);
    check_long("mprotect odd address", result(syscall(SYS_mprotect, memory + 1, PAGE, PROT_READ)), -EINVAL);
    check_long("mprotect length 0", result(syscall(SYS_mprotect, memory, 0, PROT_READ)), 0);
    munmap(memory, PAGE);
    check_long("mprotect hole", result(mprotect(memory, PAGE, PROT_READ)), -ENOMEM);
    check_long("madvise hole", result(syscall(SYS_madvise, memory, PAGE, MADV_DONTNEED)), -ENOMEM);
    check_long("madvise unknown", result(syscall(SYS_madvise, memory, PAGE, 9999)), -EINVAL);
}

static void protection(void)
{
    char *memory = map_private(3);
    memset(memory, 7, 3 * PAGE);
    check_long("mprotect read-only", result(mprotect(memory + PAGE, PAGE, PROT_READ)), 0);
    check_long("write refused", try_write(memory + PAGE, 1), SIGSEGV);
    check_long("read allowed", try_read(memory + PAGE), 0);
    check_long("neighbour below", try_write(memory + PAGE - 1, 1), 0);
    check_long("neighbour above", try_write(memory + 2 * PAGE, 1), 0);
    check_long("mprotect none", result(mprotect(memory, 3 * PAGE, PROT_NONE)), 0);
    check_long("none refuses", try_read(memory), SIGSEGV);
    check_long("mprotect back", result(mprotect(memory, 3 * PAGE, PROT_READ | PROT_WRITE)), 0);
    check_that("contents survive", all_bytes(memory + PAGE, PAGE, 7));
    check_long("write again", try_write(memory + PAGE, 2), 0);

    static const unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3}; /* mov $42, %eax; ret */
    memcpy(memory, code, sizeof code);
    check_long("mprotect executable", result(mprotect(memory, PAGE, PROT_READ | PROT_EXEC)), 0);
    int (*function)(void);
    memcpy(&function, &memory, sizeof function);
    check_long("executes", function(), 42);
    check_long("code not writable", try_write(memory, 1), SIGSEGV);
    munmap(memory, 3 * PAGE);
}

static void advice(void)
{
    char *memory = map_private(4);
    memset(memory, 9, 4 * PAGE);
    check_long("madvise dontneed", result(madvise(memory + PAGE, 2 * PAGE, MADV_DONTNEED)), 0);
    check_that("dontneed zeroes", all_bytes(memory + PAGE, 2 * PAGE, 0));
    check_that("dontneed spares", all_bytes(memory, PAGE, 9) && all_bytes(memory + 3 * PAGE, PAGE, 9));
    memory[PAGE] = 3;
    check_long("usable afterwards", memory[PAGE], 3);
    check_long("madvise willneed", result(madvise(memory, 4 * PAGE, MADV_WILLNEED)), 0);
    check_long("madvise odd address", result(madvise(memory + 1, PAGE, MADV_DONTNEED)), -EINVAL);
    munmap(memory, 4 * PAGE);
}

static void sparse(void)
{
    const size_t size = (size_t)64 << 30;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check_that("64 GiB reserved", memory != MAP_FAILED);
    if (memory == MAP_FAILED)
        return;
    bool good = true;
    for (size_t at = 0; at < size; at += (size_t)1 << 30) {
        good &= memory[at] == 0;
        memory[at + 123] = (char)(at >> 30);
    }
    for (size_t at = 0; at < size; at += (size_t)1 << 30)
        good &= memory[at + 123] == (char)(at >> 30);
    check_that("sparse contents", good);
    check_long("sparse munmap", result(munmap(memory, size)), 0);
}

/* ---- mremap ---- */

static void remap(void)
{
    char *memory = map_private(8);
    memset(memory, 1, 4 * PAGE);
    memset(memory + 4 * PAGE, 2, 4 * PAGE);
    char *shrunk = mremap(memory, 8 * PAGE, 6 * PAGE, 0);
    check_that("mremap shrinks in place", shrunk == memory);
    check_long("tail gone", try_read(memory + 6 * PAGE), SIGSEGV);
    char *grown = mremap(memory, 6 * PAGE, 7 * PAGE, 0);
    check_that("mremap grows in place", grown == memory);
    check_that("grown part is zero", all_bytes(memory + 6 * PAGE, PAGE, 0));

    char *blocker = mmap(memory + 7 * PAGE, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    check_that("blocker", blocker == memory + 7 * PAGE);
    check_long("cannot grow", result((long)mremap(memory, 7 * PAGE, 9 * PAGE, 0)), -ENOMEM);
    char *moved = mremap(memory, 7 * PAGE, 32 * PAGE, MREMAP_MAYMOVE);
    check_that("mremap moves", moved != MAP_FAILED && moved != memory);
    check_that("moved contents", all_bytes(moved, 4 * PAGE, 1) && all_bytes(moved + 4 * PAGE, 2 * PAGE, 2) &&
                                     all_bytes(moved + 6 * PAGE, 26 * PAGE, 0));
    check_long("old place gone", try_read(memory), SIGSEGV);

    char *target = map_private(4);
    memset(target, 5, 4 * PAGE);
    char *fixed = mremap(moved, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target);
    check_that("mremap fixed", fixed == target && all_bytes(target, 4 * PAGE, 1));
    check_long("source gone", try_read(moved), SIGSEGV);
    check_that("rest of source stays", all_bytes(moved + 4 * PAGE, 2 * PAGE, 2));
    check_long("mremap odd address", result((long)mremap(target + 1, PAGE, PAGE, 0)), -EINVAL);
    check_long("mremap to 0", result((long)mremap(target, PAGE, 0, 0)), -EINVAL);
    check_long("mremap of more than there is",
               result((long)mremap(target, (size_t)1 << 56, PAGE, 0)), -EINVAL);
    check_long("mremap unknown flag", result((long)mremap(target, PAGE, PAGE, 64)), -EINVAL);
    check_long("mremap fixed overlap",
               result((long)mremap(target, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target + PAGE)), -EINVAL);
    munmap(target, 4 * PAGE);
    check_long("mremap hole", result((long)mremap(target, PAGE, 2 * PAGE, MREMAP_MAYMOVE)), -EFAULT);
    munmap(moved + 4 * PAGE, 28 * PAGE);
    munmap(blocker, PAGE);
}

/* ---- files ---- */

static void private_file(void)
{
    int fd = new_file(3);
    char *memory = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    check_that("private contents", memory[0] == 'a' && memory[PAGE] == 'b' && memory[3 * PAGE - 1] == 'c');
    memory[PAGE] = 'X';
    char byte;
    check_long("pread", pread(fd, &byte, 1, PAGE), 1);
    check_long("file unchanged", byte, 'b');
    check_long("madvise dontneed file", result(madvise(memory, 3 * PAGE, MADV_DONTNEED)), 0);
    check_long("private copy dropped", memory[PAGE], 'b');
    char *second = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, PAGE);
    check_long("offset", second[0], 'b');
    check_long("odd offset", result((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 100)), -EINVAL);
    close(fd);
    check_long("outlives close", memory[2 * PAGE], 'c');
    munmap(second, PAGE);
    munmap(memory, 3 * PAGE);
}

static void shared_file(void)
{
    int fd = new_file(2);
    char *one = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *two = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
    one[5] = 'Z';
    check_long("seen by other mapping", two[5], 'Z');
    char byte = 0;
    check_long("pread", pread(fd, &byte, 1, 5), 1);
    check_long("seen by read", byte, 'Z');
    check_long("pwrite", pwrite(fd, "Y", 1, PAGE + 6), 1);
    check_long("write seen by mapping", one[PAGE + 6], 'Y');
    check_long("msync", result(msync(one, 2 * PAGE, MS_SYNC)), 0);
    check_long("ftruncate down", result(ftruncate(fd, PAGE)), 0);
    check_long("beyond the end", try_read(one + PAGE), SIGBUS);
    check_long("within the file", try_read(one), 0);
    check_long("ftruncate up", result(ftruncate(fd, 2 * PAGE)), 0);
    check_long("reads zero", try_read(one + PAGE) ? 99 : one[PAGE + 6], 0);
    check_long("read-only mapping", try_write(two, 1), SIGSEGV);
    munmap(one, 2 * PAGE);
    munmap(two, 2 * PAGE);
    close(fd);
}

static void file_permissions(void)
{
    int fd = open("/proc/self/exe", O_RDONLY);
    if (fd < 0) {
        check_skip("read-only file", "no /proc");
        return;
    }
    char *memory = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    check_that("maps own program", memory != MAP_FAILED && memcmp(memory, "\177ELF", 4) == 0);
    check_long("shared writable refused",
               result((long)mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)), -EACCES);
    check_long("later mprotect refused", result(mprotect(memory, PAGE, PROT_READ | PROT_WRITE)), -EACCES);
    char *copy = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    check_long("private writable", try_write(copy, 'x'), 0);
    check_long("original intact", memory[0], 0x7f);
    munmap(copy, PAGE);
    munmap(memory, PAGE);
    close(fd);
}

/* ---- fork ---- */

static char *forked_private, *forked_shared, *forked_file;

static void fork_child(void)
{
    check_that("child inherits", all_bytes(forked_private, 64 * PAGE, 1));
    for (int page = 0; page < 64; page += 2)
        memset(forked_private + page * PAGE, 2, PAGE);
    for (int page = 0; page < 64; page++)
        require_long("child's own", forked_private[page * PAGE], page % 2 ? 1 : 2);
    forked_shared[0] = 'c';
    forked_file[PAGE] = 'c';
    munmap(forked_private, PAGE);
}

static void fork_isolation(void)
{
    forked_private = map_private(64);
    forked_shared = map(1, PROT_READ | PROT_WRITE, MAP_SHARED);
    int fd = new_file(2);
    forked_file = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    memset(forked_private, 1, 64 * PAGE);
    check_in_child("fork child", fork_child);
    check_that("parent untouched", all_bytes(forked_private, 64 * PAGE, 1));
    check_long("shared across fork", forked_shared[0], 'c');
    check_long("shared file across fork", forked_file[PAGE], 'c');
    close(fd);
}

/* The other direction: what the parent writes after fork stays out of the child's sight. */
static void parent_writes(void)
{
    int go[2];
    char byte = 'g';
    memset(forked_private, 3, 64 * PAGE);
    if (pipe(go) != 0)
        return;
    pid_t child = fork();
    if (child == 0) {
        if (read(go[0], &byte, 1) != 1)
            _exit(2);
        _exit(all_bytes(forked_private, 64 * PAGE, 3) ? 0 : 1);
    }
    memset(forked_private, 4, 64 * PAGE);
    check_long("go", write(go[1], &byte, 1), 1);
    int status = -1;
    waitpid(child, &status, 0);
    check_long("child does not see the parent's writes", status, 0);
    check_that("parent keeps its own", all_bytes(forked_private, 64 * PAGE, 4));
    close(go[0]);
    close(go[1]);
}

/* Three generations share one page; each writes in turn. */
static void generations(void)
{
    char *page = map_private(1);
    page[0] = 1;
    pid_t child = fork();
    if (child == 0) {
        pid_t grandchild = fork();
        if (grandchild == 0) {
            page[0]++;
            _exit(page[0]);
        }
        int status;
        waitpid(grandchild, &status, 0);
        page[0] += 4;
        _exit(page[0] * 16 + WEXITSTATUS(status));
    }
    int status = -1;
    waitpid(child, &status, 0);
    check_long("generations", WEXITSTATUS(status), 5 * 16 + 2);
    check_long("first generation", page[0], 1);
    munmap(page, PAGE);
}

/* ---- brk, stack, maps ---- */

static void program_break(void)
{
    char *start = (char *)syscall(SYS_brk, 0);
    char *grown = (char *)syscall(SYS_brk, start + 3 * PAGE + 5);
    check_that("brk grows", grown == start + 3 * PAGE + 5);
    char *first = (char *)(((uintptr_t)start + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
    check_that("brk memory is zero", all_bytes(first, 3 * PAGE, 0));
    memset(first, 1, 3 * PAGE);
    check_that("brk shrinks", (char *)syscall(SYS_brk, start) == start);
    check_long("brk gives back", try_read(first + PAGE), SIGSEGV);
    check_that("brk refuses", (char *)syscall(SYS_brk, 1) == start);
    check_that("brk grows again", (char *)syscall(SYS_brk, start + 2 * PAGE) == start + 2 * PAGE);
    check_that("brk memory is zero again", all_bytes(first, PAGE, 0));
    syscall(SYS_brk, start);
}

static __attribute__((noinline)) int deep(int levels)
{
    volatile char frame[PAGE];
    frame[0] = (char)levels;
    return levels == 0 ? 0 : deep(levels - 1) + 1 + (frame[0] != (char)levels);
}

static void overflow(void)
{
    signal(SIGSEGV, SIG_DFL);
    check_quiet = deep(100000) != 0;
}

static void stack(void)
{
    check_long("stack grows 4 MiB", deep(1000), 1000);
    struct rlimit limit;
    getrlimit(RLIMIT_STACK, &limit);
    check_long("stack limit", limit.rlim_cur, 8 << 20);
    int status = child_status(overflow);
    check_that("stack overflow", WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

/* Finds the line of /proc/self/maps that holds `address`; returns its permissions in `permissions`. */
static bool maps_entry(const void *address, char *permissions, char *name)
{
    char line[512];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    if (!maps)
        return false;
    while (!found && fgets(line, sizeof line, maps)) {
        unsigned long start, end;
        name[0] = 0;
        if (sscanf(line, "%lx-%lx %4s %*s %*s %*s %255s", &start, &end, permissions, name) < 3)
            check_that("maps line", false);
        found = (uintptr_t)address >= start && (uintptr_t)address < end;
    }
    fclose(maps);
    return found;
}

static void maps(void)
{
    if (access("/proc/self/maps", R_OK) != 0) {
        check_skip("maps", "no /proc");
        return;
    }
    char permissions[8], name[256];
    static int variable = 1;
    void (*function)(void) = maps;
    check_that("maps has the text", maps_entry(*(void **)&function, permissions, name));
    check_text("text permissions", permissions, "r-xp");
    check_that("text has a file", name[0] == '/');
    check_that("maps has the data", maps_entry(&variable, permissions, name));
    check_text("data permissions", permissions, "rw-p");
    check_that("maps has the stack", maps_entry(permissions, permissions, name));
    check_text("stack permissions", permissions, "rw-p");
    check_text("stack name", name, "[stack]");
    char *shared = map(2, PROT_READ, MAP_SHARED);
    check_that("maps has shared memory", maps_entry(shared + PAGE, permissions, name));
    check_text("shared permissions", permissions, "r--s");
    munmap(shared, 2 * PAGE);
    /* The stream's own buffer may be there now. */
    check_that("maps forgets", !maps_entry(shared + PAGE, permissions, name) || strcmp(permissions, "r--s") != 0);
    check_that("no kernel address", !maps_entry((void *)0xffff888000000000, permissions, name));
}

/* Many mappings of alternating protection, so that nothing merges; then all gone at once. */
static void many(void)
{
    enum { COUNT = 1000 };
    char *memory = map(2 * COUNT, PROT_NONE, MAP_PRIVATE);
    for (int i = 0; i < COUNT; i++)
        require_long("mprotect one of many", result(mprotect(memory + 2 * i * PAGE, PAGE, PROT_READ | PROT_WRITE)), 0);
    for (int i = 0; i < COUNT; i++)
        memory[2 * i * PAGE] = (char)i;
    bool good = true;
    for (int i = 0; i < COUNT; i++)
        good &= memory[2 * i * PAGE] == (char)i;
    check_that("many mappings", good);
    check_long("many refuse", try_read(memory + PAGE), SIGSEGV);
    check_long("munmap many", result(munmap(memory, 2 * COUNT * PAGE)), 0);
}

int main(void)
{
    install_handlers();
    anonymous();
    bad_arguments();
    protection();
    advice();
    sparse();
    remap();
    private_file();
    shared_file();
    file_permissions();
    fork_isolation();
    parent_writes();
    generations();
    program_break();
    stack();
    maps();
    many();
    return check_end("memory");
}
