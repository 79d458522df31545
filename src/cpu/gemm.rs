//! The matrix product behind linear layers, convolutions and attention.
//!
//! `out[r, j] = activation(Σ_tap Σ_i a[r, tap, i]·w[j, tap, i] + bias[j]) (+ residual[r, j])`
//!
//! Both operands are words ([`Float`]): f32, pairs of bf16, or bf16 widened to f32 where there is no
//! instruction for pairs. A is laid out so in this thread's scratch, once per block of rows; W is packed
//! so, or is widened, a panel (32 columns, a slice of the terms) once per block of A. Then the register
//! tile of [`Rows::multiply`] does nothing but load, broadcast and multiply-add. A's rows lie a constant
//! stride apart, from one start per line and tap: a linear layer is one line with one tap, and a
//! convolution's nine starts point into the same padded image rows.
//!
//! A slice's terms are one f32 chain of products (exact ones of bf16) in the order (tap, i), and an output is
//! the chain of its slices: where they end depends on the weight's shape alone, not on tile or partition. It is
//! rounded once, at the store. Short chains are what keeps a long f32 sum near the exact one.

use super::float::{Float, Step};
use super::math;
use super::memory::{View, ViewMut};
use super::pack::{PANEL, Packed};
use super::simd::{Kernel, LANES, Lanes};
use crate::device::{Activation, GATE};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{Ordering, compiler_fence};

/// Most terms of a slice: its 32 columns of W, and a tile of A, stay in L1 or come from a near L2.
const TERMS: usize = 256;

/// What one product writes, and with which weights.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub(super) weight: &'a Packed,
    pub(super) out: ViewMut<'a>,
    /// Columns of `out`: half those of `weight` where they are values and gates.
    pub(super) columns: usize,
    pub(super) activation: Activation,
    pub(super) residual: Option<View<'a>>,
}

/// Rows of A, as words: `lines` of `width` rows each.
#[derive(Clone)]
pub(super) struct Block<'a> {
    /// `[lines, taps]`: each line's first row.
    pub(super) starts: &'a [*const f32],
    /// From one row of a line to the next.
    pub(super) stride: usize,
    /// Rows of a line.
    pub(super) width: usize,
    /// Where the rows of the output lie.
    pub(super) place: Place,
    /// The weights' taps that `starts` are of.
    pub(super) taps: Range<usize>,
}

/// Rows of an output.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// The first line's first row.
    pub(super) row: usize,
    /// From one row of a line to the next.
    pub(super) step: usize,
    /// From one line's first row to the next one's.
    pub(super) line: usize,
}

impl Product<'_> {
    /// FLOPs of `rows` output rows.
    pub(super) fn flops(&self, rows: usize) -> usize {
        2 * rows * self.weight.n * self.weight.k * self.weight.taps
    }

    /// A slice is some whole taps, or a part of one: how many, and how many terms of each.
    #[inline(always)]
    fn slice(&self) -> (usize, usize) {
        let Packed { taps, k, .. } = *self.weight;
        ((TERMS / k).clamp(1, taps), k.min(TERMS))
    }

    /// f32 of scratch that a block of `rows` rows needs beside A.
    pub(super) fn scratch(&self, rows: usize) -> usize {
        let (taps, length) = self.slice();
        PANEL * (rows + taps * length.next_multiple_of(2))
    }

    /// A block of output rows, columns of `panels`; `T` is what the weights are stored as.
    ///
    /// # Safety
    /// The words of `k` terms are readable at every row of A. The output rows lie in `out` (and `residual`), and
    /// no other task uses those columns of them.
    #[inline(always)]
    pub(super) unsafe fn block<L: Lanes, T: Float>(
        &self,
        l: L,
        a: Block<'_>,
        panels: Range<usize>,
        scratch: &mut [f32],
    ) {
        let Packed { k, words, .. } = *self.weight;
        let taps = a.taps.len();
        let lines = a.starts.len() / taps;
        let rows = lines * a.width;
        let (sums, w) = scratch.split_at_mut(rows * PANEL);
        let (step, length) = self.slice();
        for panel in panels {
            let width = self.weight.width(panel);
            let weights = &self.weight.panels_from(panel)[a.taps.start * words * width..];
            for tap in (0..taps).step_by(step) {
                for i in (0..k).step_by(length) {
                    let (taps_here, length) = (step.min(taps - tap), length.min(k - i));
                    let first = tap * words + i / T::PACKED;
                    let count = taps_here * length.div_ceil(T::PACKED);
                    let (this, rest) = weights[first * width..].split_at(count * width);
                    let w = T::unpack(l, this, width, w);
                    let ahead = &rest[..rest.len().min(this.len())];
                    let ahead: &[u8] = bytemuck::cast_slice(ahead);
                    for (line, starts) in a.starts.chunks_exact(taps).enumerate() {
                        let ahead = &ahead[part(ahead.len(), lines, line)];
                        let line = line * a.width;
                        let starts = &starts[tap..tap + taps_here];
                        let a = Rows {
                            starts,
                            offset: T::words(i, L::PAIRS),
                            stride: a.stride,
                            step: 1,
                            rows: a.width,
                            words: T::words(length, L::PAIRS),
                            ahead,
                        };
                        let start = if first == 0 { Start::Zero } else { Start::Sums };
                        let sums = &mut sums[line * PANEL..];
                        // SAFETY: the caller's.
                        unsafe { a.multiply::<L, T>(l, (w, width), (sums, PANEL), width, start) };
                    }
                }
            }
            let Place { row, step, line } = a.place;
            for (i, sums) in sums.chunks_exact(a.width * PANEL).enumerate() {
                // SAFETY: the caller's.
                unsafe { self.finish(l, sums, (row + i * line, a.width, step), panel) };
            }
        }
    }

    /// Bias, activation, residual and store of `rows` rows, `step` apart in the output.
    ///
    /// # Safety
    /// As [`Product::block`].
    #[inline(always)]
    pub(super) unsafe fn finish<L: Lanes>(
        &self,
        l: L,
        sums: &[f32],
        (row, rows, step): (usize, usize, usize),
        panel: usize,
    ) {
        if self.activation == Activation::Geglu {
            // SAFETY: the caller's.
            return unsafe { self.finish_gated(l, sums, (row, rows), panel) };
        }
        let n = self.columns;
        for c in (0..self.weight.width(panel)).step_by(LANES) {
            let column = panel * PANEL + c;
            // SAFETY: the bias is padded to whole vectors; and the caller's.
            unsafe {
                let bias = self.weight.bias().map(|bias| bias.as_ptr().add(column));
                let bias = bias.map_or(l.splat(0.0), |bias| l.load(bias));
                for r in 0..rows {
                    let index = (row + r * step) * n + column;
                    let y = l.add(l.load(sums.as_ptr().add(r * PANEL + c)), bias);
                    let mut y = math::activate(l, self.activation, y);
                    if let Some(residual) = self.residual {
                        y = l.add(y, residual.load(l, index, n - column));
                    }
                    self.out.store(l, index, n - column, y);
                }
            }
        }
    }
}

impl Product<'_> {
    /// Bias, values times activated gates, and store: a panel is [`GATE`] values and their gates.
    ///
    /// # Safety
    /// As [`Product::block`].
    #[inline(always)]
    unsafe fn finish_gated<L: Lanes>(
        &self,
        l: L,
        sums: &[f32],
        (row, rows): (usize, usize),
        panel: usize,
    ) {
        const { assert!(GATE == LANES && PANEL == 2 * GATE) };
        let column = panel * GATE;
        // SAFETY: the bias is padded to whole panels; and the caller's.
        unsafe {
            let bias = |c| {
                let bias = self.weight.bias().map(|bias| bias.as_ptr().add(2 * column + c));
                bias.map_or(l.splat(0.0), |bias| l.load(bias))
            };
            let (value_bias, gate_bias) = (bias(0), bias(GATE));
            for r in 0..rows {
                let sums = sums.as_ptr().add(r * PANEL);
                let value = l.add(l.load(sums), value_bias);
                let gate = l.add(l.load(sums.add(GATE)), gate_bias);
                let y = l.mul(value, math::gelu(l, gate));
                let index = (row + r) * self.columns + column;
                self.out.store(l, index, self.columns - column, y);
            }
        }
    }
}

/// What a sum is added to.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    /// Nothing.
    Zero,
    /// What is there.
    Sums,
    /// What is there, times a factor per row.
    Scaled(&'a [f32]),
}

/// Rows of A: words, `step` apart, from each of `starts[..] + offset + r*stride`.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) starts: &'a [*const f32], // per tap
    pub(super) offset: usize,
    pub(super) stride: usize,
    pub(super) step: usize,
    pub(super) rows: usize,
    pub(super) words: usize, // of a tap
    /// What will be read next, to be fetched from memory meanwhile.
    pub(super) ahead: &'a [u8],
}

impl Rows<'_> {
    /// `out (+)= a·b`: b `[taps*words, columns]` and out `[rows, columns]` with their row strides,
    /// `columns` whole vectors. `T` is what the words of both operands mean.
    ///
    /// # Safety
    /// A's rows are readable.
    #[inline(always)]
    pub(super) unsafe fn multiply<L: Lanes, T: Step>(
        &self,
        l: L,
        b: (&[f32], usize),
        out: (&mut [f32], usize),
        columns: usize,
        start: Start<'_>,
    ) {
        let words = self.starts.len() * self.words;
        assert!(columns.is_multiple_of(LANES) && words > 0 && self.rows > 0);
        assert!(b.0.len() >= (words - 1) * b.1 + columns);
        assert!(out.0.len() >= (self.rows - 1) * out.1 + columns);
        // Heights differ by at most one: no tile is left with a row or two.
        let tiles = self.rows.div_ceil(L::ROWS);
        for t in 0..tiles {
            let rows = part(self.rows, tiles, t);
            let a = Rows {
                offset: self.offset + rows.start * self.stride,
                rows: rows.len(),
                ahead: &self.ahead[part(self.ahead.len(), tiles, t)],
                ..*self
            };
            let start = match start {
                Start::Scaled(factors) => Start::Scaled(&factors[rows.clone()]),
                start => start,
            };
            for c in (0..columns).step_by(LANES * L::VECTORS) {
                let vectors = L::VECTORS.min((columns - c) / LANES);
                // SAFETY: asserted above; A is the caller's.
                unsafe {
                    let b = (b.0.as_ptr().add(c), b.1);
                    let out = (out.0.as_mut_ptr().add(rows.start * out.1 + c), out.1);
                    a.tile::<L, T>(l, b, out, vectors, start);
                }
            }
        }
    }

    /// Picks the register tile.
    ///
    /// # Safety
    /// The rows, `vectors` vectors of every row of B, and of as many rows of out, are there.
    #[inline(always)]
    unsafe fn tile<L: Lanes, T: Step>(
        &self,
        l: L,
        b: (*const f32, usize),
        out: (*mut f32, usize),
        vectors: usize,
        start: Start<'_>,
    ) {
        macro_rules! heights {
            ($($r:literal)+) => {
                match (self.rows, vectors) {
                    $(
                        ($r, 1) if $r <= L::ROWS => {
                            l.call(Tile::<T, $r, 1> { a: self, b, out, start, of: PhantomData })
                        }
                        ($r, 2) if $r <= L::ROWS && L::VECTORS == 2 => {
                            l.call(Tile::<T, $r, 2> { a: self, b, out, start, of: PhantomData })
                        }
                    )+
                    (rows, _) => unreachable!("a tile of {rows} rows and {vectors} vectors"),
                }
            };
        }
        heights!(12 11 10 9 8 7 6 5 4 3 2 1);
    }
}

/// The micro-kernel: `R` rows by `V` vectors of sums, in registers from start to end.
struct Tile<'a, T, const R: usize, const V: usize> {
    a: &'a Rows<'a>,
    b: (*const f32, usize), // and row stride
    out: (*mut f32, usize), // and row stride
    start: Start<'a>,
    of: PhantomData<T>,
}

impl<T: Step, const R: usize, const V: usize> Kernel for Tile<'_, T, R, V> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Tile { a: &Rows { starts, offset, stride, step, words, ahead, .. }, start, .. } = self;
        // Spread evenly: a burst of fetches would block the loads of the sums.
        let pace = ahead.len().div_ceil(starts.len() * words);
        let mut ahead = ahead.as_ptr();
        let ((mut b, b_stride), (out, out_stride)) = (self.b, self.out);
        let mut sums = [[l.splat(0.0); V]; R];
        // SAFETY: that of `Rows::tile`, the only maker of tiles.
        unsafe {
            for &tap in starts {
                // One pointer for three rows: with the stride as an index, all addresses are
                // operands. Opaque, or the compiler derives each address from the last.
                let mut a = [tap.add(offset); 4];
                for (i, a) in a.iter_mut().enumerate().take(R.div_ceil(3)) {
                    *a = std::hint::black_box(a.add(3 * i * stride));
                }
                for _ in 0..words {
                    let mut w = [l.load(b); V];
                    for (v, w) in w.iter_mut().enumerate().skip(1) {
                        *w = l.load(b.add(v * LANES));
                    }
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let x = l.splat(*a[r / 3].add(r % 3 * stride));
                        for (sum, w) in sums.iter_mut().zip(w) {
                            *sum = T::step(l, x, w, *sum);
                        }
                    }
                    // Keeps the loads of different steps apart: gathered, they spill the sums.
                    compiler_fence(Ordering::SeqCst);
                    for a in &mut a {
                        *a = a.add(step);
                    }
                    b = b.add(b_stride);
                    if V == 2 {
                        l.prefetch(ahead); // narrow tiles have no load to spare
                        ahead = ahead.wrapping_add(pace);
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    let out = out.add(r * out_stride + v * LANES);
                    let sum = match start {
                        Start::Zero => sum,
                        Start::Sums => l.add(l.load(out), sum),
                        Start::Scaled(factors) => {
                            l.mul_add(l.load(out), l.splat(*factors.get_unchecked(r)), sum)
                        }
                    };
                    l.store(out, sum);
                }
            }
        }
    }
}

/// How many parts of a product of `flops` to make: a thread is worth calling for 2^20 of them
/// (10 µs); more parts than threads even out what else the cores do, from 2^25 (200 µs) a part.
fn tasks(threads: usize, flops: usize) -> usize {
    match threads {
        1 => 1,
        _ => (flops >> 20).min(threads).max((flops >> 25).min(4 * threads)).max(1),
    }
}

/// Into how many parts to cut `rows` and `panels` of a linear layer for `threads` threads.
///
/// By rows, while a part has `ENOUGH` of them: a thread then goes on, verb after verb, with what it
/// wrote itself, which is worth more than the weights that both read (128 rows on two cores: 249
/// GFLOP/s by rows, 210 by squares).
pub(super) fn grid(threads: usize, flops: usize, rows: usize, panels: usize) -> (usize, usize) {
    const ENOUGH: usize = 24;
    match tasks(threads, flops) {
        tasks if rows >= ENOUGH * tasks => (tasks, 1),
        _ => square_grid(threads, flops, (rows, rows.div_ceil(12)), panels),
    }
}

/// Into how many parts to cut `rows` (at most `most`) and `panels`, as squarely as can be: every
/// part lays out its rows of A and columns of W, at the cost of five products each.
pub(super) fn square_grid(
    threads: usize,
    flops: usize,
    (rows, most): (usize, usize),
    panels: usize,
) -> (usize, usize) {
    let tasks = tasks(threads, flops);
    let cost = |across: usize| {
        let down = tasks.div_ceil(across).min(most);
        let (r, c) = (rows.div_ceil(down), panels.div_ceil(across) * PANEL);
        let rounds = (down * across).div_ceil(threads);
        (rounds * (r * c + 5 * (r + c)), down, across)
    };
    (1..tasks.min(panels) + 1).map(cost).min().map_or((1, 1), |(_, d, a)| (d, a))
}

/// Part `i` of `parts` near-equal parts of `0..n`.
#[inline(always)]
pub(super) fn part(n: usize, parts: usize, i: usize) -> Range<usize> {
    n * i / parts..n * (i + 1) / parts
}
