/*
 * Fills every register, RSP and RIP too, with one recognisable word and enters the kernel in each way
 * there is: SYSCALL, INT 80h, INT3, single step, exceptions, interrupts, a return that cannot be made. A
 * kernel with its entry code's stack at a known address would leave the words there for an attack
 * (CVE-2023-0597). Whoever looks at the machine from outside searches for the bytes 1E AB A1 5C.
 *
 * `payload storm` goes on for ever in a child, while the parent prints READY and stays in ring 3: then
 * none of the words may be found while the parent runs.
 */
#include "probe.h"

#include <sys/mman.h>
#include <sys/time.h>

enum { PAGE = 4096 };
#define PAYLOAD 0x5ca1ab1e5ca1ab1eu
/* RIP carries the payload's bytes as well. */
#define CODE_PAGE 0x5ca1ab1e0000u
#define UNMAPPED 0x5ca1ab200000u

static struct {
    volatile sig_atomic_t count;
    int signal;
    uint64_t registers[REGISTERS];
} seen;

static greg_t good_selectors;

static void keep_registers(greg_t *gregs)
{
    for (int i = 0; i < REGISTERS; i++)
        seen.registers[i] = (uint64_t)gregs[register_gregs[i]];
}

static void start_timer(void)
{
    struct itimerval soon = {.it_value.tv_usec = 25000};
    setitimer(ITIMER_REAL, &soon, NULL);
}

/* Every signal leads back to the end of the probe, with a stack; but a step before the page goes on, and a
 * timer that is too early starts again. */
static void note(int signal, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *gregs = uc->uc_mcontext.gregs;
    uint64_t rip = (uint64_t)gregs[REG_RIP];
    bool outside = rip - CODE_PAGE >= PAGE;
    if (signal == SIGTRAP && info->si_code == TRAP_TRACE && outside)
        return;
    if (signal == SIGALRM && outside) {
        start_timer();
        return;
    }
    seen.count++;
    seen.signal = signal;
    keep_registers(gregs);
    gregs[REG_CSGSFS] = good_selectors;
    gregs[REG_RIP] = (greg_t)probe_done;
    gregs[REG_RSP] = (greg_t)probe_stack;
    gregs[REG_EFL] = FLAG_RESERVED | FLAG_INTERRUPT;
}

/* A frame full of payload that IRETQ refuses: CS is the null selector. */
static void damage(int signal, siginfo_t *info, void *context)
{
    greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;
    for (int i = 0; i < REGISTERS; i++)
        if (i != RFLAGS)
            gregs[register_gregs[i]] = (greg_t)PAYLOAD;
    gregs[REG_RIP] = CODE_PAGE;
    gregs[REG_CSGSFS] &= ~0xffffL;
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

static void install_handlers(void)
{
    static char alternate[65536];
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&stack, NULL);
    handle(SIGUSR2, learn_selectors);
    raise(SIGUSR2);
    const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGALRM};
    for (size_t i = 0; i < COUNT_OF(signals); i++)
        handle(signals[i], note);
    handle(SIGUSR1, damage);
}

static struct registers payload(void)
{
    struct registers registers;
    for (int i = 0; i < REGISTERS; i++)
        registers.value[i] = PAYLOAD;
    registers.value[RFLAGS] = FLAGS_PATTERN;
    return registers;
}

/* Puts an instruction into the page whose address is payload; a jump to the end of the probe follows. */
static void write_code(const void *instruction, size_t size)
{
    static const unsigned char jump[] = {0xff, 0x25, 0, 0, 0, 0};
    unsigned char *code = (unsigned char *)CODE_PAGE;
    uint64_t target = (uint64_t)probe_done;
    memcpy(code, instruction, size);
    memcpy(code + size, jump, sizeof jump);
    memcpy(code + size + sizeof jump, &target, sizeof target);
}

static void enter(const char *name, const char *instruction, size_t size, struct registers in, int signal)
{
    struct registers out;
    write_code(instruction, size);
    memset(&seen, 0, sizeof seen);
    run_probe((void *)CODE_PAGE, &in, &out);
    require_long(name, seen.signal, signal);
    for (int i = 0; i < REGISTERS && signal != 0 && signal != SIGTRAP; i++)
        if (i != RFLAGS && seen.registers[i] != in.value[i])
            check_long(register_names[i], seen.registers[i], in.value[i]);
}

#define ENTER(name, bytes, in, signal) enter(name, bytes, sizeof(bytes) - 1, in, signal)

static void calls(void)
{
    struct registers in = payload();
    in.value[RAX] = SYS_getppid;
    ENTER("a call", "\x0f\x05", in, 0);
    in.value[RAX] = 64; /* getppid, by the 32-bit calls' numbers */
    ENTER("int 80h", "\xcd\x80", in, 0);
    /* An unknown number that is payload too; the upper half is not looked at. */
    in.value[RAX] = PAYLOAD;
    ENTER("an unknown call", "\x0f\x05", in, 0);
}

static void exceptions(void)
{
    struct registers in = payload();
    ENTER("int3", "\xcc", in, SIGTRAP);
    ENTER("#UD", "\x0f\x0b", in, SIGILL);
    ENTER("#GP", "\xf4", in, SIGSEGV);
    ENTER("#DE", "\xf7\xf1", in, SIGFPE); /* EDX:EAX / ECX is too large */
    in.value[RBX] = UNMAPPED;
    ENTER("#PF", "\x88\x03", in, SIGSEGV);
    in = payload();
    in.value[RFLAGS] |= FLAG_TRAP;
    ENTER("a step", "\x90", in, SIGTRAP);
}

/* Ticks arrive while the registers hold nothing else; then the timer's signal ends the loop. */
static void interrupts(void)
{
    start_timer();
    ENTER("an interrupt", "\xeb\xfe", payload(), SIGALRM);
}

static void exit_fault(void)
{
    struct registers in = payload();
    in.value[RAX] = SYS_kill;
    in.value[RDI] = (uint64_t)getpid();
    in.value[RSI] = SIGUSR1;
    struct registers out;
    write_code("\x0f\x05", 2);
    memset(&seen, 0, sizeof seen);
    run_probe((void *)CODE_PAGE, &in, &out);
    require_long("a return that faults", seen.signal, SIGSEGV);
    require_long("its rsp", seen.registers[RSP], PAYLOAD);
}

static void all_ways(void)
{
    calls();
    exceptions();
    interrupts();
    exit_fault();
}

static void storm(void)
{
    if (fork() == 0)
        for (;;)
            all_ways();
    say("READY");
    __asm__ volatile("1: pause\njmp 1b");
}

int main(int count, char **arguments)
{
    install_handlers();
    void *page = mmap((void *)CODE_PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    check_that("a page for the code", page == (void *)CODE_PAGE);
    if (count > 1 && strcmp(arguments[1], "storm") == 0)
        storm();
    for (int round = 0; round < 3; round++)
        all_ways();
    check_that("all ways in", check_failures == 0);
    return check_end("payload");
}
