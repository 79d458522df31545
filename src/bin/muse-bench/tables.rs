//! Records as text.

use muse::bench::{Record, Ridge, Series};

/// What was measured, where and how.
pub fn head(record: &Record, note: &str) {
    let (machine, program, method) = (&record.machine, &record.program, &record.method);
    println!("device   {}", machine.device);
    println!(
        "machine  {}; processors {}, governor {}, load {:.2}, {:.0} GiB",
        machine.system,
        machine.affinity,
        machine.governor,
        machine.load,
        machine.memory as f64 / f64::from(1 << 30)
    );
    let debug = if program.debug { ", DEBUG BUILD: its times say little" } else { "" };
    println!(
        "program  muse {}, commit {}, {}{debug}",
        program.version, program.commit, program.hash
    );
    if let Some(subject) = &record.subject {
        let settings = &subject.settings;
        let steps = settings.steps.map_or("the model's steps".into(), |n| format!("{n} steps"));
        let guidance = settings.guidance.map_or("its guidance".into(), |g| format!("guidance {g}"));
        println!(
            "model    {} {}, {}, {steps}, {guidance}, batch {}",
            subject.model, subject.hash, settings.dtype, settings.batch
        );
    }
    for line in note.lines() {
        println!("         {line}");
    }
    println!(
        "method   {} clock, {} warm-up, {} iterations, caches {}",
        method.clock, method.warm_up, method.iterations, method.caches
    );
}

/// In place of times.
pub fn simulated(command: &str) {
    println!(
        "SIMULATED: this device is ptxsim, whose times are made up, so none are shown or kept. The work was done once, \
         to be counted; counters and the modelled bound are those of\n    target/release/ptxsim run --counters -- \
         target/release/muse-bench {command} --device cuda"
    );
}

/// Quantiles of the series that `which` takes.
pub fn series(record: &Record, which: impl Fn(&Series) -> bool) {
    if record.series.is_empty() {
        return;
    }
    println!(
        "{:<22} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9}   ms",
        "", "samples", "median", "p5", "p95", "p99", "± MAD"
    );
    for Series { name, summary: s, .. } in record.series.iter().filter(|series| which(series)) {
        println!(
            "{name:<22} {:>7} {:>9.3} {:>9.3} {:>9.3} {:>9.3} {:>9.3}",
            s.count, s.median, s.p5, s.p95, s.p99, s.mad
        );
    }
}

/// The machine's ceilings.
pub fn ceilings(record: &Record) {
    for ceiling in &record.ceilings {
        let unit = if ceiling.name == "copy" { "GB/s" } else { "GFLOP/s" };
        println!("{:<6} {:>9.1} {unit:<8} {}", ceiling.name, ceiling.rate / 1e9, ceiling.how);
    }
}

/// Verbs of one batch, with what tells whether to trust them.
pub fn verbs(record: &Record) {
    ceilings(record);
    let total: f64 = record.verbs.iter().map(|verb| verb.ms).sum();
    let dtype = record.subject.as_ref().map_or("bf16", |s| s.settings.dtype.as_str());
    println!(
        "{:<20} {:>6} {:>9} {:>6} {:>9} {:>9} {:>8}  bound by",
        "verb", "calls", "ms", "%", "GFLOP/s", "GB/s", "% of it"
    );
    for verb in &record.verbs {
        let rate = |n: u64| n as f64 / 1e6 / verb.ms;
        let (share, bound) = match Ridge::of(verb, &record.ceilings, dtype) {
            Some(ridge) if ridge.products => (ridge.share, "products"),
            Some(ridge) => (ridge.share, "bytes"),
            None => (0.0, "?"),
        };
        println!(
            "{:<20} {:>6} {:>9.3} {:>6.1} {:>9.1} {:>9.1} {:>8.1}  {bound}",
            verb.verb,
            verb.calls,
            verb.ms,
            100.0 * verb.ms / total,
            rate(verb.flops),
            rate(verb.bytes),
            100.0 * share
        );
    }
    println!("one batch: {total:.2} ms in verbs; above 100 %: operands came from caches");
    for series in &record.series {
        let Some(stage) = series.name.strip_suffix(" stage, traced") else { continue };
        let median = |name: String| record.series(&name).map_or(f64::NAN, |s| s.summary.median);
        let plain = median(format!("{stage} stage"));
        let (steps, verbs) =
            (median(format!("{stage} step, traced")), median(format!("{stage} step, verbs")));
        println!(
            "{stage}: recording costs {:+.1} %; verbs are {:.1} % of the steps",
            100.0 * (series.summary.median / plain - 1.0),
            100.0 * verbs / steps
        );
    }
}

/// One line a combination.
pub fn sweep(records: &[Record]) {
    println!(
        "{:<6} {:>7} {:>6} {:>6}   median ms per step of all images",
        "dtype", "threads", "steps", "batch"
    );
    for record in records {
        let Some(subject) = &record.subject else { continue };
        let settings = &subject.settings;
        let number = |n: Option<u32>, none: &str| n.map_or(none.to_owned(), |n| n.to_string());
        let steps = record.series.iter().filter(|series| series.is_step());
        let steps: Vec<String> =
            steps.map(|s| format!("{} {:.3}", s.name, s.summary.median)).collect();
        println!(
            "{:<6} {:>7} {:>6} {:>6}   {}",
            settings.dtype,
            number(settings.threads, "all"),
            number(settings.steps, "own"),
            settings.batch,
            steps.join(", ")
        );
    }
}
