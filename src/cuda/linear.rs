//! Launches of `kernels/linear.cu`, and the choice of its tile, which `conv2d` shares.

use cudarc::driver::sys::CUmodule;

use super::arena::Buffer;
use super::blocks;
use super::driver::Driver;
use super::kernel::{Kernel, Launch};
use super::launch::*;
use super::pack::Packed;
use crate::device::Activation;
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

/// Index of the tile for an output `[m, n]`: the largest that still gives nearly every multiprocessor a block.
/// A larger tile reads less for each product; blocks that are missing leave multiprocessors idle.
pub(super) fn choose(m: usize, n: usize, multiprocessors: u32) -> usize {
    let enough = |tile: &Tile| {
        let [x, y, _] = tile.grid(m, n);
        10 * x * y >= 9 * multiprocessors
    };
    TILES.iter().rposition(enough).unwrap_or(0)
}

/// What happens to a sum before the store: numbers that `linear.cu` knows.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    Store = 0,
    Gelu = 1,
    Add = 2,
}

impl From<Activation> for Mode {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::None => Mode::Store,
            Activation::Gelu => Mode::Gelu,
        }
    }
}

/// out, x, w, bias, m, n, k, mode
type Linear = Kernel<(u64, u64, u64, u64, u32, u32, u32, u32)>;

pub(super) struct Kernels {
    /// By output, f32 or bf16; by tile.
    linear: [[Linear; 3]; 2],
    multiprocessors: u32,
}

impl Kernels {
    pub fn load(driver: &Driver, module: CUmodule) -> Result<Self> {
        let load = |names: [&'static str; 3]| -> Result<[Linear; 3]> {
            let [small, middle, large] = names;
            let kernel = |name, tile: Tile| Kernel::load(driver, module, name, tile.shared());
            Ok([kernel(small, TILES[0])?, kernel(middle, TILES[1])?, kernel(large, TILES[2])?])
        };
        Ok(Kernels {
            linear: [
                load(["linear_small_f32", "linear_middle_f32", "linear_large_f32"])?,
                load(["linear_small_bf16", "linear_middle_bf16", "linear_large_bf16"])?,
            ],
            multiprocessors: driver.multiprocessors,
        })
    }

    pub fn linear(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        weight: &Matrix<Packed>,
        mode: Mode,
    ) -> Launch {
        let (m, n) = (x.shape().rows(), weight.rows);
        let tile = choose(m, n, self.multiprocessors);
        let arguments = (
            out.buffer.address(),
            x.buffer.address(),
            weight.packed.weight.address(),
            weight.packed.bias(),
            m as u32,
            n as u32,
            weight.cols as u32,
            mode as u32,
        );
        let kernel = &self.linear[usize::from(out.dtype() == DType::BF16)][tile];
        kernel.on(TILES[tile].grid(m, n), GEMM_THREADS, TILES[tile].shared(), arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_outputs_get_small_tiles() {
        let chosen = |m, n| choose(m, n, 132);
        assert_eq!(chosen(1, 1), 0);
        assert_eq!(chosen(512, 1024), 1); // 128 blocks: four multiprocessors idle
        assert_eq!(chosen(256, 1024), 0);
        assert_eq!(chosen(512, 3072), 1);
        assert_eq!(chosen(8192, 8192), 2);
        for (m, n) in [(1, 1), (31, 65), (512, 1024), (4096, 70)] {
            let tile = TILES[choose(m, n, 132)];
            let [x, y, z] = tile.grid(m, n);
            assert!(x * tile.columns >= n as u32 && y * tile.rows >= m as u32 && z == 1);
        }
    }
}
