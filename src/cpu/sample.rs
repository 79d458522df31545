//! `guide_and_sample` and `remask`: what decides tokens. Nothing here is contracted or reordered:
//! plain IEEE 754 f32 operations, [`crate::rng::ln`] for every logarithm.

use super::Cpu;
use super::gemm::part;
use super::math;
use super::memory::{Buffer, Parts, key_scratch, scratch};
use super::simd::{Kernel, LANES, Lanes};
use crate::device::{Masked, Remask, Sampling};
use crate::rng::{self, NoiseKey, Purpose};
use crate::tensor::Tensor;
use std::ops::Range;

/// Tokens whose noise is drawn at a time: 16 Philox blocks of four words.
const NOISE: usize = 64;

/// [`crate::device::Device::guide_and_sample`].
pub(super) fn guide_and_sample(
    cpu: &Cpu,
    masked: &mut Masked<Buffer>,
    logits: &Tensor<Buffer>,
    sampling: Sampling,
) {
    let v = logits.shape().last();
    let positions = masked.positions.slice::<u32>();
    let n = positions.len();
    let cells = masked.tokens.shape().elements() / masked.images;
    let tasks = cpu.tasks(n, 16 * v);
    let sampled = Parts::new(masked.sampled.slice_mut::<u32>());
    let confidence = Parts::new(masked.confidence.slice_mut::<f32>());
    let logits = logits.slice::<f32>();
    cpu.parallel(tasks, |task| {
        let rows = part(n, tasks, task);
        // SAFETY: one part a task.
        let (sampled, confidence) =
            unsafe { (sampled.part(rows.clone()), confidence.part(rows.clone())) };
        scratch(v.next_multiple_of(NOISE), |row| {
            let draw =
                Draw { logits, positions, cells, v, rows, sampling, row, sampled, confidence };
            cpu.level.run(draw);
        });
    });
}

/// Some rows, each: guidance, top-k, argmax of noisy logits, log-probability.
struct Draw<'a> {
    logits: &'a [f32],    // [n or 2n, v]
    positions: &'a [u32], // [n]
    cells: usize,         // of one image's grid
    v: usize,
    rows: Range<usize>,
    sampling: Sampling,
    row: &'a mut [f32], // [v], padded with −∞ to whole noise blocks
    sampled: &'a mut [u32],
    confidence: &'a mut [f32],
}

impl Kernel for Draw<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Draw { logits, positions, cells, v, rows, sampling, row, sampled, confidence } = self;
        let Sampling { guidance, temperature, top_k, noise } = sampling;
        row[v..].fill(f32::NEG_INFINITY);
        for (i, j) in rows.enumerate() {
            let conditional = &logits[j * v..(j + 1) * v];
            if guidance == 1.0 {
                row[..v].copy_from_slice(conditional);
            } else {
                let unconditional = &logits[(positions.len() + j) * v..][..v];
                for ((l, &c), &u) in row.iter_mut().zip(conditional).zip(unconditional) {
                    *l = u + guidance * (c - u);
                }
            }
            if top_k > 0 && top_k < v {
                keep_largest(&mut row[..v], top_k);
            }
            let token = if temperature > 0.0 {
                row[..v].iter_mut().for_each(|l| *l /= temperature);
                let position = positions[j] as usize;
                noisy_argmax(row, noise.of_image(position / cells), (position % cells) as u32)
            } else {
                argmax(row)
            };
            sampled[i] = token as u32;
            confidence[i] = log_probability(l, row, token);
        }
    }
}

/// Sets all but the `k` largest to −∞; of equals, lower indices are kept.
fn keep_largest(row: &mut [f32], k: usize) {
    key_scratch(|keys| {
        keys.extend(row.iter().enumerate().map(|(i, &x)| sort_key(-x, i)));
        let (_, &mut last, _) = keys.select_nth_unstable(k - 1);
        for (i, x) in row.iter_mut().enumerate() {
            if sort_key(-*x, i) > last {
                *x = f32::NEG_INFINITY;
            }
        }
    });
}

/// A key that sorts as (`x`, `index`), −0 equal to 0.
fn sort_key(x: f32, index: usize) -> u64 {
    let bits = (x + 0.0).to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(ordered) << 32 | index as u64
}

/// First index of the largest element, by 16 interleaved searches.
#[inline(always)]
fn argmax(row: &[f32]) -> usize {
    let mut best = Best::new();
    for (i, x) in row.as_chunks::<LANES>().0.iter().enumerate() {
        best.update(x, i * LANES);
    }
    best.index()
}

/// First index of the largest element plus its Gumbel noise.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // a lane indexes four arrays
fn noisy_argmax(row: &[f32], noise: NoiseKey, position: u32) -> usize {
    let mut best = Best::new();
    for (i, x) in row.as_chunks::<NOISE>().0.iter().enumerate() {
        let first = (i * NOISE / 4) as u32;
        // Word w of sixteen blocks side by side, so that every loop here runs over lanes.
        let mut words = [[0u32; LANES]; 4];
        for b in 0..LANES {
            let block = noise.words(Purpose::Token, position, first + b as u32);
            words[0][b] = block[0];
            words[1][b] = block[1];
            words[2][b] = block[2];
            words[3][b] = block[3];
        }
        let mut draws = [[0.0f32; LANES]; 4];
        for (draws, words) in draws.iter_mut().zip(&words) {
            for (draw, &word) in draws.iter_mut().zip(words) {
                *draw = rng::gumbel(word);
            }
        }
        let mut noisy = [0.0f32; NOISE];
        for (b, noisy) in noisy.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *noisy = [draws[0][b], draws[1][b], draws[2][b], draws[3][b]];
        }
        for (noisy, x) in noisy.iter_mut().zip(x) {
            *noisy += x;
        }
        for (c, x) in noisy.as_chunks::<LANES>().0.iter().enumerate() {
            best.update(x, i * NOISE + c * LANES);
        }
    }
    best.index()
}

/// Per lane, the first index of the largest element so far.
struct Best {
    value: [f32; LANES],
    index: [u32; LANES],
}

impl Best {
    #[inline(always)]
    fn new() -> Self {
        Best { value: [f32::NEG_INFINITY; LANES], index: [u32::MAX; LANES] }
    }

    #[inline(always)]
    fn update(&mut self, x: &[f32; LANES], first: usize) {
        for (i, &x) in x.iter().enumerate() {
            let larger = x > self.value[i];
            self.value[i] = if larger { x } else { self.value[i] };
            self.index[i] = if larger { (first + i) as u32 } else { self.index[i] };
        }
    }

    #[inline(always)]
    fn index(&self) -> usize {
        let mut best = 0;
        for i in 1..LANES {
            let (x, y) = (self.value[i], self.value[best]);
            if x > y || (x == y && self.index[i] < self.index[best]) {
                best = i;
            }
        }
        // All −∞ or NaN: no draw is better than another.
        if self.index[best] == u32::MAX { 0 } else { self.index[best] as usize }
    }
}

/// `row[token] − ln Σ exp(row)`, about the largest element, summed in 16 interleaved parts.
#[inline(always)]
fn log_probability<L: Lanes>(l: L, row: &[f32], token: usize) -> f32 {
    let mut largest = l.splat(f32::NEG_INFINITY);
    for x in row.as_chunks::<LANES>().0 {
        largest = l.max(l.load_array(x), largest);
    }
    let largest = l.largest(largest);
    let mut sum = l.splat(0.0);
    for x in row.as_chunks::<LANES>().0 {
        sum = l.add(sum, math::exp(l, l.sub(l.load_array(x), l.splat(largest))));
    }
    (row[token] - largest) - rng::ln(l.sum(sum))
}

/// [`crate::device::Device::remask`]. An image has at most a few thousand positions: one thread.
pub(super) fn remask(masked: &mut Masked<Buffer>, remask: Remask) {
    let Masked { images, tokens, positions, remaining, sampled, confidence } = masked;
    let cells = tokens.shape().elements() / *images;
    let (tokens, positions) = (tokens.slice_mut::<u32>(), positions.slice::<u32>());
    let (sampled, confidence) = (sampled.slice::<u32>(), confidence.slice_mut::<f32>());
    let remaining = remaining.slice_mut::<u32>();
    let n = positions.len() / *images;
    for image in 0..*images {
        let noise = remask.noise.of_image(image);
        let part = image * n..(image + 1) * n;
        let (positions, sampled) = (&positions[part.clone()], &sampled[part.clone()]);
        let confidence = &mut confidence[part];
        for (confidence, &position) in confidence.iter_mut().zip(positions) {
            let position = position - (image * cells) as u32;
            *confidence += remask.temperature * noise.gumbel(Purpose::Confidence, position, 0);
        }
        key_scratch(|keys| {
            keys.extend(confidence.iter().enumerate().map(|(j, &x)| sort_key(x, j)));
            // The last key that is masked; positions ascend, so ties remask the lower one.
            let last = match remask.keep_masked {
                0 => None,
                k => Some(*keys.select_nth_unstable(k - 1).1),
            };
            let mut remaining = remaining[image * remask.keep_masked..].iter_mut();
            for (j, &position) in positions.iter().enumerate() {
                let masked = last.is_some_and(|last| sort_key(confidence[j], j) <= last);
                tokens[position as usize] = if masked { remask.mask_token } else { sampled[j] };
                if masked && let Some(slot) = remaining.next() {
                    *slot = position;
                }
            }
        });
    }
}
