/*
 * The LDT as a table: what may get in, what modify_ldt says, what LAR and LSL say, who shares it, who
 * inherits it, and that ring 3 cannot reach it. `segments` runs on what is in there.
 *
 *      ldt             the checks
 *      ldt stay        makes an LDT of two pages, prints READY and stays in ring 3, to be looked at from
 *                      outside; so does a child, without one
 *      ldt leave       as `stay`, but the LDT was another child's, which has ended
 */
#include "segment.h"

#include <sched.h>
#include <sys/ucontext.h>

/* Rights of a present flat data segment of ring 3, as LAR gives them. */
#define RIGHTS_DATA 0xc0f300
#define RIGHTS_CODE 0xc0fb00

static uint8_t bytes[MOST_ENTRIES * 8 + 16];

/* SLDT, which UMIP leaves to the kernel. */
static uint32_t table_selector(void)
{
    uint32_t selector;
    __asm__ volatile("sldt %0" : "=r"(selector));
    return selector;
}

static void an_empty_table(void)
{
    check_long("SLDT gives no selector", table_selector(), 0);
    check_long("there is no LDT at first", modify_ldt(READ, bytes, sizeof bytes), 0);
    check_long("and nothing is at its place", rights_of(of_ldt(0)), -1);
    memset(bytes, 0xff, sizeof bytes);
    check_long("the default one has 128 bytes", modify_ldt(READ_DEFAULT, bytes, sizeof bytes), 128);
    bool zeros = bytes[128] == 0xff;
    for (int index = 0; index < 128; index++)
        zeros &= bytes[index] == 0;
    check_that("all zeros", zeros);
    check_long("of which less can be read", modify_ldt(READ_DEFAULT, bytes, 5), 5);
    check_long("to where memory is", modify_ldt(READ_DEFAULT, (void *)8, 5), failure(EFAULT));
}

static void refusals(void)
{
    struct segment segment = flat(0, DATA);
    check_long("a function that is none", modify_ldt(3, &segment, sizeof segment), failure(ENOSYS));
    check_long("a size that is none", modify_ldt(WRITE, &segment, 15), failure(EINVAL));
    check_long("and in the old form", modify_ldt(WRITE_OLD, &segment, 0), failure(EINVAL));
    check_long("a bad address", modify_ldt(WRITE, (void *)8, sizeof segment), failure(EFAULT));
    check_long("an entry that is none", set_entry(flat(MOST_ENTRIES, DATA)), failure(EINVAL));
    check_long("present conforming code", set_entry(flat(0, CONFORMING)), failure(EINVAL));
    segment.kind = CONFORMING;
    segment.not_present = 1;
    check_long("conforming code in the old form", modify_ldt(WRITE_OLD, &segment, sizeof segment),
               failure(EINVAL));
    check_long("none of which made an LDT", modify_ldt(READ, bytes, sizeof bytes), 0);
}

static uint64_t entry(int number)
{
    uint64_t value = 0;
    modify_ldt(READ, bytes, sizeof bytes);
    memcpy(&value, bytes + number * 8, sizeof value);
    return value;
}

static void descriptors(void)
{
    check_long("the first entry", set_entry(flat(0, DATA)), 0);
    check_long("gives SLDT a selector", table_selector(), 0x50);
    check_long("is all of the table", modify_ldt(READ, bytes, sizeof bytes), MOST_ENTRIES * 8);
    check_long("with its bits", (long)entry(0), 0x00cff3000000ffff);
    check_long("less can be read", modify_ldt(READ, bytes, 3), 3);
    check_long("where memory is", modify_ldt(READ, (void *)8, 8), failure(EFAULT));
    check_long("its rights", rights_of(of_ldt(0)), RIGHTS_DATA);
    check_long("its limit", limit_of(of_ldt(0)), 0xffffffff);
    check_long("another entry, far behind", set_entry(flat(700, CODE)), 0);
    check_long("has its rights", rights_of(of_ldt(700)), RIGHTS_CODE);
    check_long("the first one is still there", rights_of(of_ldt(0)), RIGHTS_DATA);
    check_long("between them there is nothing", rights_of(of_ldt(699)), -1);
    check_long("nor behind them", rights_of(of_ldt(701)), -1);

    struct segment segment = {.number = 1, .base = 0x12345678, .limit = 0x123456, .useable = 1, .lm = 1};
    check_long("no bit is lost but the one for 64-bit code", set_entry(segment), 0);
    check_long("as one sees", (long)entry(1), 0x1212f33456783456);
    check_long("the old form does not know `useable`", modify_ldt(WRITE_OLD, &segment, 16), 0);
    check_long("as one sees", (long)entry(1), 0x1202f33456783456);
    for (uint32_t kind = DATA; kind <= CONFORMING; kind++) {
        struct segment absent = flat(2, kind);
        absent.not_present = absent.read_exec_only = 1;
        require_long("an absent segment", set_entry(absent), 0);
        require_long("has rights", rights_of(of_ldt(2)), 0xc07100 + kind * 0x400);
    }
    struct segment small = {.number = 3, .limit = 42, .wide = 1, .kind = EXPAND_DOWN};
    require_long("a small segment", set_entry(small), 0);
    check_long("a limit in bytes", limit_of(of_ldt(3)), 42);
    check_long("expand-down data", rights_of(of_ldt(3)), 0x40f700);
}

static void clearing(void)
{
    struct segment zeros = {.number = 0};
    check_long("zeros are a segment to the new form", set_entry(zeros), 0);
    check_long("of 16 bits", rights_of(of_ldt(0)), 0xf300);
    check_long("and none to the old form", modify_ldt(WRITE_OLD, &zeros, sizeof zeros), 0);
    check_long("which is gone", rights_of(of_ldt(0)), -1);
    require_long("put it back", set_entry(flat(0, DATA)), 0);
    check_long("nothing is none to both", set_entry(none(0)), 0);
    check_long("which is gone", rights_of(of_ldt(0)), -1);
    check_long("the table is as long as ever", modify_ldt(READ, bytes, sizeof bytes), MOST_ENTRIES * 8);
    check_long("its last entry", set_entry(flat(MOST_ENTRIES - 1, DATA)), 0);
    check_long("can be set", rights_of(of_ldt(MOST_ENTRIES - 1)), RIGHTS_DATA);
    for (uint32_t number = 0; number < 3000; number += 7)
        require_long("many entries", set_entry(flat(number, number % 2 ? DATA : CODE)), 0);
    bool all = true;
    for (uint32_t number = 0; number < 3000; number++) {
        long expected = number % 7 ? -1 : number % 2 ? RIGHTS_DATA : RIGHTS_CODE;
        if (number != 1 && number != 2 && number != 3 && number != 700)
            all &= rights_of(of_ldt(number)) == expected;
    }
    check_that("are all there after many changes", all);
}

/* A pipe for each direction, so that parent and child take turns. */
static int to_child[2], to_parent[2];

static void turn(int *go, int *come)
{
    char byte = 0;
    if (write(go[1], &byte, 1) != 1 || read(come[0], &byte, 1) != 1)
        _exit(99);
}

static void stranger(void)
{
    char byte;
    if (read(to_child[0], &byte, 1) != 1)
        _exit(99);
    check_long("another process has no LDT", modify_ldt(READ, bytes, sizeof bytes), 0);
    check_long("and sees no entry", rights_of(of_ldt(MOST_ENTRIES - 1)), -1);
    _exit(check_failures);
}

static void copied(void)
{
    check_long("a child has a copy", rights_of(of_ldt(700)), RIGHTS_CODE);
    check_long("and may change it", set_entry(none(700)), 0);
    turn(to_parent, to_child);
    check_long("what the parent changes is the parent's", rights_of(of_ldt(5)), -1);
    _exit(check_failures);
}

static void finish(pid_t child, const char *name)
{
    int status = -1;
    waitpid(child, &status, 0);
    check_long(name, status, 0);
}

static void forks(void)
{
    pid_t child = fork();
    if (child == 0)
        copied();
    char byte;
    check_that("the child takes its turn", read(to_parent[0], &byte, 1) == 1);
    check_long("what a child changes is the child's", rights_of(of_ldt(700)), RIGHTS_CODE);
    require_long("the parent's entry", set_entry(flat(5, DATA)), 0);
    if (write(to_child[1], &byte, 1) != 1)
        _exit(99);
    finish(child, "the child agrees");
}

static int shares(void *nothing)
{
    (void)nothing;
    return set_entry(flat(11, CODE)) != 0 || rights_of(of_ldt(5)) != RIGHTS_DATA;
}

static void threads(void)
{
    static char stack[65536] __attribute__((aligned(16)));
    for (int round = 0; round < 2; round++) {
        require_long("no entry yet", set_entry(none(11)), 0);
        int flags = round ? CLONE_VM | CLONE_VFORK | SIGCHLD : CLONE_VM | SIGCHLD;
        pid_t child = clone(shares, stack + sizeof stack, flags, NULL);
        finish(child, round ? "a vfork child shares it" : "whoever shares memory shares it");
        check_long("and changes it for both", rights_of(of_ldt(11)), RIGHTS_CODE);
    }
}

static const char *self;

static void execs(void)
{
    char *arguments[] = {(char *)"ldt", (char *)"after-exec", NULL}, *environment[] = {NULL};
    execve(self, arguments, environment);
    say("FAIL exec: cannot run %s", self);
    _exit(1);
}

static int after_exec(void)
{
    return modify_ldt(READ, bytes, sizeof bytes) != 0 || rights_of(of_ldt(700)) != -1;
}

static struct {
    volatile sig_atomic_t count;
    int signal, code;
    long trap, error;
} seen;

extern char resume[];

static void handler(int signal, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    seen.count++;
    seen.signal = signal;
    seen.code = info->si_code;
    seen.trap = uc->uc_mcontext.gregs[REG_TRAPNO];
    seen.error = uc->uc_mcontext.gregs[REG_ERR];
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)resume;
}

/* Loads a selector into ES, or reads an address if the selector is 0; a fault is as good as done. */
__attribute__((noinline)) static void try_it(uint32_t selector, const void *address)
{
    __asm__ volatile("test %0, %0\n\tjz 1f\n\tmov %0, %%es\n\tjmp resume\n1:\tmov (%1), %%al\n"
                     ".globl resume\nresume:"
                     :
                     : "r"(selector), "r"(address)
                     : "rax", "memory");
}

static void fault(const char *name, uint32_t selector, int signal, long trap, long error)
{
    char text[96];
    seen.count = 0;
    try_it(selector, NULL);
    snprintf(text, sizeof text, "%s: a signal", name);
    check_long(text, seen.count ? seen.signal : 0, signal);
    snprintf(text, sizeof text, "%s: the trap", name);
    check_long(text, seen.trap, trap);
    snprintf(text, sizeof text, "%s: the error code", name);
    check_long(text, seen.error, error);
    check_long("sent by the kernel", seen.code, SI_KERNEL);
}

static void faults(void)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    for (int signal = SIGBUS; signal <= SIGSEGV; signal++)
        sigaction(signal, &action, NULL);
    enum { GENERAL_PROTECTION = 13, NOT_PRESENT = 11 };
    struct segment absent = flat(20, DATA), code = flat(21, CODE);
    absent.not_present = code.read_exec_only = 1;
    require_long("an absent segment", set_entry(absent), 0);
    require_long("code that cannot be read", set_entry(code), 0);
    fault("a segment that is not present", of_ldt(20), SIGBUS, NOT_PRESENT, of_ldt(20) & ~3);
    fault("code in ES", of_ldt(21), SIGSEGV, GENERAL_PROTECTION, of_ldt(21) & ~3);
    fault("an empty entry", of_ldt(22), SIGSEGV, GENERAL_PROTECTION, of_ldt(22) & ~3);
    fault("the LDT's own entry", of_gdt(10), SIGSEGV, GENERAL_PROTECTION, of_gdt(10) & ~3);
    /* Where Linux has LDTs, and here and there in the slot that Ringwall has them in. */
    static const uint64_t places[] = {0xffff880000000000, 0xffffff7fc0000000, 0xffffff7fc0020000,
                                      0xffffff0000000ff0};
    for (size_t index = 0; index < COUNT_OF(places); index++) {
        seen.count = 0;
        try_it(0, (const void *)places[index]);
        check_that("ring 3 cannot read where an LDT is", seen.count && seen.signal == SIGSEGV);
    }
}

static void loaded_selectors(void)
{
    require_long("an entry", set_entry(flat(30, DATA)), 0);
    set_ds(of_ldt(30));
    set_es(of_ldt(30));
    sched_yield();
    check_long("DS keeps its selector", get_ds(), of_ldt(30));
    require_long("the entry is changed", set_entry(flat(30, EXPAND_DOWN)), 0);
    check_long("and ES too", get_es(), of_ldt(30));
    require_long("the entry is cleared", set_entry(none(30)), 0);
    check_long("DS goes with its descriptor", get_ds(), 0);
    check_long("and so does ES", get_es(), 0);

    uint32_t *word = low_memory(4096);
    *word = 0x1234;
    struct segment small = {.number = 31, .base = (uint32_t)(uintptr_t)word, .limit = 4095, .wide = 1};
    require_long("a small segment", set_entry(small), 0);
    set_gs(of_ldt(31));
    uint32_t value = 0;
    __asm__ volatile("mov %%gs:0, %0" : "=r"(value));
    check_long("GS has its segment's base", value, 0x1234);
    pid_t child = fork();
    if (child == 0) {
        __asm__ volatile("mov %%gs:0, %0" : "=r"(value));
        _exit(get_gs() != of_ldt(31) || value != 0x1234);
    }
    finish(child, "and a child has it as well");
    check_long("it stays over switches", get_gs(), of_ldt(31));
    set_gs(0);
}

static int stay(bool own)
{
    pid_t child = own ? 0 : fork();
    if (!own && child == 0)
        _exit(set_entry(flat(700, DATA)) != 0);
    if (!own)
        finish(child, "a child's LDT");
    /* The child has none, whether it was made before or after. */
    if (fork() != 0) {
        if (own && set_entry(flat(700, DATA)) != 0)
            return 1;
        say("READY");
    }
    for (volatile unsigned long count = 0;; count++)
        ;
}

int main(int count, char **arguments)
{
    if (count > 1 && strcmp(arguments[1], "after-exec") == 0)
        return after_exec();
    if (count > 1)
        return stay(strcmp(arguments[1], "stay") == 0);
    self = access(arguments[0], X_OK) == 0 && arguments[0][0] == '/' ? arguments[0] : "/proc/self/exe";
    if (pipe(to_child) || pipe(to_parent))
        return 1;
    pid_t other = fork();
    if (other == 0)
        stranger();
    an_empty_table();
    refusals();
    descriptors();
    clearing();
    if (write(to_child[1], "", 1) != 1)
        return 1;
    finish(other, "it agrees");
    forks();
    threads();
    faults();
    loaded_selectors();
    check_long("exec begins without one", child_status(execs), 0);
    check_long("which is no matter of the parent's", rights_of(of_ldt(11)), RIGHTS_CODE);
    return check_end("ldt");
}
