//! What norms and modulations are made of.

use crate::tensor::Tensor;

/// What a norm measures a row by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// LayerNorm: `(x − mean)/√(variance + ε)`, biased variance.
    Layer,
    /// RMSNorm: `x/√(mean(x²) + ε)`.
    Rms,
}

/// Parameters of a norm, f32 `[channels]` each.
#[derive(Debug)]
pub struct Norm<B> {
    /// What it measures a row by.
    pub kind: NormKind,
    /// Scale.
    pub weight: Tensor<B>,
    /// Shift.
    pub bias: Option<Tensor<B>>,
    /// Added to the variance or the mean square.
    pub epsilon: f32,
}

/// Per sequence and channel a scale s and a shift t, `y = x·(1 + s) + t`: of `d` channels, columns
/// `offset .. offset + d` of a row are s and the next `d` are t.
#[derive(Debug)]
pub struct Modulation<'a, B> {
    /// f32 `[batch, width]`: a row for each sequence, of as many neighbouring rows of x.
    pub tensor: &'a Tensor<B>,
    /// First column.
    pub offset: usize,
}

/// A norm, and what modulates its result before the store.
#[derive(Debug)]
pub struct Normalize<'a, B> {
    /// The norm.
    pub norm: &'a Norm<B>,
    /// AdaLN's scale and shift.
    pub modulation: Option<Modulation<'a, B>>,
}

impl<'a, B> From<&'a Norm<B>> for Normalize<'a, B> {
    fn from(norm: &'a Norm<B>) -> Self {
        Normalize { norm, modulation: None }
    }
}

// Derived, these would ask for a buffer that can be copied.
impl<B> Clone for Modulation<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B> Copy for Modulation<'_, B> {}
impl<B> Clone for Normalize<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B> Copy for Normalize<'_, B> {}

/// A depthwise 3×3 convolution: one filter per channel.
#[derive(Debug)]
pub struct Depthwise<B> {
    /// f32 `[9, channels]`: tap `3·ky + kx`.
    pub weight: Tensor<B>,
    /// f32 `[channels]`.
    pub bias: Option<Tensor<B>>,
}
