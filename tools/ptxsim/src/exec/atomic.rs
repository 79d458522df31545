//! `atom` and `red`: read, compute, write, in one step for every thread of the host too.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::access::{Deed, Generic, In, SHARED_WINDOW, Space, WINDOW, addresses};
use super::half::HalfFormat;
use super::lanes::{LANES, Operation, each, load, store};
use super::op::{Ctx, Op};
use crate::arith::float;
use crate::arith::formats::{Bf16, F16, Rounding, canonical, flush, widen};

/// What is computed from the old value and the operands.
pub trait Update {
    type Word: Copy + Default + PartialEq;
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

updates! { u16, AtomicU16:
    CompareAndSwap16(old, b, c) = if old == b { c } else { old };
    AddF16(old, b, _) = add::<F16>(old, b);
    AddBf16(old, b, _) = add::<Bf16>(old, b);
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
    // Of global memory the ISA says that subnormals are flushed.
    AddFlushF32(old, b, _) =
        canonical(flush(flush(f32::from_bits(old)) + flush(f32::from_bits(b)))).to_bits();
    AddF16x2(old, b, _) = pair(old, b, add::<F16>);
    AddBf16x2(old, b, _) = pair(old, b, add::<Bf16>);
}

#[inline(always)]
fn add<F: HalfFormat>(a: u16, b: u16) -> u16 {
    float::add_to::<F>(widen::<F>(a), widen::<F>(b), Rounding::NearestEven)
}

/// Each half by itself; the ISA promises no more, and one step for both allows no more results.
#[inline(always)]
fn pair(a: u32, b: u32, f: impl Fn(u16, u16) -> u16) -> u32 {
    u32::from(f((a >> 16) as u16, (b >> 16) as u16)) << 16 | u32::from(f(a as u16, b as u16))
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
            let mut changes = false;
            if op.access.releases {
                ctx.order.release(ctx.presence);
            }
            for lane in each(mask) {
                let bytes = size_of::<U::Word>();
                let Some(place) = ctx.place(op, lane, S::SPACE, at[lane], bytes, Deed::Atomic)
                else {
                    return;
                };
                old[lane] = U::exchange(place, b[lane], c[lane]);
                changes |= U::update(old[lane], b[lane], c[lane]) != old[lane];
            }
            if S::SPACE != Space::Shared {
                ctx.order.acquire(ctx.presence);
                ctx.presence.changes += u64::from(changes);
            }
            store(ctx.registers, op.result, mask, old);
        }
    }
}

/// `.add.f32` on generic addresses: with subnormals only where they are of shared memory.
pub struct AddGenericF32;

impl Operation for AddGenericF32 {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let at = addresses(ctx, op);
            let shared = each(mask)
                .filter(|&lane| at[lane].wrapping_sub(SHARED_WINDOW) < WINDOW)
                .fold(0, |lanes, lane| lanes | 1 << lane);
            Atomic::<Generic, AddFlushF32>::run(ctx, op, mask & !shared);
            Atomic::<Generic, AddF32>::run(ctx, op, shared);
        }
    }
}
