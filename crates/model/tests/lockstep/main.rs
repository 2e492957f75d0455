//! The model in lockstep with the code: what `ringwall_model::protocol` says that is kept, flushed and asked is what
//! `ringwall_core::tlb` keeps, flushes and asks.
//!
//! The model goes first, by one thing that the code does in one call: a switch is four steps there, a flush up to three.
//! Then the code does the same, and everything that can be seen of both is compared: what each half of each PCID holds,
//! which is loaded, what the next exit flushes, who has joined, who is told. What the model does in between two steps
//! of a call, it is searched for by itself (`tests/protocol.rs`).
//!
//! All ways up to a depth are gone, and many long ones at random. A model that is wrong on purpose has to differ.

mod real;

use ringwall_model::explore::Machine;
use ringwall_model::protocol::{At, Break, Protocol, Settings, State, Step, item};

use real::Real;

const SHUT: u8 = item::PAGE | item::AGAIN | item::TABLE;
const PCID: Settings = with(SHUT | item::OPEN, Settings::PCID);
const WITHOUT_INVPCID: Settings = with(SHUT | item::OPEN, Settings::WITHOUT_INVPCID);
const WITHOUT_PCID: Settings = with(SHUT | item::OPEN, Settings::WITHOUT_PCID);
const WITHOUT_ISOLATION: Settings = with(SHUT, Settings::WITHOUT_ISOLATION);
const PLAIN: Settings = with(SHUT, Settings::PLAIN);
const SHARED: Settings = Settings { items: item::SHARED | item::PAGE, ..PCID };

const fn with(items: u8, settings: Settings) -> Settings {
    Settings { items, spaces: 3, ..settings }
}

/// Both, and the steps that led here.
struct Pair {
    protocol: Protocol,
    model: State,
    real: Real,
    way: Vec<Step>,
}

impl Pair {
    fn new(settings: Settings) -> Pair {
        let protocol = Protocol(settings);
        let (model, mut real) = (protocol.start(), Real::new(settings));
        // The TLBs fill for the first time; any difference is still there after the first step.
        let _ = real.compare(&model);
        Pair { protocol, model, real, way: Vec::new() }
    }

    fn choices(&self) -> Vec<(Step, State)> {
        let mut all = Vec::new();
        self.protocol.steps(&self.model, &mut |step, after| all.push((step, after)));
        all
    }

    /// Takes one of the steps that are possible, and all that the code does in the same call.
    fn go(&mut self, choice: usize) -> Result<(), String> {
        let choices = self.choices();
        let (first, after) = choices[choice % choices.len()];
        let before = std::mem::replace(&mut self.model, after);
        self.way.push(first);
        while is_within_a_call(self.model.cpus[first.cpu].at) {
            let (step, after) =
                *self.choices().iter().find(|(step, _)| step.cpu == first.cpu).expect("goes on");
            self.model = after;
            self.way.push(step);
        }
        let told = self.follow(first, &before);
        match self.real.compare(&self.model).or(told) {
            Some(difference) => {
                let way: String = self.way.iter().map(|step| format!("{step}\n")).collect();
                Err(way + &difference)
            }
            None => Ok(()),
        }
    }

    /// The code does what the model did.
    fn follow(&mut self, Step { cpu, what, .. }: Step, before: &State) -> Option<String> {
        let model = &self.model;
        match what {
            "joins A" | "loads another space" | "wakes" | "is at rest no more" => {
                self.real.switch(cpu, usize::from(model.cpus[cpu].space));
            }
            "idles" => self.real.rest(cpu),
            "goes to ring 3" => self.real.exit(cpu),
            "enters the kernel" | "is interrupted" => self.real.enter(cpu),
            "makes a generation" => self.real.retire(cpu, before.boxes[cpu].letter.item),
            "reads whom to tell" => {
                let (real, model) = (self.real.targets(cpu), model.boxes[cpu].waits_for);
                let differ = format!("CPU {cpu} tells {real:#b}, in the model {model:#b}");
                return (real != model).then_some(differ);
            }
            "flushes" => self.real.flush(cpu, cpu),
            "flushes and answers" => {
                let At::Serving { left, .. } = before.cpus[cpu].at else { panic!("{what}") };
                self.real.flush(cpu, left.trailing_zeros() as usize);
            }
            "takes out"
            | "maps"
            | "gives"
            | "frees"
            | "has waited"
            | "serves while it waits"
            | "goes to ring 3 under the kernel root" => {}
            _ => panic!("no such step: {what}"),
        }
        None
    }
}

fn is_within_a_call(at: At) -> bool {
    match at {
        At::Joined | At::Loading(_) | At::Leaving | At::Woken => true,
        At::Reading(_) | At::Flushing(_) => true,
        At::Sending(left) => left != 0,
        _ => false,
    }
}

/// All ways of `depth` calls.
fn go_everywhere(settings: Settings, depth: usize) -> Result<usize, String> {
    let mut way = vec![0; depth];
    let mut count = 0;
    loop {
        let mut pair = Pair::new(settings);
        let mut widths = Vec::new();
        for choice in &way {
            widths.push(pair.choices().len());
            pair.go(*choice)?;
        }
        count += 1;
        // The next way, as in counting.
        let Some(digit) = (0..depth).rev().find(|digit| way[*digit] + 1 < widths[*digit]) else {
            return Ok(count);
        };
        way[digit] += 1;
        way[digit + 1..].fill(0);
    }
}

/// Ways of 100 calls.
fn wander(settings: Settings, ways: usize) -> Result<(), String> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..ways {
        let mut pair = Pair::new(settings);
        for _ in 0..100 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            pair.go((random >> 33) as usize)?;
        }
    }
    Ok(())
}

#[test]
fn the_model_does_what_the_code_does() {
    let shared = [SHARED, Settings { items: SHARED.items, ..WITHOUT_PCID }];
    let settings = [PCID, WITHOUT_INVPCID, WITHOUT_PCID, WITHOUT_ISOLATION, PLAIN];
    for settings in
        settings.into_iter().chain(shared).flat_map(|some| [some, Settings { spaces: 2, ..some }])
    {
        wander(settings, 2000).unwrap_or_else(|error| panic!("{settings:?}\n{error}"));
    }
}

#[test]
fn on_all_short_ways() {
    for settings in [PCID, WITHOUT_INVPCID, WITHOUT_PCID, WITHOUT_ISOLATION, PLAIN] {
        let ways = go_everywhere(settings, 4);
        let ways = ways.unwrap_or_else(|error| panic!("{settings:?}\n{error}"));
        println!("{ways} ways, {settings:?}");
    }
}

/// Each decision of the planner, taken wrong in the model alone.
#[test]
fn a_model_that_decides_otherwise_is_found() {
    let planner = [
        (PCID, Break::UserHalf),
        (PCID, Break::AlwaysKeep),
        (PCID, Break::SkippedGeneration),
        (PCID, Break::TableByPage),
        (PCID, Break::IdleTables),
        (PCID, Break::UsedSlot),
        (PCID, Break::WholeKernelHalf),
        (WITHOUT_INVPCID, Break::ForgottenDue),
        (WITHOUT_INVPCID, Break::OpenTakesMark),
        (WITHOUT_INVPCID, Break::OpenSkipsUserHalf),
        (SHARED, Break::OnePcid),
    ];
    for (settings, broken) in planner {
        let settings = Settings { broken: Some(broken), ..settings };
        let difference = wander(settings, 2000).expect_err("the break goes unnoticed");
        assert!(difference.contains("in the model"), "{broken:?}: {difference}");
    }
}
