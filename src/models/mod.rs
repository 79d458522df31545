//! One file per model family. A model is weights, a context that is constant for one image, and one
//! forward written in the checked verbs.

pub mod layers;
pub mod muse;
pub mod uvit;

use crate::device::{Device, Masked};
use crate::error::Result;
use crate::tensor::Tensor;

/// A masked-token transformer, ready for the images of a batch: what the decode loop calls once per step.
pub trait MaskedModel<D: Device> {
    /// Logits of the masked positions of all images, f32 `[batch*n, codebook]`: conditional rows, then
    /// (batch 2) unconditional ones.
    fn logits(
        &mut self,
        device: &D,
        masked: &Masked<D::Buffer>,
        batch: usize,
    ) -> Result<&mut Tensor<D::Buffer>>;
}
