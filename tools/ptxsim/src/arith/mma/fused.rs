//! Fused sums: aligned to the largest exponent, truncated, added exactly.

use super::operand::{INFINITE, NAN, Operand, ZERO_EXPONENT};
use super::{Accumulator, Rule};
use crate::arith::formats::{
    F16, F32, Format, Overflow, Rounding, Storage, canonical, narrow, narrow_double, widen,
};

/// Fraction bits of a term before truncation. With two bits before the point and sixteen terms of
/// one sign a sum of products stays within 32 bits.
const TERM_FRACTION: u32 = 25;

/// Fraction bits of the factors; every format has at most ten.
pub(super) const A_FRACTION: u32 = TERM_FRACTION - B_FRACTION;
pub(super) const B_FRACTION: u32 = 10;

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

#[inline(always)]
pub(super) fn mma<Acc: Accumulator, const M: usize, const N: usize, const K: usize>(
    rule: Rule,
    a: &Operand<M, K>,
    b: &Operand<K, N>,
    c: &[[Acc::Bits; N]; M],
) -> [[Acc::Bits; N]; M] {
    let zero = [Acc::Bits::default(); N];
    let mut d = *c;
    for m in 0..M {
        let mut row = if rule.interleaved { zero } else { c[m] };
        for start in (0..K).step_by(rule.group) {
            let span = start..start + rule.group;
            row = sum::<Acc, N>(
                rule,
                &a.significand[m][span.clone()],
                &a.exponent[m][span.clone()],
                &b.significand[span.clone()],
                &b.exponent[span],
                row,
            );
        }
        d[m] = row;
    }
    if a.any_special || b.any_special {
        specials::<Acc, M, N, K>(rule, a, b, c, &mut d);
    }
    if rule.interleaved {
        for m in 0..M {
            for n in 0..N {
                d[m][n] = Acc::add(c[m][n], d[m][n]);
            }
        }
    }
    d
}

/// One fused sum for each of `N` columns: a row of A against a group of rows of B.
#[inline(always)]
fn sum<Acc: Accumulator, const N: usize>(
    rule: Rule,
    a_significand: &[i32],
    a_exponent: &[i32],
    b_significand: &[[i32; N]],
    b_exponent: &[[i32; N]],
    c: [Acc::Bits; N],
) -> [Acc::Bits; N] {
    let mut c_term = [0i32; N];
    let mut c_exponent = [0i32; N];
    for n in 0..N {
        (c_term[n], c_exponent[n]) = addend::<Acc>(c[n]);
    }
    let mut largest = c_exponent;
    for (&ea, eb) in a_exponent.iter().zip(b_exponent) {
        keep_lanes_together();
        for n in 0..N {
            largest[n] = largest[n].max(ea + eb[n]);
        }
    }
    let dropped = (TERM_FRACTION - rule.fraction_bits) as i32;
    let mut reference = largest;
    for n in 0..N {
        reference[n] += dropped;
    }
    let mut products = [0i32; N];
    let factors = a_significand.iter().zip(a_exponent).zip(b_significand.iter().zip(b_exponent));
    for ((&sa, &ea), (sb, eb)) in factors {
        keep_lanes_together();
        for n in 0..N {
            products[n] += truncate(sa * sb[n], reference[n] - ea - eb[n]);
        }
    }
    let mut d = c;
    for n in 0..N {
        let addend = truncate(c_term[n], reference[n] - c_exponent[n]);
        let unit = largest[n] - rule.fraction_bits as i32;
        let sum = Acc::from_sum(exact(products[n], addend, unit), rule.short);
        let special = if Acc::is_infinite(c[n]) { c[n] } else { Acc::Bits::from_u32(Acc::NAN) };
        d[n] = if Acc::is_special(c[n]) { special } else { sum };
    }
    d
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

/// Placed in a loop over k, it makes the compiler turn the loop over columns inside into vectors. On
/// its own it prefers to vectorise over k, which takes four times as long. Costs no instruction.
#[inline(always)]
pub(super) fn keep_lanes_together() {
    std::hint::black_box(());
}

/// Divides by a power of two, towards zero.
#[inline(always)]
fn truncate(term: i32, shift: i32) -> i32 {
    let magnitude = (term.unsigned_abs() >> (shift as u32).min(31)) as i32;
    let sign = term >> 31;
    (magnitude ^ sign) - sign
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
                let span = start..start + rule.group;
                let significand: [[i32; 1]; K] = std::array::from_fn(|k| [b.significand[k][n]]);
                let exponent: [[i32; 1]; K] = std::array::from_fn(|k| [b.exponent[k][n]]);
                let products = span.clone().map(|k| {
                    ((a.significand[m][k], a.exponent[m][k]), (significand[k][0], exponent[k][0]))
                });
                value = special_sum::<Acc>(products, value).unwrap_or_else(|| {
                    sum::<Acc, 1>(
                        rule,
                        &a.significand[m][span.clone()],
                        &a.exponent[m][span.clone()],
                        &significand[span.clone()],
                        &exponent[span],
                        [value],
                    )[0]
                });
            }
            d[m][n] = value;
        }
    }
}

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
