//! `nearest_code`: the codebook entry nearest to each latent pixel.

use super::Cpu;
use super::gemm::part;
use super::memory::{Buffer, Parts, scratch};
use super::simd::{Kernel, LANES, Lanes};
use crate::tensor::Tensor;
use std::ops::Range;

/// Latent pixels that one transposed block of codes is compared with.
const ROWS: usize = 64;
/// Of these, how many at a time: as many independent sums as hide the latency of one.
const TILE: usize = 8;

/// [`crate::device::Device::nearest_code`].
pub(super) fn nearest_code(
    cpu: &Cpu,
    ids: &mut Tensor<Buffer>,
    z: &Tensor<Buffer>,
    codebook: &Tensor<Buffer>,
) {
    let (n, c) = (z.shape().rows(), z.shape().last());
    let tasks = n.div_ceil(ROWS);
    let (ids, z, codebook) = (Parts::new(ids.slice_mut()), z.slice(), codebook.slice());
    cpu.parallel(tasks, |task| {
        let rows = part(n, tasks, task);
        // SAFETY: one part a task.
        let ids = unsafe { ids.part(rows.clone()) };
        scratch(c * LANES, |block| {
            cpu.level.run(Nearest { ids, z: &z[rows.start * c..rows.end * c], codebook, c, block });
        });
    });
}

/// Up to [`ROWS`] latent pixels against all codes, 16 codes at a time; a distance is the sum of
/// squared differences in channel order.
struct Nearest<'a> {
    ids: &'a mut [u32],
    z: &'a [f32],        // [rows, c]
    codebook: &'a [f32], // [v, c]
    c: usize,
    block: &'a mut [f32], // [c, 16] codes, transposed
}

impl Kernel for Nearest<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Nearest { ids, z, codebook, c, block } = self;
        let (rows, codes) = (ids.len(), codebook.len() / c);
        let mut best = [f32::INFINITY; ROWS];
        ids.fill(0);
        for first in (0..codes).step_by(LANES) {
            let count = LANES.min(codes - first);
            for i in 0..count {
                for j in 0..c {
                    block[j * LANES + i] = codebook[(first + i) * c + j];
                }
            }
            for row in (0..rows).step_by(TILE) {
                let tile = row..(row + TILE).min(rows);
                let mut sums = [l.splat(0.0); TILE];
                for j in 0..c {
                    // SAFETY: sixteen codes' channel j.
                    let codes = unsafe { l.load(block.as_ptr().add(j * LANES)) };
                    for (i, sum) in sums.iter_mut().enumerate() {
                        // A tile beyond the last row repeats it.
                        let x = z[(row + i).min(rows - 1) * c + j];
                        let delta = l.sub(codes, l.splat(x));
                        *sum = l.mul_add(delta, delta, *sum);
                    }
                }
                for (sum, row) in sums.into_iter().zip(tile) {
                    keep_nearest(
                        &l.to_array(sum),
                        first..first + count,
                        &mut best[row],
                        &mut ids[row],
                    );
                }
            }
        }
    }
}

/// The first of the smallest distances, if it beats `best`.
#[inline(always)]
fn keep_nearest(distances: &[f32; LANES], codes: Range<usize>, best: &mut f32, id: &mut u32) {
    let smallest = distances[..codes.len()].iter().fold(f32::INFINITY, |a, &b| a.min(b));
    if smallest < *best {
        *best = smallest;
        let lane = distances.iter().position(|&d| d == smallest).unwrap_or(0);
        *id = (codes.start + lane) as u32;
    }
}
