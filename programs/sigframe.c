/*
 * A signal handler's frame: where it is, what is in it, with what the handler begins, and what rt_sigreturn
 * does with it: stack selectors by the strict and the lenient rule, alternate stacks with all their flags,
 * frames of which a part is missing, what is remembered of the last fault. And numbers of system calls, of
 * which EAX alone counts.
 *
 * Sources: sigreturn(2), sigaltstack(2), sigaction(2); Linux's asm/sigcontext.h and asm/ucontext.h.
 */
#include "probe.h"

#include <sched.h>
#include <sys/auxv.h>
#include <sys/mman.h>

enum { PAGE = 4096, USER_CODE = 0x33, USER_CODE_32 = 0x23, USER_DATA = 0x2b, UC_STRICT = 4 };
enum { MAGIC1 = 0x46505853, MAGIC2 = 0x46505845, SOFTWARE = 464, HEADER = 512 };

struct software_bytes {
    uint32_t magic, extended_size;
    uint64_t components;
    uint32_t size, padding[7];
};

/* struct rt_sigframe */
struct frame {
    uint64_t restorer, flags, link;
    stack_t stack;
    uint64_t registers[18];
    uint16_t cs, gs, fs, ss;
    uint64_t error, trap, old_mask, cr2, state, reserved[8], mask;
    unsigned char info[128];
};
_Static_assert(sizeof(struct frame) == 440, "struct rt_sigframe");
enum { FRAME_RSP = 15, FRAME_RIP = 16, FRAME_RFLAGS = 17, FRAME_RAX = 13 };

/* What the handler begins with, before any C code. */
struct entry {
    uint64_t flags, rsp, rax, rdi, rsi, rdx;
    uint32_t mxcsr;
    uint16_t control, cs, ss;
    unsigned char xmm0[16] __attribute__((aligned(16)));
} entry;
_Static_assert(offsetof(struct entry, mxcsr) == 48 && offsetof(struct entry, xmm0) == 64, "entered below");

/* As the kernel has it: musl's wrapper knows fewer flags. */
static int alternate_stack(const stack_t *wanted, stack_t *old)
{
    return syscall(SYS_sigaltstack, wanted, old);
}

static struct {
    volatile sig_atomic_t count;
    int signal, code;
    uint64_t place;
    struct frame frame;
    unsigned char state[PAGE];
    stack_t stack; /* as sigaltstack says in the handler */
    long change;   /* what a change of it gives there */
} seen;

static uint64_t resume_at;
static void (*damage)(struct frame *frame);

void entered(void);
__asm__(".pushsection .text\n"
        "entered:\n"
        "pushfq\n popq entry(%rip)\n"
        "movq %rsp, entry+8(%rip)\n movq %rax, entry+16(%rip)\n movq %rdi, entry+24(%rip)\n"
        "movq %rsi, entry+32(%rip)\n movq %rdx, entry+40(%rip)\n"
        "stmxcsr entry+48(%rip)\n fnstcw entry+52(%rip)\n"
        "movw %cs, entry+54(%rip)\n movw %ss, entry+56(%rip)\n"
        "movups %xmm0, entry+64(%rip)\n"
        "pushfq\n andq $~0x44000, (%rsp)\n popfq\n"
        "jmp handler\n"
        ".popsection\n");

UNUSED __attribute__((used)) static void handler(int signal, siginfo_t *info, void *context)
{
    struct frame *frame = (struct frame *)((char *)context - 8);
    seen.count++;
    seen.signal = signal;
    seen.place = (uint64_t)frame;
    memcpy(&seen.frame, frame, sizeof seen.frame);
    memcpy(&seen.code, seen.frame.info + 8, sizeof seen.code);
    struct software_bytes software;
    memcpy(&software, (char *)frame->state + SOFTWARE, sizeof software);
    if (software.size + 4 <= sizeof seen.state)
        memcpy(seen.state, (void *)frame->state, software.size + 4);
    alternate_stack(NULL, &seen.stack);
    stack_t none = {.ss_flags = SS_DISABLE};
    if (seen.stack.ss_flags & SS_ONSTACK)
        seen.change = result(alternate_stack(&none, NULL));
    if (damage)
        damage(frame);
    else {
        frame->registers[FRAME_RIP] = resume_at;
        frame->registers[FRAME_RFLAGS] &= ~(uint64_t)FLAG_TRAP;
        frame->cs = USER_CODE;
        frame->ss = USER_DATA;
    }
}

/* The kernel's struct sigaction: the C library would add a restorer and take away flags. */
struct kernel_action {
    void *handler;
    uint64_t flags;
    void *restorer;
    uint64_t mask;
};

void restore(void);
__asm__(".pushsection .text\nrestore:\nmovl $15, %eax\nsyscall\nud2\n.popsection\n");

enum { RESTORER = 0x04000000 };

static long set_action(int signal, void *handler, uint64_t flags)
{
    struct kernel_action action = {.handler = handler, .flags = flags, .restorer = restore};
    return result(syscall(SYS_rt_sigaction, signal, &action, NULL, 8));
}

static void handle(uint64_t flags)
{
    const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGUSR1};
    for (size_t i = 0; i < COUNT_OF(signals); i++)
        set_action(signals[i], entered, RESTORER | flags);
    damage = NULL;
    memset(&seen, 0, sizeof seen);
}

static char *pages(size_t count)
{
    return mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

PROBE("undefined", "ud2");
PROBE("flagged", "pushfq\norq %rbx, (%rsp)\npopfq\nud2");
PROBE("state", "movups ones(%rip), %xmm0\nfldcw odd_control(%rip)\nldmxcsr odd_mxcsr(%rip)\nud2\n"
               "state_resume: stmxcsr after_mxcsr(%rip)\nfnstcw after_control(%rip)\nmovups %xmm0, after_xmm0(%rip)\n"
               "fninit\nldmxcsr usual_mxcsr(%rip)\n");
PROBE_SYMBOLS(undefined);
PROBE_SYMBOLS(flagged);
PROBE_SYMBOLS(state);
extern char state_resume[];
extern uint32_t after_mxcsr;
extern uint16_t after_control;
extern unsigned char after_xmm0[16];
__asm__(".pushsection .data\n"
        ".balign 16\n"
        "ones: .fill 16, 1, 0xff\n"
        "after_xmm0: .fill 16, 1, 0\n"
        "odd_mxcsr: .long 0x7f80\n"
        "usual_mxcsr: .long 0x1f80\n"
        "after_mxcsr: .long 0\n"
        "odd_control: .word 0x0f7f\n"
        "after_control: .word 0\n"
        ".popsection\n");

static void run(const char *probe, const char *resume, uint64_t rsp, uint64_t rbx)
{
    struct registers in = probe_pattern(0x77), out;
    in.value[RSP] = rsp;
    in.value[RBX] = rbx;
    seen.count = 0;
    resume_at = (uint64_t)resume;
    run_probe(probe, &in, &out);
}

/* ---- where it is and what is in it ---- */

static uint64_t state_size(void)
{
    struct software_bytes software;
    memcpy(&software, seen.state + SOFTWARE, sizeof software);
    return software.size;
}

/* Linux's arithmetic: red zone, state 64-aligned, frame so that RSP + 8 is 16-aligned. */
static void check_place(const char *name, uint64_t top)
{
    char text[100];
    uint64_t state = (top - state_size() - 4) & ~63ul;
    snprintf(text, sizeof text, "%s: state", name);
    check_that(text, seen.frame.state == state);
    snprintf(text, sizeof text, "%s: frame", name);
    check_that(text, seen.place == ((state - sizeof(struct frame)) & ~15ul) - 8);
}

static void layout(void)
{
    handle(SA_SIGINFO);
    uint64_t stack = (uint64_t)pages(4) + 3 * PAGE;
    for (uint64_t offset = 0; offset < 128; offset += 17) {
        run(probe_undefined, probe_undefined_end, stack + offset, 1);
        check_place("below the red zone", stack + offset - 128);
    }
    check_long("signal", seen.signal, SIGILL);
    check_that("return address", seen.frame.restorer == (uint64_t)restore);
    check_long("uc_flags", (long)seen.frame.flags, 7);
    check_long("uc_link", (long)seen.frame.link, 0);
    check_long("cs", seen.frame.cs, USER_CODE);
    check_long("ss", seen.frame.ss, USER_DATA);
    check_long("fs and gs", seen.frame.fs + seen.frame.gs, 0);
    check_that("siginfo", (uint64_t)entry.rsi == seen.place + 312 && entry.rdx == seen.place + 8);
    check_long("first argument", (long)entry.rdi, SIGILL);
    check_long("rax", (long)entry.rax, 0);
    check_that("rsp", entry.rsp == seen.place);
    check_that("siginfo's end is zero", memcmp(seen.frame.info + 48, (char[80]){0}, 80) == 0);

    struct software_bytes software;
    memcpy(&software, seen.state + SOFTWARE, sizeof software);
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    check_long("first magic", software.magic, MAGIC1);
    check_long("extended size", software.extended_size, software.size + 4);
    check_that("components", software.components == ((uint64_t)high << 32 | low));
    uint32_t magic;
    memcpy(&magic, seen.state + software.size, sizeof magic);
    check_long("second magic", magic, MAGIC2);
    uint64_t header[8];
    memcpy(header, seen.state + HEADER, sizeof header);
    check_long("x87 and SSE are there", (long)(header[0] & 3), 3);
    check_that("the header's rest is zero", memcmp(header + 1, (uint64_t[7]){0}, 56) == 0);
    check_that("a least alternate stack holds it",
               getauxval(AT_MINSIGSTKSZ) >= seen.frame.state + software.size + 4 + 63 - seen.place);

    /* Without SA_SIGINFO siginfo is not written. */
    handle(0);
    memset((void *)(stack - 2 * PAGE), 0x5a, 2 * PAGE);
    run(probe_undefined, probe_undefined_end, stack, 1);
    bool untouched = true;
    for (size_t i = 0; i < sizeof seen.frame.info; i++)
        untouched &= seen.frame.info[i] == 0x5a;
    check_that("no siginfo that nobody asked for", untouched);
}

/* ---- with what the handler begins ---- */

static void beginning(void)
{
    static const uint64_t flags[] = {0, FLAG_DIRECTION, FLAG_ALIGNMENT, FLAG_NESTED, FLAG_ID,
                                     FLAG_DIRECTION | FLAG_ALIGNMENT | FLAG_NESTED | FLAG_ID};
    uint64_t stack = (uint64_t)pages(4) + 3 * PAGE;
    handle(SA_SIGINFO);
    for (size_t i = 0; i < COUNT_OF(flags); i++) {
        run(probe_flagged, probe_flagged_end, stack, flags[i]);
        check_long("saved flags", (long)(seen.frame.registers[FRAME_RFLAGS] & ~(uint64_t)FLAG_RESUME),
                   (long)(FLAGS_PATTERN | flags[i]));
        check_long("the handler's flags", (long)entry.flags,
                   (long)((FLAGS_PATTERN | flags[i]) & ~(uint64_t)FLAG_DIRECTION));
        __asm__ volatile("pushfq\n andq $~0x244400, (%%rsp)\n popfq" ::: "memory", "cc");
    }
    run(probe_state, state_resume, stack, 1);
    check_long("mxcsr is fresh", entry.mxcsr, 0x1f80);
    check_long("control word is fresh", entry.control, 0x37f);
    check_that("xmm0 is fresh", memcmp(entry.xmm0, (char[16]){0}, 16) == 0);
    check_long("mxcsr comes back", after_mxcsr, 0x7f80);
    check_long("control word comes back", after_control, 0xf7f);
    check_that("xmm0 comes back", after_xmm0[0] == 0xff && after_xmm0[15] == 0xff);
    check_long("code segment", entry.cs, USER_CODE);
    check_long("stack segment", entry.ss, USER_DATA);
}

/* ---- selectors ---- */

static uint16_t wanted_cs, wanted_ss;
static bool strict;
static uint64_t low_page; /* UD2 and INT3, below 4 GiB */

static void set_selectors(struct frame *frame)
{
    frame->cs = wanted_cs;
    frame->ss = wanted_ss;
    frame->registers[FRAME_RIP] = low_page;
    frame->flags = strict ? 7 : 3;
    damage = NULL;
}

static void one_selector(uint16_t cs, uint16_t ss, bool is_strict)
{
    wanted_cs = cs;
    wanted_ss = ss;
    strict = is_strict;
    damage = set_selectors;
    run(probe_undefined, probe_undefined_end, 0, 1);
    say("cs %x ss %x %s: signal %d trap %ld error %ld, cs %x ss %x uc_flags %ld, handler's ss %x", cs, ss,
        is_strict ? "strict" : "lenient", seen.signal, (long)seen.frame.trap, (long)seen.frame.error, seen.frame.cs,
        seen.frame.ss, (long)seen.frame.flags, entry.ss);
    check_long("two signals", seen.count, 2);
}

static void selectors(void)
{
    char *page = mmap((void *)0x30000000, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memcpy(page, "\x0f\x0b", 2);
    low_page = (uint64_t)page;
    static char alternate[65536];
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    alternate_stack(&stack, NULL);
    handle(SA_SIGINFO | SA_ONSTACK);
    static const uint16_t codes[] = {USER_CODE, USER_CODE_32, 0x30}, stacks[] = {USER_DATA, 0x28, 0, 3, USER_CODE, 0x18, 0xfffb};
    for (size_t i = 0; i < COUNT_OF(codes); i++)
        for (size_t j = 0; j < COUNT_OF(stacks); j++)
            for (int rule = 0; rule < 2; rule++)
                one_selector(codes[i], stacks[j], rule);
}

/* ---- alternate stacks ---- */

static char *alternate;
enum { ALTERNATE_BYTES = 8 * PAGE };

static long set_stack(uint64_t size, unsigned flags)
{
    stack_t stack = {.ss_sp = alternate, .ss_size = size, .ss_flags = (int)flags};
    return result(alternate_stack(&stack, NULL));
}

static unsigned stack_flags(void)
{
    stack_t stack;
    alternate_stack(NULL, &stack);
    return (unsigned)stack.ss_flags;
}

#define AUTODISARM (1u << 31)

static void alternate_stacks(void)
{
    alternate = pages(ALTERNATE_BYTES / PAGE);
    uint64_t start = (uint64_t)alternate, end = start + ALTERNATE_BYTES;
    static const unsigned flags[] = {0, SS_ONSTACK, AUTODISARM, AUTODISARM | SS_ONSTACK};
    handle(SA_SIGINFO | SA_ONSTACK);
    for (size_t i = 0; i < COUNT_OF(flags); i++) {
        set_stack(0, SS_DISABLE);
        check_long("set", set_stack(ALTERNATE_BYTES, flags[i]), 0);
        check_long("flags as told", stack_flags(), flags[i] & AUTODISARM);
        run(probe_undefined, probe_undefined_end, 0, 1);
        check_place("at its end", end);
        check_long("flags in uc_stack", (unsigned)seen.frame.stack.ss_flags, flags[i]);
        check_that("uc_stack", seen.frame.stack.ss_sp == alternate && seen.frame.stack.ss_size == ALTERNATE_BYTES);
        check_long("flags in the handler", (unsigned)seen.stack.ss_flags, flags[i] & AUTODISARM ? SS_DISABLE : SS_ONSTACK);
        check_long("a change in the handler", flags[i] & AUTODISARM ? 0 : seen.change, flags[i] & AUTODISARM ? 0 : -EPERM);
        check_long("armed again", stack_flags(), flags[i] & AUTODISARM);
    }
    set_stack(0, SS_DISABLE);
    set_stack(ALTERNATE_BYTES, 0);
    run(probe_undefined, probe_undefined_end, end - PAGE, 1);
    check_place("nested", end - PAGE - 128);
    run(probe_undefined, probe_undefined_end, end, 1);
    check_place("its very end is on it", end - 128);
    run(probe_undefined, probe_undefined_end, start, 1);
    check_place("its very start is not", end);
}

/* Begun at the end again, because RSP without the red zone is below it; but what is on it must not be. */
static void red_zone(void)
{
    run(probe_undefined, probe_undefined_end, (uint64_t)alternate + 100, 1);
    check_place("anew within the red zone", (uint64_t)alternate + ALTERNATE_BYTES);
    _exit(check_failures);
}

static void overflow(void)
{
    run(probe_undefined, probe_undefined_end, (uint64_t)alternate + 600, 1);
}

static int thread_flags;

static int in_thread(void *unused)
{
    thread_flags = (int)stack_flags();
    return 0;
}

static void more_alternate_stacks(void)
{
    check_long("red zone", child_status(red_zone), 0);
    check_long("overflow", child_status(overflow) & 0x7f, SIGSEGV);
    set_stack(0, SS_DISABLE);
    check_long("too small", set_stack(2047, 0), -ENOMEM);
    check_long("least", set_stack(2048, 0), 0);
    check_long("unknown flag", set_stack(ALTERNATE_BYTES, 4), -EINVAL);
    check_long("both modes", set_stack(ALTERNATE_BYTES, SS_ONSTACK | SS_DISABLE), -EINVAL);
    check_long("disabled and disarmed", set_stack(ALTERNATE_BYTES, SS_DISABLE | AUTODISARM), 0);
    check_long("both flags", stack_flags(), SS_DISABLE | AUTODISARM);
    check_long("bad address", result(syscall(SYS_sigaltstack, 8, NULL)), -EFAULT);
    check_long("bad old address", result(syscall(SYS_sigaltstack, NULL, 8)), -EFAULT);
    set_stack(ALTERNATE_BYTES, 0);
    char *stack = pages(4);
    pid_t thread = clone(in_thread, stack + 4 * PAGE, CLONE_VM | SIGCHLD, NULL);
    waitpid(thread, NULL, 0);
    check_long("none for a new one in the same memory", thread_flags, SS_DISABLE);
    thread = clone(in_thread, stack + 4 * PAGE, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
    waitpid(thread, NULL, 0);
    check_long("the same after vfork", thread_flags, 0);
    set_stack(0, SS_DISABLE);
}

/* ---- sigaction ---- */

static void no_restorer(void)
{
    struct kernel_action action = {.handler = entered};
    signal(SIGSEGV, SIG_DFL);
    syscall(SYS_rt_sigaction, SIGUSR1, &action, NULL, 8);
    kill(getpid(), SIGUSR1);
}

static void actions(void)
{
    struct kernel_action now = {0}, all = {.handler = entered, .flags = UINT64_MAX, .restorer = restore, .mask = UINT64_MAX};
    check_long("every flag", result(syscall(SYS_rt_sigaction, SIGUSR1, &all, NULL, 8)), 0);
    syscall(SYS_rt_sigaction, SIGUSR1, NULL, &now, 8);
    check_that("known flags stay", now.flags == 0xdc000807);
    check_that("SIGKILL and SIGSTOP are never blocked", now.mask == ~(1ul << (SIGKILL - 1) | 1ul << (SIGSTOP - 1)));
    check_long("a bad address comes before a bad number", result(syscall(SYS_rt_sigaction, 65, 8, NULL, 8)), -EFAULT);
    check_long("a bad size comes before all", result(syscall(SYS_rt_sigaction, 65, 8, NULL, 4)), -EINVAL);
    check_long("no restorer", child_status(no_restorer) & 0x7f, SIGSEGV);
}

/* ---- what is remembered of the last fault ---- */

PROBE("read", "movb (%rbx), %al");
PROBE("divide", "xorl %edx, %edx\nxorl %ecx, %ecx\nmovl $1, %eax\ndivl %ecx");
PROBE_SYMBOLS(read);
PROBE_SYMBOLS(divide);

static void remembered_in_child(void)
{
    kill(getpid(), SIGUSR1);
    check_long("a child remembers its parent's fault: cr2", (long)seen.frame.cr2, 0x123456);
    check_long("trap", (long)seen.frame.trap, 0);
}

static void memory(void)
{
    handle(SA_SIGINFO);
    run(probe_read, probe_read_end, 0, 0x123456);
    check_long("page fault: cr2", (long)seen.frame.cr2, 0x123456);
    check_long("trap", (long)seen.frame.trap, 14);
    check_long("error", (long)seen.frame.error, 4);
    resume_at = 0;
    damage = NULL;
    run(probe_divide, probe_divide_end, 0, 0);
    check_long("division: cr2", (long)seen.frame.cr2, 0x123456);
    check_long("trap", (long)seen.frame.trap, 0);
    check_long("error", (long)seen.frame.error, 0);
    run(probe_undefined, probe_undefined_end, 0, 0);
    check_long("undefined: trap", (long)seen.frame.trap, 6);
    run(probe_divide, probe_divide_end, 0, 0);
}

static void keep(struct frame *frame)
{
}

static void by_kill(void)
{
    damage = keep;
    kill(getpid(), SIGUSR1);
    check_long("kill: cr2", (long)seen.frame.cr2, 0x123456);
    check_long("trap", (long)seen.frame.trap, 0);
    check_in_child("remembered in a child", remembered_in_child);
}

/* ---- frames of which a part is missing ---- */

PROBE("sigreturn", "movl $15, %eax\nsyscall");
PROBE_SYMBOLS(sigreturn);

static void missing(void)
{
    static char stack_memory[65536];
    stack_t stack = {.ss_sp = stack_memory, .ss_size = sizeof stack_memory};
    char *two = pages(2);
    munmap(two, PAGE);
    two += PAGE;
    handle(SA_SIGINFO | SA_ONSTACK);
    const uint64_t mask = 1ul << (SIGUSR2 - 1) | 1ul << (SIGKILL - 1);
    static const uint64_t lengths[] = {136, 144, 264, 304, 312};
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        /* So many bytes of the frame's first 312 are there. */
        struct frame *frame = (struct frame *)(two + lengths[i] - 312);
        alternate_stack(&stack, NULL);
        memset(two, 0, PAGE);
        frame->mask = mask;
        run(probe_sigreturn, probe_sigreturn_end, (uint64_t)frame + 8, 0);
        check_long("signal", seen.signal, SIGSEGV);
        check_long("code", seen.code, SI_KERNEL);
        check_long("rax", (long)seen.frame.registers[FRAME_RAX], 0);
        /* uc_flags is at byte 8 of 312. */
        bool flags_there = lengths[i] >= 304;
        check_that("mask", seen.frame.mask == (flags_there ? 1ul << (SIGUSR2 - 1) : 0));
        bool registers = seen.frame.registers[FRAME_RIP] != (uint64_t)probe_sigreturn_end;
        check_long("registers were read", registers, flags_there);
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
    }
    stack.ss_flags = SS_DISABLE;
    alternate_stack(&stack, NULL);
}

/* ---- numbers of calls ---- */

static long call(uint64_t number)
{
    long value;
    __asm__ volatile("syscall" : "=a"(value) : "0"(number) : "rcx", "r11", "memory");
    return value;
}

static void numbers(void)
{
    long parent = getppid();
    check_long("plain", call(SYS_getppid), parent);
    check_long("upper half set", call(0xffffffff00000000 | SYS_getppid), parent);
    check_long("upper half odd", call(0x1234567800000000 | SYS_getppid), parent);
    check_long("x32's bit", call(0x40000000 | SYS_getppid), -ENOSYS);
    check_long("bit 31", call(0x80000000 | SYS_getppid), -ENOSYS);
    check_long("-1", call(UINT64_MAX), -ENOSYS);
    check_long("-1, 32 bits", call(UINT32_MAX), -ENOSYS);
    check_long("beyond", call(100000), -ENOSYS);
    check_long("nothing to restart", call(SYS_restart_syscall), -EINTR);
}

int main(void)
{
    layout();
    beginning();
    selectors();
    alternate_stacks();
    more_alternate_stacks();
    actions();
    memory();
    by_kill();
    missing();
    numbers();
    return check_end("sigframe");
}
