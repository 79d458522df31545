//! Right kernels under fifty schedules, on one thread and on two: no finding, and the same bytes.

mod support;

use ptxsim::exec::Level;
use ptxsim::memory::Home;
use support::{Arg, Device, Random};

const SEEDS: u64 = 50;

/// A launch: fixture, kernel, blocks, threads, bytes of dynamic shared memory; and its arguments.
type Case = (
    &'static str,
    &'static str,
    [u32; 2],
    u32,
    u32,
    for<'a, 'b> fn(&'a mut Buffers<'b>) -> &'a mut Buffers<'b>,
);

const CASES: [Case; 34] = [
    ("vector", "add", [4, 1], 128, 0, |b| b.floats(500).floats(500).out(2000).words([500])),
    ("vector", "scale_add", [3, 1], 64, 0, |b| b.floats(800).floats(800).float(1.5).words([200])),
    // Whole numbers: their sum is the same in any order.
    ("vector", "sum", [4, 1], 256, 1024, |b| b.wholes(1000).wholes(1).words([1000])),
    ("gemm", "gemm", [2, 2], 128, 0, |b| {
        b.halves(100 * 160).halves(72 * 160).out(2 * 100 * 72).words([100, 72, 160])
    }),
    ("attention", "attention", [2, 2], 128, 0, |b| {
        b.halves(2 * 70 * 64).halves(2 * 100 * 64).halves(2 * 100 * 64);
        b.out(2 * 2 * 70 * 64).words([70, 100])
    }),
    ("norm", "add_layer_norm", [3, 1], 256, 0, |b| {
        b.halves(1800).halves(1800).halves(600).out(3600).words([300]).float(1e-5)
    }),
    ("sample", "sample", [3, 1], 256, 0, |b| {
        b.floats(3000).out(12).out(12).words([1000, 40]).float(0.7).words([1])
    }),
    ("branches", "sorted", [1, 1], 40, 0, |b| b.small(640).out(2560)),
    ("branches", "diverge", [1, 1], 64, 0, |b| b.small(64).small(364).words([300])),
    ("branches", "indexed", [1, 1], 32, 0, |b| b.small(32).out(128)),
    ("integer", "bits", [4, 1], 32, 0, |b| b.bits(100).bits(100).out(6400).words([100])),
    ("integer", "wide", [2, 1], 64, 0, |b| b.bits(200).bits(200).out(6400).words([100])),
    ("integer", "warp", [1, 1], 64, 0, |b| b.small(64).out(64 * 48)),
    ("formats", "halves", [1, 1], 64, 0, |b| b.floats(128).out(256).out(256).out(64 * 64)),
    ("formats", "integer_mma", [1, 1], 32, 0, |b| b.bits(128).bits(64).out(512)),
    ("formats", "half_mma", [1, 1], 32, 0, |b| b.small(128).small(64).out(512).out(256)),
    ("barriers", "divergent_fixed", [1, 1], 256, 0, |b| b.small(256).out(1024)),
    ("barriers", "inactive_fixed", [1, 1], 256, 0, |b| b.small(256).out(1024)),
    ("barriers", "absent_fixed", [1, 1], 256, 0, |b| b.small(256).out(1024)),
    ("memory", "shared_fixed", [2, 1], 256, 0, |b| b.small(512).out(256).words([512])),
    ("memory", "local_fixed", [2, 1], 256, 0, |b| b.small(512).out(2048).words([512])),
    ("memory", "reversed", [2, 1], 256, 1024, |b| b.small(512).out(2048).words([512])),
    ("races", "lockstep_fixed", [2, 1], 256, 0, |b| b.small(256).out(2048)),
    ("races", "neighbour_fixed", [2, 1], 256, 0, |b| b.small(256).out(2048)),
    ("races", "write_read_fixed", [2, 1], 256, 0, |b| b.small(256).out(2048)),
    ("races", "reuse_fixed", [2, 1], 256, 0, |b| b.small(768).out(2048)),
    ("races", "plain_add_fixed", [9, 1], 32, 0, |b| b.small(9).small(1)),
    ("async", "lax_wait_fixed", [2, 1], 128, 0, |b| b.small(2048).out(1024)),
    ("async", "swizzle_fixed", [2, 1], 128, 0, |b| b.small(512).out(1024)),
    ("mbarrier", "producer_consumer", [2, 1], 128, 0, |b| b.small(320).out(768).words([5])),
    ("mbarrier", "copies", [2, 1], 128, 0, |b| b.small(1536).out(1024).words([3])),
    ("mbarrier", "leavers", [2, 1], 128, 0, |b| b.small(512).out(1024)),
    ("waits", "one_test_fixed", [2, 1], 256, 0, |b| b.small(256).out(2048)),
    ("waits", "plain_arrival_fixed", [2, 1], 256, 0, |b| b.small(1024).out(2048)),
];

/// Arguments on the device, and the buffers behind them.
struct Buffers<'a> {
    device: &'a Device,
    random: Random,
    args: Vec<Arg>,
    held: Vec<(u64, usize)>,
}

impl Buffers<'_> {
    fn filled<T: Copy>(&mut self, count: usize, value: impl Fn(&mut Random) -> T) -> &mut Self {
        let values: Vec<T> = (0..count).map(|_| value(&mut self.random)).collect();
        self.hold(self.device.upload(&values), size_of_val(&values[..]))
    }

    fn floats(&mut self, count: usize) -> &mut Self {
        self.filled(count, Random::float)
    }

    fn wholes(&mut self, count: usize) -> &mut Self {
        self.filled(count, |r| (r.word() % 17) as f32)
    }

    fn halves(&mut self, count: usize) -> &mut Self {
        self.filled(count, |r| (r.float().to_bits() >> 16) as u16)
    }

    fn small(&mut self, count: usize) -> &mut Self {
        self.filled(count, |r| r.word() % 100)
    }

    fn bits(&mut self, count: usize) -> &mut Self {
        self.filled(count, Random::word)
    }

    /// Bytes that nothing has written.
    fn out(&mut self, bytes: usize) -> &mut Self {
        self.hold(self.device.allocate(bytes), bytes)
    }

    fn hold(&mut self, address: u64, bytes: usize) -> &mut Self {
        self.args.push(Arg::Address(address));
        self.held.push((address, bytes));
        self
    }

    fn words<const COUNT: usize>(&mut self, values: [u32; COUNT]) -> &mut Self {
        self.args.extend(values.map(Arg::Word));
        self
    }

    fn float(&mut self, value: f32) -> &mut Self {
        self.args.push(Arg::Float(value));
        self
    }
}

#[test]
fn fifty_schedules_make_no_difference() {
    for case in &CASES {
        for text in texts(case.0) {
            let mut device = Device::new(&text, Level::available().pop().expect("a level"));
            let expected = run(&mut device, case, 0, 1);
            for seed in 1..=SEEDS {
                for threads in [1, 2] {
                    let got = run(&mut device, case, seed, threads);
                    assert!(got == expected, "{}: seed {seed}, {threads} threads", case.1);
                }
            }
        }
    }
}

/// The PTX of a fixture, or of the mended twins of planted bugs.
fn texts(fixture: &str) -> Vec<String> {
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    let paths = ["ptx/{}.80.ptx", "ptx/{}.120.ptx", "bugs/{}.ptx"]
        .map(|path| format!("{tests}/{}", path.replace("{}", fixture)));
    let found: Vec<_> = paths.iter().filter_map(|p| std::fs::read_to_string(p).ok()).collect();
    assert!(!found.is_empty(), "{fixture}");
    found
}

/// The bytes of all buffers afterwards.
fn run(device: &mut Device, case: &Case, seed: u64, threads: usize) -> Vec<Vec<u8>> {
    let (_, kernel, [x, y], block, shared, prepare) = *case;
    (device.machine.seed, device.machine.threads) = (seed, threads);
    let mut buffers = Buffers { device, random: Random(7), args: Vec::new(), held: Vec::new() };
    prepare(&mut buffers);
    let Buffers { args, held, .. } = buffers;
    device.launch(kernel, [x, y, 1], [block, 1, 1], shared, &args).unwrap();
    let findings = device.findings.take();
    let shown = support::report(&findings);
    assert!(findings.is_empty(), "{kernel}: seed {seed}, {threads} threads: {shown}");
    let bytes = held.iter().map(|&(address, bytes)| device.download(address, bytes)).collect();
    for (address, _) in held {
        device.memory.free(Home::Device, address, "test").unwrap();
    }
    bytes
}
