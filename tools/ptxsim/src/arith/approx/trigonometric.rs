//! Sine and cosine in f64.

use std::f64::consts::FRAC_PI_2;

/// pi / 2 in parts; the first two, of 28 bits, are exact times whole numbers up to 2^25.
const HIGH: f64 = 1.570796325802803;
const MIDDLE: f64 = 9.920935739593517e-10;
const LOW: f64 = 5.721188726109832e-18;

/// Up to here a multiple of pi / 2 is subtracted in parts.
const NEAR: f64 = (1u32 << 25) as f64;

/// 2 / pi, the first 320 bits after the point.
const TWO_OVER_PI: [u64; 5] = [
    0xa2f9_836e_4e44_1529,
    0xfc27_57d1_f534_ddc0,
    0xdb62_9599_3c43_9041,
    0xfe51_63ab_debb_c561,
    0xb724_6e3a_424d_d2e0,
];

pub(super) fn sin(x: f64) -> f64 {
    // Adding zero would lose the sign of -0.
    if x == 0.0 { x } else { turned(x, 0) }
}

pub(super) fn cos(x: f64) -> f64 {
    turned(x, 1)
}

/// The sine of x and some quarters of a turn.
fn turned(x: f64, quarters: u32) -> f64 {
    if !x.is_finite() {
        return f64::NAN;
    }
    let (quadrant, r) = if x.abs() < NEAR { reduce_near(x) } else { reduce_far(x) };
    let quadrant = quadrant.wrapping_add(quarters);
    let value = if quadrant & 1 == 0 { sin_part(r) } else { cos_part(r) };
    if quadrant & 2 == 0 { value } else { -value }
}

fn reduce_near(x: f64) -> (u32, f64) {
    let quarters = (x / FRAC_PI_2).round_ties_even();
    let r = ((x - quarters * HIGH) - quarters * MIDDLE) - quarters * LOW;
    (quarters as i32 as u32, r)
}

/// Payne and Hanek: of x * 2 / pi only the bits around the point are computed.
fn reduce_far(x: f64) -> (u32, f64) {
    let bits = x.to_bits();
    // What was an f32 has 24 bits.
    let significand = ((bits >> 29) & 0x7f_ffff) | 0x80_0000;
    let exponent = (bits >> 52 & 0x7ff) as u32 - 1023 - 23;
    // Bits of 2 / pi that give multiples of a turn are left out.
    let shift = exponent - 2;
    let (word, offset) = ((shift / 64) as usize, shift % 64);
    let wide = |at: usize| {
        let pair = u128::from(TWO_OVER_PI[at]) << 64 | u128::from(TWO_OVER_PI[at + 1]);
        (pair << offset >> 64) as u64
    };
    let low = u128::from(significand) * u128::from(wide(word + 2));
    let middle = u128::from(significand) * u128::from(wide(word + 1)) + (low >> 64);
    let high = significand.wrapping_mul(wide(word)).wrapping_add((middle >> 64) as u64);
    let product = u128::from(high) << 64 | u128::from(middle as u64);
    // The top two bits are the quadrant.
    let nearest = (product << 2) as i128;
    let quadrant = (product >> 126) as u32 + u32::from(nearest < 0);
    let r = nearest as f64 * 2f64.powi(-128) * FRAC_PI_2;
    if x < 0.0 { (quadrant.wrapping_neg(), -r) } else { (quadrant, r) }
}

/// The sine on [-pi/4, pi/4], by its Taylor series; the rest is below 2^-60.
fn sin_part(r: f64) -> f64 {
    let z = r * r;
    let mut sum = 0.0;
    for n in (1..10).rev() {
        sum = (sum + 1.0) * z / f64::from(-(2 * n) * (2 * n + 1));
    }
    r + r * sum
}

/// The cosine likewise.
fn cos_part(r: f64) -> f64 {
    let z = r * r;
    let mut sum = 0.0;
    for n in (1..10).rev() {
        sum = (sum + 1.0) * z / f64::from(-(2 * n - 1) * (2 * n));
    }
    1.0 + sum
}
