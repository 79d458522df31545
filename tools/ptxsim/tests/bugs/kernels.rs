//! Bugs within kernels.

use std::ops::Range;

use ptxsim::exec::Level;
use ptxsim::finding::Kind::{self, *};

use crate::support::{Arg, Device, report};
use crate::{Culprits, guilty_lines, is_at, row};

const SEEDS: u64 = 8;

/// Words of the buffers: no more and no less.
const WORDS: usize = 2048;

/// A kernel `NAME_bug` of `FILE.cu` with its twin `NAME_fixed`.
struct Bug {
    file: &'static str,
    name: &'static str,
    kind: Kind,
    threads: u32,
    /// Which are at fault: of two blocks.
    blocks: Range<u32>,
    warps: Range<u32>,
    lanes: Range<u32>,
}

impl Bug {
    const fn new(file: &'static str, name: &'static str, kind: Kind) -> Self {
        Self { file, name, kind, threads: 256, blocks: 0..2, warps: 0..8, lanes: 0..32 }
    }

    const fn by(mut self, blocks: Range<u32>, warps: Range<u32>, lanes: Range<u32>) -> Self {
        (self.blocks, self.warps, self.lanes) = (blocks, warps, lanes);
        self
    }

    const fn of(mut self, threads: u32) -> Self {
        self.threads = threads;
        self
    }
}

const BUGS: [Bug; 22] = [
    Bug::new("races", "write_read", SharedRace),
    Bug::new("races", "reuse", SharedRace),
    Bug::new("races", "lockstep", SharedRace),
    Bug::new("races", "neighbour", GlobalRace),
    Bug::new("races", "plain_add", GlobalRace).by(0..2, 0..1, 0..1),
    Bug::new("async", "lax_wait", AsyncCopyRace).of(128).by(0..2, 0..4, 0..32),
    Bug::new("async", "no_wait", AsyncCopyRace).of(128).by(0..2, 0..4, 0..32),
    // The first row whose formula leads astray is the fifth: lanes 16 to 31.
    Bug::new("async", "swizzle", UninitialisedRead).of(128).by(0..2, 0..4, 16..32),
    Bug::new("waits", "one_test", SharedRace),
    Bug::new("waits", "plain_arrival", AsyncCopyRace),
    Bug::new("memory", "past_end", OutOfBounds).by(1..2, 7..8, 24..25),
    Bug::new("memory", "below", OutOfBounds).by(0..1, 0..1, 0..1),
    Bug::new("memory", "misaligned", Misaligned),
    Bug::new("memory", "global", UninitialisedRead),
    Bug::new("memory", "shared", UninitialisedRead).by(0..2, 0..1, 8..9),
    Bug::new("memory", "local", UninitialisedRead),
    Bug::new("memory", "array_end", OutOfBounds).by(0..2, 7..8, 16..17),
    Bug::new("barriers", "divergent", DivergentBarrier).by(0..2, 0..1, 16..17),
    Bug::new("barriers", "mismatch", BarrierMismatch),
    Bug::new("barriers", "inactive", UninitialisedRead).by(0..2, 0..8, 0..16),
    Bug::new("barriers", "mask", BarrierMismatch).by(0..2, 0..8, 16..32),
    Bug::new("barriers", "absent", DivergentBarrier).by(0..2, 0..8, 0..24),
];

#[test]
fn each_is_found_at_its_line_and_its_twin_is_silent() {
    let mut failures = Vec::new();
    for bug in &BUGS {
        let mut missed = Vec::new();
        for seed in 0..SEEDS {
            missed.extend(caught(bug, seed).err());
            if let Err(why) = silent(bug, seed) {
                failures.push(format!("{}, seed {seed}: {why}", bug.name));
            }
        }
        // A read that runs before the write of another block that it races with is not seen: some orders
        // of the blocks do not show the race.
        let allowed = if bug.kind == GlobalRace { SEEDS as usize - 1 } else { 0 };
        if missed.len() > allowed {
            let (count, why) = (missed.len(), &missed[0]);
            failures.push(format!("{}, {count} of {SEEDS} seeds: {why}", bug.name));
        }
    }
    assert!(failures.is_empty(), "{} bugs:\n{}", failures.len(), failures.join("\n"));
}

fn caught(bug: &Bug, seed: u64) -> Result<(), String> {
    let name = format!("{}_bug", bug.name);
    let device = run(bug, &name, seed);
    let findings = device.findings.take();
    let lines = guilty_lines(bug.file, &name);
    let Some(found) = findings.iter().find(|f| f.kind == bug.kind && is_at(f, &lines)) else {
        return Err(format!("no {:?} at {lines:?}, but {}", bug.kind, report(&findings)));
    };
    // One mistake may show in several ways, but at no other line.
    if let Some(other) = findings.iter().find(|f| !is_at(f, &lines)) {
        return Err(format!("beside {lines:?} {other}"));
    }
    let place = found.place.as_ref().expect("it is at a line");
    let culprits =
        Culprits { blocks: bug.blocks.clone(), warps: bug.warps.clone(), lanes: bug.lanes.clone() };
    if !culprits.include(place) {
        return Err(format!("the wrong thread is blamed: {found}"));
    }
    if seed == 0 {
        row(bug.name, found);
    }
    Ok(())
}

fn silent(bug: &Bug, seed: u64) -> Result<(), String> {
    let findings = run(bug, &format!("{}_fixed", bug.name), seed).findings.take();
    if findings.is_empty() {
        return Ok(());
    }
    Err(format!("the mended twin: {}", report(&findings)))
}

/// Two blocks on a buffer of input and one of output, whose last threads have nothing to do.
fn run(bug: &Bug, kernel: &str, seed: u64) -> Device {
    let source = std::fs::read_to_string(format!("{}/{}.ptx", crate::HERE, bug.file)).unwrap();
    let mut device = Device::new(&source, Level::available().pop().expect("a level"));
    device.machine.seed = seed;
    device.machine.threads = 1 + seed as usize % 2;
    let words: Vec<i32> = (0..WORDS as i32).map(|i| (i * 7 % 1000) | 7).collect();
    let input = device.upload(&words);
    let mut args = vec![Arg::Address(input)];
    match bug.file {
        "memory" => {
            let n = 2 * bug.threads - 8;
            args.extend([Arg::Address(device.allocate(4 * n as usize)), Arg::Word(n)]);
        }
        // Races of sums need something to add to.
        "races" => args.push(Arg::Address(device.upload(&vec![0i32; 2 * bug.threads as usize]))),
        _ => args.push(Arg::Address(device.allocate(8 * bug.threads as usize))),
    }
    let outcome = device.launch(kernel, [2, 1, 1], [bug.threads, 1, 1], 0, &args);
    if kernel.ends_with("_fixed") {
        outcome.unwrap();
    }
    device
}
