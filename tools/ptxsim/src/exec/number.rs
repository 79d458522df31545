//! `cvt` between any two number formats; `convert` has those that kernels are full of.

use std::marker::PhantomData;

use super::lanes::{LANES, Lanes, Operation, load, store};
use super::modifiers::Modifiers;
use super::op::{Access, Ctx, Op};
use crate::arith::convert;
use crate::arith::formats::{
    F16, Format, Overflow, Rounding, Storage, flush, narrow, narrow_double, relu, widen,
};

/// A floating-point format that a register holds one value of.
pub trait Real {
    type Bits: Copy + Default;
    /// f32, which alone has `.ftz`.
    const SINGLE: bool;
    /// The value; exact.
    fn value(bits: Self::Bits) -> f64;
    fn round(value: f64, m: Modifiers) -> Self::Bits;
    fn from_integer(negative: bool, magnitude: u64, rounding: Rounding) -> Self::Bits;
    fn to_integer<I: convert::Integer>(bits: Self::Bits, m: Modifiers) -> I;
}

impl<F: Format> Real for F {
    type Bits = F::Bits;
    const SINGLE: bool = F::MANTISSA_BITS == 23;
    #[inline(always)]
    fn value(bits: F::Bits) -> f64 {
        widen::<F>(bits).into()
    }
    #[inline(always)]
    fn round(value: f64, m: Modifiers) -> F::Bits {
        let overflow = if m.finite { Overflow::Saturate } else { Overflow::Infinity };
        narrow_double::<F>(value, m.rounding, overflow)
    }
    #[inline(always)]
    fn from_integer(negative: bool, magnitude: u64, rounding: Rounding) -> F::Bits {
        convert::from_integer::<F>(negative, magnitude, rounding)
    }
    #[inline(always)]
    fn to_integer<I: convert::Integer>(bits: F::Bits, m: Modifiers) -> I {
        convert::to_integer(m.seen(widen::<F>(bits)), m.rounding)
    }
}

/// IEEE double precision.
pub struct F64;

impl Real for F64 {
    type Bits = u64;
    const SINGLE: bool = false;
    #[inline(always)]
    fn value(bits: u64) -> f64 {
        f64::from_bits(bits)
    }
    #[inline(always)]
    fn round(value: f64, _: Modifiers) -> u64 {
        crate::arith::double::canonical(value).to_bits()
    }
    #[inline(always)]
    fn from_integer(negative: bool, magnitude: u64, rounding: Rounding) -> u64 {
        convert::double_from_integer(negative, magnitude, rounding).to_bits()
    }
    #[inline(always)]
    fn to_integer<I: convert::Integer>(bits: u64, m: Modifiers) -> I {
        convert::double_to_integer(f64::from_bits(bits), m.rounding)
    }
}

/// Flag in `immediate`: the result is a whole number (`.rni` and the like).
pub const WHOLE: i64 = 1 << 16;

/// Between floating-point formats.
pub struct Convert<S, T>(PhantomData<(S, T)>);

impl<S: Real, T: Real> Operation for Convert<S, T> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let (m, whole) = (Modifiers::of(op), op.immediate & WHOLE != 0);
            let a = load::<S::Bits>(ctx.registers, op.sources[0]);
            let mut result = [T::Bits::default(); LANES];
            for i in 0..LANES {
                let mut x = S::value(a[i]);
                if S::SINGLE && m.flush {
                    x = f64::from(flush(x as f32));
                }
                if whole {
                    x = convert::whole_double(x, m.rounding);
                }
                // Both bounds are numbers of every format, so that rounding may come afterwards.
                if m.saturate {
                    x = if x > 0.0 { x.min(1.0) } else { 0.0 };
                }
                if m.relu && x.is_sign_negative() && !x.is_nan() {
                    x = 0.0;
                }
                result[i] = T::round(x, m);
                if T::SINGLE && m.flush {
                    result[i] = T::round(f64::from(flush(T::value(result[i]) as f32)), m);
                }
            }
            store(ctx.registers, op.result, mask, result);
        }
    }
}

/// Integers of a register as the type in `access` has them: sign and magnitude.
///
/// # Safety
/// The first source has `access.register_bytes` a lane.
#[inline(always)]
unsafe fn integers(ctx: &Ctx<'_>, op: &Op) -> Lanes<(bool, u64)> {
    let Access { bytes, register_bytes, signed, .. } = op.access;
    // SAFETY: the caller's.
    let whole: Lanes<u64> = unsafe {
        match register_bytes {
            2 => load::<u16>(ctx.registers, op.sources[0]).map(u64::from),
            4 => load::<u32>(ctx.registers, op.sources[0]).map(u64::from),
            _ => load::<u64>(ctx.registers, op.sources[0]),
        }
    };
    let unused = 64 - 8 * u32::from(bytes);
    whole.map(|x| {
        if signed {
            let x = (x << unused) as i64 >> unused;
            (x < 0, x.unsigned_abs())
        } else {
            (false, x << unused >> unused)
        }
    })
}

/// From an integer; `access` is the source's.
pub struct FromInteger<T>(PhantomData<T>);

impl<T: Real> Operation for FromInteger<T> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let m = Modifiers::of(op);
            let a = integers(ctx, op);
            let mut result = [T::Bits::default(); LANES];
            for i in 0..LANES {
                let (negative, magnitude) = match (a[i], m.saturate) {
                    ((negative, magnitude), true) => {
                        (false, if negative { 0 } else { magnitude.min(1) })
                    }
                    (a, false) => a,
                };
                result[i] = T::from_integer(negative, magnitude, m.rounding);
            }
            store(ctx.registers, op.result, mask, result);
        }
    }
}

/// To an integer, which clamps; `access` is the result's.
pub struct ToInteger<S>(PhantomData<S>);

impl<S: Real> Operation for ToInteger<S> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let m = Modifiers::of(op);
            let a = load::<S::Bits>(ctx.registers, op.sources[0]);
            let Access { bytes, register_bytes, signed, .. } = op.access;
            let wide: Lanes<u64> = match (bytes, signed) {
                (1, false) => a.map(|x| S::to_integer::<u8>(x, m).into()),
                (1, true) => a.map(|x| i64::from(S::to_integer::<i8>(x, m)) as u64),
                (2, false) => a.map(|x| S::to_integer::<u16>(x, m).into()),
                (2, true) => a.map(|x| i64::from(S::to_integer::<i16>(x, m)) as u64),
                (4, false) => a.map(|x| S::to_integer::<u32>(x, m).into()),
                (4, true) => a.map(|x| i64::from(S::to_integer::<i32>(x, m)) as u64),
                (_, false) => a.map(|x| S::to_integer::<u64>(x, m)),
                (_, true) => a.map(|x| S::to_integer::<i64>(x, m) as u64),
            };
            match register_bytes {
                2 => store(ctx.registers, op.result, mask, wide.map(|x| x as u16)),
                4 => store(ctx.registers, op.result, mask, wide.map(|x| x as u32)),
                _ => store(ctx.registers, op.result, mask, wide),
            }
        }
    }
}

/// Two f32 to a pair of `F`: the first source is the upper half.
pub struct NarrowPair<F>(PhantomData<F>);

impl<F: Format> Operation for NarrowPair<F> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let m = Modifiers::of(op);
            let high = load::<f32>(ctx.registers, op.sources[0]);
            let low = load::<f32>(ctx.registers, op.sources[1]);
            write_pairs::<F>(ctx, op, mask, &high, &low, m);
        }
    }
}

/// A pair of `H` to a pair of `F`, which is narrower.
pub struct NarrowHalves<H, F>(PhantomData<(H, F)>);

impl<H: Format<Bits = u16>, F: Format> Operation for NarrowHalves<H, F> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let m = Modifiers::of(op);
            let pairs = load::<u32>(ctx.registers, op.sources[0]);
            let high = pairs.map(|x| widen::<H>((x >> 16) as u16));
            let low = pairs.map(|x| widen::<H>(x as u16));
            write_pairs::<F>(ctx, op, mask, &high, &low, m);
        }
    }
}

/// Writes a register of pairs of 8- or 16-bit values.
///
/// # Safety
/// The result is one.
#[inline(always)]
unsafe fn write_pairs<F: Format>(
    ctx: &mut Ctx<'_>,
    op: &Op,
    mask: u32,
    high: &Lanes<f32>,
    low: &Lanes<f32>,
    m: Modifiers,
) {
    let overflow = if m.finite { Overflow::Saturate } else { Overflow::Infinity };
    let one = |x: f32| {
        let bits = narrow::<F>(x, m.rounding, overflow);
        if m.relu { relu::<F>(bits).to_u32() } else { bits.to_u32() }
    };
    let width = 8 * size_of::<F::Bits>() as u32;
    let mut result = [0; LANES];
    for i in 0..LANES {
        result[i] = one(high[i]) << width | one(low[i]);
    }
    // SAFETY: the caller's.
    unsafe {
        match width {
            8 => store(ctx.registers, op.result, mask, result.map(|x| x as u16)),
            _ => store(ctx.registers, op.result, mask, result),
        }
    }
}

/// A pair of 8-bit values to a pair of f16.
pub struct WidenPair<F>(PhantomData<F>);

impl<F: Format<Bits = u8>> Operation for WidenPair<F> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let m = Modifiers::of(op);
            let pairs = load::<u16>(ctx.registers, op.sources[0]);
            let [high, low] = [8, 0].map(|by| pairs.map(|x| widen::<F>((x >> by) as u8)));
            write_pairs::<F16>(ctx, op, mask, &high, &low, m);
        }
    }
}
