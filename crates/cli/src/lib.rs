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
        terminal::note(&words(&error));
        ExitCode::from(2)
    })
}

/// An error with its causes. Those that the words before them repeat already are left out.
fn words(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(&format!(": {cause}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    #[test]
    fn an_error_says_everything_once() {
        let cause = anyhow!("no such file").context("cannot read it: no such file");
        let error = Err::<(), _>(cause).context("a.elf").expect_err("an error");
        assert_eq!(super::words(&error), "a.elf: cannot read it: no such file");
    }
}
