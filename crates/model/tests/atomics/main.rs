//! The real planner and the real mailboxes, under loom: two or three CPUs, every order of their accesses and every
//! value that each may read. The page-table entry is an atomic too, which walkers read as late as they may. With isolation
//! programs run under the user half of the PCID, which the exit flushes, or INVPCID.
//!
//! Where three CPUs run, the number of times that one is stopped between two accesses where it could go on is bounded
//! (`STOPS`).

mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::thread;
use ringwall_model::sync::{Weakness, end, weaken};
use ringwall_model::tlb::{Features, Pages};

use world::{CPUS, Cpu, Mistake, WITH_INVPCID, WITH_MARKS, WITH_PCID, World};

const STOPS: usize = 3;

/// Runs `others`, each as a CPU of its own, beside a mapper that is CPU 0 and that has used the page itself.
fn run(
    features: Features,
    mistake: Mistake,
    stops: Option<usize>,
    others: &'static [fn(&mut Cpu)],
) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = stops;
    model.check(move || {
        let world = World::new(features, mistake);
        let mut mapper = Cpu::new(0, &world);
        mapper.join();
        mapper.use_it();
        let threads: Vec<_> = (1..)
            .zip(others)
            .map(|(number, other)| {
                let mut cpu = Cpu::new(number, &world);
                thread::spawn(move || {
                    other(&mut cpu);
                    cpu
                })
            })
            .collect();
        mapper.unmap();
        let cpus = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        cpus.for_each(|mut cpu| cpu.use_it());
        assert!(world.boxes[0].is_answered(), "an interrupt was lost");
        world.free();
        mapper.use_it();
    });
}

fn comes_goes_and_comes(cpu: &mut Cpu) {
    cpu.join();
    cpu.use_it();
    cpu.leave();
    cpu.join();
    cpu.use_it();
}

fn comes(cpu: &mut Cpu) {
    cpu.join();
    cpu.use_it();
}

fn rests_and_wakes(cpu: &mut Cpu) {
    cpu.join();
    cpu.use_it();
    cpu.rest();
    cpu.join();
    cpu.use_it();
}

/// In the one half, and in two halves, the second of which is flushed in either way.
fn holds(others: &'static [fn(&mut Cpu)]) {
    for features in [WITH_PCID, WITH_MARKS, WITH_INVPCID] {
        run(features, Mistake::None, None, others);
    }
}

#[test]
fn a_cpu_comes_while_a_page_goes() {
    holds(&[comes]);
}

#[test]
fn a_cpu_comes_back_while_a_page_goes() {
    holds(&[comes_goes_and_comes]);
}

#[test]
fn a_cpu_wakes_while_a_page_goes() {
    holds(&[rests_and_wakes]);
}

#[test]
fn two_cpus_come_while_a_page_goes() {
    run(WITH_PCID, Mistake::None, Some(STOPS), &[comes, comes]);
}

/// Two CPUs ask a third, which looks at nothing but its interrupt.
fn two_ask_one() {
    loom::model(|| {
        let world = World::new(WITH_PCID, Mistake::None);
        let ask = |number: usize| {
            let world = world.clone();
            move || {
                let change = world.space.retire(Pages::NONE);
                world.post(number, change, [0].into_iter());
            }
        };
        let askers = [thread::spawn(ask(1)), thread::spawn(ask(2))];
        let mut asked = Cpu::new(0, &world);
        asked.interrupts();
        asked.interrupts();
        askers.into_iter().for_each(|asker| asker.join().expect("no panic"));
        asked.interrupts();
        let answered = (1..CPUS).all(|cpu| world.boxes[cpu].is_answered());
        assert!(answered, "an interrupt was lost");
    });
}

#[test]
fn one_interrupt_is_enough_for_two() {
    two_ask_one();
}

/// CPU 1 `goes` elsewhere while another gives the address space up as soon as nobody has it loaded.
fn ends_behind(before: fn(&mut Cpu), goes: fn(&mut Cpu)) {
    loom::model(move || {
        let world = World::new(WITH_PCID, Mistake::None);
        let mut cpu = Cpu::new(1, &world);
        cpu.join();
        before(&mut cpu);
        let leaver = thread::spawn(move || goes(&mut cpu));
        if world.space.loaded().is_empty() {
            end(&world.space);
        }
        leaver.join().expect("no panic");
    });
}

#[test]
fn who_has_left_touches_nothing_any_more() {
    ends_behind(|_| {}, Cpu::leave);
}

#[test]
fn who_has_left_from_rest_touches_nothing_any_more() {
    ends_behind(Cpu::rest, Cpu::leave);
}

#[track_caller]
fn fails(mistake: Mistake, weakness: Weakness, other: &'static [fn(&mut Cpu)], fault: &str) {
    found(weakness, fault, || run(WITH_PCID, mistake, Some(STOPS), other));
}

#[track_caller]
fn found(weakness: Weakness, fault: &str, run: impl FnOnce()) {
    weaken(weakness);
    let result = catch_unwind(AssertUnwindSafe(run));
    weaken(Weakness::None);
    let payload = result.expect_err("it goes unnoticed");
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let text = text.unwrap_or_default();
    assert!(text.contains(fault), "{weakness:?}: {text}");
}

const STALE: &str = "reaches the freed frame";

#[test]
fn an_early_generation_is_found() {
    fails(Mistake::EarlyGeneration, Weakness::None, &[comes], STALE);
}

#[test]
fn early_targets_are_found() {
    fails(Mistake::EarlyTargets, Weakness::None, &[comes], STALE);
}

#[test]
fn a_frame_freed_before_the_answers_is_found() {
    fails(Mistake::NoWait, Weakness::None, &[comes], STALE);
}

#[test]
fn a_user_half_that_is_not_flushed_is_found() {
    for (features, mistake) in [(WITH_MARKS, Mistake::NoMark), (WITH_INVPCID, Mistake::NoInvpcid)] {
        found(Weakness::None, STALE, || run(features, mistake, Some(STOPS), &[comes]));
    }
}

#[test]
fn atomics_without_a_single_order_are_found() {
    fails(Mistake::None, Weakness::NoSingleOrder, &[comes_goes_and_comes], STALE);
    fails(Mistake::None, Weakness::NoSingleOrder, &[rests_and_wakes], STALE);
}

/// A second load of `loaded` would not do: loom tries no two orders of that and the other CPU's.
fn leaves_and_comes_back_to_it(cpu: &mut Cpu) {
    cpu.leave();
    let _ = cpu.world.space.retire(Pages::NONE);
}

#[test]
fn a_space_that_is_touched_after_it_was_left_is_found() {
    for before in [|_: &mut Cpu| {}, Cpu::rest] {
        found(Weakness::None, "memory is touched that was given up", || {
            ends_behind(before, leaves_and_comes_back_to_it);
        });
    }
}

#[test]
fn relaxed_atomics_are_found() {
    found(Weakness::Relaxed, "written before it is posted", two_ask_one);
}
