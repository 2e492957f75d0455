//! What isolation costs, in kernel instructions, counted and not timed.
//!
//! `programs/bench.c` runs as the only program of two guests whose time-stamp counters count
//! instructions, one with isolation and one without. Its lines read `bench NAME MEDIAN ...`; the
//! median is the path that no interrupt disturbed.

use std::time::Duration;

use anyhow::{Result, ensure};
use ringwall_emulator::{Exit, Machine};

use crate::progress::step;
use crate::run::table::{Table, grouped};
use crate::run::{Options, Pti, userland};

/// Counting halves TCG's speed.
const LIMIT: Duration = Duration::from_secs(240);

/// A measured operation and its usual number of kernel instructions.
type Cost = (String, u64);

/// Boots twice and prints the comparison.
///
/// # Errors
///
/// When a guest does not come to its end, or measures nothing.
pub fn compare(options: &Options, machine: &Machine) -> Result<()> {
    let with = measure(options, machine, Pti::On)?;
    let without = measure(options, machine, Pti::Off)?;
    let mut table =
        Table::new(&[("operation", false), ("isolated", true), ("not", true), ("more", true)]);
    for (name, on) in &with {
        let off = without.iter().find(|(other, _)| other == name).map(|(_, off)| *off);
        let more =
            off.map_or("".into(), |off| format!("{:+}", on.cast_signed() - off.cast_signed()));
        table.row([name.clone(), grouped(*on), off.map_or("".into(), grouped), more]);
    }
    print!("{}", table.render());
    Ok(())
}

fn measure(options: &Options, machine: &Machine, pti: Pti) -> Result<Vec<Cost>> {
    let image = userland::in_file(&userland::with_program("bench")?)?;
    let machine = options.on(machine.clone(), pti).initrd(image.path()).counted().limit(LIMIT);
    step(&format!("count instructions with {}", pti.argument()), || {
        let mut guest = machine.start()?;
        let exit = guest.wait();
        let log = guest.console.text();
        let costs: Vec<Cost> = log.lines().filter_map(parse).collect();
        ensure!(
            exit == Exit::PoweredOff && !costs.is_empty(),
            "the measuring guest ended with {exit:?} and {} results; it said:\n{log}",
            costs.len()
        );
        Ok(costs)
    })
}

/// Reads `bench NAME MEDIAN ...`.
fn parse(line: &str) -> Option<Cost> {
    let mut words = line.trim().strip_prefix("bench ")?.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_program_are_read_and_others_are_not() {
        assert_eq!(parse("bench getppid 76 minimum 76 average 79"), Some(("getppid".into(), 76)));
        assert_eq!(parse("PASS bench"), None);
        assert_eq!(parse("bench sigsegv none"), None);
    }
}
