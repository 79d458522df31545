//! PTX ISA, "Comparison and Selection Instructions": every comparison, type, and way to join the result
//! with another predicate.

use std::cmp::Ordering;

use crate::exact::{BF16, F16, F32, F64, Spec, Value};
use crate::float::{floats, flush};
use crate::half::halves;
use crate::harness::{Cases, P, agrees, equals, integers};
use crate::integer::{TYPES, number, width};

pub const TESTS: crate::Tests = &[
    ("integers_compared", integers_compared),
    ("floats_compared", floats_compared),
    ("pairs_compared", pairs_compared),
    ("sets", sets),
    ("sets_of_halves", sets_of_halves),
    ("selections", selections),
    ("selections_by_sign", selections_by_sign),
];

/// Whether a comparison holds of operands in this order, or of some without order.
fn holds(comparison: &str, order: Option<Ordering>) -> bool {
    let Some(order) = order else {
        return comparison.ends_with('u') || comparison == "nan";
    };
    match comparison {
        "eq" | "equ" => order.is_eq(),
        "ne" | "neu" => order.is_ne(),
        "lt" | "ltu" | "lo" => order.is_lt(),
        "le" | "leu" | "ls" => order.is_le(),
        "gt" | "gtu" | "hi" => order.is_gt(),
        "ge" | "geu" | "hs" => order.is_ge(),
        "num" => true,
        _ => false,
    }
}

/// How two numbers of a format compare: not at all with NaN.
fn order(spec: Spec, a: u64, b: u64) -> Option<Ordering> {
    let rank = |bits: u64| match spec.value(bits) {
        Value::Nan => None,
        _ if bits & (spec.sign() - 1) == 0 => Some(0),
        _ if bits & spec.sign() == 0 => Some(i128::from(bits)),
        _ => Some(-i128::from(bits & (spec.sign() - 1))),
    };
    Some(rank(a)?.cmp(&rank(b)?))
}

const SIGNED: [&str; 6] = ["eq", "ne", "lt", "le", "gt", "ge"];
const UNSIGNED: [&str; 10] = ["eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs"];
const FLOAT: [&str; 14] =
    ["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"];

/// `.and`, `.or`, `.xor`, or nothing.
fn join(name: &str, a: bool, c: bool) -> bool {
    match name {
        "and" => a && c,
        "or" => a || c,
        "xor" => a != c,
        _ => a,
    }
}

/// The ways to join a comparison: those of some will do for all.
fn joins(comparison: &str) -> &'static [&'static str] {
    if matches!(comparison, "ne" | "lt" | "nan") { &["and", "or", "xor"] } else { &[] }
}

/// A `setp`: alone, with a second result, and joined with a predicate or its opposite. `cases` have that
/// predicate as their third operand.
fn setp(
    comparison: &str,
    ty: &str,
    cases: &Cases<3>,
    order: impl Fn(u64, u64) -> Option<Ordering>,
) {
    let holds = |a, b| holds(comparison, order(a, b));
    let text = format!("setp.{comparison}.{ty} %d0|%d1, %s0, %s1;");
    equals(&text, cases, [P, P], |[a, b, _]| [holds(a, b).into(), (!holds(a, b)).into()]);
    let text = format!("setp.{comparison}.{ty} %d0, %s0, %s1;");
    equals(&text, cases, [P], |[a, b, _]| [holds(a, b).into()]);
    for name in joins(comparison) {
        for (not, negated) in [("", false), ("!", true)] {
            let text = format!("setp.{comparison}.{name}.{ty} %d0|%d1, %s0, %s1, {not}%s2;");
            equals(&text, cases, [P, P], |[a, b, c]| {
                let c = (c == 1) != negated;
                [join(name, holds(a, b), c).into(), join(name, !holds(a, b), c).into()]
            });
        }
    }
}

/// Operands of two of a width, thinned, and a predicate.
fn with_predicate(cases: Cases<2>) -> Cases<3> {
    let [a, b] = cases.widths;
    let values = cases.values.iter().enumerate();
    let values = values.step_by(2).map(|(i, &[a, b])| [a, b, (i as u64 >> 1) & 1]).collect();
    Cases::new([a, b, P], values)
}

fn integers_compared() {
    for ty in ["b16", "b32", "b64"].into_iter().chain(TYPES) {
        let cases = with_predicate(integers([width(ty); 2]));
        let comparisons = match &ty[..1] {
            "b" => &UNSIGNED[..2],
            "u" => &UNSIGNED[..],
            _ => &SIGNED[..],
        };
        for comparison in comparisons {
            setp(comparison, ty, &cases, |a, b| Some(number(ty, a).cmp(&number(ty, b))));
        }
    }
}

fn floats_compared() {
    for (ty, spec) in [("f32", F32), ("f64", F64), ("f16", F16), ("bf16", BF16)] {
        let cases = with_predicate(floats::<2>(spec));
        for comparison in FLOAT {
            setp(comparison, ty, &cases, |a, b| order(spec, a, b));
            if matches!(ty, "f32" | "f16") {
                let ftz = format!("ftz.{ty}");
                setp(comparison, &ftz, &cases, |a, b| order(spec, flush(spec, a), flush(spec, b)));
            }
        }
    }
}

/// Of pairs there is a predicate each.
fn pairs_compared() {
    for (ty, spec) in [("f16x2", F16), ("bf16x2", BF16)] {
        let cases = with_predicate(halves::<2>(spec, true));
        for comparison in FLOAT {
            let holds = |a: u64, b: u64, at: u64| {
                holds(comparison, order(spec, a >> at & 0xFFFF, b >> at & 0xFFFF))
            };
            let text = format!("setp.{comparison}.{ty} %d0|%d1, %s0, %s1;");
            equals(&text, &cases, [P, P], |[a, b, _]| [0, 16].map(|at| holds(a, b, at).into()));
            for name in joins(comparison) {
                let text = format!("setp.{comparison}.{name}.{ty} %d0|%d1, %s0, %s1, %s2;");
                equals(&text, &cases, [P, P], |[a, b, c]| {
                    [0, 16].map(|at| join(name, holds(a, b, at), c == 1).into())
                });
            }
        }
    }
}

/// `set` to all ones or to 1.0.
fn sets() {
    let results = [("u32", 0xFFFF_FFFF), ("s32", 0xFFFF_FFFF), ("f32", u64::from(1f32.to_bits()))];
    for (result, one) in results {
        let check =
            |comparison: &str, ty: &str, cases: &Cases<3>, holds: &dyn Fn(u64, u64) -> bool| {
                let text = format!("set.{comparison}.{result}.{ty} %d0, %s0, %s1;");
                equals(&text, cases, [32], |[a, b, _]| [if holds(a, b) { one } else { 0 }]);
                for name in joins(comparison) {
                    let text = format!("set.{comparison}.{name}.{result}.{ty} %d0, %s0, %s1, %s2;");
                    equals(&text, cases, [32], |[a, b, c]| {
                        [if join(name, holds(a, b), c == 1) { one } else { 0 }]
                    });
                }
            };
        for ty in ["b16", "b32", "b64"].into_iter().chain(TYPES) {
            let cases = with_predicate(integers([width(ty); 2]));
            for comparison in if ty.starts_with('b') { &SIGNED[..2] } else { &SIGNED[..] } {
                check(comparison, ty, &cases, &|a, b| {
                    holds(comparison, Some(number(ty, a).cmp(&number(ty, b))))
                });
            }
        }
        for (ty, spec) in [("f32", F32), ("f64", F64)] {
            let cases = with_predicate(floats::<2>(spec));
            for comparison in FLOAT {
                check(comparison, ty, &cases, &|a, b| holds(comparison, order(spec, a, b)));
            }
        }
    }
    let cases = floats::<2>(F32);
    for comparison in FLOAT {
        equals(&format!("set.{comparison}.ftz.u32.f32"), &cases, [32], |[a, b]| {
            let holds = holds(comparison, order(F32, flush(F32, a), flush(F32, b)));
            [if holds { 0xFFFF_FFFF } else { 0 }]
        });
    }
}

fn sets_of_halves() {
    for (ty, spec, one) in [("f16", F16, 0x3C00), ("bf16", BF16, 0x3F80)] {
        let (single, pair) = (floats::<2>(spec), halves::<2>(spec, true));
        for comparison in FLOAT {
            let holds = |a: u64, b: u64, at: u64| {
                holds(comparison, order(spec, a >> at & 0xFFFF, b >> at & 0xFFFF))
            };
            let results =
                [(ty, 16, one), ("u16", 16, 0xFFFF), ("s16", 16, 0xFFFF), ("u32", 32, 0xFFFF_FFFF)];
            for (result, width, one) in results {
                equals(&format!("set.{comparison}.{result}.{ty}"), &single, [width], |[a, b]| {
                    [if holds(a, b, 0) { one } else { 0 }]
                });
            }
            let results =
                [(format!("{ty}x2"), one), ("u32".into(), 0xFFFF), ("s32".into(), 0xFFFF)];
            for (result, one) in results {
                equals(&format!("set.{comparison}.{result}.{ty}x2"), &pair, [32], |[a, b]| {
                    let part = |at| if holds(a, b, at) { one << at } else { 0 };
                    [part(0) | part(16)]
                });
            }
        }
    }
}

fn selections() {
    for ty in ["b16", "b32", "b64", "f32", "f64"].into_iter().chain(TYPES) {
        let w = width(ty);
        equals(&format!("selp.{ty}"), &integers([w, w, P]), [w], |[a, b, p]| {
            [if p == 1 { a } else { b }]
        });
    }
    let cases = integers([32, P]);
    equals("selp.b32 %d0, 7, -1, !%s1;", &cases, [32], |[_, p]| {
        [if p == 1 { u64::MAX } else { 7 }]
    });
}

fn selections_by_sign() {
    for ty in ["b16", "b32", "b64", "f32", "f64"].into_iter().chain(TYPES) {
        let w = width(ty);
        let cases = integers([w, w, 32]);
        equals(&format!("slct.{ty}.s32"), &cases, [w], |[a, b, c]| {
            [if number("s32", c) >= 0 { a } else { b }]
        });
        let signs = floats::<1>(F32).values;
        let values =
            cases.values.iter().zip(signs.iter().cycle()).map(|(&[a, b, _], &[c])| [a, b, c]);
        let cases = Cases::new([w, w, 32], values.collect());
        for ftz in [false, true] {
            let text = format!("slct{}.{ty}.f32", if ftz { ".ftz" } else { "" });
            agrees(&text, &cases, [w], |[a, b, c], [got]| {
                // Flushed or not, a subnormal has its sign, but flushed it is a zero.
                let c = if ftz { flush(F32, c) } else { c };
                let first = order(F32, c, 0).is_some_and(Ordering::is_ge);
                (got != if first { a } else { b }).then(|| format!("expected the first: {first}"))
            });
        }
    }
}
