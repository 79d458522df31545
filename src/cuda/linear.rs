//! Launches of `kernels/linear.cu`, and the choice of its tiles, which `conv2d` shares.

use cudarc::driver::sys::CUmodule;

use super::arena::Buffer;
use super::blocks;
use super::driver::Driver;
use super::kernel::{Kernel, Launch};
use super::launch::*;
use super::pack::Packed;
use crate::device::{Activation, NormKind, Normalize};
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

/// Index of the tile for an output `[m, n]`: the largest that still gives most multiprocessors a block.
/// A larger tile reads less for each product; blocks that are missing leave multiprocessors idle.
pub(super) fn choose(m: usize, n: usize, multiprocessors: u32) -> usize {
    let enough = |tile: &Tile| {
        let [x, y, _] = tile.grid(m, n);
        10 * x * y >= 7 * multiprocessors
    };
    TILES.iter().rposition(enough).unwrap_or(0)
}

/// How a product is shared among blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Index of the tile.
    pub tile: usize,
    /// Blocks that share a tile, each with its part of k.
    pub splits: u32,
}

impl Plan {
    /// For an output `[m, n]` of sums over `k`: where tiles are few and sums long, so many blocks share a tile
    /// that multiprocessors have two of them, one to work while the other waits.
    fn new(m: usize, n: usize, k: usize, multiprocessors: u32) -> Self {
        let tile = choose(m, n, multiprocessors);
        let [x, y, _] = TILES[tile].grid(m, n);
        let tiles = x * y;
        let steps = blocks(k, GEMM_DEPTH);
        let sums = tiles * TILES[tile].rows * TILES[tile].columns;
        let most = if tiles > GEMM_TILE_SLOTS { 1 } else { GEMM_PART_SLOTS / sums };
        let splits = (2 * multiprocessors / tiles).min(steps / SPLIT_STEPS).min(most).clamp(1, 8);
        Plan { tile, splits }
    }

    fn grid(self, m: usize, n: usize) -> [u32; 3] {
        let [x, y, _] = TILES[self.tile].grid(m, n);
        [x, y, self.splits]
    }
}

/// Steps in k, of GEMM_DEPTH each, below which sharing a tile costs more than it saves.
const SPLIT_STEPS: u32 = 4;

/// What happens to a sum before the store: numbers that `linear.cu` knows.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    Store = 0,
    Gelu = 1,
    Add = 2,
}

impl Mode {
    /// Nothing where there is no kernel for it.
    pub fn of(activation: Activation) -> Option<Self> {
        match activation {
            Activation::None => Some(Mode::Store),
            Activation::Gelu => Some(Mode::Gelu),
            Activation::Silu | Activation::QuickGelu | Activation::Geglu => None,
        }
    }
}

/// out, x, w, bias, m, n, k, mode
type Linear = Kernel<(u64, u64, u64, u64, u32, u32, u32, u32)>;

/// residual, out, x, w, bias, norm weight, norm bias, m, n, k, epsilon
type LinearAddNorm = Kernel<(u64, u64, u64, u64, u64, u64, u64, u32, u32, u32, f32)>;

pub(super) struct Kernels {
    /// By output, f32 or bf16; by tile.
    linear: [[Linear; 3]; 2],
    /// For the small and the middle tile, with the blocks that are resident at once.
    add_norm: [(LinearAddNorm, u32); 2],
    multiprocessors: u32,
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
        let plan = Plan::new(m, n, weight.cols, self.multiprocessors);
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
        let kernel = &self.linear[usize::from(out.dtype() == DType::BF16)][plan.tile];
        kernel.on(plan.grid(m, n), GEMM_THREADS, TILES[plan.tile].shared(), arguments)
    }

    /// The linear layer and the norm of what it adds to, where one launch can do both: its blocks wait for each
    /// other, so all of them must be resident.
    pub fn linear_add_norm(
        &self,
        residual: &mut Tensor<Buffer>,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        weight: &Matrix<Packed>,
        Normalize { norm, modulation }: Normalize<'_, Buffer>,
    ) -> Option<Launch> {
        let bias = norm.bias.as_ref()?;
        let (m, n) = (x.shape().rows(), weight.rows);
        let plan = Plan::new(m, n, weight.cols, self.multiprocessors);
        let (kernel, resident) = self.add_norm.get(plan.tile)?;
        let [columns, rows, splits] = plan.grid(m, n);
        let fits = columns * rows * splits <= *resident && rows <= GEMM_ROW_SLOTS;
        let plain = norm.kind == NormKind::Layer && modulation.is_none();
        if !fits || !plain || out.dtype() != DType::BF16 {
            return None;
        }
        let arguments = (
            residual.buffer.address(),
            out.buffer.address(),
            x.buffer.address(),
            weight.packed.weight.address(),
            weight.packed.bias(),
            norm.weight.buffer.address(),
            bias.buffer.address(),
            m as u32,
            n as u32,
            weight.cols as u32,
            norm.epsilon,
        );
        let shared = TILES[plan.tile].shared();
        Some(kernel.on([columns, rows, splits], GEMM_THREADS, shared, arguments))
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
        assert_eq!(chosen(512, 2048), 1);
        assert_eq!(chosen(512, 3072), 2); // 96 blocks, each reading half as much per product
        assert_eq!(chosen(8192, 8192), 2);
        for (m, n) in [(1, 1), (31, 65), (512, 1024), (4096, 70)] {
            let tile = TILES[choose(m, n, 132)];
            let [x, y, z] = tile.grid(m, n);
            assert!(x * tile.columns >= n as u32 && y * tile.rows >= m as u32 && z == 1);
        }
    }

    #[test]
    fn few_tiles_with_long_sums_are_shared() {
        let plan = |m, n, k| Plan::new(m, n, k, 132);
        assert_eq!(plan(512, 1024, 1024), Plan { tile: 1, splits: 2 });
        assert_eq!(plan(512, 1024, 128), Plan { tile: 1, splits: 1 });
        assert_eq!(plan(64, 256, 4096), Plan { tile: 0, splits: 8 });
        assert_eq!(plan(512, 4096, 4096), Plan { tile: 2, splits: 1 }); // no room for two parts
        assert_eq!(plan(8192, 8192, 8192).splits, 1);
        for (m, n, k) in [(1, 1, 1), (1, 70_000, 4096), (31, 65, 70), (640, 1024, 9000)] {
            let Plan { tile, splits } = plan(m, n, k);
            let [x, y, z] = plan(m, n, k).grid(m, n);
            let Tile { rows, columns, .. } = TILES[tile];
            assert!(z == splits && splits >= 1);
            assert!(splits == 1 || x * y <= GEMM_TILE_SLOTS);
            assert!(splits == 1 || x * y * rows * columns * splits <= GEMM_PART_SLOTS);
        }
    }
}
