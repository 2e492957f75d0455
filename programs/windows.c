// Goes into the kernel one way, for ever, with every register a known value: to be looked at, and disturbed, from
// outside.
//
//     windows WAY [open] [CPU]
//
// (`open`: with its isolation switched off) prints "READY WAY ADDRESS", the address of the instruction that goes in, and begins. A way comes back where its
// loop goes on, or in a handler that goes on with the loop. Everything is the same each time round, so whoever
// watches can compare any two rounds. `windows` alone lists the ways.
//
// The way `crowd` is another one: a second thread, on CPU 0, changes what the first one's CPU has to be told of, and the
// first one looks itself. A second address behind READY is the counter of what the second thread has done.

#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_GS 0x1001
// Our kernel's.
#define PR_SET_PTI 0x50544953
#define PTI_ENABLE 2
#define PTI_DISABLE 4

enum { MODIFY_LDT_CONTENTS_DATA = 0, MODIFY_LDT_CONTENTS_CODE = 2 };

// Linux's, as modify_ldt takes it; not every C library's headers have it.
struct user_desc {
    unsigned entry_number, base_addr, limit;
    unsigned seg_32bit : 1, contents : 2, read_exec_only : 1, limit_in_pages : 1, seg_not_present : 1, useable : 1;
};

char page[4096] __attribute__((aligned(4096)));
char stack[8192] __attribute__((aligned(4096)));
static char handler_stack[65536] __attribute__((aligned(4096)));
ucontext_t saved;

// All registers but RAX, which the call number is in.
#define REGISTERS \
    "mov $0x1b1b1b1b1b1b1b1b, %rbx\n" \
    "mov $0x1c1c1c1c1c1c1c1c, %rcx\n" \
    "mov $0x1d1d1d1d1d1d1d1d, %rdx\n" \
    "mov $0x1e1e1e1e1e1e1e1e, %rsi\n" \
    "mov $0x1f1f1f1f1f1f1f1f, %rdi\n" \
    "lea stack+4096, %rbp\n" \
    "lea stack+8000, %rsp\n" \
    "mov $0x0808080808080808, %r8\n" \
    "mov $0x0909090909090909, %r9\n" \
    "mov $0x1010101010101010, %r10\n" \
    "mov $0x1111111111111111, %r11\n" \
    "mov $0x1212121212121212, %r12\n" \
    "mov $0x1313131313131313, %r13\n" \
    "mov $0x1414141414141414, %r14\n" \
    "mov $0x1515151515151515, %r15\n" \
    "test %esp, %esp\n"

// The page is there no more: the next access faults.
#define DROP_PAGE \
    "lea page, %rdi\n" \
    "mov $4096, %esi\n" \
    "mov $4, %edx\n" /* MADV_DONTNEED */ \
    "mov $28, %eax\n" /* madvise */ \
    "syscall\n"

#define WAY(name, before, in, after) \
    extern char name##_loop[], name##_in[], name##_out[]; \
    asm(".pushsection .text\n" \
        #name "_loop:\n" before \
        #name "_in:\n" in "\n" \
        #name "_out:\n" after \
        "jmp " #name "_loop\n" \
        ".popsection\n")

WAY(call, REGISTERS "mov $110, %eax\n", "syscall", ""); // getppid
WAY(gate, REGISTERS "mov $64, %eax\n", "int $0x80", ""); // getppid, 32-bit number
WAY(fault, DROP_PAGE REGISTERS "lea page, %rdi\n", "mov %rbx, (%rdi)", "");
WAY(copy, DROP_PAGE REGISTERS "mov $118, %eax\nlea page, %rdi\nlea page+8, %rsi\nlea page+16, %rdx\n", "syscall", "");
WAY(tick, REGISTERS "mov $1, %eax\n", "jmp tick_in", "");
WAY(breakpoint, REGISTERS "mov $1, %eax\n", "int3", "");
WAY(step, REGISTERS "mov $1, %eax\npushf\norq $0x100, (%rsp)\npopf\n", "nop", "");
WAY(enter, REGISTERS "mov $1, %eax\n", "sysenter", "");
// Isolation switched, and back by the next round's first instructions.
#define SWITCH(word) \
    "mov $157, %eax\n" /* prctl */ \
    "mov $0x50544953, %edi\n" /* PR_SET_PTI */ \
    "mov $" #word ", %esi\n" \
    "xor %edx, %edx\n" \
    "xor %r10d, %r10d\n" \
    "xor %r8d, %r8d\n"
WAY(off, SWITCH(2) "syscall\n" REGISTERS SWITCH(4), "syscall", "");
WAY(on, SWITCH(4) "syscall\n" REGISTERS SWITCH(2), "syscall", "");
// Returns from a signal that never was, by the frame in `saved`.
WAY(back, REGISTERS "mov $15, %eax\nlea saved, %rsp\n", "syscall", "");
WAY(badback, REGISTERS "mov $15, %eax\nlea saved, %rsp\n", "syscall", "");
WAY(short, REGISTERS "mov $15, %eax\nlea saved, %rsp\n", "syscall", ".byte 0xea\n.long short_loop\n.word 0x33\n");
// The same, and the way out faults, where no stack takes the fault's frame.
WAY(badshort, REGISTERS "mov $15, %eax\nlea saved, %rsp\n", "syscall", "");

// Back with every register but RAX, RCX and R11 as it was; and the page shows what was published last.
volatile unsigned long crowd_epoch, crowd_turns, crowd_page[512] __attribute__((aligned(4096)));
#define IS(value, name) "mov $" #value ", %rax\ncmp %rax, %" #name "\njne crowd_bad\n"
WAY(crowd, REGISTERS "mov $110, %eax\n", "syscall",
    IS(0x1b1b1b1b1b1b1b1b, rbx) IS(0x1d1d1d1d1d1d1d1d, rdx) IS(0x1e1e1e1e1e1e1e1e, rsi) IS(0x1f1f1f1f1f1f1f1f, rdi)
    IS(stack+4096, rbp) IS(stack+8000, rsp) IS(0x0808080808080808, r8) IS(0x0909090909090909, r9)
    IS(0x1010101010101010, r10) IS(0x1212121212121212, r12) IS(0x1313131313131313, r13)
    IS(0x1414141414141414, r14) IS(0x1515151515151515, r15)
    "mov crowd_epoch, %rbx\n"
    "test $1, %bl\n"
    "jnz crowd_loop\n"
    "mov crowd_page, %rcx\n"
    "cmp crowd_epoch, %rbx\n"
    "jne crowd_loop\n"
    "cmp %rbx, %rcx\n"
    "je crowd_loop\n"
    "crowd_bad:\n"
    "lea stack+8000, %rsp\n"
    "mov %rbx, %rdi\n"
    "mov %rcx, %rsi\n"
    "and $-16, %rsp\n"
    "call crowd_failed\n");

__attribute__((used)) static void crowd_failed(unsigned long expected, unsigned long got) {
    printf("FAIL crowd: a register, or the page: %#lx, not %#lx\n", got, expected);
    exit(1);
}

static void install(int signal, void *out) {
    struct {
        void *handler;
        unsigned long flags;
        void *restorer;
        unsigned long mask;
    } action = {out, SA_NODEFER | SA_ONSTACK | 0x04000000, out, 0};
    if (syscall(SYS_rt_sigaction, signal, &action, NULL, 8)) {
        perror("rt_sigaction");
        exit(1);
    }
}

static void prepare_return(void *rip, unsigned cs, unsigned ss, unsigned long rsp) {
    memset(&saved, 0, sizeof saved);
    saved.uc_flags = 6; // SS is in the frame, and is to be taken as it is
    saved.uc_stack.ss_sp = handler_stack;
    saved.uc_stack.ss_size = sizeof handler_stack;
    greg_t *registers = saved.uc_mcontext.gregs;
    for (int i = 0; i < REG_RIP; i++)
        registers[i] = 0x2020202020202020 + i;
    registers[REG_RSP] = (greg_t)rsp;
    registers[REG_RIP] = (greg_t)rip;
    registers[REG_EFL] = 0x202;
    registers[REG_CSGSFS] = (greg_t)cs | (greg_t)ss << 48;
}

static unsigned segment(unsigned number, int wide, int code) {
    struct user_desc description = {
        .entry_number = number,
        .limit = 0xfffff,
        .seg_32bit = wide,
        .contents = code ? MODIFY_LDT_CONTENTS_CODE : MODIFY_LDT_CONTENTS_DATA,
        .limit_in_pages = wide,
    };
    if (syscall(SYS_modify_ldt, 1, &description, sizeof description)) {
        perror("modify_ldt");
        exit(1);
    }
    return number << 3 | 7;
}

static void prepare_back(void) { prepare_return(back_out, 0x33, 0x2b, (unsigned long)stack + 8000); }
// A data segment is no code segment: the way out faults.
static void prepare_badback(void) {
    install(SIGSEGV, badback_out);
    prepare_return(badback_loop, 0x2b, 0x2b, (unsigned long)stack + 8000);
}
static void prepare_short(void) {
    unsigned code = segment(0, 1, 1), data = segment(1, 0, 0);
    prepare_return(short_out, code, data, 0x23456780);
}
static void prepare_badshort(void) {
    unsigned data = segment(1, 0, 0);
    install(SIGSEGV, badshort_out);
    prepare_return(badshort_loop, 0x2b, data, 0x23456780);
}
static void prepare_breakpoint(void) { install(SIGTRAP, breakpoint_out); }
static void prepare_step(void) { install(SIGTRAP, step_out); }
static void prepare_enter(void) {
    install(SIGSEGV, enter_out);
    install(SIGILL, enter_out);
}
// A kernel may leave the only runnable program alone; a timer makes it look.
static void prepare_tick(void) {
    struct itimerval often = {{0, 5000}, {0, 5000}};
    signal(SIGALRM, SIG_IGN);
    setitimer(ITIMER_REAL, &often, NULL);
}
static void prepare_nothing(void) {}

static void switch_isolation(unsigned long word) {
    if (syscall(SYS_prctl, PR_SET_PTI, word, 0, 0, 0)) {
        perror("PR_SET_PTI");
        exit(1);
    }
}

static void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set)) {
        perror("sched_setaffinity");
        exit(1);
    }
}

static void *change_for_ever(void *unused) {
    (void)unused;
    pin(0);
    for (;; crowd_turns++) {
        unsigned long next = crowd_epoch + 2;
        switch (crowd_turns % 4) {
        case 0:
            crowd_epoch = next - 1;
            if (mmap((void *)crowd_page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
                MAP_FAILED) {
                perror("mmap");
                exit(1);
            }
            crowd_page[0] = next;
            crowd_epoch = next;
            break;
        case 1:
            segment(crowd_turns / 4 % 1000, 1, 0);
            break;
        default:
            switch_isolation(crowd_turns % 4 == 2 ? PTI_DISABLE : 0);
        }
    }
    return NULL;
}

static void prepare_crowd(void) {
    pthread_t other;
    if (pthread_create(&other, NULL, change_for_ever, NULL)) {
        perror("pthread_create");
        exit(1);
    }
}

static const struct {
    const char *name;
    void (*prepare)(void);
    char *in, *loop;
} ways[] = {
    {"call", prepare_nothing, call_in, call_loop},
    {"gate", prepare_nothing, gate_in, gate_loop},
    {"fault", prepare_nothing, fault_in, fault_loop},
    {"copy", prepare_nothing, copy_in, copy_loop},
    {"tick", prepare_tick, tick_in, tick_loop},
    {"breakpoint", prepare_breakpoint, breakpoint_in, breakpoint_loop},
    {"step", prepare_step, step_in, step_loop},
    {"enter", prepare_enter, enter_in, enter_loop},
    {"off", prepare_nothing, off_in, off_loop},
    {"on", prepare_nothing, on_in, on_loop},
    {"back", prepare_back, back_in, back_loop},
    {"badback", prepare_badback, badback_in, badback_loop},
    {"short", prepare_short, short_in, short_loop},
    {"badshort", prepare_badshort, badshort_in, badshort_loop},
    {"crowd", prepare_crowd, crowd_in, crowd_loop},
};

int main(int count, char **words) {
    for (int i = 2; i < count; i++) {
        if (strcmp(words[i], "open") == 0)
            switch_isolation(PTI_DISABLE);
        else
            pin(atoi(words[i]));
    }
    for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
        if (count < 2) {
            puts(ways[i].name);
        } else if (!strcmp(ways[i].name, words[1])) {
            stack_t alternative = {.ss_sp = handler_stack, .ss_size = sizeof handler_stack};
            sigaltstack(&alternative, NULL);
            syscall(SYS_arch_prctl, ARCH_SET_GS, page);
            ways[i].prepare();
            printf("READY %s %#lx", words[1], (unsigned long)ways[i].in);
            if (ways[i].prepare == prepare_crowd)
                printf(" %#lx", (unsigned long)&crowd_turns);
            puts("");
            fflush(stdout);
            goto *(void *)ways[i].loop;
        }
    }
    return count >= 2;
}
