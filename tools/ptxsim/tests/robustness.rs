//! No text makes the front end panic, hang or nest without bound: the compiler's PTX, damaged at random.
//! fuzz/ looks further, guided by coverage.

use std::path::Path;

use proptest::prelude::*;
use ptxsim::ptx::analysis::analyse;
use ptxsim::ptx::parse;

/// Words that turn up in PTX where they should not.
const WORDS: [&str; 32] = [
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ";",
    ",",
    ":",
    "@%p1",
    "|",
    "-",
    "<",
    ">",
    "0",
    "0x",
    "4294967295U",
    "99999999999999999999",
    "%r1",
    "_",
    "!%p1",
    ".b8",
    ".align",
    ".param",
    ".reg",
    ".branchtargets",
    ".loc",
    "bra",
    "ret;",
    "\"",
    "/*",
    "é",
];

fn understand(text: &str) {
    let Ok(module) = parse(text) else { return };
    for function in &module.functions {
        if let Ok(analysis) = analyse(function) {
            assert_eq!(analysis.reconverge.len(), function.body.len());
            assert_eq!(analysis.slots.len(), function.registers.len());
        }
    }
}

/// A short module with a bit of everything.
fn original() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ptx/control.80.ptx");
    let text = std::fs::read_to_string(path).unwrap();
    let kept: Vec<&str> =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    // Head with its variables and functions, and the kernel with a table of branches.
    let tail = kept.iter().rposition(|line| line.contains(".entry")).unwrap();
    let lines = kept[..200].iter().chain(&kept[tail..]);
    lines.flat_map(|line| line.split_whitespace().chain(["\n"])).map(str::to_owned).collect()
}

proptest! {
    #[test]
    fn damaged_text_is_read_or_refused(
        damages in prop::collection::vec((any::<prop::sample::Index>(), 0usize..5, 0usize..WORDS.len()), 0..6),
    ) {
        let mut words = original();
        for (place, kind, word) in &damages {
            // Nothing may be left of it.
            let at = place.index(words.len().max(1));
            match kind {
                0..=3 if words.is_empty() => words.push(WORDS[*word].to_owned()),
                0 => { words.remove(at); }
                1 => words.insert(at, WORDS[*word].to_owned()),
                2 => words[at] = WORDS[*word].to_owned(),
                3 => {
                    let other = (at + word) % words.len();
                    words.swap(at, other);
                }
                _ => words.truncate(at),
            }
        }
        understand(&words.join(" "));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}", words in prop::collection::vec(0..WORDS.len(), 0..40)) {
        let words: Vec<&str> = words.into_iter().map(|word| WORDS[word]).collect();
        let header = ".version 8.0 .target sm_80 .address_size 64 ";
        understand(&text);
        understand(&format!("{header}{text}"));
        understand(&format!("{header}.entry k() {{ .reg .pred %p<2>; .reg .b32 %r<9>; {} }}", words.join(" ")));
    }
}

/// Nothing in the front end takes more than about linear time in what a large kernel has much of:
/// branches, scopes and registers. (Liveness takes as long as it is large: registers times blocks at worst.)
#[test]
fn large_kernels_are_no_burden() {
    let many = 30_000;
    let mut text =
        String::from(".version 8.0 .target sm_80 .address_size 64 .entry k() { .reg .pred %p<2>; ");
    text += &format!(".reg .b32 %r<{}>;\n TOP:", many + 1);
    for i in 0..many {
        text += &format!("{{ .param .b32 p; st.param.b32 [p], %r{i}; }}\n");
        text += &format!("add.s32 %r{}, %r{i}, 1; @%p1 bra L{i};\n", i + 1);
        text += &format!("add.s32 %r0, %r{i}, 1;\n L{i}: add.s32 %r0, %r0, %r{i};\n");
    }
    let start = std::time::Instant::now();
    understand(&format!("{text} @%p1 bra TOP; ret; }}"));
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}
