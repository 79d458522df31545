//! Occupancy, by the documented formula over what the executor knows of a kernel. Registers are the
//! executor's count of the PTX's, not machine code's.

use std::ffi::{c_int, c_uint, c_void};

use super::abi::{CUfunction, In, Out};
use super::state::{Driver, call, callback};
use super::status::{Result, Status};
use crate::device::{RESERVED_SHARED, WARP};

/// Dynamic shared memory as a function of the threads of a block.
type BlockToShared = Option<unsafe extern "C" fn(c_int) -> usize>;

impl Driver {
    /// Resident blocks; refuses what no launch could ask for.
    fn occupancy(&self, function: CUfunction, threads: c_int, shared: usize) -> Result<u32> {
        let f = self.functions.get(function)?;
        self.healthy(f.context)?;
        if threads <= 0 {
            return Status::INVALID_VALUE.because(format!("expected threads, found {threads}"));
        }
        if threads as u32 > self.most_threads(f.info())
            || shared as u64 > u64::from(f.max_dynamic_shared)
        {
            return Ok(0);
        }
        Ok(self.options.device.resident_blocks(f.info().footprint(threads as u32, shared as u64)))
    }

    /// The block with the most resident threads, the largest of equals; and blocks to fill the device.
    fn best_block(
        &self,
        function: CUfunction,
        limit: c_int,
        shared: impl Fn(c_int) -> usize,
    ) -> Result<(c_int, c_int)> {
        let most = self.most_threads(self.functions.get(function)?.info()) as c_int;
        let most = if limit > 0 { most.min(limit) } else { most };
        let mut best = (0, 0, 0);
        // The largest block may be no whole number of warps.
        let sizes =
            std::iter::once(most).chain((1..most).rev().filter(|n| *n % WARP as c_int == 0));
        for threads in sizes {
            let blocks = self.occupancy(function, threads, shared(threads))? as c_int;
            if blocks * threads > best.0 {
                best = (blocks * threads, threads, blocks);
            }
        }
        let (_, threads, blocks) = best;
        Ok((blocks * self.options.device.multiprocessors as c_int, threads))
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    out: Out<c_int>,
    function: CUfunction,
    threads: c_int,
    shared: usize,
) -> Status {
    cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(out, function, threads, shared, 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    out: Out<c_int>,
    function: CUfunction,
    threads: c_int,
    shared: usize,
    flags: c_uint,
) -> Status {
    call("cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags", |d| {
        check_flags(flags)?;
        out.set(d.occupancy(function, threads, shared)? as c_int)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxPotentialBlockSize(
    grid: Out<c_int>,
    block: Out<c_int>,
    function: CUfunction,
    block_to_shared: BlockToShared,
    shared: usize,
    limit: c_int,
) -> Status {
    cuOccupancyMaxPotentialBlockSizeWithFlags(
        grid,
        block,
        function,
        block_to_shared,
        shared,
        limit,
        0,
    )
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxPotentialBlockSizeWithFlags(
    grid: Out<c_int>,
    block: Out<c_int>,
    function: CUfunction,
    block_to_shared: BlockToShared,
    shared: usize,
    limit: c_int,
    flags: c_uint,
) -> Status {
    call("cuOccupancyMaxPotentialBlockSizeWithFlags", |d| {
        check_flags(flags)?;
        grid.required()?;
        let (blocks, threads) = d.best_block(function, limit, |threads| {
            let mut bytes = shared;
            if let Some(f) = block_to_shared {
                // SAFETY: the program passed it to be called with numbers of threads.
                callback(|| bytes = unsafe { f(threads) });
            }
            bytes
        })?;
        block.set(threads)?;
        grid.set(blocks)
    })
}

/// Dynamic shared memory that so many blocks leave for each.
#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyAvailableDynamicSMemPerBlock(
    out: Out<usize>,
    function: CUfunction,
    blocks: c_int,
    threads: c_int,
) -> Status {
    call("cuOccupancyAvailableDynamicSMemPerBlock", |d| {
        let device = d.options.device;
        let resident = d.occupancy(function, threads, 0)?;
        if blocks <= 0 || blocks as u32 > resident {
            return Status::INVALID_VALUE.because(format!(
                "{blocks} blocks of {threads} threads; a multiprocessor holds {resident}"
            ));
        }
        let taken = d.functions.get(function)?.info().static_shared_bytes;
        let share = device.shared_per_multiprocessor / blocks as u32 / 128 * 128;
        let left = (share - RESERVED_SHARED).min(device.shared_per_block_optin);
        out.set(left.saturating_sub(taken) as usize)
    })
}

fn check_flags(flags: c_uint) -> Result {
    if flags > 1 {
        return Status::INVALID_VALUE.because(format!("unknown occupancy flags {flags:#x}"));
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxActiveClusters(
    _out: Out<c_int>,
    _function: CUfunction,
    _config: In<c_void>,
) -> Status {
    call("cuOccupancyMaxActiveClusters", |_| no_clusters())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxPotentialClusterSize(
    _out: Out<c_int>,
    _function: CUfunction,
    _config: In<c_void>,
) -> Status {
    call("cuOccupancyMaxPotentialClusterSize", |_| no_clusters())
}

fn no_clusters() -> Result {
    Status::NOT_SUPPORTED.because("clusters are not simulated")
}
