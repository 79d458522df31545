//! Multiply-adds in order of k.

use super::Accumulator;
use crate::arith::double::canonical;
use crate::arith::formats::{Format, widen};

#[inline(always)]
pub(super) fn mma<A, B, Acc, const M: usize, const N: usize, const K: usize>(
    a: &[[A::Bits; K]; M],
    b: &[[B::Bits; N]; K],
    c: &[[Acc::Bits; N]; M],
) -> [[Acc::Bits; N]; M]
where
    A: Format,
    B: Format,
    Acc: Accumulator,
{
    let mut right = [[0f32; N]; K];
    for (right, &bits) in right.as_flattened_mut().iter_mut().zip(b.as_flattened()) {
        *right = widen::<B>(bits);
    }
    let mut left = [[0f32; K]; M];
    for (left, &bits) in left.as_flattened_mut().iter_mut().zip(a.as_flattened()) {
        *left = widen::<A>(bits);
    }
    let mut sums = [[0f32; N]; M];
    for (sum, &bits) in sums.as_flattened_mut().iter_mut().zip(c.as_flattened()) {
        *sum = widen::<Acc>(bits);
    }
    for m in 0..M {
        let mut sum = sums[m];
        for k in 0..K {
            // Keeps the loop over k from being vectorised instead of the lanes within.
            std::hint::black_box(());
            for n in 0..N {
                // Products of these formats are exact: this equals a fused multiply-add.
                sum[n] += left[m][k] * right[k][n];
            }
        }
        sums[m] = sum;
    }
    let mut d = *c;
    for (d, &sum) in d.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
        *d = Acc::from_float(sum);
    }
    d
}

/// `mma.sync` on f64: fused multiply-adds in order of k.
#[inline(always)]
pub fn mma_double<const M: usize, const N: usize, const K: usize>(
    a: &[[f64; K]; M],
    b: &[[f64; N]; K],
    c: &[[f64; N]; M],
) -> [[f64; N]; M] {
    let mut d = *c;
    for m in 0..M {
        for k in 0..K {
            for n in 0..N {
                d[m][n] = a[m][k].mul_add(b[k][n], d[m][n]);
            }
        }
        for n in 0..N {
            d[m][n] = canonical(d[m][n]);
        }
    }
    d
}
