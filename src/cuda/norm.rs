//! Launches of `kernels/norm.cu`.

use cudarc::driver::sys::CUmodule;

use super::arena::Buffer;
use super::blocks;
use super::driver::Driver;
use super::kernel::{Kernel, Launch};
use super::launch::*;
use crate::device::Norm;
use crate::error::Result;
use crate::tensor::{DType, Tensor};

/// out, x, weight, bias, rows, d, epsilon
type LayerNorm = Kernel<(u64, u64, u64, u64, u32, u32, f32)>;

pub(super) struct Kernels {
    layer_norm_f32: LayerNorm,
    layer_norm_bf16: LayerNorm,
}

impl Kernels {
    pub fn load(driver: &Driver, module: CUmodule) -> Result<Self> {
        Ok(Kernels {
            layer_norm_f32: Kernel::load(driver, module, "layer_norm_f32", 0)?,
            layer_norm_bf16: Kernel::load(driver, module, "layer_norm_bf16", 0)?,
        })
    }

    pub fn layer_norm(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        norm: &Norm<Buffer>,
    ) -> Launch {
        let kernel = match out.dtype() {
            DType::BF16 => &self.layer_norm_bf16,
            _ => &self.layer_norm_f32,
        };
        let rows = x.shape().rows();
        let arguments = (
            out.buffer.address(),
            x.buffer.address(),
            norm.weight.buffer.address(),
            norm.bias.buffer.address(),
            rows as u32,
            x.shape().last() as u32,
            norm.epsilon,
        );
        kernel.on([blocks(rows, NORM_WARPS), 1, 1], 32 * NORM_WARPS, 0, arguments)
    }
}
