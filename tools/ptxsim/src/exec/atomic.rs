//! `atom` and `red`: read, compute, write, in one step for every thread of the host too.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::access::{Deed, In, addresses};
use super::lanes::{LANES, Operation, each, load, store};
use super::op::{Ctx, Op};
use crate::arith::formats::canonical;

/// What is computed from the old value and the operands.
pub trait Update {
    type Word: Copy + Default;
    fn update(old: Self::Word, b: Self::Word, c: Self::Word) -> Self::Word;
    /// # Safety
    /// `at` is an aligned word that may be accessed.
    unsafe fn exchange(at: *mut u8, b: Self::Word, c: Self::Word) -> Self::Word;
}

macro_rules! updates {
    ($word:ty, $atomic:ty: $($name:ident($old:ident, $b:ident, $c:pat) = $body:expr;)+) => {$(
        pub struct $name;
        impl Update for $name {
            type Word = $word;
            #[inline(always)]
            fn update($old: $word, $b: $word, $c: $word) -> $word {
                $body
            }
            #[inline(always)]
            unsafe fn exchange(at: *mut u8, b: $word, c: $word) -> $word {
                // SAFETY: the caller's; alignment was checked.
                let at = unsafe { <$atomic>::from_ptr(at.cast()) };
                let update = |old| Some(Self::update(old, b, c));
                at.fetch_update(Ordering::SeqCst, Ordering::SeqCst, update).unwrap_or_else(|old| old)
            }
        }
    )+};
}

updates! { u32, AtomicU32:
    Add32(old, b, _) = old.wrapping_add(b);
    And32(old, b, _) = old & b;
    Or32(old, b, _) = old | b;
    Xor32(old, b, _) = old ^ b;
    Exchange32(_old, b, _) = b;
    CompareAndSwap32(old, b, c) = if old == b { c } else { old };
    Increment32(old, b, _) = if old >= b { 0 } else { old + 1 };
    Decrement32(old, b, _) = if old == 0 || old > b { b } else { old - 1 };
    MinU32(old, b, _) = old.min(b);
    MinS32(old, b, _) = (old as i32).min(b as i32) as u32;
    MaxU32(old, b, _) = old.max(b);
    MaxS32(old, b, _) = (old as i32).max(b as i32) as u32;
    AddF32(old, b, _) = canonical(f32::from_bits(old) + f32::from_bits(b)).to_bits();
}

updates! { u64, AtomicU64:
    Add64(old, b, _) = old.wrapping_add(b);
    And64(old, b, _) = old & b;
    Or64(old, b, _) = old | b;
    Xor64(old, b, _) = old ^ b;
    Exchange64(_old, b, _) = b;
    CompareAndSwap64(old, b, c) = if old == b { c } else { old };
    MinU64(old, b, _) = old.min(b);
    MinS64(old, b, _) = (old as i64).min(b as i64) as u64;
    MaxU64(old, b, _) = old.max(b);
    MaxS64(old, b, _) = (old as i64).max(b as i64) as u64;
    AddF64(old, b, _) = (f64::from_bits(old) + f64::from_bits(b)).to_bits();
}

/// Lanes in ascending order, though a program may not rely on any.
pub struct Atomic<S, U>(PhantomData<(S, U)>);

impl<S: In, U: Update> Operation for Atomic<S, U> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's; places are checked.
        unsafe {
            let at = addresses(ctx, op);
            let b = load::<U::Word>(ctx.registers, op.sources[1]);
            let c = load::<U::Word>(ctx.registers, op.sources[2]);
            let mut old = [U::Word::default(); LANES];
            for lane in each(mask) {
                let bytes = size_of::<U::Word>();
                let Some(place) = ctx.place(op, lane, S::SPACE, at[lane], bytes, Deed::Atomic)
                else {
                    return;
                };
                old[lane] = U::exchange(place, b[lane], c[lane]);
            }
            store(ctx.registers, op.result, mask, old);
        }
    }
}
