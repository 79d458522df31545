//! Thread-instructions per second of whole kernels: `cargo bench -p ptxsim --bench kernels`. One
//! thread unless said otherwise; all checks on unless said otherwise; the median of five launches.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use ptxsim::arith::mma::TensorCore;
use ptxsim::exec::{Counters, Level};
use support::{Arg, Device, Random};

fn main() {
    let level = *Level::available().last().expect("portable is always there");
    println!("{level:?}");
    let mut gemm = Gemm::new(level);
    gemm.device.machine.tensor_core = TensorCore::F32;
    measure("GEMM 512, f32 mma", || gemm.run());
    gemm.device.machine.checks = false;
    measure("GEMM 512, f32 mma, no checks", || gemm.run());
    gemm.device.machine.checks = true;
    gemm.device.machine.tensor_core = TensorCore::Ampere;
    measure("GEMM 512, bit-exact mma", || gemm.run());
    gemm.device.machine.tensor_core = TensorCore::F32;
    gemm.device.machine.threads = 2;
    measure("GEMM 512, f32 mma, two threads", || gemm.run());
}

fn measure(name: &str, mut run: impl FnMut() -> Counters) {
    let mut times: Vec<(f64, u64)> = (0..5)
        .map(|_| {
            let start = Instant::now();
            let counters = run();
            (start.elapsed().as_secs_f64(), counters.thread_instructions)
        })
        .collect();
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (seconds, instructions) = times[2];
    println!(
        "{name:40} {:8.1} ms {:8.0} M thread-instructions/s",
        seconds * 1e3,
        instructions as f64 / seconds / 1e6
    );
}

struct Gemm {
    device: Device,
    args: [u64; 3],
}

impl Gemm {
    const SIZE: usize = 512;

    fn new(level: Level) -> Self {
        let device = Device::fixture("gemm.80", level);
        let mut random = Random(1);
        let mut matrix = || -> Vec<u16> {
            (0..Self::SIZE * Self::SIZE).map(|_| (random.float().to_bits() >> 16) as u16).collect()
        };
        let args = [
            device.upload(&matrix()),
            device.upload(&matrix()),
            device.allocate(2 * Self::SIZE * Self::SIZE),
        ];
        Gemm { device, args }
    }

    fn run(&self) -> Counters {
        let [a, b, c] = self.args.map(Arg::Address);
        let [m, n, k] = [Self::SIZE as u32; 3].map(Arg::Word);
        let grid = [Self::SIZE as u32 / 64, Self::SIZE as u32 / 64, 1];
        self.device.launch("gemm", grid, [128, 1, 1], 0, &[a, b, c, m, n, k]).expect("no fault")
    }
}
