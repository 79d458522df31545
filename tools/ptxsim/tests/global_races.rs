//! Races between blocks on global memory, and local variables that were never written.

mod support;

use ptxsim::exec::Level;
use ptxsim::finding::{Finding, Kind};
use support::{Arg, Device, report};

/// Runs `body` in four blocks of 32 threads, with `%c` the block, `%t` the thread, `%w` the place of
/// the thread's word in the first buffer, `%x` that of its half word; `%d1` a second buffer, of zeros.
/// Blocks run in order for seed 0. Returns the findings, those of each seed.
fn run(body: &str) -> (String, Vec<Vec<Finding>>) {
    let text = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n\
         .entry k(.param .u64 a, .param .u64 b) {{\n\
         .reg .pred %p<4>; .reg .b16 %h<4>; .reg .b32 %r<9>; .reg .b32 %t, %c, %g; .reg .b64 %d<9>;\n\
         .reg .b64 %w, %x; .local .align 8 .b8 array[64];\n\
         mov.u32 %t, %tid.x; mov.u32 %c, %ctaid.x; shl.b32 %r0, %c, 5; add.u32 %g, %t, %r0;\n\
         ld.param.u64 %d0, [a]; ld.param.u64 %d1, [b]; cvta.to.global.u64 %d0, %d0;\n\
         mul.wide.u32 %w, %g, 4; add.u64 %w, %w, %d0; mul.wide.u32 %x, %g, 2; add.u64 %x, %x, %d0;\n\
         {body}\nret; }}"
    );
    let mut all = Vec::new();
    for level in Level::available() {
        for seed in 0..4 {
            let mut device = Device::new(&text, level);
            device.machine.seed = seed;
            let args = [&[0u32; 256], &[0u32; 256]].map(|x| Arg::Address(device.upload(x)));
            // Twice: what an earlier launch wrote is no race.
            device.launch("k", [4, 1, 1], [32, 1, 1], 0, &args).unwrap_or_else(|e| panic!("{e}"));
            let found = device.findings.take();
            device.launch("k", [1, 1, 1], [32, 1, 1], 0, &args).unwrap_or_else(|e| panic!("{e}"));
            let later = device.findings.take();
            assert!(later.iter().all(|f| f.kind != Kind::GlobalRace), "{}", report(&later));
            all.push(found);
        }
    }
    (text, all)
}

/// With seed 0, on every level: one finding, at the line that says `// here`.
fn bug(kind: Kind, body: &str, block: u32, lane: u32, words: &str) {
    let (text, found) = run(body);
    let line = 1 + text.lines().position(|l| l.contains("// here")).expect("a marked line") as u32;
    for found in found.iter().step_by(4) {
        let [finding] = &found[..] else {
            panic!("expected one finding:\n{}{text}", report(found))
        };
        let place = finding.place.as_ref().expect("a place");
        let at = (finding.kind, place.ptx_line, place.block[0], place.lane);
        assert_eq!(at, (kind, line, block, lane), "{finding}");
        assert!(finding.message.contains(words), "{finding}");
    }
}

fn clean(body: &str) {
    let (text, found) = run(body);
    for found in found {
        assert!(found.is_empty(), "{}{text}", report(&found));
    }
}

#[test]
fn words_that_another_block_wrote() {
    // Each block writes its words, then reads those of the block before.
    let body = |after: &str, read: &str| {
        format!(
            "st.global.u32 [%w], %g;\n{after}\nsetp.eq.u32 %p1, %c, 0;\n@%p1 ret;\n\
             {read} %r2, [%w-128]; // here"
        )
    };
    let words = "a read of 4 bytes at";
    bug(Kind::GlobalRace, &body("", "ld.global.u32"), 1, 0, words);
    bug(
        Kind::GlobalRace,
        &body("", "ld.global.u32"),
        1,
        0,
        "that block [0, 0, 0] of this launch wrote",
    );
    // A fence alone orders nobody, nor does an atomic without one, nor a fence of the block.
    let atomic = "red.global.add.u32 [%d1], 1;";
    bug(Kind::GlobalRace, &body("membar.gl;", "ld.global.u32"), 1, 0, words);
    bug(Kind::GlobalRace, &body(atomic, "ld.global.u32"), 1, 0, words);
    bug(Kind::GlobalRace, &body(&format!("membar.cta;\n{atomic}"), "ld.global.u32"), 1, 0, words);
    // Its own words are no race; nor is a volatile read.
    clean(
        "st.global.u32 [%w], %g;\nld.global.u32 %r2, [%w];\nmembar.gl;\nld.global.u32 %r2, [%w];",
    );
    clean(&body("", "ld.volatile.global.u32"));
}

#[test]
fn writes_of_one_place_by_two_blocks() {
    bug(Kind::GlobalRace, "st.global.u32 [%d0], %c; // here", 1, 0, "a write of 4 bytes");
    clean("st.global.u32 [%d0], 7;");
    clean("red.global.add.u32 [%d0], %c;\natom.global.exch.b32 %r2, [%d0+4], %c;");
    clean("st.volatile.global.u32 [%d0], %c;");
    // Neighbouring halves of one word are two places.
    let halves = "mul.wide.u32 %d3, %c, 2; add.u64 %d3, %d3, %d0; cvt.u16.u32 %h1, %c;\n";
    clean(&format!("{halves}st.global.u16 [%d3], %h1;\nld.global.u16 %h2, [%d3];"));
    bug(
        Kind::GlobalRace,
        &format!(
            "{halves}st.global.u16 [%d3], %h1;\nsetp.ne.u32 %p1, %c, 2;\n@%p1 ret;\nld.global.u16 %h2, [%d3-2]; // here"
        ),
        2,
        0,
        "that block [1, 0, 0]",
    );
}

/// Every block leaves a sum; the last to arrive reads all.
fn last_block(fence: &str, arrive: &str, more: &str) -> String {
    format!(
        "st.global.u32 [%w], %g;\nbar.sync 0;\n{fence}\n{arrive}\n\
         setp.ne.u32 %p1, %r3, 127;\n{more}\n@%p1 ret;\n\
         mul.wide.u32 %d3, %t, 4; add.u64 %d3, %d3, %d0;\n\
         ld.global.u32 %r2, [%d3]; // here\nld.global.u32 %r2, [%d3+128];"
    )
}

#[test]
fn the_last_block_reads_what_the_others_left() {
    let atomic = "atom.global.add.u32 %r3, [%d1], 1;";
    clean(&last_block("membar.gl;", atomic, ""));
    clean(&last_block("fence.acq_rel.gpu;", atomic, ""));
    clean(&last_block("", "atom.acq_rel.gpu.global.add.u32 %r3, [%d1], 1;", ""));
    // The last arrival is lane 31 of block 3.
    let (_, found) = run(&last_block("", atomic, ""));
    assert_eq!(found[0].len(), 2, "{}", report(&found[0]));
    assert!(found[0].iter().all(|f| f.kind == Kind::GlobalRace), "{}", report(&found[0]));
    // What is written after the fence is not released by it.
    let late = "st.global.u32 [%w+128], %t;\nst.global.u32 [%w], %t;";
    let (_, found) = run(&last_block("membar.gl;", atomic, late));
    assert!(found[0].iter().any(|f| f.kind == Kind::GlobalRace), "{}", report(&found[0]));
}

#[test]
fn flags_and_volatile_waits() {
    // A store of a flag that releases, and a load that acquires; blocks run in order here.
    let flag = |store: &str, load: &str| {
        format!(
            "setp.ne.u32 %p1, %c, 0;\n@%p1 bra WAIT;\nst.global.u32 [%w], %g;\nbar.warp.sync -1;\n\
             {store}\nret;\nWAIT: {load}\nsetp.eq.u32 %p2, %r3, 0;\n@%p2 ret;\n\
             setp.ne.u32 %p2, %c, 2;\n@%p2 ret;\nld.global.u32 %r2, [%w-256]; // here"
        )
    };
    clean(&flag("st.release.gpu.global.u32 [%d1], 1;", "ld.acquire.gpu.global.u32 %r3, [%d1];"));
    clean(&flag(
        "membar.gl;\nst.volatile.global.u32 [%d1], 1;",
        "ld.volatile.global.u32 %r3, [%d1];",
    ));
    bug(
        Kind::GlobalRace,
        &flag("st.relaxed.gpu.global.u32 [%d1], 1;", "ld.relaxed.gpu.global.u32 %r3, [%d1];"),
        2,
        0,
        "that block [0, 0, 0]",
    );
}

#[test]
fn local_variables_that_nothing_wrote() {
    let read = "ld.local.u32 %r2, [array+8]; // here";
    bug(Kind::UninitialisedRead, read, 0, 0, "a read of 4 local bytes");
    let odd = "and.b32 %r3, %t, 1; setp.eq.u32 %p1, %r3, 0;\n@%p1 st.local.u32 [array+8], %t;\n";
    bug(Kind::UninitialisedRead, &format!("{odd}{read}"), 0, 1, "this thread has not");
    clean(&format!("st.local.v2.u32 [array+8], {{%t, %t}};\n{read}"));
    // Padding within an element is copied along; a whole element is not padding.
    clean(&format!("cvt.u16.u32 %h1, %t;\nst.local.u16 [array+8], %h1;\n{read}"));
    bug(
        Kind::UninitialisedRead,
        "st.local.u32 [array], %t;\nld.local.v2.u32 {%r2, %r3}, [array]; // here",
        0,
        0,
        "a read of 8 local bytes",
    );
}
