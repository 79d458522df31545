//! The inner loops of fused sums: products aligned to the largest exponent and added.

use std::hint::black_box;
use std::ops::Range;

use super::operand::Operand;

/// Fraction bits of a term before truncation. With two bits before the point, sixteen products of
/// one sign stay within 32 bits.
pub(super) const TERM_FRACTION: u32 = 25;

/// Fraction bits of the factors; every format has at most ten.
pub(super) const A_FRACTION: u32 = TERM_FRACTION - B_FRACTION;
pub(super) const B_FRACTION: u32 = 10;

/// Results of one group of k.
pub(super) struct Sums<const M: usize, const N: usize> {
    /// Sums of products, each aligned to the largest exponent.
    pub products: [[i32; N]; M],
    /// In: exponents of C. Out: the largest ones.
    pub largest: [[i32; N]; M],
}

/// How far terms move to the right when they have the largest exponent.
#[inline(always)]
pub(super) fn dropped_bits(fraction_bits: u32) -> i32 {
    (TERM_FRACTION - fraction_bits) as i32
}

/// Divides by a power of two, towards zero.
#[inline(always)]
pub(super) fn truncate(term: i32, shift: i32) -> i32 {
    let magnitude = (term.unsigned_abs() >> (shift as u32).min(31)) as i32;
    let sign = term >> 31;
    (magnitude ^ sign) - sign
}

/// Sums the products of `span` of k.
#[inline(always)]
pub(super) fn sum<const M: usize, const N: usize, const K: usize>(
    fraction_bits: u32,
    a: &Operand<M, K>,
    b: &Operand<K, N>,
    span: Range<usize>,
    sums: &mut Sums<M, N>,
) {
    for m in 0..M {
        let (sa, ea) = (&a.significand[m][span.clone()], &a.exponent[m][span.clone()]);
        let (sb, eb) = (&b.significand[span.clone()], &b.exponent[span.clone()]);
        let mut largest = sums.largest[m];
        for (&ea, eb) in ea.iter().zip(eb) {
            // Keeps the loop over k from being vectorised instead of the lanes within.
            black_box(());
            for n in 0..N {
                largest[n] = largest[n].max(ea + eb[n]);
            }
        }
        let mut reference = largest;
        for n in 0..N {
            reference[n] += dropped_bits(fraction_bits);
        }
        let mut products = [0; N];
        for ((&sa, &ea), (sb, eb)) in sa.iter().zip(ea).zip(sb.iter().zip(eb)) {
            black_box(());
            for n in 0..N {
                products[n] += truncate(sa * sb[n], reference[n] - ea - eb[n]);
            }
        }
        sums.largest[m] = largest;
        sums.products[m] = products;
    }
}
