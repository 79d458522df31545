//! Rarer integer instructions: sums of byte and halfword products, packed arithmetic, bit fields.

use std::marker::PhantomData;

use super::integer::permute;
use super::lanes::{LANES, Operation, lanewise, load, load_bits, store, store_bits};
use super::op::{Ctx, Op};

lanewise! {
    Add16x2(a: u32, b: u32) -> u32 = halves(a, b, |x, y| x.wrapping_add(y));
    MinU16x2(a: u32, b: u32) -> u32 = halves(a, b, u16::min);
    MaxU16x2(a: u32, b: u32) -> u32 = halves(a, b, u16::max);
    MinS16x2(a: u32, b: u32) -> u32 = halves(a, b, |x, y| (x as i16).min(y as i16) as u16);
    MaxS16x2(a: u32, b: u32) -> u32 = halves(a, b, |x, y| (x as i16).max(y as i16) as u16);
    // With .relu what is below zero becomes zero.
    MinReluS16x2(a: u32, b: u32) -> u32 = halves(a, b, |x, y| (x as i16).min(y as i16).max(0) as u16);
    MaxReluS16x2(a: u32, b: u32) -> u32 = halves(a, b, |x, y| (x as i16).max(y as i16).max(0) as u16);
    MinReluS32(a: i32, b: i32) -> i32 = a.min(b).max(0);
    MaxReluS32(a: i32, b: i32) -> i32 = a.max(b).max(0);

    // With .sat the sum is clamped, of which the product's upper part is a term.
    MadHighSaturated(a: i32, b: i32, c: i32) -> i32 = (((i64::from(a) * i64::from(b)) >> 32) as i32).saturating_add(c);
    Mad24HighU(a: u32, b: u32, c: u32) -> u32 = (((u64::from(a & 0xFF_FFFF) * u64::from(b & 0xFF_FFFF)) >> 16) as u32).wrapping_add(c);
    Mad24HighS(a: i32, b: i32, c: i32) -> i32 = high24(a, b).wrapping_add(c);
    Mad24HighSaturated(a: i32, b: i32, c: i32) -> i32 = high24(a, b).saturating_add(c);

    // `prmt` with a mode: two bits of the third source stand for a whole selector.
    PermuteForward(a: u32, b: u32, n: u32) -> u32 = permute(a, b, 0x3210 + 0x1111 * (n & 3));
    PermuteBackward(a: u32, b: u32, n: u32) -> u32 = permute(a, b, (0x5670 + 0x1111 * (n & 3)) & 0x7777);
    PermuteReplicate8(a: u32, b: u32, n: u32) -> u32 = permute(a, b, 0x1111 * (n & 3));
    PermuteReplicate16(a: u32, b: u32, n: u32) -> u32 = permute(a, b, 0x1010 + 0x2222 * (n & 1));
    PermuteClampLeft(a: u32, b: u32, n: u32) -> u32 = permute(a, b, [0x3210, 0x3211, 0x3222, 0x3333][n as usize & 3]);
    PermuteClampRight(a: u32, b: u32, n: u32) -> u32 = permute(a, b, [0x0000, 0x1110, 0x2210, 0x3210][n as usize & 3]);

    MaskClamp(at: u32, n: u32) -> u32 = ones(at, n);
    MaskWrap(at: u32, n: u32) -> u32 = ones(at & 31, n & 31);
    SignExtendClampU(a: u32, n: u32) -> u32 = if n > 31 { a } else { a & ones(0, n) };
    SignExtendWrapU(a: u32, n: u32) -> u32 = a & ones(0, n & 31);
    SignExtendClampS(a: i32, n: u32) -> i32 = sign_extend(a, n);
    SignExtendWrapS(a: i32, n: u32) -> i32 = sign_extend(a, n & 31);
    FindNth(mask: u32, base: u32, offset: i32) -> u32 = find_nth(mask, base, offset);
}

/// Bits 16 to 47 of the product of two numbers of 24 bits.
#[inline(always)]
fn high24(a: i32, b: i32) -> i32 {
    ((i64::from(a << 8 >> 8) * i64::from(b << 8 >> 8)) >> 16) as i32
}

#[inline(always)]
fn halves(a: u32, b: u32, f: impl Fn(u16, u16) -> u16) -> u32 {
    let [low, high] = [0, 16].map(|by| u32::from(f((a >> by) as u16, (b >> by) as u16)));
    high << 16 | low
}

/// `n` ones from bit `at` on.
#[inline(always)]
fn ones(at: u32, n: u32) -> u32 {
    let field = if n > 31 { u32::MAX } else { (1 << n) - 1 };
    if at > 31 { 0 } else { field << at }
}

/// The low `n` bits as a number with a sign; of none, zero.
#[inline(always)]
fn sign_extend(a: i32, n: u32) -> i32 {
    match n {
        0 => 0,
        1..=31 => a << (32 - n) >> (32 - n),
        _ => a,
    }
}

/// `fns`: the place of the set bit that is `offset` bits from `base`, where one is `base` itself or the
/// first beyond; all ones if there is none.
#[inline(always)]
fn find_nth(mask: u32, base: u32, offset: i32) -> u32 {
    if base > 31 {
        return u32::MAX;
    }
    if offset == 0 {
        return if mask >> base & 1 == 1 { base } else { u32::MAX };
    }
    let mut left = offset.unsigned_abs();
    let mut at = base as i32;
    while (0..32).contains(&at) {
        left -= mask >> at & 1;
        if left == 0 {
            return at as u32;
        }
        at += offset.signum();
    }
    u32::MAX
}

/// `dp2a`: two halfwords of a times two bytes of b, plus c. Flags in `immediate`.
pub struct DotProduct2;

pub const A_SIGNED: i64 = 1;
pub const B_SIGNED: i64 = 2;
/// `dp2a.hi`: the upper two bytes.
pub const UPPER: i64 = 4;

impl Operation for DotProduct2 {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let [a, b, mut c] = [0, 1, 2].map(|n| load::<u32>(ctx.registers, op.sources[n]));
            let by = if op.immediate & UPPER == 0 { 0 } else { 16 };
            for i in 0..LANES {
                for k in 0..2 {
                    let x = field(a[i], 16 * k, 16, op.immediate & A_SIGNED != 0);
                    let y = field(b[i], by + 8 * k, 8, op.immediate & B_SIGNED != 0);
                    c[i] = c[i].wrapping_add((x * y) as u32);
                }
            }
            store(ctx.registers, op.result, mask, c);
        }
    }
}

/// Bits of a word as a number.
#[inline(always)]
fn field(word: u32, at: u32, width: u32, signed: bool) -> i32 {
    let top = word << (32 - at - width);
    if signed { top as i32 >> (32 - width) } else { (top >> (32 - width)) as i32 }
}

/// SIMD video instructions: of each of the 2 or 4 parts of a word. In `immediate`: [`A_SIGNED`],
/// [`B_SIGNED`], [`RESULT_SIGNED`], [`SATURATE`], [`ACCUMULATE`], [`FOUR`], and from bit 8 on the number
/// of the operation in [`VIDEO`].
pub struct Video;

pub const VIDEO: [&str; 6] = ["vadd", "vsub", "vavrg", "vabsdiff", "vmin", "vmax"];
pub const RESULT_SIGNED: i64 = 4;
pub const SATURATE: i64 = 8;
/// `.add`: the parts' sum and c.
pub const ACCUMULATE: i64 = 16;
pub const FOUR: i64 = 32;

impl Operation for Video {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let [a, b, c] = [0, 1, 2].map(|n| load::<u32>(ctx.registers, op.sources[n]));
            let on = |flag: i64| op.immediate & flag != 0;
            let width = if on(FOUR) { 8 } else { 16 };
            let (least, most) = match on(RESULT_SIGNED) {
                true => (-1i32 << (width - 1), (1i32 << (width - 1)) - 1),
                false => (0, (1i32 << width) - 1),
            };
            let mut result = [0u32; LANES];
            for i in 0..LANES {
                result[i] = if on(ACCUMULATE) { c[i] } else { 0 };
                for at in (0..32).step_by(width as usize) {
                    let x = field(a[i], at, width, on(A_SIGNED));
                    let y = field(b[i], at, width, on(B_SIGNED));
                    let part = match op.immediate >> 8 {
                        0 => x + y,
                        1 => x - y,
                        // Rounds away from zero.
                        2 => (x + y + i32::from(x + y >= 0)) >> 1,
                        3 => (x - y).abs(),
                        4 => x.min(y),
                        _ => x.max(y),
                    };
                    let part = if on(SATURATE) { part.clamp(least, most) } else { part };
                    let part = part as u32 & ((1 << width) - 1);
                    result[i] = if on(ACCUMULATE) {
                        result[i].wrapping_add(field(part, 0, width, on(RESULT_SIGNED)) as u32)
                    } else {
                        result[i] | part << at
                    };
                }
            }
            store(ctx.registers, op.result, mask, result);
        }
    }
}

/// `mad.cc` and `madc`: half a product, plus c, with carries as [`super::integer::Carry`] has them.
pub struct MadCarry<T>(PhantomData<T>);

/// Flags beside those of `Carry`.
pub const HIGH: i64 = 8;
pub const SIGNED: i64 = 16;

impl<T: Copy + Default + Into<u128> + TryFrom<u128>> Operation for MadCarry<T> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        use super::integer::{CARRY_IN, CARRY_OUT};
        // SAFETY: the caller's.
        unsafe {
            let [a, b, c] = [0, 1, 2].map(|n| load::<T>(ctx.registers, op.sources[n]));
            let bits = match op.immediate & CARRY_IN {
                0 => 0,
                _ => load_bits(ctx.registers, op.sources[3]),
            };
            let width = 8 * size_of::<T>() as u32;
            let wide = |x: T| match op.immediate & SIGNED {
                0 => x.into(),
                _ => ((x.into() << (128 - width)) as i128 >> (128 - width)) as u128,
            };
            let shift = if op.immediate & HIGH == 0 { 0 } else { width };
            let low = (1u128 << width) - 1;
            let (mut result, mut carries) = ([T::default(); LANES], 0);
            for i in 0..LANES {
                let half = wide(a[i]).wrapping_mul(wide(b[i])) >> shift & low;
                let sum = half + c[i].into() + u128::from(bits >> i & 1);
                carries |= ((sum >> width) as u32) << i;
                result[i] = T::try_from(sum & low).unwrap_or_default();
            }
            store(ctx.registers, op.result, mask, result);
            if op.immediate & CARRY_OUT != 0 {
                store_bits(ctx.registers, op.sources[3], mask, carries);
            }
        }
    }
}

/// `slct`: a where the third source is not below zero, else b (as for NaN). `immediate`: 0 for an
/// integer, 1 for f32, 2 for f32 with `.ftz`.
pub struct SelectBySign<T>(PhantomData<T>);

impl<T: Copy> Operation for SelectBySign<T> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let a = load::<T>(ctx.registers, op.sources[0]);
            let mut result = load::<T>(ctx.registers, op.sources[1]);
            let c = load::<u32>(ctx.registers, op.sources[2]);
            for i in 0..LANES {
                let first = match op.immediate {
                    0 => c[i] as i32 >= 0,
                    1 => f32::from_bits(c[i]) >= 0.0,
                    _ => crate::arith::formats::flush(f32::from_bits(c[i])) >= 0.0,
                };
                result[i] = if first { a[i] } else { result[i] };
            }
            store(ctx.registers, op.result, mask, result);
        }
    }
}

/// `lop3` with a predicate result: whether the word is not zero, joined with a predicate source (the
/// list's) by the truth table in bits 8 to 11 of `immediate`.
pub struct TestZero;

impl Operation for TestZero {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            super::integer::Lop3::run(ctx, op, mask);
            let word = load::<u32>(ctx.registers, op.result);
            let mut bits = 0;
            for i in 0..LANES {
                bits |= u32::from(word[i] != 0) << i;
            }
            let with = load_bits(ctx.registers, op.sources[3]);
            let joined = super::integer::table(op.immediate >> 8, bits, with);
            store_bits(ctx.registers, op.list, mask, joined);
        }
    }
}
