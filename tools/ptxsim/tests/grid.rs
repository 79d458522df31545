//! Blocks that wait for each other: grid barriers, look-back, fix-up, locks; and launches that hang.

mod support;

use ptxsim::exec::{Counters, Fault, Level};
use support::{Arg, Device, Random};

/// Runs it on every architecture, in several orders, on one host thread and on two; nothing may be found.
fn everywhere(resident: u64, test: impl Fn(&Device)) {
    for architecture in ["80", "90", "120"] {
        let level = Level::available().pop().expect("a level");
        let mut device = Device::fixture(&format!("grid.{architecture}"), level);
        device.resident = resident;
        for seed in 0..6 {
            for threads in [1, 2] {
                (device.machine.seed, device.machine.threads) = (seed, threads);
                test(&device);
                device.clean();
            }
        }
    }
}

fn words(seed: u64, count: usize) -> Vec<u32> {
    let mut random = Random(seed);
    (0..count).map(|_| random.word()).collect()
}

const BLOCKS: usize = 24;
const WIDTH: usize = 64;
const ROUNDS: usize = 5;

/// Five rounds with a barrier after each, and the words that result.
fn rounds(device: &Device) -> (Result<Counters, Fault>, Vec<u32>) {
    let n = BLOCKS * WIDTH;
    let [a, b] = [words(1, n), vec![0; n]].map(|words| device.upload(&words));
    let args = [a, b, device.upload(&[0u32])].map(Arg::Address);
    let args: Vec<Arg> = args.into_iter().chain([Arg::Word(ROUNDS as u32)]).collect();
    let ran = device.launch("rounds", [BLOCKS as u32, 1, 1], [WIDTH as u32, 1, 1], 0, &args);
    (ran, device.download(if ROUNDS.is_multiple_of(2) { a } else { b }, n))
}

#[test]
fn a_barrier_of_the_grid() {
    let n = BLOCKS * WIDTH;
    let mut expected = words(1, n);
    for _ in 0..ROUNDS {
        let before = expected.clone();
        for i in 0..n {
            expected[i] = before[i].wrapping_add(before[(i + WIDTH + 1) % n].wrapping_mul(3));
        }
    }
    everywhere(BLOCKS as u64, |device| {
        let (ran, words) = rounds(device);
        ran.unwrap();
        assert!(words == expected, "seed {}", device.machine.seed);
    });
}

#[test]
fn barriers_without_checks() {
    let mut device = Device::fixture("grid.80", Level::Portable);
    device.resident = BLOCKS as u64;
    let (ran, expected) = rounds(&device);
    ran.unwrap();
    (device.machine.checks, device.machine.hang) = (false, 0);
    let (ran, words) = rounds(&device);
    ran.unwrap();
    assert!(words == expected);
}

fn look_back(device: &Device) {
    const TILES: usize = 40;
    let values = words(2, 128 * TILES);
    let out = device.allocate(4 * values.len());
    let args = [device.upload(&values), out, device.upload(&[0u64; TILES])].map(Arg::Address);
    device.launch("look_back", [TILES as u32, 1, 1], [128, 1, 1], 0, &args).unwrap();
    let sums = values.iter().scan(0u32, |sum, &value| {
        *sum = sum.wrapping_add(value);
        Some(*sum)
    });
    assert!(device.download::<u32>(out, values.len()) == sums.collect::<Vec<_>>());
}

#[test]
fn a_scan_by_look_back() {
    everywhere(40, look_back);
    // In order, each finds its predecessors done: as many as there are threads suffice.
    let mut device = Device::fixture("grid.80", Level::Portable);
    device.resident = 1;
    look_back(&device);
    device.clean();
}

#[test]
fn the_last_block_reduces() {
    let values = words(3, 30 * 64);
    let sum = values.iter().fold(0u32, |sum, &value| sum.wrapping_add(value));
    everywhere(7, |device| {
        let out = device.allocate(4);
        let args = [device.upload(&values), device.allocate(4 * 30), device.upload(&[0u32]), out];
        device.launch("last_block", [30, 1, 1], [64, 1, 1], 0, &args.map(Arg::Address)).unwrap();
        assert_eq!(device.download::<u32>(out, 1), [sum]);
    });
}

#[test]
fn the_first_block_of_a_tile_waits_for_the_others() {
    let (tiles, splits, width) = (5, 4, 96);
    let values = words(4, tiles * splits * width);
    let expected: Vec<u32> = (0..tiles * width)
        .map(|i| {
            let part = |split| values[split * tiles * width + i];
            (0..splits).fold(0, |sum: u32, split| sum.wrapping_add(part(split)))
        })
        .collect();
    // The tiles' first blocks alone would fill a device of five.
    everywhere(tiles as u64 + 1, |device| {
        let out = device.allocate(4 * tiles * width);
        let flags = device.upload(&vec![0u32; tiles * splits]);
        let args = [device.upload(&values), device.allocate(4 * values.len()), flags, out];
        let grid = [tiles as u32, splits as u32, 1];
        device.launch("fix_up", grid, [width as u32, 1, 1], 0, &args.map(Arg::Address)).unwrap();
        assert!(device.download::<u32>(out, expected.len()) == expected);
    });
}

#[test]
fn a_lock_of_all_blocks() {
    let (blocks, times) = (16, 7);
    everywhere(blocks, |device| {
        let [lock, count] = [(); 2].map(|()| device.upload(&[0u32]));
        let total = blocks as usize * times;
        let list = device.allocate(4 * total);
        let args = [lock, count, list].map(Arg::Address).into_iter();
        let args: Vec<Arg> = args.chain([Arg::Word(times as u32)]).collect();
        device.launch("locked", [blocks as u32, 1, 1], [32, 1, 1], 0, &args).unwrap();
        assert_eq!(device.download::<u32>(count, 1), [total as u32]);
        let mut list: Vec<u32> = device.download(list, total);
        list.sort_unstable();
        let expected = (0..total).map(|i| (i / times) as u32);
        assert!(list.into_iter().eq(expected));
    });
}

fn why(ran: Result<Counters, Fault>) -> String {
    match ran {
        Err(Fault::LaunchFailure(why)) => why,
        other => panic!("expected a launch failure, found {other:?}"),
    }
}

/// `grid.cu:N`, N being the line that has this text.
fn source(text: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernels/grid.cu");
    let lines = std::fs::read_to_string(path).unwrap();
    let line = lines.lines().position(|line| line.contains(text)).expect("the line");
    format!("grid.cu:{}", line + 1)
}

#[test]
fn a_flag_that_nobody_sets() {
    let mut device = Device::fixture("grid.80", Level::Portable);
    for threads in [1, 2] {
        for (writes, hang, did) in [
            (0, 1 << 16, "started, ended or changed global memory for 65536 instructions"),
            (1, 1 << 12, "started or ended for 262144 instructions"),
        ] {
            (device.machine.threads, device.machine.hang) = (threads, hang);
            let args = [Arg::Address(device.upload(&[0u32; 2])), Arg::Word(writes)];
            let why = why(device.launch("stranded", [3, 1, 1], [32, 1, 1], 0, &args));
            assert!(why.contains("no progress") && why.contains(did), "{why}");
            assert!(why.contains("in stranded at grid.cu:") && why.contains("PTX line"), "{why}");
            if writes == 0 {
                let line = source("while (*(volatile unsigned*)flag == 0)");
                assert!(why.contains(&line), "{line}: {why}");
            }
            device.clean();
        }
    }
}

/// A GPU would hang, too: the blocks that run wait for one that has no place.
#[test]
fn a_barrier_of_more_blocks_than_fit() {
    let mut device = Device::fixture("grid.80", Level::Portable);
    device.resident = BLOCKS as u64 - 1;
    for threads in [1, 2] {
        (device.machine.threads, device.machine.hang) = (threads, 1 << 20);
        let why = why(rounds(&device).0);
        assert!(why.contains("23 blocks are live, 1 of 24 have not started, 23 fit"), "{why}");
        assert!(why.contains(&source("0x80000000u) == 0")), "{why}");
    }
}
