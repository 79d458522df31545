//! `muse-bench`: how long is a decode step, and where does the time go?

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use muse::trace::Event;
use muse::{Engine, EngineOptions, Generated, Precision, Request, Result};

/// Latency of a muse model: per decode step, per stage, per verb.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Milliseconds per decode step of each stage: median, spread, tail
    Step(Arguments),
    /// Seconds per stage of whole images
    Image(Arguments),
    /// Every verb: calls, time, floating-point operations, bytes, achieved rates
    Ops(Arguments),
}

#[derive(Args)]
struct Arguments {
    /// Model directory
    #[arg(default_value = "models/demo")]
    model: PathBuf,
    /// Images to time, after one warm-up image
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Threads of the CPU backend [default: all cores]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// What to compute in: bf16 or f32
    #[arg(long, value_name = "DTYPE", default_value_t)]
    dtype: Precision,
    /// What to draw
    #[arg(long, default_value = "two apples and a cat on a blue background")]
    prompt: String,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Step(arguments) => run(&arguments, step),
        Command::Image(arguments) => run(&arguments, image),
        Command::Ops(arguments) => run(&arguments, ops),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("muse-bench: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(arguments: &Arguments, report: fn(&Engine, &[Generated], Vec<Event>)) -> Result<()> {
    let threads = arguments.threads.map(|n| n as usize);
    let options = EngineOptions { threads, dtype: arguments.dtype, ..EngineOptions::default() };
    let engine = Engine::load(&arguments.model, options)?;
    let mut request = Request::new(&arguments.prompt);
    engine.generate(&request)?; // warm-up
    let mut generated = Vec::new();
    let start = Instant::now();
    for seed in 0..arguments.runs {
        request.seed = u64::from(seed);
        generated.push(engine.generate(&request)?);
    }
    let wall = start.elapsed();
    let (traced, events) = engine.trace(false, |engine| engine.generate(&request));
    traced?;
    println!("{}, {}", engine.device(), engine.dtype());
    println!(
        "model {} {}, {} images after one warm-up, monotonic clock, {:.4} s an image",
        engine.name(),
        engine.model_hash()?,
        arguments.runs,
        wall.as_secs_f64() / f64::from(arguments.runs)
    );
    report(&engine, &generated, events);
    Ok(())
}

fn step(_: &Engine, images: &[Generated], _: Vec<Event>) {
    type Steps = fn(&Generated) -> &[Duration];
    println!(
        "{:<10} {:>6} {:>9} {:>9} {:>9} {:>9}   ms per step",
        "stage", "steps", "median", "p5", "p95", "max"
    );
    let stages: [(&str, Steps); 2] =
        [("base", |g| &g.timings.base_steps), ("super-res", |g| &g.timings.superres_steps)];
    for (name, steps) in stages {
        let all: Vec<f64> = images.iter().flat_map(steps).map(|d| d.as_secs_f64() * 1e3).collect();
        if let Some([median, p5, p95, max]) = quantiles(all, [0.5, 0.05, 0.95, 1.0]) {
            let steps = steps(&images[0]).len();
            println!("{name:<10} {steps:>6} {median:>9.3} {p5:>9.3} {p95:>9.3} {max:>9.3}");
        }
    }
}

fn image(engine: &Engine, images: &[Generated], _: Vec<Event>) {
    type Stage = fn(&Generated) -> Duration;
    println!("{:<10} {:>9} {:>9} {:>9}   ms", "stage", "median", "p5", "p95");
    println!("{:<10} {:>9.2}", "load", engine.load_time().as_secs_f64() * 1e3);
    let stages: [(&str, Stage); 4] = [
        ("text", |g| g.timings.text),
        ("base", |g| g.timings.base),
        ("super-res", |g| g.timings.superres),
        ("vq", |g| g.timings.vq),
    ];
    for (name, stage) in stages {
        let all = images.iter().map(|g| stage(g).as_secs_f64() * 1e3).collect();
        if let Some([median, p5, p95]) = quantiles(all, [0.5, 0.05, 0.95]) {
            println!("{name:<10} {median:>9.2} {p5:>9.2} {p95:>9.2}");
        }
    }
}

fn ops(_: &Engine, _: &[Generated], events: Vec<Event>) {
    let mut verbs: Vec<(&str, u32, Duration, u64, u64)> = Vec::new();
    for event in &events {
        let row = match verbs.iter_mut().find(|row| row.0 == event.verb) {
            Some(row) => row,
            None => {
                verbs.push((event.verb, 0, Duration::ZERO, 0, 0));
                verbs.last_mut().expect("just pushed")
            }
        };
        *row = (row.0, row.1 + 1, row.2 + event.elapsed, row.3 + event.flops, row.4 + event.bytes);
    }
    verbs.sort_by_key(|row| std::cmp::Reverse(row.2));
    let total: f64 = verbs.iter().map(|row| row.2.as_secs_f64()).sum();
    println!("one image, {} calls, {:.2} ms in verbs", events.len(), total * 1e3);
    println!(
        "{:<18} {:>6} {:>9} {:>7} {:>9} {:>9} {:>9}",
        "verb", "calls", "ms", "%", "MFLOP", "GFLOP/s", "GB/s"
    );
    for (verb, calls, time, flops, bytes) in verbs {
        let seconds = time.as_secs_f64();
        println!(
            "{verb:<18} {calls:>6} {:>9.3} {:>7.1} {:>9.1} {:>9.1} {:>9.1}",
            seconds * 1e3,
            100.0 * seconds / total,
            flops as f64 / 1e6,
            flops as f64 / 1e9 / seconds,
            bytes as f64 / 1e9 / seconds
        );
    }
}

/// Nearest-rank quantiles; `None` without samples.
fn quantiles<const N: usize>(mut samples: Vec<f64>, at: [f64; N]) -> Option<[f64; N]> {
    samples.sort_by(f64::total_cmp);
    let last = samples.len().checked_sub(1)?;
    Some(at.map(|q| samples[(q * last as f64).round() as usize]))
}
