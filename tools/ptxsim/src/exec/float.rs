//! f32 and f64 arithmetic that the host has: round to nearest, with and without subnormals.

use super::lanes::{LANES, Operation, lanewise, load, store, store_bits};
use super::modifiers::Modifiers;
use super::op::{Ctx, Op};
use crate::arith::double;
use crate::arith::formats::{canonical, flush};

lanewise! {
    AddF32(a: f32, b: f32) -> f32 = canonical(a + b);
    AddFlushF32(a: f32, b: f32) -> f32 = canonical(flush(flush(a) + flush(b)));
    SubF32(a: f32, b: f32) -> f32 = canonical(a - b);
    SubFlushF32(a: f32, b: f32) -> f32 = canonical(flush(flush(a) - flush(b)));
    MulF32(a: f32, b: f32) -> f32 = canonical(a * b);
    MulFlushF32(a: f32, b: f32) -> f32 = canonical(flush(flush(a) * flush(b)));
    FmaF32(a: f32, b: f32, c: f32) -> f32 = canonical(a.mul_add(b, c));
    FmaFlushF32(a: f32, b: f32, c: f32) -> f32 = canonical(flush(flush(a).mul_add(flush(b), flush(c))));
    DivF32(a: f32, b: f32) -> f32 = canonical(a / b);
    DivFlushF32(a: f32, b: f32) -> f32 = canonical(flush(flush(a) / flush(b)));
    SqrtF32(a: f32) -> f32 = canonical(a.sqrt());
    SqrtFlushF32(a: f32) -> f32 = canonical(flush(flush(a).sqrt()));
    RcpF32(a: f32) -> f32 = canonical(1.0 / a);
    RcpFlushF32(a: f32) -> f32 = canonical(flush(1.0 / flush(a)));
    AbsF32(a: f32) -> f32 = a.abs();
    AbsFlushF32(a: f32) -> f32 = flush(a.abs());
    NegF32(a: f32) -> f32 = -a;
    NegFlushF32(a: f32) -> f32 = flush(-a);
    MinF32(a: f32, b: f32) -> f32 = least(a, b);
    MinFlushF32(a: f32, b: f32) -> f32 = least(flush(a), flush(b));
    MaxF32(a: f32, b: f32) -> f32 = most(a, b);
    MaxFlushF32(a: f32, b: f32) -> f32 = most(flush(a), flush(b));
    CopySignF32(a: f32, b: f32) -> f32 = b.copysign(a);

    AddF64(a: f64, b: f64) -> f64 = double::canonical(a + b);
    SubF64(a: f64, b: f64) -> f64 = double::canonical(a - b);
    MulF64(a: f64, b: f64) -> f64 = double::canonical(a * b);
    FmaF64(a: f64, b: f64, c: f64) -> f64 = double::canonical(a.mul_add(b, c));
    DivF64(a: f64, b: f64) -> f64 = double::canonical(a / b);
    SqrtF64(a: f64) -> f64 = double::canonical(a.sqrt());
    RcpF64(a: f64) -> f64 = double::canonical(1.0 / a);
    AbsF64(a: f64) -> f64 = a.abs();
    NegF64(a: f64) -> f64 = -a;
    MinF64(a: f64, b: f64) -> f64 = least_double(a, b);
    MaxF64(a: f64, b: f64) -> f64 = -least_double(-a, -b);
    CopySignF64(a: f64, b: f64) -> f64 = b.copysign(a);
}

/// The smaller; of a number and NaN the number; −0 below 0.
#[inline(always)]
fn least(a: f32, b: f32) -> f32 {
    let smaller = if a < b || (a == b && a.is_sign_negative()) { a } else { b };
    if b.is_nan() {
        canonical(a)
    } else if a.is_nan() {
        b
    } else {
        smaller
    }
}

/// As [`least`], of f64.
#[inline(always)]
fn least_double(a: f64, b: f64) -> f64 {
    let smaller = if a < b || (a == b && a.is_sign_negative()) { a } else { b };
    if b.is_nan() {
        double::canonical(a)
    } else if a.is_nan() {
        b
    } else {
        smaller
    }
}

/// The larger, likewise.
#[inline(always)]
fn most(a: f32, b: f32) -> f32 {
    let larger = if a > b || (a == b && b.is_sign_negative()) { a } else { b };
    if b.is_nan() {
        canonical(a)
    } else if a.is_nan() {
        b
    } else {
        larger
    }
}

/// `min` and `max` (`LARGER`) with the modifiers of `immediate`.
pub struct Choose<const LARGER: bool>;

impl<const LARGER: bool> Operation for Choose<LARGER> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let m = Modifiers::of(op);
            let [a, b] = [0, 1].map(|n| load::<f32>(ctx.registers, op.sources[n]));
            let mut result = [0.0; LANES];
            for i in 0..LANES {
                result[i] = m.choose_single(a[i], b[i], LARGER);
            }
            store(ctx.registers, op.result, mask, result);
        }
    }
}

/// `testp`: the property that `immediate` says, as a predicate.
pub struct TestProperty<T>(std::marker::PhantomData<T>);

/// In the order of `immediate`.
pub const PROPERTIES: [&str; 6] =
    ["finite", "infinite", "number", "notanumber", "normal", "subnormal"];

impl<T: Float> Operation for TestProperty<T> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let a = load::<T>(ctx.registers, op.sources[0]);
            let mut bits = 0;
            for i in 0..LANES {
                let class = a[i].class();
                use std::num::FpCategory::*;
                let holds = match op.immediate {
                    0 => !matches!(class, Infinite | Nan),
                    1 => class == Infinite,
                    2 => class != Nan,
                    3 => class == Nan,
                    // The ISA counts zero among them.
                    4 => matches!(class, Normal | Zero),
                    _ => class == Subnormal,
                };
                bits |= u32::from(holds) << i;
            }
            store_bits(ctx.registers, op.result, mask, bits);
        }
    }
}

/// f32 and f64.
pub trait Float: Copy {
    fn class(self) -> std::num::FpCategory;
}

impl Float for f32 {
    fn class(self) -> std::num::FpCategory {
        self.classify()
    }
}

impl Float for f64 {
    fn class(self) -> std::num::FpCategory {
        self.classify()
    }
}
