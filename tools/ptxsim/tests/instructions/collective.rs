//! `shfl`, `vote`, `match`, `redux`, `activemask` and `elect`: what the lanes of a warp do together, for
//! all of them and for those of a mask.

use ptxsim::exec::Level;

use crate::harness::{module, ran, word64};
use crate::support::{Arg, Device, Random};

pub const TESTS: crate::Tests = &[
    ("shuffles", shuffles),
    ("votes", votes),
    ("matches", matches),
    ("reductions", reductions),
    ("active_lanes", active_lanes),
];

/// Lanes of a warp.
const LANES: usize = 32;

/// Runs `text` for the lanes of each mask: `%a`, `%b` and `%c` are operands a lane (the last two of 32
/// bits), `%p` is the lowest bit of `%a`, `%m` the mask; results are `%d` and the predicate `%q`. The
/// other lanes skip it. `expected` says a lane's results from the operands of all.
fn check(
    text: &str,
    wide: bool,
    operands: &[[[u64; LANES]; 3]],
    expected: impl Fn(&[[u64; LANES]; 3], u32, usize) -> (Option<u64>, Option<bool>),
) {
    ran(text, operands.len() * LANES);
    let bits = if wide { 64 } else { 32 };
    let body = format!(
        ".reg .pred %p, %q, %in; .reg .b{bits} %a; .reg .b32 %b, %c, %d, %m, %lane, %t, %w; .reg .b64 %at, %to, %k;
        mov.u32 %lane, %laneid; mov.u32 %w, %ctaid.x; mov.u32 %t, %tid.x; mad.lo.u32 %t, %w, 32, %t;
        ld.param.u64 %at, [in]; ld.param.u64 %to, [out];
        mul.wide.u32 %k, %t, 32; add.u64 %at, %at, %k; mul.wide.u32 %k, %t, 8; add.u64 %to, %to, %k;
        ld.global.b{bits} %a, [%at]; ld.global.u32 %b, [%at+8]; ld.global.u32 %c, [%at+16];
        ld.global.u32 %m, [%at+24];
        cvt.u32.u{bits} %d, %a; and.b32 %d, %d, 1; setp.ne.u32 %p, %d, 0;
        mov.u32 %d, 0xABCDEF01; setp.eq.u32 %q, 0, 0;
        shr.u32 %t, %m, %lane; and.b32 %t, %t, 1; setp.eq.u32 %in, %t, 0;
        @%in bra SKIP;
        {text}
        SKIP:
        st.global.u32 [%to], %d; selp.u32 %t, 1, 0, %q; st.global.u32 [%to+4], %t;"
    );
    let ptx = module(".param .u64 in, .param .u64 out", &body);
    let mut random = Random(9);
    for masks in [true, false] {
        let masks: Vec<u32> = (0..operands.len())
            .map(|i| match (masks, i % 4) {
                (true, _) => u32::MAX,
                (_, 0) => 1 << (random.word() % 32),
                (_, 1) => 0xFFFF,
                _ => random.word() | 1 << (random.word() % 32),
            })
            .collect();
        let mut input = Vec::new();
        for (sets, &mask) in operands.iter().zip(&masks) {
            for lane in 0..LANES {
                input.extend(sets.map(|values| values[lane]));
                input.push(u64::from(mask));
            }
        }
        for level in Level::available() {
            let device = Device::new(&ptx, level);
            let n = operands.len() * LANES;
            let output = device.allocate(8 * n);
            let args = [Arg::Address(device.upload(&input)), Arg::Address(output)];
            device.launch("k", [operands.len() as u32, 1, 1], [32, 1, 1], 0, &args).unwrap();
            // Lanes that read from one that is away are told of; here what they get is not compared.
            device.findings.take();
            let got: Vec<[u32; 2]> = device.download(output, n);
            for (i, &[value, predicate]) in got.iter().enumerate() {
                let (set, lane) = (&operands[i / LANES], i % LANES);
                let mask = masks[i / LANES];
                let (wanted, holds) = match mask >> lane & 1 {
                    0 => (Some(0xABCD_EF01), Some(true)),
                    _ => expected(set, mask, lane),
                };
                let right = wanted.is_none_or(|w| w as u32 == value)
                    && holds.is_none_or(|h| u32::from(h) == predicate);
                assert!(
                    right,
                    "{text} on {level:?}, mask {mask:#x}, lane {lane}: got {value:#x} and {predicate}, \
                     expected {wanted:x?} and {holds:?} of {set:x?}"
                );
            }
        }
    }
}

fn random_sets(
    seed: u64,
    count: usize,
    draw: impl Fn(&mut Random) -> [u64; 3],
) -> Vec<[[u64; LANES]; 3]> {
    let mut random = Random(seed);
    (0..count)
        .map(|_| {
            let lanes: Vec<[u64; 3]> = (0..LANES).map(|_| draw(&mut random)).collect();
            std::array::from_fn(|n| std::array::from_fn(|lane| lanes[lane][n]))
        })
        .collect()
}

/// The pseudocode of "Data Movement and Conversion Instructions: shfl.sync".
fn shuffle(mode: &str, lane: i64, b: i64, c: i64) -> (i64, bool) {
    let (by, clamp, segment) = (b & 31, c & 31, c >> 8 & 31);
    let most = (lane & segment) | (clamp & !segment);
    let least = lane & segment;
    let (from, inside) = match mode {
        "up" => (lane - by, lane - by >= most),
        "down" => (lane + by, lane + by <= most),
        "bfly" => (lane ^ by, lane ^ by <= most),
        _ => (least | (by & !segment), least | (by & !segment) <= most),
    };
    (if inside { from } else { lane }, inside)
}

/// Distances of one or of each lane's own; segments of every power of two, as compilers clamp them, and
/// clamps of any sort.
fn shuffles() {
    for mode in ["up", "down", "bfly", "idx"] {
        let mut sets = Vec::new();
        for width in [1, 2, 4, 8, 16, 32] {
            for distance in [0, 1, 3, 16, 31] {
                let clamp = if mode == "up" { 0 } else { 31 };
                let c = (32 - width) << 8 | clamp;
                sets.extend(random_sets(width + distance, 1, |r| [word64(r), distance, c]));
            }
        }
        sets.extend(random_sets(1, 60, |r| {
            [word64(r), r.word().into(), (r.word() & 0x1F1F).into()]
        }));
        let text = format!("shfl.sync.{mode}.b32 %d|%q, %a, %b, %c, %m;");
        check(&text, false, &sets, |[a, b, c], mask, lane| {
            let (from, inside) = shuffle(mode, lane as i64, b[lane] as i64, c[lane] as i64);
            // A source that is away, or no lane at all, leaves the value undefined.
            let there = mask >> (from & 31) & 1 == 1;
            (there.then_some(a[(from & 31) as usize]), Some(inside))
        });
        let text = format!("shfl.sync.{mode}.b32 %d, %a, %b, %c, %m;");
        check(&text, false, &sets, |[a, b, c], mask, lane| {
            let (from, _) = shuffle(mode, lane as i64, b[lane] as i64, c[lane] as i64);
            let there = mask >> (from & 31) & 1 == 1;
            (there.then_some(a[(from & 31) as usize]), None)
        });
    }
}

/// Predicates of lanes: some, all and none.
fn predicates() -> Vec<[[u64; LANES]; 3]> {
    let mut sets = random_sets(3, 40, |r| [word64(r), 0, 0]);
    sets.extend(random_sets(4, 8, |_| [1, 0, 0]));
    sets.extend(random_sets(5, 8, |_| [2, 0, 0]));
    sets
}

fn votes() {
    for (not, negated) in [("", false), ("!", true)] {
        let bits = |a: &[u64; LANES], mask: u32| {
            let bit = |lane: usize| (a[lane] & 1 == 1) != negated;
            (0..LANES).filter(|&l| bit(l)).fold(0, |bits, l| bits | 1u32 << l) & mask
        };
        check(
            &format!("vote.sync.all.pred %q, {not}%p, %m;"),
            false,
            &predicates(),
            |[a, ..], m, _| (None, Some(bits(a, m) == m)),
        );
        check(
            &format!("vote.sync.any.pred %q, {not}%p, %m;"),
            false,
            &predicates(),
            |[a, ..], m, _| (None, Some(bits(a, m) != 0)),
        );
        check(
            &format!("vote.sync.uni.pred %q, {not}%p, %m;"),
            false,
            &predicates(),
            |[a, ..], m, _| (None, Some(bits(a, m) == m || bits(a, m) == 0)),
        );
        check(
            &format!("vote.sync.ballot.b32 %d, {not}%p, %m;"),
            false,
            &predicates(),
            |[a, ..], m, _| (Some(bits(a, m).into()), None),
        );
    }
}

fn matches() {
    for (ty, wide) in [("b32", false), ("b64", true)] {
        let seen = |x: u64| if wide { x } else { x & 0xFFFF_FFFF };
        let mut sets =
            random_sets(6, 40, |r| [u64::from(r.word() % 3) << (r.word() % 2 * 31), 0, 0]);
        sets.extend(random_sets(7, 20, |r| [0x1_0000_0000 * u64::from(r.word() % 2) + 5, 0, 0]));
        sets.extend(random_sets(8, 8, |_| [77, 0, 0]));
        let same = |a: &[u64; LANES], m: u32, lane: usize| {
            (0..LANES)
                .filter(|&l| m >> l & 1 == 1 && seen(a[l]) == seen(a[lane]))
                .fold(0u32, |bits, l| bits | 1 << l)
        };
        check(&format!("match.any.sync.{ty} %d, %a, %m;"), wide, &sets, |[a, ..], m, lane| {
            (Some(same(a, m, lane).into()), None)
        });
        for (result, known) in [("%d|%q", true), ("%d", false)] {
            let text = format!("match.all.sync.{ty} {result}, %a, %m;");
            check(&text, wide, &sets, |[a, ..], m, lane| {
                let all = same(a, m, lane) == m;
                (Some(if all { m.into() } else { 0 }), known.then_some(all))
            });
        }
    }
}

fn reductions() {
    type Function = fn(u32, u32) -> u32;
    let forms: [(&str, Function); 9] = [
        ("add.u32", u32::wrapping_add),
        ("add.s32", u32::wrapping_add),
        ("min.u32", u32::min),
        ("max.u32", u32::max),
        ("min.s32", |a, b| (a as i32).min(b as i32) as u32),
        ("max.s32", |a, b| (a as i32).max(b as i32) as u32),
        ("and.b32", |a, b| a & b),
        ("or.b32", |a, b| a | b),
        ("xor.b32", |a, b| a ^ b),
    ];
    let mut sets = random_sets(10, 40, |r| [word64(r), 0, 0]);
    sets.extend(random_sets(11, 10, |r| {
        [u64::from(r.word() | r.word() | r.word() | 1 << 31), 0, 0]
    }));
    for (name, f) in forms {
        check(&format!("redux.sync.{name} %d, %a, %m;"), false, &sets, |[a, ..], m, _| {
            let members = (0..LANES).filter(|&l| m >> l & 1 == 1).map(|l| a[l] as u32);
            (members.reduce(f).map(u64::from), None)
        });
    }
}

fn active_lanes() {
    let sets = random_sets(12, 20, |r| [word64(r), 0, 0]);
    check("activemask.b32 %d;", false, &sets, |_, m, _| (Some(m.into()), None));
    check("elect.sync %d|%q, %m;", false, &sets, |_, m, lane| {
        let leader = m.trailing_zeros();
        (Some(leader.into()), Some(lane as u32 == leader))
    });
    check("elect.sync _|%q, %m;", false, &sets, |_, m, lane| {
        (None, Some(lane as u32 == m.trailing_zeros()))
    });
    check("bar.warp.sync %m; activemask.b32 %d;", false, &sets, |_, m, _| (Some(m.into()), None));
}
