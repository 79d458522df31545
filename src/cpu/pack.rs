//! Weights in the order the matrix product streams them.

use super::Cpu;
use super::float::Float;
use super::int8;
use super::memory::{Buffer, Parts};
use super::simd::LANES;
use crate::device::{HostMatrix, MatrixSizes, PackedParts, Shared};
use crate::error::Result;
use crate::tensor::{DType, Floats};
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
    pub(super) fn new(cpu: &Cpu, matrix: &HostMatrix<'_>) -> Result<Packed> {
        let HostMatrix { weight, bias, rows: n, cols: k, taps } = matrix;
        let (n, k, taps) = (*n, *k, *taps);
        let words = match weight {
            Floats::F32(_) => k,
            Floats::BF16(_) => k.div_ceil(bf16::PACKED),
        };
        let mut packed = Packed::empty([n, taps, k], words, bias.as_deref())?;
        match weight {
            Floats::F32(weight) => packed.fill(cpu, weight),
            Floats::BF16(weight) => packed.fill(cpu, weight),
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

    fn fill<T: Float>(&mut self, cpu: &Cpu, weight: &[T]) {
        let (k, terms, words) = (self.k, self.taps * self.k, self.taps * self.words);
        let widths: Vec<usize> = (0..self.panels()).map(|panel| self.width(panel)).collect();
        let panels = Parts::new(bytemuck::cast_slice_mut::<u8, u32>(self.panels.bytes_mut()));
        cpu.parallel(widths.len(), |index| {
            let (width, start) = (widths[index], index * PANEL * words);
            // SAFETY: panels lie one after another.
            let panel = unsafe { panels.part(start..start + width * words) };
            let rows = weight[index * PANEL * terms..].chunks_exact(terms).take(width);
            for (column, row) in rows.enumerate() {
                let packed = row.chunks_exact(k).flat_map(|tap| tap.chunks(T::PACKED));
                for (terms, lanes) in packed.zip(panel.chunks_exact_mut(width)) {
                    lanes[column] = T::pack(terms);
                }
            }
        });
    }

    /// What [`Packed::adopt`] takes.
    pub(super) fn parts(&self) -> PackedParts<&[u8]> {
        let int8 = self.int8.as_ref();
        PackedParts {
            panels: self.panels.bytes(),
            bias: self.bias.as_ref().map(Buffer::bytes),
            int8: int8.map(|Quantised { scales, surplus }| [scales.bytes(), surplus.bytes()]),
        }
    }

    /// A matrix of these parts, where they are of its sizes.
    pub(super) fn adopt(sizes: MatrixSizes, parts: PackedParts<Shared>) -> Option<Packed> {
        let MatrixSizes { rows: n, taps, cols: k, dtype } = sizes;
        let words = match dtype {
            DType::F32 => k,
            DType::I8 => k.div_ceil(int8::QUAD),
            _ => k.div_ceil(bf16::PACKED),
        };
        let PackedParts { panels, bias, int8 } = parts;
        let columns = size_of::<u32>() * n.next_multiple_of(LANES);
        let of_columns = bias.iter().chain(int8.iter().flatten()).all(|part| part.len() == columns);
        let fits = panels.len() == columns * taps * words && of_columns;
        (fits && int8.is_some() == (dtype == DType::I8)).then(|| Packed {
            panels: Buffer::of_file(panels),
            bias: bias.map(Buffer::of_file),
            int8: int8.map(|parts| {
                let [scales, surplus] = parts.map(Buffer::of_file);
                Quantised { scales, surplus }
            }),
            n,
            k,
            words,
            taps,
        })
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
