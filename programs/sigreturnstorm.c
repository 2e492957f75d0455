/*
 * Random signal frames for rt_sigreturn: any CS and SS (GDT, an LDT's entries of every kind, null, the
 * kernel's), any RIP and RSP, flags, uc_flags, alternate stack, floating-point pointer, header and state.
 * What happens is noted by handlers on an alternate stack: the signal, its numbers, and whether registers
 * and floating-point state are those that were asked for.
 *
 *      sigreturnstorm [FRAMES [SEED [FIRST LAST]]]      FIRST to LAST: says each of these frames' verdicts
 *
 * The frames depend on the seed alone. In half of them one thing is odd and the rest is as it should be:
 * a line for each such thing. In the others everything is random: a line for each way in which they end.
 * A line ends with a digest of all its verdicts, so that two kernels' lines compare. To pass, the
 * process survives, and no signal shows registers that nobody asked for.
 *
 * Addresses are canonical, or not, with four levels of paging and with five alike. In 32-bit code segments
 * no RIP names the program's own text.
 *
 * Sources: sigreturn(2), modify_ldt(2); Intel SDM vol. 2, IRET, vol. 1, 13.8 (XRSTOR); Linux's sigcontext.h.
 */
#include "random.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <sys/ucontext.h>

enum { PAGE = 4096, DEFAULT_FRAMES = 20000 };

/* Fixed places below 4 GiB, for code segments of 32 and 16 bits. */
#define REGION 0x10000000ul     /* 64 KiB of INT3, with a landing */
#define LANDING 0x100           /* in it: NOP, UD2 */
#define STOP 0x200              /* in it: INT3 */
#define DATA 0x20000000ul       /* a page that is not executable */
#define NO_ACCESS 0x20001000ul  /* a page that is not even readable */
#define STACK 0x20002000ul
#define FRAMES 0x20010000ul     /* no access, then two pages: a frame may begin in the first */
#define FRAME (FRAMES + PAGE + 2048)
#define STATES 0x20020000ul     /* two pages, then none */
#define ALTERNATE 0x20040000ul
#define ALTERNATE_BYTES 0x10000ul

/* ---- random numbers ---- */

static uint64_t draw(void)
{
    return chance() * 0x2545f4914f6cdd1dul;
}

static uint64_t below(uint64_t limit)
{
    return (draw() >> 32) % limit;
}

/* ---- selectors ---- */

enum { LDT_CODE32, LDT_EXECUTE_ONLY, LDT_CONFORMING_ABSENT, LDT_CODE_ABSENT, LDT_CODE16, LDT_CODE32_BASE,
       LDT_DATA32, LDT_READ_ONLY, LDT_EXPAND_DOWN, LDT_DATA16, LDT_DATA16_ABSENT, LDT_DATA_ABSENT,
       LDT_DATA16_BASE, LDT_EMPTY, LDT_LAST };

/* struct user_desc */
struct descriptor {
    uint32_t number, base, limit;
    uint32_t is_32_bit : 1, contents : 2, read_only : 1, in_pages : 1, absent : 1, useable : 1;
};

static const struct descriptor descriptors[] = {
    {LDT_CODE32, 0, 0xfffff, 1, 2, 0, 1, 0, 1},
    {LDT_EXECUTE_ONLY, 0, 0xfffff, 1, 2, 1, 1, 0, 1},
    {LDT_CONFORMING_ABSENT, 0, 0xfffff, 1, 3, 0, 1, 1, 1},
    {LDT_CODE_ABSENT, 0, 0xfffff, 1, 2, 0, 1, 1, 1},
    {LDT_CODE16, REGION, 0xffff, 0, 2, 0, 0, 0, 1},
    {LDT_CODE32_BASE, REGION, 0xf, 1, 2, 0, 1, 0, 1},
    {LDT_DATA32, 0, 0xfffff, 1, 0, 0, 1, 0, 1},
    {LDT_READ_ONLY, 0, 0xfffff, 1, 0, 1, 1, 0, 1},
    {LDT_EXPAND_DOWN, 0, 0xf, 1, 1, 0, 1, 0, 1},
    {LDT_DATA16, 0, 0xffff, 0, 0, 0, 0, 0, 1},
    {LDT_DATA16_ABSENT, 0, 0xffff, 0, 0, 0, 0, 1, 1},
    {LDT_DATA_ABSENT, 0, 0xfffff, 1, 0, 0, 1, 1, 1},
    {LDT_DATA16_BASE, STACK, 0xffff, 0, 0, 0, 0, 0, 1},
};

#define LDT(index) ((index) << 3 | 4 | 3)
enum { USER_CODE = 0x33, USER_CODE_32 = 0x23, USER_DATA = 0x2b };

static const struct selector {
    const char *name;
    uint16_t value;
} selectors[] = {
    {"user code", USER_CODE},
    {"user data", USER_DATA},
    {"user code, 32 bits", USER_CODE_32},
    {"null", 0},
    {"null of ring 3", 3},
    {"kernel code", 0x10},
    {"kernel data", 0x18},
    {"kernel code of ring 3", 0x13},
    {"kernel data of ring 3", 0x1b},
    {"entry 1", 0x0b},
    {"task state", 0x43},
    {"task state, upper half", 0x4b},
    {"local table", 0x53},
    {"thread-local", 0x63},
    {"end of the table", 0x83},
    {"beyond", 0xfffb},
    {"ldt code, 32 bits", LDT(LDT_CODE32)},
    {"ldt code, execute only", LDT(LDT_EXECUTE_ONLY)},
    {"ldt code, conforming, absent", LDT(LDT_CONFORMING_ABSENT)},
    {"ldt code, absent", LDT(LDT_CODE_ABSENT)},
    {"ldt code, 16 bits", LDT(LDT_CODE16)},
    {"ldt code, 32 bits, with a base", LDT(LDT_CODE32_BASE)},
    {"ldt data, 32 bits", LDT(LDT_DATA32)},
    {"ldt data, read only", LDT(LDT_READ_ONLY)},
    {"ldt data, expands down", LDT(LDT_EXPAND_DOWN)},
    {"ldt data, 16 bits", LDT(LDT_DATA16)},
    {"ldt data, 16 bits, absent", LDT(LDT_DATA16_ABSENT)},
    {"ldt data, absent", LDT(LDT_DATA_ABSENT)},
    {"ldt data, 16 bits, with a base", LDT(LDT_DATA16_BASE)},
    {"ldt, empty", LDT(LDT_EMPTY)},
    {"ldt, end", LDT(LDT_LAST)},
    {"ldt, ring 0 asked for", LDT(LDT_CODE32) & ~3},
    {"random", 0},
};

/* ---- what may be odd: one kind of each for every frame ---- */

static const char *const rip_kinds[] = {
    "landing", "stop", "unmapped", "not executable", "no access", "kernel", "not canonical", "zero", "last",
    "random",
};
enum { AT_LANDING, AT_STOP, AT_UNMAPPED, AT_DATA, AT_NO_ACCESS, AT_KERNEL, AT_NOT_CANONICAL, AT_ZERO, AT_LAST,
       AT_RANDOM };

static const char *const rsp_kinds[] = {
    "stack", "odd", "unmapped", "kernel", "not canonical", "zero", "alternate stack", "random",
};
enum { ON_STACK, ON_ODD, ON_UNMAPPED, ON_KERNEL, ON_NOT_CANONICAL, ON_ZERO, ON_ALTERNATE, ON_RANDOM };

static const char *const state_kinds[] = {
    "whole", "none", "some components", "some asked for", "legacy", "no second magic", "size too small",
    "size too big", "size below whole", "extended size too small", "reserved header word", "compact",
    "unknown component", "reserved mxcsr bits", "address odd", "address odd, legacy", "address unmapped",
    "address in the kernel", "address not canonical", "magic unmapped", "end unmapped", "noise", "wild noise",
};
enum { STATE_WHOLE, STATE_NONE, STATE_SOME, STATE_ASKED, STATE_LEGACY, STATE_MAGIC2, STATE_SMALL, STATE_BIG,
       STATE_LESS, STATE_EXTENDED, STATE_RESERVED, STATE_COMPACT, STATE_UNKNOWN, STATE_MXCSR, STATE_ODD,
       STATE_ODD_LEGACY, STATE_UNMAPPED, STATE_KERNEL, STATE_NOT_CANONICAL, STATE_MAGIC_UNMAPPED,
       STATE_END_UNMAPPED, STATE_NOISE, STATE_WILD };

static const char *const place_kinds[] = {
    "good", "unmapped", "kernel", "not canonical", "head missing", "tail missing", "last page",
};
enum { PLACE_GOOD, PLACE_UNMAPPED, PLACE_KERNEL, PLACE_NOT_CANONICAL, PLACE_HEAD, PLACE_TAIL, PLACE_LAST };

static const char *const stack_kinds[] = {"good", "disarms itself", "too small", "unknown flags"};
enum { STACK_GOOD, STACK_DISARMS, STACK_SMALL, STACK_FLAGS };

static const char *const flag_kinds[] = {"plain", "random", "random upper half", "trap", "all"};
enum { FLAGS_PLAIN, FLAGS_RANDOM, FLAGS_UPPER, FLAGS_TRAP, FLAGS_ALL };

static const char *const context_kinds[] = {"strict", "lenient", "random"};
enum { CONTEXT_STRICT, CONTEXT_LENIENT, CONTEXT_RANDOM };

static const char *const mask_kinds[] = {"empty", "random", "blocks the signal"};
enum { MASK_EMPTY, MASK_RANDOM, MASK_ALL };

static const char *const segment_kinds[] = {"null", "user data", "ldt data"};

enum dimension { CS, SS, LENIENT_SS, RIP, RSP, FLAGS, CONTEXT, STATE, PLACE, ALTERNATE_STACK, MASK, SEGMENTS, DIMENSIONS };

static const char *const dimension_names[DIMENSIONS] = {
    "cs", "ss", "lenient ss", "rip", "rsp", "flags", "uc_flags", "state", "frame", "uc_stack", "mask", "ds, es, gs",
};

static const unsigned kinds[DIMENSIONS] = {
    COUNT_OF(selectors), COUNT_OF(selectors), COUNT_OF(selectors), COUNT_OF(rip_kinds), COUNT_OF(rsp_kinds),
    COUNT_OF(flag_kinds), COUNT_OF(context_kinds), COUNT_OF(state_kinds), COUNT_OF(place_kinds),
    COUNT_OF(stack_kinds), COUNT_OF(mask_kinds), COUNT_OF(segment_kinds),
};

static const char *kind_name(enum dimension dimension, unsigned kind)
{
    switch (dimension) {
    case CS: case SS: case LENIENT_SS: return selectors[kind].name;
    case RIP: return rip_kinds[kind];
    case RSP: return rsp_kinds[kind];
    case FLAGS: return flag_kinds[kind];
    case CONTEXT: return context_kinds[kind];
    case STATE: return state_kinds[kind];
    case PLACE: return place_kinds[kind];
    case ALTERNATE_STACK: return stack_kinds[kind];
    case MASK: return mask_kinds[kind];
    default: return segment_kinds[kind];
    }
}

/* ---- the frame ---- */

struct software_bytes {
    uint32_t magic, extended_size;
    uint64_t components;
    uint32_t size, padding[7];
};

/* struct sigcontext and ucontext, as the kernel has them. */
struct context {
    uint64_t flags, link, stack, stack_flags, stack_size;
    uint64_t registers[18];
    uint16_t cs, gs, fs, ss;
    uint64_t error, trap, old_mask, cr2, state, reserved[8], mask;
};

struct frame {
    uint64_t restorer;
    struct context context;
    siginfo_t info;
};

_Static_assert(sizeof(struct frame) == 440, "struct rt_sigframe");

enum { R8, R9, R10, R11, R12, R13, R14, R15, RDI, RSI, RBP, RBX, RDX, RAX, RCX, RSP_REGISTER, RIP_REGISTER, RFLAGS };
enum { MAGIC1 = 0x46505853, MAGIC2 = 0x46505845, LEGACY_BYTES = 512, SOFTWARE = 464, MXCSR = 24, XSTATE_BV = 512 };
enum { FLAG_TRAP = 0x100, FLAGS_TAKEN = 0x50dd5, FLAG_RESUME = 0x10000, FLAGS_FIXED = 0x202 };

static uint32_t state_bytes; /* the kernel's size of an XSAVE area */
static uint64_t state_components;
static uint16_t ldt_data;    /* a data segment of the LDT, if there is one */

/* One frame as it was asked for. */
static struct {
    unsigned kind[DIMENSIONS];
    struct frame *frame;     /* where sigreturn looks for it */
    struct context context;
    unsigned char *area;     /* the floating-point state, if it is ours */
    uint16_t segments[3];
} asked;

/* What came of it. */
static struct {
    volatile int signal;
    int code;
    uint64_t address;
    struct context context;
    unsigned char area[1024];
    uint16_t segments[3];
} seen;

static uint64_t after_sigreturn; /* RIP behind its SYSCALL */
static uint64_t last_fault;      /* what CR2 should show */
static jmp_buf back;

static uint64_t address_of(unsigned kind)
{
    switch (kind) {
    case AT_UNMAPPED: return 0xc0000000u | below(0x30000000);
    case AT_KERNEL: return 0xffff800000000000u | (draw() >> 17) | 0xc0000000u;
    case AT_NOT_CANONICAL: return (0x0100000000000000u + (draw() >> 1) % 0xfd00000000000000u) | 0xc0000000u;
    case AT_ZERO: return 0;
    default: return (draw() >> 18) | 0xc0000000u; /* the user half */
    }
}

static uint64_t pick_rip(void)
{
    unsigned kind = asked.kind[RIP];
    /* A segment with a base begins where the region does. */
    uint16_t cs = asked.context.cs | 3;
    uint64_t base = cs == LDT(LDT_CODE16) || cs == LDT(LDT_CODE32_BASE) ? 0 : REGION;
    switch (kind) {
    case AT_LANDING: return base + LANDING;
    case AT_STOP: return base + STOP + below(256);
    case AT_DATA: return DATA + below(PAGE);
    case AT_NO_ACCESS: return NO_ACCESS + below(PAGE);
    case AT_LAST: return UINT64_MAX;
    case AT_RANDOM: return address_of(below(2) ? AT_KERNEL : AT_RANDOM) & ~0xc0000000ul;
    default: return address_of(kind);
    }
}

static uint64_t pick_rsp(void)
{
    switch (asked.kind[RSP]) {
    case ON_STACK: return STACK + 8 * below(512);
    case ON_ODD: return STACK + below(PAGE);
    case ON_UNMAPPED: return address_of(AT_UNMAPPED);
    case ON_KERNEL: return address_of(AT_KERNEL);
    case ON_NOT_CANONICAL: return address_of(AT_NOT_CANONICAL);
    case ON_ZERO: return 0;
    case ON_ALTERNATE: return ALTERNATE + ALTERNATE_BYTES / 2 + below(PAGE);
    default: return below(2) ? draw() >> 18 : draw() >> 32;
    }
}

static uint64_t pick_flags(void)
{
    switch (asked.kind[FLAGS]) {
    case FLAGS_PLAIN: return FLAGS_FIXED;
    case FLAGS_RANDOM: return below(0x400000) & ~(uint64_t)FLAG_TRAP;
    case FLAGS_UPPER: return draw() & ~(uint64_t)FLAG_TRAP;
    case FLAGS_TRAP: return draw() | FLAG_TRAP;
    default: return UINT64_MAX;
    }
}

static uint16_t pick_selector(unsigned kind)
{
    if (kind < COUNT_OF(selectors) - 1)
        return selectors[kind].value;
    /* Entry 15 of the GDT is for a kernel to use as it likes. */
    uint16_t value = (uint16_t)draw();
    return (value & ~7) == 0x78 ? 0 : value;
}

static void fill(void *to, size_t bytes)
{
    uint64_t *words = to;
    for (size_t i = 0; i < bytes / 8; i++)
        words[i] = draw();
}

/* Writes the state's area and gives its address. */
static uint64_t make_state(unsigned kind)
{
    static const uint64_t small[] = {0, 511, 575}, odd[] = {1, 8, 16, 32};
    unsigned char *area = (unsigned char *)STATES;
    asked.area = NULL;
    switch (kind) {
    case STATE_NONE: return 0;
    case STATE_UNMAPPED: return address_of(AT_UNMAPPED) & ~63ul;
    case STATE_KERNEL: return address_of(AT_KERNEL) & ~63ul;
    case STATE_NOT_CANONICAL: return address_of(AT_NOT_CANONICAL) & ~63ul;
    case STATE_ODD: area += odd[below(COUNT_OF(odd))]; break;
    case STATE_ODD_LEGACY: area += 16 + below(2); break;
    case STATE_MAGIC_UNMAPPED: area += 2 * PAGE - 640; break;
    case STATE_END_UNMAPPED: area += 2 * PAGE - 256; break;
    default: break;
    }
    struct software_bytes software = {
        .magic = MAGIC1, .extended_size = state_bytes + 4, .components = state_components, .size = state_bytes,
    };
    uint64_t header[8] = {7};
    uint32_t mxcsr = (uint32_t)below(0x10000) & 0xffbf; /* not DAZ, which a CPU may lack */
    size_t room = (size_t)((unsigned char *)STATES + 2 * PAGE - area);
    fill(area, room < 832 ? room & ~7ul : 832);
    switch (kind) {
    case STATE_SOME: header[0] = below(8); break;
    case STATE_ASKED: software.components = draw(); break;
    case STATE_LEGACY: case STATE_ODD_LEGACY: software.magic = (uint32_t)draw() & 0xffff; break;
    case STATE_SMALL: software.size = (uint32_t)small[below(COUNT_OF(small))]; break;
    case STATE_BIG: software.size = state_bytes + 1 + (uint32_t)below(1 << 20); break;
    case STATE_LESS: software.size = 576 + 8 * (uint32_t)below(32); break;
    case STATE_EXTENDED: software.extended_size = software.size - 1 - (uint32_t)below(64); break;
    case STATE_RESERVED: header[2 + below(6)] = 1ul << below(64); break;
    case STATE_COMPACT: header[1] = 1ul << (below(2) ? 63 : below(63)); break;
    case STATE_UNKNOWN: header[0] |= 1ul << (20 + below(44)); break;
    case STATE_MXCSR: mxcsr |= 0x10000u << below(16); break;
    case STATE_NOISE: fill(header, sizeof header); break;
    case STATE_WILD: fill(header, sizeof header); fill(&software, sizeof software); break;
    default: break;
    }
    if (kind == STATE_END_UNMAPPED)
        return (uint64_t)area;
    memcpy(area + MXCSR, &mxcsr, sizeof mxcsr);
    memcpy(area + SOFTWARE, &software, sizeof software);
    memcpy(area + XSTATE_BV, header, sizeof header);
    uint32_t magic = kind == STATE_MAGIC2 ? (uint32_t)draw() & 0xffff : MAGIC2;
    if (software.size <= room - 4)
        memcpy(area + software.size, &magic, sizeof magic);
    if (kind != STATE_MAGIC_UNMAPPED)
        asked.area = area;
    return (uint64_t)area;
}

static struct frame *pick_place(unsigned kind)
{
    switch (kind) {
    case PLACE_UNMAPPED: return (struct frame *)(address_of(AT_UNMAPPED) & ~7ul);
    case PLACE_KERNEL: return (struct frame *)(address_of(AT_KERNEL) & ~7ul);
    case PLACE_NOT_CANONICAL: return (struct frame *)(address_of(AT_NOT_CANONICAL) & ~7ul);
    /* The mask is there, and more or less of what is before it. */
    case PLACE_HEAD: return (struct frame *)(FRAMES + PAGE - 8 - 8 * below(37));
    /* All of ucontext is there, and siginfo, which is not looked at, is not. */
    case PLACE_TAIL: return (struct frame *)(FRAMES + 3 * PAGE - 312 - 8 * below(16));
    case PLACE_LAST: return (struct frame *)(0x7ffffffff000ul - 8 * (1 + below(54)));
    default: return (struct frame *)(FRAME + 8 * below(8));
    }
}

static void make_frame(bool blocking_allowed)
{
    struct context *context = &asked.context;
    memset(context, 0, sizeof *context);
    bool one = below(2) == 0;
    for (int i = 0; i < DIMENSIONS; i++) {
        asked.kind[i] = 0;
        /* Where everything is random, most of what ends it early is left out. */
        if (!one && (i < STATE || below(8) == 0))
            asked.kind[i] = (unsigned)below(kinds[i]);
    }
    asked.kind[SS] = asked.kind[SS] == 0 && one ? 1 : asked.kind[SS];
    asked.kind[LENIENT_SS] = 1;
    enum dimension odd = one ? (enum dimension)below(DIMENSIONS) : DIMENSIONS;
    if (one)
        asked.kind[odd] = (unsigned)below(kinds[odd]);
    if (odd == LENIENT_SS) {
        asked.kind[SS] = asked.kind[LENIENT_SS];
        asked.kind[CONTEXT] = CONTEXT_LENIENT;
    }
    if (asked.kind[MASK] == MASK_ALL && !blocking_allowed)
        asked.kind[MASK] = MASK_RANDOM;
    for (int i = 0; i < 15; i++)
        context->registers[i] = draw();
    context->cs = pick_selector(asked.kind[CS]);
    context->ss = pick_selector(asked.kind[SS]);
    context->gs = (uint16_t)draw();
    context->fs = (uint16_t)draw();
    context->registers[RSP_REGISTER] = pick_rsp();
    context->registers[RIP_REGISTER] = pick_rip();
    context->registers[RFLAGS] = pick_flags();
    context->flags = asked.kind[CONTEXT] == CONTEXT_STRICT ? 7 : asked.kind[CONTEXT] == CONTEXT_LENIENT ? 3 : draw();
    context->link = draw();
    context->stack = ALTERNATE;
    context->stack_size = asked.kind[ALTERNATE_STACK] == STACK_SMALL ? below(2048) : ALTERNATE_BYTES;
    context->stack_flags = asked.kind[ALTERNATE_STACK] == STACK_DISARMS ? 1u << 31
                           : asked.kind[ALTERNATE_STACK] == STACK_FLAGS ? 4 + below(100) : 0;
    /* The signals that tell what happened are not blocked, unless a child is to die of it. */
    const uint64_t needed = 1 << (SIGILL - 1) | 1 << (SIGTRAP - 1) | 1 << (SIGBUS - 1) | 1 << (SIGSEGV - 1) | 1 << (SIGFPE - 1);
    context->mask = asked.kind[MASK] == MASK_RANDOM ? draw() & ~needed : asked.kind[MASK] == MASK_ALL ? UINT64_MAX : 0;
    context->state = make_state(asked.kind[STATE]);
    for (int i = 0; i < 3; i++)
        asked.segments[i] = asked.kind[SEGMENTS] == 0 ? 0 : asked.kind[SEGMENTS] == 1 ? USER_DATA : ldt_data;
    asked.frame = pick_place(asked.kind[PLACE]);
    if (asked.kind[PLACE] == PLACE_GOOD || asked.kind[PLACE] == PLACE_TAIL) {
        asked.frame->context = *context;
    } else if (asked.kind[PLACE] == PLACE_HEAD) {
        size_t missing = FRAMES + PAGE - (uint64_t)&asked.frame->context;
        memcpy((void *)(FRAMES + PAGE), (char *)context + missing, sizeof *context - missing);
    }
}

/* ---- sending it, and what comes back ---- */

static void read_segments(uint16_t to[3])
{
    __asm__ volatile("mov %%ds, %0\nmov %%es, %1\nmov %%gs, %2" : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]));
}

static void load_segments(const uint16_t from[3])
{
    __asm__ volatile("mov %0, %%ds\nmov %1, %%es\nmov %2, %%gs" : : "r"(from[0]), "r"(from[1]), "r"(from[2]));
}

static void handler(int signal, siginfo_t *info, void *context)
{
    /* AC may be set, and then nothing here could be unaligned. */
    __asm__ volatile("pushfq\nandq $~0x44000, (%%rsp)\npopfq" ::: "memory", "cc");
    seen.signal = signal;
    seen.code = info->si_code;
    seen.address = (uint64_t)info->si_addr;
    memcpy(&seen.context, context, sizeof seen.context);
    memcpy(seen.area, (void *)seen.context.state, 832);
    read_segments(seen.segments);
    _longjmp(back, 1);
}

static void __attribute__((noinline)) send_frame(void)
{
    __asm__ volatile("leaq 1f(%%rip), %%rcx\n"
                     "movq %%rcx, %0\n"
                     "movq %1, %%rsp\n"
                     "movl $15, %%eax\n" /* rt_sigreturn */
                     "syscall\n"
                     "1: ud2"
                     : "=m"(after_sigreturn)
                     : "r"((char *)asked.frame + 8)
                     : "rax", "rcx", "r11", "memory");
}

static void arm(void)
{
    stack_t stack = {.ss_sp = (void *)ALTERNATE, .ss_size = ALTERNATE_BYTES};
    sigaltstack(&stack, NULL);
}

static void try_frame(void)
{
    seen.signal = 0;
    if (_setjmp(back) == 0) {
        load_segments(asked.segments);
        send_frame();
    }
    /* SS_AUTODISARM leaves none. */
    if (seen.context.stack_flags != 0)
        arm();
}

/* ---- the verdict ---- */

enum registers { AS_ASKED, OF_THE_CALL, OTHERS };

static bool registers_are(const uint64_t *wanted, bool wide)
{
    for (int i = 0; i < 15; i++) {
        /* In 32-bit code the upper halves and R8 to R15 are nobody's. */
        if (!wide && i <= R15)
            continue;
        uint64_t difference = seen.context.registers[i] ^ wanted[i];
        if (wide ? difference != 0 : (uint32_t)difference != 0)
            return false;
    }
    return true;
}

static enum registers judge_registers(bool failed)
{
    const struct context *got = &seen.context;
    bool wide = got->cs == USER_CODE;
    if (failed && got->registers[RIP_REGISTER] == after_sigreturn && got->cs == USER_CODE &&
        got->registers[RSP_REGISTER] == (uint64_t)asked.frame + 8)
        return OF_THE_CALL;
    struct context wanted = asked.context;
    uint64_t rip = wanted.registers[RIP_REGISTER];
    /* INT3 and single steps end behind their one byte. */
    if (seen.signal == SIGTRAP || (seen.signal == SIGILL && asked.kind[RIP] == AT_LANDING))
        rip++;
    if (failed)
        wanted.registers[RAX] = 0;
    uint16_t ss = wanted.ss | 3;
    bool lenient = !(wanted.flags & 4) && (wanted.cs | 3) == USER_CODE;
    uint64_t flags = (wanted.registers[RFLAGS] & FLAGS_TAKEN) | FLAGS_FIXED;
    if (!registers_are(wanted.registers, wide) || got->cs != (wanted.cs | 3) ||
        (got->ss != ss && !(lenient && got->ss == USER_DATA)) ||
        ((got->registers[RFLAGS] ^ flags) & ~(uint64_t)FLAG_RESUME) != 0)
        return OTHERS;
    uint64_t differences = (got->registers[RIP_REGISTER] ^ rip) |
                           (got->registers[RSP_REGISTER] ^ wanted.registers[RSP_REGISTER]);
    /* A fault of the return itself shows them whole. */
    return (wide ? differences : (uint32_t)differences) == 0 ? AS_ASKED : OTHERS;
}

static const char *judge_error(void)
{
    static char text[24];
    uint64_t error = seen.context.error;
    if (seen.context.trap == 14 || error == 0)
        snprintf(text, sizeof text, "%lx", (unsigned long)error);
    else if (error == (seen.context.cs & ~3u))
        return "cs";
    else if (error == (seen.context.ss & ~3u))
        return "ss";
    else
        snprintf(text, sizeof text, "other %lx", (unsigned long)error);
    return text;
}

static const char *judge_state(void)
{
    static const unsigned char zero[256];
    if (memcmp(seen.area + 160, zero, 256) == 0)
        return "initial";
    return asked.area && memcmp(seen.area + 160, asked.area + 160, 256) == 0 ? "as asked" : "other";
}

static const char *judge_address(void)
{
    if (seen.code != SEGV_MAPERR && seen.code != SEGV_ACCERR)
        return seen.address == 0 ? "none" : seen.address == seen.context.registers[RIP_REGISTER] ? "rip" : "other";
    uint64_t rip = seen.context.registers[RIP_REGISTER];
    if (seen.address == rip)
        return "rip";
    return (uint32_t)seen.address == (uint32_t)(rip + REGION) ? "rip and base" : "other";
}

static char verdict[200];
static long wrong; /* frames with registers that nobody asked for */
static bool early; /* sigreturn failed before it touched a register */

static void judge(void)
{
    static const char *const register_verdicts[] = {"as asked", "of the call", "OTHERS"};
    /* sigreturn itself failed: the SIGSEGV has nothing to do with an exception. */
    bool trapped = seen.signal != SIGSEGV || seen.code != SI_KERNEL || seen.context.trap != 0;
    bool failed = seen.signal == SIGSEGV && seen.code == SI_KERNEL &&
                  (seen.context.registers[RAX] == 0 && asked.context.registers[RAX] != 0);
    if (seen.context.trap == 14 && seen.code != SI_KERNEL)
        last_fault = seen.address;
    bool segments_stay = memcmp(seen.segments, asked.segments, sizeof seen.segments) == 0;
    enum registers whose = judge_registers(failed);
    bool cr2_stays = seen.context.cr2 == last_fault;
    bool context_flags = seen.context.flags == (seen.context.cs == USER_CODE ? 7u : 3u);
    if (whose == OTHERS || !segments_stay || !cr2_stays || !context_flags)
        wrong++;
    const char *registers = register_verdicts[whose];
    early = whose == OF_THE_CALL;
    if (failed)
        snprintf(verdict, sizeof verdict, "SIGSEGV by sigreturn, registers %s", registers);
    else
        snprintf(verdict, sizeof verdict, "signal %d code %d trap %lu error %s address %s, registers %s%s",
                 seen.signal, seen.code, (unsigned long)seen.context.trap, judge_error(), judge_address(), registers,
                 trapped ? "" : ", no trap");
    size_t length = strlen(verdict);
    snprintf(verdict + length, sizeof verdict - length, ", state %s%s%s%s", early ? "of the call" : judge_state(),
             segments_stay ? "" : ", SEGMENTS CHANGED", cr2_stays ? "" : ", CR2 CHANGED",
             context_flags ? "" : ", UC_FLAGS");
}

/* In a child, because it may not survive. */
static void try_in_child(void)
{
    pid_t child = fork();
    if (child == 0) {
        try_frame();
        _exit(0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    snprintf(verdict, sizeof verdict, WIFSIGNALED(status) ? "killed by signal %d" : "status %d",
             WIFSIGNALED(status) ? WTERMSIG(status) : status);
}

/* ---- the lines ---- */

struct tally {
    char verdict[sizeof verdict];
    unsigned long count;
};

static struct line {
    struct tally tallies[6];
    unsigned long others, count;
    uint32_t digest;
} lines[DIMENSIONS][COUNT_OF(selectors)];

static struct tally random_ends[256];
static uint32_t random_digest;

static uint32_t mix(uint32_t digest, const void *bytes, size_t count)
{
    const unsigned char *from = bytes;
    uint64_t wide = digest;
    for (; count >= 8; from += 8, count -= 8) {
        uint64_t word;
        memcpy(&word, from, sizeof word);
        wide = (wide ^ word) * 0x9e3779b97f4a7c15u;
        wide ^= wide >> 32;
    }
    for (; count > 0; from++, count--)
        wide = (wide ^ *from) * 0x100000001b3u;
    return (uint32_t)(wide ^ wide >> 32);
}

/* What XSAVE writes of x87 and SSE state; between that, the area has what was there before. */
static uint32_t mix_state(uint32_t digest)
{
    digest = mix(digest, seen.area, 5); /* control, status, tags */
    digest = mix(digest, seen.area + MXCSR, 4);
    for (int i = 0; i < 8; i++)
        digest = mix(digest, seen.area + 32 + 16 * i, 10);
    return mix(digest, seen.area + 160, 256);
}

static bool add_to(struct tally *tallies, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (tallies[i].count == 0)
            memcpy(tallies[i].verdict, verdict, sizeof verdict);
        if (strcmp(tallies[i].verdict, verdict) == 0) {
            tallies[i].count++;
            return true;
        }
    }
    return false;
}

/* Which one thing is odd, if it is one. */
static int odd_dimension(void)
{
    int odd = -1;
    for (int i = 0; i < DIMENSIONS; i++) {
        unsigned usual = i == SS || i == LENIENT_SS ? 1 : 0;
        if (asked.kind[i] == usual)
            continue;
        if (odd == LENIENT_SS && i == CONTEXT)
            continue;
        if (odd == SS && i == LENIENT_SS) {
            odd = LENIENT_SS;
            continue;
        }
        if (odd >= 0)
            return DIMENSIONS;
        odd = i;
    }
    return odd < 0 ? RIP : odd;
}

static void note(bool in_child)
{
    int odd = odd_dimension();
    uint32_t digest = odd < DIMENSIONS ? lines[odd][asked.kind[odd]].digest : random_digest;
    digest = mix(digest, verdict, strlen(verdict));
    if (!in_child && !early)
        digest = mix_state(digest);
    if (odd == DIMENSIONS) {
        random_digest = digest;
        add_to(random_ends, COUNT_OF(random_ends));
        return;
    }
    struct line *line = &lines[odd][asked.kind[odd]];
    line->digest = digest;
    line->count++;
    if (!add_to(line->tallies, COUNT_OF(line->tallies)))
        line->others++;
}

static int compare_tallies(const void *one, const void *other)
{
    return strcmp(((const struct tally *)one)->verdict, ((const struct tally *)other)->verdict);
}

static void say_lines(void)
{
    for (int i = 0; i < DIMENSIONS; i++)
        for (unsigned kind = 0; kind < kinds[i]; kind++) {
            struct line *line = &lines[i][kind];
            if (line->count == 0)
                continue;
            say("%s: %s: %lu frames, digest %08x", dimension_names[i], kind_name((enum dimension)i, kind), line->count,
                line->digest);
            for (size_t t = 0; t < COUNT_OF(line->tallies) && line->tallies[t].count; t++)
                say("    %lu: %s", line->tallies[t].count, line->tallies[t].verdict);
            if (line->others)
                say("    %lu: others", line->others);
        }
    size_t ends = 0;
    while (ends < COUNT_OF(random_ends) && random_ends[ends].count)
        ends++;
    qsort(random_ends, ends, sizeof *random_ends, compare_tallies);
    say("all random: digest %08x", random_digest);
    for (size_t i = 0; i < ends; i++)
        say("    %lu: %s", random_ends[i].count, random_ends[i].verdict);
}

/* ---- */

static void map(uint64_t address, size_t bytes, int protection)
{
    void *place = mmap((void *)address, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (place == MAP_FAILED)
        check_that("memory", false);
}

static void prepare(void)
{
    map(REGION, 0x10000, PROT_READ | PROT_WRITE | PROT_EXEC);
    memset((void *)REGION, 0xcc, 0x10000);
    memcpy((void *)(REGION + LANDING), "\x90\x0f\x0b", 3);
    map(DATA, PAGE, PROT_READ | PROT_WRITE);
    *(volatile char *)DATA = 0; /* present from the start */
    map(NO_ACCESS, PAGE, PROT_NONE);
    map(STACK, PAGE, PROT_READ | PROT_WRITE);
    map(FRAMES, PAGE, PROT_NONE);
    map(FRAMES + PAGE, 2 * PAGE, PROT_READ | PROT_WRITE);
    map(STATES, 2 * PAGE, PROT_READ | PROT_WRITE);
    map(ALTERNATE, ALTERNATE_BYTES, PROT_READ | PROT_WRITE);
    arm();
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    for (size_t i = 0; i < COUNT_OF(signals); i++)
        sigaction(signals[i], &action, NULL);
    long installed = 0;
    for (size_t i = 0; i < COUNT_OF(descriptors); i++)
        installed += syscall(SYS_modify_ldt, 0x11, &descriptors[i], sizeof descriptors[i]) == 0;
    ldt_data = installed ? LDT(LDT_DATA32) : USER_DATA;
    say("ldt entries: %ld", installed);
    /* The first frame is the kernel's own, and tells the size of the floating-point state. */
    if (_setjmp(back) == 0)
        __asm__ volatile("ud2");
    struct software_bytes software;
    memcpy(&software, seen.area + SOFTWARE, sizeof software);
    state_bytes = software.size;
    state_components = software.components;
    check_that("the kernel's own frame", seen.signal == SIGILL && software.magic == MAGIC1 && state_bytes >= 832 &&
                                             state_bytes <= PAGE);
}

int main(int count, char **arguments)
{
    long frames = count > 1 ? atol(arguments[1]) : DEFAULT_FRAMES;
    random_bits = (count > 2 ? strtoul(arguments[2], NULL, 0) : 1) * 0x9e3779b97f4a7c15ul | 1;
    long first = count > 4 ? atol(arguments[3]) : frames, last = count > 4 ? atol(arguments[4]) : 0;
    prepare();
    unsigned long deaths = 0;
    for (long i = 0; i < frames && check_failures == 0; i++) {
        make_frame(i % 64 == 0);
        bool in_child = asked.kind[MASK] == MASK_ALL;
        if (in_child) {
            deaths++;
            try_in_child();
        } else {
            try_frame();
            judge();
        }
        if (i >= first && i <= last) {
            say("frame %ld: cs %x ss %x rip %lx rsp %lx", i, asked.context.cs, asked.context.ss,
                (unsigned long)asked.context.registers[RIP_REGISTER], (unsigned long)asked.context.registers[RSP_REGISTER]);
            for (int d = 0; d < DIMENSIONS; d++)
                say("    %s: %s", dimension_names[d], kind_name((enum dimension)d, asked.kind[d]));
            say("    %s", verdict);
        }
        note(in_child);
    }
    load_segments((const uint16_t[3]){0, 0, 0});
    say_lines();
    say("%lu in children", deaths);
    check_long("frames with registers that nobody asked for", wrong, 0);
    return check_end("sigreturnstorm");
}
