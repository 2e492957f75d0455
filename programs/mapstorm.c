/*
 * Random sequences of mmap, munmap, mprotect, mremap, madvise, writes and fork on a window of addresses,
 * checked after each step against a model that knows what every page must show. The seed is fixed, so
 * every run does the same.
 *
 * The model: each page of the window is unmapped, or has rights and the object it shows: its own memory
 * (private), or a page of one of two shared memory files (or a private copy of it). A page's content is
 * one number, at its start and at its end. Linux man-pages: mmap(2), mprotect(2), mremap(2), madvise(2).
 */
#include "random.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sys/mman.h>

enum { PAGE = 4096, WINDOW = 96, FILES = 2, FILE_PAGES = 32, STEPS = 6000, FORK_EVERY = 150 };

enum kind { NOTHING, PRIVATE, FILE_PRIVATE, FILE_SHARED };

struct page {
    enum kind kind;
    int protection;
    int file, index; /* of the file's page */
    bool own;        /* FILE_PRIVATE: copied */
    bool left_out;   /* MADV_DONTFORK */
    bool wiped;      /* MADV_WIPEONFORK */
    uint64_t value;  /* PRIVATE, or own */
};

static struct page model[WINDOW];
static uint64_t content[FILES][FILE_PAGES];
static int files[FILES];
static char *window;
static int step;

static sigjmp_buf after_fault;
static void on_fault(int number)
{
    siglongjmp(after_fault, number);
}

static volatile uint64_t *word(int page, bool last)
{
    return (volatile uint64_t *)(window + (size_t)page * PAGE + (last ? PAGE - 8 : 0));
}

static uint64_t expected(int page)
{
    const struct page *it = &model[page];
    return it->kind == PRIVATE || it->own ? it->value : content[it->file][it->index];
}

static void wrong(const char *what, int page, uint64_t got, uint64_t wanted)
{
    check_failures++;
    if (check_failures < 20)
        say("FAIL step %d page %d: %s: expected %#lx got %#lx", step, page, what, (long)wanted, (long)got);
}

/* 0, or the signal that reading ends with. */
static int try_read(int page, bool last, uint64_t *value)
{
    int number = sigsetjmp(after_fault, 1);
    if (number == 0)
        *value = *word(page, last);
    return number;
}

static int try_write(int page, uint64_t value)
{
    int number = sigsetjmp(after_fault, 1);
    if (number == 0) {
        *word(page, false) = value;
        *word(page, true) = value;
    }
    return number;
}

static void look(int page)
{
    const struct page *it = &model[page];
    bool readable = it->kind != NOTHING && it->protection != PROT_NONE;
    uint64_t got = 0;
    int number = try_read(page, pick(2), &got);
    if (number != (readable ? 0 : SIGSEGV))
        wrong("signal of a read", page, (uint64_t)number, readable ? 0 : SIGSEGV);
    else if (readable && got != expected(page))
        wrong("content", page, got, expected(page));
}

static void store(int page)
{
    struct page *it = &model[page];
    uint64_t value = ((uint64_t)step << 16 | (unsigned)page << 1) + 1;
    bool writable = it->kind != NOTHING && (it->protection & PROT_WRITE);
    int number = try_write(page, value);
    if (number != (writable ? 0 : SIGSEGV)) {
        wrong("signal of a write", page, (uint64_t)number, writable ? 0 : SIGSEGV);
    } else if (writable && it->kind == FILE_SHARED) {
        content[it->file][it->index] = value;
    } else if (writable) {
        it->own = it->kind == FILE_PRIVATE;
        it->value = value;
    }
}

static void look_at_all(void)
{
    for (int page = 0; page < WINDOW; page++)
        look(page);
}

static int random_rights(void)
{
    static const int rights[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE,
                                 PROT_READ | PROT_EXEC};
    return rights[pick(COUNT_OF(rights))];
}

static void map(int first, int count)
{
    enum kind kind = PRIVATE + pick(3);
    int protection = random_rights(), file = (int)pick(FILES), index = 0;
    int flags = MAP_FIXED | (kind == FILE_SHARED ? MAP_SHARED : MAP_PRIVATE);
    if (kind == PRIVATE)
        flags |= MAP_ANONYMOUS;
    else if (count > FILE_PAGES)
        count = FILE_PAGES;
    if (kind != PRIVATE)
        index = (int)pick((unsigned)(FILE_PAGES - count + 1));
    if (pick(4) == 0)
        flags |= MAP_POPULATE;
    void *got = mmap(window + (size_t)first * PAGE, (size_t)count * PAGE, protection, flags,
                     kind == PRIVATE ? -1 : files[file], (off_t)index * PAGE);
    require_long("mmap", (long)got, (long)(window + (size_t)first * PAGE));
    /* What is made present for writing is copied at once. */
    bool own = kind == FILE_PRIVATE && (flags & MAP_POPULATE) && (protection & PROT_WRITE);
    for (int page = 0; page < count; page++) {
        uint64_t value = own ? content[file][index + page] : 0;
        model[first + page] = (struct page){kind, protection, file, index + page, own, false, false, value};
    }
}

static void unmap(int first, int count)
{
    require_long("munmap", munmap(window + (size_t)first * PAGE, (size_t)count * PAGE), 0);
    memset(model + first, 0, (size_t)count * sizeof model[0]);
}

static int mapped(int first, int count)
{
    int pages = 0;
    while (pages < count && model[first + pages].kind != NOTHING)
        pages++;
    return pages;
}

static void protect(int first, int count)
{
    int protection = random_rights(), reach = mapped(first, count);
    long got = result(mprotect(window + (size_t)first * PAGE, (size_t)count * PAGE, protection));
    require_long("mprotect", got, reach == count ? 0 : -ENOMEM);
    /* What comes before the first hole is changed. */
    for (int page = first; page < first + reach; page++)
        model[page].protection = protection;
}

/* Whether all of the range was mapped as one piece, which is what mremap takes. */
static bool one_piece(int first, int count)
{
    const struct page *start = &model[first];
    for (int page = 0; page < count; page++) {
        const struct page *it = &model[first + page];
        if (it->kind == NOTHING || it->kind != start->kind || it->protection != start->protection ||
            it->left_out != start->left_out || it->wiped != start->wiped)
            return false;
        if (it->kind != PRIVATE && (it->file != start->file || it->index != start->index + page))
            return false;
    }
    return true;
}

/* Moves inside the window, to a place that does not overlap. Sizes only shrink. */
static void move(int first, int count)
{
    int target = (int)pick(WINDOW), left = 1 + (int)pick((unsigned)count);
    if (target + left > WINDOW || !one_piece(first, count) ||
        (target < first + count && first < target + left))
        return;
    char *from = window + (size_t)first * PAGE, *to = window + (size_t)target * PAGE;
    void *got = mremap(from, (size_t)count * PAGE, (size_t)left * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    if (got == MAP_FAILED && errno == EFAULT) {
        /* Two mappings that look as one here need not be one there. What goes is gone by then. */
        memset(model + target, 0, (size_t)left * sizeof model[0]);
        memset(model + first + left, 0, (size_t)(count - left) * sizeof model[0]);
        return;
    }
    require_long("mremap", (long)got, (long)to);
    memcpy(model + target, model + first, (size_t)left * sizeof model[0]);
    memset(model + first, 0, (size_t)count * sizeof model[0]);
}

static void forget(int first, int count)
{
    int reach = mapped(first, count);
    long got = result(madvise(window + (size_t)first * PAGE, (size_t)count * PAGE, MADV_DONTNEED));
    require_long("MADV_DONTNEED", got, reach == count ? 0 : -ENOMEM);
    /* Here also what comes after a hole. */
    for (int page = first; page < first + count; page++) {
        model[page].own = false;
        model[page].value = 0;
    }
}

static void mark(int first, int count)
{
    static const int advices[] = {MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK, MADV_KEEPONFORK};
    int advice = advices[pick(COUNT_OF(advices))];
    if (mapped(first, count) != count)
        return;
    for (int page = first; page < first + count; page++)
        if (model[page].kind != PRIVATE && advice == MADV_WIPEONFORK)
            return;
    require_long("madvise", madvise(window + (size_t)first * PAGE, (size_t)count * PAGE, advice), 0);
    for (int page = first; page < first + count; page++) {
        if (advice == MADV_DONTFORK || advice == MADV_DOFORK)
            model[page].left_out = advice == MADV_DONTFORK;
        else
            model[page].wiped = advice == MADV_WIPEONFORK;
    }
}

/* A child sees what the parent had, writes to it, and leaves the parent's private memory alone. */
static void split(void)
{
    pid_t child = fork();
    if (child == 0) {
        check_failures = 0;
        for (int page = 0; page < WINDOW; page++) {
            if (model[page].left_out)
                memset(&model[page], 0, sizeof model[page]);
            else if (model[page].wiped)
                model[page].value = 0;
        }
        look_at_all();
        for (int page = 0; page < WINDOW; page++)
            if (model[page].kind != FILE_SHARED)
                store(page);
        look_at_all();
        _exit(check_failures > 99 ? 99 : check_failures);
    }
    /* The parent writes before the child does, or after: both must be right. */
    for (int page = 0; page < WINDOW; page++)
        if (model[page].kind != FILE_SHARED && pick(2))
            store(page);
    int status = -1;
    waitpid(child, &status, 0);
    if (status != 0)
        wrong("status of a child", 0, (uint64_t)status, 0);
}

static void file_write(void)
{
    int file = (int)pick(FILES), index = (int)pick(FILE_PAGES);
    uint64_t value = (uint64_t)step << 16 | 0x8000;
    off_t start = (off_t)index * PAGE;
    if (pick(3) == 0) {
        value = 0;
        require_long("punch a hole", fallocate(files[file], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, PAGE), 0);
    } else {
        require_long("pwrite", pwrite(files[file], &value, 8, start), 8);
        require_long("pwrite", pwrite(files[file], &value, 8, start + PAGE - 8), 8);
    }
    content[file][index] = value;
}

int main(void)
{
    struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    for (int file = 0; file < FILES; file++) {
        files[file] = memfd_create("storm", 0);
        require_long("ftruncate", ftruncate(files[file], FILE_PAGES * PAGE), 0);
    }
    /* In the middle of a 2 MiB block and across its end: page tables come and go too. */
    char *room = mmap(NULL, 8 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    munmap(room, 8 << 20);
    window = (char *)(((uintptr_t)room + (4 << 20)) & ~(uintptr_t)((2 << 20) - 1)) - WINDOW / 2 * PAGE;
    for (step = 1; step <= STEPS && check_failures < 20; step++) {
        int first = (int)pick(WINDOW), count = 1 + (int)pick(1 + pick((unsigned)(WINDOW - first)));
        switch (pick(10)) {
        case 0: case 1: map(first, count); break;
        case 2: unmap(first, count); break;
        case 3: protect(first, count); break;
        case 4: move(first, count); break;
        case 5: forget(first, count); break;
        case 6: mark(first, count); break;
        case 7: file_write(); break;
        default: for (int page = first; page < first + count; page++) store(page); break;
        }
        if (step % FORK_EVERY == 0)
            split();
        if (step % 4 == 0)
            look_at_all();
        else
            look((int)pick(WINDOW));
    }
    return check_end("mapstorm");
}
