/*
 * Running on segments of one's own: 32-bit and 16-bit code from the LDT, 16-bit stacks, INT 0x80 and
 * signals from there, and the GDT entries of threads.
 *
 * A 16-bit stack has SP alone: bits 16 to 31 of ESP are the program's, but IRET leaves in them what the
 * kernel had. They have to come back as they were (espfix).
 *
 * Into the LDT's code leads an indirect far jump: a far return by ring 3 is a fault on QEMU's TCG as
 * long as SMAP is on.
 */
#include "segment.h"

#include <pthread.h>
#include <sched.h>
#include <sys/time.h>
#include <sys/ucontext.h>

enum { CODE_32 = 1, CODE_16 = 2, STACK_16 = 3, STACK_32 = 4, ABSENT_CODE = 5, ABSENT_STACK = 6 };

/* What the code below reads and writes. */
static struct {
    uint32_t offset; /* far pointer: where to */
    uint16_t selector;
} __attribute__((packed)) target __attribute__((used));
static volatile uint32_t stack_selector, stack_pointer; /* to begin with */
static volatile uint32_t number;                        /* of the call */
static volatile uint32_t answer, seen_stack_pointer, rounds;
static volatile uint64_t own_stack;

/*
 * enter: jumps to `target` with `stack_selector` in SS and `stack_pointer` in ESP; that comes back by a
 * jump to `leave`. In between DS is flat. `run_32`, `run_16`: the call `number` by INT 0x80, `rounds`
 * times. `trap_32`: INT3. `signal_self`: kill, and whatever comes of it ends at `leave` as well. The labels behind an INT are what a signal's frame has.
 */
__asm__(".pushsection .text\n"
        ".globl enter, signal_self, leave, run_32, run_16, trap_32, after_trap\n"
        "enter:\n"
        "push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp, own_stack(%rip)\n"
        "mov $0x2b, %ecx\nmov %ecx, %ds\n"
        "mov stack_pointer(%rip), %eax\n"
        "mov rounds(%rip), %esi\n"
        "mov stack_selector(%rip), %ecx\n"
        "mov %ecx, %ss\n"
        "mov %eax, %esp\n"
        "ljmp *target(%rip)\n"
        "signal_self:\n"
        "push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp, own_stack(%rip)\n"
        "mov $62, %eax\n"
        "syscall\n"
        "leave:\n"
        "mov own_stack(%rip), %rsp\n"
        "mov $0x2b, %ecx\nmov %ecx, %ss\n"
        "xor %ecx, %ecx\nmov %ecx, %ds\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\n"
        "ret\n"
        ".code32\n"
        "run_32:\n"
        "mov number, %eax\n"
        "int $0x80\n"
        "mov %eax, answer\n"
        "mov %esp, seen_stack_pointer\n"
        "cmp stack_pointer, %esp\n"
        "jne 1f\n"
        "dec %esi\n"
        "jnz run_32\n"
        "1: ljmp $0x33, $leave\n"
        "trap_32:\n"
        "int3\n"
        "after_trap:\n"
        "mov %esp, seen_stack_pointer\n"
        "ljmp $0x33, $leave\n"
        ".code16\n"
        "run_16:\n"
        "mov $number, %ebx\n"
        "mov (%ebx), %eax\n"
        "int $0x80\n"
        "mov $answer, %ebx\n"
        "mov %eax, (%ebx)\n"
        "mov $seen_stack_pointer, %ebx\n"
        "mov %esp, (%ebx)\n"
        "dec %esi\n"
        "jnz run_16\n"
        "ljmpl $0x33, $leave\n"
        ".code64\n"
        ".popsection\n");
extern void enter(void);
extern void signal_self(pid_t, int);
extern char leave[], run_32[], run_16[], trap_32[], after_trap[];

static uint8_t *stack_16;

static void set_up(void)
{
    stack_16 = low_memory(65536);
    struct segment absent_code = flat(ABSENT_CODE, CODE), absent_stack = flat(ABSENT_STACK, DATA);
    absent_code.not_present = absent_stack.not_present = 1;
    check_long("32-bit code", set_entry(flat(CODE_32, CODE)), 0);
    check_long("16-bit code", set_entry(narrow(CODE_16, CODE, run_16)), 0);
    check_long("a 16-bit stack", set_entry(narrow(STACK_16, DATA, stack_16)), 0);
    check_long("a 32-bit stack", set_entry(flat(STACK_32, DATA)), 0);
    check_long("code that is absent", set_entry(absent_code), 0);
    check_long("a stack that is absent", set_entry(absent_stack), 0);
}

static void go(uint32_t code, uint32_t offset, uint32_t stack, uint32_t pointer)
{
    target.selector = code;
    target.offset = offset;
    stack_selector = stack;
    stack_pointer = pointer;
    seen_stack_pointer = answer = 0;
    enter();
}

static uint32_t address(const void *place)
{
    return (uint32_t)(uintptr_t)place;
}

/* Calls of INT 0x80. */
enum { GETPPID = 64, YIELD = 158 };

/* ESP values whose upper halves have nothing in common with one another or a kernel's. */
static const uint32_t pointers[] = {0x12340ff0, 0xfedcfff0, 0x0000fff0, 0xffff8000, 0x00018000, 0x80000010};

static void small_stacks(void)
{
    rounds = 1;
    number = GETPPID;
    go(of_ldt(CODE_32), address(run_32), of_ldt(STACK_32), address(stack_16) + 4096);
    check_long("INT 0x80 in 32-bit code", answer, getppid());
    check_long("on a 32-bit stack", seen_stack_pointer, stack_pointer);
    go(of_ldt(CODE_16), 0, of_ldt(STACK_32), address(stack_16) + 4096);
    check_long("INT 0x80 in 16-bit code", answer, getppid());
    check_long("on a 32-bit stack too", seen_stack_pointer, stack_pointer);
    for (size_t index = 0; index < COUNT_OF(pointers); index++) {
        go(of_ldt(CODE_32), address(run_32), of_ldt(STACK_16), pointers[index]);
        check_long("a 16-bit stack in 32-bit code", seen_stack_pointer, pointers[index]);
        check_long("and the call", answer, getppid());
        go(of_ldt(CODE_16), 0, of_ldt(STACK_16), pointers[index]);
        check_long("a 16-bit stack in 16-bit code", seen_stack_pointer, pointers[index]);
    }
    go(of_ldt(CODE_32), address(run_32), FLAT_DATA, 0x89abcde0);
    check_long("the GDT's stack has all 32 bits", seen_stack_pointer, 0x89abcde0);
}

/* Runs for a while beside another process, so that ticks and switches come in between. */
static void switches(void)
{
    pid_t child = fork();
    if (child == 0) {
        check_failures = 0;
        for (int count = 0; count < 3000; count++)
            sched_yield();
        _exit(0);
    }
    number = YIELD;
    rounds = 2000;
    go(of_ldt(CODE_32), address(run_32), of_ldt(STACK_16), 0xabcd2340);
    check_long("a 16-bit stack over switches", seen_stack_pointer, 0xabcd2340);
    int status = -1;
    waitpid(child, &status, 0);
    check_long("and the other ends well", status, 0);
    /* The timer's interrupts come at any instruction; their signal is ignored. */
    struct itimerval often = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
    signal(SIGALRM, SIG_IGN);
    setitimer(ITIMER_REAL, &often, NULL);
    number = GETPPID;
    rounds = 20000;
    go(of_ldt(CODE_32), address(run_32), of_ldt(STACK_16), 0x76541230);
    check_long("and over ticks", seen_stack_pointer, 0x76541230);
    setitimer(ITIMER_REAL, &never, NULL);
    rounds = 1;
}

static struct {
    volatile sig_atomic_t count;
    int signal;
    long trap, error, rip, rsp;
    uint16_t cs, ss;
} seen;

/* With what: back to 64-bit code at `leave`, or where the frame says. */
static volatile sig_atomic_t return_there;

static void handler(int signal, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *registers = uc->uc_mcontext.gregs;
    (void)info;
    seen.count++;
    seen.signal = signal;
    seen.trap = registers[REG_TRAPNO];
    seen.error = registers[REG_ERR];
    seen.rip = registers[REG_RIP];
    seen.rsp = registers[REG_RSP];
    seen.cs = registers[REG_CSGSFS];
    seen.ss = registers[REG_CSGSFS] >> 48;
    if (!return_there) {
        registers[REG_CSGSFS] = FLAT_CODE | (greg_t)FLAT_DATA << 48;
        registers[REG_RIP] = (greg_t)leave;
        registers[REG_RSP] = own_stack;
    }
}

static void catch_all(void)
{
    static char stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alternate, NULL);
    static const int signals[] = {SIGSEGV, SIGBUS, SIGTRAP, SIGILL, SIGUSR1};
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    for (size_t index = 0; index < COUNT_OF(signals); index++)
        sigaction(signals[index], &action, NULL);
}

static void signals(void)
{
    return_there = 1;
    seen.count = 0;
    go(of_ldt(CODE_32), address(trap_32), of_ldt(STACK_16), 0x43215670);
    check_long("INT3 in 32-bit code on a 16-bit stack", seen.signal, SIGTRAP);
    check_long("comes once", seen.count, 1);
    check_long("with the code selector", seen.cs, of_ldt(CODE_32));
    check_long("and the stack selector", seen.ss, of_ldt(STACK_16));
    check_long("and RIP", seen.rip, address(after_trap));
    check_long("and all of ESP", (uint32_t)seen.rsp, 0x43215670);
    check_long("and back", seen_stack_pointer, 0x43215670);
    return_there = 0;
}

static void fault(const char *name, int signal, long trap, long error)
{
    char text[96];
    const struct { const char *what; long got, expected; } checks[] = {
        {"a signal", seen.count ? seen.signal : 0, signal},
        {"the trap", seen.trap, trap},
        {"the error code", seen.error, error},
    };
    for (size_t index = 0; index < COUNT_OF(checks); index++) {
        snprintf(text, sizeof text, "%s: %s", name, checks[index].what);
        check_long(text, checks[index].got, checks[index].expected);
    }
    seen.count = 0;
}

enum { NOT_PRESENT = 11, GENERAL_PROTECTION = 13 };

static void jumps(void)
{
    const struct { const char *name; uint32_t selector; int signal; long trap; } places[] = {
        {"a jump to absent code", of_ldt(ABSENT_CODE), SIGBUS, NOT_PRESENT},
        {"a jump to data", of_ldt(STACK_32), SIGSEGV, GENERAL_PROTECTION},
        {"a jump to an empty entry", of_ldt(7), SIGSEGV, GENERAL_PROTECTION},
        {"a jump beyond the LDT", of_ldt(4000), SIGSEGV, GENERAL_PROTECTION},
        {"a jump to the kernel's code", 0x10, SIGSEGV, GENERAL_PROTECTION},
        {"a jump to the TSS", 0x40, SIGSEGV, GENERAL_PROTECTION},
        {"a jump to the LDT itself", 0x50, SIGSEGV, GENERAL_PROTECTION},
    };
    seen.count = 0;
    for (size_t index = 0; index < COUNT_OF(places); index++) {
        go(places[index].selector, 0x1000, FLAT_DATA, address(stack_16) + 4096);
        fault(places[index].name, places[index].signal, places[index].trap,
              places[index].selector & ~3);
    }
}

/* A frame to return to by sigreturn. */
static volatile struct {
    uint16_t cs, ss;
} wanted;

static void returner(int signal, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    (void)info;
    if (signal != SIGUSR1) {
        handler(signal, info, context);
        return;
    }
    uc->uc_mcontext.gregs[REG_CSGSFS] = wanted.cs | (greg_t)wanted.ss << 48;
}

static void returns(void)
{
    /* With a stack of the LDT, whatever is wrong comes out as #GP without an error code, as the fault of
     * an IRET on an espfix stack does on Linux. */
    const struct {
        const char *name;
        uint16_t cs, ss;
        int signal;
        long trap;
        uint32_t error;
    } frames[] = {
        {"return to absent code", of_ldt(ABSENT_CODE), FLAT_DATA, SIGBUS, NOT_PRESENT, of_ldt(ABSENT_CODE)},
        {"return to data as code", of_ldt(STACK_32), FLAT_DATA, SIGSEGV, GENERAL_PROTECTION, of_ldt(STACK_32)},
        {"return to no code", of_ldt(9), FLAT_DATA, SIGSEGV, GENERAL_PROTECTION, of_ldt(9)},
        {"return to no stack", of_ldt(CODE_32), of_gdt(14), SIGSEGV, GENERAL_PROTECTION, of_gdt(14)},
        {"return to an absent stack", of_ldt(CODE_32), of_ldt(ABSENT_STACK), SIGSEGV, GENERAL_PROTECTION, 0},
        {"return to code as a stack", of_ldt(CODE_32), of_ldt(CODE_32), SIGSEGV, GENERAL_PROTECTION, 0},
        {"return to empty entries", of_ldt(9), of_ldt(9), SIGSEGV, GENERAL_PROTECTION, 0},
        {"return to no code on 16 bits", of_ldt(9), of_ldt(STACK_16), SIGSEGV, GENERAL_PROTECTION, 0},
        {"return to absent code on 16 bits", of_ldt(ABSENT_CODE), of_ldt(STACK_16), SIGSEGV, GENERAL_PROTECTION, 0},
    };
    for (size_t index = 0; index < COUNT_OF(frames); index++) {
        wanted.cs = frames[index].cs;
        wanted.ss = frames[index].ss;
        seen.count = 0;
        struct sigaction action = {.sa_sigaction = returner, .sa_flags = SA_SIGINFO | SA_ONSTACK};
        sigaction(SIGUSR1, &action, NULL);
        signal_self(getpid(), SIGUSR1);
        fault(frames[index].name, frames[index].signal, frames[index].trap, frames[index].error & ~3);
    }
}

/* A data segment of 4 KiB for a thread. */
static struct segment area(uint32_t entry, const void *base)
{
    return (struct segment){
        .number = entry, .base = address(base), .limit = 4095, .wide = 1, .useable = 1};
}

static uint32_t read_gs(void)
{
    uint32_t value;
    __asm__ volatile("mov %%gs:0, %0" : "=r"(value));
    return value;
}

static uint32_t *words;
static volatile int wrong;

static void *thread_with_its_own(void *argument)
{
    uint32_t index = (uint32_t)(uintptr_t)argument;
    struct segment *segment = (struct segment *)(words + 1024 * 8) + index;
    *segment = area(14, words + 1024 * index);
    wrong += rights_of(of_gdt(14)) != -1 || call_32(SET_THREAD_AREA, segment) != 0;
    set_gs(of_gdt(14));
    for (int round = 0; round < 500; round++) {
        sched_yield();
        wrong += read_gs() != index + 1000 || rights_of(of_gdt(12)) != 0x50f300;
    }
    set_gs(0);
    return NULL;
}

static void thread_areas(void)
{
    words = low_memory(65536);
    struct segment *segment = (struct segment *)(words + 1024 * 8);
    for (uint32_t index = 0; index < 8; index++)
        words[1024 * index] = index + 1000;
    check_long("x86-64 has no such call", syscall(205, segment), -1);
    check_long("x86-64 has no such call", errno, ENOSYS);
    for (uint32_t entry = 12; entry <= 14; entry++) {
        *segment = area(UINT32_MAX, words + 1024 * (entry - 12));
        check_long("an entry of the kernel's choice", call_32(SET_THREAD_AREA, segment), 0);
        check_long("the next one", segment->number, entry);
        check_long("has its rights", rights_of(of_gdt(entry)), 0x50f300);
    }
    *segment = area(UINT32_MAX, words);
    check_long("and then no more", call_32(SET_THREAD_AREA, segment), -ESRCH);
    static const uint32_t foreign[] = {0, 4, 11, 15, 16, 8192};
    for (size_t index = 0; index < COUNT_OF(foreign); index++) {
        *segment = area(foreign[index], words);
        check_long("an entry of the kernel's", call_32(SET_THREAD_AREA, segment), -EINVAL);
        check_long("cannot be read", call_32(GET_THREAD_AREA, segment), -EINVAL);
    }
    *segment = area(13, words);
    segment->wide = 0;
    check_long("16 bits", call_32(SET_THREAD_AREA, segment), -EINVAL);
    *segment = flat(13, CODE);
    check_long("code", call_32(SET_THREAD_AREA, segment), -EINVAL);
    *segment = area(13, words);
    segment->not_present = 1;
    check_long("what is absent", call_32(SET_THREAD_AREA, segment), -EINVAL);
    *segment = none(13);
    check_long("an entry is told", call_32(GET_THREAD_AREA, segment), 0);
    struct segment expected = area(13, words + 1024);
    check_that("as it was set", memcmp(segment, &expected, sizeof expected) == 0);

    set_gs(of_gdt(13));
    check_long("GS has its base", read_gs(), 1001);
    *segment = area(13, words + 1024 * 2);
    require_long("another base", call_32(SET_THREAD_AREA, segment), 0);
    check_long("which GS has at once", read_gs(), 1002);
    pid_t child = fork();
    if (child == 0)
        _exit(read_gs() != 1002 || get_gs() != of_gdt(13) || rights_of(of_gdt(14)) != 0x50f300);
    int status = -1;
    waitpid(child, &status, 0);
    check_long("a child has the same", status, 0);
    *segment = none(13);
    require_long("the entry goes", call_32(SET_THREAD_AREA, segment), 0);
    check_long("and GS with it", get_gs(), 0);
    *segment = (struct segment){.number = 14};
    check_long("zeros are none, too", call_32(SET_THREAD_AREA, segment), 0);
    check_long("it is gone", rights_of(of_gdt(14)), -1);
    check_long("and told so", call_32(GET_THREAD_AREA, segment), 0);
    struct segment gone = none(14);
    check_that("as nothing", memcmp(segment, &gone, sizeof gone) == 0);

    pthread_t threads[4];
    for (uintptr_t index = 0; index < COUNT_OF(threads); index++)
        pthread_create(&threads[index], NULL, thread_with_its_own, (void *)(index + 2));
    for (size_t index = 0; index < COUNT_OF(threads); index++)
        pthread_join(threads[index], NULL);
    check_long("each thread has its own", wrong, 0);
    check_long("which are nobody else's", rights_of(of_gdt(14)), -1);
    check_long("entry 15 says which CPU", limit_of(CPU_NUMBER) >= 0, 1);
    check_long("and is read-only", rights_of(CPU_NUMBER), 0x40f500);
}

/* clone of INT 0x80 with CLONE_SETTLS: the child gets an entry of its own. */
static void cloned(void)
{
    struct segment *segment = (struct segment *)(words + 1024 * 8);
    *segment = area(13, words + 1024 * 5);
    enum { CLONE = 120 };
    long pid = CLONE;
    __asm__ volatile("int $0x80"
                     : "+a"(pid)
                     : "b"(CLONE_SETTLS | SIGCHLD), "c"(0), "d"(0), "S"(segment), "D"(0)
                     : "memory", "r8", "r9", "r10", "r11");
    if (pid == 0) {
        set_gs(of_gdt(13));
        _exit(read_gs() != 1005 || rights_of(of_gdt(12)) != 0x50f300);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    check_long("a cloned child has the entry that clone was given", status, 0);
    check_long("the parent has not", rights_of(of_gdt(13)), -1);
    *segment = area(UINT32_MAX, words);
    pid = CLONE;
    __asm__ volatile("int $0x80"
                     : "+a"(pid)
                     : "b"(CLONE_SETTLS | SIGCHLD), "c"(0), "d"(0), "S"(segment), "D"(0)
                     : "memory", "r8", "r9", "r10", "r11");
    check_long("the kernel chooses none for it", pid, -EINVAL);
}

int main(void)
{
    set_up();
    small_stacks();
    switches();
    catch_all();
    signals();
    jumps();
    returns();
    thread_areas();
    cloned();
    return check_end("segments");
}
