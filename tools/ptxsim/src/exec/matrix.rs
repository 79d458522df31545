//! `ldmatrix`, `stmatrix` and `mma.sync`.

use std::marker::PhantomData;

use super::access::{Deed, Space, addresses};
use super::lanes::{LANES, Lanes, Operation, load, store};
use super::op::{Ctx, Op};
use crate::arith::formats::{F16, F32, Format, Storage};
use crate::arith::mma::{Accumulator, Byte, Instruction, mma, mma_integer};

/// `ldmatrix` of `COUNT` 8×8 matrices of 16-bit elements, whose rows' addresses the lanes give in turn.
pub struct LoadMatrix<const COUNT: usize, const TRANSPOSED: bool>;

impl<const COUNT: usize, const TRANSPOSED: bool> Operation for LoadMatrix<COUNT, TRANSPOSED> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's; places are checked.
        unsafe {
            let at = addresses(ctx, op);
            let mut rows = [[0u16; 8]; 32];
            for row in 0..8 * COUNT {
                let Some(from) = ctx.place(op, row, Space::Shared, at[row], 16, Deed::Read) else {
                    return;
                };
                rows[row] = from.cast::<[u16; 8]>().read_unaligned();
            }
            let results = &ctx.kernel.code.lists[op.list as usize];
            for matrix in 0..COUNT {
                let rows = &rows[8 * matrix..][..8];
                let mut lanes = [0u32; LANES];
                for (lane, word) in lanes.iter_mut().enumerate() {
                    let (i, j) = (lane / 4, 2 * (lane % 4));
                    let (low, high) = if TRANSPOSED {
                        (rows[j][i], rows[j + 1][i])
                    } else {
                        (rows[i][j], rows[i][j + 1])
                    };
                    *word = u32::from(low) | u32::from(high) << 16;
                }
                store(ctx.registers, results[matrix], mask, lanes);
            }
        }
    }
}

/// `stmatrix`, the other way round.
pub struct StoreMatrix<const COUNT: usize, const TRANSPOSED: bool>;

impl<const COUNT: usize, const TRANSPOSED: bool> Operation for StoreMatrix<COUNT, TRANSPOSED> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, _mask: u32) {
        // SAFETY: the caller's; places are checked.
        unsafe {
            let at = addresses(ctx, op);
            for matrix in 0..COUNT {
                let words: Lanes<u32> =
                    load(ctx.registers, ctx.kernel.code.lists[op.list as usize][matrix]);
                for i in 0..8 {
                    let row = 8 * matrix + i;
                    let mut values = [0u16; 8];
                    for (j, value) in values.iter_mut().enumerate() {
                        let (lane, half) = if TRANSPOSED {
                            (4 * j + i / 2, i % 2)
                        } else {
                            (4 * i + j / 2, j % 2)
                        };
                        *value = (words[lane] >> (16 * half)) as u16;
                    }
                    let Some(to) = ctx.place(op, row, Space::Shared, at[row], 16, Deed::Write)
                    else {
                        return;
                    };
                    to.cast::<[u16; 8]>().write_unaligned(values);
                }
            }
        }
    }
}

/// A 32-bit register as elements: `PER` of them, lowest first.
#[inline(always)]
fn element<B: Storage>(word: u32, i: usize) -> B {
    B::from_u32(word >> (8 * size_of::<B>() * i) & (u32::MAX >> (32 - 8 * size_of::<B>())))
}

/// The rows and columns that lanes hold are those of the PTX ISA's figures for m16n8: with g = lane/4,
/// t = lane%4 and p elements a register, register i of A holds row g + 8(i%2), columns from
/// p(t + 4⌊i/2⌋) on; that of B rows from p(t + 4i) on of column g; and C and D rows g and g + 8,
/// columns 2t and 2t + 1.
///
/// # Safety
/// `registers` are 32-bit registers of the warp.
#[inline(always)]
unsafe fn operands<A: Storage, B: Storage, const K: usize>(
    file: *const u8,
    registers: &[u32],
) -> ([[A; K]; 16], [[B; 8]; K]) {
    let (mut a, mut b) = ([[A::from_u32(0); K]; 16], [[B::from_u32(0); 8]; K]);
    let per = 4 / size_of::<A>();
    let (a_words, b_words) = (K / (2 * per), K / (4 * per));
    // SAFETY: the caller's.
    unsafe {
        for i in 0..a_words {
            let words: Lanes<u32> = load(file, registers[i]);
            for (lane, &word) in words.iter().enumerate() {
                let (row, column) = (lane / 4 + 8 * (i % 2), per * (lane % 4 + 4 * (i / 2)));
                for e in 0..per {
                    a[row][column + e] = element(word, e);
                }
            }
        }
        for i in 0..b_words {
            let words: Lanes<u32> = load(file, registers[a_words + i]);
            for (lane, &word) in words.iter().enumerate() {
                for e in 0..per {
                    b[per * (lane % 4 + 4 * i) + e][lane / 4] = element(word, e);
                }
            }
        }
    }
    (a, b)
}

/// Registers of A, then of B, then of C, then of D.
fn counts<T>(k: usize) -> (usize, usize) {
    let per = 4 / size_of::<T>();
    (k / (2 * per), k / (4 * per))
}

/// `mma.sync.m16n8kK` on floats with an f32 accumulator.
pub struct MmaF32<A, B, const K: usize>(PhantomData<(A, B)>);

impl<A: Format, B: Format, const K: usize> Operation for MmaF32<A, B, K> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let list = &ctx.kernel.code.lists[op.list as usize];
            let (a, b) = operands::<A::Bits, B::Bits, K>(ctx.registers, list);
            let (a_words, b_words) = counts::<A::Bits>(K);
            let (c_at, d_at) = list[a_words + b_words..].split_at(4);
            let mut c = [[0u32; 8]; 16];
            for (i, &at) in c_at.iter().enumerate() {
                let words: Lanes<u32> = load(ctx.registers, at);
                for (lane, &word) in words.iter().enumerate() {
                    c[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2] = word;
                }
            }
            let d =
                mma::<A, B, F32, 16, 8, K>(ctx.machine.tensor_core, Instruction::Mma, &a, &b, &c);
            for (i, &at) in d_at.iter().enumerate() {
                let words =
                    std::array::from_fn(|lane| d[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2]);
                store(ctx.registers, at, mask, words);
            }
        }
    }
}

/// `mma.sync.m16n8kK` with an f16 accumulator, two to a register.
pub struct MmaF16<const K: usize>;

impl<const K: usize> Operation for MmaF16<K>
where
    F16: Accumulator,
{
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let list = &ctx.kernel.code.lists[op.list as usize];
            let (a, b) = operands::<u16, u16, K>(ctx.registers, list);
            let (a_words, b_words) = counts::<u16>(K);
            let (c_at, d_at) = list[a_words + b_words..].split_at(2);
            let mut c = [[0u16; 8]; 16];
            for (i, &at) in c_at.iter().enumerate() {
                let words: Lanes<u32> = load(ctx.registers, at);
                for (lane, &word) in words.iter().enumerate() {
                    for e in 0..2 {
                        c[lane / 4 + 8 * i][2 * (lane % 4) + e] = element(word, e);
                    }
                }
            }
            let d = mma::<F16, F16, F16, 16, 8, K>(
                ctx.machine.tensor_core,
                Instruction::Mma,
                &a,
                &b,
                &c,
            );
            for (i, &at) in d_at.iter().enumerate() {
                let words = std::array::from_fn(|lane| {
                    let row: &[u16; 8] = &d[lane / 4 + 8 * i];
                    u32::from(row[2 * (lane % 4)]) | u32::from(row[2 * (lane % 4) + 1]) << 16
                });
                store(ctx.registers, at, mask, words);
            }
        }
    }
}

/// `mma.sync.m16n8kK` on bytes; `immediate` is `.satfinite`.
pub struct MmaInteger<A, B, const K: usize>(PhantomData<(A, B)>);

impl<A: Byte, B: Byte, const K: usize> Operation for MmaInteger<A, B, K> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let list = &ctx.kernel.code.lists[op.list as usize];
            let (a, b) = operands::<u8, u8, K>(ctx.registers, list);
            let (a_words, b_words) = counts::<u8>(K);
            let (c_at, d_at) = list[a_words + b_words..].split_at(4);
            let mut c = [[0i32; 8]; 16];
            for (i, &at) in c_at.iter().enumerate() {
                let words: Lanes<i32> = load(ctx.registers, at);
                for (lane, &word) in words.iter().enumerate() {
                    c[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2] = word;
                }
            }
            let d = mma_integer::<A, B, 16, 8, K>(op.immediate != 0, &a, &b, &c);
            for (i, &at) in d_at.iter().enumerate() {
                let words: Lanes<i32> =
                    std::array::from_fn(|lane| d[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2]);
                store(ctx.registers, at, mask, words);
            }
        }
    }
}
