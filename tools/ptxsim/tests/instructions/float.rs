//! PTX ISA, "Floating Point Instructions" in f32 and f64, by exact numbers.

use ptxsim::arith::formats::Rounding;

use crate::exact::{DIRECTED, F32, F64, Spec};
use crate::harness::{Cases, P, agrees, cross, equals};
use crate::ieee::{fused, quotient, root};
use crate::random::Random;

pub const TESTS: crate::Tests = &[
    ("sums_in_f32", sums_in_f32),
    ("products_in_f32", products_in_f32),
    ("quotients_and_roots_in_f32", quotients_and_roots_in_f32),
    ("f64_in_every_rounding", f64_in_every_rounding),
    ("minima_and_maxima", minima_and_maxima),
    ("signs", signs),
    ("properties", properties),
];

pub fn width(spec: Spec) -> u32 {
    1 + spec.exponent_bits + spec.mantissa_bits
}

/// Codes at the ends of every range, and beside one.
pub fn edges(spec: Spec) -> Vec<u64> {
    let (hidden, one) = (1 << spec.mantissa_bits, (spec.bias() as u64) << spec.mantissa_bits);
    let limit = spec.limit();
    let positive = [
        0,
        1,
        hidden - 1,
        hidden,
        hidden + 1,
        one - hidden,
        one - 1,
        one,
        one + 1,
        one + hidden,
        limit - 1,
        limit,
        limit + hidden / 2 + 1,
    ];
    let both = positive.iter().flat_map(|&code| [code, code | spec.sign()]);
    // A signalling NaN.
    both.chain([limit + 1]).filter(|code| code & (spec.sign() - 1) < spec.sign()).collect()
}

/// Edges against each other, then codes of all sorts, close exponents, and sums that cancel.
pub fn floats<const S: usize>(spec: Spec) -> Cases<S> {
    let mut random = Random(5 + S as u64);
    let edges = edges(spec);
    let values = cross([&edges[..]; S], || match random.below(3) {
        0 => [0; S].map(|_| random.code(spec)),
        1 => [0; S].map(|_| random.near_one(spec, 30)),
        _ => {
            let first = random.near_one(spec, 3);
            std::array::from_fn(|i| match i {
                0 => first,
                1 if S == 3 && random.below(2) == 0 => (spec.bias() as u64) << spec.mantissa_bits,
                1 if S == 3 => random.near_one(spec, 1),
                _ => first ^ spec.sign() ^ random.below(4),
            })
        }
    });
    Cases::new([width(spec); S], values)
}

pub fn is_nan(spec: Spec, code: u64) -> bool {
    code & (spec.sign() - 1) > spec.limit()
}

/// `.ftz`: a subnormal number is a zero of its sign.
pub fn flush(spec: Spec, code: u64) -> u64 {
    if code & (spec.sign() - 1) >> spec.mantissa_bits << spec.mantissa_bits == 0 {
        code & spec.sign()
    } else {
        code
    }
}

/// `.sat`: to 0…1, and NaN to +0.
pub fn saturate(spec: Spec, code: u64) -> u64 {
    let one = (spec.bias() as u64) << spec.mantissa_bits;
    if code & spec.sign() != 0 || is_nan(spec, code) { 0 } else { code.min(one) }
}

pub const MODES: [&str; 4] = ["rn", "rz", "rm", "rp"];

/// What an instruction computes of exact operands.
type Function<const S: usize> = fn(Spec, [u64; S], Rounding) -> u64;

fn negate(spec: Spec, code: u64) -> u64 {
    code ^ spec.sign()
}

fn one(spec: Spec) -> u64 {
    (spec.bias() as u64) << spec.mantissa_bits
}

pub fn add(spec: Spec, [a, b]: [u64; 2], mode: Rounding) -> u64 {
    fused(spec, spec.value(a), spec.value(one(spec)), Some(spec.value(b)), mode)
}

pub fn sub(spec: Spec, [a, b]: [u64; 2], mode: Rounding) -> u64 {
    add(spec, [a, negate(spec, b)], mode)
}

pub fn mul(spec: Spec, [a, b]: [u64; 2], mode: Rounding) -> u64 {
    fused(spec, spec.value(a), spec.value(b), None, mode)
}

pub fn fma(spec: Spec, [a, b, c]: [u64; 3], mode: Rounding) -> u64 {
    fused(spec, spec.value(a), spec.value(b), Some(spec.value(c)), mode)
}

fn div(spec: Spec, [a, b]: [u64; 2], mode: Rounding) -> u64 {
    quotient(spec, a, b, mode)
}

fn rcp(spec: Spec, [a]: [u64; 1], mode: Rounding) -> u64 {
    quotient(spec, one(spec), a, mode)
}

fn sqrt(spec: Spec, [a]: [u64; 1], mode: Rounding) -> u64 {
    root(spec, a, mode)
}

/// One instruction in f32 in all its roundings, with and without `.ftz` and, where it has it, `.sat`.
fn single<const S: usize>(opcode: &str, saturates: bool, plain: bool, f: Function<S>) {
    let cases = floats::<S>(F32);
    for (name, mode) in MODES.into_iter().zip(DIRECTED) {
        for ftz in [false, true] {
            for sat in [false, true] {
                if sat && !saturates {
                    continue;
                }
                let modifiers = [(ftz, ".ftz"), (sat, ".sat")];
                let rest: String = modifiers.iter().filter(|m| m.0).map(|m| m.1).collect();
                let expected = |operands: [u64; S]| {
                    let seen = operands.map(|x| if ftz { flush(F32, x) } else { x });
                    let exact = f(F32, seen, mode);
                    let flushed = if ftz { flush(F32, exact) } else { exact };
                    [if sat { saturate(F32, flushed) } else { flushed }]
                };
                equals(&format!("{opcode}.{name}{rest}.f32"), &cases, [32], expected);
                if plain && name == "rn" {
                    equals(&format!("{opcode}{rest}.f32"), &cases, [32], expected);
                }
            }
        }
    }
}

fn sums_in_f32() {
    single("add", true, true, add);
    single("sub", true, true, sub);
}

fn products_in_f32() {
    single("mul", true, true, mul);
    single("fma", true, false, fma);
    single("mad", true, false, fma);
}

fn quotients_and_roots_in_f32() {
    single("div", false, false, div);
    single("rcp", false, false, rcp);
    single("sqrt", false, false, sqrt);
}

/// The payload of a NaN is left open in f64.
fn double<const S: usize>(text: &str, cases: &Cases<S>, expected: impl Fn([u64; S]) -> u64) {
    let answers: std::collections::HashMap<[u64; S], u64> =
        cases.values.iter().map(|&case| (case, expected(case))).collect();
    agrees(text, cases, [64], |case, [got]| {
        let wanted = answers[&case];
        let same = got == wanted || is_nan(F64, got) && is_nan(F64, wanted);
        (!same).then(|| format!("expected {wanted:#x}"))
    });
}

fn f64_in_every_rounding() {
    fn all<const S: usize>(opcode: &str, plain: bool, f: Function<S>) {
        let cases = floats::<S>(F64);
        for (name, mode) in MODES.into_iter().zip(DIRECTED) {
            double(&format!("{opcode}.{name}.f64"), &cases, |operands| f(F64, operands, mode));
        }
        if plain {
            let mode = Rounding::NearestEven;
            double(&format!("{opcode}.f64"), &cases, |operands| f(F64, operands, mode));
        }
    }
    all("add", true, add);
    all("sub", true, sub);
    all("mul", true, mul);
    all("fma", false, fma);
    all("mad", false, fma);
    all("div", false, div);
    all("rcp", false, rcp);
    all("sqrt", false, sqrt);
}

/// Codes as numbers in the order of their values, −0 below +0.
fn place(spec: Spec, code: u64) -> i128 {
    let magnitude = i128::from(code & (spec.sign() - 1));
    if code & spec.sign() == 0 { magnitude } else { -1 - magnitude }
}

/// The smaller or larger: of a number and NaN the number, or with `.NaN` NaN; of NaNs NaN.
pub fn choose(spec: Spec, [a, b]: [u64; 2], larger: bool, nan: bool) -> u64 {
    match (is_nan(spec, a), is_nan(spec, b)) {
        (true, true) => spec.sign() - 1,
        (true, false) | (false, true) if nan => spec.sign() - 1,
        (true, false) => b,
        (false, true) => a,
        _ if (place(spec, a) > place(spec, b)) == larger => a,
        _ => b,
    }
}

fn minima_and_maxima() {
    let cases = floats::<2>(F32);
    for (opcode, larger) in [("min", false), ("max", true)] {
        for ftz in [false, true] {
            for nan in [false, true] {
                for xorsign in [false, true] {
                    let modifiers = [(ftz, ".ftz"), (nan, ".NaN"), (xorsign, ".xorsign.abs")];
                    let rest: String = modifiers.iter().filter(|m| m.0).map(|m| m.1).collect();
                    equals(&format!("{opcode}{rest}.f32"), &cases, [32], |operands| {
                        let seen = operands.map(|x| if ftz { flush(F32, x) } else { x });
                        if !xorsign {
                            return [choose(F32, seen, larger, nan)];
                        }
                        let sign = (operands[0] ^ operands[1]) & F32.sign();
                        let magnitude = choose(F32, seen.map(|x| x & !F32.sign()), larger, nan);
                        [if is_nan(F32, magnitude) { magnitude } else { magnitude | sign }]
                    });
                }
            }
        }
        double(&format!("{opcode}.f64"), &floats::<2>(F64), |operands| {
            choose(F64, operands, larger, false)
        });
    }
}

/// Of NaN only that it stays one is said.
fn signs() {
    for (ty, spec) in [("f32", F32), ("ftz.f32", F32), ("f64", F64)] {
        let w = width(spec);
        let seen = |x| if ty.starts_with("ftz") { flush(spec, x) } else { x };
        let check = |opcode: &str, f: &dyn Fn(u64) -> u64| {
            agrees(&format!("{opcode}.{ty}"), &floats::<1>(spec), [w], |[a], [got]| {
                let same = got == f(seen(a)) || is_nan(spec, a) && is_nan(spec, got);
                (!same).then(|| format!("expected {:#x}", f(seen(a))))
            });
        };
        check("abs", &|a| a & !spec.sign());
        check("neg", &|a| a ^ spec.sign());
    }
    for (ty, spec) in [("f32", F32), ("f64", F64)] {
        equals(&format!("copysign.{ty}"), &floats::<2>(spec), [width(spec)], |[a, b]| {
            [b & !spec.sign() | a & spec.sign()]
        });
    }
}

fn properties() {
    for (ty, spec) in [("f32", F32), ("f64", F64)] {
        let tests: [(&str, &dyn Fn(u64) -> bool); 6] = [
            ("finite", &|x| x < spec.limit()),
            ("infinite", &|x| x == spec.limit()),
            ("number", &|x| x <= spec.limit()),
            ("notanumber", &|x| x > spec.limit()),
            // "As a special case, positive and negative zero are considered normal numbers."
            ("normal", &|x| x == 0 || x >> spec.mantissa_bits != 0 && x < spec.limit()),
            ("subnormal", &|x| x != 0 && x >> spec.mantissa_bits == 0),
        ];
        for (name, holds) in tests {
            equals(&format!("testp.{name}.{ty}"), &floats::<1>(spec), [P], |[a]| {
                [holds(a & (spec.sign() - 1)).into()]
            });
        }
    }
}
