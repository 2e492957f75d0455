//! The tour: one boot that shows what isolation is, and two that say what it costs.
//!
//! The guest's init is `programs/tour/guided.sh`, which runs `programs/tour/init.sh`. The two sides
//! talk over the console: a line that starts with `== ` is a heading, and on `@look` the guest keeps a program running in user mode
//! and waits for a line of input, while this side looks at it from outside.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use console::style;
use ringwall_emulator::{Exit, Guest, Machine};

use crate::progress::heading;
use crate::run::outside::{self, View};
use crate::run::{Options, cost, userland};

/// The whole first boot.
const LIMIT: Duration = Duration::from_secs(240);

/// The longest silence of a guest that is well.
const SILENCE: Duration = Duration::from_secs(90);

/// What the tour's script says when it wants to be looked at.
const LOOK: &str = "@look";
/// Has the ways into the kernel counted: what a system call costs is measured in other boots.
const COUNTED: &str = "ringwall.count=on ";
const HEADING: &str = "== ";
/// How our kernel's lines about the hardening measures begin: `NAME STATE  WHAT: WHY` follows.
const HARDENING: &str = "ringwall: hardening: ";

/// Gives the tour.
///
/// # Errors
///
/// When the guest does not come to its end, and when isolation does not hold.
pub fn run(options: &Options, machine: Machine) -> Result<()> {
    heading("Boot");
    let tour = userland::script("init.sh")?;
    let image = userland::with_script("guided.sh")?.file("/tour.sh", 0o755, tour);
    let image = userland::in_file(&image)?;
    let counted = if options.is_reference_kernel() { COUNTED } else { "" };
    let tour = options.on_with(machine.clone(), options.pti, counted);
    let tour = tour.initrd(image.path()).limit(LIMIT);
    let mut guest = tour.start()?;
    let view = follow(options, &mut guest)?;
    let exit = guest.wait();
    ensure!(exit == Exit::PoweredOff, "the guest ended with {exit:?} instead of powering off");
    let view = view.context("the guest ended before its script asked to be looked at")?;

    heading("What a system call costs, in kernel instructions");
    cost::compare(options, &machine)?;
    verdict(&view)
}

/// Shows what the guest writes until it ends; looks at it when it asks.
fn follow(options: &Options, guest: &mut Guest) -> Result<Option<View>> {
    let mut view = None;
    let mut measures = Vec::new();
    while let Some(line) = guest.console.next_line(SILENCE) {
        if let Some(measure) = line.strip_prefix(HARDENING) {
            measures.push(measure.to_owned());
        } else if let Some(title) = line.strip_prefix(HEADING) {
            show_hardening(&mut measures);
            heading(title);
        } else if line == LOOK {
            let seen = outside::look(guest, options.is_reference_kernel())?;
            seen.print();
            view = Some(seen);
            guest.console.send("\n")?;
        } else if !line.is_empty() {
            println!("  {} {line}", style("|").dim());
        }
    }
    ensure!(guest.console.closed(), "the guest has been silent for {} s", SILENCE.as_secs());
    Ok(view)
}

/// Shows what the kernel said at boot under a heading of its own, once.
fn show_hardening(measures: &mut Vec<String>) {
    if measures.is_empty() {
        return;
    }
    heading("what the entry code does beyond isolation");
    for measure in measures.drain(..) {
        println!("  {}", coloured(&measure));
    }
}

/// A measure's line with its state, the second word, in colour.
fn coloured(measure: &str) -> String {
    let painted = |state, colour: console::Style| {
        let (before, after) = measure.split_once(state)?;
        Some(format!("{before}{}{after}", colour.apply_to(state)))
    };
    painted(" on ", console::Style::new().green())
        .filter(|_| measure.split_whitespace().nth(1) == Some("on"))
        .or_else(|| painted(" off ", console::Style::new().dim()))
        .unwrap_or_else(|| measure.to_owned())
}

fn verdict(view: &View) -> Result<()> {
    let findings = view.findings();
    println!();
    if !findings.is_empty() {
        bail!("Isolation does not hold: {}", findings.join("; "));
    }
    println!(
        "{} User mode sees nothing that leads to the kernel.",
        style("Isolated.").green().bold()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_measure_is_painted_and_nothing_else_changes() {
        console::set_colors_enabled(true);
        for line in
            ["clac      on   CLAC on every entry: why", "verw      off  VERW on or off: why"]
        {
            let painted = coloured(line);
            assert_ne!(painted, line);
            assert_eq!(console::strip_ansi_codes(&painted), line);
        }
    }
}
