//! `linear` and `linear_add`: blocks of input rows, laid out as words once, against all panels.

use super::Cpu;
use super::float::Float;
use super::gemm::{Block, Place, Product, grid, part};
use super::int8;
use super::memory::{Buffer, scratch};
use super::pack::Packed;
use super::simd::{Kernel, LANES, Lanes};
use crate::device::Activation;
use crate::tensor::{DType, Matrix, Tensor};
use half::bf16;
use std::ops::Range;

/// Words of A at a time: half of a 1 MiB L2 cache, beside the weights that stream through.
pub(super) const BLOCK: usize = 1 << 17;

/// [`crate::device::Device::linear`].
pub(super) fn linear(
    cpu: &Cpu,
    out: &mut Tensor<Buffer>,
    x: &Tensor<Buffer>,
    weight: &Matrix<Packed>,
    activation: Activation,
) {
    let (rows, columns) = (out.shape().rows(), out.shape().last());
    let (weight, out) = (&weight.packed, out.view_mut());
    let product = Product { weight, out, columns, activation, residual: None };
    multiply(cpu, product, x, rows);
}

/// [`crate::device::Device::linear_add`].
pub(super) fn linear_add(
    cpu: &Cpu,
    residual: &mut Tensor<Buffer>,
    x: &Tensor<Buffer>,
    weight: &Matrix<Packed>,
) {
    let rows = residual.shape().rows();
    let out = residual.view_mut();
    let product = Product {
        weight: &weight.packed,
        out,
        columns: weight.rows,
        activation: Activation::None,
        residual: Some(out.as_view()),
    };
    multiply(cpu, product, x, rows);
}

/// All output rows, cut into a grid of tasks.
pub(super) fn multiply(cpu: &Cpu, product: Product<'_>, x: &Tensor<Buffer>, rows: usize) {
    match x.dtype() {
        _ if product.weight.int8.is_some() => int8::multiply(cpu, product, x, rows),
        DType::F32 => multiply_of::<f32>(cpu, product, x.slice(), rows),
        _ => multiply_of::<bf16>(cpu, product, x.slice(), rows),
    }
}

fn multiply_of<T: Float>(cpu: &Cpu, product: Product<'_>, x: &[T], rows: usize) {
    let words = T::words(product.weight.k, cpu.level.pairs());
    let panels = product.weight.panels();
    let (down, across) = grid(cpu.threads(), product.flops(rows), rows, panels);
    cpu.parallel(down * across, |task| {
        let rows = part(rows, down, task / across);
        let panels = part(panels, across, task % across);
        let block = (BLOCK / words).max(48).min(rows.len());
        let size = block * stride(words);
        scratch(size + product.scratch(block), |memory| {
            let (a, memory) = memory.split_at_mut(size);
            cpu.level.run(Task { product, x, rows, panels, a, memory });
        });
    });
}

/// Words from one row in scratch to the next: not a power of two, or a tile's rows would share a cache
/// set.
pub(super) fn stride(words: usize) -> usize {
    words.next_multiple_of(LANES) + LANES
}

/// Some rows by some panels.
struct Task<'a, T> {
    product: Product<'a>,
    x: &'a [T], // [rows, k]
    rows: Range<usize>,
    panels: Range<usize>,
    a: &'a mut [f32], // [block, stride]
    memory: &'a mut [f32],
}

impl<T: Float> Kernel for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Task { product, x, rows, panels, a, memory } = self;
        let k = product.weight.k;
        let stride = stride(T::words(k, L::PAIRS));
        let block = a.len() / stride;
        for row in rows.clone().step_by(block.max(1)) {
            let width = block.min(rows.end - row);
            for (x, a) in x[row * k..(row + width) * k].chunks_exact(k).zip(a.chunks_mut(stride)) {
                T::arrange(l, x, a);
            }
            let place = Place { row, step: 1, line: width };
            let block = Block { starts: &[a.as_ptr()], stride, width, place, taps: 0..1 };
            // SAFETY: `a` holds these rows; tasks share no row and panel.
            unsafe { product.block::<L, T>(l, block, panels.clone(), memory) };
        }
    }
}
