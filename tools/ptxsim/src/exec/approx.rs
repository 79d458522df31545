//! Approximate functions of f32, correctly rounded: what the hardware does lies within a documented
//! distance of that.

use super::lanes::lanewise;
use crate::arith::approx;
use crate::arith::formats::flush;

lanewise! {
    Ex2(a: f32) -> f32 = approx::ex2(a);
    Ex2Flush(a: f32) -> f32 = flush(approx::ex2(flush(a)));
    Lg2(a: f32) -> f32 = approx::lg2(a);
    Lg2Flush(a: f32) -> f32 = approx::lg2(flush(a));
    Rcp(a: f32) -> f32 = approx::rcp(a);
    RcpFlush(a: f32) -> f32 = flush(approx::rcp(flush(a)));
    Sqrt(a: f32) -> f32 = approx::sqrt(a);
    SqrtFlush(a: f32) -> f32 = approx::sqrt(flush(a));
    Rsqrt(a: f32) -> f32 = approx::rsqrt(a);
    RsqrtFlush(a: f32) -> f32 = approx::rsqrt(flush(a));
    Sin(a: f32) -> f32 = approx::sin(a);
    SinFlush(a: f32) -> f32 = flush(approx::sin(flush(a)));
    Cos(a: f32) -> f32 = approx::cos(a);
    CosFlush(a: f32) -> f32 = approx::cos(flush(a));
    Tanh(a: f32) -> f32 = approx::tanh(a);
    Divide(a: f32, b: f32) -> f32 = approx::divide(a, b);
    DivideFlush(a: f32, b: f32) -> f32 = flush(approx::divide(flush(a), flush(b)));
    DivideFull(a: f32, b: f32) -> f32 = approx::divide_full(a, b);
    DivideFullFlush(a: f32, b: f32) -> f32 = flush(approx::divide_full(flush(a), flush(b)));
}
