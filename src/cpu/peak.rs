//! How fast this processor can be at most: what measured rates are held against.

use std::hint::black_box;
use std::time::Instant;

use super::Cpu;
use super::simd::{Kernel, LANES, Lanes};
use crate::tensor::DType;

/// Sums that are under way at once: more than latency times rate of any core, and few enough for registers.
const SUMS: usize = 12;
const ROUNDS: usize = 100_000;
const REPEATS: usize = 30;

/// Multiplies and adds, and touches no memory.
#[derive(Clone, Copy)]
struct Products {
    of: DType,
}

impl Kernel for Products {
    /// Operations done, and a number that needs them all.
    type Output = (usize, f32);

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> (usize, f32) {
        let (a, b) = (lanes.splat(black_box(1.0)), lanes.splat(black_box(1e-3)));
        let mut sums = [lanes.splat(0.0); SUMS];
        let products = match self.of {
            DType::I8 => 4,
            DType::BF16 if L::PAIRS => 2,
            _ => 1,
        };
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = match products {
                    4 => lanes.dot_quads(a, b, *sum),
                    2 => lanes.dot_pairs(a, b, *sum),
                    _ => lanes.mul_add(a, b, *sum),
                };
            }
        }
        let total = sums.into_iter().reduce(|x, y| lanes.add(x, y)).expect("some sums");
        (2 * products * LANES * SUMS * ROUNDS, lanes.sum(total))
    }
}

impl Cpu {
    /// Operations a second of products of `dtype` (f32, bf16 or int8), operands in registers, on all threads. A level
    /// without products of pairs has one rate for f32 and bf16.
    pub fn peak(&self, dtype: DType) -> f64 {
        let kernel = Products { of: dtype };
        let tasks = 8 * self.threads();
        let work = || {
            self.parallel(tasks, |_| {
                black_box(self.level.run(kernel));
            })
        };
        let (operations, _) = self.level.run(kernel);
        (tasks * operations) as f64 / best(work)
    }

    /// Bytes a second that are read or written in a copy of 128 MiB on all threads.
    pub fn copy_rate(&self) -> f64 {
        const BYTES: usize = 128 << 20;
        let (from, mut to) = (vec![1u8; BYTES], vec![0u8; BYTES]);
        let part = BYTES.div_ceil(self.threads());
        let work = || {
            std::thread::scope(|scope| {
                for (from, to) in from.chunks(part).zip(to.chunks_mut(part)) {
                    scope.spawn(|| to.copy_from_slice(from));
                }
            });
            black_box(&mut to);
        };
        2.0 * BYTES as f64 / best(work)
    }
}

/// Seconds of the shortest of some runs, after one that does not count.
fn best(mut work: impl FnMut()) -> f64 {
    work();
    let time = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..REPEATS).map(time).fold(f64::INFINITY, f64::min)
}
