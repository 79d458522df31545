//! `bar` and `barrier` with every form of count, arrivals and reductions; `cp.async`. Words go through
//! shared memory, where a missing barrier would be a race that the checks find.

use ptxsim::exec::Level;

use crate::harness::{module, ran};
use crate::support::{Arg, Device, Random};

pub const TESTS: crate::Tests = &[
    ("exchanges", exchanges),
    ("halves_apart", halves_apart),
    ("arrivals", arrivals),
    ("reductions", reductions),
    ("copies", copies),
    ("groups_of_copies", groups_of_copies),
];

const THREADS: usize = 128;

const BEGINNING: &str =
    ".reg .pred %p, %q; .reg .b32 %t, %a, %b, %i, %n; .reg .b64 %in, %out, %k, %x, %y;
    .shared .align 16 .b8 tile[4096];
    mov.u32 %t, %tid.x; ld.param.u64 %in, [in]; ld.param.u64 %out, [out]; mul.wide.u32 %k, %t, 4;
    add.u64 %in, %in, %k; add.u64 %out, %out, %k; mov.u64 %x, tile; add.u64 %x, %x, %k;
    ld.global.u32 %a, [%in];\n";

/// Runs one block on random words and gives the words and the output to `judge`, for several orders of
/// the warps.
fn block(body: &str, outputs: usize, judge: impl Fn(&[u32], &[u32], &str)) {
    let ptx = module(".param .u64 in, .param .u64 out", &format!("{BEGINNING}{body}"));
    let mut random = Random(7);
    let input: Vec<u32> = (0..4 * THREADS + 4).map(|_| random.word()).collect();
    for level in Level::available() {
        for seed in 0..4 {
            let mut device = Device::new(&ptx, level);
            device.machine.seed = seed;
            let output = device.upload(&vec![0u32; outputs * THREADS]);
            let args = [Arg::Address(device.upload(&input)), Arg::Address(output)];
            device.launch("k", [1, 1, 1], [THREADS as u32, 1, 1], 0, &args).unwrap();
            device.clean();
            let got: Vec<u32> = device.download(output, outputs * THREADS);
            judge(&input, &got, &format!("{level:?}, seed {seed}"));
        }
    }
}

/// Every thread reads what the one 37 places on has written, seven times over.
fn exchanges() {
    for form in [
        "bar.sync 0",
        "bar.sync 3",
        "bar.sync 15, 128",
        "bar.sync %n",
        "bar.sync %n, 128",
        "bar.cta.sync 1",
        "bar.cta.sync 1, 128",
        "barrier.sync 0",
        "barrier.sync 2, 128",
        "barrier.sync.aligned 4",
        "barrier.sync.aligned 4, 128",
        "barrier.cta.sync 5",
        "barrier.cta.sync.aligned 6, 128",
    ] {
        ran(form, THREADS);
        let body = format!(
            "mov.u32 %n, 9; mov.u32 %i, 0; add.u32 %b, %t, 37; and.b32 %b, %b, 127; mul.wide.u32 %k, %b, 4;
            mov.u64 %y, tile; add.u64 %y, %y, %k;
            LOOP: st.shared.u32 [%x], %a; {form}; ld.shared.u32 %b, [%y]; {form};
            mad.lo.u32 %a, %b, 3, %i; add.u32 %i, %i, 1; setp.lt.u32 %p, %i, 7; @%p bra LOOP;
            st.global.u32 [%out], %a;"
        );
        block(&body, 1, |input, got, run| {
            let mut words = input[..THREADS].to_vec();
            for i in 0..7 {
                words = (0..THREADS)
                    .map(|t| words[(t + 37) % THREADS].wrapping_mul(3).wrapping_add(i))
                    .collect();
            }
            assert_eq!(got, words, "{form} on {run}");
        });
    }
}

/// Two pairs of warps, each with a barrier of its own, at their own pace.
fn halves_apart() {
    let text = "bar.sync %n, 64;";
    ran(text, THREADS);
    let body = format!(
        "shr.u32 %n, %t, 6; add.u32 %n, %n, 1; mov.u32 %i, 0; xor.b32 %b, %t, 32; mul.wide.u32 %k, %b, 4;
        mov.u64 %y, tile; add.u64 %y, %y, %k;
        LOOP: st.shared.u32 [%x], %a; {text} ld.shared.u32 %b, [%y]; {text}
        mad.lo.u32 %a, %b, 5, 1; add.u32 %i, %i, 1; setp.lt.u32 %p, %i, %n; @%p bra LOOP;
        st.global.u32 [%out], %a;"
    );
    block(&body, 1, |input, got, run| {
        for (t, &got) in got.iter().enumerate() {
            let rounds = t / 64 + 1;
            let from = if rounds % 2 == 1 { t ^ 32 } else { t };
            let wanted = (0..rounds).fold(input[from], |a, _| a.wrapping_mul(5).wrapping_add(1));
            assert_eq!(got, wanted, "{text} on {run}, thread {t}");
        }
    });
}

/// The lower warps write and go on; the upper ones wait for them and read.
fn arrivals() {
    for (arrive, wait) in [
        ("bar.arrive 1, 128", "bar.sync 1, 128"),
        ("bar.cta.arrive 2, 128", "bar.cta.sync 2, 128"),
        ("barrier.arrive 3, 128", "barrier.sync 3, 128"),
        ("barrier.cta.arrive 4, 128", "barrier.cta.sync 4, 128"),
        ("barrier.arrive.aligned 5, 128", "barrier.sync.aligned 5, 128"),
        ("barrier.cta.arrive.aligned 6, 128", "barrier.cta.sync.aligned 6, 128"),
    ] {
        ran(arrive, THREADS);
        let body = format!(
            "setp.ge.u32 %p, %t, 64; @%p bra UPPER; st.shared.u32 [%x], %a; {arrive}; bra END;
            UPPER: {wait}; ld.shared.u32 %a, [%x+-256]; END: st.global.u32 [%out], %a;"
        );
        block(&body, 1, |input, got, run| {
            let wanted: Vec<u32> = (0..THREADS).map(|t| input[t % 64]).collect();
            assert_eq!(got, wanted, "{arrive} on {run}");
        });
    }
}

fn reductions() {
    for (opcode, rest) in [
        ("bar", ""),
        ("bar.cta", ""),
        ("barrier", ""),
        ("barrier", ".aligned"),
        ("barrier.cta", ".aligned"),
    ] {
        for count in ["", ", 128"] {
            for not in ["", "!"] {
                // Of few threads, most, all and none.
                for (test, holds) in [
                    (
                        "and.b32 %b, %a, 7; setp.eq.u32 %p, %b, 0;",
                        (|a| a & 7 == 0) as fn(u32) -> bool,
                    ),
                    ("setp.ne.u32 %p, %a, 0;", |a| a != 0),
                    ("setp.eq.u32 %p, %a, 0;", |a| a == 0),
                ] {
                    let form = |kind: &str| format!("{opcode}.red.{kind}{rest}");
                    let forms = [form("popc"), form("and"), form("or")];
                    let forms = match rest {
                        "" => [".u32", ".pred", ".pred"]
                            .iter()
                            .zip(forms)
                            .map(|(ty, f)| f + ty)
                            .collect(),
                        // .aligned comes before the operation.
                        _ => ["popc.u32", "and.pred", "or.pred"]
                            .map(|kind| format!("{opcode}.red{rest}.{kind}"))
                            .to_vec(),
                    };
                    let forms: Vec<String> = forms;
                    let text = format!(
                        "{} %n, 1{count}, {not}%p; {} %q, 1{count}, {not}%p; {} %p, 1{count}, {not}%p;",
                        forms[0], forms[1], forms[2]
                    );
                    ran(&text, THREADS);
                    let body = format!(
                        "{test} {text} selp.u32 %a, 1, 0, %q; selp.u32 %b, 1, 0, %p;
                        st.global.u32 [%out], %n; st.global.u32 [%out+512], %a; st.global.u32 [%out+1024], %b;"
                    );
                    block(&body, 3, |input, got, run| {
                        let set = |t: &usize| holds(input[*t]) == not.is_empty();
                        let n = (0..THREADS).filter(set).count();
                        let wanted = [n as u32, u32::from(n == THREADS), u32::from(n > 0)];
                        for t in 0..THREADS {
                            let got = [got[t], got[THREADS + t], got[2 * THREADS + t]];
                            assert_eq!(got, wanted, "{text} on {run}, thread {t}");
                        }
                    });
                }
            }
        }
    }
}

/// `cp.async` of every size and caching, whole and with zeros behind what is read.
fn copies() {
    for (cache, bytes, hint) in [
        ("ca", 4, ""),
        ("ca", 8, ""),
        ("ca", 16, ""),
        ("cg", 16, ""),
        ("ca", 16, ".L2::128B"),
        ("cg", 16, ".L2::256B"),
    ] {
        for read in [None, Some(0), Some(bytes / 2), Some(bytes)] {
            for space in ["shared", "shared::cta"] {
                let rest = read.map_or(String::new(), |_| ", %n".into());
                let form =
                    format!("cp.async.{cache}.{space}.global{hint} [%x], [%in+16], {bytes}{rest};");
                let text = format!("{form} cp.async.commit_group; cp.async.wait_group 0;");
                ran(&format!("{text} cp.async.wait_all;"), THREADS);
                let end = if bytes == 4 {
                    text.replace(
                        "cp.async.commit_group; cp.async.wait_group 0;",
                        "cp.async.wait_all;",
                    )
                } else {
                    text
                };
                let body = format!(
                    "mov.u32 %n, {}; mul.wide.u32 %k, %t, 12; add.u64 %in, %in, %k; add.u64 %x, %x, %k;
                    add.u64 %out, %out, %k; mov.u32 %a, -1; st.shared.v4.u32 [%x], {{%a, %a, %a, %a}};
                    {end} ld.shared.v4.u32 {{%a, %b, %i, %n}}, [%x];
                    st.global.v4.u32 [%out], {{%a, %b, %i, %n}};",
                    read.unwrap_or(bytes)
                );
                block(&body, 4, |input, got, run| {
                    let read = read.unwrap_or(bytes);
                    for t in 0..THREADS {
                        for word in 0..4 {
                            let source = input[4 * t + 4 + word].to_le_bytes();
                            let byte = |n: usize| match 4 * word + n {
                                at if at < read => source[n],
                                at if at < bytes => 0,
                                _ => 0xFF,
                            };
                            let wanted = u32::from_le_bytes([0, 1, 2, 3].map(byte));
                            assert_eq!(
                                got[4 * t + word],
                                wanted,
                                "{form} on {run}, thread {t}, word {word}"
                            );
                        }
                    }
                });
            }
        }
    }
}

/// Three groups; waiting for all but one or two leaves these on their way.
fn groups_of_copies() {
    let text = "cp.async.ca.shared.global [%x], [%in], 4; cp.async.commit_group;
        cp.async.ca.shared.global [%x+512], [%in+512], 4; cp.async.commit_group;
        cp.async.ca.shared.global [%x+1024], [%in+1024], 4; cp.async.commit_group;
        cp.async.wait_group 2; ld.shared.u32 %a, [%x]; cp.async.wait_group 1; ld.shared.u32 %b, [%x+512];
        cp.async.wait_group 0; ld.shared.u32 %i, [%x+1024];";
    ran(text, THREADS);
    let body = format!(
        "{text} st.global.u32 [%out], %a; st.global.u32 [%out+512], %b; st.global.u32 [%out+1024], %i;"
    );
    block(&body, 3, |input, got, run| assert_eq!(got, &input[..3 * THREADS], "{run}"));
}
