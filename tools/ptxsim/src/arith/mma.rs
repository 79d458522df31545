//! Tensor-core matrix products: D = A·B + C for `mma.sync`, and for `wgmma` a tile of eight columns
//! at a time.
//!
//! The rules of floating-point sums are those of MMA-Sim (Xie et al., arXiv 2511.10909), which were
//! found to agree with the hardware bit for bit. A *fused sum* aligns C and all exact products of a
//! group of k to the largest exponent among them, truncates each to a number of fraction bits, adds
//! them exactly and converts once: to f32 by truncation, to f16 to nearest. A product's exponent is
//! the sum of its factors', that of a subnormal the smallest of its format, that of zero -126.
//! Not from there: [`TensorCore::Hopper`] has no fp8 `mma.sync`; ptxas for sm_90 makes two f16 products
//! of it, each of every other pair of k and the first from zero, and adds C last.

mod aligned;
mod fused;
mod integer;
mod operand;
mod plain;

pub use integer::{Byte, S8, U8, mma_integer};
pub use plain::mma_double;

use super::formats::Format;
use operand::Operand;

/// How a tensor core sums products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorCore {
    /// A100: bf16/f16 k = 16 as two fused sums of 8, 24 fraction bits.
    Ampere,
    /// RTX 4090: as Ampere; fp8 with 13 fraction bits.
    Ada,
    /// H100: one sum of 16, 25 bits.
    Hopper,
    /// Plain f32 multiply-adds in order of k: fast, not bit-exact.
    F32,
}

/// Which instruction a product belongs to; only fp8 on Hopper tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instruction {
    /// `mma.sync`.
    Mma,
    /// `wgmma.mma_async`.
    Wgmma,
}

/// How one instruction's k products are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Bits after the point that are kept of each aligned term; at most 25.
    pub fraction_bits: u32,
    /// Products in a fused sum.
    pub group: usize,
    /// Whether an f32 result keeps only 13 fraction bits.
    pub short: bool,
    /// Whether each group takes every other pair of k and C is added last, in its own format.
    pub interleaved: bool,
}

impl TensorCore {
    /// The rule for k products of two formats; `F32` has none.
    #[inline(always)]
    pub fn rule<A: Format, B: Format>(self, instruction: Instruction, k: usize) -> Option<Rule> {
        let fp8 = size_of::<A::Bits>() == 1 && size_of::<B::Bits>() == 1;
        // Bytes of one step of Ampere's unit: 8 of 16 bits, 4 of tf32, 16 of fp8.
        let half = (16 / size_of::<A::Bits>()).min(k);
        let rule =
            |fraction_bits, group| Rule { fraction_bits, group, short: false, interleaved: false };
        match self {
            TensorCore::F32 => None,
            TensorCore::Ada if fp8 => Some(Rule { short: true, ..rule(13, half) }),
            TensorCore::Ampere | TensorCore::Ada => Some(rule(24, half)),
            TensorCore::Hopper if fp8 && instruction == Instruction::Wgmma => {
                Some(Rule { short: true, ..rule(13, k) })
            }
            TensorCore::Hopper if fp8 => Some(Rule { interleaved: true, ..rule(25, k / 2) }),
            TensorCore::Hopper => Some(rule(25, k)),
        }
    }
}

/// Formats of C and D.
pub trait Accumulator: Format {
    /// Converts an exact sum; `short` as in [`Rule`].
    fn from_sum(sum: f64, short: bool) -> Self::Bits;
    /// Rounds to nearest.
    fn from_float(value: f32) -> Self::Bits;
    /// Adds as the ordinary instruction does.
    fn add(a: Self::Bits, b: Self::Bits) -> Self::Bits;
}

/// D = A·B + C on floating-point operands, all row-major: `A` in {f16, bf16, tf32, e4m3, e5m2}, `B`
/// likewise, `Acc` f32 or f16.
#[inline(always)]
pub fn mma<A, B, Acc, const M: usize, const N: usize, const K: usize>(
    core: TensorCore,
    instruction: Instruction,
    a: &[[A::Bits; K]; M],
    b: &[[B::Bits; N]; K],
    c: &[[Acc::Bits; N]; M],
) -> [[Acc::Bits; N]; M]
where
    A: Format,
    B: Format,
    Acc: Accumulator,
{
    match core.rule::<A, B>(instruction, K) {
        None => plain::mma::<A, B, Acc, M, N, K>(a, b, c),
        Some(rule) => {
            let (a, b) = if rule.interleaved {
                let a = a.map(|row| std::array::from_fn(|k| row[interleave::<K>(k)]));
                (a, std::array::from_fn(|k| b[interleave::<K>(k)]))
            } else {
                (*a, *b)
            };
            let a = Operand::new::<A>(aligned::A_FRACTION, &a);
            let b = Operand::new::<B>(aligned::B_FRACTION, &b);
            fused::mma::<Acc, M, N, K>(rule, &a, &b, c)
        }
    }
}

/// The k that comes `position`th when pairs 0, 2, 4, ... go before pairs 1, 3, 5, ...
#[inline(always)]
fn interleave<const K: usize>(position: usize) -> usize {
    let (second, offset) = (position / (K / 2), position % (K / 2));
    offset / 2 * 4 + second * 2 + offset % 2
}
