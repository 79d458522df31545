//! PTX ISA, "Half Precision Floating Point Instructions": f16, bf16 and pairs of them, by exact numbers.

use ptxsim::arith::formats::Rounding;

use crate::exact::{BF16, F16, Spec};
use crate::float::{add, choose, floats, flush, fma, is_nan, mul, saturate, sub};
use crate::harness::{Cases, agrees, equals};

pub const TESTS: crate::Tests = &[
    ("sums_and_products", sums_and_products),
    ("fused", fused),
    ("minima_and_maxima", minima_and_maxima),
    ("signs", signs),
];

/// Type, format, whether it is a pair.
pub const TYPES: [(&str, Spec, bool); 4] =
    [("f16", F16, false), ("f16x2", F16, true), ("bf16", BF16, false), ("bf16x2", BF16, true)];

/// Values of 16 bits, or pairs of which the upper ones are others' lower ones.
pub fn halves<const S: usize>(spec: Spec, pair: bool) -> Cases<S> {
    let mut cases = floats::<S>(spec);
    if pair {
        let n = cases.values.len();
        let above = |i: usize, s: usize| cases.values[(i + n / 3) % n][s];
        let values: Vec<[u64; S]> = (0..n)
            .map(|i| std::array::from_fn(|s| above(i, s) << 16 | cases.values[i][s]))
            .collect();
        cases = Cases::new([32; S], values);
    }
    cases
}

/// Each half by itself.
pub fn each<const S: usize>(pair: bool, operands: [u64; S], f: impl Fn([u64; S]) -> u64) -> u64 {
    let low = f(operands.map(|x| x & 0xFFFF));
    if pair { low | f(operands.map(|x| x >> 16)) << 16 } else { low }
}

fn form<const S: usize>(
    opcode: &str,
    modifiers: &[&str],
    (ty, spec, pair): (&str, Spec, bool),
    f: impl Fn([u64; S]) -> u64,
) {
    let ftz = modifiers.contains(&"ftz");
    let text = [&[opcode], modifiers, &[ty]].concat().join(".");
    equals(&text, &halves::<S>(spec, pair), [if pair { 32 } else { 16 }], |operands| {
        [each(pair, operands, |operands| {
            let seen = operands.map(|x| if ftz { flush(spec, x) } else { x });
            let exact = f(seen);
            let flushed = if ftz { flush(spec, exact) } else { exact };
            if modifiers.contains(&"sat") { saturate(spec, flushed) } else { flushed }
        })]
    });
}

fn sums_and_products() {
    for ty in TYPES {
        // .ftz and .sat are of f16 alone, and so is the choice to leave out .rn.
        let ieee = ty.1.mantissa_bits == F16.mantissa_bits;
        let all: &[&[&str]] = &[
            &["rn"],
            &[],
            &["ftz"],
            &["sat"],
            &["rn", "sat"],
            &["ftz", "sat"],
            &["rn", "ftz", "sat"],
        ];
        for modifiers in if ieee { all } else { &all[..2] } {
            let spec = ty.1;
            form("add", modifiers, ty, |x| add(spec, x, Rounding::NearestEven));
            form("sub", modifiers, ty, |x| sub(spec, x, Rounding::NearestEven));
            form("mul", modifiers, ty, |x| mul(spec, x, Rounding::NearestEven));
        }
    }
}

/// `.relu`: what is negative becomes 0; that of −0 the ISA says nothing, so its sign is free.
fn fused() {
    for ty @ (name, spec, pair) in TYPES {
        let ieee = spec.mantissa_bits == F16.mantissa_bits;
        let all: &[&[&str]] = &[&["rn"], &["rn", "ftz"], &["rn", "sat"], &["rn", "ftz", "sat"]];
        for modifiers in if ieee { all } else { &all[..1] } {
            form("fma", modifiers, ty, |x| fma(spec, x, Rounding::NearestEven));
        }
        for ftz in [false, true] {
            if ftz && !ieee {
                continue;
            }
            let text = format!("fma.rn{}.relu.{name}", if ftz { ".ftz" } else { "" });
            let flushed = |x| if ftz { flush(spec, x) } else { x };
            let width = if pair { 32 } else { 16 };
            agrees(&text, &halves::<3>(spec, pair), [width], |operands, [got]| {
                let unsigned = |x: u64| if x == spec.sign() { 0 } else { x };
                let wanted = each(pair, operands, |x| {
                    let x = flushed(fma(spec, x.map(flushed), Rounding::NearestEven));
                    if x & spec.sign() != 0 { 0 } else { x }
                });
                let got = each(pair, [got], |[x]| unsigned(x));
                (got != wanted).then(|| format!("expected {wanted:#x}"))
            });
        }
    }
}

fn minima_and_maxima() {
    for ty @ (_, spec, _) in TYPES {
        let ieee = spec.mantissa_bits == F16.mantissa_bits;
        for (opcode, larger) in [("min", false), ("max", true)] {
            for bits in 0..8 {
                let all = ["ftz", "NaN", "xorsign.abs"];
                let modifiers: Vec<&str> =
                    (0..3).filter(|n| bits >> n & 1 == 1).map(|n| all[n]).collect();
                if modifiers.contains(&"ftz") && !ieee {
                    continue;
                }
                let nan = modifiers.contains(&"NaN");
                let xorsign = bits & 4 != 0;
                form(opcode, &modifiers, ty, |operands: [u64; 2]| {
                    if !xorsign {
                        return choose(spec, operands, larger, nan);
                    }
                    let sign = (operands[0] ^ operands[1]) & spec.sign();
                    let magnitude = choose(spec, operands.map(|x| x & !spec.sign()), larger, nan);
                    if is_nan(spec, magnitude) { magnitude } else { magnitude | sign }
                });
            }
        }
    }
}

/// Of NaN only that it stays one is said.
fn signs() {
    for (ty, spec, pair) in TYPES {
        for ftz in [false, true] {
            if ftz && spec.mantissa_bits != F16.mantissa_bits {
                continue;
            }
            for opcode in ["abs", "neg"] {
                let text = format!("{opcode}{}.{ty}", if ftz { ".ftz" } else { "" });
                let width = if pair { 32 } else { 16 };
                agrees(&text, &halves::<1>(spec, pair), [width], |[a], [got]| {
                    let one = |x: u64| if is_nan(spec, x) { spec.sign() - 1 } else { x };
                    let wanted = each(pair, [a], |[x]| {
                        let x = if ftz { flush(spec, x) } else { x };
                        one(if opcode == "abs" { x & !spec.sign() } else { x ^ spec.sign() })
                    });
                    let got = each(pair, [got], |[x]| one(x));
                    (got != wanted).then(|| format!("expected {wanted:#x}"))
                });
            }
        }
    }
}
