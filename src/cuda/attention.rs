//! Launches of `kernels/attention.cu`.

use cudarc::driver::sys::CUmodule;

use super::arena::Buffer;
use super::blocks;
use super::driver::Driver;
use super::kernel::{Kernel, Launch};
use super::launch::*;
use super::linear::TILES;
use super::pack::Packed;
use super::plan::{self, Plan};
use crate::device::{Attention, Heads};
use crate::error::Result;
use crate::tensor::{Matrix, Tensor};

/// out, q, k, v, their strides, heads, head_dim, queries, keys, length0, length1, step, causal, scale
type Function =
    Kernel<(u64, u64, u64, u64, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, f32)>;

/// out, x, w, k, v, size, k_stride, v_stride, heads, queries, keys, length0, length1, scale
type Projecting = Kernel<(u64, u64, u64, u64, u64, u32, u32, u32, u32, u32, u32, u32, u32, f32)>;

/// Channels of a head that `project_and_attend` is made for.
const PROJECTED: u32 = 64;
/// Channels of a head that there are kernels for.
const WIDTHS: [u32; 5] = [32, 64, 80, 96, 128];

pub(super) struct Kernels {
    /// By `WIDTHS`.
    tiled: [Function; 5],
    /// The first of `WIDTHS` again, a warp doing twice the rows, none of them causal: more would not fit its
    /// registers.
    wide: [Function; 2],
    plain: Function,
    projecting: Projecting,
    multiprocessors: u32,
}

/// Two stages of keys and values.
const fn shared(width: u32) -> u32 {
    2 * 2 * ATTENTION_KEYS * (width + ATTENTION_PAD) * 2
}

/// The stages of the products, in whose place one of keys and values comes, and the other one.
const SHARED_PROJECTING: u32 =
    PROJECT_STAGES * (PROJECT_ROWS + PROJECTED) * GEMM_DEPTH * 2 + shared(PROJECTED) / 2;

fn address(x: &Heads<'_, Buffer>) -> u64 {
    x.tensor.buffer.address() + 2 * x.offset as u64
}

fn stride(x: &Heads<'_, Buffer>) -> u32 {
    x.tensor.shape().last() as u32
}

/// Whether every row of every head is whole pieces of 16 bytes.
fn aligned(x: &Heads<'_, Buffer>) -> bool {
    x.offset.is_multiple_of(8) && stride(x).is_multiple_of(8)
}

/// The softmax's scale for powers of 2.
fn scale(head_dim: usize) -> f32 {
    (f64::from(std::f32::consts::LOG2_E) / (head_dim as f64).sqrt()) as f32
}

impl Kernels {
    pub fn load(driver: &Driver, module: CUmodule) -> Result<Self> {
        let tiled = |name, width| Kernel::load(driver, module, name, shared(width));
        Ok(Kernels {
            tiled: [
                tiled("attention_32x1", 32)?,
                tiled("attention_64x1", 64)?,
                tiled("attention_80x1", 80)?,
                tiled("attention_96x1", 96)?,
                tiled("attention_128x1", 128)?,
            ],
            wide: [tiled("attention_32x2", 32)?, tiled("attention_64x2", 64)?],
            plain: Kernel::load(driver, module, "attention_plain", 0)?,
            projecting: Kernel::load(driver, module, "project_and_attend_64", SHARED_PROJECTING)?,
            multiprocessors: driver.multiprocessors,
        })
    }

    /// The plan says how many queries a block has; heads that have to be read piece by piece know one way only.
    pub fn attention(
        &self,
        plan: Plan,
        out: &mut Tensor<Buffer>,
        q: Heads<'_, Buffer>,
        k: Heads<'_, Buffer>,
        v: Heads<'_, Buffer>,
        sizes: Attention,
    ) -> Launch {
        let Attention { batch, heads, head_dim, queries, keys, lengths, causal, step, column } =
            sizes;
        let out = Heads { tensor: out, offset: column };
        let arguments = (
            address(&out),
            address(&q),
            address(&k),
            address(&v),
            stride(&out),
            stride(&q),
            stride(&k),
            stride(&v),
            heads as u32,
            head_dim as u32,
            queries as u32,
            keys as u32,
            lengths[0] as u32,
            lengths[1] as u32,
            step as u32,
            u32::from(causal),
            scale(head_dim),
        );
        let of_batch = (batch * heads) as u32;
        let fits = head_dim.is_multiple_of(8) && [out, q, k, v].iter().all(aligned);
        let width = WIDTHS.iter().position(|&width| head_dim <= width as usize);
        let Some(index) = width.filter(|_| fits) else {
            let grid = [blocks(queries, ATTENTION_PLAIN_WARPS), of_batch, blocks(head_dim, 32)];
            return self.plain.on(grid, 32 * ATTENTION_PLAIN_WARPS, 0, arguments);
        };
        let shared = shared(WIDTHS[index]);
        let grid = |warps| [blocks(queries, ATTENTION_ROWS * warps), of_batch, 1];
        let warps = plan.tile[0] / ATTENTION_ROWS;
        match self.wide.get(index).filter(|_| warps > ATTENTION_WARPS && !causal) {
            Some(kernel) => kernel.on(grid(warps), 32 * ATTENTION_WARPS, shared, arguments),
            None => {
                let warps = warps.min(ATTENTION_WARPS);
                self.tiled[index].on(grid(warps), 32 * warps, shared, arguments)
            }
        }
    }

    /// The projection of the queries and their attention, where one launch can do both well: where the
    /// projection by itself would have tiles no larger than a block's rows and head.
    pub fn project_and_attend(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        weight: &Matrix<Packed>,
        [k, v]: [Heads<'_, Buffer>; 2],
        sizes: Attention,
    ) -> Option<Launch> {
        let Attention { batch, heads, head_dim, queries, keys, lengths, causal, .. } = sizes;
        let tile = TILES[plan::choose(batch * queries, weight.rows, self.multiprocessors)];
        let fits = head_dim == PROJECTED as usize
            && !weight.has_bias
            && !causal
            && tile.rows * tile.columns <= PROJECT_ROWS * PROJECTED
            && [k, v].iter().all(aligned);
        let arguments = (
            out.buffer.address(),
            x.buffer.address(),
            weight.packed.weight.address(),
            address(&k),
            address(&v),
            weight.cols as u32,
            stride(&k),
            stride(&v),
            heads as u32,
            queries as u32,
            keys as u32,
            lengths[0] as u32,
            lengths[1] as u32,
            scale(head_dim),
        );
        let grid = [blocks(queries, PROJECT_ROWS), (batch * heads) as u32, 1];
        fits.then(|| self.projecting.on(grid, GEMM_THREADS, SHARED_PROJECTING, arguments))
    }
}
