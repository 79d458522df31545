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
                  that cannot be used, 4 a file that cannot be read or written, 5 a device that is absent or failed, \
                  6 another engine or its environment."
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
    /// The same weights and inputs through muse and other engines: PyTorch with diffusers, OpenVINO, ONNX Runtime
    Peers(PeersArgs),
    /// muse's side of `peers`: answers a line for each on standard input
    #[command(hide = true)]
    Answer(AnswerArgs),
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
    /// As many before them
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
    #[arg(long, default_value = "cpu")]
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
    #[arg(long, default_value = "cpu")]
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
pub struct PeersArgs {
    /// Model directory: the demonstration model's, or aMUSEd's as the hub publishes it
    #[arg(default_value = "models/demo", conflicts_with = "shape")]
    pub model: PathBuf,
    /// Instead of a model, a made-up one of that shape (tools/fixtures), which is written to the folder first
    #[arg(long)]
    pub shape: Option<Made>,
    /// Peers to measure beside muse, with commas between [default: all that run the model]
    #[arg(long, value_delimiter = ',')]
    pub peers: Vec<String>,
    /// Dtypes to measure: f32, bf16, int8, with commas between [default: all that each peer has]
    #[arg(long, value_delimiter = ',')]
    pub dtypes: Vec<String>,
    /// Rounds: of each, one image of every engine in turn
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Rounds of fresh processes, each timed from its start to the end of its first decode step
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub starts: u32,
    /// Decode steps of every stage [default: the model's]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub steps: Option<u32>,
    /// Threads of the processor for every engine [default: all]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Where: cpu, cuda, cuda:N or auto
    #[arg(long, default_value = "cpu")]
    pub device: DeviceChoice,
    /// What to draw
    #[arg(long, default_value = "two apples and a cat on a blue background")]
    pub prompt: String,
    /// Python 3 to set the peers' environment up with
    #[arg(long, default_value = "python3")]
    pub python: String,
    /// Where the environment and converted models are kept [default: target/peers of the checkout]
    #[arg(long)]
    pub folder: Option<PathBuf>,
    /// Seconds to wait for an answer
    #[arg(long, default_value_t = 900, value_parser = clap::value_parser!(u32).range(1..=86400))]
    pub patience: u32,
    /// Keep every sample in this file (docs/bench-json.md)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Models of tools/fixtures that are worth measuring.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Made {
    /// aMUSEd for pictures of 256 pixels
    #[value(name = "amused-256")]
    Amused256,
    /// aMUSEd for pictures of 512 pixels
    #[value(name = "amused-512")]
    Amused512,
}

impl Made {
    pub fn name(self) -> &'static str {
        match self {
            Made::Amused256 => "amused-256",
            Made::Amused512 => "amused-512",
        }
    }
}

#[derive(Args)]
pub struct AnswerArgs {
    pub model: PathBuf,
    pub prompt: String,
    #[arg(long)]
    pub dtype: Precision,
    #[arg(long)]
    pub threads: u32,
    #[arg(long)]
    pub device: DeviceChoice,
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

fn percent(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n: &f64| (0.0..=1000.0).contains(n));
    number.ok_or_else(|| "expected 0 to 1000".into())
}
