//! Integers from and to floating point.
//!
//! PTX ISA, "Data Movement and Conversion Instructions: cvt".

use super::double;
use super::formats::{Format, Overflow, Rounding, canonical, narrow_double};

/// An integer type that `cvt` produces.
pub trait Integer: Copy {
    /// What NaN becomes from f64, and in 64 bits from any format: the highest bit.
    const INDEFINITE: Self;
    const BITS: u32;
    /// Clamps a whole number.
    fn clamp(value: f64) -> Self;
    /// Clamps a whole number; NaN is 0.
    fn clamp_single(value: f32) -> Self;
}

/// Implements [`Integer`] by the clamping casts.
macro_rules! integers {
    ($($name:ty: $indefinite:expr),*) => {$(
        impl Integer for $name {
            const INDEFINITE: Self = $indefinite;
            const BITS: u32 = <$name>::BITS;
            #[inline(always)]
            fn clamp(value: f64) -> Self {
                value as Self
            }
            #[inline(always)]
            fn clamp_single(value: f32) -> Self {
                value as Self
            }
        }
    )*};
}

integers!(i8: i8::MIN, i16: i16::MIN, i32: i32::MIN, i64: i64::MIN);
integers!(u8: 1 << 7, u16: 1 << 15, u32: 1 << 31, u64: 1 << 63);

/// Rounds an f32, or anything widened to one, to an integer; beyond the type's range it clamps.
#[inline(always)]
pub fn to_integer<I: Integer>(value: f32, rounding: Rounding) -> I {
    if value.is_nan() && I::BITS == 64 {
        I::INDEFINITE
    } else {
        I::clamp_single(whole(value, rounding))
    }
}

/// Rounds an f64 to an integer; beyond the type's range it clamps.
#[inline(always)]
pub fn double_to_integer<I: Integer>(value: f64, rounding: Rounding) -> I {
    if value.is_nan() { I::INDEFINITE } else { I::clamp(whole_double(value, rounding)) }
}

/// Rounds to a whole number in the same format, as `cvt.rni.f32.f32` does.
#[inline(always)]
pub fn whole(value: f32, rounding: Rounding) -> f32 {
    canonical(match rounding {
        Rounding::NearestEven => value.round_ties_even(),
        Rounding::NearestAway => value.round(),
        Rounding::Zero => value.trunc(),
        Rounding::Down => value.floor(),
        Rounding::Up => value.ceil(),
    })
}

/// Rounds to a whole number in the same format.
#[inline(always)]
pub fn whole_double(value: f64, rounding: Rounding) -> f64 {
    double::canonical(match rounding {
        Rounding::NearestEven => value.round_ties_even(),
        Rounding::NearestAway => value.round(),
        Rounding::Zero => value.trunc(),
        Rounding::Down => value.floor(),
        Rounding::Up => value.ceil(),
    })
}

/// Rounds an integer of up to 64 bits, given as sign and magnitude, to a format.
#[inline(always)]
pub fn from_integer<F: Format>(negative: bool, magnitude: u64, rounding: Rounding) -> F::Bits {
    // Beyond 53 bits, what f64 cannot hold goes into one sticky bit.
    let sticky = u64::from(magnitude & 0x7ff != 0) << 11;
    let odd = if magnitude >> 53 == 0 { magnitude } else { magnitude & !0x7ff | sticky };
    let value = odd as f64;
    let value = if negative { -value } else { value };
    narrow_double::<F>(value, rounding, Overflow::Infinity)
}

/// Rounds an integer, given as sign and magnitude, to an f64.
#[inline(always)]
pub fn double_from_integer(negative: bool, magnitude: u64, rounding: Rounding) -> f64 {
    let (high, low) = ((magnitude >> 32) as f64 * 2f64.powi(32), (magnitude & 0xffff_ffff) as f64);
    let sign = if negative { -1.0 } else { 1.0 };
    // Both halves are exact. A sum that is exactly zero must stay positive.
    if magnitude == 0 { 0.0 } else { double::add(sign * high, sign * low, rounding) }
}
