//! f32 and f64 arithmetic that the host has: round to nearest, with and without subnormals.

use super::lanes::lanewise;
use crate::arith::formats::{canonical, flush, saturate};

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
    MinNanF32(a: f32, b: f32) -> f32 = if a.is_nan() || b.is_nan() { canonical(f32::NAN) } else { least(a, b) };
    MaxNanF32(a: f32, b: f32) -> f32 = if a.is_nan() || b.is_nan() { canonical(f32::NAN) } else { most(a, b) };
    SaturateF32(a: f32) -> f32 = saturate(a);
    CopySignF32(a: f32, b: f32) -> f32 = b.copysign(a);

    AddF64(a: f64, b: f64) -> f64 = a + b;
    SubF64(a: f64, b: f64) -> f64 = a - b;
    MulF64(a: f64, b: f64) -> f64 = a * b;
    FmaF64(a: f64, b: f64, c: f64) -> f64 = a.mul_add(b, c);
    DivF64(a: f64, b: f64) -> f64 = a / b;
    SqrtF64(a: f64) -> f64 = a.sqrt();
    RcpF64(a: f64) -> f64 = 1.0 / a;
    AbsF64(a: f64) -> f64 = a.abs();
    NegF64(a: f64) -> f64 = -a;
    MinF64(a: f64, b: f64) -> f64 = a.min(b);
    MaxF64(a: f64, b: f64) -> f64 = a.max(b);
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
