//! `load_rgb8` and `to_rgb8`, the pixel formats at the edges of the VQ model, and `split` within it.

use super::Cpu;
use super::float::Float;
use super::gemm::part;
use super::memory::{Buffer, Parts, View, ViewMut};
use super::simd::{Kernel, LANES, Lanes};
use crate::tensor::{DType, Tensor};
use half::bf16;
use std::ops::Range;

/// [`crate::device::Device::split`].
pub(super) fn split(cpu: &Cpu, out: &mut Tensor<Buffer>, x: &Tensor<Buffer>) {
    let (rows, channels) = (x.shape().rows(), x.shape().last());
    let tasks = cpu.tasks(rows, 2 * channels);
    let (out, x) = (out.view_mut(), x.view());
    cpu.parallel(tasks, |task| {
        cpu.level.run(Split { out, x, channels, rows: part(rows, tasks, task) });
    });
}

/// [`crate::device::Device::load_rgb8`].
pub(super) fn load_rgb8(cpu: &Cpu, out: &mut Tensor<Buffer>, x: &Tensor<Buffer>) {
    match out.dtype() {
        DType::F32 => load_as::<f32>(cpu, out, x),
        _ => load_as::<bf16>(cpu, out, x),
    }
}

fn load_as<T: Float>(cpu: &Cpu, out: &mut Tensor<Buffer>, x: &Tensor<Buffer>) {
    let pixels = x.shape().rows();
    let tasks = cpu.tasks(pixels, 4);
    let (out, x) = (Parts::new(out.slice_mut::<T>()), x.slice::<u8>());
    cpu.parallel(tasks, |task| {
        let rows = part(pixels, tasks, task);
        // SAFETY: one part a task.
        let out = unsafe { out.part(rows.start * 4..rows.end * 4) };
        cpu.level.run(FromRgb { out, x: &x[rows.start * 3..rows.end * 3] });
    });
}

/// [`crate::device::Device::to_rgb8`].
pub(super) fn to_rgb8(cpu: &Cpu, out: &mut Tensor<Buffer>, x: &Tensor<Buffer>) {
    let values = x.shape().elements();
    let tasks = cpu.tasks(values, 1);
    let (out, x) = (Parts::new(out.slice_mut::<u8>()), x.slice::<f32>());
    cpu.parallel(tasks, |task| {
        let range = part(values, tasks, task);
        // SAFETY: one part a task.
        cpu.level.run(ToRgb { out: unsafe { out.part(range.clone()) }, x: &x[range] });
    });
}

struct Split<'a> {
    out: ViewMut<'a>, // [rows, 2, channels]
    x: View<'a>,      // [rows, channels]
    channels: usize,
    rows: Range<usize>,
}

impl Kernel for Split<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let channels = self.channels;
        for row in self.rows {
            for c in (0..channels).step_by(LANES) {
                let n = channels - c;
                // SAFETY: a row's channels; tasks share no row.
                unsafe {
                    let x = self.x.load(l, row * channels + c, n);
                    self.out.store_split(l, 2 * row * channels + c, channels, n, x);
                }
            }
        }
    }
}

struct FromRgb<'a, T> {
    out: &'a mut [T],
    x: &'a [u8],
}

impl<T: Float> Kernel for FromRgb<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        for (out, x) in self.out.as_chunks_mut::<4>().0.iter_mut().zip(self.x.as_chunks::<3>().0) {
            let [r, g, b] = x.map(|x| T::round(f32::from(x) / 255.0));
            *out = [r, g, b, T::round(0.0)];
        }
    }
}

struct ToRgb<'a> {
    out: &'a mut [u8],
    x: &'a [f32],
}

impl Kernel for ToRgb<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        for (out, &x) in self.out.iter_mut().zip(self.x) {
            let x = if x > 0.0 { x } else { 0.0 }; // and NaN
            let x = if x < 1.0 { x } else { 1.0 };
            // Adding 2²³ rounds to an integer, ties to even, in the low bits.
            *out = (x * 255.0 + 8_388_608.0).to_bits() as u8;
        }
    }
}
