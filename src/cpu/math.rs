//! Elementary functions on sixteen lanes: own polynomials, so that no platform's libm decides a bit.

use super::simd::Lanes;
use crate::device::Activation;

/// `eˣ` to 2 ulp; zero below −87.33 (where it leaves the normal range), constant above 88.
///
/// `x = n·ln2 + r`, |r| ≤ ln2/2, ln2 in two parts; a degree-7 polynomial (Cephes `expf`); then n is
/// added to the exponent.
#[inline(always)]
pub(super) fn exp<L: Lanes>(l: L, x: L::F32) -> L::F32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5·2²³: adding it rounds to an integer
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

/// Exact GELU, `x·Φ(x)`, to 7e-7 absolute: as near as `0.5·x·(1 + erf(x/√2))` in f32.
///
/// `Φ(x) = ½ + x·P(w)`, P of degree 14 in `w = 2(x/5.3)² − 1` (a weighted Chebyshev fit, error
/// 2e-8); 0 or 1 beyond ±5.3.
#[inline(always)]
pub(super) fn gelu<L: Lanes>(l: L, x: L::F32) -> L::F32 {
    const EDGE: f32 = 5.3;
    const P: [f32; 14] = [
        -7.645_64e-4,
        7.320_952e-4,
        -1.095_953e-3,
        3.134_909e-3,
        -5.849_544_4e-3,
        8.828_183e-3,
        -1.318_547_7e-2,
        1.892_583_3e-2,
        -2.529_83e-2,
        3.207_952e-2,
        -3.958_893e-2,
        4.926_416_3e-2,
        -6.651_851e-2,
        1.333_925_6e-1,
    ];
    let w = l.mul_add(l.mul(x, x), l.splat(2.0 / (EDGE * EDGE)), l.splat(-1.0));
    let mut p = l.splat(2.836_252_4e-4);
    for c in P {
        p = l.mul_add(p, w, l.splat(c));
    }
    let phi = l.mul_add(x, p, l.splat(0.5));
    let phi = l.if_less(x, l.splat(-EDGE), l.splat(0.0), phi);
    let phi = l.if_less(l.splat(EDGE), x, l.splat(1.0), phi);
    l.mul(x, phi)
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
