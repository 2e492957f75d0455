//! A whole kernel on ringwall's public API: boots by PVH, isolates, runs one user program, powers off.
//!
//! What a kernel author writes is in [`kernel_main`], in that order; everything else here would be in
//! any kernel.
#![no_std]
#![no_main]

mod user;

use core::cell::UnsafeCell;
use core::fmt::Write;
use core::panic::PanicInfo;
use core::ptr::NonNull;
use ringwall::core::Hardening;
use ringwall::policy::{CpuidFacts, Policy};
use ringwall::{AddressSpace, DoubleFault, Frame, Frames, Handlers, Isolation, Setup, Stacks};
use uart_16550::{Config, Uart16550};
use x86_64::instructions::port::Port;
use x86_64::registers::control::Cr2;
use x86_64::structures::paging::{
    FrameAllocator, Page, PageSize, PageTableFlags, PhysFrame, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

core::arch::global_asm!(include_str!("start.s"), KERNEL_MAIN = sym kernel_main);

const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
const IMAGE: u64 = 0xffff_ffff_8000_0000;
/// Free memory, by decree: 16 to 32 MiB.
const MEMORY: core::ops::Range<u64> = 0x100_0000..0x200_0000;
const ENTRY_REGION: core::ops::RangeInclusive<u64> = 0xffff_ffff_c000_0000..=0xffff_ffff_fffe_ffff;
const STACK_PAGES: u64 = 4;
/// The mov that reads the kernel's memory is three or four bytes long: REX, opcode, ModRM, maybe SIB.
const REX_W: u8 = 0x48;

/// Demand paging needs the address space and the memory again.
static SPACE: Once<(AddressSpace, Memory)> = Once(UnsafeCell::new(None));

/// Set once, before the program runs; then used by one trap at a time.
struct Once<T>(UnsafeCell<Option<T>>);

// SAFETY: one CPU, interrupts off.
unsafe impl<T> Sync for Once<T> {}

/// Frames in a row; none ever comes back.
struct Memory {
    next: u64,
}

// SAFETY: each frame is given out once.
unsafe impl FrameAllocator<Size4KiB> for Memory {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let frame = self.next;
        self.next += Size4KiB::SIZE;
        (frame < MEMORY.end).then(|| PhysFrame::containing_address(PhysAddr::new(frame)))
    }
}

// SAFETY: the boot stub maps the first 4 GiB at the direct map, in the kernel half.
unsafe impl Frames for Memory {
    fn allocate_pair(&mut self) -> Option<PhysFrame> {
        self.next = self.next.next_multiple_of(2 * Size4KiB::SIZE);
        let first = self.allocate_frame()?;
        self.allocate_frame()?;
        Some(first)
    }
    unsafe fn free(&mut self, _frame: PhysFrame) {}
    unsafe fn free_pair(&mut self, _first: PhysFrame) {}
    fn pointer(&self, frame: PhysFrame) -> NonNull<u8> {
        let address = DIRECT_MAP + frame.start_address().as_u64();
        NonNull::new(address as *mut u8).expect("the direct map is not at 0")
    }
}

impl Memory {
    /// The end of a new kernel stack.
    fn stack(&mut self) -> VirtAddr {
        let first = self.allocate_frame().expect("memory");
        for _ in 1..STACK_PAGES {
            self.allocate_frame().expect("memory");
        }
        VirtAddr::new(self.pointer(first).addr().get() as u64 + STACK_PAGES * Size4KiB::SIZE)
    }
}

fn print(arguments: core::fmt::Arguments<'_>) {
    // SAFETY: COM1; this kernel has one CPU and prints with interrupts off.
    let Ok(mut port) = (unsafe { Uart16550::new_port(0x3f8) }) else { return };
    struct Console<'a>(&'a mut Uart16550<uart_16550::backend::PioBackend>);
    impl Write for Console<'_> {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            self.0.send_bytes_exact(text.as_bytes());
            Ok(())
        }
    }
    let _ = port.init(Config::default());
    let _ = Console(&mut port).write_fmt(arguments);
}

fn end() -> ! {
    // SAFETY: QEMU's ACPI power-off.
    unsafe { Port::<u16>::new(0x604).write(0x2000) };
    loop {
        x86_64::instructions::hlt();
    }
}

struct Kernel;

impl Handlers for Kernel {
    fn syscall(frame: &mut Frame) {
        match frame.number() {
            user::call::PRINT => print(format_args!("{}", frame.rdi() as u8 as char)),
            user::call::END => {
                print(format_args!("the program ends with {}\n", frame.rdi()));
                end()
            }
            _ => frame.set_rax(u64::MAX),
        }
    }

    fn trap(frame: &mut Frame) {
        let address = Cr2::read_raw();
        if frame.vector() != Some(14) || !frame.from_user() {
            panic!("vector {:?} at {:#x}", frame.vector(), frame.rip());
        }
        if address == user::LAZY {
            print(format_args!("page fault at {address:#x}: mapped\n"));
            // SAFETY: one CPU, interrupts off: nothing else uses it.
            let space = unsafe { &mut *SPACE.0.get() };
            let (space, memory) = space.as_mut().expect("set at boot");
            let frame = memory.allocate_frame().expect("memory");
            map(space, memory, address, frame, PageTableFlags::WRITABLE);
        } else {
            print(format_args!("page fault at {address:#x}: denied\n"));
            // Skip the load: the program is ours, and loads by one instruction.
            frame.set_rax(0);
            frame.set_rip(frame.rip() + load_length(frame.rip()));
        }
    }

    fn nmi(_frame: &mut Frame) {}
    fn debug(_frame: &mut Frame) {}
    fn machine_check(frame: &mut Frame) {
        panic!("machine check at {:#x}", frame.rip());
    }
    fn double_fault(frame: &Frame, report: &DoubleFault) -> ! {
        panic!("double fault at {:#x}: {report:x?}", frame.rip());
    }
}

/// Length of `mov rax, [register]` at `rip` in the program's pages.
fn load_length(rip: u64) -> u64 {
    let code = (program() + (rip - user::BASE)) as *const u8;
    // SAFETY: the program's code through the image's mapping.
    let bytes: [u8; 4] = unsafe { code.cast::<[u8; 4]>().read_unaligned() };
    assert_eq!(bytes[0] & !1, REX_W, "the faulting instruction is a 64-bit mov");
    let needs_more = matches!(bytes[2] & 7, 4 | 5);
    if needs_more { 4 } else { 3 }
}

/// Where the image has the program.
fn program() -> u64 {
    unsafe extern "C" {
        static user_start: u8;
    }
    (&raw const user_start).addr() as u64
}

fn map(
    space: &AddressSpace,
    memory: &mut Memory,
    address: u64,
    frame: PhysFrame,
    flags: PageTableFlags,
) {
    let page = Page::containing_address(VirtAddr::new(address));
    // SAFETY: a frame that holds nothing of the kernel's.
    unsafe { space.map_user(page, frame, flags, memory) }.expect("user mapping");
}

/// `boot_root`: the physical address of the boot stub's root.
extern "sysv64" fn kernel_main(boot_root: u64) -> ! {
    let mut memory = Memory { next: MEMORY.start };
    for port in [0x21, 0xa1] {
        // SAFETY: the interrupt controllers' masks: this kernel wants no interrupt.
        unsafe { Port::<u8>::new(port).write(0xff) };
    }

    // 1. Decide.
    let leaf = |number| {
        let leaf = core::arch::x86_64::__cpuid_count(number, 0);
        [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]
    };
    let facts = CpuidFacts::from_leaves(leaf(0), leaf(1), leaf(7));
    let command_line = "pti=on";
    let decision = Policy::from_command_line(command_line).decide(&facts);
    print(format_args!("{decision}\n"));

    // 2. Build the entry area, and this CPU's part of it.
    let setup = Setup {
        kernel_root: PhysFrame::containing_address(PhysAddr::new(boot_root)),
        region: ENTRY_REGION,
        // SAFETY: RDTSC; a real kernel has a better source.
        random: unsafe { core::arch::x86_64::_rdtsc() }.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        isolate: decision.isolate,
        switchable: false,
        pcid: false,
        invpcid: false,
        hardening: Hardening::decide(command_line, &facts),
        fsgsbase: false,
        sysret_keeps_ss: true,
        user_vectors: &[3, 4],
        private_slot: ringwall::core::private::DEFAULT_SLOT,
    };
    // SAFETY: the boot root is this kernel's root and does not change; the region is free.
    let mut isolation = unsafe { Isolation::new(&setup, &mut memory) }.expect("entry area");
    let stacks = Stacks {
        nmi: memory.stack(),
        debug: memory.stack(),
        machine_check: memory.stack(),
        double_fault: memory.stack(),
        bytes: STACK_PAGES * Size4KiB::SIZE,
    };
    // SAFETY: four stacks of this CPU's own, never freed.
    let cpu = unsafe { isolation.make_cpu::<Kernel>(0, &stacks, [0; 4], &mut memory) };
    // SAFETY: the boot CPU, interrupts off, on the boot root.
    unsafe { cpu.expect("entry area").activate() }.expect("control registers");

    // 3. Make an address space and map the program.
    let space = AddressSpace::new(&isolation, &mut memory).expect("memory");
    let code = PhysFrame::containing_address(PhysAddr::new(program() - IMAGE));
    map(&space, &mut memory, user::BASE, code, PageTableFlags::empty());
    let stack = memory.allocate_frame().expect("memory");
    let stack_flags = PageTableFlags::WRITABLE | PageTableFlags::NO_EXECUTE;
    map(&space, &mut memory, user::BASE - Size4KiB::SIZE, stack, stack_flags);

    // 4. Run it.
    let task_stack = memory.stack();
    // SAFETY: the address space lives for ever (below); the stack is the program's.
    unsafe { ringwall::switch_to(&space, task_stack) };
    // SAFETY: one CPU, nothing else runs yet.
    unsafe { *SPACE.0.get() = Some((space, memory)) };
    let entry = user::BASE + (user::user_main as *const () as u64 - program());
    let mut frame = Frame::new_user(entry, user::BASE - 8);
    frame.set_rdi(DIRECT_MAP);
    // SAFETY: on the active CPU, after `switch_to`, interrupts off.
    unsafe { ringwall::return_to_user(&mut frame) }
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    print(format_args!("kernel bug: {info}\n"));
    end()
}
