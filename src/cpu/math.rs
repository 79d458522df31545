//! Elementary functions on sixteen lanes: own polynomials, so that no platform's libm decides a bit.

use super::simd::Lanes;
use crate::device::Activation;

/// 1.5·2²³: adding it rounds to an integer.
const MAGIC: f32 = 12_582_912.0;

/// `eˣ` to 2 ulp; zero below −87.33 (where it leaves the normal range), constant above 88.
///
/// `x = n·ln2 + r`, |r| ≤ ln2/2, ln2 in two parts; a degree-7 polynomial (Cephes `expf`); then n is
/// added to the exponent.
#[inline(always)]
pub(super) fn exp<L: Lanes>(l: L, x: L::F32) -> L::F32 {
    let clamped = l.max(l.splat(-88.0), l.min(l.splat(88.0), x));
    let t = l.mul_add(clamped, l.splat(std::f32::consts::LOG2_E), l.splat(MAGIC));
    let n = l.sub(t, l.splat(MAGIC));
    let r = l.mul_add(n, l.splat(-0.693_359_4), clamped);
    let r = l.mul_add(n, l.splat(2.121_944_4e-4), r);
    let mut p = l.splat(1.987_569_1e-4);
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5, 1.0, 1.0] {
        p = l.mul_add(p, r, l.splat(c));
    }
    l.if_less(x, l.splat(-87.33), l.splat(0.0), l.scale(p, t))
}

/// Exact GELU, `x·Φ(x)`, with no more error than `0.5·x·(1 + erf(x/√2))` in f32.
///
/// It is `max(x, 0) − a·Φ(−a)`, a = |x|, so that nothing cancels: `2·Φ(−a) = 2^(a·P(a))`, P of degree 9
/// fitted on 0 to 8 (relative error 2e-8 up to 3, below 4e-9 of the product beyond). Above, a stays 8: the
/// product is 5e-15 there. `2^y = 2ⁿ·2^r`, |r| ≤ ½, by a polynomial of degree 6 (relative error 2e-9).
#[inline(always)]
pub(super) fn gelu<L: Lanes>(l: L, x: L::F32) -> L::F32 {
    use std::f32::consts::LN_2;
    const EDGE: f32 = 8.0;
    const P: [f32; 9] = [
        1.059_030_6e-6,
        -1.276_533_3e-5,
        8.464_132_4e-5,
        -2.999_860_7e-4,
        2.711_381_4e-5,
        6.929_788_3e-3,
        -5.243_879_6e-2,
        -4.592_192_2e-1,
        -1.151_104_6,
    ];
    let a = l.min(l.max(x, l.sub(l.splat(0.0), x)), l.splat(EDGE));
    let mut p = l.splat(-3.748_201_7e-8);
    for c in P {
        p = l.mul_add(p, a, l.splat(c));
    }
    let y = l.mul(p, a); // −50 to 0
    let t = l.add(y, l.splat(MAGIC));
    let r = l.sub(y, l.sub(t, l.splat(MAGIC)));
    let mut q = l.splat(1.535_330_5e-4);
    for c in [1.339_887_3e-3, 9.618_438e-3, 5.550_332_4e-2, 2.402_264_8e-1, LN_2, 1.0] {
        q = l.mul_add(q, r, l.splat(c));
    }
    l.mul_add(l.mul(l.splat(-0.5), a), l.scale(q, t), l.max(l.splat(0.0), x))
}

/// `x/(1 + e⁻ˣ)`.
#[inline(always)]
pub(super) fn silu<L: Lanes>(l: L, x: L::F32) -> L::F32 {
    let e = exp(l, l.sub(l.splat(0.0), x));
    l.div(x, l.add(l.splat(1.0), e))
}

/// `x/(1 + e^(−1.702·x))`.
#[inline(always)]
pub(super) fn quick_gelu<L: Lanes>(l: L, x: L::F32) -> L::F32 {
    let e = exp(l, l.mul(l.splat(-1.702), x));
    l.div(x, l.add(l.splat(1.0), e))
}

/// An activation of each feature by itself; [`Activation::Geglu`] takes two.
#[inline(always)]
pub(super) fn activate<L: Lanes>(l: L, activation: Activation, x: L::F32) -> L::F32 {
    match activation {
        Activation::None | Activation::Geglu => x,
        Activation::Gelu => gelu(l, x),
        Activation::Silu => silu(l, x),
        Activation::QuickGelu => quick_gelu(l, x),
    }
}
