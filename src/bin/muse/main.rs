//! The command line: `main` maps errors to exit codes, each command is one file.

mod generate;
mod inspect;
mod options;
mod selftest;
mod tune;

use std::process::ExitCode;

use clap::Parser;

use options::{Cli, Command};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Generate(arguments) => generate::run(arguments),
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
