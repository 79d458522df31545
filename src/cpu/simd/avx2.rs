//! [`Lanes`] in two AVX registers.

use super::{Kernel, Lanes};
use half::bf16;
use std::arch::x86_64::*;

/// Proof that AVX2 and FMA exist.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The CPU has AVX2 and FMA.
    #[inline(always)]
    pub(super) unsafe fn assume() -> Self {
        Avx2(())
    }
}

/// `f` on both halves.
macro_rules! halves {
    ($f:ident, $($v:ident),+) => {
        // SAFETY: `self` proves that the instructions exist.
        unsafe { ($f($($v.0),+), $f($($v.1),+)) }
    };
}

/// Eight bf16, rounded to nearest even, in the low halves of the dwords.
#[inline(always)]
unsafe fn round_bf16(v: __m256) -> __m256i {
    unsafe {
        let bits = _mm256_castps_si256(v);
        let high = _mm256_srli_epi32::<16>(bits);
        let odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
        let up = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF));
        let rounded = _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, up));
        let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
        let quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
        _mm256_blendv_epi8(rounded, quiet, nan)
    }
}

/// Sum of eight lanes: halves onto each other, three times.
#[inline(always)]
pub(super) unsafe fn sum_halves(v: __m256) -> f32 {
    unsafe {
        let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
        _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
    }
}

// SAFETY, for every method: `self` proves that the instructions exist; pointers are the caller's.
impl Lanes for Avx2 {
    type F32 = (__m256, __m256);

    // Twelve sums, two registers of weights and a broadcast: 15 of 16.
    const ROWS: usize = 6;
    const VECTORS: usize = 1;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        unsafe { super::run_avx2(kernel) }
    }
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::F32 {
        let v = unsafe { _mm256_set1_ps(x) };
        (v, v)
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F32 {
        unsafe { (_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::F32) {
        unsafe {
            _mm256_storeu_ps(p, v.0);
            _mm256_storeu_ps(p.add(8), v.1);
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> Self::F32 {
        unsafe {
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.add(8).cast()));
            (
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
            )
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut bf16, v: Self::F32) {
        unsafe {
            // packus works within 128-bit lanes: restore the order of the quarters.
            let mixed = _mm256_packus_epi32(round_bf16(v.0), round_bf16(v.1));
            _mm256_storeu_si256(p.cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(mixed));
        }
    }
    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        halves!(_mm256_add_ps, a, b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        halves!(_mm256_sub_ps, a, b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        halves!(_mm256_mul_ps, a, b)
    }
    #[inline(always)]
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        halves!(_mm256_div_ps, a, b)
    }
    #[inline(always)]
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        halves!(_mm256_fmadd_ps, a, b, c)
    }
    #[inline(always)]
    fn dot_quads(self, a: Self::F32, b: Self::F32, sum: Self::F32) -> Self::F32 {
        /// Unsigned times signed bytes, as |b|·(±a): sums of two fit 16 bits, 2·127² < 2¹⁵.
        #[inline(always)]
        unsafe fn half(a: __m256, b: __m256, sum: __m256) -> __m256 {
            unsafe {
                let [a, b, sum] = [a, b, sum].map(|v| _mm256_castps_si256(v));
                let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(b), _mm256_sign_epi8(a, b));
                let quads = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
                _mm256_castsi256_ps(_mm256_add_epi32(sum, quads))
            }
        }
        halves!(half, a, b, sum)
    }
    #[inline(always)]
    fn difference(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        #[inline(always)]
        unsafe fn half(a: __m256, b: __m256) -> __m256 {
            unsafe {
                let [a, b] = [a, b].map(|v| _mm256_castps_si256(v));
                _mm256_cvtepi32_ps(_mm256_sub_epi32(a, b))
            }
        }
        halves!(half, a, b)
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, v: Self::F32) {
        unsafe {
            let low = _mm256_set1_epi32(0xFF);
            let [a, b] = [v.0, v.1].map(|v| _mm256_and_si256(_mm256_castps_si256(v), low));
            // packus works within 128-bit lanes: restore the order of the quarters.
            let mixed = _mm256_packus_epi32(a, b);
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(mixed);
            let (first, second) =
                (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(p.cast(), _mm_packus_epi16(first, second));
        }
    }
    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        halves!(_mm256_max_ps, a, b)
    }
    #[inline(always)]
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        halves!(_mm256_min_ps, a, b)
    }
    #[inline(always)]
    fn if_less(self, a: Self::F32, b: Self::F32, x: Self::F32, y: Self::F32) -> Self::F32 {
        unsafe {
            let (low, high) =
                (_mm256_cmp_ps::<_CMP_LT_OQ>(a.0, b.0), _mm256_cmp_ps::<_CMP_LT_OQ>(a.1, b.1));
            (_mm256_blendv_ps(y.0, x.0, low), _mm256_blendv_ps(y.1, x.1, high))
        }
    }
    #[inline(always)]
    fn scale(self, p: Self::F32, t: Self::F32) -> Self::F32 {
        #[inline(always)]
        unsafe fn half(p: __m256, t: __m256) -> __m256 {
            unsafe {
                let n = _mm256_slli_epi32::<23>(_mm256_castps_si256(t));
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), n))
            }
        }
        halves!(half, p, t)
    }
    #[inline(always)]
    fn sum(self, v: Self::F32) -> f32 {
        unsafe { sum_halves(_mm256_add_ps(v.0, v.1)) }
    }
}
