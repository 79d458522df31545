//! PTX ISA, "Data Movement and Conversion Instructions: cvt" and "cvt.pack": every pair of types with
//! every rounding and modifier, by exact numbers.

use num_bigint::BigInt;
use ptxsim::arith::formats::Rounding;

use crate::exact::{BF16, DIRECTED, E4M3, E5M2, Exact, F16, F32, F64, Spec, TF32, Value};
use crate::float::{MODES, floats, flush, is_nan, saturate, width as bits};
use crate::harness::{Cases, agrees, equals, integers};
use crate::integer::{number, width};

pub const TESTS: crate::Tests = &[
    ("between_integers", between_integers),
    ("from_integers", from_integers),
    ("to_integers", to_integers),
    ("between_floats", between_floats),
    ("to_whole_numbers", to_whole_numbers),
    ("with_relu_and_satfinite", with_relu_and_satfinite),
    ("pairs", pairs),
    ("eight_bits", eight_bits),
    ("tensor_float", tensor_float),
    ("packs", packs),
];

const INTEGERS: [&str; 8] = ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"];
const FLOATS: [(&str, Spec); 4] = [("f16", F16), ("bf16", BF16), ("f32", F32), ("f64", F64)];

/// Smallest and largest number of an integer type.
fn range(ty: &str) -> (i128, i128) {
    let w = width(ty);
    if ty.starts_with('s') { (-1 << (w - 1), (1 << (w - 1)) - 1) } else { (0, (1 << w) - 1) }
}

/// Registers may be wider than the type: results are extended by the result's sign.
fn between_integers() {
    for to in INTEGERS {
        for from in INTEGERS {
            for sat in [false, true] {
                for wider in [false, true] {
                    let register = |ty: &str| if wider { 64 } else { width(ty).max(16) };
                    let text = format!("cvt{}.{to}.{from}", if sat { ".sat" } else { "" });
                    equals(&text, &integers([register(from)]), [register(to)], |[a]| {
                        let (least, most) = range(to);
                        let exact = number(from, a);
                        let clamped = if sat { exact.clamp(least, most) } else { exact };
                        [number(to, clamped as u64) as u64]
                    });
                }
            }
        }
    }
}

/// From registers of the type's width, and from wider ones whose other bits do not count.
fn from_integers() {
    for from in INTEGERS {
        let cases = [width(from).max(16), 64].map(|w| integers([w]));
        for (to, spec) in FLOATS {
            for (name, mode) in MODES.into_iter().zip(DIRECTED) {
                let exact = |a| spec.round_ieee(&Exact::new(number(from, a), 0), false, mode);
                for cases in &cases {
                    let text = format!("cvt.{name}.{to}.{from}");
                    equals(&text, cases, [bits(spec)], |[a]| [exact(a)]);
                }
                let text = format!("cvt.{name}.sat.{to}.{from}");
                equals(&text, &cases[0], [bits(spec)], |[a]| [saturate(spec, exact(a))]);
            }
        }
    }
}

/// A finite number rounded to a whole one.
fn whole(value: &Exact, mode: Rounding) -> BigInt {
    let magnitude = BigInt::from(value.in_units(0, mode));
    if value.is_negative() { -magnitude } else { magnitude }
}

fn to_integers() {
    const WHOLE: [&str; 4] = ["rni", "rzi", "rmi", "rpi"];
    for (from, spec) in FLOATS {
        // Numbers around the ends of all integer types, and halves between small ones.
        let mut cases = floats::<1>(spec);
        let exponents = [-2, -1, 0, 1, 6, 7, 8, 14, 15, 16, 30, 31, 32, 62, 63, 64];
        for e in exponents.into_iter().filter(|&e| e <= spec.bias()) {
            let code = ((e + spec.bias()) as u64) << spec.mantissa_bits;
            for code in [code - 1, code, code + 1, code + (1 << (spec.mantissa_bits - 1))] {
                cases.values.extend([[code], [code | spec.sign()]]);
            }
        }
        for to in INTEGERS {
            let (least, most) = range(to);
            let register = width(to).max(16);
            for (name, mode) in WHOLE.into_iter().zip(DIRECTED) {
                let convert = |a: u64| {
                    let clamped = match spec.value(a) {
                        Value::Nan if from == "f64" || width(to) == 64 => 1 << (width(to) - 1),
                        Value::Nan => 0,
                        Value::Infinity { negative } => {
                            if negative {
                                least
                            } else {
                                most
                            }
                        }
                        Value::Finite { value, .. } => whole(&value, mode)
                            .clamp(least.into(), most.into())
                            .try_into()
                            .expect("it was clamped"),
                    };
                    number(to, clamped as u64) as u64
                };
                let text = format!("cvt.{name}.{to}.{from}");
                equals(&text, &cases, [register], |[a]| [convert(a)]);
                if name == "rzi" {
                    equals(&text, &cases, [64], |[a]| [convert(a)]);
                }
                if from == "f32" {
                    let text = format!("cvt.{name}.ftz.{to}.{from}");
                    equals(&text, &cases, [register], |[a]| [convert(flush(F32, a))]);
                }
            }
        }
    }
}

/// From one format to another, as IEEE 754 has it.
fn convert(from: Spec, to: Spec, a: u64, mode: Rounding) -> u64 {
    let sign = |negative| if negative { to.sign() } else { 0 };
    match from.value(a) {
        Value::Nan => to.sign() - 1,
        Value::Infinity { negative } => sign(negative) | to.limit(),
        Value::Finite { negative, value } => to.round_ieee(&value, negative, mode),
    }
}

/// Operands in one format: its own edges, and numbers between those of another.
fn between(from: Spec, to: Spec) -> Cases<1> {
    let mut cases = floats::<1>(from);
    if to.mantissa_bits < from.mantissa_bits {
        for [code] in floats::<1>(to).values {
            let near = convert(to, from, code, Rounding::NearestEven);
            let half = 1 << (from.mantissa_bits - to.mantissa_bits - 1);
            cases.values.extend([[near], [near ^ half], [near ^ (half - 1)], [near ^ (half + 1)]]);
        }
    }
    cases
}

/// As the one answer, but for NaN in f32 and f64, of which the ISA says no payload.
fn same_but_nan(text: &str, cases: &Cases<1>, to: Spec, f: impl Fn(u64) -> u64) {
    if to.mantissa_bits < 23 {
        return equals(text, cases, [bits(to)], |[a]| [f(a)]);
    }
    agrees(text, cases, [bits(to)], |[a], [got]| {
        let wanted = f(a);
        let same = got == wanted || is_nan(to, got) && is_nan(to, wanted);
        (!same).then(|| format!("expected {wanted:#x}"))
    });
}

fn between_floats() {
    for (from_name, from) in FLOATS {
        for (to_name, to) in FLOATS {
            let cases = between(from, to);
            let exact =
                to.mantissa_bits >= from.mantissa_bits && to.exponent_bits >= from.exponent_bits;
            if exact {
                let nearest = |a| convert(from, to, a, Rounding::NearestEven);
                let text = format!("{to_name}.{from_name}");
                same_but_nan(&format!("cvt.{text}"), &cases, to, nearest);
                same_but_nan(&format!("cvt.sat.{text}"), &cases, to, |a| saturate(to, nearest(a)));
                if from_name == "f32" {
                    let flushed = |a| convert(from, to, flush(from, a), Rounding::NearestEven);
                    same_but_nan(&format!("cvt.ftz.{text}"), &cases, to, flushed);
                }
                continue;
            }
            for (name, mode) in MODES.into_iter().zip(DIRECTED) {
                let text = |modifiers: &str| format!("cvt.{name}{modifiers}.{to_name}.{from_name}");
                let rounded = |a| convert(from, to, a, mode);
                same_but_nan(&text(""), &cases, to, rounded);
                same_but_nan(&text(".sat"), &cases, to, |a| saturate(to, rounded(a)));
                if from_name == "f32" || to_name == "f32" {
                    same_but_nan(&text(".ftz"), &cases, to, |a| {
                        let a = if from_name == "f32" { flush(from, a) } else { a };
                        let result = convert(from, to, a, mode);
                        if to_name == "f32" { flush(to, result) } else { result }
                    });
                }
            }
        }
    }
}

fn to_whole_numbers() {
    for (ty, spec) in FLOATS {
        let cases = floats::<1>(spec);
        for (name, mode) in ["rni", "rzi", "rmi", "rpi"].into_iter().zip(DIRECTED) {
            let round = |a| match spec.value(a) {
                Value::Finite { negative, value } => {
                    // The sign stays when nothing else does.
                    let n = Exact::new(whole(&value, mode), 0);
                    spec.round_ieee(&n, negative, Rounding::NearestEven)
                }
                _ => convert(spec, spec, a, mode),
            };
            same_but_nan(&format!("cvt.{name}.{ty}.{ty}"), &cases, spec, round);
            let text = format!("cvt.{name}.sat.{ty}.{ty}");
            same_but_nan(&text, &cases, spec, |a| saturate(spec, round(a)));
            if ty == "f32" {
                let text = format!("cvt.{name}.ftz.f32.f32");
                same_but_nan(&text, &cases, spec, |a| round(flush(spec, a)));
            }
        }
    }
}

/// `.satfinite`: what is beyond the largest number becomes it; `.relu`: what is negative becomes 0.
fn narrowed(from: Spec, to: Spec, a: u64, mode: Rounding, relu: bool, finite: bool) -> u64 {
    if is_nan(from, a) && !from.finite_only
        || from.finite_only && a & (from.sign() - 1) == from.limit()
    {
        return to.sign() - 1;
    }
    let sign = if a & from.sign() == 0 { 0 } else { to.sign() };
    let result = match from.value(a) {
        Value::Finite { negative, value } => {
            let rounded = to.round(&value, negative, mode);
            match rounded.overflow {
                false => rounded.bits,
                true if finite => sign | (to.limit() - 1),
                true => to.round_ieee(&value, negative, mode),
            }
        }
        _ if finite => sign | (to.limit() - 1),
        _ => sign | to.limit(),
    };
    if relu && result & to.sign() != 0 { 0 } else { result }
}

/// Modifiers in their order, with what they say: `.relu` and `.satfinite`.
const NARROWING: [(&str, bool, bool); 4] = [
    ("", false, false),
    (".relu", true, false),
    (".satfinite", false, true),
    (".relu.satfinite", true, true),
];

fn with_relu_and_satfinite() {
    for (ty, spec) in [("f16", F16), ("bf16", BF16)] {
        let cases = between(F32, spec);
        for (name, mode) in [("rn", Rounding::NearestEven), ("rz", Rounding::Zero)] {
            for (modifiers, relu, finite) in NARROWING {
                equals(&format!("cvt.{name}{modifiers}.{ty}.f32"), &cases, [16], |[a]| {
                    [narrowed(F32, spec, a, mode, relu, finite)]
                });
            }
        }
    }
}

/// Two operands, from one list.
fn twice(cases: Cases<1>) -> Cases<2> {
    let n = cases.values.len();
    let w = cases.widths[0];
    let second = |i: usize| cases.values[(i * 7 + 3) % n][0];
    let values = (0..n).map(|i| [cases.values[i][0], second(i)]).collect();
    Cases::new([w, w], values)
}

/// The first operand is the upper half.
fn pairs() {
    for (ty, spec) in [("f16x2", F16), ("bf16x2", BF16)] {
        let cases = twice(between(F32, spec));
        for (name, mode) in [("rn", Rounding::NearestEven), ("rz", Rounding::Zero)] {
            for (modifiers, relu, finite) in NARROWING {
                equals(&format!("cvt.{name}{modifiers}.{ty}.f32"), &cases, [32], |operands| {
                    let [a, b] = operands.map(|x| narrowed(F32, spec, x, mode, relu, finite));
                    [a << 16 | b]
                });
            }
        }
    }
}

fn eight_bits() {
    let nearest = Rounding::NearestEven;
    for (ty, spec) in [("e4m3x2", E4M3), ("e5m2x2", E5M2)] {
        let singles = twice(between(F32, spec));
        let halves = twice(between(F16, spec)).values.iter().map(|[a, b]| [a << 16 | b]).collect();
        let halves = Cases::new([32], halves);
        let all = Cases::new([16], (0..1 << 16).step_by(11).map(|x| [x]).collect());
        for (modifiers, relu) in [("", false), (".relu", true)] {
            let text = format!("cvt.rn.satfinite{modifiers}.{ty}.f32");
            equals(&text, &singles, [16], |operands| {
                let [a, b] = operands.map(|x| narrowed(F32, spec, x, nearest, relu, true));
                [a << 8 | b]
            });
            let text = format!("cvt.rn.satfinite{modifiers}.{ty}.f16x2");
            equals(&text, &halves, [16], |[pair]| {
                let [a, b] = [pair >> 16, pair & 0xFFFF]
                    .map(|x| narrowed(F16, spec, x, nearest, relu, true));
                [a << 8 | b]
            });
            equals(&format!("cvt.rn{modifiers}.f16x2.{ty}"), &all, [32], |[pair]| {
                let [a, b] =
                    [pair >> 8, pair & 0xFF].map(|x| narrowed(spec, F16, x, nearest, relu, false));
                [a << 16 | b]
            });
        }
    }
}

/// The low 13 bits of the register are no part of the number.
fn tensor_float() {
    let cases = between(F32, TF32);
    let modes =
        [("rna", Rounding::NearestAway), ("rn", Rounding::NearestEven), ("rz", Rounding::Zero)];
    for (name, mode) in modes {
        for (modifiers, relu, finite) in NARROWING {
            if name == "rna" && relu {
                continue;
            }
            let text = format!("cvt.{name}{modifiers}.tf32.f32");
            agrees(&text, &cases, [32], |[a], [got]| {
                let wanted = narrowed(F32, TF32, a, mode, relu, finite);
                (got >> 13 != wanted).then(|| format!("expected {:#x}", wanted << 13))
            });
        }
    }
}

fn packs() {
    for ty in ["u16", "s16", "u8", "s8", "u4", "s4", "u2", "s2"] {
        let (least, most) = range(ty);
        let w = width(ty);
        let part = |x: u64| number("s32", x).clamp(least, most) as u64 & ((1 << w) - 1);
        if w == 16 {
            equals(&format!("cvt.pack.sat.{ty}.s32"), &integers([32; 2]), [32], |[a, b]| {
                [part(a) << w | part(b)]
            });
        } else {
            let text = format!("cvt.pack.sat.{ty}.s32.b32");
            equals(&text, &integers([32; 3]), [32], |[a, b, c]| {
                [c << (2 * w) | part(a) << w | part(b)]
            });
        }
    }
}
