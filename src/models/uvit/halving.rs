//! How the blocks' grid comes from that of the tokens, and goes back to it, where it has half the rows and
//! columns: diffusers' `Downsample2D` and `Upsample2D` of 2×2 patches.

use super::blocks::Sizes;
use crate::device::{Activation, Device, Norm};
use crate::error::Result;
use crate::models::layers::{Width, pack_step};
use crate::ops;
use crate::tensor::{DType, Matrix, Tensor};
use crate::weights::Weights;

/// A convolution and a transposed one, 2×2 with stride 2 both. The norm before the former is in the tokens'
/// table.
pub(super) struct Halving<D: Device> {
    down: Matrix<D::Packed>, // [channels, 4*channels]: the patch, row by row
    /// What precedes the transposed convolution.
    pub norm: Norm<D::Buffer>,
    up: Matrix<D::Packed>, // [4*channels, channels]
}

impl<D: Device> Halving<D> {
    pub fn read(device: &D, w: &mut Weights, sizes: Sizes) -> Result<Self> {
        let (channels, bias, products) = (sizes.narrow.hidden, sizes.bias, w.products());
        let shape = [channels, channels, 2, 2];
        let down = w.conv("down_block.downsample.conv", shape, channels, bias)?;
        let down = pack_step(device, down.of_patches(), products)?;
        let up = w.transposed_conv("up_block.upsample.conv", shape, bias)?;
        let up = pack_step(device, up, products)?;
        let norm = sizes.rms(device, w, "up_block.upsample.norm", channels)?;
        Ok(Halving { down, norm, up })
    }
}

/// The order of a grid's positions patch by patch, and buffers.
pub(super) struct Patches<D: Device> {
    /// u32 `[images*positions]`: the grids' positions, patch by patch.
    of_grid: Tensor<D::Buffer>,
    /// u32 `[positions]`: where a position is among them.
    of_patches: Tensor<D::Buffer>,
    tokens: Tensor<D::Buffer>,  // float [images*positions, channels]
    patches: Tensor<D::Buffer>, // float [batch*images*positions, channels]
    doubled: Tensor<D::Buffer>, // f32 [batch*images*positions, channels]
    grid: Tensor<D::Buffer>,    // f32 [batch*images*positions, channels]
}

impl<D: Device> Patches<D> {
    pub fn new(
        device: &D,
        [height, width]: [usize; 2],
        [batch, images]: [usize; 2],
        narrow: Width,
    ) -> Result<Self> {
        let Width { hidden, dtype, .. } = narrow;
        let positions = height * width;
        let place = |p: usize| {
            let (y, x) = (p / width, p % width);
            4 * (y / 2 * (width / 2) + x / 2) + y % 2 * 2 + x % 2
        };
        let of_patches: Vec<u32> = (0..positions).map(|p| place(p) as u32).collect();
        let mut of_grid = vec![0u32; positions];
        of_patches.iter().enumerate().for_each(|(p, &at)| of_grid[at as usize] = p as u32);
        let of_grid: Vec<u32> = (0..images)
            .flat_map(|i| of_grid.iter().map(move |p| (i * positions) as u32 + p))
            .collect();
        let shape = [batch * images * positions, hidden];
        Ok(Patches {
            of_grid: device.upload(&of_grid, [of_grid.len()])?,
            of_patches: device.upload(&of_patches, [positions])?,
            tokens: device.zeros(dtype, [images * positions, hidden])?,
            patches: device.zeros(dtype, shape)?,
            doubled: device.zeros(DType::F32, shape)?,
            grid: device.zeros(DType::F32, shape)?,
        })
    }

    /// The convolution of the tokens' rows of `table`, the same for every sequence: out f32
    /// `[batch*images*positions/4, channels]`.
    pub fn halve(
        &mut self,
        device: &D,
        out: &mut Tensor<D::Buffer>,
        tokens: &Tensor<D::Buffer>,
        table: &Tensor<D::Buffer>,
        halving: &Halving<D>,
    ) -> Result<()> {
        let (rows, channels) = (out.shape().rows(), out.shape().last());
        ops::embed(device, &mut self.tokens, tokens, table, None)?; // [images*positions, channels]
        self.patches.reshape([4 * rows, channels]);
        ops::embed(device, &mut self.patches, &self.of_grid, &self.tokens, None)?; // [batch*images*positions, channels]
        self.patches.reshape([rows, 4 * channels]);
        ops::linear(device, out, &self.patches, &halving.down, Activation::None)
    }

    /// The transposed convolution of float `[batch*images*positions/4, channels]`: f32
    /// `[batch*images*positions, channels]`.
    pub fn double(
        &mut self,
        device: &D,
        x: &Tensor<D::Buffer>,
        halving: &Halving<D>,
    ) -> Result<&Tensor<D::Buffer>> {
        let (rows, channels) = (x.shape().rows(), x.shape().last());
        self.doubled.reshape([rows, 4 * channels]);
        ops::linear(device, &mut self.doubled, x, &halving.up, Activation::None)?; // [batch*images*positions/4, 4*channels]
        self.doubled.reshape([4 * rows, channels]);
        self.grid.reshape([4 * rows, channels]);
        ops::select_rows(device, &mut self.grid, &self.doubled, &self.of_patches)?; // [batch*images*positions, channels]
        Ok(&self.grid)
    }
}
