//! `muse selftest`.

use std::io::Write;

use muse::cpu::{Cpu, Simd};
use muse::cuda::Cuda;
use muse::device::Device;
use muse::selftest::{Outcome, Sums, Verb, verbs};
use muse::{DeviceChoice, Error, Result};

use crate::options::SelftestArgs;

pub fn run(arguments: SelftestArgs) -> Result<()> {
    let (gpu, reason) = match (&arguments.kernels, arguments.device) {
        (None, choice) => choice.gpu()?,
        (Some(folder), DeviceChoice::Cuda(ordinal)) => {
            (Some(Cuda::with_kernels(ordinal, folder)?), None)
        }
        (Some(_), choice) => {
            return Err(Error::Option {
                name: "--kernels",
                found: format!("a folder with --device {choice}"),
                expected: "--device cuda or cuda:N, whose kernels it replaces".into(),
            });
        }
    };
    if let Some(reason) = reason {
        println!("device chosen: {reason}");
    }
    // The twins: the plainest code path of this processor and the widest.
    let levels = Simd::available();
    let twin = |level: Option<&Simd>| level.map(|&level| Cpu::with_simd(None, level));
    let cpus: Vec<Cpu> =
        [twin(levels.first()), twin(levels.last())].into_iter().flatten().collect::<Result<_>>()?;
    match gpu {
        Some(gpu) => table(&gpu, Sums::TensorCores, &cpus, &arguments.verbs),
        None => {
            let cpu = Cpu::new(None)?;
            table(&cpu, Sums::of(&cpu), &cpus, &arguments.verbs)
        }
    }
}

fn table<D: Device>(device: &D, sums: Sums, cpus: &[Cpu], only: &[String]) -> Result<()> {
    let all: Vec<Verb<D>> = verbs();
    if let Some(unknown) = only.iter().find(|name| all.iter().all(|verb| verb.name != **name)) {
        let names: Vec<&str> = all.iter().map(|verb| verb.name).collect();
        return Err(Error::Option {
            name: "--verb",
            found: unknown.clone(),
            expected: names.join(", "),
        });
    }
    println!("muse {} selftest", env!("CARGO_PKG_VERSION"));
    println!("device  {}", device.describe());
    println!("twin    {}", cpus[cpus.len() - 1].describe());
    println!();
    println!("{:<21} {:>6} {:>7} {:>9}  result", "verb", "cases", "worst", "seconds");
    let mut failed = Vec::new();
    for verb in all.iter().filter(|verb| only.is_empty() || only.iter().any(|n| n == verb.name)) {
        print!("{:<21} ", verb.name);
        let _ = std::io::stdout().flush(); // the name shows while it runs
        let outcome = verb.test(device, sums, cpus);
        let Outcome { cases, worst, elapsed, failures } = &outcome;
        let result = if failures.is_empty() { "ok" } else { "FAILED" };
        let worst = format!("{:.0} %", 100.0 * worst);
        println!("{cases:>6} {worst:>7} {:>9.2}  {result}", elapsed.as_secs_f64());
        if !failures.is_empty() {
            failed.push((verb.name, outcome));
        }
    }
    println!();
    if failed.is_empty() {
        println!("All results agree with the judge.");
        return Ok(());
    }
    for (name, outcome) in &failed {
        println!("{name}:");
        for failure in &outcome.failures {
            println!("  {failure}");
        }
    }
    let names: Vec<&str> = failed.iter().map(|(name, _)| *name).collect();
    Err(Error::Device {
        device: device.describe(),
        problem: format!("wrong results of {}; please report the table above", names.join(", ")),
    })
}
