//! Operands split into significands and exponents.

use crate::arith::formats::{Format, Storage};

/// Exponent of a zero, in every format (MMA-Sim's rule; it can raise a sum's largest exponent only
/// beside a factor near the top of the range).
pub(super) const ZERO_EXPONENT: i32 = -126;

/// Exponents that mark what is not finite; the significand's sign is then the value's.
pub(super) const INFINITE: i32 = 1 << 12;
pub(super) const NAN: i32 = 1 << 13;

/// A matrix of values `significand * 2^exponent`, the significand in fixed point.
pub(super) struct Operand<const ROWS: usize, const COLS: usize> {
    pub significand: [[i32; COLS]; ROWS],
    pub exponent: [[i32; COLS]; ROWS],
    pub any_special: bool,
}

impl<const ROWS: usize, const COLS: usize> Operand<ROWS, COLS> {
    #[inline(always)]
    pub fn new<F: Format>(fraction_bits: u32, bits: &[[F::Bits; COLS]; ROWS]) -> Self {
        let mut significand = [[0; COLS]; ROWS];
        let mut exponent = [[0; COLS]; ROWS];
        let mut largest = 0;
        // One loop over the whole matrix vectorises where short loops over rows do not.
        let parts = significand.as_flattened_mut().iter_mut().zip(exponent.as_flattened_mut());
        for ((s, e), &bits) in parts.zip(bits.as_flattened()) {
            (*s, *e) = split::<F>(bits, fraction_bits);
            largest = largest.max(*e);
        }
        Operand { significand, exponent, any_special: largest >= INFINITE }
    }
}

#[inline(always)]
fn split<F: Format>(bits: F::Bits, fraction_bits: u32) -> (i32, i32) {
    let bits = bits.to_u32() >> F::PADDING;
    let magnitude = bits & (F::SIGN - 1);
    let field = magnitude >> F::MANTISSA_BITS;
    let hidden = u32::from(field != 0) << F::MANTISSA_BITS;
    let significand = (magnitude & ((1 << F::MANTISSA_BITS) - 1)) | hidden;
    let significand = (significand << (fraction_bits - F::MANTISSA_BITS)) as i32;
    let exponent = if magnitude == 0 { ZERO_EXPONENT } else { field.max(1) as i32 - F::BIAS };
    let special = if F::HAS_INFINITY && magnitude == F::NON_FINITE { INFINITE } else { NAN };
    (
        if bits & F::SIGN != 0 { -significand } else { significand },
        if magnitude >= F::NON_FINITE { special } else { exponent },
    )
}
