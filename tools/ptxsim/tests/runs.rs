//! Loads and stores whose lanes lie side by side are checked at once: what they carry, and that a bad
//! lane among them is still named.

mod support;

use ptxsim::exec::Level;
use ptxsim::finding::{Finding, Kind};
use support::{Arg, Device, Random, report};

/// A kernel of one warp with buffers `%d0` and `%d1`, `%t` the thread, and `%w`, `%h`, `%v` the thread's
/// word, half word and four words in the second.
fn device(body: &str, level: Level) -> Device {
    let text = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n\
         .entry k(.param .u64 a, .param .u64 b) {{\n\
         .reg .pred %p<4>; .reg .b16 %s<9>; .reg .b32 %r<9>; .reg .b32 %t; .reg .b64 %d<9>;\n\
         .reg .b64 %w, %h, %v;\n\
         mov.u32 %t, %tid.x; ld.param.u64 %d0, [a]; ld.param.u64 %d1, [b];\n\
         mul.wide.u32 %w, %t, 4; add.u64 %w, %w, %d1; mul.wide.u32 %h, %t, 2; add.u64 %h, %h, %d1;\n\
         mul.wide.u32 %v, %t, 16; add.u64 %v, %v, %d1;\n{body}\nret; }}"
    );
    Device::new(&text, level)
}

/// Copies 512 bytes from the first buffer to the second.
fn carried(body: &str) {
    for level in Level::available() {
        let device = device(body, level);
        let mut random = Random(1);
        let x: Vec<u32> = (0..128).map(|_| random.word()).collect();
        let (from, to) = (device.upload(&x), device.upload(&[0u32; 128]));
        let args = [from, to].map(Arg::Address);
        device.launch("k", [1, 1, 1], [32, 1, 1], 0, &args).unwrap_or_else(|e| panic!("{e}"));
        device.clean();
        assert_eq!(device.download::<u32>(to, 128), x, "{level:?}: {body}");
    }
}

#[test]
fn all_widths_carry_their_lanes() {
    let from = "sub.u64 %d2, %v, %d1; add.u64 %d2, %d2, %d0;\n";
    carried(&format!(
        "{from}ld.global.v4.u32 {{%r0, %r1, %r2, %r3}}, [%d2];\n\
         st.global.v4.u32 [%v], {{%r0, %r1, %r2, %r3}};"
    ));
    // Eight half words a thread, as vectors of four, two and one.
    let step = |width: u32, count: u32, n: u32| {
        let part = |base: &str| {
            format!(
                "mul.wide.u32 %d3, %t, {}; add.u64 %d3, %d3, {base}; add.u64 %d3, %d3, {};",
                width * count,
                32 * width * count * n
            )
        };
        let names = ["%s0", "%s0, %s1", "%s0, %s1, %s2, %s3"][count.ilog2() as usize];
        let (vector, names) = match count {
            1 => (String::new(), names.to_owned()),
            _ => (format!(".v{count}"), format!("{{{names}}}")),
        };
        let (load, store) = (part("%d0"), part("%d1"));
        format!(
            "{load}\nld.global{vector}.u16 {names}, [%d3];\n{store}\nst.global{vector}.u16 [%d3], {names};\n"
        )
    };
    for count in [1, 2, 4] {
        carried(&(0..8 / count).map(|n| step(2, count, n)).collect::<String>());
    }
}

/// The findings of a launch whose second buffer has `bytes`, of which nothing is written.
fn findings(body: &str, bytes: usize, level: Level) -> Vec<Finding> {
    let device = device(body, level);
    let args = [device.upload(&[0u32; 128]), device.allocate(bytes)].map(Arg::Address);
    let _ = device.launch("k", [1, 1, 1], [32, 1, 1], 0, &args);
    device.findings.take()
}

fn one(kind: Kind, lane: u32, bytes: usize, body: &str) {
    for level in Level::available() {
        let found = findings(body, bytes, level);
        let [finding] = &found[..] else { panic!("{body}: expected one:\n{}", report(&found)) };
        let at = (finding.kind, finding.place.as_ref().map(|p| p.lane));
        assert_eq!(at, (kind, Some(lane)), "{level:?}, {body}: {finding}");
    }
}

#[test]
fn a_bad_lane_is_named() {
    one(Kind::OutOfBounds, 31, 4 * 31, "st.global.u32 [%w], %t;");
    one(Kind::OutOfBounds, 31, 2 * 31, "mov.u16 %s0, 1;\nst.global.u16 [%h], %s0;");
    one(Kind::OutOfBounds, 30, 16 * 31 - 4, "st.global.v4.u32 [%v], {%t, %t, %t, %t};");
    one(Kind::OutOfBounds, 0, 128, "st.global.u32 [%w-4], %t;");
    one(Kind::Misaligned, 0, 256, "ld.global.u32 %r0, [%w+2];");
    let but_five = "setp.ne.u32 %p1, %t, 5;\n@%p1 st.global.u32 [%w], %t;\n";
    one(Kind::UninitialisedRead, 5, 128, &format!("{but_five}ld.global.u32 %r0, [%w];"));
    one(Kind::UninitialisedRead, 10, 128, &format!("{but_five}ld.global.u16 %s0, [%h];"));
    // All lanes at one place.
    one(Kind::UninitialisedRead, 0, 128, &format!("{but_five}ld.global.u32 %r0, [%d1+20];"));
    for level in Level::available() {
        let found = findings(&format!("{but_five}ld.global.u32 %r0, [%d1+24];"), 128, level);
        assert!(found.is_empty(), "{}", report(&found));
    }
}
