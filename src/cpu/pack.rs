//! Weights in the order the matrix product streams them.

use super::Cpu;
use super::float::Float;
use super::memory::{Buffer, Parts};
use super::simd::LANES;
use crate::device::HostMatrix;
use crate::error::Result;
use crate::tensor::Floats;
use half::bf16;

/// Output columns of a panel.
pub(super) const PANEL: usize = 2 * LANES;

/// Words of a panel that are filled at a time: 8 KiB, which stay in L1 while every row writes its column.
const PART: usize = 64;

/// A weight matrix `[n, taps, k]` as panels of 32 output columns: `[n/32][taps*words][32]`, zero
/// beyond `n`. A word is an f32 term or two bf16 terms (`Float::pack`). The last panel has 16 columns
/// where those suffice.
#[derive(Debug)]
pub struct Packed {
    panels: Buffer,       // u32
    bias: Option<Buffer>, // f32 [n], zero-padded to whole vectors
    /// Output columns.
    pub(super) n: usize,
    /// Input channels of one tap.
    pub(super) k: usize,
    /// Words of one tap.
    pub(super) words: usize,
    /// Filter taps.
    pub(super) taps: usize,
}

impl Packed {
    /// Packs a matrix.
    pub(super) fn new(cpu: &Cpu, matrix: &HostMatrix<'_>) -> Result<Packed> {
        let HostMatrix { weight, bias, rows: n, cols: k, taps } = matrix;
        let (n, k, taps) = (*n, *k, *taps);
        let columns = n.next_multiple_of(LANES);
        let words = match weight {
            Floats::F32(_) => k,
            Floats::BF16(_) => k.div_ceil(bf16::PACKED),
        };
        let panels = Buffer::zeroed(columns * taps * words * size_of::<u32>())?;
        let mut packed = Packed { panels, bias: None, n, k, words, taps };
        match weight {
            Floats::F32(weight) => packed.fill(cpu, weight),
            Floats::BF16(weight) => packed.fill(cpu, weight),
        }
        if let Some(bias) = bias {
            let mut padded = bias.clone();
            padded.resize(columns, 0.0);
            packed.bias = Some(Buffer::of(&padded)?);
        }
        Ok(packed)
    }

    /// Fills the panels from `[n, taps, k]`, each a part of all its rows at a time.
    fn fill<T: Float>(&mut self, cpu: &Cpu, weight: &[T]) {
        let (k, taps, words, panels) = (self.k, self.taps, self.words, self.panels());
        let widths: Vec<usize> = (0..panels).map(|panel| self.width(panel)).collect();
        let all = Parts::new(bytemuck::cast_slice_mut::<u8, u32>(self.panels.bytes_mut()));
        cpu.parallel(panels, |index| {
            let (first, width) = (index * PANEL, widths[index]);
            let start = first * taps * words;
            // SAFETY: every task has a panel of its own.
            let panel = unsafe { all.part(start..start + width * taps * words) };
            let rows = weight[first * taps * k..].chunks_exact(taps * k).take(width);
            for (tap, panel) in panel.chunks_exact_mut(words * width).enumerate() {
                for (part, panel) in panel.chunks_mut(PART * width).enumerate() {
                    let from = tap * k + part * PART * T::PACKED;
                    let to = (from + PART * T::PACKED).min((tap + 1) * k);
                    for (column, row) in rows.clone().enumerate() {
                        let words = row[from..to].chunks(T::PACKED).map(T::pack);
                        for (lanes, word) in panel.chunks_exact_mut(width).zip(words) {
                            lanes[column] = word;
                        }
                    }
                }
            }
        });
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
