//! `.approx` and `.full`: within the error that the ISA documents, against f64 functions that are right
//! to its last places; and the ISA's tables of special operands, bit for bit.

use crate::exact::{BF16, F16, F32, F64, Spec};
use crate::float::{floats, flush, is_nan, width};
use crate::half::{TYPES, halves};
use crate::harness::{Cases, agrees};

pub const TESTS: crate::Tests = &[
    ("reciprocals_and_roots", reciprocals_and_roots),
    ("exponentials", exponentials),
    ("circular", circular),
    ("quotients", quotients),
    ("half_precision", half_precision),
    ("f64", f64_approximations),
];

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

/// The value of a code of at most 32 bits.
fn value(spec: Spec, code: u64) -> f64 {
    if is_nan(spec, code) {
        return NAN;
    }
    let sign = if code & spec.sign() == 0 { 1.0 } else { -1.0 };
    let magnitude = code & (spec.sign() - 1);
    if magnitude == spec.limit() {
        return sign * INF;
    }
    let field = (magnitude >> spec.mantissa_bits) as i32;
    let hidden = if field == 0 { 0 } else { 1 << spec.mantissa_bits };
    let mantissa = (magnitude & ((1 << spec.mantissa_bits) - 1)) | hidden;
    sign * mantissa as f64 * 2f64.powi(spec.smallest() + field.max(1) - 1)
}

/// An ulp of f32 at a value.
fn ulp(exact: f64) -> f64 {
    2f64.powi((exact.abs().log2().floor() as i32).max(-126) - 23)
}

/// Whether a result is right: a special value to the sign of zero, anything else within the error.
fn fault(got: f64, exact: f64, error: f64, flushes: bool) -> Option<String> {
    let largest = f64::from(f32::MAX);
    let right = if exact.is_nan() {
        got.is_nan()
    } else if exact == 0.0 || exact.is_infinite() {
        got == exact && got.is_sign_negative() == exact.is_sign_negative()
    } else if got.is_infinite() {
        exact.abs() + error > largest && (got > 0.0) == (exact > 0.0)
    } else {
        let flushed = flushes && got == 0.0 && exact.abs() < 2f64.powi(-126) + error;
        (got - exact).abs() <= error || flushed
    };
    (!right).then(|| format!("it is {got:e}, expected {exact:e} within {error:e}"))
}

/// A function of one f32, with and without `.ftz`: what it is, and the error allowed of it.
fn single(opcode: &str, f: impl Fn(f64) -> f64, error: impl Fn(f64, f64) -> f64) {
    for ftz in [false, true] {
        if ftz && opcode.starts_with("tanh") {
            continue;
        }
        let text = format!("{opcode}{}.f32", if ftz { ".ftz" } else { "" });
        agrees(&text, &floats::<1>(F32), [32], |[a], [got]| {
            let x = value(F32, if ftz { flush(F32, a) } else { a });
            let exact = f(x);
            fault(value(F32, got), exact, error(x, exact), ftz)
        });
    }
}

fn reciprocals_and_roots() {
    // Tables: of −0 the reciprocals are −inf, and the root −0; of what is negative there is no root.
    single("rcp.approx", |x| 1.0 / x, |_, exact| ulp(exact));
    single("sqrt.approx", f64::sqrt, |_, exact| exact * 2f64.powi(-23));
    single("rsqrt.approx", |x| 1.0 / x.sqrt(), |_, exact| exact * 2f64.powf(-22.9));
}

fn exponentials() {
    single("ex2.approx", f64::exp2, |_, exact| 2.0 * ulp(exact));
    single("lg2.approx", f64::log2, |x, exact| {
        2f64.powi(-22) * if x > 0.5 && x < 2.0 { 1.0 } else { exact.abs() }
    });
    single("tanh.approx", f64::tanh, |_, exact| exact.abs() * 2f64.powi(-11));
}

/// Far from zero no error is documented: there it is a sine at all.
fn circular() {
    use std::f64::consts::PI;
    let error = |x: f64, _: f64| match x.abs() {
        x if x <= 2.0 * PI => 2f64.powf(-20.5),
        x if x <= 100.0 * PI => 2f64.powf(-14.7),
        _ => 2.0,
    };
    single("sin.approx", |x| if x == 0.0 { x } else { x.sin() }, error);
    single("cos.approx", f64::cos, error);
}

fn quotients() {
    for ftz in [false, true] {
        for opcode in ["div.approx", "div.full"] {
            let text = format!("{opcode}{}.f32", if ftz { ".ftz" } else { "" });
            agrees(&text, &floats::<2>(F32), [32], |operands, [got]| {
                let [a, b] = operands.map(|x| value(F32, if ftz { flush(F32, x) } else { x }));
                // "For 2^126 < |b| < 2^128, if a is infinity, NaN, otherwise 0."
                let huge = opcode == "div.approx" && b.is_finite() && b.abs() > 2f64.powi(126);
                let exact = match huge {
                    true if a.is_infinite() => NAN,
                    true => a * 0f64.copysign(b),
                    false => a / b,
                };
                // Below 2^-126 div.approx promises nothing of its size.
                let tiny = opcode == "div.approx" && b.abs() < 2f64.powi(-126) && b != 0.0;
                if tiny && a != 0.0 && a.is_finite() {
                    return (value(F32, got).is_sign_negative() != exact.is_sign_negative())
                        .then(|| "of the wrong sign".into());
                }
                fault(value(F32, got), exact, 2.0 * ulp(exact), ftz)
            });
        }
    }
}

fn half_precision() {
    for (ty, spec, pair) in TYPES {
        let ieee = spec.mantissa_bits == F16.mantissa_bits;
        let check = |opcode: &str, f: fn(f64) -> f64, flushes: bool, error: &dyn Fn(f64) -> f64| {
            let cases: Cases<1> = halves(spec, pair);
            agrees(&format!("{opcode}.{ty}"), &cases, [cases.widths[0]], |[a], [got]| {
                let parts = if pair { &[0, 16][..] } else { &[0] };
                parts.iter().find_map(|at| {
                    let x = a >> at & 0xFFFF;
                    let exact = f(value(spec, if flushes { flush(spec, x) } else { x }));
                    // Half a unit at least, where a result is subnormal or beyond the largest.
                    let least = 2f64.powi(spec.smallest());
                    let largest = value(spec, spec.limit() - 1);
                    let got = value(spec, got >> at & 0xFFFF);
                    if exact.is_finite() && exact > largest && got == INF {
                        return None;
                    }
                    let smallest = 2f64.powi(1 - spec.bias());
                    if flushes && got == 0.0 && exact < smallest {
                        return None;
                    }
                    if exact != 0.0 && exact.is_finite() {
                        let near = (got - exact).abs() <= error(exact).max(least);
                        return (!near).then(|| format!("it is {got:e}, expected {exact:e}"));
                    }
                    fault(got, exact, 0.0, false)
                })
            });
        };
        if ieee {
            check("ex2.approx", f64::exp2, false, &|exact| exact * 2f64.powf(-9.9));
            check("tanh.approx", f64::tanh, false, &|_| 2f64.powf(-10.987));
        } else {
            check("ex2.approx.ftz", f64::exp2, true, &|exact| exact * 2f64.powi(-7));
            check("tanh.approx", f64::tanh, false, &|_| 2f64.powi(-8));
        }
    }
    assert_eq!(value(BF16, 0x3F80), 1.0);
}

/// `.ftz` looks at the upper words alone: 20 bits of mantissa, with an error of each of the two in the
/// last; without it no bound is documented, and a good one is asked for.
fn f64_approximations() {
    type Function = fn(f64) -> f64;
    let forms: [(&str, Function, bool); 3] = [
        ("rcp.approx.ftz.f64", |x| 1.0 / x, true),
        ("rsqrt.approx.ftz.f64", |x| 1.0 / x.sqrt(), true),
        ("rsqrt.approx.f64", |x| 1.0 / x.sqrt(), false),
    ];
    for (text, f, ftz) in forms {
        agrees(text, &floats::<1>(F64), [width(F64)], |[a], [got]| {
            // "Ignore the least-significant 32 bits of a."
            let exact = f(f64::from_bits(if ftz { flush(F64, a >> 32 << 32) } else { a }));
            if ftz && got & 0xFFFF_FFFF != 0 && !f64::from_bits(got).is_nan() {
                return Some("a result has a lower word".into());
            }
            let got = f64::from_bits(got);
            if ftz && exact.abs() < f64::MIN_POSITIVE && exact != 0.0 {
                return (got != 0.0).then(|| "a subnormal result".into());
            }
            let error = exact.abs() * 2f64.powi(if ftz { -19 } else { -50 });
            let right = if exact.is_nan() {
                got.is_nan()
            } else if exact.is_infinite() || exact == 0.0 {
                got == exact && got.is_sign_negative() == exact.is_sign_negative()
            } else {
                (got - exact).abs() <= error
            };
            (!right).then(|| format!("it is {got:e}, expected {exact:e}"))
        });
    }
}
