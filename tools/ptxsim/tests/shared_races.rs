//! Races on shared memory: each planted bug is found at its line and lane, and its fixed twin is clean.

mod support;

use ptxsim::exec::Level;
use ptxsim::finding::{Finding, Kind};
use support::{Device, report};

/// Runs `body` in one block of `warps` warps, with `%t` the thread, `%a` its word's address in `s`,
/// `%n` the next lane's (the last wraps around). Returns the findings.
fn run(body: &str, warps: u32) -> (String, Vec<Finding>) {
    let text = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.entry k() {{\n\
         .reg .pred %p<4>; .reg .b16 %h<4>; .reg .b32 %r<9>; .reg .b32 %t, %l, %a, %n;\n\
         .shared .align 16 .b8 s[4096];\n\
         mov.u32 %t, %tid.x; and.b32 %l, %t, 31;\n\
         mov.u32 %r0, s; shl.b32 %a, %t, 2; add.u32 %a, %a, %r0;\n\
         add.u32 %r1, %t, 1; and.b32 %r1, %r1, {};\n\
         shl.b32 %n, %r1, 2; add.u32 %n, %n, %r0;\n{body}\nret; }}",
        32 * warps - 1
    );
    let mut all = Vec::new();
    for level in Level::available() {
        for seed in 0..5 {
            let mut device = Device::new(&text, level);
            device.machine.seed = seed;
            device
                .launch("k", [1, 1, 1], [32 * warps, 1, 1], 0, &[])
                .unwrap_or_else(|e| panic!("{e}"));
            let found = device.findings.take();
            let places = |f: &[Finding]| -> Vec<_> {
                f.iter().map(|f| (f.kind, f.place.as_ref().map(|p| p.ptx_line))).collect()
            };
            if warps == 1 && !all.is_empty() {
                assert_eq!(places(&all), places(&found), "{level:?}, seed {seed}");
            }
            all = found;
        }
    }
    (text, all)
}

/// One finding, at the line that says `// here`, of this lane and with these words.
fn bug(warps: u32, body: &str, lane: u32, words: &str) {
    let (text, found) = run(body, warps);
    let line = 1 + text.lines().position(|l| l.contains("// here")).expect("a marked line") as u32;
    let [finding] = &found[..] else { panic!("expected one finding:\n{}", report(&found)) };
    let place = finding.place.as_ref().expect("a place");
    assert_eq!(
        (finding.kind, place.ptx_line, place.lane),
        (Kind::SharedRace, line, lane),
        "{finding}"
    );
    assert!(finding.message.contains(words), "{finding}");
}

fn clean(warps: u32, body: &str) {
    let (text, found) = run(body, warps);
    assert!(found.is_empty(), "{}{text}", report(&found));
}

#[test]
fn a_neighbours_word_needs_a_meeting() {
    bug(
        1,
        "st.shared.u32 [%a], %t;\nld.shared.u32 %r2, [%n]; // here",
        0,
        "lane 1 of this warp wrote with no barrier or `.sync` operation in between",
    );
    clean(1, "st.shared.u32 [%a], %t;\nbar.warp.sync 0xffffffff;\nld.shared.u32 %r2, [%n];");
    clean(1, "st.shared.u32 [%a], %t;\nbar.sync 0;\nld.shared.u32 %r2, [%n];");
    let shuffle = "shfl.sync.idx.b32 %r3, %t, 0, 31, 0xffffffff;";
    clean(1, &format!("st.shared.u32 [%a], %t;\n{shuffle}\nld.shared.u32 %r2, [%n];"));
    // Its own word needs none.
    clean(1, "st.shared.u32 [%a], %t;\nld.shared.u32 %r2, [%a];\nst.shared.u32 [%a], %r2;");
}

#[test]
fn a_word_that_others_read_is_not_written_at_once() {
    let start = "st.shared.u32 [%a], %t;\nbar.sync 0;\n";
    bug(
        1,
        &format!("{start}ld.shared.u32 %r2, [%n];\nst.shared.u32 [%a], %r2; // here"),
        0,
        "lane 31 of this warp read",
    );
    clean(
        1,
        &format!("{start}ld.shared.u32 %r2, [%n];\nbar.warp.sync -1;\nst.shared.u32 [%a], %r2;"),
    );
    // All read the first word, then its owner writes it.
    let owner = "setp.eq.u32 %p1, %t, 0;\n";
    bug(
        1,
        &format!("{start}{owner}ld.shared.u32 %r2, [s];\n@%p1 st.shared.u32 [s], %r2; // here"),
        0,
        "another lane of this warp read",
    );
}

#[test]
fn vectors_and_halves() {
    // Sixteen bytes a lane, read by the next.
    let vectors = "shl.b32 %r4, %t, 4; add.u32 %r4, %r4, %r0; shl.b32 %r5, %r1, 4; \
                   add.u32 %r5, %r5, %r0;\nst.shared.v4.u32 [%r4], {%t, %t, %t, %t};\n";
    bug(
        1,
        &format!("{vectors}ld.shared.v4.u32 {{%r2, %r3, %r6, %r7}}, [%r5]; // here"),
        0,
        "lane 1 of",
    );
    clean(
        1,
        &format!("{vectors}bar.warp.sync -1;\nld.shared.v4.u32 {{%r2, %r3, %r6, %r7}}, [%r5];"),
    );
    bug(1, &format!("{vectors}ld.shared.u32 %r2, [%r5+8]; // here"), 0, "lane 1 of");
    // Two bytes a lane: the halves of a word are two lanes'.
    let halves = "cvt.u16.u32 %h1, %t; shl.b32 %r4, %t, 1; add.u32 %r4, %r4, %r0; shl.b32 %r5, %r1, 1; \
                  add.u32 %r5, %r5, %r0;\nst.shared.u16 [%r4], %h1;\n";
    clean(1, &format!("{halves}ld.shared.u16 %h2, [%r4];\nst.shared.u16 [%r4], %h2;"));
    bug(1, &format!("{halves}ld.shared.u16 %h2, [%r5]; // here"), 0, "lane 1 of");
    clean(1, &format!("{halves}bar.warp.sync -1;\nld.shared.u16 %h2, [%r5];"));
}

#[test]
fn two_lanes_of_one_store() {
    bug(1, "st.shared.u32 [s], %t; // here", 1, "that lane 0 of this warp wrote");
    // The same value is no conflict, in one warp or in several.
    clean(1, "st.shared.u32 [s], 7;");
    clean(2, "st.shared.u32 [s], 7;");
    bug(2, "and.b32 %r2, %t, 32;\nst.shared.u32 [s], %r2; // here", 0, "that warp ");
}

#[test]
fn branches_do_not_order() {
    // The upper half reads what the lower half wrote before the branch, and meets nobody.
    let branch = |sync: &str| {
        format!(
            "st.shared.u32 [%a], %t;\nsetp.ge.u32 %p1, %t, 16;\n{sync}\n@!%p1 bra DONE;\n\
             sub.u32 %r3, %a, 64;\nld.shared.u32 %r2, [%r3]; // here\nDONE:"
        )
    };
    bug(1, &branch(""), 16, "lane 0 of this warp wrote");
    clean(1, &branch("bar.warp.sync -1;"));
}
