//! Eight-bit integer products.

/// How a byte reads.
pub trait Byte {
    fn value(byte: u8) -> i32;
}

/// `.s8`.
#[derive(Debug, Clone, Copy)]
pub struct S8;

/// `.u8`.
#[derive(Debug, Clone, Copy)]
pub struct U8;

impl Byte for S8 {
    #[inline(always)]
    fn value(byte: u8) -> i32 {
        i32::from(byte as i8)
    }
}

impl Byte for U8 {
    #[inline(always)]
    fn value(byte: u8) -> i32 {
        i32::from(byte)
    }
}

/// `mma.sync` on bytes, exact; beyond 32 bits it wraps, or with `.satfinite` clamps.
#[inline(always)]
pub fn mma_integer<A: Byte, B: Byte, const M: usize, const N: usize, const K: usize>(
    satfinite: bool,
    a: &[[u8; K]; M],
    b: &[[u8; N]; K],
    c: &[[i32; N]; M],
) -> [[i32; N]; M] {
    let mut right = [[0; N]; K];
    for k in 0..K {
        for n in 0..N {
            right[k][n] = B::value(b[k][n]);
        }
    }
    let mut d = *c;
    for m in 0..M {
        let mut sum = [0i32; N];
        for k in 0..K {
            // Keeps the loop over k from being vectorised instead of the lanes within.
            std::hint::black_box(());
            let left = A::value(a[m][k]);
            for n in 0..N {
                sum[n] += left * right[k][n];
            }
        }
        for n in 0..N {
            let (wrapped, clamped) = (c[m][n].wrapping_add(sum[n]), c[m][n].saturating_add(sum[n]));
            d[m][n] = if satfinite { clamped } else { wrapped };
        }
    }
    d
}
