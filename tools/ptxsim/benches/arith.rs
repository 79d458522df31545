//! Rates of the arithmetic on one core, by instruction set.

#![allow(clippy::needless_range_loop, reason = "lanes read best as indices")]

use std::hint::black_box;
use std::time::Instant;

use ptxsim::arith::formats::{
    Bf16, E4m3, F16, F32, Format, Overflow, Rounding, Tf32, narrow, narrow_double,
};
use ptxsim::arith::fragments::{pack_d, unpack_a, unpack_b, unpack_c};
use ptxsim::arith::mma::{Accumulator, Instruction, S8, TensorCore, mma, mma_integer};
use ptxsim::arith::{approx, float};

#[path = "../tests/arith/sets.rs"]
mod sets;
use sets::{Set, Work, on, sets};

type Matrix<T, const R: usize, const C: usize> = [[T; C]; R];

/// A small generator of numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    /// Values in [-1, 1).
    fn matrix<F: Format, const R: usize, const C: usize>(&mut self) -> Matrix<F::Bits, R, C> {
        let mut matrix = [[F::Bits::default(); C]; R];
        for element in matrix.as_flattened_mut() {
            let value = self.next() as i32 as f32 * (-31f32).exp2();
            *element =
                narrow_double::<F>(f64::from(value), Rounding::NearestEven, Overflow::Infinity);
        }
        matrix
    }
}

/// Repeats work.
struct Many<W>(W);

/// Few, so that the best of many runs is one that nothing interrupted.
const REPEATS: usize = 100;

impl<W: Work> Work for Many<W> {
    type Output = ();
    #[inline(always)]
    fn run(&self) {
        for _ in 0..REPEATS {
            black_box(self.0.run());
        }
    }
}

/// Best of some runs of `work`, each of `count` operations; arguments select by a part of the name.
fn rate<W: Work>(set: Set, name: &str, count: usize, work: W) {
    let name = format!("{set:?} {name}");
    let mut filters = std::env::args().skip(1).filter(|a| !a.starts_with('-')).peekable();
    if filters.peek().is_some() && !filters.any(|filter| name.contains(&filter)) {
        return;
    }
    let work = Many(work);
    let mut best = f64::MAX;
    for _ in 0..1000 {
        let start = Instant::now();
        on(set, &work);
        best = best.min(start.elapsed().as_secs_f64() / REPEATS as f64);
    }
    println!("{name:<44} {:8.2} G/s", count as f64 / best / 1e9);
}

struct Product<F: Format, Acc: Format, const K: usize> {
    core: TensorCore,
    a: Matrix<F::Bits, 16, K>,
    b: Matrix<F::Bits, K, 8>,
    c: Matrix<Acc::Bits, 16, 8>,
}

impl<F: Format, Acc: Accumulator, const K: usize> Work for Product<F, Acc, K> {
    type Output = Matrix<Acc::Bits, 16, 8>;
    #[inline(always)]
    fn run(&self) -> Self::Output {
        let (a, b, c) = black_box((&self.a, &self.b, &self.c));
        mma::<F, F, Acc, 16, 8, K>(self.core, Instruction::Mma, a, b, c)
    }
}

fn product<F, Acc, const K: usize>(set: Set, name: &str, core: TensorCore)
where
    F: Format,
    Acc: Accumulator,
{
    let mut random = Random(1);
    let (a, b, c) =
        (random.matrix::<F, 16, K>(), random.matrix::<F, K, 8>(), random.matrix::<Acc, 16, 8>());
    let name = format!("{name} {core:?} (mac)");
    rate(set, &name, 16 * 8 * K, Product::<F, Acc, K> { core, a, b, c });
}

/// A whole instruction on registers: bf16 m16n8k16.
struct Registers {
    core: TensorCore,
    a: Matrix<u32, 4, 32>,
    b: Matrix<u32, 2, 32>,
    c: Matrix<u32, 4, 32>,
}

impl Work for Registers {
    type Output = Matrix<u32, 4, 32>;
    #[inline(always)]
    fn run(&self) -> Self::Output {
        let (a, b, c) = black_box((&self.a, &self.b, &self.c));
        let (a, b) = (unpack_a::<u16, 4, 16, 16>(a), unpack_b::<u16, 2, 16>(b));
        let c = unpack_c::<u32, 4, 16>(c);
        let d = mma::<Bf16, Bf16, F32, 16, 8, 16>(self.core, Instruction::Mma, &a, &b, &c);
        pack_d::<u32, 4, 16>(&d)
    }
}

const FUNCTIONS: [&str; 10] =
    ["ex2", "lg2", "tanh", "rsqrt", "rcp", "sqrt", "sin", "cvt bf16", "cvt f16", "fma.rz"];

/// One of `FUNCTIONS` on the lanes of a warp.
struct Lanes<const FUNCTION: usize>([f32; 32]);

impl<const FUNCTION: usize> Work for Lanes<FUNCTION> {
    type Output = [u32; 32];
    #[inline(always)]
    fn run(&self) -> Self::Output {
        let x = black_box(&self.0);
        let mut results = [0; 32];
        for lane in 0..32 {
            let x = x[lane];
            let (rounding, overflow) = (Rounding::NearestEven, Overflow::Infinity);
            results[lane] = match FUNCTION {
                0 => approx::ex2(x).to_bits(),
                1 => approx::lg2(x).to_bits(),
                2 => approx::tanh(x).to_bits(),
                3 => approx::rsqrt(x).to_bits(),
                4 => approx::rcp(x).to_bits(),
                5 => approx::sqrt(x).to_bits(),
                6 => approx::sin(x).to_bits(),
                7 => narrow::<Bf16>(x, rounding, overflow).into(),
                8 => narrow::<F16>(x, rounding, overflow).into(),
                _ => float::fused_multiply_add(x, x, x, Rounding::Zero).to_bits(),
            };
        }
        results
    }
}

fn function<const FUNCTION: usize>(set: Set) {
    let lanes = std::array::from_fn(|lane| 0.1 + lane as f32);
    rate(set, FUNCTIONS[FUNCTION], 32, Lanes::<FUNCTION>(lanes));
}

struct Bytes {
    a: Matrix<u8, 16, 32>,
    b: Matrix<u8, 32, 8>,
    c: Matrix<i32, 16, 8>,
}

impl Work for Bytes {
    type Output = Matrix<i32, 16, 8>;
    #[inline(always)]
    fn run(&self) -> Self::Output {
        let (a, b, c) = black_box((&self.a, &self.b, &self.c));
        mma_integer::<S8, S8, 16, 8, 32>(false, a, b, c)
    }
}

fn main() {
    for set in sets() {
        function::<0>(set);
        function::<1>(set);
        function::<2>(set);
        function::<3>(set);
        function::<4>(set);
        function::<5>(set);
        function::<6>(set);
        function::<7>(set);
        function::<8>(set);
        function::<9>(set);
        for core in [TensorCore::F32, TensorCore::Ampere, TensorCore::Hopper] {
            let registers = Registers {
                core,
                a: [[0x3f80_3f80; 32]; 4],
                b: [[0x3f80_3f80; 32]; 2],
                c: [[0; 32]; 4],
            };
            rate(set, &format!("bf16 registers {core:?} (mac)"), 16 * 8 * 16, registers);
            product::<Bf16, F32, 16>(set, "bf16 m16n8k16 f32", core);
        }
        product::<F16, F32, 16>(set, "f16 m16n8k16 f32", TensorCore::Ampere);
        product::<F16, F16, 16>(set, "f16 m16n8k16 f16", TensorCore::Ampere);
        product::<Tf32, F32, 8>(set, "tf32 m16n8k8", TensorCore::Ampere);
        product::<E4m3, F32, 32>(set, "e4m3 m16n8k32", TensorCore::Ada);
        let bytes = Bytes { a: [[77; 32]; 16], b: [[200; 8]; 32], c: [[0; 8]; 16] };
        rate(set, "s8 m16n8k32 (mac)", 16 * 8 * 32, bytes);
    }
}
