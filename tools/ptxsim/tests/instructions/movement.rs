//! `mov` with its packs and unpacks, `cvta` and `isspacep`, and what only prefetches or orders.

use crate::harness::{P, equals, integers};
use crate::integer::width;

pub const TESTS: crate::Tests = &[
    ("moves", moves),
    ("immediates", immediates),
    ("packs", packs),
    ("unpacks", unpacks),
    ("windows", windows),
    ("fences_and_prefetches", fences_and_prefetches),
];

fn moves() {
    for ty in ["b16", "u16", "s16", "b32", "u32", "s32", "b64", "u64", "s64", "f32", "f64"] {
        let w = width(ty);
        equals(&format!("mov.{ty}"), &integers([w]), [w], |[a]| [a]);
    }
    // Immediates: integers of both signs, hexadecimal and binary ones, and floats by their bits.
    let forms: [(&str, u32, u64); 7] = [
        ("mov.s32 %d0, -5;", 32, (-5i64) as u64),
        ("mov.u32 %d0, 0xDEADBEEF;", 32, 0xDEAD_BEEF),
        ("mov.b64 %d0, 0x8000000000000001;", 64, 0x8000_0000_0000_0001),
        ("mov.b32 %d0, 0b1011;", 32, 11),
        ("mov.f32 %d0, 0f3FC00000;", 32, 0x3FC0_0000),
        ("mov.f64 %d0, 0d4008000000000000;", 64, 0x4008_0000_0000_0000),
        ("mov.u16 %d0, 0xFFFF;", 16, 0xFFFF),
    ];
    for (text, w, bits) in forms {
        equals(text, &integers([w]), [w], |_| [bits]);
    }
}

/// Immediates as operands of other instructions, in every width.
fn immediates() {
    let (short, word, double) = (integers([16]), integers([32]), integers([64]));
    equals("add.u16 %d0, %s0, 65535;", &short, [16], |[a]| [a.wrapping_sub(1)]);
    equals("sub.s16 %d0, -3, %s0;", &short, [16], |[a]| [(-3i64 as u64).wrapping_sub(a)]);
    equals("add.s32 %d0, %s0, -7;", &word, [32], |[a]| [a.wrapping_sub(7)]);
    equals("shl.b32 %d0, %s0, 5;", &word, [32], |[a]| [a << 5]);
    equals("mad.lo.u32 %d0, %s0, 10, 0xF;", &word, [32], |[a]| [a * 10 + 15]);
    equals("mul.wide.u32 %d0, %s0, 12;", &word, [64], |[a]| [a * 12]);
    equals("setp.gt.s32 %d0, %s0, -1;", &word, [P], |[a]| [u64::from(a >> 31 == 0)]);
    equals("and.b64 %d0, %s0, -256;", &double, [64], |[a]| [a & !0xFF]);
    equals("xor.b64 %d0, 0xFFFFFFFF00000000, %s0;", &double, [64], |[a]| [a ^ 0xFFFF_FFFF << 32]);
    // A float is written by its bits or as a decimal number. copysign has the sign first.
    equals("mov.f32 %d0, 1.5;", &word, [32], |_| [u64::from(1.5f32.to_bits())]);
    equals("copysign.f32 %d0, 0f00000000, %s0;", &word, [32], |[a]| [a & 0x7FFF_FFFF]);
    equals("copysign.f64 %d0, 0d8000000000000000, %s0;", &double, [64], |[a]| [a | 1 << 63]);
}

/// The first part is the lowest.
fn packs() {
    equals("mov.b16 %d0, {%s0, %s1};", &integers([8; 2]), [16], |[a, b]| [b << 8 | a]);
    equals("mov.b32 %d0, {%s0, %s1, %s2, %s3};", &integers([8; 4]), [32], |[a, b, c, d]| {
        [d << 24 | c << 16 | b << 8 | a]
    });
    equals("mov.b32 %d0, {%s0, %s1};", &integers([16; 2]), [32], |[a, b]| [b << 16 | a]);
    equals("mov.b64 %d0, {%s0, %s1};", &integers([32; 2]), [64], |[a, b]| [b << 32 | a]);
    equals("mov.b64 %d0, {%s0, %s1, %s2, %s3};", &integers([16; 4]), [64], |[a, b, c, d]| {
        [d << 48 | c << 32 | b << 16 | a]
    });
    // Through 128 bits and back.
    let text = ".reg .b128 %x; mov.b128 %x, {%s0, %s1}; mov.b128 {%d1, %d0}, %x;";
    equals(text, &integers([64; 2]), [64; 2], |[a, b]| [b, a]);
}

fn unpacks() {
    equals("mov.b16 {%d0, %d1}, %s0;", &integers([16]), [8; 2], |[a]| [a, a >> 8]);
    equals("mov.b32 {%d0, %d1, %d2, %d3}, %s0;", &integers([32]), [8; 4], |[a]| {
        [0, 8, 16, 24].map(|by| a >> by)
    });
    equals("mov.b32 {%d0, %d1}, %s0;", &integers([32]), [16; 2], |[a]| [a, a >> 16]);
    equals("mov.b64 {%d0, %d1}, %s0;", &integers([64]), [32; 2], |[a]| [a, a >> 32]);
    equals("mov.b64 {%d0, %d1, %d2, %d3}, %s0;", &integers([64]), [16; 4], |[a]| {
        [0, 16, 32, 48].map(|by| a >> by)
    });
    equals("mov.b64 {_, %d0}, %s0;", &integers([64]), [32], |[a]| [a >> 32]);
    equals("mov.b32 {%d0, _}, %s0;", &integers([32]), [16], |[a]| [a]);
    // A register may be among the sources of its own parts.
    equals("mov.b64 {%d0, %d1}, %s0; mov.b64 {%d1, %d0}, %s0;", &integers([64]), [32; 2], |[a]| {
        [a >> 32, a]
    });
}

/// Addresses of shared and local memory become generic ones and back, and tell where they point.
fn windows() {
    let cases = integers([32]);
    for space in ["shared", "shared::cta", "local"] {
        let text = format!(
            ".reg .b64 %x, %y, %z; mov.u64 %x, 80; cvta.{space}.u64 %y, %x;
             cvta.to.{space}.u64 %z, %y; setp.eq.u64 %d0, %x, %z; setp.ne.u64 %d1, %x, %y;
             isspacep.{space} %d2, %y; isspacep.global %d3, %y;"
        );
        equals(&text, &cases, [P; 4], |_| [1, 1, 1, 0]);
    }
    let text = ".reg .b64 %x, %y; ld.param.u64 %x, [in]; cvta.global.u64 %y, %x; cvta.to.global.u64 %y, %y;
        setp.eq.u64 %d0, %x, %y; isspacep.global %d1, %y; isspacep.shared %d2, %y; isspacep.local %d3, %y;
        isspacep.shared::cta %d2, %y;";
    equals(text, &cases, [P; 4], |_| [1, 1, 0, 0]);
}

/// They change no value, neither of registers nor of what was loaded before.
fn fences_and_prefetches() {
    let cases = integers([32]);
    for text in [
        "membar.cta",
        "membar.gl",
        "membar.sys",
        "fence.sc.cta",
        "fence.sc.gpu",
        "fence.sc.sys",
        "fence.sc.cluster",
        "fence.acq_rel.cta",
        "fence.acq_rel.cluster",
        "fence.acq_rel.gpu",
        "fence.acq_rel.sys",
        "fence.acquire.gpu",
        "fence.release.gpu",
        "fence.proxy.alias",
        "fence.proxy.async",
        "fence.mbarrier_init.release.cluster",
        "griddepcontrol.wait",
        "griddepcontrol.launch_dependents",
        "nanosleep.u32 20",
        "prefetch.global.L1 [%x]",
        "prefetch.global.L2 [%x]",
        "prefetch.global.L2::evict_last [%x]",
        "prefetch.L1 [%x]",
        "prefetchu.L1 [%x]",
    ] {
        let text = format!(".reg .b64 %x; ld.param.u64 %x, [in]; {text}; not.b32 %d0, %s0;");
        equals(&text, &cases, [32], |[a]| [!a]);
    }
    let text = ".reg .b64 %x, %policy; ld.param.u64 %x, [in];
        createpolicy.fractional.L2::evict_first.b64 %policy, 1.0;
        ld.global.L2::cache_hint.u32 %d0, [%x], %policy; ld.global.u32 %d1, [%x];
        sub.u32 %d0, %d0, %d1;";
    let cases = integers([32]);
    let first = cases.values[0][0];
    equals(text, &cases, [32, 32], |_| [0, first]);
}
