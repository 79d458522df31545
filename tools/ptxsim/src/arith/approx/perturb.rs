//! Other results that a GPU may give: within the documented error, the same for the same operand.

use crate::arith::formats::{Format, Overflow, Rounding, narrow_double, widen};

/// The instructions whose results are not documented to the bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    Ex2,
    Ex2F16,
    Ex2Bf16,
    Lg2,
    Rcp,
    Sqrt,
    Rsqrt,
    Sin,
    Cos,
    Tanh,
    TanhF16,
    TanhBf16,
    /// `div.approx` and `div.full`.
    Divide,
}

/// A documented error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// Units in the last place, from the correctly rounded result.
    Ulps(f64),
    Relative(f64),
    Absolute(f64),
}

/// The error that the PTX ISA 9.0 allows, in the notes of each instruction (sections 9.7.3 and,
/// for f16 and bf16, 9.7.4); beyond +-100 pi sine and cosine have none, and the last one stands.
pub fn bound(function: Function, operand: f32) -> Bound {
    let turn = 2.0 * std::f32::consts::PI;
    match function {
        Function::Ex2 | Function::Divide => Bound::Ulps(2.0),
        Function::Rcp => Bound::Ulps(1.0),
        Function::Sqrt => Bound::Relative(2f64.powi(-23)),
        Function::Rsqrt => Bound::Relative(2f64.powf(-22.9)),
        Function::Lg2 if operand > 0.5 && operand < 2.0 => Bound::Absolute(2f64.powi(-22)),
        Function::Lg2 => Bound::Relative(2f64.powi(-22)),
        Function::Sin | Function::Cos if operand.abs() <= turn => Bound::Absolute(2f64.powf(-20.5)),
        Function::Sin | Function::Cos => Bound::Absolute(2f64.powf(-14.7)),
        Function::Tanh => Bound::Relative(2f64.powi(-11)),
        Function::TanhF16 => Bound::Absolute(2f64.powf(-10.987)),
        Function::TanhBf16 => Bound::Absolute(2f64.powi(-8)),
        Function::Ex2F16 => Bound::Relative(2f64.powf(-9.9)),
        Function::Ex2Bf16 => Bound::Relative(2f64.powi(-7)),
    }
}

/// Moves a correctly rounded result by a number of last places that `seed` and the operand (both, for
/// a division) choose, within the bound. Operands that the ISA's tables list, zeros and what is not
/// finite, keep their result, as do results of such kinds.
pub fn perturb<F: Format>(
    function: Function,
    seed: u64,
    operand: f32,
    divisor: f32,
    result: F::Bits,
) -> F::Bits {
    let value = f64::from(widen::<F>(result));
    let fixed = |x: f64| x == 0.0 || !x.is_finite();
    if fixed(operand.into()) || fixed(divisor.into()) || fixed(value) {
        return result;
    }
    let ulp = last_place::<F>(value);
    // Half a place is lost already in rounding.
    let places = match bound(function, operand) {
        Bound::Ulps(ulps) => ulps,
        Bound::Relative(error) => (error * value.abs() / ulp - 0.5).floor(),
        Bound::Absolute(error) => (error / ulp - 0.5).floor(),
    };
    let operands = u64::from(operand.to_bits()) << 32 | u64::from(divisor.to_bits());
    let random = mix(mix(seed ^ function as u64) ^ operands);
    // From -1 to 1, exclusive; both ends of -places..=places are reached.
    let fraction = (random >> 11) as f64 * 2f64.powi(-52) - 1.0;
    let moved = value + (fraction * (places.max(0.0) + 1.0)).trunc() * ulp;
    let moved = match function {
        Function::Sin | Function::Cos => moved.clamp(-1.0, 1.0),
        Function::Tanh | Function::TanhF16 | Function::TanhBf16 => moved.clamp(-1.0, 1.0),
        _ => moved,
    };
    // Where places grow wider on the way, towards zero is back towards the result.
    narrow_double::<F>(moved, Rounding::Zero, Overflow::Saturate)
}

/// The distance of neighbours at a finite value.
fn last_place<F: Format>(value: f64) -> f64 {
    let exponent = (value.to_bits() >> 52 & 0x7ff) as i32 - 1023;
    2f64.powi(exponent.max(1 - F::BIAS) - F::MANTISSA_BITS as i32)
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
