//! The documented rule of tensor-core sums, evaluated exactly, and operands that try it.

use num_bigint::BigInt;
use ptxsim::arith::formats::Rounding;
use ptxsim::arith::mma::{Instruction, TensorCore};

use crate::exact::{Exact, Spec, Value};
use crate::random::Random;

/// The parameters of MMA-Sim's `nv_fused_dot_add`.
#[derive(Debug, Clone, Copy)]
struct Sum {
    fraction_bits: i32,
    /// Fraction bits of the result; `None` for f16, which rounds to nearest.
    truncated_to: Option<i32>,
}

/// A number as significand and exponent, the exponent that of the smallest normal number where it is
/// less, and -126 for zero.
fn exponent(spec: Spec, value: &Exact) -> i32 {
    if value.is_zero() { -126 } else { value.exponent().max(1 - spec.bias()) }
}

/// Towards zero, in units of 2^e.
fn truncated(value: &Exact, e: i32) -> Exact {
    let n = BigInt::from(value.in_units(e, Rounding::Zero));
    Exact::new(if value.is_negative() { -n } else { n }, e)
}

/// Format and code of both factors of a product.
pub type Factors = ((Spec, u64), (Spec, u64));

/// One fused sum.
fn fused(sum: Sum, factors: &[Factors], acc: Spec, c: u64) -> u64 {
    let nan = acc.sign() - 1;
    let mut infinities = Vec::new();
    let mut terms = Vec::new();
    match acc.value(c) {
        Value::Nan => return nan,
        Value::Infinity { negative } => infinities.push(negative),
        Value::Finite { value, .. } => terms.push((exponent(acc, &value), value)),
    }
    for &((a_spec, a), (b_spec, b)) in factors {
        let sign = (a & a_spec.sign() != 0) != (b & b_spec.sign() != 0);
        match (a_spec.value(a), b_spec.value(b)) {
            (Value::Nan, _) | (_, Value::Nan) => return nan,
            (Value::Infinity { .. }, Value::Finite { value, .. })
            | (Value::Finite { value, .. }, Value::Infinity { .. })
                if value.is_zero() =>
            {
                return nan;
            }
            (Value::Finite { value: a, .. }, Value::Finite { value: b, .. }) => {
                terms.push((exponent(a_spec, &a) + exponent(b_spec, &b), a.times(&b)));
            }
            _ => infinities.push(sign),
        }
    }
    if let Some(&first) = infinities.first() {
        let all = infinities.iter().all(|&negative| negative == first);
        let sign = if first { acc.sign() } else { 0 };
        return if all { sign | acc.limit() } else { nan };
    }
    let largest = terms.iter().map(|term| term.0).max().expect("C is a term");
    let zero = Exact::new(0, 0);
    let total = terms
        .iter()
        .fold(zero, |total, (_, term)| total.plus(&truncated(term, largest - sum.fraction_bits)));
    let (total, mode) = match sum.truncated_to {
        None => (total, Rounding::NearestEven),
        Some(_) if total.is_zero() => (total, Rounding::Zero),
        Some(bits) => {
            let unit = total.exponent().max(1 - acc.bias()) - bits;
            (truncated(&total, unit), Rounding::Zero)
        }
    };
    let rounded = acc.round(&total, false, mode);
    match rounded {
        rounded if rounded.overflow => {
            acc.limit() | if total.is_negative() { acc.sign() } else { 0 }
        }
        rounded if rounded.bits == acc.sign() => 0,
        rounded => rounded.bits,
    }
}

/// D by the table of MMA-Sim, one element.
pub fn element(
    core: TensorCore,
    instruction: Instruction,
    factors: &[Factors],
    acc: Spec,
    c: u64,
) -> u64 {
    let k = factors.len();
    let width = |spec: Spec| spec.exponent_bits + spec.mantissa_bits + 1;
    let fp8 = width(factors[0].0.0) == 8;
    let wide = if acc.mantissa_bits == 23 { Some(23) } else { None };
    let short = wide.map(|_| 13);
    let exact = |fraction_bits| Sum { fraction_bits, truncated_to: wide };
    let few = Sum { fraction_bits: 13, truncated_to: short };
    let (sum, groups) = match (core, fp8) {
        (TensorCore::Ada, true) => (few, if k == 32 { 2 } else { 1 }),
        (TensorCore::Ampere | TensorCore::Ada, _) => {
            let split = k == if width(factors[0].0.0) == 16 { 16 } else { 8 };
            (exact(24), if split { 2 } else { 1 })
        }
        (TensorCore::Hopper, true) if instruction == Instruction::Wgmma => (few, 1),
        (TensorCore::Hopper, true) => {
            // Two f16 products of the bytes 0 and 1, then 2 and 3 of each register; then the sum.
            let pick = |high| {
                let chosen = factors.iter().enumerate().filter(move |(k, _)| (k % 4 > 1) == high);
                chosen.map(|(_, &factor)| factor).collect::<Vec<_>>()
            };
            let low = fused(exact(25), &pick(false), acc, 0);
            let both = fused(exact(25), &pick(true), acc, low);
            return plain_sum(acc, c, both);
        }
        (TensorCore::Hopper, _) => (exact(25), 1),
        (TensorCore::F32, _) => unreachable!("it has no fused sums"),
    };
    factors.chunks(k / groups).fold(c, |c, group| fused(sum, group, acc, c))
}

/// IEEE addition to nearest.
fn plain_sum(spec: Spec, a: u64, b: u64) -> u64 {
    match (spec.value(a), spec.value(b)) {
        (Value::Nan, _) | (_, Value::Nan) => spec.sign() - 1,
        (Value::Infinity { negative: a }, Value::Infinity { negative: b }) if a != b => {
            spec.sign() - 1
        }
        (Value::Infinity { .. }, _) => a,
        (_, Value::Infinity { .. }) => b,
        (Value::Finite { negative: m, value: x }, Value::Finite { negative: n, value: y }) => {
            spec.round_ieee(&x.plus(&y), m && n, Rounding::NearestEven)
        }
    }
}

/// How the elements of a tile are drawn.
#[derive(Debug, Clone, Copy)]
pub enum Draw {
    /// Exponents near zero, as in use.
    Usual,
    /// Close exponents, large mantissas and few signs: long carries.
    Full,
    /// All finite codes.
    Finite,
    /// Any code, so that infinities and NaNs abound.
    Any,
    /// Mostly usual, with few others.
    Rare,
}

pub const DRAWS: [Draw; 5] = [Draw::Usual, Draw::Full, Draw::Finite, Draw::Any, Draw::Rare];

pub fn draw(random: &mut Random, spec: Spec, draw: Draw) -> u64 {
    match draw {
        Draw::Usual => random.near_one(spec, 6),
        Draw::Full => {
            let code = random.near_one(spec, 1) | ((1 << spec.mantissa_bits) - 1);
            if random.below(8) == 0 { code } else { code & !spec.sign() }
        }
        Draw::Finite => {
            let code = random.code(spec);
            if code & (spec.sign() - 1) < spec.limit() { code } else { 1 }
        }
        Draw::Any => random.code(spec),
        Draw::Rare if random.below(40) == 0 => random.code(spec),
        Draw::Rare => random.near_one(spec, 9),
    }
}
