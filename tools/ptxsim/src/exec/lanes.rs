//! A warp's registers as arrays of 32 lanes, and how one operation runs on them.
//!
//! Every operation is a type whose `run` is compiled three times, for AVX-512, AVX2 and no extension
//! at all; [`Level::of`] picks at run time. The loops are plain loops over `[T; 32]`: the compiler
//! vectorises them inside the `target_feature` functions at the end of this file.

use super::op::{Ctx, Op};

/// Lanes of a warp.
pub const LANES: usize = 32;
/// All lanes.
pub const FULL: u32 = u32::MAX;

/// One value per lane.
pub type Lanes<T> = [T; LANES];

/// What an instruction does to the lanes of `mask`.
pub trait Operation {
    /// # Safety
    /// `op` was lowered for this operation: its offsets lie in the warp's register file.
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32);
}

/// An [`Operation`] compiled for one level.
pub type Run = unsafe fn(&mut Ctx<'_>, &Op, u32);

/// Vector instructions of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Portable,
    Avx2,
    Avx512,
}

impl Level {
    /// Those that this machine has, the best last.
    pub fn available() -> Vec<Level> {
        let mut levels = vec![Level::Portable];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("f16c")
        {
            levels.push(Level::Avx2);
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                levels.push(Level::Avx512);
            }
        }
        levels
    }

    /// The operation, compiled for this level.
    pub fn of<O: Operation>(self) -> Run {
        match self {
            Level::Portable => portable::<O>,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2::<O>,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => avx512::<O>,
            #[cfg(not(target_arch = "x86_64"))]
            _ => portable::<O>,
        }
    }
}

unsafe fn portable<O: Operation>(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
    // SAFETY: the caller's.
    unsafe { O::run(ctx, op, mask) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi2,f16c,popcnt,lzcnt,bmi1")]
unsafe fn avx2<O: Operation>(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
    // SAFETY: the caller's.
    unsafe { O::run(ctx, op, mask) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2,f16c,popcnt,lzcnt,bmi1"
)]
unsafe fn avx512<O: Operation>(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
    // SAFETY: the caller's.
    unsafe { O::run(ctx, op, mask) }
}

/// The lanes of a register.
///
/// # Safety
/// `offset` is that of a register of `T`'s width.
#[inline(always)]
pub unsafe fn load<T: Copy>(registers: *const u8, offset: u32) -> Lanes<T> {
    // SAFETY: the caller's; register files are aligned to 64 bytes, as are offsets.
    unsafe { *registers.add(offset as usize).cast() }
}

/// Writes the lanes of `mask`.
///
/// # Safety
/// As [`load`].
#[inline(always)]
pub unsafe fn store<T: Copy>(registers: *mut u8, offset: u32, mask: u32, values: Lanes<T>) {
    // SAFETY: the caller's.
    unsafe {
        let to = registers.add(offset as usize).cast::<Lanes<T>>();
        if mask == FULL {
            *to = values;
            return;
        }
        let mut merged = *to;
        for i in 0..LANES {
            merged[i] = if mask >> i & 1 == 1 { values[i] } else { merged[i] };
        }
        *to = merged;
    }
}

/// A predicate's lanes as bits.
///
/// # Safety
/// `offset` is that of a predicate.
#[inline(always)]
pub unsafe fn load_bits(registers: *const u8, offset: u32) -> u32 {
    // SAFETY: the caller's.
    unsafe { *registers.add(offset as usize).cast() }
}

/// Writes the bits of `mask`.
///
/// # Safety
/// As [`load_bits`].
#[inline(always)]
pub unsafe fn store_bits(registers: *mut u8, offset: u32, mask: u32, bits: u32) {
    // SAFETY: the caller's.
    unsafe {
        let to = registers.add(offset as usize).cast::<u32>();
        *to = *to & !mask | bits & mask;
    }
}

/// The lanes of a mask, lowest first.
#[inline(always)]
pub fn each(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (lane < 32).then_some(lane as usize)
    })
}

/// Operations that do the same on every lane: `Name(a: type, …) -> type = expression;`. The operands
/// are the sources in order.
macro_rules! lanewise {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $t:ty),+) -> $r:ty = $body:expr;)+) => {$(
        $(#[$doc])*
        pub struct $name;
        impl $crate::exec::lanes::Operation for $name {
            #[inline(always)]
            unsafe fn run(ctx: &mut $crate::exec::op::Ctx<'_>, op: &$crate::exec::op::Op, mask: u32) {
                // SAFETY: the caller's.
                unsafe {
                    let mut next = 0;
                    $(
                        let $arg: $crate::exec::lanes::Lanes<$t> =
                            $crate::exec::lanes::load(ctx.registers, op.sources[next]);
                        next += 1;
                    )+
                    let _ = next;
                    let mut result = [<$r>::default(); $crate::exec::lanes::LANES];
                    for i in 0..$crate::exec::lanes::LANES {
                        $(let $arg = $arg[i];)+
                        result[i] = $body;
                    }
                    $crate::exec::lanes::store(ctx.registers, op.result, mask, result);
                }
            }
        }
    )+};
}
pub(crate) use lanewise;
