//! `muse tune`.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use muse::cuda::Timed;
use muse::device::Device;
use muse::plans::Table;
use muse::{Engine, Error, Request, Result};

use crate::options::{TuneArgs, model_dir};

pub fn run(arguments: TuneArgs) -> Result<()> {
    let model = model_dir(arguments.model)?;
    let (gpu, reason) = arguments.device.gpu()?;
    let Some(gpu) = gpu else {
        return Err(Error::Option {
            name: "--device",
            found: reason.unwrap_or_else(|| arguments.device.to_string()),
            expected: "a GPU: only its kernels have a choice of tiles".into(),
        });
    };
    let identity = gpu.identity();
    let path = arguments.cache.or_else(|| Table::cached(&identity)).ok_or(Error::Option {
        name: "--cache",
        found: "neither XDG_CACHE_HOME nor a home folder".into(),
        expected: "a file for the table".into(),
    })?;
    // What is there already stays, or must be understood.
    let mut table = match path.exists() {
        true => Table::read(&path, &identity)?,
        false => Table { made_for: identity.clone(), plans: Vec::new() },
    };
    println!("device  {}", gpu.describe());
    if identity.simulated {
        println!(
            "        This device is simulated: the times below are made up from counted instructions. They are no \
             measurements, and the table is used on this simulator only."
        );
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    let shown = bar.clone();
    let on_timed = move |timed: &Timed, all: usize| {
        shown.set_length(all as u64);
        shown.set_message(timed.problem.to_string());
        shown.inc(1);
    };
    let timed = Engine::tune(&model, gpu, &Request::new(arguments.prompt), on_timed)?;
    bar.finish_and_clear();
    report(&timed, identity.simulated);
    table.merge(timed.iter().map(Into::into));
    table.write(&path)?;
    println!("table   {} ({} plans)", path.display(), table.plans.len());
    Ok(())
}

/// The slowest first.
fn report(timed: &[Timed], simulated: bool) {
    let unit = if simulated { "made-up µs" } else { "µs" };
    println!(
        "\n{:<34} {:<20} {:<20} {:>9} {:>9} {:>6}   {unit}",
        "problem", "by rule", "best", "by rule", "best", "ratio"
    );
    let mut rows: Vec<&Timed> = timed.iter().collect();
    rows.sort_by_key(|timed| std::cmp::Reverse(timed.rule.1));
    let microseconds = |time: Duration| time.as_secs_f64() * 1e6;
    for Timed { problem, rule, best, .. } in rows {
        let ratio = rule.1.as_secs_f64() / best.1.as_secs_f64().max(1e-9);
        println!(
            "{:<34} {:<20} {:<20} {:>9.2} {:>9.2} {ratio:>6.2}",
            problem.to_string(),
            rule.0.to_string(),
            best.0.to_string(),
            microseconds(rule.1),
            microseconds(best.1)
        );
    }
    println!();
}
