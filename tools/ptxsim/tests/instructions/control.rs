//! PTX ISA, "Control Flow Instructions": branches that diverge and meet again, tables, exits, traps.

use ptxsim::exec::{Fault, Level};

use crate::harness::{Cases, equals, integers, module, ran};
use crate::integer::number;
use crate::support::{Arg, Device};

pub const TESTS: crate::Tests = &[
    ("alternatives", alternatives),
    ("loops", loops),
    ("nested_loops", nested_loops),
    ("two_entries", two_entries),
    ("tables", tables),
    ("exits", exits),
    ("traps", traps),
];

/// Small operands beside each other in a warp.
fn small<const S: usize>(most: u64) -> Cases<S> {
    let mut cases = integers([32; S]);
    for (i, case) in cases.values.iter_mut().enumerate() {
        for (s, x) in case.iter_mut().enumerate() {
            *x = (*x ^ ((i as u64 * 0x9E37) >> (3 * s))) % most;
        }
    }
    cases
}

fn alternatives() {
    let text =
        ".reg .pred %p, %q; setp.lt.s32 %p, %s0, %s1; @%p bra LESS; setp.eq.s32 %q, %s0, %s1;
        @!%q bra MORE; mov.u32 %d0, 100; bra.uni END; LESS: sub.s32 %d0, %s1, %s0; bra.uni END;
        MORE: sub.s32 %d0, %s0, %s1; END: add.s32 %d0, %d0, 1;";
    equals(text, &integers([32; 2]), [32], |[a, b]| {
        let (x, y) = (number("s32", a), number("s32", b));
        let d = if x == y { 100 } else { (x - y).abs() };
        [(d + 1) as u64]
    });
}

/// Each lane goes around as often as it says; `bra.uni` where all do.
fn loops() {
    let text = ".reg .pred %p, %u; .reg .b32 %i, %j; mov.u32 %i, 0; mov.u32 %d0, 0; mov.u32 %j, 0;
        LOOP: setp.ge.u32 %p, %i, %s0; @%p bra DONE; mad.lo.u32 %d0, %d0, 3, %i; add.u32 %i, %i, 1;
        bra LOOP; DONE: add.u32 %j, %j, 1; setp.lt.u32 %u, %j, 5; @%u bra.uni DONE; add.u32 %d0, %d0, %j;";
    equals(text, &small::<1>(70), [32], |[n]| {
        let sum = (0..n as u32).fold(0u32, |sum, i| sum.wrapping_mul(3).wrapping_add(i));
        [sum.wrapping_add(5).into()]
    });
}

/// Loops within loops, with `break` and `continue` from the inner one.
fn nested_loops() {
    let text = ".reg .pred %p; .reg .b32 %i, %j, %k, %t; mov.u32 %d0, 0; mov.u32 %i, 0;
        OUTER: setp.ge.u32 %p, %i, %s0; @%p bra END; mov.u32 %j, 0;
        INNER: setp.ge.u32 %p, %j, %s1; @%p bra NEXT;
        add.u32 %k, %i, %j; add.u32 %j, %j, 1; and.b32 %t, %k, 3; setp.eq.u32 %p, %t, 2; @%p bra INNER;
        add.u32 %d0, %d0, %k; setp.gt.u32 %p, %d0, 300; @%p bra END; bra INNER;
        NEXT: xor.b32 %d0, %d0, 1; add.u32 %i, %i, 1; bra OUTER; END: shl.b32 %d0, %d0, 1;";
    equals(text, &small::<2>(13), [32], |[m, n]| {
        let mut d = 0;
        'outer: for i in 0..m {
            for j in 0..n {
                if (i + j) & 3 == 2 {
                    continue;
                }
                d += i + j;
                if d > 300 {
                    break 'outer;
                }
            }
            d ^= 1;
        }
        [d << 1]
    });
}

/// A loop that is entered at two places, as no structured program has.
fn two_entries() {
    let text = ".reg .pred %p; .reg .b32 %i, %t; mov.u32 %i, %s0; mov.u32 %d0, 0; and.b32 %t, %s0, 1;
        setp.eq.u32 %p, %t, 0; @%p bra SECOND; FIRST: add.u32 %d0, %d0, 5;
        SECOND: mul.lo.u32 %d0, %d0, 3; setp.eq.u32 %p, %i, 0; @%p bra END; sub.u32 %i, %i, 1;
        add.u32 %d0, %d0, 1; and.b32 %t, %d0, 1; setp.eq.u32 %p, %t, 1; @%p bra FIRST; bra SECOND; END: not.b32 %d0, %d0;";
    equals(text, &small::<1>(20), [32], |[n]| {
        let (mut d, mut i, mut first) = (0u32, n, n & 1 == 1);
        loop {
            if first {
                d = d.wrapping_add(5);
            }
            d = d.wrapping_mul(3);
            if i == 0 {
                return [(!d).into()];
            }
            i -= 1;
            d = d.wrapping_add(1);
            first = d & 1 == 1;
        }
    });
}

fn tables() {
    for uni in ["", ".uni"] {
        // With .uni all lanes of a warp choose the same.
        let index = if uni.is_empty() { "%s0" } else { "%one" };
        let text = format!(
            ".reg .b32 %one; mov.u32 %one, 1; mov.u32 %d0, 0;
             WHERE: .branchtargets ZERO, ONE, TWO, ONE, ZERO;
             brx.idx{uni} {index}, WHERE; ZERO: add.u32 %d0, %d0, 1000; bra END; ONE: add.u32 %d0, %d0, 20;
             TWO: add.u32 %d0, %d0, 3; END: add.u32 %d0, %d0, %s0;"
        );
        equals(&text, &small::<1>(5), [32], |[n]| {
            let chosen = if uni.is_empty() { n as usize } else { 1 };
            [[1000, 23, 3, 23, 1000][chosen] + n]
        });
    }
}

/// A thread that is gone stores nothing.
fn exits() {
    for opcode in ["exit", "ret"] {
        for (not, negated) in [("", false), ("!", true)] {
            let text = format!(
                ".reg .pred %p; setp.lt.u32 %p, %s0, %s1; @{not}%p {opcode}; add.u32 %d0, %s0, %s1;"
            );
            equals(&text, &small::<2>(50), [32], |[a, b]| {
                [if (a < b) != negated { 0 } else { a + b }]
            });
        }
        // From within a loop that others go on with.
        let text = format!(
            ".reg .pred %p; .reg .b32 %i; mov.u32 %i, 0; LOOP: setp.eq.u32 %p, %i, %s1; @%p {opcode};
             add.u32 %i, %i, 1; setp.lt.u32 %p, %i, %s0; @%p bra LOOP; mov.u32 %d0, %i;"
        );
        equals(&text, &small::<2>(12), [32], |[a, b]| {
            [if b == 0 || b < a.max(1) { 0 } else { a.max(1) }]
        });
    }
}

/// A trap of any lane ends the launch, with its place; one that nobody reaches does not.
fn traps() {
    let text = "@%p trap;";
    ran("trap;", 2);
    for (limit, reached) in [(40, true), (64, false)] {
        let body = format!(
            ".reg .pred %p; .reg .b32 %t; .reg .b64 %out;
            mov.u32 %t, %tid.x; setp.ge.u32 %p, %t, {limit};\n{text}
            ld.param.u64 %out, [out]; st.global.u32 [%out], 7;"
        );
        for level in Level::available() {
            let device = Device::new(&module(".param .u64 out", &body), level);
            let output = device.upload(&[0u32]);
            let result = device.launch("k", [1, 1, 1], [64, 1, 1], 0, &[Arg::Address(output)]);
            let findings = device.findings.take();
            if reached {
                assert!(matches!(result, Err(Fault::Trap(_))), "{level:?}: {result:?}");
                let place = findings[0].place.as_ref().expect("a trap has a place");
                assert_eq!((place.warp, place.lane), (1, 8), "{level:?}: thread 40 is the first");
            } else {
                assert!(result.is_ok() && findings.is_empty(), "{level:?}: {result:?}");
                assert_eq!(device.download::<u32>(output, 1), [7]);
            }
        }
    }
}
