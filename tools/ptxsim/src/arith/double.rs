//! f64 arithmetic rounded in any direction, by integers.
//!
//! PTX ISA, "Floating Point Instructions". To nearest is the host's own; the others are rare, so
//! these are plain rather than fast.

use super::formats::Rounding;

/// a + b.
pub fn add(a: f64, b: f64, rounding: Rounding) -> f64 {
    fused_multiply_add(a, 1.0, b, rounding)
}

/// a * b.
pub fn multiply(a: f64, b: f64, rounding: Rounding) -> f64 {
    // A zero of the product's sign changes nothing.
    let negative = a.is_sign_negative() != b.is_sign_negative();
    fused_multiply_add(a, b, if negative { -0.0 } else { 0.0 }, rounding)
}

/// a * b + c.
pub fn fused_multiply_add(a: f64, b: f64, c: f64, rounding: Rounding) -> f64 {
    if rounding == Rounding::NearestEven {
        return canonical(a.mul_add(b, c));
    }
    let negative = a.is_sign_negative() != b.is_sign_negative();
    if !a.is_finite() || !b.is_finite() {
        return canonical(a * b + c);
    }
    if !c.is_finite() {
        return canonical(c);
    }
    if a == 0.0 || b == 0.0 {
        return signed_zero(a * b + c, negative != c.is_sign_negative(), rounding);
    }
    let ((a, a_exponent), (b, b_exponent)) = (split(a), split(b));
    let product = Wide::new(negative, u128::from(a) * u128::from(b), a_exponent + b_exponent);
    if c == 0.0 {
        return product.round(false, rounding);
    }
    let (c_significand, c_exponent) = split(c);
    let addend = Wide::new(c.is_sign_negative(), c_significand.into(), c_exponent);
    let (large, small) =
        if product.exceeds(&addend) { (product, addend) } else { (addend, product) };
    let shift = (large.exponent - small.exponent) as u32;
    let aligned = small.magnitude.checked_shr(shift).unwrap_or(0);
    let sticky = aligned.checked_shl(shift).unwrap_or(0) != small.magnitude;
    let magnitude = if large.negative == small.negative {
        large.magnitude + aligned
    } else {
        large.magnitude - aligned - u128::from(sticky)
    };
    if magnitude == 0 && !sticky {
        return signed_zero(0.0, true, rounding);
    }
    Wide { magnitude, ..large }.round(sticky, rounding)
}

/// a / b; `rcp` is 1 / b.
pub fn divide(a: f64, b: f64, rounding: Rounding) -> f64 {
    let quotient = a / b;
    let special = a == 0.0 || b == 0.0 || !a.is_finite() || !b.is_finite();
    if rounding == Rounding::NearestEven || special {
        return canonical(quotient);
    }
    let negative = a.is_sign_negative() != b.is_sign_negative();
    let ((a, a_exponent), (b, b_exponent)) = (split(a), split(b));
    let zeros = a.leading_zeros() as i32;
    let (a, b) = (u128::from(a << zeros) << 63, u128::from(b));
    let exponent = a_exponent - zeros - 63 - b_exponent;
    Wide { negative, magnitude: a / b, exponent }.round(a % b != 0, rounding)
}

/// The square root.
pub fn square_root(a: f64, rounding: Rounding) -> f64 {
    if rounding == Rounding::NearestEven || a == 0.0 || !a.is_finite() || a < 0.0 {
        return canonical(a.sqrt());
    }
    let (significand, exponent) = split(a);
    // An even exponent, and more than 53 bits in the root.
    let shift = significand.leading_zeros() as i32 + 52;
    let shift = shift + ((exponent - shift) & 1);
    let square = u128::from(significand) << shift;
    let root = square.isqrt();
    Wide { negative: false, magnitude: root, exponent: (exponent - shift) / 2 }
        .round(root * root != square, rounding)
}

/// One NaN for all, of which PTX leaves the payload open. Compares bits, since the compiler may drop a
/// choice between NaNs.
#[inline(always)]
pub fn canonical(value: f64) -> f64 {
    let bits = value.to_bits();
    let nan = bits & (u64::MAX >> 1) > f64::INFINITY.to_bits();
    f64::from_bits(if nan { 0x7ff8 << 48 } else { bits })
}

/// The sign of an exact zero that is a sum of terms of different signs.
fn signed_zero(value: f64, cancelled: bool, rounding: Rounding) -> f64 {
    if value == 0.0 && cancelled && rounding == Rounding::Down { -0.0 } else { value }
}

/// Significand and exponent of the unit, of a finite number.
fn split(value: f64) -> (u64, i32) {
    let bits = value.to_bits() & (u64::MAX >> 1);
    let field = (bits >> 52) as i32;
    let hidden = u64::from(field != 0) << 52;
    ((bits & ((1 << 52) - 1)) | hidden, field.max(1) - 1075)
}

/// `magnitude * 2^exponent`.
struct Wide {
    negative: bool,
    magnitude: u128,
    exponent: i32,
}

impl Wide {
    /// Normalised to 126 bits, so that two can be added.
    fn new(negative: bool, magnitude: u128, exponent: i32) -> Self {
        let shift = magnitude.leading_zeros() as i32 - 2;
        Wide { negative, magnitude: magnitude << shift, exponent: exponent - shift }
    }

    fn exceeds(&self, other: &Wide) -> bool {
        (self.exponent, self.magnitude) > (other.exponent, other.magnitude)
    }

    /// Rounds to f64; `sticky` says that the magnitude is a little larger.
    fn round(&self, sticky: bool, rounding: Rounding) -> f64 {
        let length = 128 - self.magnitude.leading_zeros() as i32;
        let unit = (self.exponent + length - 53).max(-1074);
        let shift = unit - self.exponent;
        let kept = if shift <= 0 {
            self.magnitude << -shift
        } else {
            self.magnitude.checked_shr(shift as u32).unwrap_or(0)
        };
        let lost = match shift {
            ..=0 => 0,
            1..128 => self.magnitude & ((1 << shift) - 1),
            _ => self.magnitude,
        };
        let half = if shift > 0 { 1u128.checked_shl(shift as u32 - 1).unwrap_or(0) } else { 0 };
        let inexact = lost != 0 || sticky;
        let up = match rounding {
            Rounding::NearestEven => {
                half != 0 && (lost > half || lost == half && (sticky || kept & 1 == 1))
            }
            Rounding::NearestAway => half != 0 && lost >= half,
            _ => inexact && rounding.away(self.negative),
        };
        let code = kept as u64 + u64::from(up);
        // A code counts units above 2^-1074; the hidden bit adds one to the exponent field.
        let field = (unit + 1074) as u64;
        let beyond = field > 2046 || (field << 52) + code >= f64::INFINITY.to_bits();
        let bits = match beyond {
            false => (field << 52) + code,
            true if !rounding.overflows(self.negative) => f64::MAX.to_bits(),
            true => f64::INFINITY.to_bits(),
        };
        f64::from_bits(bits | u64::from(self.negative) << 63)
    }
}
