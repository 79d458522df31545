//! Thread-instructions per second of whole kernels: `cargo bench -p ptxsim --bench kernels [NAME]`. One
//! thread and all checks unless said otherwise; the best of seven launches, which neighbours disturb
//! least, and the least processor time of one. A finding ends it: these kernels are right.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use ptxsim::arith::mma::TensorCore;
use ptxsim::exec::{Counters, Level};
use support::{Arg, Device, Random};

fn main() {
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let level = *Level::available().last().expect("portable is always there");
    println!("{level:?}");
    for mut case in [gemm(level), attention(level), layer_norm(level)] {
        if only.as_ref().is_some_and(|only| !case.name.starts_with(only.as_str())) {
            continue;
        }
        case.device.machine.tensor_core = TensorCore::F32;
        case.measure("f32 mma");
        case.device.machine.threads = 2;
        case.measure("f32 mma, two threads");
        case.device.machine.threads = 1;
        case.device.machine.checks = false;
        case.measure("f32 mma, no checks");
        case.device.machine.checks = true;
        case.device.machine.tensor_core = TensorCore::Ampere;
        case.measure("bit-exact mma");
    }
}

/// A kernel with its arguments, on a device of its own.
struct Case {
    name: &'static str,
    kernel: &'static str,
    device: Device,
    grid: [u32; 3],
    block: [u32; 3],
    args: Vec<Arg>,
}

impl Case {
    fn run(&self) -> Counters {
        let Case { kernel, grid, block, args, .. } = self;
        self.device.launch(kernel, *grid, *block, 0, args).expect("no fault")
    }

    fn measure(&self, how: &str) {
        let times = (0..7).map(|_| {
            let (start, busy) = (Instant::now(), processor_time());
            let counters = self.run();
            let busy = processor_time() - busy;
            (start.elapsed().as_secs_f64(), busy, counters.thread_instructions)
        });
        let times: Vec<_> = times.collect();
        self.device.clean();
        let (seconds, busy, instructions) =
            times.into_iter().fold((f64::MAX, f64::MAX, 0), |least, (seconds, busy, n)| {
                (least.0.min(seconds), least.1.min(busy), n)
            });
        println!(
            "{:40} {:8.1} ms {:8.1} ms of processors {:8.0} M thread-instructions/s",
            format!("{}, {how}", self.name),
            seconds * 1e3,
            busy * 1e3,
            instructions as f64 / seconds / 1e6
        );
    }
}

/// Seconds that all threads of this process ran.
fn processor_time() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place for the result.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn bf16(device: &Device, random: &mut Random, count: usize) -> Arg {
    let values: Vec<u16> = (0..count).map(|_| (random.float().to_bits() >> 16) as u16).collect();
    Arg::Address(device.upload(&values))
}

fn gemm(level: Level) -> Case {
    const SIZE: usize = 512;
    let device = Device::fixture("gemm.80", level);
    let random = &mut Random(1);
    let [a, b] = [(); 2].map(|()| bf16(&device, random, SIZE * SIZE));
    let c = Arg::Address(device.allocate(2 * SIZE * SIZE));
    let [m, n, k] = [SIZE as u32; 3].map(Arg::Word);
    let grid = [SIZE as u32 / 64, SIZE as u32 / 64, 1];
    let args = vec![a, b, c, m, n, k];
    Case { name: "GEMM 512", kernel: "gemm", device, grid, block: [128, 1, 1], args }
}

fn attention(level: Level) -> Case {
    const HEADS: usize = 4;
    const LENGTH: usize = 512;
    let device = Device::fixture("attention.80", level);
    let random = &mut Random(2);
    let [q, k, v] = [(); 3].map(|()| bf16(&device, random, HEADS * LENGTH * 64));
    let out = Arg::Address(device.allocate(2 * HEADS * LENGTH * 64));
    let lengths = [LENGTH as u32; 2].map(Arg::Word);
    let grid = [LENGTH as u32 / 64, HEADS as u32, 1];
    let args = [q, k, v, out].into_iter().chain(lengths).collect();
    Case { name: "attention 512", kernel: "attention", device, grid, block: [128, 1, 1], args }
}

fn layer_norm(level: Level) -> Case {
    const ROWS: usize = 512;
    const WIDTH: usize = 2048;
    let device = Device::fixture("norm.80", level);
    let random = &mut Random(3);
    let [x, y] = [(); 2].map(|()| bf16(&device, random, ROWS * WIDTH));
    let weight = bf16(&device, random, WIDTH);
    let out = Arg::Address(device.allocate(2 * ROWS * WIDTH));
    let args = vec![x, y, weight, out, Arg::Word(WIDTH as u32 / 2), Arg::Float(1e-5)];
    let grid = [ROWS as u32, 1, 1];
    Case { name: "LayerNorm", kernel: "add_layer_norm", device, grid, block: [256, 1, 1], args }
}
