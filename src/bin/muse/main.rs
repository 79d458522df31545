//! The command line: `main` maps errors to exit codes, each command is one file.

mod convert;
mod edit;
mod generate;
mod images;
mod inspect;
mod options;
mod pull;
mod selftest;
mod studio;
mod tune;

use std::process::ExitCode;

use clap::Parser;
use muse::Result;
use muse::spans::Recording;

use options::{Cli, Command};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("muse: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(Cli { command, spans }: Cli) -> Result<()> {
    let recording = spans.as_deref().map(Recording::start).transpose()?;
    match command {
        Command::Generate(arguments) => generate::run(arguments),
        Command::Inpaint(arguments) => edit::inpaint(arguments),
        Command::Outpaint(arguments) => edit::outpaint(arguments),
        Command::Edit(arguments) => edit::edit(arguments),
        Command::Vary(arguments) => edit::vary(arguments),
        Command::Interpolate(arguments) => edit::interpolate(arguments),
        Command::Pull(arguments) => pull::run(arguments),
        Command::Convert(arguments) => convert::run(arguments),
        Command::Studio(arguments) => studio::run(arguments),
        Command::Info(arguments) => inspect::info(arguments),
        Command::Check(arguments) => inspect::check(arguments),
        Command::Selftest(arguments) => selftest::run(arguments),
        Command::Tune(arguments) => tune::run(arguments),
    }?;
    recording.map_or(Ok(()), Recording::finish)
}
