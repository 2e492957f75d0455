/*
 * The entries that 64-bit programs have no use for: SYSENTER, and SYSCALL and INT 80h from 32-bit code
 * segments, of the GDT and of the LDT.
 *
 * SYSENTER is #UD on AMD's CPUs; on Intel's it reaches the kernel, which does not learn where it came from:
 * no 64-bit program gets back, so it ends in a signal. SYSCALL from 32-bit code is #UD on Intel's CPUs; on
 * AMD's an unknown number gives -ENOSYS, after which Linux leads to its vDSO, which is too far for 32-bit
 * code, and others back to our HLT: a signal again. With any flags set, the process and its parent go on.
 *
 * Sources: Intel SDM vol. 2, SYSENTER; AMD APM vol. 3, SYSCALL, SYSENTER.
 */
#include "probe.h"
#include "segment.h"

#include <cpuid.h>

enum { PAGE = 4096, CODE_32 = 0x23, UNKNOWN_CALL = 0x7fffffff, GETPID_32 = 20 };

PROBE("sysenter", "pushfq\norq %rbx, (%rsp)\npopfq\nsysenter");
PROBE_SYMBOLS(sysenter);
PROBE("far_jump", "ljmpl *(%rbx)");
PROBE_SYMBOLS(far_jump);

static struct {
    volatile sig_atomic_t count;
    int signal;
    struct registers registers;
} seen;

static greg_t good_selectors;

static void note(int signal, siginfo_t *info, void *context)
{
    greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;
    seen.count++;
    seen.signal = signal;
    for (int i = 0; i < REGISTERS; i++)
        seen.registers.value[i] = (uint64_t)gregs[register_gregs[i]];
    gregs[REG_CSGSFS] = good_selectors;
    gregs[REG_RIP] = (greg_t)probe_done;
    gregs[REG_RSP] = (greg_t)probe_stack;
    gregs[REG_EFL] = FLAG_RESERVED | FLAG_INTERRUPT;
}

static void learn_selectors(int signal, siginfo_t *info, void *context)
{
    good_selectors = ((ucontext_t *)context)->uc_mcontext.gregs[REG_CSGSFS];
}

static void handle(int signal, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(signal, &action, NULL);
}

static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};

static void install_handlers(void)
{
    static char alternate[65536];
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&stack, NULL);
    handle(SIGUSR1, learn_selectors);
    raise(SIGUSR1);
    for (size_t i = 0; i < COUNT_OF(signals); i++)
        handle(signals[i], note);
}

/* ---- SYSENTER ---- */

static struct registers in;

static void enter(void)
{
    struct registers out;
    run_probe(probe_sysenter, &in, &out);
}

static void enter_without_handlers(void)
{
    for (size_t i = 0; i < COUNT_OF(signals); i++)
        signal(signals[i], SIG_DFL);
    enter();
}

/* With TF set, Linux gives the step's signal first. */
static bool is_refusal(int signal, uint64_t flags)
{
    return signal == SIGSEGV || signal == SIGILL || (signal == SIGTRAP && flags & FLAG_TRAP);
}

static void sysenter(const char *name, uint64_t flags)
{
    char text[80];
    uint64_t calls[] = {SYS_getppid, GETPID_32, UNKNOWN_CALL};
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        in = probe_pattern(i);
        in.value[RAX] = calls[i];
        in.value[RBX] = flags;
        memset(&seen, 0, sizeof seen);
        enter();
        snprintf(text, sizeof text, "sysenter with %s", name);
        if (i == 0)
            check_that(text, seen.count == 1 && is_refusal(seen.signal, flags));
        else
            require_long(text, seen.count == 1 && is_refusal(seen.signal, flags), true);
        require_long("a call", getppid() >= 0, true);
    }
    snprintf(text, sizeof text, "sysenter with %s, nothing handled", name);
    int status = child_status(enter_without_handlers);
    check_that(text, WIFSIGNALED(status) && is_refusal(WTERMSIG(status), flags));
}

static void sysenters(void)
{
    sysenter("nothing", 0);
    sysenter("the nested-task flag", FLAG_NESTED);
    sysenter("the direction flag", FLAG_DIRECTION);
    sysenter("the alignment flag", FLAG_ALIGNMENT);
    sysenter("the trap flag", FLAG_TRAP);
    sysenter("all of them", FLAG_NESTED | FLAG_DIRECTION | FLAG_ALIGNMENT | FLAG_TRAP);
}

/* ---- 32-bit code ---- */

static unsigned char *code, *stack;

struct __attribute__((packed)) far_pointer {
    uint32_t offset;
    uint16_t selector;
};

/* Runs two bytes of 32-bit code; the HLT behind them is #GP. */
static void run_32_bit(const char *bytes, uint16_t selector, uint32_t number)
{
    struct far_pointer *target = (struct far_pointer *)(code + 64);
    memcpy(code, bytes, 2);
    code[2] = 0xf4;
    target->offset = (uint32_t)(uint64_t)code;
    target->selector = selector;
    struct registers out;
    in = probe_pattern(2);
    in.value[RAX] = number;
    in.value[RBX] = (uint64_t)target;
    in.value[RSP] = in.value[RBP] = (uint64_t)stack + PAGE / 2;
    memset(&seen, 0, sizeof seen);
    run_probe(probe_far_jump, &in, &out);
}

/* Where it should be #UD, QEMU's TCG executes it all the same; Linux has no stub for that. */
static bool intel(void)
{
    uint32_t leaf, ebx = 0, ecx, edx;
    __cpuid(0, leaf, ebx, ecx, edx);
    return ebx == 0x756e6547; /* "Genu" */
}

static void from_32_bit(const char *name, uint16_t selector)
{
    char text[80];
    snprintf(text, sizeof text, "syscall from %s", name);
    if (!intel()) {
        run_32_bit("\x0f\x05", selector, UNKNOWN_CALL);
        check_that(text, seen.count == 1 && seen.signal == SIGSEGV);
        check_long("its result", (int32_t)seen.registers.value[RAX], -ENOSYS);
    }

    run_32_bit("\x0f\x34", selector, UNKNOWN_CALL);
    snprintf(text, sizeof text, "sysenter from %s", name);
    check_that(text, seen.count == 1 && is_refusal(seen.signal, 0));

    run_32_bit("\xcd\x80", selector, GETPID_32);
    snprintf(text, sizeof text, "int 80h from %s", name);
    check_that(text, seen.count == 1 && seen.signal == SIGSEGV);
    check_long("its result", (int32_t)seen.registers.value[RAX], getpid());

    run_32_bit("\x90\x90", selector, 5);
    snprintf(text, sizeof text, "hlt from %s", name);
    check_that(text, seen.count == 1 && seen.signal == SIGSEGV && seen.registers.value[RAX] == 5);
}

static void *low_page(void)
{
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (page == MAP_FAILED) {
        check_long("mmap", result(-1), 0);
        exit(check_end("sysenter"));
    }
    return page;
}

/* For a look from outside: what a step through the first instructions of the entry leaves behind. */
static void stay(void)
{
    in = probe_pattern(0);
    in.value[RBX] = FLAG_TRAP;
    enter();
    puts(seen.count == 1 ? "READY" : "FAIL sysenter");
    fflush(stdout);
    for (;;)
        ;
}

int main(int argc, char **argv)
{
    install_handlers();
    if (argc > 1 && strcmp(argv[1], "stay") == 0)
        stay();
    sysenters();
    code = low_page();
    stack = low_page();
    from_32_bit("the GDT's segment", CODE_32);
    check_long("modify_ldt", set_entry(flat(0, CODE)), 0);
    from_32_bit("the LDT's segment", (uint16_t)of_ldt(0));
    return check_end("sysenter");
}
