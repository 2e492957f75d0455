//! The command `ringwall`: looks at x86-64 guests from outside.
//!
//! ```text
//!   ringwall audit    what can user mode see of the kernel?
//! ```
//!
//! It joins three things that do not know of each other: the sources of `ringwall-emulator`, the findings of
//! `ringwall-audit`, and what people and programs read.
//!
//! Exit status: 0 clean, 1 findings, 2 could not look. Data goes to standard output, everything else to standard
//! error. The library half exists so that tests reach its parts.

mod audit;
pub mod html;
mod interrupt;
pub mod options;
mod progress;
#[cfg(test)]
mod sample;
pub mod saved;
#[cfg(test)]
mod schema;
mod source;
pub mod terminal;

pub use source::cpu::cpu;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, error::ErrorKind};

use options::{Arguments, Command};

/// The whole program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Command::Audit(options) = &arguments.command;
    let request = options.request().unwrap_or_else(|words| {
        let mut command = Arguments::command();
        command.build();
        let audit = command.find_subcommand_mut("audit").expect("it is defined");
        audit.error(ErrorKind::ArgumentConflict, words).exit()
    });
    audit::run(options, &request).unwrap_or_else(|error| {
        eprintln!("ringwall: {}", terminal::plain(&format!("{error:#}")));
        ExitCode::from(2)
    })
}
