//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use muse::bench::Counts;
use muse::{DeviceChoice, Precision};

/// Latency of a muse model: per decode step, per stage, per verb; its floor; and what changed.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done, 1 a regression was found, 2 options that cannot be used, 3 a model or record \
                  that cannot be used, 4 a file that cannot be read or written, 5 a device that is absent or failed."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Write stages, decode steps and verbs with their times to this file, for ui.perfetto.dev or chrome://tracing
    /// (needs a build with --features spans; docs/profiling.md)
    #[arg(long, global = true, value_name = "FILE")]
    pub spans: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Milliseconds per decode step of each stage: median, spread, tail, warm and cold
    Step(Arguments),
    /// Milliseconds per stage of whole images, and to the first step
    Image(Arguments),
    /// Every verb: calls, time, achieved rates, and how near it comes to the ceiling that binds it
    Ops(Arguments),
    /// What this machine can do at most: copies and products
    Roofline(RooflineArgs),
    /// `step` for every combination of batch, steps, dtypes and threads
    Sweep(SweepArgs),
    /// How many times as long B takes as A, and how sure that is
    Compare(CompareArgs),
    /// One page of any number of records: HTML, or Markdown where its name ends so
    Report(ReportArgs),
}

#[derive(Args, Clone)]
pub struct Arguments {
    /// Model directory
    #[arg(default_value = "models/demo", conflicts_with = "shape")]
    pub model: PathBuf,
    /// Instead of a model, noise of that shape: muse-3b, muse-superres, muse-632m, amused-256, amused-512, demo, or
    /// the path of a Muse model's config.json
    #[arg(long)]
    pub shape: Option<String>,
    /// Images that count, or batches of them
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub iterations: u32,
    /// Images before them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub warm_up: u32,
    /// Images that are decoded side by side; times are those of all of them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub batch: u32,
    /// Decode steps of every stage [default: the model's]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub steps: Option<u32>,
    /// Guidance scale of every stage; 1 computes no unconditional rows [default: the model's]
    #[arg(long)]
    pub guidance: Option<f32>,
    /// Threads of the processor [default: all]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// What to compute in: bf16, f32 or int8
    #[arg(long, value_name = "DTYPE", default_value_t)]
    pub dtype: Precision,
    /// Where: cpu, cuda, cuda:N or auto
    #[arg(long, default_value = "cpu", value_parser = device)]
    pub device: DeviceChoice,
    /// What to draw
    #[arg(long, default_value = "two apples and a cat on a blue background")]
    pub prompt: String,
    /// Keep every sample in this file (docs/bench-json.md)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl Arguments {
    pub fn counts(&self) -> Counts {
        Counts { warm_up: self.warm_up, iterations: self.iterations, batch: self.batch }
    }
}

#[derive(Args)]
pub struct RooflineArgs {
    /// Threads of the processor [default: all]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Where: cpu, cuda, cuda:N or auto
    #[arg(long, default_value = "cpu", value_parser = device)]
    pub device: DeviceChoice,
    /// Keep the ceilings in this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Args)]
pub struct SweepArgs {
    #[command(flatten)]
    pub each: Arguments,
    /// Decode steps to try, with commas between
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub over_steps: Vec<u32>,
    /// Batches to try
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=8))]
    pub over_batch: Vec<u32>,
    /// Dtypes to try
    #[arg(long, value_delimiter = ',')]
    pub over_dtypes: Vec<Precision>,
    /// Threads to try
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub over_threads: Vec<u32>,
}

#[derive(Args)]
pub struct CompareArgs {
    /// Record to compare with
    pub a: PathBuf,
    /// Record to compare
    pub b: PathBuf,
    /// Samples of one number were taken one after the other: compare pair by pair
    #[arg(long)]
    pub paired: bool,
    /// A time that grew by more than this many per cent, and surely grew, is a regression (exit code 1)
    #[arg(long, default_value_t = 5.0, value_name = "PERCENT", value_parser = percent)]
    pub threshold: f64,
}

#[derive(Args)]
pub struct ReportArgs {
    /// Records, in any order
    #[arg(required = true)]
    pub records: Vec<PathBuf>,
    /// The page; tables alone where it ends in .md
    #[arg(short, long, default_value = "report.html")]
    pub out: PathBuf,
}

/// `auto`, `cpu`, `cuda` or `cuda:N`.
fn device(text: &str) -> Result<DeviceChoice, String> {
    match text {
        "auto" => Ok(DeviceChoice::Auto),
        "cpu" => Ok(DeviceChoice::Cpu),
        "cuda" => Ok(DeviceChoice::Cuda(0)),
        _ => text
            .strip_prefix("cuda:")
            .and_then(|n| n.parse().ok())
            .map(DeviceChoice::Cuda)
            .ok_or_else(|| "expected auto, cpu, cuda or cuda:N".into()),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n: &f64| (0.0..=1000.0).contains(n));
    number.ok_or_else(|| "expected 0 to 1000".into())
}
