//! `setp` and `set`: comparisons, and how their results combine with another predicate.

use std::marker::PhantomData;

use super::integer::table;
use super::lanes::{LANES, Operation, load, load_bits, store, store_bits};
use super::op::{Ctx, Op};

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

/// `set`: all ones (or 1.0, in `immediate` from bit 32 on) where it holds. As [`SetPredicate`] else.
pub struct Set<T, const C: u8>(PhantomData<T>);

impl<T: Compared + PartialOrd, const C: u8> Operation for Set<T, C> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let a = load::<T>(ctx.registers, op.sources[0]).map(T::seen);
            let b = load::<T>(ctx.registers, op.sources[1]).map(T::seen);
            let third = load_bits(ctx.registers, op.sources[2]);
            let holds = table(op.immediate, bits::<T, C>(&a, &b), third);
            let one = (op.immediate >> 32) as u32;
            let mut result = [0; LANES];
            for i in 0..LANES {
                result[i] = if holds >> i & 1 == 1 { one } else { 0 };
            }
            store(ctx.registers, op.result, mask, result);
        }
    }
}
