//! Launches of `kernels/linear.cu`, and its tiles, which `conv2d` shares.

use cudarc::driver::sys::CUmodule;

use super::arena::Buffer;
use super::blocks;
use super::driver::Driver;
use super::kernel::{Kernel, Launch};
use super::launch::*;
use super::norm::RowNorm;
use super::pack::Packed;
use super::plan::Plan;
use crate::device::{Activation, GATE, Normalize};
use crate::error::Result;
use crate::tensor::{DType, Matrix, Tensor};

/// What a block computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// Output rows and columns.
    pub rows: u32,
    pub columns: u32,
    stages: u32,
}

/// All tiles, the smallest first. `linear.cu` and `conv.cu` have a kernel for each.
pub(super) const TILES: [Tile; 3] = [
    Tile { rows: GEMM_SMALL_M, columns: GEMM_SMALL_N, stages: GEMM_SMALL_STAGES },
    Tile { rows: GEMM_MIDDLE_M, columns: GEMM_MIDDLE_N, stages: GEMM_MIDDLE_STAGES },
    Tile { rows: GEMM_LARGE_M, columns: GEMM_LARGE_N, stages: GEMM_LARGE_STAGES },
];

impl Tile {
    /// Dynamic shared memory in bytes: `stages` of both operands, bf16.
    pub fn shared(self) -> u32 {
        self.stages * (self.rows + self.columns) * GEMM_DEPTH * 2
    }

    /// Blocks that cover an output `[m, n]`.
    pub fn grid(self, m: usize, n: usize) -> [u32; 3] {
        [blocks(n, self.columns), blocks(m, self.rows), 1]
    }
}

/// m, n and k of a linear layer.
pub(super) fn product(x: &Tensor<Buffer>, weight: &Matrix<Packed>) -> [usize; 3] {
    [x.shape().rows(), weight.rows, weight.cols]
}

/// What happens to a sum before the store.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum Mode {
    Store = MODE_STORE,
    Gelu = MODE_GELU,
    Add = MODE_ADD,
    Silu = MODE_SILU,
    QuickGelu = MODE_QUICK_GELU,
    Geglu = MODE_GEGLU,
}

impl Mode {
    pub fn of(activation: Activation) -> Self {
        const { assert!(GATE == GEMM_GATE as usize, "launch.h has the weights' blocks") };
        match activation {
            Activation::None => Mode::Store,
            Activation::Gelu => Mode::Gelu,
            Activation::Silu => Mode::Silu,
            Activation::QuickGelu => Mode::QuickGelu,
            Activation::Geglu => Mode::Geglu,
        }
    }
}

/// out, x, w, bias, m, n, k, mode
type Linear = Kernel<(u64, u64, u64, u64, u32, u32, u32, u32)>;

/// residual, out, x, w, bias, norm weight, norm bias, modulation, m, n, k, stride, sequence, centred, epsilon
type LinearAddNorm =
    Kernel<(u64, u64, u64, u64, u64, u64, u64, u64, u32, u32, u32, u32, u32, u32, f32)>;

pub(super) struct Kernels {
    /// By output, f32 or bf16; by tile.
    linear: [[Linear; 3]; 2],
    /// For the small and the middle tile, with the blocks that are resident at once.
    add_norm: [(LinearAddNorm, u32); 2],
}

impl Kernels {
    pub fn load(driver: &Driver, module: CUmodule) -> Result<Self> {
        let load = |names: [&'static str; 3]| -> Result<[Linear; 3]> {
            let [small, middle, large] = names;
            let kernel = |name, tile: Tile| Kernel::load(driver, module, name, tile.shared());
            Ok([kernel(small, TILES[0])?, kernel(middle, TILES[1])?, kernel(large, TILES[2])?])
        };
        let add_norm = |name, tile: Tile| -> Result<(LinearAddNorm, u32)> {
            let kernel = Kernel::load(driver, module, name, tile.shared())?;
            let resident = kernel.resident(driver, GEMM_THREADS, tile.shared())?;
            Ok((kernel, resident))
        };
        Ok(Kernels {
            add_norm: [
                add_norm("linear_add_norm_small", TILES[0])?,
                add_norm("linear_add_norm_middle", TILES[1])?,
            ],
            linear: [
                load(["linear_small_f32", "linear_middle_f32", "linear_large_f32"])?,
                load(["linear_small_bf16", "linear_middle_bf16", "linear_large_bf16"])?,
            ],
        })
    }

    /// Blocks of `linear_add_norm` that are resident at once, by tile.
    pub fn resident(&self) -> Vec<u32> {
        self.add_norm.iter().map(|(_, resident)| *resident).collect()
    }

    pub fn linear(
        &self,
        plan: Plan,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        weight: &Matrix<Packed>,
        mode: Mode,
    ) -> Launch {
        let (m, n) = (x.shape().rows(), weight.rows);
        let tile = plan.index();
        let arguments = (
            out.buffer.address(),
            x.buffer.address(),
            weight.packed.weight.address(),
            weight.packed.bias(),
            m as u32,
            out.shape().last() as u32,
            weight.cols as u32,
            mode as u32,
        );
        let kernel = &self.linear[usize::from(out.dtype() == DType::BF16)][tile];
        kernel.on(plan.grid(m, n), GEMM_THREADS, TILES[tile].shared(), arguments)
    }

    /// The linear layer and the norm of what it adds to, where they are planned, and can be had, as one launch.
    pub fn linear_add_norm(
        &self,
        plan: Plan,
        residual: &mut Tensor<Buffer>,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        weight: &Matrix<Packed>,
        norm: Normalize<'_, Buffer>,
    ) -> Option<Launch> {
        if plan == Plan::APART {
            return None;
        }
        let (m, n) = (x.shape().rows(), weight.rows);
        let tile = plan.index();
        let RowNorm { weight: norm_weight, bias, by, centred, epsilon } = RowNorm::new(norm, m);
        let arguments = (
            residual.buffer.address(),
            out.buffer.address(),
            x.buffer.address(),
            weight.packed.weight.address(),
            weight.packed.bias(),
            norm_weight,
            bias,
            by.first,
            m as u32,
            n as u32,
            weight.cols as u32,
            by.stride,
            by.sequence,
            centred,
            epsilon,
        );
        let (kernel, _) = self.add_norm.get(tile)?;
        Some(kernel.on(plan.grid(m, n), GEMM_THREADS, TILES[tile].shared(), arguments))
    }
}
