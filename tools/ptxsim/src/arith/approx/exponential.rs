//! Exponentials and logarithms in f64.

use std::f64::consts::{LN_2, LOG2_E, SQRT_2};

/// ln(2)^n / n! for n from 1: the Taylor series of 2^r, whose rest is below 2^-57 for |r| <= 1/2.
const EXP2: [f64; 13] = [
    LN_2,
    0.24022650695910072,
    0.05550410866482158,
    0.009618129107628477,
    0.0013333558146428443,
    0.0001540353039338161,
    1.5252733804059841e-05,
    1.321548679014431e-06,
    1.01780860092397e-07,
    7.054911620801123e-09,
    4.4455382718708116e-10,
    2.5678435993488206e-11,
    1.3691488853904128e-12,
];

/// Added and taken away again, it leaves the nearest whole number, which the low bits of the sum
/// hold as an integer.
const WHOLE: f64 = 1.5 * (1u64 << 52) as f64;

/// The nearest whole number and 2 to its power, for exponents within f64's.
#[inline(always)]
fn split(x: f64) -> (f64, f64) {
    let sum = x + WHOLE;
    let power = f64::from_bits((sum.to_bits() << 52).wrapping_add(1023 << 52));
    (sum - WHOLE, power)
}

/// 2^x, to beyond f32's range, where it is infinite or zero once rounded.
#[inline(always)]
pub(super) fn exp2(x: f64) -> f64 {
    // The comparisons keep NaN.
    let bounded = if x > 200.0 { 200.0 } else { x };
    let bounded = if bounded < -200.0 { -200.0 } else { bounded };
    let (whole, power) = split(bounded);
    let r = bounded - whole;
    let mut sum = EXP2[12];
    for n in (0..12).rev() {
        sum = sum * r + EXP2[n];
    }
    // Rounded to odd, as two f32 results lie closer to a tie than f64 can tell.
    let part = sum * r;
    let high = 1.0 + part;
    let low = part - (high - 1.0);
    let bits = high.to_bits();
    let odd = if low > 0.0 { bits + 1 } else { bits - 1 };
    let exact = low == 0.0 || bits & 1 == 1;
    f64::from_bits(if exact { bits } else { odd }) * power
}

/// log2(x) of what was an f32.
#[inline(always)]
pub(super) fn log2(x: f64) -> f64 {
    let bits = x.to_bits();
    let high = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    // The significand between the roots of 1/2 and 2, so that logarithms near zero stay exact.
    let above = high > SQRT_2;
    let m = if above { 0.5 * high } else { high };
    let field = (bits >> 52) as u32 + u32::from(above);
    let exponent = f64::from(field as i32 - 1023);
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    // log2(m) = 2 / ln(2) * (s + s^3 / 3 + s^5 / 5 + ...), its rest below 2^-60.
    let mut sum = 1.0 / 23.0;
    for n in (1..11).rev() {
        sum = sum * z + 1.0 / f64::from(2 * n + 1);
    }
    let log = exponent + (2.0 * LOG2_E) * (s + s * z * sum);
    let infinite = if x > 0.0 { x } else { f64::NAN };
    let edge = if x == 0.0 { f64::NEG_INFINITY } else { infinite };
    if x > 0.0 && x < f64::INFINITY { log } else { edge }
}

/// tanh(x) = (e^y - 1) / (e^y + 1) with y = 2 |x|.
#[inline(always)]
pub(super) fn tanh(x: f64) -> f64 {
    // ln(2) in two parts, the first times whole numbers up to 2^12 exact.
    const HIGH: f64 = 0.6931471805592082;
    const LOW: f64 = 7.371002565167799e-13;
    let y = 2.0 * x.abs();
    // Beyond, the result rounds to one.
    let y = if y > 60.0 { 60.0 } else { y };
    let (whole, power) = split(y * LOG2_E);
    let r = (y - whole * HIGH) - whole * LOW;
    // The Taylor series of e^r - 1, its rest below 2^-57.
    let mut sum = 1.0 / 6_227_020_800.0;
    for factorial in [
        479_001_600.0,
        39_916_800.0,
        3_628_800.0,
        362_880.0,
        40_320.0,
        5_040.0,
        720.0,
        120.0,
        24.0,
        6.0,
        2.0,
    ] {
        sum = sum * r + 1.0 / factorial;
    }
    let less_one = (power - 1.0) + power * (r + r * (r * sum));
    (less_one / (less_one + 2.0)).copysign(x)
}
