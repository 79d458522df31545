//! Loads and stores of words, half words and their vectors, which most are: when all lanes find theirs
//! side by side, or in one place, they are checked at once. Where that does not plainly pass, every lane is
//! asked on its own, so that findings name it.

use std::marker::PhantomData;

use super::access::{Deed, In, Space, addresses};
use super::lanes::{FULL, LANES, Lanes, Operation, each, store};
use super::op::{Ctx, Op};
use crate::memory::{INITIALISED, UNADDRESSABLE, UNINITIALISED};

/// `ld` of `COUNT` elements into registers of their width.
pub struct LoadElements<S, T, const COUNT: usize>(PhantomData<(S, T)>);
pub type LoadWords<S, const COUNT: usize> = LoadElements<S, u32, COUNT>;
pub type LoadHalves<S, const COUNT: usize> = LoadElements<S, u16, COUNT>;

impl<S: In, T: Copy + Default, const COUNT: usize> Operation for LoadElements<S, T, COUNT> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's; places are checked.
        unsafe {
            let at = addresses(ctx, op);
            let bytes = size_of::<[T; COUNT]>();
            let results = &ctx.kernel.code.lists[op.list as usize];
            if mask == FULL
                && S::SPACE == Space::Global
                && are_consecutive::<[T; COUNT]>(&at)
                && let Some(from) = readable::<[[T; COUNT]; LANES]>(ctx, at[0])
            {
                for i in 0..COUNT {
                    let mut lanes = [T::default(); LANES];
                    for (lane, words) in lanes.iter_mut().zip(&*from) {
                        *lane = words[i];
                    }
                    store(ctx.registers, results[i], FULL, lanes);
                }
                return;
            }
            if mask == FULL && are_alike(&at) {
                let from = match S::SPACE {
                    _ if !at[0].is_multiple_of(bytes as u64) => None,
                    Space::Global => readable::<[T; COUNT]>(ctx, at[0]),
                    _ => ctx.shared.read_by_all(ctx.warp, at[0], bytes).map(<*const u8>::cast),
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
                let Some(from) = ctx.place(op, lane, S::SPACE, at[lane], bytes, Deed::Read) else {
                    return;
                };
                for i in 0..COUNT {
                    let element = from.cast::<T>().add(i).read();
                    ctx.registers.add(results[i] as usize).cast::<T>().add(lane).write(element);
                }
            }
        }
    }
}

/// `st` of `COUNT` elements, likewise.
pub struct StoreElements<S, T, const COUNT: usize>(PhantomData<(S, T)>);
pub type StoreWords<S, const COUNT: usize> = StoreElements<S, u32, COUNT>;
pub type StoreHalves<S, const COUNT: usize> = StoreElements<S, u16, COUNT>;

impl<S: In, T: Copy + Default + PartialEq, const COUNT: usize> Operation
    for StoreElements<S, T, COUNT>
{
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's; places are checked.
        unsafe {
            let at = addresses(ctx, op);
            let values = &ctx.kernel.code.lists[op.list as usize];
            let element = |ctx: &Ctx<'_>, i: usize, lane: usize| {
                ctx.registers.add(values[i] as usize).cast::<T>().add(lane).read()
            };
            if mask == FULL
                && S::SPACE == Space::Global
                && are_consecutive::<[T; COUNT]>(&at)
                && let Some(to) = writable::<[[T; COUNT]; LANES]>(ctx, at[0])
            {
                let mut changes = false;
                for i in 0..COUNT {
                    for (lane, words) in (*to).iter_mut().enumerate() {
                        let new = element(ctx, i, lane);
                        changes |= words[i] != new;
                        words[i] = new;
                    }
                }
                ctx.presence.changes += u64::from(changes);
                return;
            }
            for lane in each(mask) {
                let value: [T; COUNT] = std::array::from_fn(|i| element(ctx, i, lane));
                let bytes = size_of::<[T; COUNT]>();
                let bytes = std::slice::from_raw_parts(value.as_ptr().cast(), bytes);
                let deed = Deed::Write(bytes);
                let Some(to) = ctx.place(op, lane, S::SPACE, at[lane], bytes.len(), deed) else {
                    return;
                };
                to.cast::<[T; COUNT]>().write(value);
            }
        }
    }
}

#[inline(always)]
fn are_consecutive<T>(at: &Lanes<u64>) -> bool {
    let bytes = size_of::<T>() as u64;
    let mut same = at[0].is_multiple_of(bytes);
    for (i, &address) in at.iter().enumerate() {
        same &= address == at[0].wrapping_add(bytes * i as u64);
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

/// The place of a `T` that may plainly be read without any finding; None, too, if it is not whole words.
#[inline(always)]
pub fn readable<T>(ctx: &Ctx<'_>, address: u64) -> Option<*const T> {
    let whole = address.is_multiple_of(4) && size_of::<T>().is_multiple_of(4);
    if !whole || !ctx.memory.contains(address, size_of::<T>() as u64) {
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
    let whole = address.is_multiple_of(4) && size_of::<T>().is_multiple_of(4);
    if !whole || !ctx.memory.contains(address, size_of::<T>() as u64) {
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
