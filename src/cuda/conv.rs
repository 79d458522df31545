//! Launches of `kernels/conv.cu`.

use cudarc::driver::sys::CUmodule;

use super::arena::Buffer;
use super::driver::Driver;
use super::kernel::{Kernel, Launch};
use super::launch::*;
use super::linear::{TILES, Tile};
use super::pack::Packed;
use super::plan::Plan;
use crate::device::{Conv, PHASES};
use crate::error::Result;
use crate::tensor::{DType, Matrix, Tensor};

/// out, x, w, bias, residual, m, n, k, taps, kind, height, width
type Convolution = Kernel<(u64, u64, u64, u64, u64, u32, u32, u32, u32, u32, u32, u32)>;

pub(super) struct Kernels {
    /// By output, f32 or bf16; by tile.
    conv: [[Convolution; 3]; 2],
}

impl Kernels {
    pub fn load(driver: &Driver, module: CUmodule) -> Result<Self> {
        let load = |names: [&'static str; 3]| -> Result<[Convolution; 3]> {
            let [small, middle, large] = names;
            let kernel = |name, tile: Tile| Kernel::load(driver, module, name, tile.shared());
            Ok([kernel(small, TILES[0])?, kernel(middle, TILES[1])?, kernel(large, TILES[2])?])
        };
        Ok(Kernels {
            conv: [
                load(["conv_small_f32", "conv_middle_f32", "conv_large_f32"])?,
                load(["conv_small_bf16", "conv_middle_bf16", "conv_large_bf16"])?,
            ],
        })
    }

    pub fn conv2d(
        &self,
        plan: Plan,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        weight: &Matrix<Packed>,
        geometry: Conv,
        residual: Option<&Tensor<Buffer>>,
    ) -> Launch {
        let phases = if geometry == Conv::Up { PHASES } else { 1 };
        let (m, n) = (out.shape().rows() / phases, weight.rows);
        let tile = plan.index();
        let kind = match geometry {
            Conv::Point => 0,
            Conv::Same => 1,
            Conv::Down => 2,
            Conv::Up => 3,
        };
        let arguments = (
            out.buffer.address(),
            x.buffer.address(),
            weight.packed.weight.address(),
            weight.packed.bias(),
            residual.map_or(0, |r| r.buffer.address()),
            m as u32,
            n as u32,
            weight.cols as u32,
            geometry.taps_of_pixel() as u32,
            kind,
            x.dim(1) as u32,
            x.dim(2) as u32,
        );
        let kernel = &self.conv[usize::from(out.dtype() == DType::BF16)][tile];
        let [x, y, _] = TILES[tile].grid(m, n);
        kernel.on([x, y, phases as u32], GEMM_THREADS, TILES[tile].shared(), arguments)
    }
}
