//! `ldmatrix`, `stmatrix` and `mma.sync`.

use std::marker::PhantomData;

use super::access::{Deed, addresses};
use super::lanes::{Lanes, Operation, load, store};
#[cfg(target_arch = "x86_64")]
use super::matrix_f32;
use super::op::{Ctx, Op};
use crate::arith::formats::{Bf16, F16, F32, Format, Storage};
use crate::arith::mma::{Accumulator, Byte, Instruction, TensorCore, mma, mma_integer};

/// `ldmatrix` of `COUNT` 8×8 matrices of 16-bit elements, whose rows' addresses the lanes give in turn.
pub struct LoadMatrix<const COUNT: usize, const TRANSPOSED: bool>;

impl<const COUNT: usize, const TRANSPOSED: bool> Operation for LoadMatrix<COUNT, TRANSPOSED> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's; places are checked.
        unsafe {
            ctx.shared.sync(ctx.warp);
            let at = addresses(ctx, op);
            let mut matrices = [[[0u8; 16]; 8]; COUNT];
            let rows = matrices.as_flattened_mut();
            let good = ctx.shared.read_lines(ctx.warp, &at[..8 * COUNT], rows);
            for row in good..8 * COUNT {
                let Some(from) = ctx.row(op, row, at[row], Deed::Read) else { return };
                rows[row] = from.cast::<[u8; 16]>().read();
            }
            let results = &ctx.kernel.code.lists[op.list as usize];
            for (matrix, &result) in matrices.into_iter().zip(results) {
                // Lane 4i + j holds elements 2j and 2j + 1 of row i: in all, the rows in order.
                let matrix: [[u16; 8]; 8] = std::mem::transmute(matrix);
                let matrix = if TRANSPOSED { transpose(matrix) } else { matrix };
                let lanes: Lanes<u32> = std::mem::transmute(matrix);
                store(ctx.registers, result, mask, lanes);
            }
        }
    }
}

/// Rows and columns exchanged, by three rounds of interleaving, which are one instruction each.
#[inline(always)]
fn transpose(mut rows: [[u16; 8]; 8]) -> [[u16; 8]; 8] {
    for _ in 0..3 {
        let mut next = [[0; 8]; 8];
        for i in 0..4 {
            for j in 0..4 {
                (next[2 * i][2 * j], next[2 * i][2 * j + 1]) = (rows[i][j], rows[i + 4][j]);
                (next[2 * i + 1][2 * j], next[2 * i + 1][2 * j + 1]) =
                    (rows[i][j + 4], rows[i + 4][j + 4]);
            }
        }
        rows = next;
    }
    rows
}

/// `stmatrix`, the other way round.
pub struct StoreMatrix<const COUNT: usize, const TRANSPOSED: bool>;

impl<const COUNT: usize, const TRANSPOSED: bool> Operation for StoreMatrix<COUNT, TRANSPOSED> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, _mask: u32) {
        // SAFETY: the caller's; places are checked.
        unsafe {
            ctx.shared.sync(ctx.warp);
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
                    let bytes: [u8; 16] = std::mem::transmute(values);
                    let Some(to) = ctx.row(op, row, at[row], Deed::Write(&bytes)) else { return };
                    to.cast::<[u8; 16]>().write(bytes);
                }
            }
        }
    }
}

/// `movmatrix.trans`: the 8×8 matrix of 16-bit elements in a register, transposed.
pub struct MoveMatrix;

impl Operation for MoveMatrix {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let words: Lanes<u32> = load(ctx.registers, op.sources[0]);
            let at = |row: usize, column: usize| -> u32 {
                element::<u16>(words[4 * row + column / 2], column % 2).into()
            };
            let result = std::array::from_fn(|lane| {
                let (row, column) = (lane / 4, 2 * (lane % 4));
                at(column, row) | at(column + 1, row) << 16
            });
            store(ctx.registers, op.result, mask, result);
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

#[cfg(target_arch = "x86_64")]
fn is_bf16<F: 'static>() -> bool {
    std::any::TypeId::of::<F>() == std::any::TypeId::of::<Bf16>()
}

/// `mma.sync.m16n8kK` on floats with an f32 accumulator.
pub struct MmaF32<A, B, const K: usize>(PhantomData<(A, B)>);

impl<A: Format + 'static, B: Format + 'static, const K: usize> Operation for MmaF32<A, B, K> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            ctx.shared.sync(ctx.warp);
            let list = &ctx.kernel.code.lists[op.list as usize];
            let (a_words, b_words) = counts::<A::Bits>(K);
            let (c_at, d_at) = list[a_words + b_words..].split_at(4);
            #[cfg(target_arch = "x86_64")]
            if is_bf16::<A>()
                && is_bf16::<B>()
                && ctx.machine.tensor_core == TensorCore::F32
                && matrix_f32::is_available()
            {
                let mut at = [std::ptr::null(); 10];
                for (at, &offset) in at.iter_mut().zip(list) {
                    *at = ctx.registers.add(offset as usize).cast::<Lanes<u32>>().cast_const();
                }
                let (a, rest) = at.split_at(a_words);
                let (b, c) = rest.split_at(b_words);
                let d = matrix_f32::mma::<K>(a, b, c);
                for (&at, words) in d_at.iter().zip(d) {
                    store(ctx.registers, at, mask, words);
                }
                return;
            }
            let (a, b) = operands::<A::Bits, B::Bits, K>(ctx.registers, list);
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
            ctx.shared.sync(ctx.warp);
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
            ctx.shared.sync(ctx.warp);
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
