//! `layer_norm` and `group_norm_silu`.

use super::Cpu;
use super::gemm::part;
use super::math;
use super::memory::{Buffer, Parts, View, ViewMut};
use super::response::{Columns, lanes_at, modulated};
use super::simd::{Kernel, LANES, Lanes};
use crate::device::{Norm, NormKind, Normalize};
use crate::tensor::Tensor;
use std::ops::Range;

/// Independent sums, so that one addition need not wait for the last.
const CHAINS: usize = 4;

/// [`crate::device::Device::layer_norm`].
pub(super) fn layer_norm(
    cpu: &Cpu,
    out: &mut Tensor<Buffer>,
    x: &Tensor<Buffer>,
    Normalize { norm, modulation }: Normalize<'_, Buffer>,
) {
    let (rows, d) = (out.shape().rows(), out.shape().last());
    let tasks = cpu.tasks(rows, 2 * d);
    let (out, x) = (out.view_mut(), x.slice::<f32>());
    let (kind, epsilon) = (norm.kind, norm.epsilon);
    let weight = norm.weight.slice::<f32>();
    let bias = norm.bias.as_ref().map(|bias| bias.slice::<f32>());
    let by = modulation.map(|by| Columns::new(by, rows));
    cpu.parallel(tasks, |task| {
        let rows = part(rows, tasks, task);
        cpu.level.run(RowNorm { out, x, kind, weight, bias, epsilon, by, rows });
    });
}

/// `y = (x − mean)/√(var + ε)·weight + bias`: mean (0 in RMSNorm), then the mean square about it, then y,
/// which may be modulated. A row is summed in 64 interleaved parts.
struct RowNorm<'a> {
    out: ViewMut<'a>,
    x: &'a [f32],
    kind: NormKind,
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    epsilon: f32,
    by: Option<Columns<'a>>,
    rows: Range<usize>,
}

impl Kernel for RowNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let d = self.weight.len();
        for row in self.rows {
            let x = &self.x[row * d..][..d];
            let mean = match self.kind {
                NormKind::Layer => mean(l, x),
                NormKind::Rms => 0.0,
            };
            let mut sums = [l.splat(0.0); CHAINS];
            for c in (0..d).step_by(CHAINS * LANES) {
                for (i, sum) in sums.iter_mut().enumerate() {
                    let c = c + i * LANES;
                    if c < d {
                        let mut delta = l.sub(lanes_at(l, x, c), l.splat(mean));
                        if d - c < LANES {
                            delta = first_lanes(l, delta, d - c);
                        }
                        *sum = l.mul_add(delta, delta, *sum);
                    }
                }
            }
            let scale = 1.0 / (total(l, sums) / d as f32 + self.epsilon).sqrt();
            let by = self.by.map(|by| by.of(row, d));
            for c in (0..d).step_by(LANES) {
                let centred = l.sub(lanes_at(l, x, c), l.splat(mean));
                let bias = self.bias.map_or(l.splat(0.0), |bias| lanes_at(l, bias, c));
                let weight = lanes_at(l, self.weight, c);
                let mut y = l.mul_add(l.mul(centred, l.splat(scale)), weight, bias);
                if let Some(by) = by {
                    y = modulated(l, y, by, c);
                }
                // SAFETY: tasks share no output row.
                unsafe { self.out.store(l, row * d + c, d - c, y) };
            }
        }
    }
}

#[inline(always)]
fn mean<L: Lanes>(l: L, x: &[f32]) -> f32 {
    let d = x.len();
    let mut sums = [l.splat(0.0); CHAINS];
    for c in (0..d).step_by(CHAINS * LANES) {
        for (i, sum) in sums.iter_mut().enumerate() {
            if c + i * LANES < d {
                *sum = l.add(*sum, lanes_at(l, x, c + i * LANES));
            }
        }
    }
    total(l, sums) / d as f32
}

/// Sum of all lanes of all chains.
#[inline(always)]
fn total<L: Lanes>(l: L, sums: [L::F32; CHAINS]) -> f32 {
    l.sum(l.add(l.add(sums[0], sums[1]), l.add(sums[2], sums[3])))
}

/// `v` with zeros beyond its first `n` lanes.
#[inline(always)]
fn first_lanes<L: Lanes>(l: L, v: L::F32, n: usize) -> L::F32 {
    let mut lanes = l.to_array(v);
    lanes[n..].fill(0.0);
    l.load_array(&lanes)
}

/// [`crate::device::Device::group_norm_silu`].
///
/// Chunks of pixels are reduced to a mean and a sum of squares about it per group; the chunks of an
/// image are merged in order (Chan et al., 1983). A chunk's size depends on the shape alone.
pub(super) fn group_norm_silu(
    cpu: &Cpu,
    out: &mut Tensor<Buffer>,
    x: &Tensor<Buffer>,
    norm: &Norm<Buffer>,
    groups: usize,
) {
    let (images, pixels, channels) = (x.dim(0), x.dim(1) * x.dim(2), x.dim(3));
    let chunk = (32_768 / channels).max(1); // 128 KiB: the second pass reads it from cache
    let chunks = pixels.div_ceil(chunk);
    let split = out.dim(3) != channels;
    let (out, x) = (out.view_mut(), x.view());
    let weight = norm.weight.slice::<f32>();
    let bias = norm.bias.as_ref().expect("a group norm has a bias").slice::<f32>();
    let rows = |task: usize| {
        let (image, chunk_of_image) = (task / chunks, task % chunks);
        let first = image * pixels + chunk_of_image * chunk;
        first..(first + chunk).min((image + 1) * pixels)
    };

    let mut moments = vec![[0.0f32; 2]; images * chunks * groups];
    let parts = Parts::new(&mut moments);
    cpu.parallel(images * chunks, |task| {
        // SAFETY: one part a task.
        let out = unsafe { parts.part(task * groups..(task + 1) * groups) };
        cpu.level.run(Moments { x, channels, rows: rows(task), out });
    });

    // [images, channels] means and factors 1/√(var + ε)·weight.
    let mut affine = vec![[0.0f32; 2]; images * channels];
    for (i, affine) in affine.iter_mut().enumerate() {
        let (image, channel) = (i / channels, i % channels);
        let group = channel / (channels / groups);
        let (mut mean, mut squares, mut count) = (0.0, 0.0, 0.0);
        for task in image * chunks..(image + 1) * chunks {
            let [chunk_mean, chunk_squares] = moments[task * groups + group];
            let n = (rows(task).len() * (channels / groups)) as f32;
            let (delta, total) = (chunk_mean - mean, count + n);
            mean += delta * (n / total);
            squares += chunk_squares + delta * delta * (count * (n / total));
            count = total;
        }
        *affine = [mean, 1.0 / (squares / count + norm.epsilon).sqrt() * weight[channel]];
    }

    cpu.parallel(images * chunks, |task| {
        let affine = &affine[task / chunks * channels..][..channels];
        cpu.level.run(NormSilu { out, split, x, affine, bias, rows: rows(task) });
    });
}

/// Mean and sum of squares about it of each group over some pixels.
struct Moments<'a> {
    x: View<'a>, // [pixels, channels]
    channels: usize,
    rows: Range<usize>,
    out: &'a mut [[f32; 2]], // [groups]
}

impl Kernel for Moments<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Moments { x, channels, rows, out } = self;
        let size = channels / out.len();
        let count = (rows.len() * size) as f32;
        out.fill([0.0; 2]);
        for moment in 0..2 {
            for c in (0..channels).step_by(LANES) {
                let n = LANES.min(channels - c);
                let mut means = [0.0; LANES];
                for i in 0..n {
                    means[i] = out[(c + i) / size][0];
                }
                let means = l.load_array(&means);
                let mut sums = [l.splat(0.0); CHAINS];
                for row in rows.clone().step_by(CHAINS) {
                    for (i, sum) in sums.iter_mut().enumerate() {
                        if row + i < rows.end {
                            // SAFETY: a pixel's channels.
                            let v = unsafe { x.load(l, (row + i) * channels + c, n) };
                            *sum = if moment == 0 {
                                l.add(*sum, v)
                            } else {
                                let delta = l.sub(v, means);
                                l.mul_add(delta, delta, *sum)
                            };
                        }
                    }
                }
                let sum = l.add(l.add(sums[0], sums[1]), l.add(sums[2], sums[3]));
                let sum = l.to_array(sum);
                // The mean's numerator gathers where the squares go later.
                for i in 0..n {
                    out[(c + i) / size][1] += sum[i];
                }
            }
            if moment == 0 {
                for group in out.iter_mut() {
                    *group = [group[1] / count, 0.0];
                }
            }
        }
    }
}

/// `y = (x − mean)·factor + bias; out = y/(1 + e⁻ʸ)`.
struct NormSilu<'a> {
    out: ViewMut<'a>,
    split: bool, // out is bf16, in two parts
    x: View<'a>,
    affine: &'a [[f32; 2]], // per channel: mean, factor
    bias: &'a [f32],
    rows: Range<usize>,
}

impl Kernel for NormSilu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let channels = self.bias.len();
        for c in (0..channels).step_by(LANES) {
            let n = LANES.min(channels - c);
            let (mut means, mut factors) = ([0.0; LANES], [0.0; LANES]);
            for i in 0..n {
                [means[i], factors[i]] = self.affine[c + i];
            }
            let (means, factors) = (l.load_array(&means), l.load_array(&factors));
            let bias = lanes_at(l, self.bias, c);
            for row in self.rows.clone() {
                // SAFETY: a pixel's channels; tasks share no pixel.
                unsafe {
                    let x = self.x.load(l, row * channels + c, n);
                    let y = l.mul_add(l.sub(x, means), factors, bias);
                    let y = math::silu(l, y);
                    match self.split {
                        true => self.out.store_split(l, 2 * row * channels + c, channels, n, y),
                        false => self.out.store(l, row * channels + c, n, y),
                    }
                }
            }
        }
    }
}
