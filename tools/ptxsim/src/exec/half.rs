//! f16 and bf16 arithmetic, one value or a pair a lane.

use std::marker::PhantomData;

use super::lanes::{LANES, Operation, store};
use super::modifiers::Modifiers;
use super::op::{Ctx, Op};
use crate::arith::approx::perturb::{self, perturb};
use crate::arith::formats::{Bf16, Format, Rounding, widen};
use crate::arith::{approx, float};

/// A 16-bit format.
pub trait HalfFormat: Format<Bits = u16> {}
impl<F: Format<Bits = u16>> HalfFormat for F {}

/// What an instruction computes of 16-bit operands.
pub trait Function {
    /// What it approximates in f16 and in bf16, if it does.
    const APPROXIMATES: Option<[perturb::Function; 2]> = None;
    fn apply<F: HalfFormat>(m: Modifiers, a: u16, b: u16, c: u16) -> u16;
}

/// `N` values in a register: one a lane, or two, of which the lower half of the lane is the first.
pub struct Half<O, F, const N: usize>(PhantomData<(O, F)>);

impl<O: Function, F: HalfFormat, const N: usize> Operation for Half<O, F, N> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's; a register of pairs is one of twice as many values.
        unsafe {
            let m = Modifiers::of(op);
            let a: [u16; N] = *ctx.registers.add(op.sources[0] as usize).cast();
            let b: [u16; N] = *ctx.registers.add(op.sources[1] as usize).cast();
            let c: [u16; N] = *ctx.registers.add(op.sources[2] as usize).cast();
            let mut result = [0; N];
            for i in 0..N {
                let seen = |x: u16| m.seen_in::<F>(x);
                let mut value = O::apply::<F>(m, seen(a[i]), seen(b[i]), seen(c[i]));
                if let (Some(kinds), Some(seed)) = (O::APPROXIMATES, ctx.machine.perturb) {
                    let kind = kinds[usize::from(F::BIAS == Bf16::BIAS)];
                    value = perturb::<F>(kind, seed, widen::<F>(seen(a[i])), 1.0, value);
                }
                result[i] = m.finish_in::<F>(value);
            }
            write(ctx, op, mask, &result);
        }
    }
}

/// Writes `N` values to the result.
///
/// # Safety
/// It has the room.
#[inline(always)]
pub unsafe fn write<const N: usize>(ctx: &mut Ctx<'_>, op: &Op, mask: u32, values: &[u16; N]) {
    // SAFETY: the caller's; N is 32 or 64.
    unsafe {
        let from = values.as_ptr().cast::<u8>();
        if N == LANES {
            store(ctx.registers, op.result, mask, from.cast::<[u16; LANES]>().read_unaligned());
        } else {
            store(ctx.registers, op.result, mask, from.cast::<[u32; LANES]>().read_unaligned());
        }
    }
}

pub struct Add;
impl Function for Add {
    #[inline(always)]
    fn apply<F: HalfFormat>(_: Modifiers, a: u16, b: u16, _: u16) -> u16 {
        float::add_to::<F>(widen::<F>(a), widen::<F>(b), Rounding::NearestEven)
    }
}

pub struct Sub;
impl Function for Sub {
    #[inline(always)]
    fn apply<F: HalfFormat>(_: Modifiers, a: u16, b: u16, _: u16) -> u16 {
        float::add_to::<F>(widen::<F>(a), -widen::<F>(b), Rounding::NearestEven)
    }
}

pub struct Mul;
impl Function for Mul {
    #[inline(always)]
    fn apply<F: HalfFormat>(_: Modifiers, a: u16, b: u16, _: u16) -> u16 {
        float::multiply_to::<F>(widen::<F>(a), widen::<F>(b), Rounding::NearestEven)
    }
}

pub struct Fma;
impl Function for Fma {
    #[inline(always)]
    fn apply<F: HalfFormat>(_: Modifiers, a: u16, b: u16, c: u16) -> u16 {
        let [a, b, c] = [a, b, c].map(widen::<F>);
        float::fused_multiply_add_to::<F>(a, b, c, Rounding::NearestEven)
    }
}

pub struct Neg;
impl Function for Neg {
    #[inline(always)]
    fn apply<F: HalfFormat>(_: Modifiers, a: u16, _: u16, _: u16) -> u16 {
        a ^ 0x8000
    }
}

pub struct Abs;
impl Function for Abs {
    #[inline(always)]
    fn apply<F: HalfFormat>(_: Modifiers, a: u16, _: u16, _: u16) -> u16 {
        a & 0x7FFF
    }
}

pub struct Min;
impl Function for Min {
    #[inline(always)]
    fn apply<F: HalfFormat>(m: Modifiers, a: u16, b: u16, _: u16) -> u16 {
        m.choose::<F>(a, b, false)
    }
}

pub struct Max;
impl Function for Max {
    #[inline(always)]
    fn apply<F: HalfFormat>(m: Modifiers, a: u16, b: u16, _: u16) -> u16 {
        m.choose::<F>(a, b, true)
    }
}

pub struct Ex2;
impl Function for Ex2 {
    const APPROXIMATES: Option<[perturb::Function; 2]> =
        Some([perturb::Function::Ex2F16, perturb::Function::Ex2Bf16]);
    #[inline(always)]
    fn apply<F: HalfFormat>(_: Modifiers, a: u16, _: u16, _: u16) -> u16 {
        approx::ex2_to::<F>(widen::<F>(a))
    }
}

pub struct Tanh;
impl Function for Tanh {
    const APPROXIMATES: Option<[perturb::Function; 2]> =
        Some([perturb::Function::TanhF16, perturb::Function::TanhBf16]);
    #[inline(always)]
    fn apply<F: HalfFormat>(_: Modifiers, a: u16, _: u16, _: u16) -> u16 {
        approx::tanh_to::<F>(widen::<F>(a))
    }
}
