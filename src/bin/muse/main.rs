//! The command line: `main` maps errors to exit codes, each command is one file.

mod edit;
mod generate;
mod images;
mod inspect;
mod options;
mod pull;
mod selftest;
mod tune;

use std::process::ExitCode;

use clap::Parser;

use options::{Cli, Command};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Generate(arguments) => generate::run(arguments),
        Command::Inpaint(arguments) => edit::inpaint(arguments),
        Command::Outpaint(arguments) => edit::outpaint(arguments),
        Command::Edit(arguments) => edit::edit(arguments),
        Command::Vary(arguments) => edit::vary(arguments),
        Command::Interpolate(arguments) => edit::interpolate(arguments),
        Command::Pull(arguments) => pull::run(arguments),
        Command::Info(arguments) => inspect::info(arguments),
        Command::Check(arguments) => inspect::check(arguments),
        Command::Selftest(arguments) => selftest::run(arguments),
        Command::Tune(arguments) => tune::run(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("muse: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
