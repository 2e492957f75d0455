//! The command `ringwall`: looks at x86-64 guests from outside. All of it is in the library beside this file.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringwall_cli::main()
}
