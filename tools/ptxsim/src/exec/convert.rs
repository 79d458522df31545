//! `cvt`, and packing and unpacking of registers.

use std::marker::PhantomData;

use super::lanes::{LANES, Lanes, Operation, lanewise, load, store};
use super::op::{Ctx, Op};
use crate::arith::double;
use crate::arith::formats::{Bf16, F16, Overflow, Rounding, canonical, narrow, widen};

lanewise! {
    ZeroExtend16(a: u16) -> u32 = a.into();
    SignExtend16(a: i16) -> i32 = a.into();
    ZeroExtend32(a: u32) -> u64 = a.into();
    SignExtend32(a: i32) -> i64 = a.into();
    Truncate32(a: u32) -> u16 = a as u16;
    Truncate64(a: u64) -> u32 = a as u32;

    FloatU32(a: u32) -> f32 = a as f32;
    FloatS32(a: i32) -> f32 = a as f32;
    DoubleU32(a: u32) -> f64 = a.into();
    DoubleS32(a: i32) -> f64 = a.into();
    // NaN becomes 0 and what is out of range the nearest end, here as there.
    TruncateU32(a: f32) -> u32 = a as u32;
    TruncateS32(a: f32) -> i32 = a as i32;

    Narrow(a: f64) -> f32 = canonical(a as f32);
    Widen(a: f32) -> f64 = double::canonical(a.into());
    WidenF16(a: u16) -> f32 = widen::<F16>(a);
    WidenBf16(a: u16) -> f32 = widen::<Bf16>(a);
    NarrowF16(a: f32) -> u16 = narrow::<F16>(a, Rounding::NearestEven, Overflow::Infinity);
    NarrowBf16(a: f32) -> u16 = narrow::<Bf16>(a, Rounding::NearestEven, Overflow::Infinity);

    Pack8(a: u16, b: u16) -> u16 = b << 8 | a & 0xFF;
    Pack8x4(a: u16, b: u16, c: u16, d: u16) -> u32 = halves(b << 8 | a & 0xFF, d << 8 | c & 0xFF);
    Pack16(a: u16, b: u16) -> u32 = halves(a, b);
    Pack32(a: u32, b: u32) -> u64 = u64::from(b) << 32 | u64::from(a);
    Pack16x4(a: u16, b: u16, c: u16, d: u16) -> u64 = u64::from(halves(c, d)) << 32 | u64::from(halves(a, b));
    Pack64(a: u64, b: u64) -> u128 = u128::from(b) << 64 | u128::from(a);
    Pack32x4(a: u32, b: u32, c: u32, d: u32) -> u128 =
        u128::from(d) << 96 | u128::from(c) << 64 | u128::from(b) << 32 | u128::from(a);
}

#[inline(always)]
fn halves(low: u16, high: u16) -> u32 {
    u32::from(high) << 16 | u32::from(low)
}

/// `mov {a, b}, c`: the parts of each lane, lowest first, to the registers of the list. A part without
/// a register (`_`) has the offset `u32::MAX`; one has `BYTES`, perhaps fewer than its register.
pub struct Unpack<T, P, const BYTES: usize>(PhantomData<(T, P)>);

impl<T, P, const BYTES: usize> Operation for Unpack<T, P, BYTES>
where
    T: Copy + Into<u128>,
    P: Copy + Default + TryFrom<u128>,
{
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let whole = load::<T>(ctx.registers, op.sources[0]);
            let bits = 8 * BYTES;
            let part = u128::MAX >> (128 - bits);
            for (k, &result) in ctx.kernel.code.lists[op.list as usize].iter().enumerate() {
                let mut lanes = [P::default(); LANES];
                for i in 0..LANES {
                    lanes[i] =
                        P::try_from(whole[i].into() >> (k * bits) & part).unwrap_or_default();
                }
                if result != u32::MAX {
                    store(ctx.registers, result, mask, lanes);
                }
            }
        }
    }
}

/// `cvt` between integers of any width: `access` says how wide the source is and how it is read,
/// `immediate` (the three bytes of [`integer_flags`]) the rest.
pub struct Integer;

/// Bytes of the source's register, bytes and sign of the result's type, bytes of its register, `.sat`.
pub fn integer_flags(from: u8, to: u8, signed: bool, register: u8, saturate: bool) -> i64 {
    i64::from(from)
        | i64::from(to) << 8
        | i64::from(register) << 16
        | i64::from(signed) << 24
        | i64::from(saturate) << 25
}

impl Operation for Integer {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let flags = op.immediate;
            let whole: Lanes<u64> = match flags & 0xFF {
                2 => load::<u16>(ctx.registers, op.sources[0]).map(u64::from),
                4 => load::<u32>(ctx.registers, op.sources[0]).map(u64::from),
                _ => load::<u64>(ctx.registers, op.sources[0]),
            };
            let from = 8 * u32::from(op.access.bytes);
            let to = 8 * (flags >> 8 & 0xFF) as u32;
            let (signed, saturate) = (flags >> 24 & 1 == 1, flags >> 25 & 1 == 1);
            let result = whole.map(|x| {
                let x = i128::from(x << (64 - from) >> (64 - from));
                let x = if op.access.signed { x << (128 - from) >> (128 - from) } else { x };
                let (least, most) = match signed {
                    true => (-1i128 << (to - 1), (1i128 << (to - 1)) - 1),
                    false => (0, (1i128 << to) - 1),
                };
                let x = if saturate { x.clamp(least, most) } else { x };
                // Into the register's width: by the result's sign.
                let x = x << (128 - to);
                (if signed { x >> (128 - to) } else { (x as u128 >> (128 - to)) as i128 }) as u64
            });
            match flags >> 16 & 0xFF {
                2 => store(ctx.registers, op.result, mask, result.map(|x| x as u16)),
                4 => store(ctx.registers, op.result, mask, result.map(|x| x as u32)),
                _ => store(ctx.registers, op.result, mask, result),
            }
        }
    }
}

/// `cvt.pack.sat`. `immediate`: bits of a part, [`PACK_SIGNED`], [`PACK_MERGES`].
pub struct PackSaturated;

pub const PACK_SIGNED: i64 = 1 << 8;
/// There is a third source, whose bits lie above the two parts.
pub const PACK_MERGES: i64 = 1 << 9;

impl Operation for PackSaturated {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let [a, b] = [0, 1].map(|n| load::<i32>(ctx.registers, op.sources[n]));
            let c = load::<u32>(ctx.registers, op.sources[2]);
            let width = (op.immediate & 0xFF) as u32;
            let (least, most) = match op.immediate & PACK_SIGNED {
                0 => (0, (1 << width) - 1),
                _ => (-1 << (width - 1), (1 << (width - 1)) - 1),
            };
            let part = |x: i32| x.clamp(least, most) as u32 & ((1 << width) - 1);
            let mut result = [0; LANES];
            for i in 0..LANES {
                let above = if op.immediate & PACK_MERGES == 0 { 0 } else { c[i] << (2 * width) };
                result[i] = above | part(a[i]) << width | part(b[i]);
            }
            store(ctx.registers, op.result, mask, result);
        }
    }
}
