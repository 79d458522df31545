//! Products of int8: rows of the input are quantised in this thread's scratch, once per block, and multiplied with
//! weights that were quantised when they were packed ([`crate::device::Device::pack_int8`]).
//!
//! The register tile is that of floats: a word is four terms, a sum an i32, held as an f32 whatever it means. It
//! runs over all terms at once: a sum of integers is the same in any order. Where the instruction wants one
//! operand unsigned ([`Lanes::UNSIGNED`]), that is the input with 128 added, and the weights' own sums say how much
//! that is in a product.

use super::Cpu;
use super::float::Step;
use super::gemm::{Product, Rows, Start, grid, part};
use super::linear::{BLOCK, stride};
use super::memory::{Buffer, View, scratch};
use super::pack::{PANEL, Packed, Quantised};
use super::simd::{Kernel, LANES, Lanes};
use crate::device::HostMatrix;
use crate::error::Result;
use crate::tensor::{Floats, Tensor};
use half::bf16;
use std::ops::Range;

/// Terms of a word.
pub(super) const QUAD: usize = 4;
/// The largest integer.
const LARGEST: f32 = 127.0;
/// Magnitudes below it count as zero: 127 times the reciprocal of any other is finite.
const SMALLEST: f32 = 1.0 / (1u128 << 119) as f32;
/// What an f32 below 2²² is added to for its nearest integer to be in the low bits.
const ROUNDER: f32 = 1.5 * (1 << 23) as f32;

/// Words of four int8.
struct Quads;

impl Step for Quads {
    #[inline(always)]
    fn step<L: Lanes>(l: L, a: L::F32, b: L::F32, sum: L::F32) -> L::F32 {
        l.dot_quads(a, b, sum)
    }
}

/// Some terms to quantise, as bytes, each with 128 added if `unsigned`; what is beyond them is that of zeros.
struct Quantise<'a> {
    x: View<'a>,
    terms: Range<usize>,
    unsigned: bool,
    out: &'a mut [u8], // whole vectors
}

impl Kernel for Quantise<'_> {
    /// The scale.
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        let Quantise { x, terms: Range { start, end }, unsigned, out } = self;
        assert!(out.len() >= (end - start).next_multiple_of(LANES));
        let zero = l.splat(0.0);
        // Times zero, what is not finite is NaN, which stays in a sum.
        let (mut largest, mut doubt) = (zero, zero);
        for c in (start..end).step_by(LANES) {
            // SAFETY: within the terms.
            let v = unsafe { x.load(l, c, end - c) };
            largest = l.max(l.max(v, l.sub(zero, v)), largest);
            doubt = l.mul_add(v, zero, doubt);
        }
        let (largest, doubt) = (l.largest(largest), l.sum(doubt));
        let factor = if largest < SMALLEST || doubt != 0.0 { 0.0 } else { LARGEST / largest };
        let factor = l.splat(factor);
        let rounder = l.splat(if unsigned { ROUNDER + 128.0 } else { ROUNDER });
        for c in (start..end).step_by(LANES) {
            // SAFETY: within the terms, and in `out`.
            unsafe {
                let v = l.mul_add(x.load(l, c, end - c), factor, rounder);
                l.store_bytes(out.as_mut_ptr().add(c - start), v);
            }
        }
        match largest < SMALLEST {
            _ if doubt != 0.0 => f32::NAN,
            true => 0.0,
            false => largest / LARGEST,
        }
    }
}

/// Quantises and packs a matrix of one tap, row by row.
pub(super) fn pack(cpu: &Cpu, matrix: &HostMatrix<'_>) -> Result<Packed> {
    let HostMatrix { weight, bias, rows: n, cols: k, .. } = matrix;
    let (n, k) = (*n, *k);
    let words = k.div_ceil(QUAD);
    let mut packed = Packed::empty([n, 1, k], words, bias.as_deref())?;
    let columns = n.next_multiple_of(LANES);
    let (mut scales, mut surplus) = (vec![0.0f32; columns], vec![0i32; columns]);
    let weight = match weight {
        Floats::F32(weight) => View::of::<f32>(weight),
        Floats::BF16(weight) => View::of::<bf16>(weight),
    };
    let mut row = vec![0u8; k.next_multiple_of(LANES)];
    for column in 0..n {
        let terms = column * k..(column + 1) * k;
        let quantise = Quantise { x: weight, terms, unsigned: false, out: &mut row };
        scales[column] = cpu.level.run(quantise);
        surplus[column] = 128 * row.iter().map(|&q| i32::from(q as i8)).sum::<i32>();
        let (panel, width) = (column / PANEL, packed.width(column / PANEL));
        let all: &mut [u32] = bytemuck::cast_slice_mut(packed.panels.bytes_mut());
        let panel = &mut all[panel * PANEL * words..][..words * width];
        for (quad, lanes) in row.as_chunks().0.iter().zip(panel.chunks_exact_mut(width)) {
            lanes[column % PANEL] = u32::from_le_bytes(*quad);
        }
    }
    let (scales, surplus) = (Buffer::of(&scales)?, Buffer::of(&surplus)?);
    packed.int8 = Some(Quantised { scales, surplus });
    Ok(packed)
}

/// All output rows, cut into a grid of tasks.
pub(super) fn multiply(cpu: &Cpu, product: Product<'_>, x: &Tensor<Buffer>, rows: usize) {
    let words = product.weight.words;
    let panels = product.weight.panels();
    let (down, across) = grid(cpu.threads(), product.flops(rows), rows, panels);
    let x = x.view();
    cpu.parallel(down * across, |task| {
        let rows = part(rows, down, task / across);
        let panels = part(panels, across, task % across);
        let block = (BLOCK / words).max(48).min(rows.len());
        let size = block * stride(words);
        scratch(size + block + block * PANEL, |memory| {
            let (a, memory) = memory.split_at_mut(size);
            let (scales, sums) = memory.split_at_mut(block);
            cpu.level.run(Task { product, x, rows, panels, a, scales, sums });
        });
    });
}

/// Some rows by some panels.
struct Task<'a> {
    product: Product<'a>,
    x: View<'a>, // [rows, k]
    rows: Range<usize>,
    panels: Range<usize>,
    a: &'a mut [f32],      // [block, stride], of words
    scales: &'a mut [f32], // [block]
    sums: &'a mut [f32],   // [block, PANEL]
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Task { product, x, rows, panels, a, scales, sums } = self;
        let Packed { k, words, .. } = *product.weight;
        let stride = stride(words);
        for row in rows.clone().step_by(scales.len().max(1)) {
            let count = scales.len().min(rows.end - row);
            for (i, (a, scale)) in a.chunks_mut(stride).zip(&mut *scales).take(count).enumerate() {
                let terms = (row + i) * k..(row + i + 1) * k;
                let out = bytemuck::cast_slice_mut(a);
                *scale = Quantise { x, terms, unsigned: L::UNSIGNED, out }.run(l);
            }
            for panel in panels.clone() {
                let width = product.weight.width(panel);
                let (this, rest) = product.weight.panels_from(panel).split_at(words * width);
                let rows = Rows {
                    starts: &[a.as_ptr()],
                    offset: 0,
                    stride,
                    step: 1,
                    rows: count,
                    words,
                    ahead: bytemuck::cast_slice(&rest[..rest.len().min(this.len())]),
                };
                let w = (bytemuck::cast_slice(this), width);
                // SAFETY: `a` holds these rows; tasks share no row and panel.
                unsafe {
                    rows.multiply::<L, Quads>(l, w, (sums, PANEL), width, Start::Zero);
                    rescale(l, product.weight, panel, &scales[..count], sums);
                    product.finish(l, sums, (row, count, 1), panel);
                }
            }
        }
    }
}

/// Sums of integers become those of what they stand for: a panel's columns of a row for each of `scales`.
#[inline(always)]
fn rescale<L: Lanes>(l: L, weight: &Packed, panel: usize, scales: &[f32], sums: &mut [f32]) {
    let of_columns = weight.int8.as_ref().expect("a matrix of int8");
    assert!(sums.len() >= scales.len() * PANEL);
    for c in (0..weight.width(panel)).step_by(LANES) {
        let column = panel * PANEL + c;
        let by = &of_columns.scales.as_slice::<f32>()[column..][..LANES];
        let surplus = &of_columns.surplus.as_slice::<f32>()[column..][..LANES];
        // SAFETY: sixteen elements each, as asserted and sliced.
        unsafe {
            let by = l.load(by.as_ptr());
            let surplus = if L::UNSIGNED { l.load(surplus.as_ptr()) } else { l.splat(0.0) };
            for (row, &scale) in scales.iter().enumerate() {
                let sum = sums.as_mut_ptr().add(row * PANEL + c);
                let y = l.mul(l.difference(l.load(sum), surplus), l.splat(scale));
                l.store(sum, l.mul(y, by));
            }
        }
    }
}
