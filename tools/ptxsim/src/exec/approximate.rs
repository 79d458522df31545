//! `.approx` and `.full`: functions that the ISA documents by their error, correctly rounded here, or
//! moved within that error where the machine says so.

use std::marker::PhantomData;

use super::lanes::{LANES, Operation, lanewise, load, store};
use super::modifiers::Modifiers;
use super::op::{Ctx, Op};
use crate::arith::approx;
use crate::arith::approx::perturb::{self, perturb};
use crate::arith::double::canonical;
use crate::arith::formats::F32;

/// What an instruction approximates.
pub trait Function {
    const KIND: perturb::Function;
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
                result[i] = O::value(a[i], b[i]);
            }
            if let Some(seed) = ctx.machine.perturb {
                let two = O::KIND == perturb::Function::Divide;
                for i in 0..LANES {
                    let divisor = if two { b[i] } else { 1.0 };
                    let moved = perturb::<F32>(O::KIND, seed, a[i], divisor, result[i].to_bits());
                    result[i] = f32::from_bits(moved);
                }
            }
            let result = result.map(|x| m.finish(x));
            store(ctx.registers, op.result, mask, result);
        }
    }
}

macro_rules! functions {
    ($($name:ident: $kind:ident($a:ident, $b:ident) = $value:expr;)+) => {$(
        pub struct $name;
        impl Function for $name {
            const KIND: perturb::Function = perturb::Function::$kind;
            #[inline(always)]
            fn value($a: f32, $b: f32) -> f32 {
                $value
            }
        }
    )+};
}

functions! {
    Ex2: Ex2(a, _b) = approx::ex2(a);
    Lg2: Lg2(a, _b) = approx::lg2(a);
    Sin: Sin(a, _b) = approx::sin(a);
    Cos: Cos(a, _b) = approx::cos(a);
    Tanh: Tanh(a, _b) = approx::tanh(a);
    Rcp: Rcp(a, _b) = approx::rcp(a);
    Sqrt: Sqrt(a, _b) = approx::sqrt(a);
    Rsqrt: Rsqrt(a, _b) = approx::rsqrt(a);
    Divide: Divide(a, b) = approx::divide(a, b);
    DivideFull: Divide(a, b) = approx::divide_full(a, b);
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
