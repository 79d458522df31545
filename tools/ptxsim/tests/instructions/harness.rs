//! Runs one form of an instruction on many operands, on every level, with all lanes and with some,
//! and compares the bits of every lane with what the test says.

use std::collections::BTreeMap;
use std::sync::Mutex;

use ptxsim::exec::Level;

use crate::support::{Arg, Device, Random};

/// Width of a predicate.
pub const P: u32 = 1;

/// Operands: the width of each in bits, and its values case by case.
pub struct Cases<const S: usize> {
    pub widths: [u32; S],
    pub values: Vec<[u64; S]>,
}

impl<const S: usize> Cases<S> {
    pub fn new(widths: [u32; S], values: Vec<[u64; S]>) -> Self {
        let values = values.into_iter().map(|case| mask_all(case, widths)).collect();
        Cases { widths, values }
    }

    /// Without the cases that the ISA leaves open.
    pub fn only(mut self, keep: impl Fn(&[u64; S]) -> bool) -> Self {
        self.values.retain(keep);
        self
    }
}

fn mask_all<const N: usize>(values: [u64; N], widths: [u32; N]) -> [u64; N] {
    std::array::from_fn(|i| values[i] & (u64::MAX >> (64 - widths[i])))
}

/// Every combination of the given values, or a sample of them where there are many, and as many
/// random cases as `random` makes.
pub fn cross<const S: usize>(
    edges: [&[u64]; S],
    mut random: impl FnMut() -> [u64; S],
) -> Vec<[u64; S]> {
    const MOST: usize = 4000;
    let all: usize = edges.iter().map(|e| e.len()).product();
    // An odd step, no multiple of the lists' lengths, goes through all of them evenly.
    let step = if all > MOST { (all / MOST) | 1 } else { 1 };
    let mut cases: Vec<[u64; S]> = (0..all)
        .step_by(step)
        .map(|mut n| {
            edges.map(|list| {
                let value = list[n % list.len()];
                n /= list.len();
                value
            })
        })
        .collect();
    cases.extend((0..1500).map(|_| random()));
    cases
}

pub fn word64(random: &mut Random) -> u64 {
    u64::from(random.word()) << 32 | u64::from(random.word())
}

/// Integers of these widths: ends of ranges, powers of two and what is beside them, random bits of
/// random length.
pub fn integers<const S: usize>(widths: [u32; S]) -> Cases<S> {
    let edges = widths.map(|width| {
        if width == P {
            return vec![0, 1];
        }
        let half = 1u64 << (width - 1);
        let mut edges = vec![0, 1, 2, half - 1, half, half + 1, u64::MAX, u64::MAX - 1];
        edges.extend([7, 31, 32, 0x80, 0xFF, 1 << (width / 2), (1 << (width / 2)) - 1]);
        edges
    });
    let mut random = Random(u64::from(widths.iter().sum::<u32>()));
    let mut value = |_| {
        let bits = word64(&mut random) >> (random.word() % 64);
        if random.word().is_multiple_of(4) { !bits } else { bits }
    };
    Cases::new(widths, cross(std::array::from_fn(|i| &edges[i][..]), || [0; S].map(&mut value)))
}

/// Spellings that ran, and on how many cases.
static RAN: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

/// Notes the instructions of a text, which tests have run on so many cases.
pub fn ran(text: &str, cases: usize) {
    let mut table = RAN.lock().unwrap_or_else(|e| e.into_inner());
    for statement in text.split(';') {
        let words = statement.split_whitespace().filter(|w| !w.starts_with(['@', '{', '}']));
        let spelling =
            words.into_iter().next().filter(|w| !w.starts_with('.') && !w.ends_with(':'));
        if let Some(spelling) = spelling {
            *table.entry(spelling.to_string()).or_default() += cases as u64;
        }
    }
}

pub fn table() -> BTreeMap<String, u64> {
    RAN.lock().unwrap_or_else(|e| e.into_inner()).clone()
}

/// A module of one kernel, `k`.
pub fn module(parameters: &str, body: &str) -> String {
    format!(
        ".version 8.8\n.target sm_90a\n.address_size 64\n.visible .entry k({parameters})\n{{\n{body}\nret;\n}}\n"
    )
}

const BLOCK: usize = 64;

/// The kernel that loads each thread's operands, and what the results hold before; runs the text; and
/// stores the results. Every value has 64 bits in memory, those of one operand lie together.
fn wrap<const S: usize, const D: usize>(
    text: &str,
    sources: [u32; S],
    results: [u32; D],
    guarded: bool,
) -> String {
    let mut body = String::from(
        ".reg .pred %g; .reg .b32 %r<9>; .reg .b64 %rd<9>;
        mov.u32 %r0, %tid.x; mov.u32 %r1, %ntid.x; mov.u32 %r2, %ctaid.x;
        mad.lo.u32 %r0, %r1, %r2, %r0;
        ld.param.u64 %rd0, [in]; ld.param.u64 %rd1, [out]; ld.param.u32 %r3, [n];
        mul.wide.u32 %rd2, %r0, 8; mul.wide.u32 %rd3, %r3, 8;
        add.u64 %rd0, %rd0, %rd2; add.u64 %rd1, %rd1, %rd2;\n",
    );
    let mut load = |name: &str, width: u32| {
        body += &match width {
            P => format!(
                ".reg .pred {name};
                ld.global.u32 %r4, [%rd0]; setp.ne.u32 {name}, %r4, 0;\n"
            ),
            _ => format!(".reg .b{width} {name};\nld.global.b{width} {name}, [%rd0];\n"),
        };
        body += "add.u64 %rd0, %rd0, %rd3;\n";
    };
    for (i, &width) in sources.iter().enumerate() {
        load(&format!("%s{i}"), width);
    }
    for (i, &width) in results.iter().enumerate() {
        load(&format!("%d{i}"), width);
    }
    body += "ld.global.u32 %r4, [%rd0]; setp.ne.u32 %g, %r4, 0;\n";
    for statement in text.split_inclusive(';') {
        let declares = statement.trim_start().starts_with(".reg");
        body += if guarded && !declares { "@%g " } else { "" };
        body += statement.trim_start();
        body += "\n";
    }
    for (i, &width) in results.iter().enumerate() {
        body += &match width {
            P => format!("selp.u32 %r4, 1, 0, %d{i}; st.global.u32 [%rd1], %r4;\n"),
            _ => format!("st.global.b{width} [%rd1], %d{i};\n"),
        };
        body += "add.u64 %rd1, %rd1, %rd3;\n";
    }
    module(".param .u64 in, .param .u64 out, .param .u32 n", &body)
}

/// Runs `text` on every case and level, and gives each case's results to `judge`, which says what is
/// wrong with them. `text` is an opcode, whose operands are then the results and sources in order, or
/// statements in which these are `%d0`… and `%s0`….
pub fn agrees<const S: usize, const D: usize>(
    text: &str,
    cases: &Cases<S>,
    results: [u32; D],
    judge: impl Fn([u64; S], [u64; D]) -> Option<String>,
) {
    run(text, cases, results, |index, got| judge(cases.values[index], got));
}

/// As [`agrees`], with the case's number for `judge`.
fn run<const S: usize, const D: usize>(
    text: &str,
    cases: &Cases<S>,
    results: [u32; D],
    judge: impl Fn(usize, [u64; D]) -> Option<String>,
) {
    let text = if text.contains('%') {
        text.to_string()
    } else {
        let operands = (0..D).map(|i| format!("%d{i}")).chain((0..S).map(|i| format!("%s{i}")));
        format!("{text} {};", operands.collect::<Vec<_>>().join(", "))
    };
    assert!(!cases.values.is_empty(), "{text}: no cases");
    ran(&text, cases.values.len());
    let n = cases.values.len().next_multiple_of(BLOCK);
    let index = |thread: usize| thread % cases.values.len();
    let case = |thread: usize| cases.values[index(thread)];
    let mut random = Random(n as u64);
    let old: Vec<[u64; D]> =
        (0..n).map(|_| mask_all([0; D].map(|_| word64(&mut random)), results)).collect();
    let mut input: Vec<u64> = Vec::new();
    input.extend((0..S).flat_map(|s| (0..n).map(move |thread| case(thread)[s])));
    input.extend((0..D).flat_map(|d| old.iter().map(move |old| old[d])));
    // Branches are guarded, or not, by the text itself.
    let branches = ["bra", "brx", "exit", "ret"].iter().any(|opcode| text.contains(opcode));
    for guarded in if branches { &[false][..] } else { &[false, true] } {
        let guarded = *guarded;
        let masks =
            [0, 1, 1 << 31, 0xFFFF, u32::MAX].into_iter().chain((5..).map(|_| random.word()));
        let guards: Vec<u64> =
            masks.take(n / 32).flat_map(|m| (0..32).map(move |i| u64::from(m >> i & 1))).collect();
        let ptx = wrap(&text, cases.widths, results, guarded);
        for level in Level::available() {
            let device = Device::new(&ptx, level);
            let input = device.upload(&[&input[..], &guards].concat());
            let output = device.upload(&vec![0u64; D.max(1) * n]);
            let args = [Arg::Address(input), Arg::Address(output), Arg::Word(n as u32)];
            let blocks = (n / BLOCK) as u32;
            device.launch("k", [blocks, 1, 1], [BLOCK as u32, 1, 1], 0, &args).unwrap();
            device.clean();
            let got: Vec<u64> = device.download(output, D * n);
            for thread in 0..n {
                let got = std::array::from_fn(|d| got[d * n + thread]);
                let fault = if guarded && guards[thread] == 0 {
                    (got != old[thread])
                        .then(|| format!("a lane that is off had {:#x?}", old[thread]))
                } else {
                    judge(index(thread), got)
                };
                if let Some(fault) = fault {
                    panic!(
                        "{text} on {level:?}: operands {:#x?}, got {got:#x?}: {fault}",
                        case(thread)
                    );
                }
            }
        }
    }
}

/// As [`agrees`], with the one answer that there is.
pub fn equals<const S: usize, const D: usize>(
    text: &str,
    cases: &Cases<S>,
    results: [u32; D],
    expected: impl Fn([u64; S]) -> [u64; D],
) {
    let answers: Vec<[u64; D]> =
        cases.values.iter().map(|&case| mask_all(expected(case), results)).collect();
    run(text, cases, results, |index, got| {
        (got != answers[index]).then(|| format!("expected {:#x?}", answers[index]))
    });
}
