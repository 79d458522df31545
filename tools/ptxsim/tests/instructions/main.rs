//! One test per PTX instruction and family of modifiers, on every level of vector instructions, with
//! expected bits computed here. `cargo test -p ptxsim --test instructions` prints a table of the PTX
//! that ran, with `-- --nocapture` every form; it fails when the executor knows an instruction that none
//! of these tests runs.
//! A word of the command line chooses the tests whose names contain it, and then there is no table.

mod approximation;
mod atomic;
mod barrier;
mod collective;
mod comparison;
mod control;
mod conversion;
mod coverage;
#[allow(dead_code, reason = "the tests of the arithmetic use the rest")]
#[path = "../arith/exact.rs"]
mod exact;
mod float;
mod half;
mod harness;
#[path = "../arith/ieee.rs"]
mod ieee;
mod integer;
mod logic;
mod matrix;
mod memory;
mod movement;
#[path = "../arith/random.rs"]
mod random;
mod refusal;
#[path = "../arith/rule.rs"]
mod rule;
mod special;
#[path = "../support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicUsize, Ordering};

/// Tests of a file.
type Tests = &'static [(&'static str, fn())];

const FAMILIES: [(&str, Tests); 16] = [
    ("integer", integer::TESTS),
    ("logic", logic::TESTS),
    ("float", float::TESTS),
    ("half", half::TESTS),
    ("comparison", comparison::TESTS),
    ("approximation", approximation::TESTS),
    ("collective", collective::TESTS),
    ("atomic", atomic::TESTS),
    ("matrix", matrix::TESTS),
    ("memory", memory::TESTS),
    ("barrier", barrier::TESTS),
    ("control", control::TESTS),
    ("special", special::TESTS),
    ("refusal", refusal::TESTS),
    ("movement", movement::TESTS),
    ("conversion", conversion::TESTS),
];

/// Words that choose tests, and whether all is to be printed. Other flags of libtest change nothing.
fn arguments() -> (Vec<String>, bool) {
    let (mut chosen, mut verbose) = (Vec::new(), false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--nocapture" => verbose = true,
            "--test-threads" | "--skip" | "--color" | "--format" => drop(arguments.next()),
            flag if flag.starts_with('-') => {}
            _ => chosen.push(argument),
        }
    }
    (chosen, verbose)
}

// Not libtest: the table needs all the others to have run.
fn main() {
    let (chosen, verbose) = arguments();
    let all: Vec<(String, fn())> = FAMILIES
        .iter()
        .flat_map(|(family, tests)| {
            tests.iter().map(move |(name, test)| (format!("{family}::{name}"), *test))
        })
        .filter(|(name, _)| chosen.is_empty() || chosen.iter().any(|c| name.contains(c)))
        .collect();
    println!("running {} tests", all.len());
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some((name, test)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            let started = std::time::Instant::now();
            let passed = std::panic::catch_unwind(test).is_ok();
            failed.fetch_add(usize::from(!passed), Ordering::Relaxed);
            let verdict = if passed { "ok" } else { "FAILED" };
            println!("test {name} ... {verdict} ({:.2} s)", started.elapsed().as_secs_f64());
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner();
    let missing = if chosen.is_empty() { coverage::report(verbose) } else { Vec::new() };
    println!("{} passed, {failed} failed", all.len() - failed);
    if !missing.is_empty() {
        println!("known to the executor, but run by no test: {}", missing.join(", "));
    }
    if failed + missing.len() > 0 {
        std::process::exit(101);
    }
}
