//! From the blocks to logits, for the masked positions alone: no position sees another here.

use super::blocks::Sizes;
use super::point;
use crate::device::{Activation, Device, Norm};
use crate::error::Result;
use crate::hub::UvitConfig;
use crate::ops;
use crate::tensor::{DType, Matrix, Tensor};
use crate::weights::Weights;

/// diffusers' `ConvMlmLayer`: `conv2(rms(conv1(x)))`, both 1×1.
pub(super) struct Head<D: Device> {
    conv1: Matrix<D::Packed>, // [in_channels, channels]
    norm: Norm<D::Buffer>,
    conv2: Matrix<D::Packed>, // [codebook, in_channels]
}

/// Buffers for at most `rows` rows.
pub(super) struct HeadScratch<D: Device> {
    selected: Tensor<D::Buffer>, // f32 [rows, channels]
    rounded: Tensor<D::Buffer>,  // float [rows, channels]
    between: Tensor<D::Buffer>,  // f32 [rows, in_channels]
    normed: Tensor<D::Buffer>,   // float [rows, in_channels]
    /// f32 `[rows, codebook]`.
    pub logits: Tensor<D::Buffer>,
}

impl<D: Device> Head<D> {
    pub fn read(device: &D, w: &mut Weights, config: &UvitConfig, sizes: Sizes) -> Result<Self> {
        let (inner, bias) = (config.in_channels, sizes.bias);
        let [from, to] = [config.block_out_channels, config.codebook_size];
        Ok(Head {
            conv1: point(device, w, "mlm_layer.conv1", [inner, from], bias)?,
            norm: sizes.rms(device, w, "mlm_layer.layer_norm", inner)?,
            conv2: point(device, w, "mlm_layer.conv2", [to, inner], bias)?,
        })
    }

    /// Bytes of its buffers for one row, at most.
    pub fn bytes_per_row(&self) -> usize {
        4 * (2 * self.conv1.cols + 2 * self.conv1.rows + self.conv2.rows)
    }

    pub fn scratch(&self, device: &D, rows: usize, dtype: DType) -> Result<HeadScratch<D>> {
        let [conv1, conv2] = [&self.conv1, &self.conv2];
        Ok(HeadScratch {
            selected: device.zeros(DType::F32, [rows, conv1.cols])?,
            rounded: device.zeros(dtype, [rows, conv1.cols])?,
            between: device.zeros(DType::F32, [rows, conv1.rows])?,
            normed: device.zeros(dtype, [rows, conv1.rows])?,
            logits: device.zeros(DType::F32, [rows, conv2.rows])?,
        })
    }

    /// Leaves in `s.logits` those of `positions` u32 `[n]` in x, f32 `[batch*grid, channels]`, the grids of all
    /// images `batch` times.
    pub fn forward(
        &self,
        device: &D,
        s: &mut HeadScratch<D>,
        x: &Tensor<D::Buffer>,
        positions: &Tensor<D::Buffer>,
        batch: usize,
    ) -> Result<()> {
        let rows = batch * positions.shape().elements();
        s.selected.reshape([rows, self.conv1.cols]);
        s.rounded.reshape([rows, self.conv1.cols]);
        s.between.reshape([rows, self.conv1.rows]);
        s.normed.reshape([rows, self.conv1.rows]);
        s.logits.reshape([rows, self.conv2.rows]);
        ops::select_rows(device, &mut s.selected, x, positions)?; // [rows, channels]
        ops::activate(device, &mut s.rounded, &s.selected, Activation::None)?;
        ops::linear(device, &mut s.between, &s.rounded, &self.conv1, Activation::None)?; // [rows, in_channels]
        ops::layer_norm(device, &mut s.normed, &s.between, &self.norm)?;
        ops::linear(device, &mut s.logits, &s.normed, &self.conv2, Activation::None) // [rows, codebook]
    }
}
