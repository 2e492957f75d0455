/*
 * One LDT, many CPUs: a thread changes descriptors by modify_ldt while threads on the other CPUs load their selectors,
 * run on them and ask about them. After modify_ldt has returned, no CPU may see what was there before.
 *
 *   ldtthreads [ROUNDS]     rounds of each of the lives that a process leads here, 24 if not said
 *
 * The changer publishes what the watched entry says in one word, the epoch: the round, the entry, the number of the
 * segment's base and its kind, and whether it is being changed. A checker that finds the same epoch before and after a
 * look knows what the look must have given: the word at the base, or a certain fault. A look
 *
 *   - loads the selector and reads by it, in 32-bit code (in 64-bit code FS and GS alone have a base);
 *   - jumps to it, if it is code: at each base there is code that says where it is;
 *   - stays: loads it once and goes on over changes. DS and ES get the new descriptor with the change, as Linux
 *     promises; CS and SS by the IRET from the interrupt that told this CPU, or that IRET faults;
 *   - asks LAR and LSL.
 *
 * Meanwhile the LDT grows from nothing to all of its 16 pages; checkers change entries of their own, take signals, move
 * from CPU to CPU, fork, and call the kernel from 16-bit stacks. A process ends in each of many ways in the middle of
 * this, and another one, which has no LDT, runs beside it.
 *
 * Sources: Intel SDM vol. 3, 3.4.3 and 5.4; modify_ldt(2).
 */
#include "others.h"
#include "random.h"
#include "segment.h"
#include "workers.h"

#include <pthread.h>
#include <sys/ucontext.h>

enum { AREAS = 8, MOST_CHECKERS = 7, CODE_AT = 64, FLAT_CODE_32 = 0x23 };

/* The first word at base number 0. */
#define MARK 0x51a70000
#define SPELL(number) #number
#define TEXT(number) SPELL(number)

/* The epoch, which the code below takes apart too: busy, 3 bits of kind, 3 of the base's number, 3 of the entry. */
enum { BUSY = 1, KIND_SHIFT = 1, BASE_SHIFT = 4, ENTRY_SHIFT = 7, ROUND_SHIFT = 10 };
enum kind { WRITABLE, READABLE, READABLE_CODE, BARE_CODE, ABSENT, EMPTY, NARROW, ABSENT_CODE };

/* Entries that are watched, one after the other: the table grows. */
static const uint32_t watched[8] = {2, 3, 511, 512, 1600, 4097, 7000, 8190};
/* Those that stay: a 16-bit stack, two that change one after the other, and one for each checker. */
enum { STACK_16 = 1, FIRST = 8, SECOND = 9, OWN = 20 };

enum trap { NO_FAULT = 0, NOT_PRESENT = 11, STACK_FAULT = 12, GENERAL_PROTECTION = 13 };

static _Atomic uint32_t epoch __attribute__((used)) = BUSY;
static _Atomic uint32_t looked[MOST_CHECKERS]; /* the last epoch that each checker looked in */
static uint8_t *areas;
static int cpus = 1, checkers;
static long rounds = 24;

/* What outlives a process. */
static struct {
    atomic_long wrong, looks, faults, stays, calls, forks, own, crossed;
    atomic_bool over;
} *shared;

/* A look. In static memory, which 32 bits can name; the code below knows the offsets. */
static struct visit {
    uint32_t selector, stack_selector, stack_pointer; /* 0, 4, 8 */
    uint32_t turns;                                   /* 12: at most */
    volatile uint32_t at, value;                      /* 16, 20: the last epoch, and what it gave */
    uint32_t offset, code;                            /* 24: a far pointer: where to */
    uint64_t own_stack, own_fs;                       /* 32, 40 */
    volatile uint32_t seen, seen_stack_pointer;       /* 48, 52: looks with a stable epoch; ESP at the end */
    volatile uint32_t signal, trap, error;
    uint8_t handler_stack[16384];
} visits[MOST_CHECKERS];

/*
 * visit: goes to `code:offset` with RDI = the visit, and the visit's stack. Back by a jump to `leave`.
 *
 * In all looks EAX has the epoch, EDX what was found; `flat` is a register that leads to 4 GiB from 0. A look is over with
 * the epoch or when something else was found. One that stays waits for the next epoch and goes on, as long as that is about
 * the same entry; `code_word` and `stay_word` are filled in in each copy.
 */
#define FOUND(flat) \
    "mov %edx, %" #flat ":20(%edi)\n" \
    "cmp %eax, %" #flat ":epoch\n"
#define RIGHT(flat) \
    "incl %" #flat ":48(%edi)\n" \
    "shr $4, %eax\n" \
    "and $7, %eax\n" \
    "add $" TEXT(MARK) ", %eax\n" \
    "cmp %eax, %edx\n" \
    "jne 9f\n"
#define LOOK(name, flat, get, again, end) \
    ".globl " #name "\n" #name ":\n" \
    "1: mov %" #flat ":(%edi), %ecx\n" \
    "mov %" #flat ":16(%edi), %eax\n" \
    "cmp %eax, %" #flat ":epoch\n" \
    "jne 9f\n" \
    get FOUND(flat) "jne 9f\n" RIGHT(flat) \
    "decl %" #flat ":12(%edi)\n" \
    "jz 9f\n" again \
    "9: mov %esp, %" #flat ":52(%edi)\n" end
#define STAY(name, flat, load, get) \
    ".globl " #name "\n" #name ":\n" \
    "mov %" #flat ":(%edi), %ecx\n" \
    "mov %" #flat ":16(%edi), %esi\n" load \
    "1: mov %" #flat ":epoch, %eax\n" \
    "mov %" #flat ":16(%edi), %ebx\n" \
    "xor %eax, %ebx\n" \
    "test $0x380, %ebx\n" \
    "jnz 9f\n" \
    "test $1, %al\n" \
    "jnz 1b\n" \
    "mov %eax, %" #flat ":16(%edi)\n" \
    get FOUND(flat) "jne 8f\n" RIGHT(flat) \
    "8: cmp %" #flat ":16(%edi), %esi\n" \
    "je 1b\n" \
    "decl %" #flat ":12(%edi)\n" \
    "jnz 1b\n" \
    "9: mov %esp, %" #flat ":52(%edi)\n" FAR_LEAVE
#define BY(segment) "mov %ecx, %" #segment "\nmov %" #segment ":0, %edx\n"
#define FAR_LEAVE "ljmp $0x33, $leave\n"

__asm__(".pushsection .text\n"
        ".globl visit, leave\n"
        "visit:\n"
        "push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp, 32(%rdi)\n"
        "mov %fs:0, %rax\n" /* a thread's block begins with its own address */
        "mov %rax, 40(%rdi)\n"
        "mov $0x2b, %ecx\nmov %ecx, %ds\nmov %ecx, %es\n"
        "mov 8(%rdi), %eax\nmov 4(%rdi), %ecx\n"
        "mov %ecx, %ss\n"
        "mov %eax, %esp\n"
        "ljmp *24(%rdi)\n"
        "leave:\n"
        "mov %edi, %edi\n"
        "mov 32(%rdi), %rsp\n"
        "mov $0x2b, %ecx\nmov %ecx, %ss\n"
        "xor %ecx, %ecx\nmov %ecx, %ds\nmov %ecx, %es\nmov %ecx, %gs\n"
        "mov 40(%rdi), %rsi\n"
        "mov $0x1002, %edi\n" /* ARCH_SET_FS */
        "mov $158, %eax\n"
        "syscall\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\n"
        "ret\n"
        LOOK(look_fs_64, ds, BY(fs), "jmp 1b\n", "jmp leave\n")
        LOOK(look_gs_64, ds, BY(gs), "jmp 1b\n", "jmp leave\n")
        ".code32\n"
        LOOK(look_ds, es, BY(ds), "jmp 1b\n", FAR_LEAVE)
        LOOK(look_es, ds, BY(es), "jmp 1b\n", FAR_LEAVE)
        LOOK(look_fs, ds, BY(fs), "jmp 1b\n", FAR_LEAVE)
        LOOK(look_gs, ds, BY(gs), "jmp 1b\n", FAR_LEAVE)
        LOOK(look_ss, ds, BY(ss), "jmp 1b\n", FAR_LEAVE)
        STAY(stay_ds, es, "mov %ecx, %ds\n", "mov %ds:0, %edx\n")
        STAY(stay_es, ds, "mov %ecx, %es\n", "mov %es:0, %edx\n")
        STAY(stay_ss, ds, "mov %ecx, %ss\n", "mov %ss:0, %edx\n")
        /* These two are copied to each base. */
        ".globl code, jump_word, stay_word, code_end\n"
        "code:\n"
        LOOK(jump, ds, "jump_word: mov $0, %edx\n", "ljmp *24(%edi)\n", FAR_LEAVE)
        STAY(stay, ds, "", "stay_word: mov $0, %edx\n")
        "code_end:\n"
        /* getppid by INT 0x80, as long as ESP comes back as it was. */
        ".globl small_stack\n"
        "small_stack:\n"
        "mov $64, %eax\n"
        "int $0x80\n"
        "mov %eax, 20(%edi)\n"
        "mov %esp, 52(%edi)\n"
        "cmp 8(%edi), %esp\n"
        "jne 1f\n"
        "decl 12(%edi)\n"
        "jnz small_stack\n"
        "1: " FAR_LEAVE
        ".code64\n"
        ".popsection\n");
extern void visit(struct visit *);
extern char leave[], look_fs_64[], look_gs_64[], look_ds[], look_es[], look_fs[], look_gs[], look_ss[], stay_ds[], stay_es[],
    stay_ss[], code[], jump[], stay[], jump_word[], stay_word[], code_end[], small_stack[];

_Static_assert(offsetof(struct visit, offset) == 24 && offsetof(struct visit, own_fs) == 40 &&
                   offsetof(struct visit, seen_stack_pointer) == 52,
               "the code above has these as numbers");

static enum kind kind_of(uint32_t at)
{
    return at >> KIND_SHIFT & 7;
}

static uint32_t base_of(uint32_t at)
{
    return at >> BASE_SHIFT & 7;
}

static uint32_t entry_of(uint32_t at)
{
    return watched[at >> ENTRY_SHIFT & 7];
}

static void wrong(const char *what, uint32_t at, long got)
{
    if (atomic_fetch_add(&shared->wrong, 1) < 20)
        say("FAIL %s: round %u, entry %u, kind %d, base %u: got %#lx", what, at >> ROUND_SHIFT, entry_of(at),
            kind_of(at), base_of(at), got);
}

static uint32_t address(const void *place)
{
    return (uint32_t)(uintptr_t)place;
}

/* A fault ends the visit. FS may be anything: nothing here may use what is a thread's own. */
static void on_signal(int number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    uint64_t offset = (uint32_t)registers[REG_RDI] - (uint64_t)address(visits);
    (void)info;
    if (number == SIGUSR1)
        return;
    bool is_visit = offset < sizeof visits && offset % sizeof *visits == 0;
    uint64_t selectors = (uint64_t)registers[REG_CSGSFS];
    /* SIGUSR1's handler has the stack segment that was there, until a change takes that away. Its sigreturn will fault. */
    if (!is_visit && (selectors & 0xffff) == FLAT_CODE && selectors >> 48 & 4) {
        registers[REG_CSGSFS] = (greg_t)(selectors << 16 >> 16 | (uint64_t)FLAT_DATA << 48);
        return;
    }
    if (!is_visit) {
        static const char text[] = "FAIL a fault outside of a visit\n";
        long written = SYS_write;
        __asm__ volatile("syscall" : "+a"(written) : "D"(1L), "S"(text), "d"(sizeof text - 1) : "rcx", "r11", "memory");
        __asm__ volatile("syscall" : : "a"((long)SYS_exit_group), "D"(98L));
        __builtin_unreachable();
    }
    struct visit *me = &visits[offset / sizeof *visits];
    me->signal = (uint32_t)number;
    me->trap = (uint32_t)registers[REG_TRAPNO];
    me->error = (uint32_t)registers[REG_ERR];
    registers[REG_CSGSFS] = FLAT_CODE | (greg_t)FLAT_DATA << 48;
    registers[REG_RIP] = (greg_t)leave;
    registers[REG_RSP] = (greg_t)me->own_stack;
}

/* What a selector's load gives; `place` is the register. */
enum place { DATA_REGISTER, STACK_REGISTER, CODE_REGISTER };
static enum trap trap_of(enum kind kind, enum place place)
{
    bool is_code = kind == READABLE_CODE || kind == BARE_CODE || kind == ABSENT_CODE;
    bool is_absent = kind == ABSENT || kind == ABSENT_CODE;
    switch (place) {
    case STACK_REGISTER:
        return kind == WRITABLE || kind == NARROW ? NO_FAULT : kind == ABSENT ? STACK_FAULT : GENERAL_PROTECTION;
    case CODE_REGISTER:
        return !is_code ? GENERAL_PROTECTION : is_absent ? NOT_PRESENT : NO_FAULT;
    default:
        return kind == EMPTY || kind == BARE_CODE ? GENERAL_PROTECTION : is_absent ? NOT_PRESENT : NO_FAULT;
    }
}

/* The ways to look. */
static const struct way {
    const char *name, *code;
    enum place place;
    bool stays, is_64;
} ways[] = {
    {"a load of DS", look_ds, DATA_REGISTER, false, false},
    {"a load of ES", look_es, DATA_REGISTER, false, false},
    {"a load of FS", look_fs, DATA_REGISTER, false, false},
    {"a load of GS", look_gs, DATA_REGISTER, false, false},
    {"a load of FS in 64-bit code", look_fs_64, DATA_REGISTER, false, true},
    {"a load of GS in 64-bit code", look_gs_64, DATA_REGISTER, false, true},
    {"a load of SS", look_ss, STACK_REGISTER, false, false},
    {"a jump", jump, CODE_REGISTER, false, false},
    {"DS that stays", stay_ds, DATA_REGISTER, true, false},
    {"ES that stays", stay_es, DATA_REGISTER, true, false},
    {"SS that stays", stay_ss, STACK_REGISTER, true, false},
    {"CS that stays", stay, CODE_REGISTER, true, false},
};

/* The kind of each round, as long as it is remembered. */
enum { REMEMBERED = 4096 };
static _Atomic uint8_t kinds_of[REMEMBERED];

/* Whether a register that was loaded in epoch `from` has been taken away by `to`, and is null since. */
static bool was_taken(uint32_t from, uint32_t to, enum place place)
{
    from >>= ROUND_SHIFT;
    to >>= ROUND_SHIFT;
    for (uint32_t round = from; round < to && to - from < REMEMBERED; round++)
        if (trap_of(atomic_load(&kinds_of[round % REMEMBERED]), place) != NO_FAULT)
            return true;
    return to - from >= REMEMBERED;
}

static void prepare(struct visit *me, uint32_t stack, uint32_t pointer, uint32_t turns)
{
    me->stack_selector = stack;
    me->stack_pointer = pointer;
    me->turns = turns;
    me->seen = me->value = me->signal = me->trap = me->error = 0;
}

static bool is_still(uint32_t at)
{
    atomic_thread_fence(memory_order_seq_cst);
    return atomic_load(&epoch) == at;
}

static void look(struct visit *me, int number, const struct way *way, uint32_t at)
{
    bool is_code = way->place == CODE_REGISTER;
    me->at = at;
    me->selector = of_ldt(entry_of(at));
    me->code = way->is_64 ? FLAT_CODE : is_code ? me->selector : FLAT_CODE_32;
    me->offset = is_code ? (uint32_t)(CODE_AT + (way->code - code)) : address(way->code);
    /* Nothing is pushed: ring 3's far calls and returns fault on QEMU's TCG as long as SMAP is on. */
    prepare(me, FLAT_DATA, 0x12345670 + ((uint32_t)number << 28), 100);
    if (way->stays)
        atomic_store(&looked[number], at); /* nobody is to wait for one that waits */
    visit(me);
    atomic_fetch_add(way->stays ? &shared->stays : &shared->looks, me->seen);
    /* Of one that stays, `at` went with the epochs. */
    atomic_fetch_add(&shared->crossed, me->at != at && me->seen != 0);
    uint32_t first = at;
    at = me->at;
    enum trap expected = trap_of(kind_of(at), way->place);
    if (me->signal != 0) {
        atomic_fetch_add(&shared->faults, 1);
        if (!is_still(at))
            return;
        if (expected == NO_FAULT && !was_taken(first, at, way->place))
            wrong(way->name, at, me->trap);
        /* One that stays is thrown out by another fault: of the null selector, or of IRET. */
        if (way->stays)
            return;
        if (me->trap != expected)
            wrong("the trap", at, me->trap);
        if (me->error != (me->selector & ~3u))
            wrong("the error code", at, me->error);
        if (me->signal != (expected == GENERAL_PROTECTION ? SIGSEGV : SIGBUS))
            wrong("the signal", at, me->signal);
        return;
    }
    if (me->seen != 0 && me->value != MARK + base_of(at) && is_still(at))
        wrong(way->name, at, me->value);
    if (me->seen != 0 && expected != NO_FAULT && is_still(at))
        wrong("a segment that cannot be had", at, me->value);
    if (me->seen_stack_pointer != me->stack_pointer)
        wrong("ESP", at, me->seen_stack_pointer);
}

static struct segment described(uint32_t at)
{
    enum kind kind = kind_of(at);
    struct segment segment = {
        .number = entry_of(at),
        .base = address(areas) + 4096 * base_of(at),
        .limit = 4096 + (at >> ROUND_SHIFT),
        .wide = kind != NARROW,
        .kind = kind == READABLE_CODE || kind == BARE_CODE || kind == ABSENT_CODE ? CODE : DATA,
        .read_exec_only = kind == READABLE || kind == BARE_CODE,
        .not_present = kind == ABSENT || kind == ABSENT_CODE,
    };
    return kind == EMPTY ? none(segment.number) : segment;
}

static void ask(uint32_t at)
{
    static const long rights[] = {0x40f300, 0x40f100, 0x40fb00, 0x40f900, 0x407300, -1, 0xf300, 0x407b00};
    long expected = rights[kind_of(at)], limit = expected < 0 ? -1 : (long)described(at).limit;
    for (int turn = 0; turn < 50; turn++) {
        long found = rights_of(of_ldt(entry_of(at))), found_limit = limit_of(of_ldt(entry_of(at)));
        if (!is_still(at))
            return;
        if (found != expected)
            wrong("LAR", at, found);
        if (found_limit != limit)
            wrong("LSL", at, found_limit);
        if (found != expected || found_limit != limit)
            return;
    }
    atomic_fetch_add(&shared->looks, 50);
}

/* An entry of this checker's own, which no change of another's may lose. */
static void change_own(int number, uint32_t turn)
{
    struct segment segment = flat(OWN + (uint32_t)number, DATA);
    segment.pages = 0;
    segment.limit = turn & 0xfffff;
    if (set_entry(segment) != 0)
        wrong("modify_ldt of another thread", 0, 0);
    long found = limit_of(of_ldt(segment.number));
    if (found != (long)segment.limit)
        wrong("an entry of this thread's", 0, found);
    atomic_fetch_add(&shared->own, 1);
}

static void check_own(int number, long expected)
{
    long found = limit_of(of_ldt(OWN + (uint32_t)number));
    if (expected >= 0 && found != expected)
        wrong("an entry of this thread's that was lost", 0, found);
}

/* Calls from a 16-bit stack, whose upper half of ESP is this thread's. */
static void call_from_small_stack(struct visit *me, int number, uint32_t turn, long parent)
{
    me->code = FLAT_CODE_32;
    me->offset = address(small_stack);
    prepare(me, of_ldt(STACK_16), (uint32_t)(number + 1) << 28 | (turn & 0xfff) << 16 | 0x2340, 50);
    visit(me);
    if (me->signal != 0)
        wrong("a call from a 16-bit stack, the trap", 0, me->trap);
    else if (me->seen_stack_pointer != me->stack_pointer)
        wrong("ESP of a 16-bit stack", me->stack_pointer, me->seen_stack_pointer);
    else if (me->value != (uint32_t)parent)
        wrong("a call from a 16-bit stack", 0, me->value);
    atomic_fetch_add(&shared->calls, 50 - me->turns);
}

/* A child has one moment's table, and one of its own. */
static void fork_once(int number, long own)
{
    pid_t child = fork();
    if (child == 0) {
        long first = limit_of(of_ldt(FIRST)), second = limit_of(of_ldt(SECOND));
        if (first != second && first != second + 1)
            _exit(1);
        if (own >= 0 && limit_of(of_ldt(OWN + (uint32_t)number)) != own)
            _exit(2);
        for (int turn = 0; turn < 3; turn++) {
            struct segment segment = flat(OWN + (uint32_t)number, CODE);
            if (set_entry(segment) != 0 || rights_of(of_ldt(segment.number)) != 0xc0fb00)
                _exit(3);
            sched_yield();
        }
        _exit(limit_of(of_ldt(FIRST)) == first && limit_of(of_ldt(SECOND)) == second ? 0 : 4);
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        wrong("a child's LDT", 0, status);
    atomic_fetch_add(&shared->forks, 1);
}

static void move_to(int cpu)
{
    pin(cpu % cpus);
}

/* ---- a process: one changer, and checkers */

static atomic_bool done;
static _Atomic uint32_t works[MOST_CHECKERS]; /* futexes: 0 while a checker is to sleep */

/* Most of the time one checker works, so that an emulator's CPUs need not wait for each other; now and then all do. Gives
 * how many. */
static int set_to_work(long round)
{
    int working = 0;
    long block = round / 4;
    for (int i = 0; i < checkers; i++) {
        bool is_to = round < 0 || block % 3 == 2 || block % checkers == i;
        working += is_to;
        set_worker(&works[i], is_to);
    }
    return working;
}

static void *check(void *argument)
{
    int number = (int)(intptr_t)argument;
    struct visit *me = &visits[number];
    stack_t alternate = {.ss_sp = me->handler_stack, .ss_size = sizeof me->handler_stack};
    sigaltstack(&alternate, NULL);
    move_to(number + 1);
    long own = -1, parent = getppid();
    for (uint32_t turn = (uint32_t)number * 5; !atomic_load(&done); turn++) {
        while (!atomic_load(&works[number]) && !atomic_load(&done))
            sleep_at(&works[number]);
        uint32_t at = atomic_load(&epoch);
        if (at & BUSY) {
            sched_yield();
            continue;
        }
        switch (turn % 32) {
        case 6:
            check_own(number, own);
            change_own(number, turn);
            own = turn & 0xfffff;
            break;
        case 13:
        case 29:
            if (at >> ROUND_SHIFT > 0)
                call_from_small_stack(me, number, turn, parent);
            break;
        case 20:
            if (turn % 256 == 20)
                fork_once(number, own);
            if (turn % 64 == 20)
                move_to(number + 1 + (int)(turn / 64 % 2));
            break;
        default:
            if (turn % 7 == 0)
                ask(at);
            else
                look(me, number, &ways[turn % COUNT_OF(ways)], at);
        }
        atomic_store(&looked[number], at);
    }
    return NULL;
}

static void set(struct segment segment)
{
    if (set_entry(segment) != 0)
        wrong("modify_ldt", atomic_load(&epoch), 0);
}

static void let_them_look(uint32_t at, int wanted)
{
    for (int seen = 0, turn = 0; seen < wanted; turn++) {
        if (turn % 64 == 63)
            usleep(200);
        sched_yield();
        seen = 0;
        for (int i = 0; i < checkers; i++)
            seen += atomic_load(&looked[i]) == at;
    }
}

static pthread_t threads[MOST_CHECKERS];

/* From the first entry to the last, so that the table grows; the base is another one each time. */
static void change(long from, long to)
{
    static const enum kind kinds[] = {WRITABLE, WRITABLE, WRITABLE, READABLE, READABLE_CODE, READABLE_CODE, BARE_CODE,
                                      ABSENT,   EMPTY,    NARROW,   NARROW,   ABSENT_CODE};
    static uint32_t pairs;
    uint32_t at = atomic_load(&epoch);
    for (long round = from; round < to && atomic_load(&shared->wrong) == 0; round++) {
        uint32_t base = (base_of(at) + 1 + pick(AREAS - 1)) % AREAS, entry = (uint32_t)(round * 8 / rounds);
        atomic_store(&epoch, at | BUSY);
        at = (uint32_t)round << ROUND_SHIFT | entry << ENTRY_SHIFT | base << BASE_SHIFT |
             (uint32_t)kinds[pick(COUNT_OF(kinds))] << KIND_SHIFT;
        atomic_store(&kinds_of[round % REMEMBERED], (uint8_t)kind_of(at));
        set(described(at));
        if (round == from || round % 4 == 1) {
            struct segment segment = {.number = FIRST, .limit = ++pairs, .wide = 1};
            set(segment);
            segment.number = SECOND;
            set(segment);
        }
        if (round == from)
            set(narrow(STACK_16, DATA, areas));
        int working = set_to_work(round);
        atomic_store(&epoch, at);
        if (round % 8 == 3)
            pthread_kill(threads[pick((unsigned)checkers)], SIGUSR1);
        ask(at);
        let_them_look(at, round % 4 == 0 ? working : 1);
    }
}

static void start(void)
{
    atomic_store(&done, false);
    for (int i = 0; i < checkers; i++)
        if (pthread_create(&threads[i], NULL, check, (void *)(intptr_t)i) != 0)
            wrong("no thread", 0, i);
}

static void stop(void)
{
    atomic_store(&done, true);
    /* The end of every look, and of all waiting. */
    atomic_store(&epoch, (atomic_load(&epoch) ^ 1 << ENTRY_SHIFT) | BUSY);
    set_to_work(-1);
    for (int i = 0; i < checkers; i++)
        pthread_join(threads[i], NULL);
}

/* A process without an LDT gets one, uses it, and ends; most in the middle. */
enum end { JOINED, REPLACED, EXITS, IS_KILLED, EXECS, ENDS };
static enum end end;
static const char *self;

static void live(void)
{
    char *arguments[] = {(char *)"ldtthreads", (char *)"after-exec", NULL}, *environment[] = {NULL};
    move_to(0);
    start();
    change(0, rounds / 2);
    switch (end) {
    case REPLACED:
        stop();
        start();
        break;
    case EXITS:
        _exit(0);
    case IS_KILLED:
        kill(getpid(), SIGKILL);
        break;
    case EXECS:
        execve(self, arguments, environment);
        break;
    default:
        break;
    }
    change(rounds / 2, rounds);
    stop();
    _exit(end == JOINED || end == REPLACED ? 0 : 99);
}

static int after_exec(void)
{
    static uint8_t bytes[64];
    return modify_ldt(READ, bytes, sizeof bytes) != 0 || rights_of(of_ldt(watched[0])) != -1;
}

static void stranger(void)
{
    move_to(1);
    while (!atomic_load(&shared->over)) {
        for (size_t index = 0; index < COUNT_OF(watched); index++)
            if (rights_of(of_ldt(watched[index])) != -1)
                wrong("another process's entry", 0, watched[index]);
        usleep(1000);
    }
    _exit(0);
}

/* At each base its word, and the code. */
static void fill_areas(void)
{
    areas = low_memory(65536);
    for (uint32_t base = 0; base < AREAS; base++) {
        uint32_t mark = MARK + base;
        uint8_t *area = areas + 4096 * base, *copy = area + CODE_AT;
        const char *words[] = {jump_word, stay_word};
        memcpy(area, &mark, sizeof mark);
        memcpy(copy, code, (size_t)(code_end - code));
        /* Behind the opcode of MOV. */
        for (size_t index = 0; index < COUNT_OF(words); index++)
            memcpy(copy + (words[index] - code) + 1, &mark, sizeof mark);
    }
    check_long("code at each base", mprotect(areas, 65536, PROT_READ | PROT_WRITE | PROT_EXEC), 0);
}

int main(int count, char **arguments)
{
    static const char *const names[] = {"whose threads end one by one", "whose threads are replaced", "that exits",
                                        "that is killed", "that execs"};
    if (count > 1 && strcmp(arguments[1], "after-exec") == 0)
        return after_exec();
    if (count > 1)
        rounds = atol(arguments[1]);
    self = access(arguments[0], X_OK) == 0 && arguments[0][0] == '/' ? arguments[0] : "/proc/self/exe";
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        cpus = CPU_COUNT(&set);
    checkers = cpus == 1 ? 2 : cpus - 1 < MOST_CHECKERS ? cpus - 1 : MOST_CHECKERS;
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fill_areas();
    static const int signals[] = {SIGSEGV, SIGBUS, SIGTRAP, SIGILL, SIGUSR1};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    for (size_t index = 0; index < COUNT_OF(signals); index++)
        sigaction(signals[index], &action, NULL);
    pid_t other = fork();
    if (other == 0)
        stranger();
    for (end = JOINED; end < ENDS && atomic_load(&shared->wrong) == 0; end++) {
        char text[80];
        snprintf(text, sizeof text, "a process %s", names[end]);
        check_long(text, child_status(live), end == IS_KILLED ? SIGKILL : 0);
    }
    atomic_store(&shared->over, true);
    int status = -1;
    waitpid(other, &status, 0);
    check_long("a process without an LDT", status, 0);
    say("ldtthreads: %d checkers on %d CPUs: %ld looks, %ld that stayed, %ld faults, %ld calls from small stacks, "
        "%ld entries of their own, %ld forks, %ld changes under a look that stayed",
        checkers, cpus, shared->looks, shared->stays, shared->faults, shared->calls, shared->own, shared->forks,
        shared->crossed);
    check_failures += (int)shared->wrong;
    check_that("every way was gone", shared->looks && shared->stays && shared->faults && shared->calls && shared->own &&
                                         shared->forks);
    return check_end("ldtthreads");
}
