//! Mailboxes, one step at a time, and with real threads. Every order of the atomics is tried in `crates/model`.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use ringwall_core::MAX_CPUS;
use ringwall_core::tlb::Mailbox;

fn mailboxes(count: usize) -> Vec<Mailbox> {
    (0..count).map(|_| Mailbox::new()).collect()
}

#[test]
fn a_letter_arrives_as_it_was_sent() {
    let boxes = mailboxes(2);
    for letter in [0, 1, u64::MAX] {
        boxes[0].post(0, letter, [0, 1].into_iter(), |cpu| &boxes[cpu], |cpu| assert_eq!(cpu, 1));
        assert!(!boxes[0].is_answered() && boxes[1].is_asked() && !boxes[0].is_asked());
        let mut served = Vec::new();
        boxes[1].serve(1, |cpu| &boxes[cpu], |letter| served.push(letter));
        assert_eq!(served, [letter]);
        assert!(boxes[0].is_answered() && !boxes[1].is_asked());
    }
}

#[test]
fn the_answer_comes_last() {
    let boxes = mailboxes(2);
    boxes[0].post(0, 0, [1].into_iter(), |cpu| &boxes[cpu], |_| ());
    boxes[1].serve(1, |cpu| &boxes[cpu], |_| assert!(!boxes[0].is_answered()));
    assert!(boxes[0].is_answered());
}

#[test]
fn one_interrupt_serves_all_that_came_before_it() {
    let last = MAX_CPUS - 1;
    let boxes = mailboxes(MAX_CPUS);
    let interrupts = RefCell::new(Vec::new());
    let post = |from: usize, to: &[usize]| {
        let interrupt = |cpu| interrupts.borrow_mut().push((from, cpu));
        let to = to.iter().copied();
        boxes[from].post(from, 0, to, |cpu| &boxes[cpu], interrupt);
    };
    post(0, &[1, last]);
    post(2, &[last]);
    assert_eq!(*interrupts.borrow(), [(0, 1), (0, last)], "the second finds one on its way");
    let mut served = 0;
    boxes[last].serve(last, |cpu| &boxes[cpu], |_| served += 1);
    assert_eq!(served, 2);
    assert!(boxes[2].is_answered() && !boxes[0].is_answered());
    post(2, &[last]);
    assert_eq!(interrupts.borrow().len(), 3, "nothing was on its way any more");
}

/// Every CPU asks all others, and serves while it waits; interrupts are flags that are looked at now and then.
#[test]
fn storms_end_and_lose_nothing() {
    const CPUS: usize = 4;
    const ROUNDS: usize = 2000;
    let boxes = mailboxes(CPUS);
    let interrupts: Vec<AtomicBool> = (0..CPUS).map(|_| AtomicBool::new(false)).collect();
    let (served, running) = (AtomicUsize::new(0), AtomicUsize::new(CPUS));
    let serve = |cpu: usize| {
        boxes[cpu].serve(
            cpu,
            |cpu| &boxes[cpu],
            |_| {
                served.fetch_add(1, Ordering::Relaxed);
            },
        );
    };
    let run = &|cpu: usize| {
        let interrupted = || interrupts[cpu].swap(false, Ordering::SeqCst);
        for round in 0..ROUNDS {
            let interrupt = |cpu: usize| interrupts[cpu].store(true, Ordering::SeqCst);
            boxes[cpu].post(cpu, round as u64, 0..CPUS, |cpu| &boxes[cpu], interrupt);
            while !boxes[cpu].is_answered() {
                // Every other CPU waits for interrupts alone, as in ring 3.
                if cpu.is_multiple_of(2) || interrupted() {
                    serve(cpu);
                }
                thread::yield_now();
            }
        }
        running.fetch_sub(1, Ordering::SeqCst);
        while running.load(Ordering::SeqCst) > 0 {
            if interrupted() {
                serve(cpu);
            }
            thread::yield_now();
        }
    };
    thread::scope(|scope| (0..CPUS).for_each(|cpu| drop(scope.spawn(move || run(cpu)))));
    assert_eq!(served.into_inner(), CPUS * (CPUS - 1) * ROUNDS);
}
