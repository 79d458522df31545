//! Sums, products, quotients and roots rounded once, in any direction and to any format.
//!
//! PTX ISA, "Floating Point Instructions" (add, sub, mul, fma, mad, div, rcp, sqrt) and "Half
//! Precision Floating Point Instructions". f32 operands fit f64 twice over, so an exact or
//! *round-to-odd* f64 result, rounded again, is as if rounded once: the odd last bit tells that
//! something follows, and f64 has more than two bits more than every target (Boldo and Melquiond,
//! "Emulation of FMA and correctly rounded sums", 2008).
//!
//! `.ftz` and `.sat` are [`flush`](super::formats::flush) of operands and result, and
//! [`saturate`](super::formats::saturate). For f16 and bf16, widen the operands.

use super::formats::{F32, Format, Overflow, Rounding, canonical, narrow_double};

/// a + b as an f32.
#[inline(always)]
pub fn add(a: f32, b: f32, rounding: Rounding) -> f32 {
    if rounding == Rounding::NearestEven {
        return canonical(a + b);
    }
    f32::from_bits(add_to::<F32>(a, b, rounding))
}

/// a * b as an f32.
#[inline(always)]
pub fn multiply(a: f32, b: f32, rounding: Rounding) -> f32 {
    if rounding == Rounding::NearestEven {
        return canonical(a * b);
    }
    f32::from_bits(multiply_to::<F32>(a, b, rounding))
}

/// a * b + c as an f32.
#[inline(always)]
pub fn fused_multiply_add(a: f32, b: f32, c: f32, rounding: Rounding) -> f32 {
    if rounding == Rounding::NearestEven {
        return canonical(a.mul_add(b, c));
    }
    f32::from_bits(fused_multiply_add_to::<F32>(a, b, c, rounding))
}

/// a / b as an f32; `rcp` is 1 / b.
#[inline(always)]
pub fn divide(a: f32, b: f32, rounding: Rounding) -> f32 {
    if rounding == Rounding::NearestEven {
        return canonical(a / b);
    }
    let (a, b) = (f64::from(a), f64::from(b));
    let quotient = a / b;
    // 29 bits of the quotient times 24 of b are exact, and so is the difference, being small.
    let head = f64::from_bits(quotient.to_bits() & (!0 << 24));
    let rest = a - head * b;
    let grows = (rest > 0.0) == (a > 0.0);
    round_sticky(quotient, head, rest, grows, rounding)
}

/// The square root as an f32.
#[inline(always)]
pub fn square_root(a: f32, rounding: Rounding) -> f32 {
    if rounding == Rounding::NearestEven {
        return canonical(a.sqrt());
    }
    let a = f64::from(a);
    let root = a.sqrt();
    let head = f64::from_bits(root.to_bits() & (!0 << 27));
    let rest = a - head * head;
    round_sticky(root, head, rest, rest > 0.0, rounding)
}

/// Rounds `value`, known as `head` and the sign of what is left of it: the magnitude `grows` or
/// shrinks. Zeros, infinities and NaNs are exact.
#[inline(always)]
fn round_sticky(value: f64, head: f64, rest: f64, grows: bool, rounding: Rounding) -> f32 {
    let bits = head.to_bits();
    let sticky = f64::from_bits(if grows { bits | 1 } else { bits.wrapping_sub(1) });
    let inexact = value.is_finite() && value != 0.0 && rest != 0.0;
    let odd = if inexact { sticky } else { value };
    f32::from_bits(narrow_double::<F32>(odd, rounding, Overflow::Infinity))
}

/// a + b, rounded once to `F`.
#[inline(always)]
pub fn add_to<F: Format>(a: f32, b: f32, rounding: Rounding) -> F::Bits {
    let sum = odd_sum(f64::from(a), f64::from(b), rounding);
    narrow_double::<F>(sum, rounding, Overflow::Infinity)
}

/// a * b, rounded once to `F`.
#[inline(always)]
pub fn multiply_to<F: Format>(a: f32, b: f32, rounding: Rounding) -> F::Bits {
    narrow_double::<F>(f64::from(a) * f64::from(b), rounding, Overflow::Infinity)
}

/// a * b + c, rounded once to `F`.
#[inline(always)]
pub fn fused_multiply_add_to<F: Format>(a: f32, b: f32, c: f32, rounding: Rounding) -> F::Bits {
    let sum = odd_sum(f64::from(a) * f64::from(b), f64::from(c), rounding);
    narrow_double::<F>(sum, rounding, Overflow::Infinity)
}

/// The sum rounded to odd. Only the sign of a zero depends on the rounding that follows.
#[inline(always)]
fn odd_sum(a: f64, b: f64, rounding: Rounding) -> f64 {
    let sum = a + b;
    // Knuth's TwoSum; the operands are far from the ends of the range.
    let from_b = sum - a;
    let error = (a - (sum - from_b)) + (b - from_b);
    let bits = sum.to_bits();
    let grows = (error > 0.0) == (sum > 0.0);
    let odd = if grows { bits | 1 } else { bits.wrapping_sub(1) | 1 };
    let inexact = error != 0.0 && !error.is_nan();
    let cancelled = sum == 0.0 && a.is_sign_negative() != b.is_sign_negative();
    if inexact && bits & 1 == 0 {
        f64::from_bits(odd)
    } else if cancelled && rounding == Rounding::Down {
        -0.0
    } else {
        sum
    }
}
