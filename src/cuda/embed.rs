//! Launches of `kernels/embed.cu`.

use cudarc::driver::sys::CUmodule;

use super::arena::Buffer;
use super::blocks;
use super::driver::Driver;
use super::kernel::{Kernel, Launch};
use super::launch::*;
use crate::error::Result;
use crate::tensor::{DType, Tensor};

/// out, ids, table, add, n, d
type Embed = Kernel<(u64, u64, u64, u64, u32, u32)>;

pub(super) struct Kernels {
    /// By output, then table: f32, bf16.
    embed: [[Embed; 2]; 2],
    /// out, x, positions, n, grid, d
    select_rows: Kernel<(u64, u64, u64, u32, u32, u32)>,
    /// out, x, bytes
    copy_bytes: Kernel<(u64, u64, u32)>,
}

impl Kernels {
    pub fn load(driver: &Driver, module: CUmodule) -> Result<Self> {
        let embed = |name| Kernel::load(driver, module, name, 0);
        Ok(Kernels {
            embed: [
                [embed("embed_f32_f32")?, embed("embed_f32_bf16")?],
                [embed("embed_bf16_f32")?, embed("embed_bf16_bf16")?],
            ],
            select_rows: Kernel::load(driver, module, "select_rows", 0)?,
            copy_bytes: Kernel::load(driver, module, "copy_bytes", 0)?,
        })
    }

    pub fn embed(
        &self,
        out: &mut Tensor<Buffer>,
        ids: &Tensor<Buffer>,
        table: &Tensor<Buffer>,
        add: Option<&Tensor<Buffer>>,
    ) -> Launch {
        let half = |t: &Tensor<Buffer>| usize::from(t.dtype() == DType::BF16);
        let (rows, d) = (out.shape().rows() as u32, out.shape().last() as u32);
        let arguments = (
            out.buffer.address(),
            ids.buffer.address(),
            table.buffer.address(),
            add.map_or(0, |add| add.buffer.address()),
            ids.shape().elements() as u32,
            d,
        );
        self.embed[half(out)][half(table)].on([rows, 1, 1], ROW_THREADS, 0, arguments)
    }

    pub fn select_rows(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        positions: &Tensor<Buffer>,
    ) -> Launch {
        let (rows, n) = (out.shape().rows(), positions.shape().elements());
        let grid = x.shape().rows() / (rows / n);
        let arguments = (
            out.buffer.address(),
            x.buffer.address(),
            positions.buffer.address(),
            n as u32,
            grid as u32,
            x.shape().last() as u32,
        );
        self.select_rows.on([rows as u32, 1, 1], ROW_THREADS, 0, arguments)
    }

    pub fn copy_rows(
        &self,
        out: &mut Tensor<Buffer>,
        out_row: usize,
        x: &Tensor<Buffer>,
        x_row: usize,
        rows: usize,
    ) -> Launch {
        let width = x.shape().last() * x.dtype().size();
        let bytes = rows * width;
        let arguments = (
            out.buffer.address() + (out_row * width) as u64,
            x.buffer.address() + (x_row * width) as u64,
            bytes as u32,
        );
        let grid = blocks(bytes, 16 * ELEMENTWISE_THREADS);
        self.copy_bytes.on([grid, 1, 1], ELEMENTWISE_THREADS, 0, arguments)
    }
}
