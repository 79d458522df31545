//! f32 and f64 arithmetic with any rounding, `.sat` and `.ftz`; `float` has the combinations that
//! kernels are full of.

use std::marker::PhantomData;

use super::lanes::{LANES, Operation, load, store};
use super::modifiers::Modifiers;
use super::op::{Ctx, Op};
use crate::arith::formats::Rounding;
use crate::arith::{double, float};

/// What an instruction computes of three operands (or of as many as it needs).
pub trait Function {
    fn single(m: Modifiers, a: f32, b: f32, c: f32) -> f32;
    fn double(rounding: Rounding, a: f64, b: f64, c: f64) -> f64;
}

/// In f32.
pub struct Single<O>(PhantomData<O>);

impl<O: Function> Operation for Single<O> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let m = Modifiers::of(op);
            let [a, b, c] =
                [0, 1, 2].map(|n| load::<f32>(ctx.registers, op.sources[n]).map(|x| m.seen(x)));
            let mut result = [0.0; LANES];
            for i in 0..LANES {
                result[i] = m.finish(O::single(m, a[i], b[i], c[i]));
            }
            store(ctx.registers, op.result, mask, result);
        }
    }
}

/// In f64, which knows no `.ftz` and no `.sat`.
pub struct Double<O>(PhantomData<O>);

impl<O: Function> Operation for Double<O> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let rounding = Modifiers::of(op).rounding;
            let [a, b, c] = [0, 1, 2].map(|n| load::<f64>(ctx.registers, op.sources[n]));
            let mut result = [0.0; LANES];
            for i in 0..LANES {
                result[i] = O::double(rounding, a[i], b[i], c[i]);
            }
            store(ctx.registers, op.result, mask, result);
        }
    }
}

pub struct Add;
impl Function for Add {
    #[inline(always)]
    fn single(m: Modifiers, a: f32, b: f32, _: f32) -> f32 {
        float::add(a, b, m.rounding)
    }
    fn double(rounding: Rounding, a: f64, b: f64, _: f64) -> f64 {
        double::add(a, b, rounding)
    }
}

pub struct Sub;
impl Function for Sub {
    #[inline(always)]
    fn single(m: Modifiers, a: f32, b: f32, _: f32) -> f32 {
        float::add(a, -b, m.rounding)
    }
    fn double(rounding: Rounding, a: f64, b: f64, _: f64) -> f64 {
        double::add(a, -b, rounding)
    }
}

pub struct Mul;
impl Function for Mul {
    #[inline(always)]
    fn single(m: Modifiers, a: f32, b: f32, _: f32) -> f32 {
        float::multiply(a, b, m.rounding)
    }
    fn double(rounding: Rounding, a: f64, b: f64, _: f64) -> f64 {
        double::multiply(a, b, rounding)
    }
}

pub struct Fma;
impl Function for Fma {
    #[inline(always)]
    fn single(m: Modifiers, a: f32, b: f32, c: f32) -> f32 {
        float::fused_multiply_add(a, b, c, m.rounding)
    }
    fn double(rounding: Rounding, a: f64, b: f64, c: f64) -> f64 {
        double::fused_multiply_add(a, b, c, rounding)
    }
}

pub struct Div;
impl Function for Div {
    #[inline(always)]
    fn single(m: Modifiers, a: f32, b: f32, _: f32) -> f32 {
        float::divide(a, b, m.rounding)
    }
    fn double(rounding: Rounding, a: f64, b: f64, _: f64) -> f64 {
        double::divide(a, b, rounding)
    }
}

pub struct Rcp;
impl Function for Rcp {
    #[inline(always)]
    fn single(m: Modifiers, a: f32, _: f32, _: f32) -> f32 {
        float::divide(1.0, a, m.rounding)
    }
    fn double(rounding: Rounding, a: f64, _: f64, _: f64) -> f64 {
        double::divide(1.0, a, rounding)
    }
}

pub struct Sqrt;
impl Function for Sqrt {
    #[inline(always)]
    fn single(m: Modifiers, a: f32, _: f32, _: f32) -> f32 {
        float::square_root(a, m.rounding)
    }
    fn double(rounding: Rounding, a: f64, _: f64, _: f64) -> f64 {
        double::square_root(a, rounding)
    }
}
