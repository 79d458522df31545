//! Launches of `kernels/norm.cu`.

use cudarc::driver::sys::CUmodule;

use super::arena::Buffer;
use super::blocks;
use super::driver::Driver;
use super::kernel::{Kernel, Launch};
use super::launch::*;
use crate::device::{Modulation, Norm, NormKind, Normalize};
use crate::error::Result;
use crate::tensor::{DType, Tensor};

/// out, x, weight, bias, modulation, rows, d, stride, sequence, centred, epsilon
type LayerNorm = Kernel<(u64, u64, u64, u64, u64, u32, u32, u32, u32, u32, f32)>;

/// A norm's arguments, as the kernels take them.
pub(super) struct RowNorm {
    pub weight: u64,
    /// 0 for none.
    pub bias: u64,
    pub by: Columns,
    pub centred: u32,
    pub epsilon: f32,
}

impl RowNorm {
    /// Of a tensor of `rows` rows.
    pub fn new(Normalize { norm, modulation }: Normalize<'_, Buffer>, rows: usize) -> Self {
        RowNorm {
            weight: norm.weight.buffer.address(),
            bias: norm.bias.as_ref().map_or(0, |bias| bias.buffer.address()),
            by: modulation.map_or(Columns::default(), |by| Columns::new(by, rows)),
            centred: u32::from(norm.kind == NormKind::Layer),
            epsilon: norm.epsilon,
        }
    }
}

/// A modulation's arguments: where the first sequence's scales begin, 0 for none; f32 to the next sequence's; rows
/// of a sequence.
#[derive(Default)]
pub(super) struct Columns {
    pub first: u64,
    pub stride: u32,
    pub sequence: u32,
}

impl Columns {
    /// For a tensor of `rows` rows.
    pub fn new(Modulation { tensor, offset }: Modulation<'_, Buffer>, rows: usize) -> Self {
        let (batch, stride) = (tensor.shape().rows(), tensor.shape().last() as u32);
        let first = tensor.buffer.address() + 4 * offset as u64;
        Columns { first, stride, sequence: (rows / batch) as u32 }
    }
}

pub(super) struct Kernels {
    layer_norm_f32: LayerNorm,
    layer_norm_bf16: LayerNorm,
    /// For any number of channels, and for multiples of 4.
    group_norm: [GroupNorm; 2],
}

struct GroupNorm {
    /// Channels of a thread.
    width: u32,
    moments: Moments,
    apply: Apply,
}

/// x, pixels, channels, groups, epsilon
type Moments = Kernel<(u64, u32, u32, u32, f32)>;
/// out, x, weight, bias, pixels, channels, groups, pieces, parts
type Apply = Kernel<(u64, u64, u64, u64, u32, u32, u32, u32, u32)>;

impl Kernels {
    pub fn load(driver: &Driver, module: CUmodule) -> Result<Self> {
        Ok(Kernels {
            layer_norm_f32: Kernel::load(driver, module, "layer_norm_f32", 0)?,
            layer_norm_bf16: Kernel::load(driver, module, "layer_norm_bf16", 0)?,
            group_norm: [
                GroupNorm {
                    width: 1,
                    moments: Kernel::load(driver, module, "group_norm_moments_1", 0)?,
                    apply: Kernel::load(driver, module, "group_norm_apply_1", 0)?,
                },
                GroupNorm {
                    width: 4,
                    moments: Kernel::load(driver, module, "group_norm_moments_4", 0)?,
                    apply: Kernel::load(driver, module, "group_norm_apply_4", 0)?,
                },
            ],
        })
    }

    pub fn layer_norm(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        norm: Normalize<'_, Buffer>,
    ) -> Launch {
        let kernel = match out.dtype() {
            DType::BF16 => &self.layer_norm_bf16,
            _ => &self.layer_norm_f32,
        };
        let rows = x.shape().rows();
        let RowNorm { weight, bias, by, centred, epsilon } = RowNorm::new(norm, rows);
        let (rows, d) = (rows as u32, x.shape().last() as u32);
        let (out, x) = (out.buffer.address(), x.buffer.address());
        let arguments =
            (out, x, weight, bias, by.first, rows, d, by.stride, by.sequence, centred, epsilon);
        kernel.on([rows.div_ceil(NORM_WARPS), 1, 1], 32 * NORM_WARPS, 0, arguments)
    }

    /// Statistics, then the normalisation.
    pub fn group_norm_silu(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        norm: &Norm<Buffer>,
        groups: usize,
    ) -> [Launch; 2] {
        let (images, pixels, channels) = (x.dim(0), x.dim(1) * x.dim(2), x.dim(3));
        let GroupNorm { width, moments, apply } =
            &self.group_norm[usize::from(channels.is_multiple_of(4))];
        // Pixels that a block has in hand at once.
        let rows = (GROUP_THREADS * width / channels as u32).max(1);
        let most = GROUP_PIECES.min(GROUP_SLOTS / (images * groups) as u32).max(1);
        let pieces = pieces(pixels, blocks(pixels, GROUP_READS * rows).min(most));
        let (channels, groups) = (channels as u32, groups as u32);
        let shared = 4 * (GROUP_THREADS * width + channels + 4 * groups).max(2 * GROUP_THREADS);
        let address = x.buffer.address();
        let arguments = (address, pixels as u32, channels, groups, norm.epsilon);
        let first = moments.on([pieces, images as u32, 1], GROUP_THREADS, shared, arguments);
        let arguments = (
            out.buffer.address(),
            address,
            norm.weight.buffer.address(),
            norm.bias.as_ref().map_or(0, |bias| bias.buffer.address()),
            pixels as u32,
            channels,
            groups,
            pieces,
            out.dim(3) as u32 / channels,
        );
        let grid = [blocks(pixels, GROUP_WRITES * rows), images as u32, 1];
        [first, apply.on(grid, GROUP_THREADS, 0, arguments)]
    }
}

/// How many pieces of one size cover `pixels`, none of them empty: at most `wanted`.
fn pieces(pixels: usize, wanted: u32) -> u32 {
    pixels.div_ceil(pixels.div_ceil(wanted as usize)) as u32
}
