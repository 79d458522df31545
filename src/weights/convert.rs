//! Stored encodings of a tensor and their exact widening or single rounding.

use half::{bf16, f16};

/// How the elements of a tensor are stored.
pub(super) enum Encoding {
    Bf16,
    F16,
    F32,
    /// Signed bytes, each multiplied by the scale of its row.
    Int8(Vec<f32>),
}

/// A tensor's bytes in the file, not yet decoded.
pub(super) struct Stored<'a> {
    pub encoding: Encoding,
    pub bytes: &'a [u8],
}

impl<'a> Stored<'a> {
    /// The file's own memory, where it already is bf16 as the host reads it.
    pub fn borrowed_bf16(&self) -> Option<&'a [bf16]> {
        match self.encoding {
            Encoding::Bf16 if cfg!(target_endian = "little") => {
                bytemuck::try_cast_slice(self.bytes).ok()
            }
            _ => None,
        }
    }

    /// Appends the elements, rounded once to bf16 (nearest, ties to even).
    pub fn append_bf16(&self, out: &mut Vec<bf16>) {
        match &self.encoding {
            Encoding::Bf16 => out.extend(pairs(self.bytes).map(bf16::from_le_bytes)),
            Encoding::F16 => {
                out.extend(pairs(self.bytes).map(|b| round(f16::from_le_bytes(b).to_f32())))
            }
            Encoding::F32 => out.extend(quads(self.bytes).map(|b| round(f32::from_le_bytes(b)))),
            Encoding::Int8(scales) => {
                for (row, &scale) in self.rows(scales) {
                    out.extend(row.iter().map(|&q| round(f32::from(q as i8) * scale)));
                }
            }
        }
    }

    /// Appends the elements, widened to f32 without loss; an int8 product is one f32 rounding.
    pub fn append_f32(&self, out: &mut Vec<f32>) {
        match &self.encoding {
            Encoding::Bf16 => {
                out.extend(pairs(self.bytes).map(|b| bf16::from_le_bytes(b).to_f32()))
            }
            Encoding::F16 => out.extend(pairs(self.bytes).map(|b| f16::from_le_bytes(b).to_f32())),
            Encoding::F32 => out.extend(quads(self.bytes).map(f32::from_le_bytes)),
            Encoding::Int8(scales) => {
                for (row, &scale) in self.rows(scales) {
                    out.extend(row.iter().map(|&q| f32::from(q as i8) * scale));
                }
            }
        }
    }

    fn rows<'s>(&self, scales: &'s [f32]) -> impl Iterator<Item = (&'a [u8], &'s f32)> {
        let row = self.bytes.len() / scales.len().max(1);
        self.bytes.chunks_exact(row.max(1)).zip(scales)
    }
}

fn pairs(bytes: &[u8]) -> impl Iterator<Item = [u8; 2]> {
    bytes.as_chunks().0.iter().copied()
}

fn quads(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.as_chunks().0.iter().copied()
}

/// Nearest bf16, ties to even, by integer arithmetic that vectorises; NaN stays NaN.
#[inline(always)]
fn round(x: f32) -> bf16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet_nan = (bits >> 16) | 0x40;
    bf16::from_bits(if x.is_nan() { quiet_nan } else { rounded } as u16)
}

/// Elements scanned between two checks: large enough to vectorise, small enough to stop early.
const CHUNK: usize = 4096;

/// Index of the first NaN or infinity.
pub(super) fn first_non_finite_bf16(values: &[bf16]) -> Option<usize> {
    // An exponent of all ones makes the magnitude at least that of infinity.
    let magnitude = |x: &bf16| (x.to_bits() & 0x7fff) as i16;
    let infinity = bf16::INFINITY.to_bits() as i16;
    values.chunks(CHUNK).enumerate().find_map(|(i, chunk)| {
        let largest = chunk.iter().map(magnitude).fold(0, i16::max);
        let within = || chunk.iter().position(|x| magnitude(x) >= infinity);
        if largest < infinity { None } else { within().map(|at| i * CHUNK + at) }
    })
}

/// Index of the first NaN or infinity.
pub(super) fn first_non_finite_f32(values: &[f32]) -> Option<usize> {
    let magnitude = |x: &f32| (x.to_bits() & 0x7fff_ffff) as i32;
    let infinity = f32::INFINITY.to_bits() as i32;
    values.chunks(CHUNK).enumerate().find_map(|(i, chunk)| {
        let largest = chunk.iter().map(magnitude).fold(0, i32::max);
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
            let (ours, theirs) = (round(x), bf16::from_f32(x));
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
                    assert_eq!(first_non_finite_f32(&wide), None);
                    assert_eq!(first_non_finite_bf16(&narrow), None);
                    wide[at] = bad;
                    narrow[at] = bf16::from_f32(bad);
                    assert_eq!(first_non_finite_f32(&wide), Some(at));
                    assert_eq!(first_non_finite_bf16(&narrow), Some(at));
                }
            }
        }
        assert_eq!(first_non_finite_f32(&[]), None);
        assert_eq!(first_non_finite_bf16(&[]), None);
    }
}
