//! Launches of `kernels/codebook.cu`.

use cudarc::driver::sys::CUmodule;

use super::arena::Buffer;
use super::blocks;
use super::driver::Driver;
use super::kernel::{Kernel, Launch};
use super::launch::*;
use crate::error::Result;
use crate::tensor::Tensor;

/// Blocks that fill a large GPU: the codebook is cut into parts until there are as many.
const ENOUGH: u32 = 264;

pub(super) struct Kernels {
    /// z, codebook, rows, codes, channels
    nearest_code: Kernel<(u64, u64, u32, u32, u32)>,
    /// ids, rows, parts
    nearest_merge: Kernel<(u64, u32, u32)>,
}

impl Kernels {
    pub fn load(driver: &Driver, module: CUmodule) -> Result<Self> {
        Ok(Kernels {
            nearest_code: Kernel::load(driver, module, "nearest_code", 0)?,
            nearest_merge: Kernel::load(driver, module, "nearest_merge", 0)?,
        })
    }

    /// As many rows at a time as results can be kept for: each time the search, then the merge.
    pub fn nearest_code(
        &self,
        ids: &mut Tensor<Buffer>,
        z: &Tensor<Buffer>,
        codebook: &Tensor<Buffer>,
    ) -> impl Iterator<Item = Launch> {
        let (n, channels) = (z.shape().rows(), z.shape().last());
        let codes = codebook.shape().rows();
        let (ids, z, codebook) =
            (ids.buffer.address(), z.buffer.address(), codebook.buffer.address());
        (0..n).step_by(NEAREST_SLOTS as usize).flat_map(move |first| {
            let rows = (n - first).min(NEAREST_SLOTS as usize);
            let tiles = blocks(rows, NEAREST_ROWS);
            let parts = ENOUGH.div_ceil(tiles).min(blocks(codes, NEAREST_CODES));
            let parts = parts.min(NEAREST_SLOTS / rows as u32);
            let (z, ids) = (z + (4 * first * channels) as u64, ids + 4 * first as u64);
            let arguments = (z, codebook, rows as u32, codes as u32, channels as u32);
            let threads = NEAREST_ROWS / 4 * NEAREST_CODES / 4;
            let merge = (ids, rows as u32, parts);
            let merge_grid = [blocks(rows, NEAREST_MERGE_THREADS), 1, 1];
            [
                self.nearest_code.on([tiles, parts, 1], threads, 0, arguments),
                self.nearest_merge.on(merge_grid, NEAREST_MERGE_THREADS, 0, merge),
            ]
        })
    }
}
