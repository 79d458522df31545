//! What lanes of a warp do together: shuffles, votes, matches and reductions.

use super::lanes::{LANES, Operation, each, load, load_bits, store, store_bits};
use super::op::{Ctx, Op};
use crate::finding::Kind;

/// `shfl.sync`. `immediate` is a [`Shuffle`]; `result` and, unless `u32::MAX`, the list's predicate
/// say what came and whether it was in range. The fourth source is the member mask.
pub struct ShuffleSync;

/// Directions of `shfl`.
pub const UP: i64 = 0;
pub const DOWN: i64 = 1;
pub const BUTTERFLY: i64 = 2;
pub const INDEX: i64 = 3;

impl Operation for ShuffleSync {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let a = load::<u32>(ctx.registers, op.sources[0]);
            let b = load::<u32>(ctx.registers, op.sources[1]);
            let c = load::<u32>(ctx.registers, op.sources[2]);
            let (mut result, mut inside, mut absent) = ([0; LANES], 0, 0);
            for lane in 0..LANES as u32 {
                let i = lane as usize;
                let (clamp, segment) = (c[i] & 31, c[i] >> 8 & 31);
                let most = (lane & segment) | (clamp & !segment);
                let least = lane & segment;
                let by = b[i] & 31;
                let (from, good) = match op.immediate {
                    UP => (lane.wrapping_sub(by), lane as i32 - by as i32 >= most as i32),
                    DOWN => (lane + by, lane + by <= most),
                    BUTTERFLY => (lane ^ by, (lane ^ by) <= most),
                    _ => (least | by & !segment, (least | by & !segment) <= most),
                };
                let from = if good { from & 31 } else { lane };
                result[i] = a[from as usize];
                inside |= u32::from(good) << lane;
                absent |= u32::from(mask >> from & 1 == 0) << lane;
            }
            if absent & mask != 0 && ctx.machine.checks {
                absent_lanes(ctx, op, absent & mask);
            }
            store(ctx.registers, op.result, mask, result);
            store_bits(ctx.registers, op.list, mask, inside);
        }
    }
}

#[cold]
#[inline(never)]
fn absent_lanes(ctx: &mut Ctx<'_>, op: &Op, lanes: u32) {
    let lane = lanes.trailing_zeros() as usize;
    let message = format!(
        "shfl reads from a lane that does not take part: what it gets is undefined (lanes {lanes:#x})"
    );
    ctx.find(Kind::UninitialisedRead, op, lane, None, message);
}

/// `vote.sync`: all, any, uni. The first source is the predicate, negated by `immediate`'s bit 8.
pub struct Vote;

pub const ALL: i64 = 0;
pub const ANY: i64 = 1;
pub const UNIFORM: i64 = 2;
pub const NEGATED: i64 = 1 << 8;

impl Operation for Vote {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let bits = load_bits(ctx.registers, op.sources[0]);
            let bits = (if op.immediate & NEGATED == 0 { bits } else { !bits }) & mask;
            let holds = match op.immediate & 0xFF {
                ALL => bits == mask,
                ANY => bits != 0,
                _ => bits == mask || bits == 0,
            };
            store_bits(ctx.registers, op.result, mask, if holds { mask } else { 0 });
        }
    }
}

/// `vote.sync.ballot`.
pub struct Ballot;

impl Operation for Ballot {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let bits = load_bits(ctx.registers, op.sources[0]);
            let bits = (if op.immediate & NEGATED == 0 { bits } else { !bits }) & mask;
            store(ctx.registers, op.result, mask, [bits; LANES]);
        }
    }
}

/// `activemask`.
pub struct ActiveMask;

impl Operation for ActiveMask {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe { store(ctx.registers, op.result, mask, [mask; LANES]) }
    }
}

/// `elect.sync`: the lowest lane, and whether it is this one (the list's predicate).
pub struct Elect;

impl Operation for Elect {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let leader = mask.trailing_zeros();
            store(ctx.registers, op.result, mask, [leader; LANES]);
            store_bits(ctx.registers, op.list, mask, 1 << leader);
        }
    }
}

/// `match.any.sync`: the lanes that hold the same value.
pub struct MatchAny<T>(std::marker::PhantomData<T>);

impl<T: Copy + PartialEq> Operation for MatchAny<T> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let a = load::<T>(ctx.registers, op.sources[0]);
            let mut result = [0u32; LANES];
            for lane in each(mask) {
                result[lane] =
                    each(mask).filter(|&i| a[i] == a[lane]).fold(0, |bits, i| bits | 1 << i);
            }
            store(ctx.registers, op.result, mask, result);
        }
    }
}

/// `match.all.sync`: all lanes if all hold the same value, else none; and whether they do.
pub struct MatchAll<T>(std::marker::PhantomData<T>);

impl<T: Copy + PartialEq> Operation for MatchAll<T> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let a = load::<T>(ctx.registers, op.sources[0]);
            let first = a[mask.trailing_zeros() as usize & 31];
            let same = each(mask).all(|i| a[i] == first);
            let bits = if same { mask } else { 0 };
            store(ctx.registers, op.result, mask, [bits; LANES]);
            store_bits(ctx.registers, op.list, mask, bits);
        }
    }
}

/// `redux.sync` of integers, by number.
pub struct Redux;

pub const REDUCTIONS: [&str; 8] =
    ["add.u32", "add.s32", "min.u32", "min.s32", "max.u32", "max.s32", "and.b32", "or.b32"];
pub const XOR: i64 = 8;

impl Operation for Redux {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let a = load::<u32>(ctx.registers, op.sources[0]);
            let values = each(mask).map(|i| a[i]);
            let join = |x: u32, y: u32| match op.immediate {
                0 | 1 => x.wrapping_add(y),
                2 => x.min(y),
                3 => (x as i32).min(y as i32) as u32,
                4 => x.max(y),
                5 => (x as i32).max(y as i32) as u32,
                6 => x & y,
                7 => x | y,
                _ => x ^ y,
            };
            let result = values.reduce(join).unwrap_or_default();
            store(ctx.registers, op.result, mask, [result; LANES]);
        }
    }
}

/// `bar.warp.sync`, and what else only waits.
pub struct Nothing;

impl Operation for Nothing {
    #[inline(always)]
    unsafe fn run(_: &mut Ctx<'_>, _: &Op, _: u32) {}
}
