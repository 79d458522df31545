//! `setp` and `set`: comparisons, and how their results combine with another predicate.

use std::marker::PhantomData;

use super::half::HalfFormat;
use super::integer::table;
use super::lanes::{LANES, Operation, load, load_bits, store, store_bits};
use super::modifiers::Modifiers;
use super::op::{Ctx, Op};
use crate::arith::formats::widen;

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// As the first six, but true when an operand is NaN.
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    /// Neither is NaN.
    Num,
    Nan,
}

impl Comparison {
    /// By its name in PTX. `lo`, `ls`, `hi`, `hs` are those of unsigned integers.
    pub fn parse(name: &str) -> Option<Self> {
        use Comparison::*;
        Some(match name {
            "eq" => Eq,
            "ne" => Ne,
            "lt" | "lo" => Lt,
            "le" | "ls" => Le,
            "gt" | "hi" => Gt,
            "ge" | "hs" => Ge,
            "equ" => Equ,
            "neu" => Neu,
            "ltu" => Ltu,
            "leu" => Leu,
            "gtu" => Gtu,
            "geu" => Geu,
            "num" => Num,
            "nan" => Nan,
            _ => return None,
        })
    }

    #[inline(always)]
    #[allow(clippy::neg_cmp_op_on_partial_ord, reason = "true for NaN")]
    fn holds<T: PartialOrd>(self, a: &T, b: &T) -> bool {
        use Comparison::*;
        match self {
            Eq => a == b,
            Ne => a != b && Self::ordered(a, b),
            Lt => a < b,
            Le => a <= b,
            Gt => a > b,
            Ge => a >= b,
            Equ => a == b || !Self::ordered(a, b),
            Neu => a != b,
            Ltu => a < b || !Self::ordered(a, b),
            Leu => a <= b || !Self::ordered(a, b),
            Gtu => a > b || !Self::ordered(a, b),
            Geu => a >= b || !Self::ordered(a, b),
            Num => Self::ordered(a, b),
            Nan => !Self::ordered(a, b),
        }
    }

    #[inline(always)]
    #[allow(clippy::eq_op, reason = "false for NaN")]
    fn ordered<T: PartialOrd>(a: &T, b: &T) -> bool {
        a == a && b == b
    }
}

/// The bits of the lanes for which the comparison holds.
#[inline(always)]
fn bits<T: PartialOrd, const C: u8>(a: &[T; LANES], b: &[T; LANES]) -> u32 {
    use Comparison::*;
    const ALL: [Comparison; 14] = [Eq, Ne, Lt, Le, Gt, Ge, Equ, Neu, Ltu, Leu, Gtu, Geu, Num, Nan];
    let comparison = ALL[C as usize];
    let mut bits = 0;
    for i in 0..LANES {
        bits |= u32::from(comparison.holds(&a[i], &b[i])) << i;
    }
    bits
}

/// What a comparison's operands are compared as: themselves, or with subnormals flushed.
pub trait Compared: Copy {
    fn seen(self) -> Self;
}

macro_rules! integers {
    ($($t:ty)+) => {$(
        impl Compared for $t {
            #[inline(always)]
            fn seen(self) -> Self {
                self
            }
        }
    )+};
}
integers!(u16 u32 u64 i16 i32 i64 f32 f64);

/// An f32 whose subnormals count as zero.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
#[repr(transparent)]
pub struct Flushed(f32);

impl Compared for Flushed {
    #[inline(always)]
    fn seen(self) -> Self {
        Flushed(crate::arith::formats::flush(self.0))
    }
}

/// `setp`. `immediate`: the truth table that joins the comparison (a) with the third source (b), and
/// from bit 8 on that of the second result, whose place is the fourth source.
pub struct SetPredicate<T, const C: u8>(PhantomData<T>);

impl<T: Compared + PartialOrd, const C: u8> Operation for SetPredicate<T, C> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let a = load::<T>(ctx.registers, op.sources[0]).map(T::seen);
            let b = load::<T>(ctx.registers, op.sources[1]).map(T::seen);
            let holds = bits::<T, C>(&a, &b);
            let third = load_bits(ctx.registers, op.sources[2]);
            store_bits(ctx.registers, op.result, mask, table(op.immediate, holds, third));
            store_bits(ctx.registers, op.sources[3], mask, table(op.immediate >> 8, holds, third));
        }
    }
}

/// As [`bits`], with the comparison chosen as it runs.
#[inline(always)]
fn bits_by<T: PartialOrd>(comparison: i64, a: &[T; LANES], b: &[T; LANES]) -> u32 {
    match comparison {
        0 => bits::<T, 0>(a, b),
        1 => bits::<T, 1>(a, b),
        2 => bits::<T, 2>(a, b),
        3 => bits::<T, 3>(a, b),
        4 => bits::<T, 4>(a, b),
        5 => bits::<T, 5>(a, b),
        6 => bits::<T, 6>(a, b),
        7 => bits::<T, 7>(a, b),
        8 => bits::<T, 8>(a, b),
        9 => bits::<T, 9>(a, b),
        10 => bits::<T, 10>(a, b),
        11 => bits::<T, 11>(a, b),
        12 => bits::<T, 12>(a, b),
        _ => bits::<T, 13>(a, b),
    }
}

/// `immediate` of the operations that choose their comparison as they run: the truth tables as
/// [`SetPredicate`] has them, the comparison, whether f16 subnormals are flushed, and for `set` what true
/// is.
pub fn chosen(comparison: Comparison, tables: i64, flush: bool, one: u32) -> i64 {
    tables | (comparison as i64) << 16 | i64::from(flush) << 24 | i64::from(one) << 32
}

/// The lanes for which the chosen comparison of two registers holds.
pub trait Holds {
    /// # Safety
    /// As [`Operation::run`].
    unsafe fn holds(ctx: &Ctx<'_>, op: &Op) -> u32;
}

impl<T: Compared + PartialOrd> Holds for T {
    #[inline(always)]
    unsafe fn holds(ctx: &Ctx<'_>, op: &Op) -> u32 {
        // SAFETY: the caller's.
        unsafe {
            let [a, b] = [0, 1].map(|n| load::<T>(ctx.registers, op.sources[n]).map(T::seen));
            bits_by(op.immediate >> 16 & 0xFF, &a, &b)
        }
    }
}

/// Values of 16 bits, as numbers; of a pair the lower (0) or upper (1).
pub struct Halves<F, const UPPER: usize, const PAIR: bool>(PhantomData<F>);

impl<F: HalfFormat, const UPPER: usize, const PAIR: bool> Halves<F, UPPER, PAIR> {
    #[inline(always)]
    unsafe fn values(ctx: &Ctx<'_>, op: &Op, source: usize) -> [f32; LANES] {
        let m = Modifiers { flush: op.immediate >> 24 & 1 == 1, ..Modifiers::default() };
        // SAFETY: the caller's.
        let halves = unsafe {
            match PAIR {
                false => load::<u16>(ctx.registers, op.sources[source]),
                true => load::<u32>(ctx.registers, op.sources[source])
                    .map(|pair| (pair >> (16 * UPPER)) as u16),
            }
        };
        halves.map(|x| widen::<F>(m.seen_in::<F>(x)))
    }
}

impl<F: HalfFormat, const UPPER: usize, const PAIR: bool> Holds for Halves<F, UPPER, PAIR> {
    #[inline(always)]
    unsafe fn holds(ctx: &Ctx<'_>, op: &Op) -> u32 {
        // SAFETY: the caller's.
        let (a, b) = unsafe { (Self::values(ctx, op, 0), Self::values(ctx, op, 1)) };
        bits_by(op.immediate >> 16 & 0xFF, &a, &b)
    }
}

/// A 16-bit number.
pub type Half<F> = Halves<F, 0, false>;

/// `setp` of 16-bit numbers; as [`SetPredicate`].
pub struct SetPredicateHalf<F>(PhantomData<F>);

impl<F: HalfFormat> Operation for SetPredicateHalf<F> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let holds = Half::<F>::holds(ctx, op);
            let third = load_bits(ctx.registers, op.sources[2]);
            store_bits(ctx.registers, op.result, mask, table(op.immediate, holds, third));
            store_bits(ctx.registers, op.sources[3], mask, table(op.immediate >> 8, holds, third));
        }
    }
}

/// `setp` of pairs: a predicate for the lower halves, the fourth source for the upper.
pub struct SetPredicatePair<F>(PhantomData<F>);

impl<F: HalfFormat> Operation for SetPredicatePair<F> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let low = Halves::<F, 0, true>::holds(ctx, op);
            let high = Halves::<F, 1, true>::holds(ctx, op);
            let third = load_bits(ctx.registers, op.sources[2]);
            store_bits(ctx.registers, op.result, mask, table(op.immediate, low, third));
            store_bits(ctx.registers, op.sources[3], mask, table(op.immediate, high, third));
        }
    }
}

/// `set`: what `immediate` has from bit 32 on (all ones or 1.0) where the chosen comparison holds, in a
/// register of 16 or 32 bits.
pub struct Set<C>(PhantomData<C>);

impl<C: Holds> Operation for Set<C> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let third = load_bits(ctx.registers, op.sources[2]);
            let holds = table(op.immediate, C::holds(ctx, op), third);
            let one = (op.immediate >> 32) as u32;
            let mut result = [0; LANES];
            for i in 0..LANES {
                result[i] = if holds >> i & 1 == 1 { one } else { 0 };
            }
            match op.access.register_bytes {
                2 => store(ctx.registers, op.result, mask, result.map(|x| x as u16)),
                _ => store(ctx.registers, op.result, mask, result),
            }
        }
    }
}

/// `set` of pairs: each half of the result by itself.
pub struct SetPair<F>(PhantomData<F>);

impl<F: HalfFormat> Operation for SetPair<F> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let third = load_bits(ctx.registers, op.sources[2]);
            let low = table(op.immediate, Halves::<F, 0, true>::holds(ctx, op), third);
            let high = table(op.immediate, Halves::<F, 1, true>::holds(ctx, op), third);
            let one = (op.immediate >> 32) as u32 & 0xFFFF;
            let mut result = [0; LANES];
            for i in 0..LANES {
                result[i] = ((high >> i & 1) * (one << 16)) | ((low >> i & 1) * one);
            }
            store(ctx.registers, op.result, mask, result);
        }
    }
}
