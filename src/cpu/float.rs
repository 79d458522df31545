//! What products are made of: f32 terms, or bf16 ones, as the words that the micro-kernel reads.
//!
//! A word is 32 bits, held as an f32 whatever it means. It is an f32 term; or two bf16 terms, the earlier
//! one in the upper half, for [`Lanes::dot_pairs`], which adds that one first; or, where a level has no
//! such instruction, one bf16 term widened. In all three forms a sum runs over the terms in the same
//! order. An odd number of bf16 terms is filled up with a zero, which adds nothing.

use super::simd::{LANES, Lanes};
use crate::device::Element;
use half::bf16;

/// What the words of both operands mean.
pub(super) trait Step {
    /// `sum` and the products of two words, the earlier one first.
    fn step<L: Lanes>(l: L, a: L::F32, b: L::F32, sum: L::F32) -> L::F32;
}

/// What the operands of a product are stored as.
pub(super) trait Float: Step + Element + Send + Sync {
    /// Terms in a word of packed weights.
    const PACKED: usize;

    /// Words of `terms` terms, at a level that multiplies [in pairs](Lanes::PAIRS) or does not.
    fn words(terms: usize, pairs: bool) -> usize;

    /// Terms (at most [`Float::PACKED`]) as a word of packed weights.
    fn pack(terms: &[Self]) -> u32;

    /// `x` as words, to the start of `out`.
    fn arrange<L: Lanes>(l: L, x: &[Self], out: &mut [f32]);

    /// Packed weights `[n, width]` as words: themselves, or widened to the start of `scratch`.
    fn unpack<'a, L: Lanes>(
        l: L,
        packed: &'a [u32],
        width: usize,
        scratch: &'a mut [f32],
    ) -> &'a [f32];

    /// Elements `p[..min(n, 16)]`, widened; lanes past `n` are zero.
    ///
    /// # Safety
    /// They are readable.
    unsafe fn load_first<L: Lanes>(l: L, p: *const Self, n: usize) -> L::F32;

    /// `x`, rounded to nearest, ties to even.
    fn round(x: f32) -> Self;
}

impl Step for bf16 {
    #[inline(always)]
    fn step<L: Lanes>(l: L, a: L::F32, b: L::F32, sum: L::F32) -> L::F32 {
        if L::PAIRS { l.dot_pairs(a, b, sum) } else { l.dot(a, b, sum) }
    }
}

impl Step for f32 {
    #[inline(always)]
    fn step<L: Lanes>(l: L, a: L::F32, b: L::F32, sum: L::F32) -> L::F32 {
        l.mul_add(a, b, sum)
    }
}

impl Float for bf16 {
    const PACKED: usize = 2;

    #[inline(always)]
    fn words(terms: usize, pairs: bool) -> usize {
        if pairs { terms.div_ceil(2) } else { terms.next_multiple_of(2) }
    }
    #[inline(always)]
    fn pack(terms: &[bf16]) -> u32 {
        let half = |i: usize| terms.get(i).map_or(0, |x| u32::from(x.to_bits()));
        half(0) << 16 | half(1)
    }
    #[inline(always)]
    fn arrange<L: Lanes>(l: L, x: &[bf16], out: &mut [f32]) {
        let out = &mut out[..Self::words(x.len(), L::PAIRS)];
        if !L::PAIRS {
            out[x.len()..].fill(0.0);
            return widen(l, x, out);
        }
        let (pairs, rest) = x.as_chunks::<2>();
        for (word, pair) in out.iter_mut().zip(pairs) {
            *word = f32::from_bits(Self::pack(pair));
        }
        if !rest.is_empty() {
            out[pairs.len()] = f32::from_bits(Self::pack(rest));
        }
    }
    #[inline(always)]
    fn unpack<'a, L: Lanes>(
        _: L,
        packed: &'a [u32],
        width: usize,
        scratch: &'a mut [f32],
    ) -> &'a [f32] {
        if L::PAIRS {
            return bytemuck::cast_slice(packed);
        }
        for (row, pair) in packed.chunks_exact(width).zip(scratch.chunks_exact_mut(2 * width)) {
            let (first, second) = pair.split_at_mut(width);
            let (row, _) = row.as_chunks::<LANES>();
            let (first, _) = first.as_chunks_mut::<LANES>();
            let (second, _) = second.as_chunks_mut::<LANES>();
            for ((row, first), second) in row.iter().zip(first).zip(second) {
                *first = row.map(|word| f32::from_bits(word & 0xFFFF_0000));
                *second = row.map(|word| f32::from_bits(word << 16));
            }
        }
        scratch
    }
    #[inline(always)]
    unsafe fn load_first<L: Lanes>(l: L, p: *const bf16, n: usize) -> L::F32 {
        unsafe { l.load_bf16_first(p, n) }
    }
    #[inline(always)]
    fn round(x: f32) -> bf16 {
        bf16::from_f32(x)
    }
}

impl Float for f32 {
    const PACKED: usize = 1;

    #[inline(always)]
    fn words(terms: usize, _: bool) -> usize {
        terms
    }
    #[inline(always)]
    fn pack(terms: &[f32]) -> u32 {
        terms[0].to_bits()
    }
    #[inline(always)]
    fn arrange<L: Lanes>(_: L, x: &[f32], out: &mut [f32]) {
        out[..x.len()].copy_from_slice(x);
    }
    #[inline(always)]
    fn unpack<'a, L: Lanes>(_: L, packed: &'a [u32], _: usize, _: &'a mut [f32]) -> &'a [f32] {
        bytemuck::cast_slice(packed)
    }
    #[inline(always)]
    unsafe fn load_first<L: Lanes>(l: L, p: *const f32, n: usize) -> L::F32 {
        unsafe { l.load_first(p, n) }
    }
    #[inline(always)]
    fn round(x: f32) -> f32 {
        x
    }
}

/// `x` in f32, to the start of `out`.
#[inline(always)]
pub(super) fn widen<L: Lanes, T: Float>(l: L, x: &[T], out: &mut [f32]) {
    assert!(x.len() <= out.len());
    for i in (0..x.len()).step_by(LANES) {
        let n = x.len() - i;
        // SAFETY: within both slices.
        unsafe {
            let v = T::load_first(l, x.as_ptr().add(i), n);
            l.store_first(out.as_mut_ptr().add(i), n, v);
        }
    }
}
