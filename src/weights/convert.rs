//! Stored encodings of a tensor and their exact widening or single rounding.

use half::{bf16, f16};

use crate::device::Element;

/// How the elements of a tensor are stored.
#[derive(Clone)]
pub(super) enum Encoding {
    Bf16,
    F16,
    F32,
    /// Signed bytes, each multiplied by the scale of its row and rounded to bf16: what the engine held such
    /// weights in when they were made.
    Int8(Vec<f32>),
}

/// A tensor's bytes in the file, not yet decoded.
pub(super) struct Stored<'a> {
    pub encoding: Encoding,
    pub bytes: &'a [u8],
}

impl<'a> Stored<'a> {
    /// The file's own memory, where it already is `T` as the host reads it.
    pub fn borrowed<T: Float>(&self) -> Option<&'a [T]> {
        match cfg!(target_endian = "little") && T::is_stored(&self.encoding) {
            true => bytemuck::try_cast_slice(self.bytes).ok(),
            false => None,
        }
    }

    /// Appends the elements: without loss to f32, rounded once (nearest, ties to even) to bf16.
    pub fn append<T: Float>(&self, out: &mut Vec<T>) {
        let bytes = self.bytes;
        match &self.encoding {
            Encoding::Bf16 => {
                out.extend(pairs(bytes).map(|b| T::round(bf16::from_le_bytes(b).to_f32())))
            }
            Encoding::F16 => {
                out.extend(pairs(bytes).map(|b| T::round(f16::from_le_bytes(b).to_f32())))
            }
            Encoding::F32 => out.extend(quads(bytes).map(|b| T::round(f32::from_le_bytes(b)))),
            Encoding::Int8(scales) => {
                let row = bytes.len() / scales.len().max(1);
                for (row, &scale) in bytes.chunks_exact(row.max(1)).zip(scales) {
                    out.extend(
                        row.iter()
                            .map(|&q| T::round(bf16::round(f32::from(q as i8) * scale).to_f32())),
                    );
                }
            }
        }
    }
}

fn pairs(bytes: &[u8]) -> impl Iterator<Item = [u8; 2]> {
    bytes.as_chunks().0.iter().copied()
}

fn quads(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.as_chunks().0.iter().copied()
}

/// What tensors are decoded to.
pub(super) trait Float: Element + Send {
    /// Zero.
    const ZERO: Self;
    /// Whether this encoding is that of `Self` in memory, but for the order of bytes.
    fn is_stored(encoding: &Encoding) -> bool;
    /// Nearest value, ties to even; NaN stays NaN.
    fn round(x: f32) -> Self;
    /// Index of the first NaN or infinity.
    fn first_non_finite(values: &[Self]) -> Option<usize>;
}

impl Float for bf16 {
    const ZERO: Self = bf16::ZERO;

    fn is_stored(encoding: &Encoding) -> bool {
        matches!(encoding, Encoding::Bf16)
    }

    /// By integer arithmetic that vectorises.
    #[inline(always)]
    fn round(x: f32) -> bf16 {
        let bits = x.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        let quiet_nan = (bits >> 16) | 0x40;
        bf16::from_bits(if x.is_nan() { quiet_nan } else { rounded } as u16)
    }

    fn first_non_finite(values: &[bf16]) -> Option<usize> {
        let infinity = bf16::INFINITY.to_bits() as i16;
        first_not_below(values, infinity, |x| (x.to_bits() & 0x7fff) as i16)
    }
}

impl Float for f32 {
    const ZERO: Self = 0.0;

    fn is_stored(encoding: &Encoding) -> bool {
        matches!(encoding, Encoding::F32)
    }

    #[inline(always)]
    fn round(x: f32) -> f32 {
        x
    }

    fn first_non_finite(values: &[f32]) -> Option<usize> {
        let infinity = f32::INFINITY.to_bits() as i32;
        first_not_below(values, infinity, |x| (x.to_bits() & 0x7fff_ffff) as i32)
    }
}

/// Elements scanned between two checks: large enough to vectorise, small enough to stop early.
const CHUNK: usize = 4096;

/// Index of the first value whose magnitude, as an integer, is not below that of infinity: an exponent of
/// all ones.
#[inline(always)]
fn first_not_below<T, I: Ord + Copy + Default>(
    values: &[T],
    infinity: I,
    magnitude: impl Fn(&T) -> I,
) -> Option<usize> {
    values.chunks(CHUNK).enumerate().find_map(|(i, chunk)| {
        let largest = chunk.iter().map(&magnitude).fold(I::default(), I::max);
        let within = || chunk.iter().position(|x| magnitude(x) >= infinity);
        if largest < infinity { None } else { within().map(|at| i * CHUNK + at) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_is_the_half_crate_for_every_kind_of_bits() {
        let samples = (0..=u16::MAX).flat_map(|high| {
            [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff].map(|low| u32::from(high) << 16 | low)
        });
        for bits in samples {
            let x = f32::from_bits(bits);
            let (ours, theirs) = (<bf16 as Float>::round(x), bf16::from_f32(x));
            assert!(ours == theirs || (ours.is_nan() && theirs.is_nan()), "{bits:#x}");
        }
    }

    #[test]
    fn non_finite_values_are_found_wherever_they_are() {
        for len in [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in [0, len / 2, len - 1] {
                    let mut wide = vec![-f32::MAX; len];
                    let mut narrow = vec![bf16::MIN; len];
                    assert_eq!(f32::first_non_finite(&wide), None);
                    assert_eq!(bf16::first_non_finite(&narrow), None);
                    wide[at] = bad;
                    narrow[at] = bf16::from_f32(bad);
                    assert_eq!(f32::first_non_finite(&wide), Some(at));
                    assert_eq!(bf16::first_non_finite(&narrow), Some(at));
                }
            }
        }
        assert_eq!(f32::first_non_finite(&[]), None);
        assert_eq!(bf16::first_non_finite(&[]), None);
    }
}
