//! `conv2d`: the product of [`super::gemm`] over image rows that are laid out as words and padded in scratch, so that
//! neighbouring outputs of a line (of a phase, for `Up`) are a constant stride apart for every tap. Nothing the size
//! of `im2col`, or of a doubled image, is ever built.

use super::Cpu;
use super::float::Float;
use super::gemm::{Block, Place, Product, part, square_grid};
use super::memory::{Buffer, scratch};
use super::pack::Packed;
use super::simd::{Kernel, Lanes};
use crate::device::{Activation, Conv, PHASES};
use crate::tensor::{DType, Matrix, Tensor};
use half::bf16;
use std::ops::Range;

/// Words of image rows at a time: half of a 2 MiB L2 cache.
const BLOCK: usize = 1 << 18;
/// Most lines of a block.
const LINES: usize = 16;

/// [`crate::device::Device::conv2d`].
pub(super) fn conv2d(
    cpu: &Cpu,
    out: &mut Tensor<Buffer>,
    x: &Tensor<Buffer>,
    weight: &Matrix<Packed>,
    geometry: Conv,
    residual: Option<&Tensor<Buffer>>,
) {
    let rows = out.shape().rows();
    let plane = match geometry {
        Conv::Up => (x.dim(1), x.dim(2)),
        _ => (out.dim(1), out.dim(2)),
    };
    let product = Product {
        weight: &weight.packed,
        out: out.view_mut(),
        columns: weight.rows,
        activation: Activation::None,
        residual: residual.map(Tensor::view),
    };
    if geometry == Conv::Point {
        return super::linear::multiply(cpu, product, x, rows);
    }
    match x.dtype() {
        DType::F32 => multiply::<f32>(cpu, product, (x, x.slice()), geometry, plane),
        _ => multiply::<bf16>(cpu, product, (x, x.slice()), geometry, plane),
    }
}

/// All lines, cut into a grid of tasks.
fn multiply<T: Float>(
    cpu: &Cpu,
    product: Product<'_>,
    (x, pixels): (&Tensor<Buffer>, &[T]),
    geometry: Conv,
    (height, width): (usize, usize),
) {
    let rows = x.dim(0) * height * width;
    let image = Image {
        x: pixels,
        size: (x.dim(1), x.dim(2)),
        channels: x.dim(3),
        words: T::words(x.dim(3), cpu.level.pairs()),
        geometry,
        plane: (height, width),
    };
    let lines = x.dim(0) * height;
    let panels = product.weight.panels();
    let (down, across) =
        square_grid(cpu.threads(), product.flops(rows), (rows, lines.div_ceil(4)), panels);
    cpu.parallel(down * across, |task| {
        let lines = part(lines, down, task / across);
        let panels = part(panels, across, task % across);
        let row = image.padded() * image.words;
        let most = LINES.min(lines.len()).min(height);
        let fits = |&block: &usize| image.sources(block) * row <= BLOCK;
        let block = (1..most + 1).rev().find(fits).unwrap_or(1);
        let size = image.sources(block) * row;
        scratch(size + product.scratch(block * width), |memory| {
            let (a, memory) = memory.split_at_mut(size);
            cpu.level.run(Task { image, product, lines, panels, block, a, memory });
        });
    });
}

/// The input of a 3×3 convolution.
#[derive(Clone, Copy)]
struct Image<'a, T> {
    x: &'a [T], // [b, h, w, c]
    size: (usize, usize),
    channels: usize,
    words: usize, // of a pixel in scratch
    geometry: Conv,
    plane: (usize, usize), // height and width of the output, or of one of its phases
}

impl<T: Float> Image<'_, T> {
    /// Pixels of a padded row.
    fn padded(&self) -> usize {
        match self.geometry {
            Conv::Down => self.size.1 + 1,
            _ => self.size.1 + 2,
        }
    }

    /// The input row that line `y` reads through row `ky` of three; outside the image: zeros.
    #[inline(always)]
    fn source(&self, y: usize, ky: usize) -> isize {
        let (y, ky) = (y as isize, ky as isize);
        match self.geometry {
            Conv::Down => 2 * y + ky,
            _ => y + ky - 1,
        }
    }

    /// Row and column of three through which a phase's tap reads.
    #[inline(always)]
    fn tap(&self, phase: usize, tap: usize) -> (usize, usize) {
        match self.geometry {
            Conv::Up => (phase / 2 + tap / 2, phase % 2 + tap % 2),
            _ => (tap / 3, tap % 3),
        }
    }

    /// Where the outputs of line `y` of an image, and of those after it, go.
    #[inline(always)]
    fn place(&self, image: usize, y: usize, phase: usize) -> Place {
        let (height, width) = self.plane;
        match self.geometry {
            Conv::Up => {
                let line = 2 * (image * height + y) + phase / 2;
                Place { row: line * 2 * width + phase % 2, step: 2, line: 4 * width }
            }
            _ => Place { row: (image * height + y) * width, step: 1, line: width },
        }
    }

    /// Input rows that `lines` neighbouring lines read.
    fn sources(&self, lines: usize) -> usize {
        match self.geometry {
            Conv::Down => 2 * lines + 1,
            _ => lines + 2,
        }
    }

    /// Input row `y` of `image` into `row`, with its padding.
    #[inline(always)]
    fn fill<L: Lanes>(&self, l: L, image: usize, y: isize, row: &mut [f32]) {
        let ((height, width), c, words) = (self.size, self.channels, self.words);
        if y < 0 || y >= height as isize {
            return row.fill(0.0);
        }
        let pixels = &self.x[(image * height + y as usize) * width * c..][..width * c];
        let left = if self.geometry == Conv::Down { 0 } else { words };
        row[..left].fill(0.0);
        if c.is_multiple_of(2) {
            T::arrange(l, pixels, &mut row[left..]); // no pixel ends within a pair
            row[left + width * words..].fill(0.0);
        } else {
            for (pixel, row) in pixels.chunks_exact(c).zip(row[left..].chunks_exact_mut(words)) {
                T::arrange(l, pixel, row);
            }
            row[left + width * words..].fill(0.0);
        }
    }
}

/// Some lines by some panels.
struct Task<'a, T> {
    image: Image<'a, T>,
    product: Product<'a>,
    lines: Range<usize>, // over all images
    panels: Range<usize>,
    block: usize,     // lines at a time
    a: &'a mut [f32], // [sources, padded, words]
    memory: &'a mut [f32],
}

impl<T: Float> Kernel for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Task { image, product, lines, panels, block, a, memory } = self;
        let (height, width) = image.plane;
        let (words, row) = (image.words, image.padded() * image.words);
        let stride = if image.geometry == Conv::Down { 2 * words } else { words };
        let mut first = lines.start;
        while first < lines.end {
            let (index, y) = (first / height, first % height);
            let count = block.min(lines.end - first).min(height - y);
            let low = image.source(y, 0);
            for source in low..image.source(y + count - 1, 2) + 1 {
                let at = (source - low) as usize * row;
                image.fill(l, index, source, &mut a[at..at + row]);
            }
            let taps = image.geometry.taps_of_pixel();
            for phase in 0..if image.geometry == Conv::Up { PHASES } else { 1 } {
                let mut starts = [std::ptr::null(); LINES * 9];
                for (i, start) in starts[..count * taps].iter_mut().enumerate() {
                    let (ky, kx) = image.tap(phase, i % taps);
                    let source = (image.source(y + i / taps, ky) - low) as usize;
                    *start = a[source * row + kx * words..].as_ptr();
                }
                let block = Block {
                    starts: &starts[..count * taps],
                    stride,
                    width,
                    place: image.place(index, y, phase),
                    taps: phase * taps..(phase + 1) * taps,
                };
                // SAFETY: `a` holds every padded row; tasks share no line and panel.
                unsafe { product.block::<L, T>(l, block, panels.clone(), memory) };
            }
            first += count;
        }
    }
}
