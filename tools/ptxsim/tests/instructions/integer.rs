//! PTX ISA, "Integer Arithmetic Instructions" and "Extended-Precision Integer Arithmetic
//! Instructions": expected values in i128.

use crate::harness::{Cases, equals, integers, word64};
use crate::support::Random;

pub const TESTS: crate::Tests = &[
    ("sums", sums),
    ("products", products),
    ("products_of_24_bits", products_of_24_bits),
    ("quotients", quotients),
    ("differences_and_signs", differences_and_signs),
    ("minima_and_maxima", minima_and_maxima),
    ("carries", carries),
    ("carries_of_products", carries_of_products),
    ("dot_products", dot_products),
];

/// The number that bits of a type, say `s32`, mean.
pub fn number(ty: &str, bits: u64) -> i128 {
    value(ty.starts_with('s'), width(ty), bits)
}

pub fn value(signed: bool, width: u32, bits: u64) -> i128 {
    let unused = 64 - width;
    if signed {
        i128::from((bits << unused) as i64 >> unused)
    } else {
        i128::from(bits << unused >> unused)
    }
}

pub fn width(ty: &str) -> u32 {
    ty[1..].parse().expect("a width")
}

pub const TYPES: [&str; 6] = ["u16", "s16", "u32", "s32", "u64", "s64"];

/// Instructions of two operands of one type.
fn two(opcode: &str, types: &[&str], f: impl Fn(i128, i128) -> i128) {
    for ty in types {
        let w = width(ty);
        equals(&format!("{opcode}.{ty}"), &integers([w, w]), [w], |[a, b]| {
            [f(number(ty, a), number(ty, b)) as u64]
        });
    }
}

fn one(opcode: &str, types: &[&str], f: impl Fn(i128) -> i128) {
    for ty in types {
        let w = width(ty);
        equals(&format!("{opcode}.{ty}"), &integers([w]), [w], |[a]| [f(number(ty, a)) as u64]);
    }
}

fn halves(word: u64, signed: bool) -> [i128; 2] {
    [word & 0xFFFF, word >> 16].map(|half| number(if signed { "s16" } else { "u16" }, half))
}

fn join(halves: [i128; 2]) -> u64 {
    (halves[1] as u64 & 0xFFFF) << 16 | halves[0] as u64 & 0xFFFF
}

fn sums() {
    two("add", &TYPES, |a, b| a + b);
    two("sub", &TYPES, |a, b| a - b);
    let clamp = |x: i128| x.clamp(i32::MIN.into(), i32::MAX.into());
    two("add.sat", &["s32"], |a, b| clamp(a + b));
    two("sub.sat", &["s32"], |a, b| clamp(a - b));
    for ty in ["u16x2", "s16x2"] {
        equals(&format!("add.{ty}"), &integers([32, 32]), [32], |[a, b]| {
            let (a, b) = (halves(a, false), halves(b, false));
            [join([a[0] + b[0], a[1] + b[1]])]
        });
    }
}

fn products() {
    two("mul.lo", &TYPES, i128::wrapping_mul);
    for ty in TYPES {
        let w = width(ty);
        // The product of two u64 needs all the bits of a u128; shifting the sign in does no harm.
        let high = |a, b| {
            let product = number(ty, a).wrapping_mul(number(ty, b));
            if ty == "u64" { ((product as u128) >> w) as i128 } else { product >> w }
        };
        equals(&format!("mul.hi.{ty}"), &integers([w, w]), [w], |[a, b]| [high(a, b) as u64]);
        equals(&format!("mad.lo.{ty}"), &integers([w; 3]), [w], |[a, b, c]| {
            [number(ty, a).wrapping_mul(number(ty, b)).wrapping_add(number(ty, c)) as u64]
        });
        equals(&format!("mad.hi.{ty}"), &integers([w; 3]), [w], |[a, b, c]| {
            [(high(a, b) as u64).wrapping_add(c)]
        });
        if w < 64 {
            equals(&format!("mul.wide.{ty}"), &integers([w, w]), [2 * w], |[a, b]| {
                [(number(ty, a) * number(ty, b)) as u64]
            });
            equals(&format!("mad.wide.{ty}"), &integers([w, w, 2 * w]), [2 * w], |[a, b, c]| {
                [((number(ty, a) * number(ty, b)) as u64).wrapping_add(c)]
            });
        }
    }
    equals("mad.hi.sat.s32", &integers([32; 3]), [32], |[a, b, c]| {
        let sum = ((number("s32", a) * number("s32", b)) >> 32) + number("s32", c);
        [sum.clamp(i32::MIN.into(), i32::MAX.into()) as u64]
    });
}

fn products_of_24_bits() {
    for ty in ["u32", "s32"] {
        let part = |x: u64| number(if ty == "u32" { "u24" } else { "s24" }, x);
        let (two, three) = (integers([32; 2]), integers([32; 3]));
        let high = |a, b| (part(a) * part(b)) >> 16;
        equals(&format!("mul24.lo.{ty}"), &two, [32], |[a, b]| [(part(a) * part(b)) as u64]);
        equals(&format!("mul24.hi.{ty}"), &two, [32], |[a, b]| [high(a, b) as u64]);
        equals(&format!("mad24.lo.{ty}"), &three, [32], |[a, b, c]| {
            [((part(a) * part(b)) as u64).wrapping_add(c)]
        });
        equals(&format!("mad24.hi.{ty}"), &three, [32], |[a, b, c]| {
            [(high(a, b) as u64).wrapping_add(c)]
        });
    }
    equals("mad24.hi.sat.s32", &integers([32; 3]), [32], |[a, b, c]| {
        let sum = ((number("s24", a) * number("s24", b)) >> 16) + number("s32", c);
        [sum.clamp(i32::MIN.into(), i32::MAX.into()) as u64]
    });
}

/// The result of a division by zero is "unspecified, machine-specific".
fn quotients() {
    for ty in TYPES {
        let w = width(ty);
        let cases = integers([w, w]).only(|case| case[1] != 0);
        equals(
            &format!("div.{ty}"),
            &cases,
            [w],
            |[a, b]| [(number(ty, a) / number(ty, b)) as u64],
        );
        equals(
            &format!("rem.{ty}"),
            &cases,
            [w],
            |[a, b]| [(number(ty, a) % number(ty, b)) as u64],
        );
    }
}

fn differences_and_signs() {
    one("abs", &["s16", "s32", "s64"], i128::abs);
    one("neg", &["s16", "s32", "s64"], |a| -a);
    for ty in TYPES {
        let w = width(ty);
        equals(&format!("sad.{ty}"), &integers([w; 3]), [w], |[a, b, c]| {
            [(number(ty, a).abs_diff(number(ty, b)) as u64).wrapping_add(c)]
        });
    }
}

fn minima_and_maxima() {
    two("min", &TYPES, i128::min);
    two("max", &TYPES, i128::max);
    two("min.relu", &["s32"], |a, b| a.min(b).max(0));
    two("max.relu", &["s32"], |a, b| a.max(b).max(0));
    let packed = |spelling: &str, signed: bool, f: &dyn Fn(i128, i128) -> i128| {
        equals(spelling, &integers([32, 32]), [32], |[a, b]| {
            let (a, b) = (halves(a, signed), halves(b, signed));
            [join([f(a[0], b[0]), f(a[1], b[1])])]
        });
    };
    packed("min.u16x2", false, &i128::min);
    packed("max.u16x2", false, &i128::max);
    packed("min.s16x2", true, &i128::min);
    packed("max.s16x2", true, &i128::max);
    packed("min.relu.s16x2", true, &|a, b| a.min(b).max(0));
    packed("max.relu.s16x2", true, &|a, b| a.max(b).max(0));
}

/// Sums and differences of twice the width, and of three words, from carries.
fn carries() {
    for (ty, w) in [("u32", 32), ("s32", 32), ("u64", 64), ("s64", 64)] {
        let text = |op: &str, last: &str| {
            format!(
                "{op}.cc.{ty} %d0, %s0, %s2; {op}c.cc.{ty} %d1, %s1, %s3; {op}c.{ty} %d2, %s4, {last};"
            )
        };
        let cases = integers([w; 5]);
        let wide = |low: u64, high: u64| u128::from(low) + (u128::from(high) << w);
        equals(&text("add", "%s4"), &cases, [w; 3], |[a, b, c, d, e]| {
            let (sum, first) = wide(a, b).overflowing_add(wide(c, d));
            let carry = if w == 64 { u128::from(first) } else { sum >> 64 };
            [sum as u64, (sum >> w) as u64, e.wrapping_add(e).wrapping_add(carry as u64)]
        });
        equals(&text("sub", "0"), &cases, [w; 3], |[a, b, c, d, e]| {
            let difference = wide(a, b).wrapping_sub(wide(c, d));
            let borrow = u64::from(wide(a, b) < wide(c, d));
            [difference as u64, (difference >> w) as u64, e.wrapping_sub(borrow)]
        });
    }
}

/// The product of two double words and a sum, as compilers write it; and the signed upper halves.
fn carries_of_products() {
    let mut random = Random(3);
    for (ty, w) in [("u32", 32u32), ("u64", 64)] {
        let values = (0..3000).map(|_| [0; 3].map(|_| word64(&mut random) >> (random.word() % 64)));
        let cases = Cases::new([w; 3], values.collect());
        let text = format!(
            "mad.lo.cc.{ty} %d0, %s0, %s1, %s2; madc.hi.cc.{ty} %d1, %s0, %s1, %s2;
             madc.lo.{ty} %d2, %s0, 3, %s2;"
        );
        equals(&text, &cases, [w; 3], |[a, b, c]| {
            let modulus = 1u128 << w;
            let product = u128::from(a) * u128::from(b);
            let low = product % modulus + u128::from(c);
            let high = product / modulus + u128::from(c) + low / modulus;
            let last = u128::from(a) * 3 + u128::from(c) + high / modulus;
            [low as u64, high as u64, last as u64]
        });
    }
    for (ty, w) in [("s32", 32u32), ("s64", 64)] {
        let text = format!("mad.hi.cc.{ty} %d0, %s0, %s1, %s2; madc.hi.{ty} %d1, %s1, %s0, 0;");
        equals(&text, &integers([w; 3]), [w; 2], |[a, b, c]| {
            let half = ((number(ty, a) * number(ty, b)) >> w) as u128 & ((1 << w) - 1);
            let sum = half + u128::from(c);
            [sum as u64, (half + (sum >> w)) as u64]
        });
    }
}

fn dot_products() {
    let cases = integers([32; 3]);
    for a_type in ["u32", "s32"] {
        for b_type in ["u32", "s32"] {
            let part = |ty: &str, width: u32, word: u64, at: u32| {
                number(&format!("{}{width}", &ty[..1]), word >> at)
            };
            equals(&format!("dp4a.{a_type}.{b_type}"), &cases, [32], |[a, b, c]| {
                let terms =
                    [0, 8, 16, 24].map(|at| part(a_type, 8, a, at) * part(b_type, 8, b, at));
                [(terms.iter().sum::<i128>() + i128::from(c)) as u64]
            });
            for (half, by) in [("lo", 0), ("hi", 16)] {
                equals(&format!("dp2a.{half}.{a_type}.{b_type}"), &cases, [32], |[a, b, c]| {
                    let term =
                        |n: u32| part(a_type, 16, a, 16 * n) * part(b_type, 8, b, by + 8 * n);
                    [(term(0) + term(1) + i128::from(c)) as u64]
                });
            }
        }
    }
}
