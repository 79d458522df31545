//! Tensor-core matrix products.

/// How a tensor core sums products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorCore {
    /// A100: bf16/f16 k = 16 as two fused sums of 8, 24 fraction bits.
    Ampere,
    /// RTX 4090.
    Ada,
    /// H100: one sum of 16, 25 bits.
    Hopper,
    /// Plain f32 multiply-adds in order of k: fast, not bit-exact.
    F32,
}
