//! Weights in the order the matrix product streams them.

use super::memory::{Buffer, Float};
use super::simd::LANES;
use crate::device::HostMatrix;
use crate::error::Result;
use crate::tensor::Floats;

/// Output columns of a panel.
pub(super) const PANEL: usize = 2 * LANES;

/// A weight matrix `[n, taps, k]` as panels of 32 output columns: `[n/32][taps*k][32]`, zero
/// beyond `n`. The last panel has 16 columns where those suffice.
#[derive(Debug)]
pub struct Packed {
    panels: Buffer,
    bias: Option<Buffer>, // f32 [n], zero-padded to whole vectors
    /// Output columns.
    pub(super) n: usize,
    /// Input channels of one tap.
    pub(super) k: usize,
    /// Filter taps.
    pub(super) taps: usize,
}

impl Packed {
    /// Packs a matrix.
    pub(super) fn new(matrix: &HostMatrix<'_>) -> Result<Packed> {
        let HostMatrix { weight, bias, rows: n, cols: k, taps } = matrix;
        let (n, k, taps) = (*n, *k, *taps);
        let columns = n.next_multiple_of(LANES);
        let panels = Buffer::zeroed(columns * taps * k * weight.dtype().size())?;
        let mut packed = Packed { panels, bias: None, n, k, taps };
        match weight {
            Floats::F32(weight) => packed.fill(weight),
            Floats::BF16(weight) => packed.fill(weight),
        }
        if let Some(bias) = bias {
            let mut padded = bias.clone();
            padded.resize(columns, 0.0);
            packed.bias = Some(Buffer::of(&padded)?);
        }
        Ok(packed)
    }

    fn fill<T: Float>(&mut self, weight: &[T]) {
        let (n, terms) = (self.n, self.taps * self.k);
        for index in 0..self.panels() {
            let width = self.width(index);
            let start = index * PANEL * terms;
            let all: &mut [T] = bytemuck::cast_slice_mut(self.panels.bytes_mut());
            let panel = &mut all[start..start + width * terms];
            let rows = weight[start.min(n * terms)..].chunks_exact(terms).take(width);
            for (column, row) in rows.enumerate() {
                for (&w, lanes) in row.iter().zip(panel.chunks_exact_mut(width)) {
                    lanes[column] = w;
                }
            }
        }
    }

    /// How many panels.
    pub(super) fn panels(&self) -> usize {
        self.n.div_ceil(PANEL)
    }

    /// Columns of a panel, padding included.
    pub(super) fn width(&self, panel: usize) -> usize {
        (self.n - panel * PANEL).next_multiple_of(LANES).min(PANEL)
    }

    /// A panel, `[taps*k, width]`, and what follows it.
    pub(super) fn panels_from<T: Float>(&self, panel: usize) -> &[T] {
        &self.panels.as_slice()[panel * PANEL * self.taps * self.k..]
    }

    /// The bias, padded to whole vectors.
    pub(super) fn bias(&self) -> Option<&[f32]> {
        self.bias.as_ref().map(Buffer::as_slice)
    }
}
