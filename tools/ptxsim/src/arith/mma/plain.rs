//! Multiply-adds in order of k.

use super::{Accumulator, fused::keep_lanes_together};
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
    for k in 0..K {
        for n in 0..N {
            right[k][n] = widen::<B>(b[k][n]);
        }
    }
    let mut d = *c;
    for m in 0..M {
        let mut sum = [0f32; N];
        for n in 0..N {
            sum[n] = widen::<Acc>(c[m][n]);
        }
        for k in 0..K {
            keep_lanes_together();
            let left = widen::<A>(a[m][k]);
            for n in 0..N {
                // Products of these formats are exact: this equals a fused multiply-add.
                sum[n] += left * right[k][n];
            }
        }
        for n in 0..N {
            d[m][n] = Acc::from_float(sum[n]);
        }
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
            if d[m][n].is_nan() {
                d[m][n] = f64::NAN;
            }
        }
    }
    d
}
