//! `muse-bench`: how long is a decode step, where does the time go, how far is it from the floor, and is it faster
//! than before?

mod compare;
mod options;
mod peers;
mod report;
mod run;
mod tables;

use std::process::ExitCode;

use clap::Parser;
use muse::Result;
use muse::spans::Recording;
use options::{Cli, Command};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::from(1), // a regression
        Err(error) => {
            eprintln!("muse-bench: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Whether a regression was found.
fn run(Cli { command, spans }: Cli) -> Result<bool> {
    let recording = spans.as_deref().map(Recording::start).transpose()?;
    let regression = match command {
        Command::Step(arguments) => run::step(&arguments).map(|()| false),
        Command::Image(arguments) => run::image(&arguments).map(|()| false),
        Command::Ops(arguments) => run::ops(&arguments).map(|()| false),
        Command::Roofline(arguments) => run::roofline(&arguments).map(|()| false),
        Command::Sweep(arguments) => run::sweep(&arguments).map(|()| false),
        Command::Peers(arguments) => peers::run(&arguments).map(|()| false),
        Command::Answer(arguments) => peers::answer::run(&arguments).map(|()| false),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Report(arguments) => report::run(&arguments).map(|()| false),
    }?;
    recording.map_or(Ok(()), Recording::finish)?;
    Ok(regression)
}
