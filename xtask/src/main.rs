//! Ringwall's tasks: `cargo xtask TASK`.
//!
//! One file per task. What a task needs and the machine does not have, [`setup`] fetches and says
//! so; nothing is printed about what is there already. Everything made lands below `target/`.

mod addresses;
mod build;
mod commands;
mod fuzz;
mod parallel;
mod programs;
mod progress;
mod run;
mod selftests;
mod setup;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Ringwall's tasks: set-up, build, run, test")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Fetch everything that the other tasks need.
    Setup(setup::Options),
    /// Build the kernel; the last line printed is its path.
    Build(build::Options),
    /// Boot the kernel in QEMU and give a tour of what isolation does.
    Run(run::Options),
    /// Check everything: style, host tests, both toolchains, emulator scenarios.
    Test(test::Options),
    /// Check formatting, lints and file headers.
    Tidy,
    /// Let libFuzzer make up guests for the host tools, ten minutes for each target.
    Fuzz(fuzz::Options),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Setup(options) => setup::run(&options),
        Task::Build(options) => build::run(&options),
        Task::Run(options) => run::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Tidy => tidy::run(),
        Task::Fuzz(options) => fuzz::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::failure(&error);
            ExitCode::FAILURE
        }
    }
}
