//! Weights as the kernels read them.

use super::arena::Buffer;
use crate::device::HostMatrix;

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

/// The padded rows of a matrix, where they differ from the rows as they are.
pub(super) fn padded(matrix: &HostMatrix<'_>) -> Option<Vec<half::bf16>> {
    let (k, kp) = (matrix.cols, matrix.cols.next_multiple_of(PIECE));
    if k == kp {
        return None;
    }
    let mut rows = vec![half::bf16::ZERO; matrix.rows * matrix.taps * kp];
    for (to, from) in rows.chunks_exact_mut(kp).zip(matrix.weight.chunks_exact(k)) {
        to[..k].copy_from_slice(from);
    }
    Some(rows)
}
