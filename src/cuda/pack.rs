//! Weights as the kernels read them.

use super::arena::Buffer;
use crate::device::HostMatrix;
use crate::error::{Error, Result};
use crate::tensor::Floats;
use half::bf16;
use std::borrow::Cow;

/// Elements of a 16-byte piece of bf16.
pub(super) const PIECE: usize = 8;

/// A weight matrix `[n, taps, k]`: bf16 rows, the channels of each tap padded with zeros to whole pieces
/// of 16 bytes, so that every copy is one.
pub struct Packed {
    pub(super) weight: Buffer,       // bf16 [n, taps, kp]
    pub(super) bias: Option<Buffer>, // f32 [n]
}

impl Packed {
    /// The address of the bias; 0 for none.
    pub(super) fn bias(&self) -> u64 {
        self.bias.as_ref().map_or(0, Buffer::address)
    }
}

/// The rows of a matrix, padded.
pub(super) fn rows<'a>(matrix: &'a HostMatrix<'_>) -> Result<Cow<'a, [bf16]>> {
    let Floats::BF16(values) = &matrix.weight else {
        let problem = "has kernels for bf16 only; choose bf16, or the processor".into();
        return Err(Error::Device { device: "cuda".into(), problem });
    };
    let (k, kp) = (matrix.cols, matrix.cols.next_multiple_of(PIECE));
    if k == kp {
        return Ok(Cow::Borrowed(values));
    }
    let mut rows = vec![bf16::ZERO; matrix.rows * matrix.taps * kp];
    for (to, from) in rows.chunks_exact_mut(kp).zip(values.chunks_exact(k)) {
        to[..k].copy_from_slice(from);
    }
    Ok(rows.into())
}
