//! Fused sums: aligned to the largest exponent, truncated, added exactly.

use super::aligned::{self, Sums, TERM_FRACTION, dropped_bits, truncate};
use super::operand::{INFINITE, NAN, Operand, ZERO_EXPONENT};
use super::{Accumulator, Rule};
use crate::arith::formats::{
    F16, F32, Format, Overflow, Rounding, Storage, canonical, narrow, narrow_double, widen,
};

impl Accumulator for F32 {
    #[inline(always)]
    fn from_sum(sum: f64, short: bool) -> u32 {
        let kept = if short { !0 << (52 - 13) } else { !0 };
        let sum = f64::from_bits(sum.to_bits() & kept);
        let nearest = sum as f32;
        // Step back to the truncation where the conversion went outwards. From 2^128 on a sum is
        // infinite, below it the largest finite number.
        let outwards = f64::from(nearest).abs() > sum.abs() && sum.abs() < 2.0 * 2f64.powi(127);
        let bits = nearest.to_bits() - u32::from(outwards);
        if bits << 1 == 0 { 0 } else { bits }
    }

    #[inline(always)]
    fn from_float(value: f32) -> u32 {
        canonical(value).to_bits()
    }

    #[inline(always)]
    fn add(a: u32, b: u32) -> u32 {
        canonical(f32::from_bits(a) + f32::from_bits(b)).to_bits()
    }
}

impl Accumulator for F16 {
    #[inline(always)]
    fn from_sum(sum: f64, _short: bool) -> u16 {
        let bits = narrow_double::<F16>(sum, Rounding::NearestEven, Overflow::Infinity);
        if bits << 1 == 0 { 0 } else { bits }
    }

    #[inline(always)]
    fn from_float(value: f32) -> u16 {
        narrow::<F16>(value, Rounding::NearestEven, Overflow::Infinity)
    }

    #[inline(always)]
    fn add(a: u16, b: u16) -> u16 {
        // The f32 sum has more than twice the digits of f16, so that rounding twice is harmless.
        F16::from_float(widen::<F16>(a) + widen::<F16>(b))
    }
}

pub(super) fn mma<Acc: Accumulator, const M: usize, const N: usize, const K: usize>(
    rule: Rule,
    a: &Operand<M, K>,
    b: &Operand<K, N>,
    c: &[[Acc::Bits; N]; M],
) -> [[Acc::Bits; N]; M] {
    let mut d = if rule.interleaved { [[Acc::Bits::default(); N]; M] } else { *c };
    tile::<Acc, M, N, K>(rule, a, b, &mut d);
    if a.any_special || b.any_special {
        specials::<Acc, M, N, K>(rule, a, b, c, &mut d);
    }
    if rule.interleaved {
        for (d, &c) in d.as_flattened_mut().iter_mut().zip(c.as_flattened()) {
            *d = Acc::add(c, *d);
        }
    }
    d
}

/// All fused sums of a tile, from C to D. Compiled here for each instruction set rather than inlined
/// into the caller: whether these loops are vectorised well depends on what surrounds them, and the
/// wrong way costs a factor of four.
#[inline(always)]
fn tile<Acc: Accumulator, const M: usize, const N: usize, const K: usize>(
    rule: Rule,
    a: &Operand<M, K>,
    b: &Operand<K, N>,
    d: &mut [[Acc::Bits; N]; M],
) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: the features are there.
            return unsafe { tile_avx512::<Acc, M, N, K>(rule, a, b, d) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: likewise.
            return unsafe { tile_avx2::<Acc, M, N, K>(rule, a, b, d) };
        }
    }
    tile_lanes::<Acc, M, N, K>(rule, a, b, d);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl")]
#[inline(never)]
fn tile_avx512<Acc: Accumulator, const M: usize, const N: usize, const K: usize>(
    rule: Rule,
    a: &Operand<M, K>,
    b: &Operand<K, N>,
    d: &mut [[Acc::Bits; N]; M],
) {
    tile_lanes::<Acc, M, N, K>(rule, a, b, d);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline(never)]
fn tile_avx2<Acc: Accumulator, const M: usize, const N: usize, const K: usize>(
    rule: Rule,
    a: &Operand<M, K>,
    b: &Operand<K, N>,
    d: &mut [[Acc::Bits; N]; M],
) {
    tile_lanes::<Acc, M, N, K>(rule, a, b, d);
}

#[inline(always)]
fn tile_lanes<Acc: Accumulator, const M: usize, const N: usize, const K: usize>(
    rule: Rule,
    a: &Operand<M, K>,
    b: &Operand<K, N>,
    d: &mut [[Acc::Bits; N]; M],
) {
    // Known groups would be unrolled and vectorised over k.
    let group = std::hint::black_box(rule.group);
    for start in (0..K).step_by(group) {
        let mut sums = Sums { products: [[0; N]; M], largest: [[0; N]; M] };
        // Loops over the whole tile, since the compiler would unroll one over a row and not
        // vectorise it.
        for (exponent, &c) in sums.largest.as_flattened_mut().iter_mut().zip(d.as_flattened()) {
            *exponent = addend::<Acc>(c).1;
        }
        aligned::sum(rule.fraction_bits, a, b, start..start + group, &mut sums);
        let terms = sums.products.as_flattened().iter().zip(sums.largest.as_flattened());
        for (d, (&products, &largest)) in d.as_flattened_mut().iter_mut().zip(terms) {
            *d = conclude::<Acc>(rule, products, largest, *d);
        }
    }
}

/// Adds C, which prevails if it is not finite, to the aligned products and converts the sum.
#[inline(always)]
fn conclude<Acc: Accumulator>(rule: Rule, products: i32, largest: i32, c: Acc::Bits) -> Acc::Bits {
    let (term, exponent) = addend::<Acc>(c);
    let addend = truncate(term, largest - exponent + dropped_bits(rule.fraction_bits));
    let sum = exact(products, addend, largest - rule.fraction_bits as i32);
    let special = if Acc::is_infinite(c) { c } else { Acc::Bits::from_u32(Acc::NAN) };
    if Acc::is_special(c) { special } else { Acc::from_sum(sum, rule.short) }
}

/// C as a term and its exponent.
#[inline(always)]
fn addend<Acc: Format>(bits: Acc::Bits) -> (i32, i32) {
    let bits = bits.to_u32();
    let magnitude = bits & (Acc::SIGN - 1);
    let field = magnitude >> Acc::MANTISSA_BITS;
    let hidden = u32::from(field != 0) << Acc::MANTISSA_BITS;
    let significand = (magnitude & ((1 << Acc::MANTISSA_BITS) - 1)) | hidden;
    let term = (significand << (TERM_FRACTION - Acc::MANTISSA_BITS)) as i32;
    let exponent = if magnitude == 0 { ZERO_EXPONENT } else { field.max(1) as i32 - Acc::BIAS };
    (if bits & Acc::SIGN != 0 { -term } else { term }, exponent)
}

/// `(products + addend) * 2^unit`, where the sum may need one bit more than 32.
#[inline(always)]
fn exact(products: i32, addend: i32, unit: i32) -> f64 {
    let sum = products.wrapping_add(addend);
    let sign = ((products & addend) | ((products | addend) & sum)) >> 31;
    let magnitude = (sum ^ sign).wrapping_sub(sign) as u32;
    // The mantissa of 2^52 + magnitude.
    let shifted = f64::from_bits((1075u64 << 52) | u64::from(magnitude));
    let scale = f64::from_bits((unit.wrapping_add(1023) as u64) << 52);
    let value = (shifted - 2f64.powi(52)) * scale;
    f64::from_bits(value.to_bits() | ((sign as u32 >> 31) as u64) << 63)
}

/// Recomputes what an infinity or a NaN among the operands touches.
#[cold]
fn specials<Acc: Accumulator, const M: usize, const N: usize, const K: usize>(
    rule: Rule,
    a: &Operand<M, K>,
    b: &Operand<K, N>,
    c: &[[Acc::Bits; N]; M],
    d: &mut [[Acc::Bits; N]; M],
) {
    for m in 0..M {
        let row = a.exponent[m].iter().any(|&e| e >= INFINITE);
        for n in 0..N {
            if !row && !(0..K).any(|k| b.exponent[k][n] >= INFINITE) {
                continue;
            }
            let mut value = if rule.interleaved { Acc::Bits::default() } else { c[m][n] };
            for start in (0..K).step_by(rule.group) {
                let products = (start..start + rule.group).map(|k| {
                    let a = (a.significand[m][k], a.exponent[m][k]);
                    (a, (b.significand[k][n], b.exponent[k][n]))
                });
                value = special_sum::<Acc>(products.clone(), value)
                    .unwrap_or_else(|| finite_sum::<Acc>(rule, products, value));
            }
            d[m][n] = value;
        }
    }
}

/// One fused sum of finite numbers.
fn finite_sum<Acc: Accumulator>(
    rule: Rule,
    products: impl Iterator<Item = (Number, Number)> + Clone,
    c: Acc::Bits,
) -> Acc::Bits {
    let exponent = addend::<Acc>(c).1;
    let largest = products.clone().fold(exponent, |largest, (a, b)| largest.max(a.1 + b.1));
    let reference = largest + dropped_bits(rule.fraction_bits);
    let sum = products.map(|(a, b)| truncate(a.0 * b.0, reference - a.1 - b.1)).sum();
    conclude::<Acc>(rule, sum, largest, c)
}

/// A significand and an exponent.
type Number = (i32, i32);

/// The sum if infinities or NaNs decide it.
fn special_sum<Acc: Accumulator>(
    products: impl Iterator<Item = (Number, Number)>,
    c: Acc::Bits,
) -> Option<Acc::Bits> {
    let sign = |negative| if negative { Acc::SIGN } else { 0 };
    let mut nan = Acc::is_special(c) && !Acc::is_infinite(c);
    let mut infinities = [false; 2];
    if Acc::is_infinite(c) {
        infinities[usize::from(c.to_u32() & Acc::SIGN != 0)] = true;
    }
    for ((sa, ea), (sb, eb)) in products {
        let infinite = ea == INFINITE || eb == INFINITE;
        nan |= ea == NAN || eb == NAN || (infinite && (sa == 0 || sb == 0));
        if infinite {
            infinities[usize::from((sa < 0) != (sb < 0))] = true;
        }
    }
    match (nan, infinities) {
        (true, _) | (_, [true, true]) => Some(Acc::Bits::from_u32(Acc::NAN)),
        (_, [false, false]) => None,
        (_, [_, negative]) => Some(Acc::Bits::from_u32(Acc::NON_FINITE | sign(negative))),
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::arith::formats::Bf16;
    use crate::arith::mma::{Instruction, TensorCore};

    /// A CPU runs the last set that it has; this runs all.
    #[test]
    fn every_instruction_set_sums_alike() {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            state ^ state >> 15
        };
        for _ in 0..200 {
            // Exponents within 2^-32 and 2^31, all mantissas and signs.
            let mut number = || (next() & 0x81ff | (0x3000 + (next() & 0x1e00))) as u16;
            let a = [[0; 16]; 16].map(|row: [u16; 16]| row.map(|_| number()));
            let b = [[0; 8]; 16].map(|row: [u16; 8]| row.map(|_| number()));
            let c = [[0; 8]; 16].map(|row: [u32; 8]| row.map(|_| u32::from(number()) << 16));
            let a = Operand::new::<Bf16>(aligned::A_FRACTION, &a);
            let b = Operand::new::<Bf16>(aligned::B_FRACTION, &b);
            for core in [TensorCore::Ampere, TensorCore::Hopper] {
                let rule = core.rule::<Bf16, Bf16>(Instruction::Mma, 16).expect("it has a rule");
                let mut portable = c;
                tile_lanes::<F32, 16, 8, 16>(rule, &a, &b, &mut portable);
                assert_ne!(portable, c);
                if is_x86_feature_detected!("avx2") {
                    let mut d = c;
                    // SAFETY: the feature is there.
                    unsafe { tile_avx2::<F32, 16, 8, 16>(rule, &a, &b, &mut d) };
                    assert_eq!(d, portable);
                }
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
                    let mut d = c;
                    // SAFETY: the features are there.
                    unsafe { tile_avx512::<F32, 16, 8, 16>(rule, &a, &b, &mut d) };
                    assert_eq!(d, portable);
                }
            }
        }
    }
}
