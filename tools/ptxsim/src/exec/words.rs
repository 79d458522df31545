//! Loads and stores of 32-bit words and their vectors, which most are: when all lanes find theirs side
//! by side, or in one place, they are checked at once. Where that does not plainly pass, every lane is
//! asked on its own, so that findings name it.

use std::marker::PhantomData;

use super::access::{Deed, In, Space, addresses};
use super::lanes::{FULL, LANES, Lanes, Operation, each, store};
use super::op::{Ctx, Op};
use crate::memory::{INITIALISED, UNADDRESSABLE, UNINITIALISED};

/// `ld` of `COUNT` words.
pub struct LoadWords<S, const COUNT: usize>(PhantomData<S>);

impl<S: In, const COUNT: usize> Operation for LoadWords<S, COUNT> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's; places are checked.
        unsafe {
            let at = addresses(ctx, op);
            let results = &ctx.kernel.code.lists[op.list as usize];
            if mask == FULL
                && S::SPACE == Space::Global
                && are_consecutive::<COUNT>(&at)
                && let Some(from) = readable::<[[u32; COUNT]; LANES]>(ctx, at[0])
            {
                for i in 0..COUNT {
                    let mut lanes = [0; LANES];
                    for (lane, words) in lanes.iter_mut().zip(&*from) {
                        *lane = words[i];
                    }
                    store(ctx.registers, results[i], FULL, lanes);
                }
                return;
            }
            if mask == FULL && are_alike(&at) {
                let from = match S::SPACE {
                    _ if !at[0].is_multiple_of(4 * COUNT as u64) => None,
                    Space::Global => readable::<[u32; COUNT]>(ctx, at[0]),
                    _ => ctx.shared.read_by_all(ctx.warp, at[0], 4 * COUNT).map(<*const u8>::cast),
                };
                if let Some(from) = from {
                    let words = from.read_unaligned();
                    for i in 0..COUNT {
                        store(ctx.registers, results[i], FULL, [words[i]; LANES]);
                    }
                    return;
                }
            }
            for lane in each(mask) {
                let Some(from) = ctx.place(op, lane, S::SPACE, at[lane], 4 * COUNT, Deed::Read)
                else {
                    return;
                };
                for i in 0..COUNT {
                    let word = from.add(4 * i).cast::<u32>().read();
                    ctx.registers.add(results[i] as usize).cast::<u32>().add(lane).write(word);
                }
            }
        }
    }
}

/// `st` of `COUNT` words.
pub struct StoreWords<S, const COUNT: usize>(PhantomData<S>);

impl<S: In, const COUNT: usize> Operation for StoreWords<S, COUNT> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's; places are checked.
        unsafe {
            let at = addresses(ctx, op);
            let values = &ctx.kernel.code.lists[op.list as usize];
            let word = |ctx: &Ctx<'_>, i: usize, lane: usize| {
                ctx.registers.add(values[i] as usize).cast::<u32>().add(lane).read()
            };
            if mask == FULL
                && S::SPACE == Space::Global
                && are_consecutive::<COUNT>(&at)
                && let Some(to) = writable::<[[u32; COUNT]; LANES]>(ctx, at[0])
            {
                for i in 0..COUNT {
                    for (lane, words) in (*to).iter_mut().enumerate() {
                        words[i] = word(ctx, i, lane);
                    }
                }
                return;
            }
            for lane in each(mask) {
                let value: [u32; COUNT] = std::array::from_fn(|i| word(ctx, i, lane));
                let bytes = std::slice::from_raw_parts(value.as_ptr().cast(), 4 * COUNT);
                let deed = Deed::Write(bytes);
                let Some(to) = ctx.place(op, lane, S::SPACE, at[lane], 4 * COUNT, deed) else {
                    return;
                };
                to.cast::<[u32; COUNT]>().write(value);
            }
        }
    }
}

#[inline(always)]
fn are_consecutive<const COUNT: usize>(at: &Lanes<u64>) -> bool {
    let mut same = at[0].is_multiple_of(4 * COUNT as u64);
    for (i, &address) in at.iter().enumerate() {
        same &= address == at[0].wrapping_add((4 * COUNT * i) as u64);
    }
    same
}

#[inline(always)]
fn are_alike(at: &Lanes<u64>) -> bool {
    let mut differing = 0;
    for &address in at {
        differing |= address ^ at[0];
    }
    differing == 0
}

/// The place of a `T`, which is whole words, that may plainly be read without any finding.
#[inline(always)]
pub fn readable<T>(ctx: &Ctx<'_>, address: u64) -> Option<*const T> {
    if !address.is_multiple_of(4) || !ctx.memory.contains(address, size_of::<T>() as u64) {
        return None;
    }
    let words = size_of::<T>() / 4;
    // SAFETY: in the range, which starts at a whole word; so do states, of bytes, and entries.
    unsafe {
        let states = std::slice::from_raw_parts(ctx.memory.state(address).cast::<u32>(), words);
        let mut all = u32::MAX;
        for &state in states {
            all &= state;
        }
        let entries = std::slice::from_raw_parts(ctx.memory.writer(address), words);
        let good = all == u32::from_ne_bytes([INITIALISED; 4])
            && ctx.order.is_clear(ctx.presence, entries);
        good.then(|| ctx.memory.data(address).cast_const().cast())
    }
}

/// The place of a `T` that may plainly be written, as which it is noted.
#[inline(always)]
fn writable<T>(ctx: &mut Ctx<'_>, address: u64) -> Option<*mut T> {
    if !address.is_multiple_of(4) || !ctx.memory.contains(address, size_of::<T>() as u64) {
        return None;
    }
    let words = size_of::<T>() / 4;
    // SAFETY: as for `readable`.
    unsafe {
        let states = ctx.memory.state(address).cast::<u32>();
        let states = std::slice::from_raw_parts_mut(states, words);
        let mut all = u32::MAX;
        for &state in states.iter() {
            all &= state;
        }
        let entries = std::slice::from_raw_parts_mut(ctx.memory.writer(address), words);
        let addressable = u32::from_ne_bytes([ADDRESSABLE; 4]);
        if all & addressable != addressable || !ctx.order.is_clear(ctx.presence, entries) {
            return None;
        }
        states.fill(u32::from_ne_bytes([INITIALISED; 4]));
        ctx.order.write_words(ctx.presence, entries);
        Some(ctx.memory.data(address).cast())
    }
}

/// A bit of the states of all bytes that are in an allocation.
const ADDRESSABLE: u8 = INITIALISED & UNINITIALISED;
const _: () = assert!(ADDRESSABLE != 0 && UNADDRESSABLE & ADDRESSABLE == 0);
