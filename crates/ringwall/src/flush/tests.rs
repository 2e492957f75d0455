//! Which instructions the planner's decisions end in, with which operands: the code itself runs, on a CPU that writes
//! down what is privileged ([`trapped`]).
//!
//! Invariant looked for: a decision that is right is executed as it was made. Whether it is right, `crates/core/tests/tlb`
//! asks.

mod trapped;

use super::*;
use crate::Frames;
use crate::entry::{Text, Variant};
use crate::host::{Memory, setup};
use crate::{Isolation, Setup, switch_to};
use ringwall_core::root::{NO_FLUSH, USER_PCID_BIT, USER_ROOT_BIT};
use ringwall_core::tlb::Features;
use std::vec::Vec;
use trapped::{Instruction, Trapped};

const INVPCID: Features = Features { pcid: true, invpcid: true, isolated: true };
const PCID: Features = Features { invpcid: false, ..INVPCID };
const NO_PCID: Features = Features { pcid: false, ..PCID };
const PAGE_GLOBAL: u64 = 1 << 7;
/// What CR3 has besides the kernel root's address, in a user root.
const USER: u64 = USER_ROOT_BIT | USER_PCID_BIT;

fn spaces<const N: usize>(features: Features, memory: &mut Memory) -> [AddressSpace; N] {
    let Features { pcid, invpcid, isolated: isolate } = features;
    let root = memory.allocate_pair().expect("memory");
    let setup = Setup { isolate, pcid, invpcid, ..setup(root) };
    // SAFETY: no CPU runs on these tables.
    let isolation = unsafe { Isolation::new(&setup, memory) }.expect("entry area");
    core::array::from_fn(|_| AddressSpace::new(&isolation, memory).expect("memory"))
}

/// A space that this CPU has run in ring 3, and would again without a flush.
fn running(features: Features, memory: &mut Memory) -> (AddressSpace, Trapped) {
    let [space] = spaces(features, memory);
    let mut cpu = Trapped::new(0, features);
    cpu.switch(&space);
    cpu.leave(true);
    (space, cpu)
}

fn root(space: &AddressSpace) -> u64 {
    space.kernel_root().start_address().as_u64()
}

impl Trapped {
    fn switch(&mut self, space: &AddressSpace) -> Vec<Instruction> {
        let stack = self.task_stack();
        // SAFETY: it stays; what is privileged does nothing here.
        self.run(|| unsafe { switch_to(space, stack) })
    }

    /// Takes pages out of `space`, on the one CPU there is.
    fn retire(&mut self, space: &AddressSpace, pages: Pages) -> Vec<Instruction> {
        self.run(|| {
            let shootdown = space.retire(pages);
            // SAFETY: what is privileged does nothing here.
            unsafe { shootdown.flush_here() };
            shootdown.done();
        })
    }

    /// The value that an exit to ring 3 writes, by SYSRETQ or by IRETQ; and back by SYSCALL or an interrupt, where the
    /// kernel half is kept.
    fn leave(&mut self, by_sysret: bool) -> u64 {
        let text = Text::new(Variant::Pcid);
        let done = self.exit(&text, by_sysret);
        let [Instruction::WriteCr3(cr3), end @ ..] = &done[..] else { panic!("{done:?}") };
        assert_eq!(end, [Instruction::Swapgs, left_by(by_sysret)]);
        let kernel = cr3 & !USER | NO_FLUSH;
        let expected = [Instruction::Swapgs, Instruction::WriteCr3(kernel)];
        assert_eq!(self.enter(&text, by_sysret), expected);
        *cr3
    }
}

fn left_by(by_sysret: bool) -> Instruction {
    if by_sysret { Instruction::Sysretq } else { Instruction::Iretq }
}

fn pages(addresses: &[u64]) -> Pages {
    let mut pages = Pages::NONE;
    addresses.iter().for_each(|address| pages.add(*address));
    pages
}

#[test]
fn each_call_is_the_instruction_it_says() {
    let mut cpu = Trapped::new(0, INVPCID);
    for cr3 in [0x5000, 0x6803 | NO_FLUSH, 0xf_ffff_ffff_e001] {
        assert_eq!(cpu.run(|| ThisCpu.write_cr3(cr3)), [Instruction::WriteCr3(cr3)]);
    }
    for address in [0, 0x7fff_ffff_f000, 0xffff_ffff_c000_0000] {
        assert_eq!(cpu.run(|| ThisCpu.flush_page(address)), [Instruction::Invlpg(address)]);
        let expected = Instruction::Invpcid { kind: 0, pcid: 0x803, address };
        assert_eq!(cpu.run(|| ThisCpu.flush_page_of(0x803, address)), [expected]);
    }
    for cr4 in [0x20, 0x20 | PAGE_GLOBAL] {
        cpu.cr4 = cr4;
        let expected = [cr4 ^ PAGE_GLOBAL, cr4].map(Instruction::WriteCr4);
        assert_eq!(cpu.run(|| ThisCpu.flush_all()), expected);
    }
    assert_eq!(cpu.run(|| ThisCpu.set_exit_cr3(0x7803 | NO_FLUSH)), []);
    assert_eq!(cpu.exit_cr3(), 0x7803 | NO_FLUSH);
    cpu.run(|| assert_eq!(ThisCpu.exit_cr3(), 0x7803 | NO_FLUSH));
}

/// The first switch to a space flushes both halves, the kernel's now and the user's with the first exit. So the mark is
/// gone with the exit that takes it, whichever way that goes.
#[test]
fn the_first_exit_after_a_switch_flushes_and_the_second_keeps() {
    let mut memory = Memory::new();
    let [a, b] = spaces(PCID, &mut memory);
    let mut cpu = Trapped::new(0, PCID);
    for by_sysret in [true, false] {
        assert_eq!(cpu.switch(&a), [Instruction::WriteCr3(root(&a) | 2 | kept(by_sysret))]);
        assert_eq!(cpu.switch(&a), [], "it is loaded");
        assert_eq!(cpu.leave(by_sysret), root(&a) | USER | 2 | kept(by_sysret));
        assert_eq!(cpu.leave(by_sysret), root(&a) | USER | 2 | NO_FLUSH);
        assert_eq!(cpu.switch(&b), [Instruction::WriteCr3(root(&b) | 3 | kept(by_sysret))]);
        assert_eq!(cpu.leave(!by_sysret), root(&b) | USER | 3 | kept(by_sysret));
        assert_eq!(cpu.leave(!by_sysret), root(&b) | USER | 3 | NO_FLUSH);
    }
    /// The second time both spaces are known.
    fn kept(by_sysret: bool) -> u64 {
        if by_sysret { 0 } else { NO_FLUSH }
    }
}

#[test]
fn a_page_goes_from_both_halves() {
    let mut memory = Memory::new();
    let page = 0x40_0000;
    for features in [INVPCID, PCID] {
        let (space, mut cpu) = running(features, &mut memory);
        let both = [
            Instruction::Invlpg(page),
            Instruction::Invpcid { kind: 0, pcid: 0x802, address: page },
        ];
        let done = cpu.retire(&space, pages(&[page]));
        assert_eq!(done, both[..if features.invpcid { 2 } else { 1 }]);
        let due = if features.invpcid { NO_FLUSH } else { 0 };
        assert_eq!(cpu.leave(true), root(&space) | USER | 2 | due);
        assert_eq!(cpu.leave(false), root(&space) | USER | 2 | NO_FLUSH);
    }
}

#[test]
fn a_mark_waits_for_its_own_space() {
    let mut memory = Memory::new();
    let [a, b] = spaces(PCID, &mut memory);
    let mut cpu = Trapped::new(0, PCID);
    for space in [&a, &b, &a] {
        cpu.switch(space);
        cpu.leave(true);
    }
    assert_eq!(cpu.retire(&a, pages(&[0x1000])), [Instruction::Invlpg(0x1000)]);
    assert_eq!(cpu.switch(&b), [Instruction::WriteCr3(root(&b) | 3 | NO_FLUSH)]);
    assert_eq!(cpu.leave(true), root(&b) | USER | 3 | NO_FLUSH, "it is another one's");
    assert_eq!(cpu.switch(&a), [Instruction::WriteCr3(root(&a) | 2 | NO_FLUSH)]);
    assert_eq!(cpu.leave(false), root(&a) | USER | 2, "it was not forgotten");
}

#[test]
fn a_table_and_all_else_go_by_the_mark() {
    let mut memory = Memory::new();
    let (space, mut cpu) = running(INVPCID, &mut memory);
    let mut table = Pages::NONE;
    table.add_table(0x20_0000);
    assert_eq!(cpu.retire(&space, table), [Instruction::Invlpg(0x20_0000)]);
    assert_eq!(cpu.leave(true), root(&space) | USER | 2);
    // SAFETY: no CPU runs on these tables.
    let closed = unsafe { space.close() };
    assert_eq!(cpu.retire(&space, closed), [Instruction::WriteCr3(root(&space) | 2)]);
    assert_eq!(cpu.leave(false), root(&space) | USER | 2, "it was open, and nobody flushed");
    assert_eq!(cpu.leave(true), root(&space) | USER | 2 | NO_FLUSH);
}

/// The open text leaves the mark for an isolated thread's exit.
#[test]
fn an_open_exit_leaves_the_mark_alone() {
    let mut memory = Memory::new();
    let (space, mut cpu) = running(PCID, &mut memory);
    cpu.retire(&space, pages(&[0x1000]));
    for by_sysret in [true, false] {
        let text = Text::new(Variant::Open);
        assert_eq!(cpu.exit(&text, by_sysret), [Instruction::Swapgs, left_by(by_sysret)]);
        assert_eq!(cpu.enter(&text, by_sysret), [Instruction::Swapgs]);
    }
    assert_eq!(cpu.exit_cr3(), root(&space) | USER | 2);
    assert_eq!(cpu.leave(true), root(&space) | USER | 2);
}

#[test]
fn without_pcid_no_bit_is_set_that_would_fault() {
    let mut memory = Memory::new();
    let [a, b] = spaces(NO_PCID, &mut memory);
    let mut cpu = Trapped::new(0, NO_PCID);
    for space in [&a, &b, &a] {
        assert_eq!(cpu.switch(space), [Instruction::WriteCr3(root(space))]);
        for by_sysret in [true, false] {
            let text = Text::new(Variant::Isolated);
            let done = cpu.exit(&text, by_sysret);
            assert_eq!(done[0], Instruction::WriteCr3(root(space) | USER_ROOT_BIT));
            let done = cpu.enter(&text, by_sysret);
            assert_eq!(done, [Instruction::Swapgs, Instruction::WriteCr3(root(space))]);
        }
    }
    assert_eq!(cpu.retire(&a, pages(&[0x1000])), [Instruction::Invlpg(0x1000)]);
    assert_eq!(cpu.retire(&a, Pages::ALL), [Instruction::WriteCr3(root(&a))]);
}

#[test]
fn pages_of_the_kernel_half_go_from_every_pcid() {
    let mut memory = Memory::new();
    let pages = pages(&[0xffff_ffff_c000_0000, 0xffff_ffff_c000_1000]);
    for features in [INVPCID, NO_PCID] {
        let [space] = spaces(features, &mut memory);
        let mut cpu = Trapped::new(0, features);
        cpu.cr4 = PAGE_GLOBAL;
        cpu.switch(&space);
        // SAFETY: what is privileged does nothing here.
        let done = cpu.run(|| unsafe { flush_kernel(&pages) });
        let everything = [0, PAGE_GLOBAL].map(Instruction::WriteCr4);
        match features.pcid {
            true => assert_eq!(done, everything),
            false => assert!(pages.addresses().map(Instruction::Invlpg).eq(done)),
        }
    }
}

/// Two CPUs, by the library's own calls.
#[test]
fn whoever_has_it_loaded_is_told() {
    let mut memory = Memory::new();
    let [a, b] = spaces(INVPCID, &mut memory);
    let [mut first, mut second] = [0, 1].map(|index| Trapped::new(index, INVPCID));
    let mut table = Pages::NONE;
    table.add_table(0x20_0000);
    // Who is told of a page, and of a page table; whether the first CPU need look.
    let told = |first: &mut Trapped| {
        let mut concerns = false;
        let told = [pages(&[0x1000]), table].map(|pages| {
            let shootdown = a.retire(pages);
            // SAFETY: what is privileged does nothing here.
            first.run(|| concerns = unsafe { shootdown.concerns_others() });
            let told: Vec<usize> = shootdown.targets().collect();
            shootdown.done();
            told
        });
        (told.map(|told| told.iter().fold(0, |all, cpu| all | 1 << cpu)), concerns)
    };
    assert_eq!(told(&mut first), ([0, 0], false), "it runs nowhere");
    first.switch(&a);
    assert_eq!(told(&mut first), ([1, 1], false), "on this one alone");
    second.switch(&a);
    assert_eq!(told(&mut first), ([3, 3], true), "on both");
    // SAFETY: what is privileged does nothing here.
    assert_eq!(second.run(|| unsafe { rest() }), []);
    assert_eq!(told(&mut first), ([1, 3], true), "the second idles, and walks page tables");
    let woken = [Instruction::WriteCr3(root(&a) | 2)];
    assert_eq!(second.switch(&a), woken, "it was not told of all");
    assert_eq!(told(&mut first), ([3, 3], true));
    assert!(a.loaded().eq([0, 1]));
    // SAFETY: as above.
    second.run(|| unsafe { crate::leave(&a, &b) });
    assert!(a.loaded().eq([0]) && b.loaded().eq([1]));
    assert_eq!(told(&mut first).0, [1, 1]);
    // SAFETY: as above.
    let done = second.run(|| unsafe { crate::leave(&a, &b) });
    assert_eq!(done, [], "it has left");
    // A message that comes late finds nothing to do.
    let late = a.retire(pages(&[0x1000]));
    // SAFETY: as above.
    assert_eq!(second.run(|| unsafe { flush(&late.change(), &a) }), []);
    late.done();
}

#[test]
#[should_panic(expected = "stale translations were left behind")]
fn a_shootdown_cannot_be_forgotten() {
    let mut memory = Memory::new();
    let [space] = spaces(INVPCID, &mut memory);
    drop(space.retire(pages(&[0x1000])));
}
