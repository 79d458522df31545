//! `mma.sync` of bf16 with plain f32 multiply-adds, on registers as the lanes hold them.
//!
//! Four lanes share a row of A and hold it between them, so that an element of A reaches the lanes that
//! need it by a shuffle within 128 bits; a row of B is the same for all groups of four lanes. Sums are
//! those of `arith::mma` in order of k, bit for bit.

use std::arch::x86_64::*;

use super::lanes::Lanes;

/// The upper bf16 of a word, as f32.
const UPPER: i32 = 0xFFFF_0000_u32 as i32;

/// Whether this machine can run [`mma`].
pub fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
}

/// D of m16n8k16, or of m16n8k8 when `K` is 8: `K / 4` registers of A, `K / 8` of B, four of C.
///
/// # Safety
/// [`is_available`]; the registers are the warp's.
#[target_feature(enable = "avx512f")]
pub unsafe fn mma<const K: usize>(
    a: &[*const Lanes<u32>],
    b: &[*const Lanes<u32>],
    c: &[*const Lanes<u32>],
) -> [Lanes<u32>; 4] {
    let mut d = [[0u32; 32]; 4];
    // SAFETY: sixteen lanes at a time of registers of 32, and rows of eight.
    unsafe {
        let half = |register: *const Lanes<u32>, half: usize| {
            _mm512_loadu_si512(register.cast::<i32>().add(16 * half).cast())
        };
        let mut rows = [[0f32; 8]; K];
        for (i, &b) in b.iter().enumerate().take(K / 8) {
            rows_of_b([half(b, 0), half(b, 1)], &mut rows[8 * i..8 * i + 8]);
        }
        // By register of C, then by half of the warp.
        let mut sums = [_mm512_setzero_ps(); 8];
        for i in 0..8 {
            sums[i] = _mm512_castsi512_ps(half(c[i / 2], i % 2));
        }
        for i in 0..K / 8 {
            let [upper, lower] = [a[2 * i], a[2 * i + 1]];
            let a = [half(upper, 0), half(upper, 1), half(lower, 0), half(lower, 1)];
            let rows = &rows[8 * i..8 * i + 8];
            pair::<0b00_00_00_00>(a, &rows[0..2], &mut sums);
            pair::<0b01_01_01_01>(a, &rows[2..4], &mut sums);
            pair::<0b10_10_10_10>(a, &rows[4..6], &mut sums);
            pair::<0b11_11_11_11>(a, &rows[6..8], &mut sums);
        }
        let nan = _mm512_castsi512_ps(_mm512_set1_epi32(0x7FFF_FFFF));
        for i in 0..8 {
            let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(sums[i], sums[i]);
            let sum = _mm512_mask_mov_ps(sums[i], is_nan, nan);
            _mm512_storeu_ps(d[i / 2].as_mut_ptr().cast::<f32>().add(16 * (i % 2)), sum);
        }
    }
    d
}

/// Eight rows of B from a register, each with the even columns first.
///
/// # Safety
/// AVX-512F is there; there are eight rows.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn rows_of_b(halves: [__m512i; 2], rows: &mut [[f32; 8]]) {
    for (pair, rows) in rows.chunks_exact_mut(2).enumerate() {
        // Lane 4n + pair holds rows 2 pair and 2 pair + 1 of column n.
        let first = _mm512_setr_epi32(0, 8, 16, 24, 4, 12, 20, 28, 0, 0, 0, 0, 0, 0, 0, 0);
        let lanes = _mm512_add_epi32(first, _mm512_set1_epi32(pair as i32));
        let words = _mm512_permutex2var_epi32(halves[0], lanes, halves[1]);
        let (low, high) =
            (_mm512_slli_epi32::<16>(words), _mm512_and_si512(words, _mm512_set1_epi32(UPPER)));
        // SAFETY: a row is 256 bits.
        unsafe {
            _mm256_storeu_si256(rows[0].as_mut_ptr().cast(), _mm512_castsi512_si256(low));
            _mm256_storeu_si256(rows[1].as_mut_ptr().cast(), _mm512_castsi512_si256(high));
        }
    }
}

/// Adds the products of two k, which lie in lane `LANE` of each four of A and are the rows of B given.
///
/// # Safety
/// AVX-512F is there; there are two rows.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn pair<const LANE: i32>(a: [__m512i; 4], rows: &[[f32; 8]], sums: &mut [__m512; 8]) {
    let words = a.map(|a| _mm512_shuffle_epi32::<LANE>(a));
    for (k, row) in rows.iter().enumerate() {
        let left = words.map(|words| {
            _mm512_castsi512_ps(match k {
                0 => _mm512_slli_epi32::<16>(words),
                _ => _mm512_and_si512(words, _mm512_set1_epi32(UPPER)),
            })
        });
        for odd in 0..2 {
            // SAFETY: four of eight.
            let right = unsafe { _mm512_broadcast_f32x4(_mm_loadu_ps(row.as_ptr().add(4 * odd))) };
            for i in 0..4 {
                let sum = &mut sums[(2 * (i / 2) + odd) * 2 + i % 2];
                *sum = _mm512_add_ps(_mm512_mul_ps(left[i], right), *sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arith::formats::{Bf16, F32};
    use crate::arith::fragments::{pack_d, unpack_a, unpack_b, unpack_c};
    use crate::arith::mma::{self, Instruction, TensorCore};

    fn compare<const K: usize, const A: usize, const B: usize>(exponents: u32) {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            let x = state ^ state >> 15;
            // Any sign and mantissa, some exponents.
            x & 0x81FF_81FF | (0x3000_3000 + (x >> 3 & exponents))
        };
        for _ in 0..500 {
            let a: [Lanes<u32>; A] = std::array::from_fn(|_| std::array::from_fn(|_| next()));
            let b: [Lanes<u32>; B] = std::array::from_fn(|_| std::array::from_fn(|_| next()));
            let c: [Lanes<u32>; 4] = std::array::from_fn(|_| std::array::from_fn(|_| next()));
            let expected = mma::mma::<Bf16, Bf16, F32, 16, 8, K>(
                TensorCore::F32,
                Instruction::Mma,
                &unpack_a::<u16, A, 16, K>(&a),
                &unpack_b::<u16, B, K>(&b),
                &unpack_c::<u32, 4, 16>(&c),
            );
            let expected: [Lanes<u32>; 4] = pack_d(&expected);
            let [a, b, c] = [&a[..], &b[..], &c[..]]
                .map(|x| x.iter().map(|x| x as *const Lanes<u32>).collect::<Vec<_>>());
            // SAFETY: the caller asked; registers of 32 lanes.
            assert_eq!(unsafe { super::mma::<K>(&a, &b, &c) }, expected);
        }
    }

    #[test]
    fn sums_are_those_of_the_plain_loops() {
        if is_available() {
            for exponents in [0x0E00_0E00, 0x4E00_4E00] {
                compare::<16, 4, 2>(exponents);
                compare::<8, 2, 1>(exponents);
            }
        }
    }
}
