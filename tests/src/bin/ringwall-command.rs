//! The command `ringwall`, once more: cargo builds a package's own binaries for its tests, and no others.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringwall_cli::main()
}
