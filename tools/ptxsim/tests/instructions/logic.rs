//! PTX ISA, "Logic and Shift Instructions" and the bit fields among the integer instructions: expected
//! bits one at a time, as the ISA's own pseudocode has them.

use crate::harness::{Cases, P, agrees, cross, equals, integers, word64};
use crate::integer::{number, value};
use crate::support::Random;

pub const TESTS: crate::Tests = &[
    ("and_or_xor_not", and_or_xor_not),
    ("predicates", predicates),
    ("three_words", three_words),
    ("three_words_and_a_predicate", three_words_and_a_predicate),
    ("shifts", shifts),
    ("funnel_shifts", funnel_shifts),
    ("permutations", permutations),
    ("counts_and_places", counts_and_places),
    ("fields", fields),
    ("masks_and_extensions", masks_and_extensions),
    ("nth_set_bit", nth_set_bit),
    ("video", video),
];

fn and_or_xor_not() {
    for w in [16, 32, 64] {
        let two = integers([w, w]);
        equals(&format!("and.b{w}"), &two, [w], |[a, b]| [a & b]);
        equals(&format!("or.b{w}"), &two, [w], |[a, b]| [a | b]);
        equals(&format!("xor.b{w}"), &two, [w], |[a, b]| [a ^ b]);
        equals(&format!("not.b{w}"), &integers([w]), [w], |[a]| [!a]);
        equals(&format!("cnot.b{w}"), &integers([w]), [w], |[a]| [u64::from(a == 0)]);
    }
}

fn predicates() {
    let cases = integers([P, P]);
    equals("and.pred", &cases, [P], |[a, b]| [a & b]);
    equals("or.pred", &cases, [P], |[a, b]| [a | b]);
    equals("xor.pred", &cases, [P], |[a, b]| [a ^ b]);
    equals("not.pred", &integers([P]), [P], |[a]| [!a]);
    equals("mov.pred", &integers([P]), [P], |[a]| [a]);
}

/// Bit by bit: the operands' bits choose one of the table's.
fn chosen(table: u64, a: u64, b: u64, c: u64) -> u64 {
    let bit = |x: u64, i: u32| x >> i & 1;
    (0..32).map(|i| (table >> (bit(a, i) << 2 | bit(b, i) << 1 | bit(c, i)) & 1) << i).sum()
}

fn three_words() {
    let mut random = Random(1);
    let cases: Vec<_> = (0..64).map(|_| [0; 3].map(|_| word64(&mut random))).collect();
    let cases = Cases::new([32; 3], cases);
    for table in 0..256 {
        let text = format!("lop3.b32 %d0, %s0, %s1, %s2, {table};");
        equals(&text, &cases, [32], |[a, b, c]| [chosen(table, a, b, c)]);
    }
}

fn three_words_and_a_predicate() {
    let edges = [0, 1, 0xFFFF_FFFF, 0xF0F0_F0F0, 0x8000_0000];
    let mut random = Random(2);
    let values = cross([&edges, &edges, &edges, &[0, 1]], || [0; 4].map(|_| word64(&mut random)));
    let cases = Cases::new([32, 32, 32, P], values);
    for table in [0x80, 0x96, 0x01, 0xE8] {
        for (join, or) in [("or", true), ("and", false)] {
            let text = format!("lop3.{join}.b32 %d0|%d1, %s0, %s1, %s2, {table}, %s3;");
            equals(&text, &cases, [32, P], |[a, b, c, q]| {
                let word = chosen(table, a, b, c);
                let (some, q) = (word != 0, q == 1);
                [word, u64::from(if or { some || q } else { some && q })]
            });
        }
    }
}

fn shifts() {
    for w in [16u32, 32, 64] {
        let cases = integers([w, 32]);
        equals(&format!("shl.b{w}"), &cases, [w], |[a, n]| [a.checked_shl(n as u32).unwrap_or(0)]);
        for kind in ["u", "s", "b"] {
            equals(&format!("shr.{kind}{w}"), &cases, [w], |[a, n]| {
                let ty = if kind == "s" { format!("s{w}") } else { format!("u{w}") };
                [(number(&ty, a) >> n.min(100)) as u64]
            });
        }
    }
}

fn funnel_shifts() {
    let cases = integers([32; 3]);
    for (mode, most) in [("wrap", None), ("clamp", Some(32))] {
        let amount = |n: u64| match most {
            Some(most) => n.min(most),
            None => n % 32,
        };
        equals(&format!("shf.l.{mode}.b32"), &cases, [32], |[a, b, n]| {
            [((b << 32 | a) << amount(n)) >> 32]
        });
        equals(
            &format!("shf.r.{mode}.b32"),
            &cases,
            [32],
            |[a, b, n]| [(b << 32 | a) >> amount(n)],
        );
    }
}

fn permutations() {
    let cases = integers([32; 3]);
    let bytes = |a: u64, b: u64, choices: [u64; 4]| {
        let all: Vec<u8> = (b << 32 | a).to_le_bytes().to_vec();
        let picked = choices.map(|n| {
            let byte = all[n as usize & 7];
            if n & 8 == 0 { byte } else { 0u8.wrapping_sub(byte >> 7) }
        });
        [u64::from(u32::from_le_bytes(picked))]
    };
    equals("prmt.b32", &cases, [32], |[a, b, c]| bytes(a, b, [0, 4, 8, 12].map(|at| c >> at & 15)));
    // The ISA's table of modes, the bytes from the lowest on, by the lower bits of the third operand.
    let modes: [(&str, [[u64; 4]; 4]); 6] = [
        ("f4e", [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]]),
        ("b4e", [[0, 7, 6, 5], [1, 0, 7, 6], [2, 1, 0, 7], [3, 2, 1, 0]]),
        ("rc8", [[0; 4], [1; 4], [2; 4], [3; 4]]),
        ("ecl", [[0, 1, 2, 3], [1, 1, 2, 3], [2, 2, 2, 3], [3, 3, 3, 3]]),
        ("ecr", [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 2, 2], [0, 1, 2, 3]]),
        ("rc16", [[0, 1, 0, 1], [2, 3, 2, 3], [0, 1, 0, 1], [2, 3, 2, 3]]),
    ];
    for (mode, table) in modes {
        equals(&format!("prmt.b32.{mode}"), &cases, [32], |[a, b, c]| {
            bytes(a, b, table[c as usize & 3])
        });
    }
}

fn counts_and_places() {
    for w in [32u32, 64] {
        let cases = integers([w]);
        let bits = |a: u64| (0..w).map(move |i| a >> i & 1);
        equals(&format!("popc.b{w}"), &cases, [32], |[a]| [bits(a).sum()]);
        equals(&format!("clz.b{w}"), &cases, [32], |[a]| {
            [bits(a).rev().take_while(|&bit| bit == 0).count() as u64]
        });
        equals(&format!("brev.b{w}"), &cases, [w], |[a]| {
            [bits(a).enumerate().map(|(i, bit)| bit << (w as usize - 1 - i)).sum()]
        });
        for kind in ["u", "s"] {
            // The highest bit that is one, or that is not the sign.
            let found = |a: u64| {
                let sign = if kind == "s" { a >> (w - 1) & 1 } else { 0 };
                (0..w).rev().find(|i| a >> i & 1 != sign)
            };
            equals(&format!("bfind.{kind}{w}"), &cases, [32], |[a]| {
                [found(a).map_or(u64::MAX, u64::from)]
            });
            equals(&format!("bfind.shiftamt.{kind}{w}"), &cases, [32], |[a]| {
                [found(a).map_or(u64::MAX, |i| u64::from(w - 1 - i))]
            });
        }
    }
}

fn fields() {
    let places: Vec<u64> = (0..70).chain([127, 128, 255, 256, 0x1_0001, 0xFFFF_FFFF]).collect();
    let mut random = Random(4);
    for w in [32u32, 64] {
        let words = [0, u64::MAX, 1 << (w - 1), 0xA5A5_5A5A_DEAD_BEEF];
        let values = cross([&words, &places, &places], || {
            let word = word64(&mut random);
            [word, u64::from(random.word() % w), u64::from(random.word() % w)]
        });
        let cases = Cases::new([w, 32, 32], values);
        for kind in ["u", "s"] {
            equals(&format!("bfe.{kind}{w}"), &cases, [w], |[a, at, n]| {
                let (at, n) = (at & 0xFF, n & 0xFF);
                let msb = u64::from(w) - 1;
                let sign = match kind {
                    "s" if n > 0 => a >> (at + n - 1).min(msb) & 1,
                    _ => 0,
                };
                let bit = |i: u64| if i < n && at + i <= msb { a >> (at + i) & 1 } else { sign };
                [(0..=msb).map(|i| bit(i) << i).sum()]
            });
        }
        let into = [0, u64::MAX, 0x0123_4567_89AB_CDEF];
        let values = cross([&words[1..], &into, &places, &places], || {
            let mut below = || u64::from(random.word() % w);
            let (at, n) = (below(), below());
            [word64(&mut random), word64(&mut random), at, n]
        });
        let cases = Cases::new([w, w, 32, 32], values);
        equals(&format!("bfi.b{w}"), &cases, [w], |[a, b, at, n]| {
            let (at, n) = (at & 0xFF, n & 0xFF);
            let bit = |i: u64| if i >= at && i < at + n { a >> (i - at) & 1 } else { b >> i & 1 };
            [(0..u64::from(w)).map(|i| bit(i) << i).sum()]
        });
    }
}

fn masks_and_extensions() {
    let small: Vec<u64> = (0..66).chain([255, 256, 0x8000_0000, 0xFFFF_FFFF]).collect();
    let mut random = Random(5);
    let places = cross([&small, &small], || [0; 2].map(|_| word64(&mut random)));
    let places = Cases::new([32, 32], places);
    for (mode, wraps) in [("clamp", false), ("wrap", true)] {
        equals(&format!("bmsk.{mode}.b32"), &places, [32], |[at, n]| {
            let (at, n) = if wraps { (at % 32, n % 32) } else { (at, n) };
            [(0..32).filter(|i| *i >= at && *i < at + n).map(|i| 1 << i).sum()]
        });
        for kind in ["u", "s"] {
            let mut random = Random(6);
            let words = [0, 1, 0x5555_5555, 0xAAAA_AAAA, 0xFFFF_FFFF, 0x8000_0000];
            let values = cross([&words, &small], || [0; 2].map(|_| word64(&mut random)));
            let cases = Cases::new([32, 32], values);
            equals(&format!("szext.{mode}.{kind}32"), &cases, [32], |[a, n]| {
                let n = if wraps { n % 32 } else { n.min(32) };
                let low = a & ((1 << n) - 1);
                let sign = kind == "s" && n > 0 && low >> (n - 1) & 1 == 1;
                [if sign { low | u64::MAX << n } else { low }]
            });
        }
    }
}

fn nth_set_bit() {
    let masks = [0, 1, 0x8000_0000, 0xFFFF_FFFF, 0x0F0F_0F0F, 0xAAAA_AAAA];
    let bases: Vec<u64> = (0..32).collect();
    let offsets: Vec<u64> = (-33i64..34).map(|x| x as u64).collect();
    let mut random = Random(7);
    let values = cross([&masks, &bases, &offsets], || {
        let offset = i64::from(random.word() % 20) - 10;
        [word64(&mut random), u64::from(random.word() % 32), offset as u64]
    });
    equals("fns.b32", &Cases::new([32; 3], values), [32], |[mask, base, offset]| {
        let (offset, set) = (number("s32", offset), |i: &u64| mask >> i & 1 == 1);
        let nth = |n: i128| n.unsigned_abs() as usize - 1;
        let found = match offset {
            0 => Some(base).filter(set),
            1.. => (base..32).filter(set).nth(nth(offset)),
            _ => (0..=base).rev().filter(set).nth(nth(offset)),
        };
        [found.unwrap_or(u64::MAX)]
    });
}

/// SIMD video instructions on all parts of a word.
fn video() {
    type Function = fn(i128, i128) -> i128;
    let functions: [(&str, Function); 6] = [
        ("vadd", |a, b| a + b),
        ("vsub", |a, b| a - b),
        // Rounded to nearest, halves away from zero.
        ("vavrg", |a, b| if a + b < 0 { (a + b - 1) / 2 } else { (a + b + 1) / 2 }),
        ("vabsdiff", |a, b| (a - b).abs()),
        ("vmin", |a, b| a.min(b)),
        ("vmax", |a, b| a.max(b)),
    ];
    let mut cases = integers([32; 3]);
    cases.values = cases.values.into_iter().rev().step_by(3).collect();
    for (name, f) in functions {
        for parts in [2u32, 4] {
            for types in 0..8 {
                let [d, a, b] = [4, 2, 1].map(|bit| if types & bit != 0 { "s" } else { "u" });
                for extra in ["", ".sat", ".add"] {
                    let w = 32 / parts;
                    let text = format!("{name}{parts}.{d}32.{a}32.{b}32{extra}");
                    agrees(&text, &cases, [32], |[x, y, c], [got]| {
                        let mut expected = if extra == ".add" { c } else { 0 };
                        for at in (0..32).step_by(w as usize) {
                            let part = |kind: &str, x: u64| value(kind == "s", w, x >> at);
                            let result = f(part(a, x), part(b, y));
                            let (least, most) = match d {
                                "s" => (-(1 << (w - 1)), (1 << (w - 1)) - 1),
                                _ => (0, (1 << w) - 1),
                            };
                            // What a sum takes of a part that its type cannot hold is not said.
                            if extra == ".add" && !(least..=most).contains(&result) {
                                return None;
                            }
                            let result =
                                if extra == ".sat" { result.clamp(least, most) } else { result };
                            let result = value(d == "s", w, result as u64);
                            expected = match extra {
                                ".add" => expected.wrapping_add(result as u64),
                                _ => expected | (result as u64 & ((1 << w) - 1)) << at,
                            };
                        }
                        let expected = expected & 0xFFFF_FFFF;
                        (got != expected).then(|| format!("expected {expected:#x}"))
                    });
                }
            }
        }
    }
}
