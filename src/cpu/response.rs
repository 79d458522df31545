//! `global_response_norm`, `depthwise`, `modulate` and `activate`: what aMUSEd's blocks are made of beside
//! products and norms.

use super::Cpu;
use super::gemm::part;
use super::math;
use super::memory::{Buffer, Parts, View, ViewMut};
use super::simd::{Kernel, LANES, Lanes};
use crate::device::{Activation, Depthwise, Modulation, RESPONSE_EPSILON};
use crate::tensor::Tensor;
use std::ops::Range;

/// [`crate::device::Device::global_response_norm`].
///
/// Sums of squares of chunks of pixels, added up in order; then `x·(gain·n) + shift + x`. A chunk's size
/// depends on the shape alone.
pub(super) fn global_response_norm(
    cpu: &Cpu,
    out: &mut Tensor<Buffer>,
    x: &Tensor<Buffer>,
    gain: &Tensor<Buffer>,
    shift: &Tensor<Buffer>,
) {
    let (images, pixels, channels) = (x.dim(0), x.dim(1), x.dim(2));
    let chunk = (32_768 / channels).max(1); // 64 KiB of bf16
    let chunks = pixels.div_ceil(chunk);
    let (out, x) = (out.view_mut(), x.view());
    let (gain, shift) = (gain.slice::<f32>(), shift.slice::<f32>());
    let rows = |task: usize| {
        let (image, chunk_of_image) = (task / chunks, task % chunks);
        let first = image * pixels + chunk_of_image * chunk;
        first..(first + chunk).min((image + 1) * pixels)
    };

    let mut squares = vec![0.0f32; images * chunks * channels];
    let parts = Parts::new(&mut squares);
    cpu.parallel(images * chunks, |task| {
        // SAFETY: one part a task.
        let out = unsafe { parts.part(task * channels..(task + 1) * channels) };
        cpu.level.run(Squares { x, rows: rows(task), out });
    });

    let mut factors = vec![0.0f32; images * channels];
    for (image, factors) in factors.chunks_exact_mut(channels).enumerate() {
        let of_image = &squares[image * chunks * channels..][..chunks * channels];
        for chunk in of_image.chunks_exact(channels) {
            factors.iter_mut().zip(chunk).for_each(|(sum, square)| *sum += square);
        }
        factors.iter_mut().for_each(|sum| *sum = sum.sqrt());
        let mean = factors.iter().sum::<f32>() / channels as f32;
        for (factor, gain) in factors.iter_mut().zip(gain) {
            *factor = gain * (*factor / (mean + RESPONSE_EPSILON));
        }
    }

    cpu.parallel(images * chunks, |task| {
        let factors = &factors[task / chunks * channels..][..channels];
        cpu.level.run(Respond { out, x, factors, shift, rows: rows(task) });
    });
}

/// Sum of squares of each channel over some pixels.
struct Squares<'a> {
    x: View<'a>, // [pixels, channels]
    rows: Range<usize>,
    out: &'a mut [f32], // [channels]
}

impl Kernel for Squares<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let channels = self.out.len();
        for c in (0..channels).step_by(LANES) {
            let n = LANES.min(channels - c);
            let mut sum = l.splat(0.0);
            for row in self.rows.clone() {
                // SAFETY: a pixel's channels.
                let v = unsafe { self.x.load(l, row * channels + c, n) };
                sum = l.mul_add(v, v, sum);
            }
            self.out[c..c + n].copy_from_slice(&l.to_array(sum)[..n]);
        }
    }
}

/// `out = x·factor + shift + x`.
struct Respond<'a> {
    out: ViewMut<'a>,
    x: View<'a>,
    factors: &'a [f32],
    shift: &'a [f32],
    rows: Range<usize>,
}

impl Kernel for Respond<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let d = self.factors.len();
        for c in (0..d).step_by(LANES) {
            let (factor, shift) = (lanes_at(l, self.factors, c), lanes_at(l, self.shift, c));
            for row in self.rows.clone() {
                // SAFETY: a pixel's channels; tasks share no pixel.
                unsafe {
                    let x = self.x.load(l, row * d + c, d - c);
                    let y = l.add(l.mul_add(x, factor, shift), x);
                    self.out.store(l, row * d + c, d - c, y);
                }
            }
        }
    }
}

/// Lanes `c ..` of `row`, zero beyond its end.
#[inline(always)]
pub(super) fn lanes_at<L: Lanes>(l: L, row: &[f32], c: usize) -> L::F32 {
    assert!(c < row.len());
    // SAFETY: within the row.
    unsafe { l.load_first(row.as_ptr().add(c), row.len() - c) }
}

/// [`crate::device::Device::depthwise`].
pub(super) fn depthwise(
    cpu: &Cpu,
    out: &mut Tensor<Buffer>,
    x: &Tensor<Buffer>,
    filter: &Depthwise<Buffer>,
) {
    let (height, width, channels) = (x.dim(1), x.dim(2), x.dim(3));
    let lines = x.dim(0) * height;
    let tasks = cpu.tasks(lines, 9 * width * channels);
    let (out, x) = (out.view_mut(), x.view());
    let weight = filter.weight.slice::<f32>();
    let bias = filter.bias.as_ref().map(|bias| bias.slice::<f32>());
    cpu.parallel(tasks, |task| {
        let lines = part(lines, tasks, task);
        cpu.level.run(Filter { out, x, weight, bias, size: [height, width, channels], lines });
    });
}

/// Some output lines. A sum begins with the bias and takes the taps in order.
struct Filter<'a> {
    out: ViewMut<'a>,
    x: View<'a>,
    weight: &'a [f32], // [9, channels]
    bias: Option<&'a [f32]>,
    size: [usize; 3],
    lines: Range<usize>, // over all images
}

impl Kernel for Filter<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let [height, width, channels] = self.size;
        for line in self.lines {
            let y = line % height;
            for column in 0..width {
                for c in (0..channels).step_by(LANES) {
                    let mut sum = self.bias.map_or(l.splat(0.0), |bias| lanes_at(l, bias, c));
                    for tap in 0..9 {
                        let (ky, kx) = (tap / 3, tap % 3);
                        let inside = (1..height + 1).contains(&(y + ky))
                            && (1..width + 1).contains(&(column + kx));
                        if inside {
                            let pixel = (line + ky - 1) * width + column + kx - 1;
                            let w = lanes_at(l, &self.weight[tap * channels..][..channels], c);
                            // SAFETY: a pixel of this image.
                            let v = unsafe { self.x.load(l, pixel * channels + c, channels - c) };
                            sum = l.mul_add(v, w, sum);
                        }
                    }
                    let at = (line * width + column) * channels + c;
                    // SAFETY: tasks share no line.
                    unsafe { self.out.store(l, at, channels - c, sum) };
                }
            }
        }
    }
}

/// A [`Modulation`]'s columns for each row of x.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    tensor: &'a [f32],
    stride: usize,
    offset: usize,
    rows: usize, // of x, for one of the tensor's
}

impl<'a> Columns<'a> {
    pub(super) fn new(by: Modulation<'a, Buffer>, rows: usize) -> Self {
        let Modulation { tensor, offset } = by;
        let (batch, stride) = (tensor.shape().rows(), tensor.shape().last());
        Columns { tensor: tensor.slice(), stride, offset, rows: rows / batch }
    }

    /// Scale and shift, `d` of each, of x's row `row`.
    #[inline(always)]
    pub(super) fn of(self, row: usize, d: usize) -> (&'a [f32], &'a [f32]) {
        self.tensor[row / self.rows * self.stride + self.offset..][..2 * d].split_at(d)
    }
}

/// `x·(1 + s) + t` of lanes `c ..`.
#[inline(always)]
pub(super) fn modulated<L: Lanes>(
    l: L,
    x: L::F32,
    (scale, shift): (&[f32], &[f32]),
    c: usize,
) -> L::F32 {
    let scale = l.add(l.splat(1.0), lanes_at(l, scale, c));
    l.mul_add(x, scale, lanes_at(l, shift, c))
}

/// [`crate::device::Device::modulate`].
pub(super) fn modulate(cpu: &Cpu, x: &mut Tensor<Buffer>, by: Modulation<'_, Buffer>) {
    let (rows, d) = (x.shape().rows(), x.shape().last());
    let (tasks, by, x) = (cpu.tasks(rows, d), Columns::new(by, rows), x.view_mut());
    cpu.parallel(tasks, |task| {
        cpu.level.run(Modulate { x, by, d, rows: part(rows, tasks, task) });
    });
}

struct Modulate<'a> {
    x: ViewMut<'a>,
    by: Columns<'a>,
    d: usize,
    rows: Range<usize>,
}

impl Kernel for Modulate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Modulate { x, by, d, rows } = self;
        for row in rows {
            let by = by.of(row, d);
            for c in (0..d).step_by(LANES) {
                // SAFETY: tasks share no row.
                unsafe {
                    let y = modulated(l, x.as_view().load(l, row * d + c, d - c), by, c);
                    x.store(l, row * d + c, d - c, y);
                }
            }
        }
    }
}

/// [`crate::device::Device::activate`].
pub(super) fn activate(
    cpu: &Cpu,
    out: &mut Tensor<Buffer>,
    x: &Tensor<Buffer>,
    activation: Activation,
) {
    let count = x.shape().elements();
    let vectors = count.div_ceil(LANES);
    let tasks = cpu.tasks(vectors, 4 * LANES);
    let (out, x) = (out.view_mut(), x.view());
    cpu.parallel(tasks, |task| {
        let vectors = part(vectors, tasks, task);
        cpu.level.run(Activate { out, x, activation, count, vectors });
    });
}

struct Activate<'a> {
    out: ViewMut<'a>,
    x: View<'a>,
    activation: Activation,
    count: usize,
    vectors: Range<usize>,
}

impl Kernel for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for i in self.vectors.map(|vector| vector * LANES) {
            let n = self.count - i;
            // SAFETY: within both; tasks share no vector.
            unsafe {
                let y = math::activate(l, self.activation, self.x.load(l, i, n));
                self.out.store(l, i, n, y);
            }
        }
    }
}
