//! Weights in the order the matrix product streams them.

use super::float::Float;
use super::memory::Buffer;
use super::simd::LANES;
use crate::device::HostMatrix;
use crate::error::Result;
use crate::tensor::Floats;
use half::bf16;

/// Output columns of a panel.
pub(super) const PANEL: usize = 2 * LANES;

/// A weight matrix `[n, taps, k]` as panels of 32 output columns: `[n/32][taps*words][32]`, zero
/// beyond `n`. A word is an f32 term, two bf16 terms (`Float::pack`) or four int8 ones. The last panel has 16 columns
/// where those suffice.
#[derive(Debug)]
pub struct Packed {
    pub(super) panels: Buffer, // u32
    bias: Option<Buffer>,      // f32 [n], zero-padded to whole vectors
    /// Of terms in int8.
    pub(super) int8: Option<Quantised>,
    /// Output columns.
    pub(super) n: usize,
    /// Input channels of one tap.
    pub(super) k: usize,
    /// Words of one tap.
    pub(super) words: usize,
    /// Filter taps.
    pub(super) taps: usize,
}

/// What belongs to the columns of an int8 matrix, padded to whole vectors.
#[derive(Debug)]
pub(super) struct Quantised {
    /// f32: what a column's integers are multiplied by.
    pub(super) scales: Buffer,
    /// i32: 128 times the sum of a column's integers.
    pub(super) surplus: Buffer,
}

impl Packed {
    /// Packs a matrix.
    pub(super) fn new(matrix: &HostMatrix<'_>) -> Result<Packed> {
        let HostMatrix { weight, bias, rows: n, cols: k, taps } = matrix;
        let (n, k, taps) = (*n, *k, *taps);
        let words = match weight {
            Floats::F32(_) => k,
            Floats::BF16(_) => k.div_ceil(bf16::PACKED),
        };
        let mut packed = Packed::empty([n, taps, k], words, bias.as_deref())?;
        match weight {
            Floats::F32(weight) => packed.fill(weight),
            Floats::BF16(weight) => packed.fill(weight),
        }
        Ok(packed)
    }

    /// Zeros with a bias.
    pub(super) fn empty(
        [n, taps, k]: [usize; 3],
        words: usize,
        bias: Option<&[f32]>,
    ) -> Result<Packed> {
        let columns = n.next_multiple_of(LANES);
        let panels = Buffer::zeroed(columns * taps * words * size_of::<u32>())?;
        let pad = |bias: &[f32]| {
            let mut padded = bias.to_vec();
            padded.resize(columns, 0.0);
            Buffer::of(&padded)
        };
        let bias = bias.map(pad).transpose()?;
        Ok(Packed { panels, bias, int8: None, n, k, words, taps })
    }

    fn fill<T: Float>(&mut self, weight: &[T]) {
        let (k, terms, words) = (self.k, self.taps * self.k, self.taps * self.words);
        for index in 0..self.panels() {
            let width = self.width(index);
            let all: &mut [u32] = bytemuck::cast_slice_mut(self.panels.bytes_mut());
            let panel = &mut all[index * PANEL * words..][..width * words];
            let rows = weight[index * PANEL * terms..].chunks_exact(terms).take(width);
            for (column, row) in rows.enumerate() {
                let packed = row.chunks_exact(k).flat_map(|tap| tap.chunks(T::PACKED));
                for (terms, lanes) in packed.zip(panel.chunks_exact_mut(width)) {
                    lanes[column] = T::pack(terms);
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

    /// A panel, `[taps*words, width]`, and what follows it.
    pub(super) fn panels_from(&self, panel: usize) -> &[u32] {
        &self.panels.as_slice()[panel * PANEL * self.taps * self.words..]
    }

    /// The bias, padded to whole vectors.
    pub(super) fn bias(&self) -> Option<&[f32]> {
        self.bias.as_ref().map(Buffer::as_slice)
    }
}
