//! Barriers in shared memory: whole pipelines on them against plain loops, and what is reported of their
//! misuse. Single instructions are in `instructions`, planted races in `bugs`.

mod support;

use ptxsim::exec::{Fault, Level};
use ptxsim::finding::Kind;
use support::{Arg, Device, Random, report};

const BUGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bugs/waits.ptx");
const BLOCKS: usize = 3;

/// Launches a fixture's kernel for every architecture, level and some orders: the same words from each.
fn always(kernel: &str, threads: u32, input: &[i32], rows: Option<u32>, wanted: &[i32]) {
    for arch in ["80", "90", "120"] {
        for level in Level::available() {
            for seed in 0..6 {
                let mut device = Device::fixture(&format!("mbarrier.{arch}"), level);
                device.machine.seed = seed;
                device.machine.threads = 1 + seed as usize % 2;
                let [from, to] = [device.upload(input), device.allocate(4 * wanted.len() * BLOCKS)];
                let mut args = vec![Arg::Address(from), Arg::Address(to)];
                args.extend(rows.map(Arg::Word));
                device.launch(kernel, [BLOCKS as u32, 1, 1], [threads, 1, 1], 0, &args).unwrap();
                device.clean();
                let got: Vec<i32> = device.download(to, wanted.len() * BLOCKS);
                assert_eq!(got, wanted.repeat(BLOCKS), "{kernel}.{arch}, {level:?}, seed {seed}");
            }
        }
    }
}

fn numbers(count: usize) -> Vec<i32> {
    let mut random = Random(5);
    (0..count).map(|_| (random.word() % 1000) as i32).collect()
}

#[test]
fn a_warp_produces_and_three_consume() {
    for rows in [0, 1, 2, 7] {
        let input = numbers(64 * rows.max(1));
        let sum = |t: usize| (0..rows).map(|row| input[row * 64 + (t * 7 + row) % 64]).sum();
        let wanted: Vec<i32> = (0..96).map(sum).collect();
        always("producer_consumer", 128, &input, Some(rows as u32), &wanted);
    }
}

#[test]
fn copies_arrive_when_they_have_landed() {
    for rows in [1, 2, 5] {
        let input = numbers(512 * rows);
        let sum = |t: usize| (0..rows).map(|row| input[row * 512 + (127 - t) * 4]).sum();
        let wanted: Vec<i32> = (0..128).map(sum).collect();
        always("copies", 128, &input, Some(rows as u32), &wanted);
    }
}

#[test]
fn who_has_dropped_out_is_not_waited_for() {
    let input = numbers(512);
    let sum = |t: usize| (0..=t % 4).map(|round| input[round * 128 + (t | 3)]).sum();
    let wanted: Vec<i32> = (0..128).map(sum).collect();
    always("leavers", 128, &input, None, &wanted);
}

/// A misuse ends the launch or is a finding of this kind, and these words say what is wrong.
fn misused(kernel: &str, kind: Option<Kind>, words: &str) {
    let ptx = std::fs::read_to_string(BUGS).unwrap();
    for level in Level::available() {
        for seed in 0..3 {
            let mut device = Device::new(&ptx, level);
            device.machine.seed = seed;
            let input = device.upload(&numbers(2048));
            let output = device.allocate(4096);
            let args = [Arg::Address(input), Arg::Address(output)];
            let outcome = device.launch(kernel, [2, 1, 1], [256, 1, 1], 0, &args);
            let findings = device.findings.take();
            let shown = format!("{}{:?}", report(&findings), outcome.as_ref().err());
            assert!(shown.contains(words), "{kernel}: {shown}");
            match kind {
                Some(kind) => assert!(findings.iter().any(|f| f.kind == kind), "{kernel}: {shown}"),
                None => {
                    assert!(matches!(outcome, Err(Fault::LaunchFailure(_))), "{kernel}: {shown}")
                }
            }
        }
    }
}

#[test]
fn misuse_is_reported() {
    misused("short_count_bug", None, "waits");
    misused("long_count_bug", Some(Kind::BarrierMismatch), "2 arrivals at a phase that lacks 1");
    misused("no_init_bug", Some(Kind::BarrierMismatch), "no mbarrier was initialised there");
    misused("plain_store_bug", Some(Kind::BarrierMismatch), "only its own instructions may");
}
