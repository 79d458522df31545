//! The approximate functions, correctly rounded, or moved within their documented error.
//!
//! PTX ISA, "Floating Point Instructions" (div, rcp, sqrt, rsqrt, sin, cos, lg2, ex2, tanh) and "Half
//! Precision Floating Point Instructions" (tanh, ex2). A GPU's own results are not documented to the
//! bit, so the best answer stands in for them, and [`perturb`] gives others that a GPU may give.
//!
//! Results come from f64 by additions, products, quotients and roots in a fixed order, with an error
//! of a few units in the 53rd place, and are rounded once. `.ftz` is
//! [`flush`](super::formats::flush) of operand and result. For f16 and bf16, widen the operand.

mod exponential;
pub mod perturb;
mod trigonometric;

use super::formats::{Format, Overflow, Rounding, canonical, narrow_double};

#[inline(always)]
fn nearest<F: Format>(value: f64) -> F::Bits {
    narrow_double::<F>(value, Rounding::NearestEven, Overflow::Infinity)
}

/// `ex2.approx` in a half-precision format.
#[inline(always)]
pub fn ex2_to<F: Format>(x: f32) -> F::Bits {
    nearest::<F>(exponential::exp2(x.into()))
}

/// `ex2.approx.f32`.
#[inline(always)]
pub fn ex2(x: f32) -> f32 {
    canonical(exponential::exp2(x.into()) as f32)
}

/// `lg2.approx.f32`.
#[inline(always)]
pub fn lg2(x: f32) -> f32 {
    canonical(exponential::log2(x.into()) as f32)
}

/// `tanh.approx` in a half-precision format.
#[inline(always)]
pub fn tanh_to<F: Format>(x: f32) -> F::Bits {
    nearest::<F>(exponential::tanh(x.into()))
}

/// `tanh.approx.f32`.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    canonical(exponential::tanh(x.into()) as f32)
}

/// `rcp.approx.f32`.
#[inline(always)]
pub fn rcp(x: f32) -> f32 {
    canonical(1.0 / x)
}

/// `sqrt.approx.f32`.
#[inline(always)]
pub fn sqrt(x: f32) -> f32 {
    canonical(x.sqrt())
}

/// `rsqrt.approx.f32`.
#[inline(always)]
pub fn rsqrt(x: f32) -> f32 {
    canonical((1.0 / f64::from(x).sqrt()) as f32)
}

/// `sin.approx.f32`.
pub fn sin(x: f32) -> f32 {
    canonical(trigonometric::sin(x.into()) as f32)
}

/// `cos.approx.f32`.
pub fn cos(x: f32) -> f32 {
    canonical(trigonometric::cos(x.into()) as f32)
}

/// `div.full.f32`.
#[inline(always)]
pub fn divide_full(a: f32, b: f32) -> f32 {
    canonical(a / b)
}

/// `div.approx.f32`: a * (1 / b), where the reciprocal of a large b vanishes.
#[inline(always)]
pub fn divide(a: f32, b: f32) -> f32 {
    // 2^126, above which the ISA gives zero, or NaN for an infinite a.
    let large = b.abs() > f32::from_bits((126 + 127) << 23) && b.is_finite();
    let reciprocal = if b.is_sign_negative() { -0.0 } else { 0.0 };
    canonical(if large { a * reciprocal } else { a / b })
}
