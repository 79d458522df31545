//! `.approx` and `.full`: functions that the ISA documents by their error, correctly rounded here.

use std::marker::PhantomData;

use super::lanes::{LANES, Operation, lanewise, load, store};
use super::modifiers::Modifiers;
use super::op::{Ctx, Op};
use crate::arith::approx;
use crate::arith::double::canonical;

/// What an instruction approximates.
pub trait Function {
    fn value(a: f32, b: f32) -> f32;
}

/// In f32, with `.ftz` where `immediate` says so.
pub struct Approximate<O>(PhantomData<O>);

impl<O: Function> Operation for Approximate<O> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let m = Modifiers::of(op);
            let [a, b] =
                [0, 1].map(|n| load::<f32>(ctx.registers, op.sources[n]).map(|x| m.seen(x)));
            let mut result = [0.0; LANES];
            for i in 0..LANES {
                result[i] = m.finish(O::value(a[i], b[i]));
            }
            store(ctx.registers, op.result, mask, result);
        }
    }
}

macro_rules! functions {
    ($($name:ident($a:ident, $b:ident) = $value:expr;)+) => {$(
        pub struct $name;
        impl Function for $name {
            #[inline(always)]
            fn value($a: f32, $b: f32) -> f32 {
                $value
            }
        }
    )+};
}

functions! {
    Ex2(a, _b) = approx::ex2(a);
    Lg2(a, _b) = approx::lg2(a);
    Sin(a, _b) = approx::sin(a);
    Cos(a, _b) = approx::cos(a);
    Tanh(a, _b) = approx::tanh(a);
    Rcp(a, _b) = approx::rcp(a);
    Sqrt(a, _b) = approx::sqrt(a);
    Rsqrt(a, _b) = approx::rsqrt(a);
    Divide(a, b) = approx::divide(a, b);
    DivideFull(a, b) = approx::divide_full(a, b);
}

lanewise! {
    RcpF64(a: f64) -> f64 = high(1.0 / upper(a));
    RsqrtFlushF64(a: f64) -> f64 = high(1.0 / upper(a).sqrt());
    RsqrtF64(a: f64) -> f64 = canonical(1.0 / a.sqrt());
}

/// The upper word of an operand, without subnormals: all that `.approx.ftz.f64` looks at.
#[inline(always)]
fn upper(value: f64) -> f64 {
    let bits = value.to_bits() >> 32 << 32;
    let normal = bits & f64::INFINITY.to_bits() != 0;
    f64::from_bits(if normal { bits } else { bits & 1 << 63 })
}

/// A result of which only the upper word is computed; subnormals become zero.
#[inline(always)]
fn high(value: f64) -> f64 {
    let bits = canonical(value).to_bits();
    let tie = bits >> 32 & 1;
    let magnitude = bits & (u64::MAX >> 1);
    // A carry into the exponent is right; infinity and NaN have no low bits.
    upper(f64::from_bits((magnitude + 0x7FFF_FFFF + tie) | bits & 1 << 63))
}
