//! Modifiers of floating-point instructions, as an operation's `immediate`.

use super::op::Op;
use crate::arith::formats::{F32, Format, Rounding, Storage, flush, relu, saturate};

/// What the modifiers of a floating-point instruction ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modifiers {
    pub rounding: Rounding,
    /// `.ftz`
    pub flush: bool,
    /// `.sat`
    pub saturate: bool,
    pub relu: bool,
    /// `.satfinite`
    pub finite: bool,
    /// `.NaN`: of a number and NaN the result is NaN.
    pub nan: bool,
    /// `.xorsign.abs`
    pub xorsign: bool,
}

impl Default for Modifiers {
    fn default() -> Self {
        Modifiers {
            rounding: Rounding::NearestEven,
            flush: false,
            saturate: false,
            relu: false,
            finite: false,
            nan: false,
            xorsign: false,
        }
    }
}

const ROUNDINGS: [Rounding; 5] =
    [Rounding::NearestEven, Rounding::NearestAway, Rounding::Zero, Rounding::Down, Rounding::Up];

impl Modifiers {
    /// As an `immediate`: its low 16 bits.
    pub fn bits(self) -> i64 {
        let flags = [self.flush, self.saturate, self.relu, self.finite, self.nan, self.xorsign];
        let rounding = ROUNDINGS.iter().position(|&r| r == self.rounding).unwrap_or(0) as i64;
        flags.iter().enumerate().fold(rounding, |bits, (n, &on)| bits | i64::from(on) << (n + 8))
    }

    #[inline(always)]
    pub fn of(op: &Op) -> Self {
        let flag = |n: u32| op.immediate >> (n + 8) & 1 == 1;
        Modifiers {
            rounding: ROUNDINGS[(op.immediate & 0xFF).min(4) as usize],
            flush: flag(0),
            saturate: flag(1),
            relu: flag(2),
            finite: flag(3),
            nan: flag(4),
            xorsign: flag(5),
        }
    }

    /// An operand as the instruction sees it.
    #[inline(always)]
    pub fn seen(self, value: f32) -> f32 {
        if self.flush { flush(value) } else { value }
    }

    /// A rounded result as the instruction returns it.
    #[inline(always)]
    pub fn finish(self, value: f32) -> f32 {
        let value = if self.flush { flush(value) } else { value };
        if self.saturate { saturate(value) } else { value }
    }

    /// As [`Modifiers::seen`], in any format.
    #[inline(always)]
    pub fn seen_in<F: Format>(self, bits: F::Bits) -> F::Bits {
        let x = bits.to_u32();
        let subnormal = x & F::SIGN.wrapping_sub(1) < 1 << F::MANTISSA_BITS;
        if self.flush && subnormal { F::Bits::from_u32(x & F::SIGN) } else { bits }
    }

    /// As [`Modifiers::finish`], in any format and with `.relu`.
    #[inline(always)]
    pub fn finish_in<F: Format>(self, bits: F::Bits) -> F::Bits {
        let bits = self.seen_in::<F>(bits);
        let bits = if self.relu { relu::<F>(bits) } else { bits };
        let one = (F::BIAS as u32) << F::MANTISSA_BITS;
        // Of what is left of 1 the magnitudes are in order; NaN and what is negative become 0.
        let x = bits.to_u32();
        let clamped = if x > F::NON_FINITE { 0 } else { x.min(one) };
        if self.saturate { F::Bits::from_u32(clamped) } else { bits }
    }

    /// `min` or `max` (`larger`) of two operands: −0 is below 0, and NaN counts only with `.NaN` or
    /// when there is no number.
    #[inline(always)]
    pub fn choose<F: Format>(self, a: F::Bits, b: F::Bits, larger: bool) -> F::Bits {
        let (a, b) = (self.seen_in::<F>(a).to_u32(), self.seen_in::<F>(b).to_u32());
        let magnitude = F::SIGN - 1;
        let sign = if self.xorsign { (a ^ b) & F::SIGN } else { 0 };
        let (x, y) = if self.xorsign { (a & magnitude, b & magnitude) } else { (a, b) };
        let nan = |v: u32| v & magnitude > F::NON_FINITE;
        // Codes in the order of their values.
        let place =
            |v: u32| if v & F::SIGN == 0 { v | F::SIGN } else { !v & (F::SIGN | magnitude) };
        let first = (place(x) < place(y)) != larger;
        let number = if nan(x) {
            y
        } else if nan(y) || first {
            x
        } else {
            y
        };
        let none = nan(x) && nan(y) || self.nan && (nan(x) || nan(y));
        let result = F::Bits::from_u32(if none { F::NAN } else { number | sign });
        if self.relu { relu::<F>(result) } else { result }
    }

    /// As [`Modifiers::choose`], of f32.
    #[inline(always)]
    pub fn choose_single(self, a: f32, b: f32, larger: bool) -> f32 {
        f32::from_bits(self.choose::<F32>(a.to_bits(), b.to_bits(), larger))
    }
}
