//! `atom` and `red`: every operation, type and space, with every ordering and scope, on words of one
//! lane each, where the old value is known, and on one word of all lanes, where the sum is.

use ptxsim::arith::formats::Rounding;
use ptxsim::exec::Level;

use crate::exact::{BF16, F16, F32, F64, Spec};
use crate::float::{add, floats, flush, is_nan};
use crate::half::{each, halves};
use crate::harness::{Cases, integers, module, ran};
use crate::integer::number;
use crate::support::{Arg, Device};

pub const TESTS: crate::Tests = &[
    ("integers", integers_of_one_lane),
    ("floats", floats_of_one_lane),
    ("orders_and_scopes", orders_and_scopes),
    ("one_word_of_all_lanes", one_word_of_all_lanes),
];

/// How an address is given: the space in the opcode, and what makes an address of it.
const SPACES: [(&str, &str); 5] = [
    (".global", "mov.u64 %at, %own;"),
    (".shared", "mov.u64 %at, %tile;"),
    (".shared::cta", "mov.u64 %at, %tile;"),
    ("", "mov.u64 %at, %own;"),
    ("", "cvta.shared.u64 %at, %tile;"),
];

/// Whether subnormals are kept: in shared memory.
fn in_shared(address: &str) -> bool {
    address.contains("%tile")
}

/// Runs an operation for each lane on a word of its own: `%b` and `%c` are its operands.
/// `update` says what the word becomes; the old value is what it was.
fn check(
    modifiers: &str,
    ty: &str,
    bits: u32,
    cases: &Cases<3>,
    spaces: &[(&str, &str)],
    update: impl Fn([u64; 3], bool) -> u64,
    same: impl Fn(u64, u64) -> bool,
) {
    let operation = modifiers.split('.').next().unwrap_or(modifiers);
    let operands = if operation == "cas" { "%b, %c" } else { "%b" };
    for &(space, address) in spaces {
        for opcode in ["atom", "red"] {
            let acquires = space.contains(".acq");
            if opcode == "red" && (acquires || matches!(operation, "cas" | "exch")) {
                continue;
            }
            let result = if opcode == "atom" { "%d, " } else { "" };
            let text = format!("{opcode}{space}.{modifiers}.{ty} {result}[%at], {operands};");
            ran(&text, cases.values.len());
            let body = format!(
                ".reg .pred %in; .reg .b{bits} %a, %b, %c, %d; .reg .b64 %at, %own, %tile, %k, %from;
                .reg .b32 %t, %w; .shared .align 16 .b8 words[512];
                mov.u32 %w, %ctaid.x; mov.u32 %t, %tid.x; mad.lo.u32 %w, %w, 64, %t;
                ld.param.u64 %from, [in]; mul.wide.u32 %k, %w, 32; add.u64 %from, %from, %k;
                ld.param.u64 %own, [out]; mul.wide.u32 %k, %w, 16; add.u64 %own, %own, %k;
                mov.u64 %tile, words; mul.wide.u32 %k, %t, 8; add.u64 %tile, %tile, %k;
                ld.global.b{bits} %a, [%from]; ld.global.b{bits} %b, [%from+8];
                ld.global.b{bits} %c, [%from+16]; ld.global.u32 %t, [%from+24];
                setp.ne.u32 %in, %t, 0; mov.b{bits} %d, %b;
                st.global.b{bits} [%own], %a; st.shared.b{bits} [%tile], %a;
                {address}
                @%in {text}
                ld.b{bits} %a, [%at]; st.global.b{bits} [%own+8], %d; st.global.b{bits} [%own], %a;"
            );
            // A plain ld reads what lies at a generic address, so shared ones are made generic.
            let body = match address {
                "mov.u64 %at, %tile;" => body.replace("ld.b", "ld.shared.b"),
                _ => body,
            };
            let ptx = module(".param .u64 in, .param .u64 out", &body);
            let n = cases.values.len().next_multiple_of(64);
            let case = |i: usize| cases.values[i % cases.values.len()];
            let on = |i: usize| i % 7 != 3;
            let input: Vec<[u64; 4]> = (0..n)
                .map(|i| {
                    let [a, b, c] = case(i);
                    [a, b, c, on(i).into()]
                })
                .collect();
            for level in Level::available() {
                let device = Device::new(&ptx, level);
                let output = device.upload(&vec![[0u64; 2]; n]);
                let args = [Arg::Address(device.upload(&input)), Arg::Address(output)];
                device.launch("k", [n as u32 / 64, 1, 1], [64, 1, 1], 0, &args).unwrap();
                device.clean();
                for (i, [after, old]) in
                    device.download::<[u64; 2]>(output, n).into_iter().enumerate()
                {
                    let case = case(i);
                    let wanted = if on(i) { update(case, in_shared(address)) } else { case[0] };
                    let before = if opcode == "atom" && on(i) { case[0] } else { case[1] };
                    assert!(
                        same(after, wanted) && old == before,
                        "{text} ({address}) on {level:?} of {case:#x?}: the word is {after:#x}, expected \
                         {wanted:#x}; the result {old:#x}, expected {before:#x}"
                    );
                }
            }
        }
    }
}

fn exactly(a: u64, b: u64) -> bool {
    a == b
}

fn thin(mut cases: Cases<3>) -> Cases<3> {
    cases.values = cases.values.into_iter().step_by(5).collect();
    // The compared value is the one that is there, some of the time.
    for case in cases.values.iter_mut().step_by(4) {
        case[1] = case[0];
    }
    cases
}

fn integers_of_one_lane() {
    type Function = fn(&str, [u64; 3]) -> u64;
    let forms: [(&str, &[&str], Function); 10] = [
        ("add", &["u32", "s32", "u64"], |_, [a, b, _]| a.wrapping_add(b)),
        ("min", &["u32", "s32", "u64", "s64"], |ty, [a, b, _]| {
            number(ty, a).min(number(ty, b)) as u64
        }),
        ("max", &["u32", "s32", "u64", "s64"], |ty, [a, b, _]| {
            number(ty, a).max(number(ty, b)) as u64
        }),
        ("and", &["b32", "b64"], |_, [a, b, _]| a & b),
        ("or", &["b32", "b64"], |_, [a, b, _]| a | b),
        ("xor", &["b32", "b64"], |_, [a, b, _]| a ^ b),
        ("exch", &["b32", "b64"], |_, [_, b, _]| b),
        ("cas", &["b16", "b32", "b64"], |_, [a, b, c]| if a == b { c } else { a }),
        ("inc", &["u32"], |_, [a, b, _]| if a >= b { 0 } else { a + 1 }),
        ("dec", &["u32"], |_, [a, b, _]| if a == 0 || a > b { b } else { a - 1 }),
    ];
    for (operation, types, f) in forms {
        for ty in types {
            let bits: u32 = ty[1..].parse().expect("a width");
            let modulus = u64::MAX >> (64 - bits);
            let cases = thin(integers([bits; 3]));
            check(operation, ty, bits, &cases, &SPACES, |case, _| f(ty, case) & modulus, exactly);
        }
    }
}

fn same_number(spec: Spec) -> impl Fn(u64, u64) -> bool {
    move |a, b| a == b || is_nan(spec, a) && is_nan(spec, b)
}

fn floats_of_one_lane() {
    let nearest = Rounding::NearestEven;
    let cases = thin(floats::<3>(F32));
    check(
        "add",
        "f32",
        32,
        &cases,
        &SPACES,
        |[a, b, _], shared| {
            let seen = |x| if shared { x } else { flush(F32, x) };
            seen(add(F32, [seen(a), seen(b)], nearest))
        },
        same_number(F32),
    );
    let cases = thin(floats::<3>(F64));
    check(
        "add",
        "f64",
        64,
        &cases,
        &SPACES,
        |[a, b, _], _| add(F64, [a, b], nearest),
        same_number(F64),
    );
    for (ty, spec) in [("f16", F16), ("bf16", BF16)] {
        let sum = |a, b| add(spec, [a, b], nearest);
        let cases = thin(floats::<3>(spec));
        check("add.noftz", ty, 16, &cases, &SPACES, |[a, b, _], _| sum(a, b), exactly);
        let cases = thin(halves::<3>(spec, true));
        check(
            "add.noftz",
            &format!("{ty}x2"),
            32,
            &cases,
            &SPACES,
            |[a, b, _], _| each(true, [a, b], |[a, b]| sum(a, b)),
            exactly,
        );
    }
}

type Update = fn([u64; 3]) -> u64;

/// Memory here is sequentially consistent: orders and scopes change no result of a single lane.
fn orders_and_scopes() {
    let mut cases = thin(integers([32; 3]));
    cases.values.truncate(128);
    for order in ["relaxed", "acquire", "release", "acq_rel"] {
        for scope in ["cta", "cluster", "gpu", "sys"] {
            let operations: [(&str, Update); 3] = [
                ("add", |[a, b, _]| a.wrapping_add(b) & 0xFFFF_FFFF),
                ("exch", |[_, b, _]| b),
                ("cas", |[a, b, c]| if a == b { c } else { a }),
            ];
            for (operation, f) in operations {
                let ty = if operation == "add" { "u32" } else { "b32" };
                for (space, address) in [SPACES[0], SPACES[1], SPACES[3]] {
                    let spaces = [(format!(".{order}.{scope}{space}"), address)];
                    let spaces = spaces.each_ref().map(|(space, at)| (space.as_str(), *at));
                    check(operation, ty, 32, &cases, &spaces, |case, _| f(case), exactly);
                }
            }
        }
    }
}

/// All lanes of some blocks on one word, by threads of the host too: sums and ends do not depend on the
/// order, and the old values are all the partial results there are.
fn one_word_of_all_lanes() {
    type Sum = fn(&[u32]) -> u32;
    let forms: [(&str, &str, Sum); 6] = [
        ("add.u32", "0", |x| x.iter().fold(0, |sum, x| sum.wrapping_add(*x))),
        ("max.u32", "0", |x| x.iter().copied().max().unwrap_or(0)),
        ("min.u32", "-1", |x| x.iter().copied().min().unwrap_or(0)),
        ("xor.b32", "0", |x| x.iter().fold(0, |sum, x| sum ^ x)),
        ("or.b32", "0", |x| x.iter().fold(0, |sum, x| sum | x)),
        ("and.b32", "-1", |x| x.iter().fold(u32::MAX, |sum, x| sum & x)),
    ];
    let threads = 8 * 96u32;
    let mut random = crate::support::Random(4);
    let values: Vec<u32> = (0..threads).map(|_| random.word() & 0xFFFF).collect();
    for (form, start, f) in forms {
        let text = format!("red.global.{form} [%to], %a;");
        ran(&text, values.len());
        let body = format!(
            ".reg .b32 %a, %t, %w; .reg .b64 %at, %to, %k;
            mov.u32 %w, %ctaid.x; mov.u32 %t, %tid.x; mad.lo.u32 %t, %w, 96, %t;
            ld.param.u64 %at, [in]; ld.param.u64 %to, [out]; mul.wide.u32 %k, %t, 4; add.u64 %at, %at, %k;
            ld.global.u32 %a, [%at]; {text}"
        );
        let ptx = module(".param .u64 in, .param .u64 out", &body);
        for level in Level::available() {
            for threads in [1, 3] {
                let mut device = Device::new(&ptx, level);
                device.machine.threads = threads;
                device.machine.seed = threads as u64;
                let word = device.upload(&[start.parse::<i32>().expect("a number")]);
                let args = [Arg::Address(device.upload(&values)), Arg::Address(word)];
                device.launch("k", [8, 1, 1], [96, 1, 1], 0, &args).unwrap();
                device.clean();
                assert_eq!(device.download::<u32>(word, 1), [f(&values)], "{text} on {level:?}");
            }
        }
    }
}
