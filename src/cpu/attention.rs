//! `attention`: `out = softmax(q·kᵀ/√d)·v` per sequence and head, one pass over the keys.
//!
//! Keys come in blocks of 64, queries in blocks of 32. For each pair of blocks: scores, the running
//! maximum and sum of each query, and its running output, rescaled where the maximum grew (Dao et
//! al., 2022). Scores are held transposed, `[keys, queries]`, so that a softmax runs down the lanes
//! and never across them. f32 throughout from bf16 or f32 inputs, one rounding at the store. A query's
//! arithmetic does not depend on its block, its task or the level.

use super::Cpu;
use super::float::{Float, widen};
use super::gemm::{Rows, Start, part};
use super::math;
use super::memory::{Buffer, ViewMut, scratch};
use super::simd::{Kernel, LANES, Lanes};
use crate::device::{Attention, Heads};
use crate::tensor::{DType, Tensor};
use half::bf16;
use std::ops::Range;

/// Keys of a block.
const KEYS: usize = 64;
/// Queries of a block.
const QUERIES: usize = 2 * LANES;
/// Most queries of a task: its queries and running output stay in L2.
const CHUNK: usize = 8 * QUERIES;

/// [`crate::device::Device::attention`].
pub(super) fn attention(
    cpu: &Cpu,
    out: &mut Tensor<Buffer>,
    q: Heads<'_, Buffer>,
    k: Heads<'_, Buffer>,
    v: Heads<'_, Buffer>,
    sizes: Attention,
) {
    match out.dtype() {
        DType::F32 => attention_of::<f32>(cpu, out, q, k, v, sizes),
        _ => attention_of::<bf16>(cpu, out, q, k, v, sizes),
    }
}

fn attention_of<T: Float>(
    cpu: &Cpu,
    out: &mut Tensor<Buffer>,
    q: Heads<'_, Buffer>,
    k: Heads<'_, Buffer>,
    v: Heads<'_, Buffer>,
    sizes: Attention,
) {
    let Attention { batch, heads, head_dim, queries, keys, causal, step, column, .. } = sizes;
    let stride = out.shape().last();
    let out = out.view_mut();
    let work = 4 * batch * heads * head_dim * queries * keys;
    let wanted = if work < 1 << 20 { 1 } else { 2 * cpu.threads() };
    // Every task widens its head's keys again: queries are split where heads do not suffice.
    let chunks = wanted.div_ceil(batch * heads).min(queries.div_ceil(QUERIES));
    let chunks = chunks.max(queries.div_ceil(CHUNK));
    let task = |task: usize| {
        let (sequence, head) = (task / chunks / heads, task / chunks % heads);
        let rows = part(queries, chunks, task % chunks);
        let width = head_dim.next_multiple_of(LANES);
        let padded = rows.len().next_multiple_of(QUERIES);
        let pieces = [
            head_dim.next_multiple_of(2) * padded,
            rows.len() * width,
            2 * padded,
            KEYS * width,
            KEYS * width,
            KEYS * QUERIES,
        ];
        scratch(pieces.iter().sum(), |memory| {
            let [query, output, state, key, value, scores] = split(memory, pieces);
            cpu.level.run(Head::<T> {
                q: Operand::new(&q, sizes.first_row(sequence, queries), head, sizes),
                k: Operand::new(&k, sizes.first_row(sequence, keys), head, sizes),
                v: Operand::new(&v, sizes.first_row(sequence, keys), head, sizes),
                out,
                at: sizes.first_row(sequence, queries) * stride + column + head * head_dim,
                stride: step * stride,
                length: sizes.length(sequence),
                causal,
                rows,
                width,
                query,
                output,
                state,
                key,
                value,
                scores,
            });
        });
    };
    let tasks = batch * heads * chunks;
    if wanted == 1 {
        (0..tasks).for_each(task);
    } else {
        cpu.parallel(tasks, task);
    }
}

/// Cuts scratch into pieces of the given sizes.
fn split<const N: usize>(mut memory: &mut [f32], sizes: [usize; N]) -> [&mut [f32]; N] {
    sizes.map(|size| memory.split_off_mut(..size).expect("scratch is their sum"))
}

/// The rows of one head of one sequence within a wider tensor.
#[derive(Clone, Copy)]
struct Operand<'a, T> {
    data: &'a [T],
    stride: usize,
    head_dim: usize,
}

impl<'a, T: Float> Operand<'a, T> {
    fn new(heads: &Heads<'a, Buffer>, row: usize, head: usize, sizes: Attention) -> Self {
        let Attention { head_dim, step, .. } = sizes;
        let stride = heads.tensor.shape().last();
        let data = &heads.tensor.slice()[row * stride + heads.offset + head * head_dim..];
        Operand { data, stride: step * stride, head_dim }
    }

    #[inline(always)]
    fn row(&self, i: usize) -> &'a [T] {
        &self.data[i * self.stride..][..self.head_dim]
    }
}

/// One task: some queries of one head of one sequence.
struct Head<'a, T> {
    q: Operand<'a, T>,
    k: Operand<'a, T>,
    v: Operand<'a, T>,
    out: ViewMut<'a>,
    at: usize,     // of the head's first output element
    stride: usize, // of output rows
    length: usize, // keys that exist
    causal: bool,
    rows: Range<usize>,
    width: usize, // head_dim, padded to whole vectors

    query: &'a mut [f32],  // [rows/32][words][32]
    output: &'a mut [f32], // [rows][width], not yet divided by the sums
    state: &'a mut [f32],  // [rows/32][2][32]: maxima, sums
    key: &'a mut [f32],    // [KEYS][width], words of each
    value: &'a mut [f32],  // [KEYS][width]
    scores: &'a mut [f32], // [KEYS][32], then probabilities
}

impl<T: Float> Kernel for Head<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        self.load_queries(l);
        self.output.fill(0.0);
        self.value.fill(0.0); // its padding
        for state in self.state.chunks_exact_mut(2 * QUERIES) {
            state[..QUERIES].fill(f32::NEG_INFINITY);
            state[QUERIES..].fill(0.0);
        }
        for first in (0..self.length).step_by(KEYS) {
            let keys = KEYS.min(self.length - first);
            for i in 0..keys {
                T::arrange(l, self.k.row(first + i), &mut self.key[i * self.width..]);
                widen(l, self.v.row(first + i), &mut self.value[i * self.width..]);
            }
            for block in 0..self.rows.len().div_ceil(QUERIES) {
                self.pair(l, block, first, keys);
            }
        }
        for (i, row) in self.rows.clone().enumerate() {
            let sum = l.splat(self.state[i / QUERIES * 2 * QUERIES + QUERIES + i % QUERIES]);
            for c in (0..self.q.head_dim).step_by(LANES) {
                // SAFETY: within `output` and the head's columns; tasks share no row and head.
                unsafe {
                    let y = l.div(l.load(self.output.as_ptr().add(i * self.width + c)), sum);
                    self.out.store(l, self.at + row * self.stride + c, self.q.head_dim - c, y);
                }
            }
        }
    }
}

impl<T: Float> Head<'_, T> {
    /// Queries as words, transposed; zero beyond the last. By way of the keys' room.
    #[inline(always)]
    fn load_queries<L: Lanes>(&mut self, l: L) {
        let words = T::words(self.q.head_dim, L::PAIRS);
        self.query.fill(0.0);
        for first in (0..self.rows.len()).step_by(LANES) {
            let count = LANES.min(self.rows.len() - first);
            let block = first / QUERIES * QUERIES * words + first % QUERIES;
            for (i, row) in self.key.chunks_exact_mut(self.width).enumerate().take(count) {
                T::arrange(l, self.q.row(self.rows.start + first + i), row);
            }
            for c in (0..words).step_by(LANES) {
                let n = LANES.min(words - c);
                let mut tile = [l.splat(0.0); LANES];
                for (i, row) in tile[..count].iter_mut().enumerate() {
                    let words = &self.key[i * self.width + c..][..LANES];
                    // SAFETY: sixteen elements.
                    *row = unsafe { l.load(words.as_ptr()) };
                }
                l.transpose(&mut tile);
                for (j, &column) in tile[..n].iter().enumerate() {
                    let to = &mut self.query[block + (c + j) * QUERIES..][..LANES];
                    // SAFETY: sixteen elements.
                    unsafe { l.store(to.as_mut_ptr(), column) };
                }
            }
        }
    }

    /// One block of queries against the current block of keys, which begins at key `first`.
    #[inline(always)]
    fn pair<L: Lanes>(&mut self, l: L, block: usize, first: usize, keys: usize) {
        let (head_dim, width) = (self.q.head_dim, self.width);
        let words = T::words(head_dim, L::PAIRS);
        let rows = QUERIES.min(self.rows.len() - block * QUERIES);
        let query = self.rows.start + block * QUERIES;
        if self.causal && first >= query + rows {
            return; // all of them come later
        }
        let columns = rows.next_multiple_of(LANES);

        let key = Rows {
            starts: &[self.key.as_ptr()],
            offset: 0,
            stride: width,
            step: 1,
            rows: keys,
            words,
            ahead: &[],
        };
        let queries = &self.query[block * QUERIES * words..][..QUERIES * words];
        let scores = (&mut *self.scores, QUERIES);
        // SAFETY: `key` holds these rows.
        unsafe { key.multiply::<L, T>(l, (queries, QUERIES), scores, columns, Start::Zero) };
        if self.causal {
            // Key `first + j` is hidden from the queries before it.
            for (j, scores) in self.scores.chunks_exact_mut(QUERIES).take(keys).enumerate() {
                let hidden = (first + j).saturating_sub(query).min(QUERIES);
                scores[..hidden].fill(f32::NEG_INFINITY);
            }
        }

        let mut shrink = [0.0; QUERIES];
        let state = &mut self.state[block * 2 * QUERIES..][..2 * QUERIES];
        for c in (0..columns).step_by(LANES) {
            let scores = &mut self.scores[c..(keys - 1) * QUERIES + c + LANES];
            // SAFETY: sixteen elements at each of these places.
            unsafe {
                let (maximum, sum) = (&raw mut state[c], &raw mut state[QUERIES + c]);
                let factor = softmax(l, scores, head_dim, maximum, sum);
                l.store(&raw mut shrink[c], factor);
            }
        }

        let probabilities = Rows {
            starts: &[self.scores.as_ptr()],
            offset: 0,
            stride: 1,
            step: QUERIES,
            rows,
            words: keys,
            ahead: &[],
        };
        let output = (&mut self.output[block * QUERIES * width..], width);
        let start = Start::Scaled(&shrink);
        // SAFETY: `scores` holds a column for each of these rows.
        unsafe { probabilities.multiply::<L, f32>(l, (self.value, width), output, width, start) };
    }
}

/// Turns the scores of sixteen queries (every 32nd element and the fifteen after it) into
/// probabilities relative to the new maxima. Returns by how much what came before shrinks.
///
/// # Safety
/// Sixteen floats at `maximum` and `sum`.
#[inline(always)]
unsafe fn softmax<L: Lanes>(
    l: L,
    scores: &mut [f32],
    head_dim: usize,
    maximum: *mut f32,
    sum: *mut f32,
) -> L::F32 {
    let scale = l.splat(1.0 / (head_dim as f32).sqrt());
    // SAFETY: rows of 32 of which the last is cut after its first sixteen; and the caller's.
    unsafe {
        let mut largest = l.splat(f32::NEG_INFINITY);
        for row in scores.chunks(QUERIES) {
            largest = l.max(l.load(row.as_ptr()), largest);
        }
        let old = l.load(maximum);
        let new = l.max(l.mul(largest, scale), old);
        let shrink = math::exp(l, l.sub(old, new));
        let mut total = l.mul(l.load(sum), shrink);
        let negated = l.sub(l.splat(0.0), new);
        for row in scores.chunks_mut(QUERIES) {
            let p = math::exp(l, l.mul_add(l.load(row.as_ptr()), scale, negated));
            l.store(row.as_mut_ptr(), p);
            total = l.add(total, p);
        }
        l.store(maximum, new);
        l.store(sum, total);
        shrink
    }
}
