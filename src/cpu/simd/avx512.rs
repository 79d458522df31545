//! [`Lanes`] in one AVX-512 register.

use super::{Kernel, Lanes};
use half::bf16;
use std::arch::x86_64::*;

/// Proof that AVX-512 F, BW, VL and DQ exist, and VNNI and BF16 where so marked.
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const VNNI: bool, const BF16: bool>(());

impl<const VNNI: bool, const BF16: bool> Avx512<VNNI, BF16> {
    /// # Safety
    /// The CPU has AVX-512 F, BW, VL and DQ (and VNNI, and BF16; never BF16 alone).
    #[inline(always)]
    pub(super) unsafe fn assume() -> Self {
        Avx512(())
    }
}

// SAFETY, for every method: `self` proves that the instructions exist; pointers are the caller's.
impl<const VNNI: bool, const BF16: bool> Lanes for Avx512<VNNI, BF16> {
    type F32 = __m512;

    // 24 sums, two columns of weights and a broadcast: 27 of 32 registers. 13 rows spill.
    const ROWS: usize = 12;
    const VECTORS: usize = 2;
    const PAIRS: bool = BF16;
    const UNSIGNED: bool = VNNI;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        match (VNNI, BF16) {
            (_, true) => unsafe { super::run_avx512_bf16(kernel) },
            (true, false) => unsafe { super::run_avx512_vnni(kernel) },
            (false, false) => unsafe { super::run_avx512(kernel) },
        }
    }
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> __m512 {
        unsafe {
            let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut bf16, v: __m512) {
        unsafe {
            let bits = _mm512_castps_si512(v);
            let high = _mm512_srli_epi32::<16>(bits);
            let odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
            let up = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF));
            let rounded = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, up));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
            let quiet = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
            let halves = _mm512_mask_mov_epi32(rounded, nan, quiet);
            _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(halves));
        }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn dot_pairs(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        assert!(BF16);
        // The same 512 bits, in a type that says bf16.
        unsafe {
            let [a, b] = [a, b].map(|v| std::mem::transmute::<__m512, __m512bh>(v));
            _mm512_dpbf16_ps(c, a, b)
        }
    }
    #[inline(always)]
    fn dot_quads(self, a: __m512, b: __m512, sum: __m512) -> __m512 {
        unsafe {
            let [a, b, sum] = [a, b, sum].map(|v| _mm512_castps_si512(v));
            _mm512_castsi512_ps(match VNNI {
                true => _mm512_dpbusd_epi32(sum, a, b),
                false => {
                    // As |b|·(±a): sums of two fit 16 bits, 2·127² < 2¹⁵.
                    let negative = _mm512_movepi8_mask(b);
                    let a = _mm512_mask_sub_epi8(a, negative, _mm512_setzero_si512(), a);
                    let pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(b), a);
                    _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))
                }
            })
        }
    }
    #[inline(always)]
    fn difference(self, a: __m512, b: __m512) -> __m512 {
        unsafe {
            let [a, b] = [a, b].map(|v| _mm512_castps_si512(v));
            _mm512_cvtepi32_ps(_mm512_sub_epi32(a, b))
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, v: __m512) {
        unsafe { _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(_mm512_castps_si512(v))) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn if_less(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        unsafe { _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), x) }
    }
    #[inline(always)]
    fn scale(self, p: __m512, t: __m512) -> __m512 {
        unsafe {
            let n = _mm512_slli_epi32::<23>(_mm512_castps_si512(t));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), n))
        }
    }
    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        unsafe {
            let high = _mm512_extractf32x8_ps::<1>(v);
            super::avx2::sum_halves(_mm256_add_ps(_mm512_castps512_ps256(v), high))
        }
    }
    #[inline(always)]
    fn transpose(self, rows: &mut [__m512; 16]) {
        // Within each 128-bit quarter, 4×4; then the quarters, 4×4.
        unsafe {
            let mut pairs = *rows;
            for i in (0..16).step_by(2) {
                pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
                pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
            }
            let mut fours = pairs; // [4*g + c]: column c of rows 4g..4g+4, in each quarter
            for g in (0..16).step_by(4) {
                for half in 0..2 {
                    let a = _mm512_castps_pd(pairs[g + half]);
                    let b = _mm512_castps_pd(pairs[g + half + 2]);
                    fours[g + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                    fours[g + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
                }
            }
            for c in 0..4 {
                let (a, b, d, e) = (fours[c], fours[4 + c], fours[8 + c], fours[12 + c]);
                // Quarters 0 and 2, then 1 and 3, of the upper and lower eight rows.
                let (ab, ba) =
                    (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xDD>(a, b));
                let (de, ed) =
                    (_mm512_shuffle_f32x4::<0x88>(d, e), _mm512_shuffle_f32x4::<0xDD>(d, e));
                rows[c] = _mm512_shuffle_f32x4::<0x88>(ab, de);
                rows[8 + c] = _mm512_shuffle_f32x4::<0xDD>(ab, de);
                rows[4 + c] = _mm512_shuffle_f32x4::<0x88>(ba, ed);
                rows[12 + c] = _mm512_shuffle_f32x4::<0xDD>(ba, ed);
            }
        }
    }
}
