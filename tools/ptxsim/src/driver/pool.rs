//! Memory pools: names for groups of stream-ordered allocations, with their settings and use. Memory
//! itself comes from the one allocator; nothing is held back for a pool.

use std::ffi::{c_uint, c_void};

use super::abi::{CUdeviceptr, CUmemoryPool, CUstream, In, Out, PoolProps};
use super::state::{Driver, call};
use super::status::{Result, Status};

/// A pool.
#[derive(Debug)]
pub struct Pool {
    /// Attributes 1 to 3: which reuse of freed memory is allowed.
    reuse: [u32; 3],
    release_threshold: u64,
    most_used: u64,
}

impl Default for Pool {
    fn default() -> Self {
        Self { reuse: [1; 3], release_threshold: 0, most_used: 0 }
    }
}

const RELEASE_THRESHOLD: c_uint = 4;
const PINNED: c_uint = 1;
const ON_DEVICE: c_uint = 1;

impl Driver {
    fn pool_use(&self, pool: CUmemoryPool) -> u64 {
        self.owners.values().filter(|o| o.pool == Some(pool)).map(|o| o.bytes).sum()
    }

    /// Notes how much the pools hold at most.
    pub fn raise_pool_marks(&mut self) {
        let used: Vec<_> = self.pools.iter().map(|(pool, _)| self.pool_use(pool)).collect();
        for (pool, used) in self.pools.values_mut().zip(used) {
            pool.most_used = pool.most_used.max(used);
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemPoolCreate(out: Out<CUmemoryPool>, props: In<PoolProps>) -> Status {
    call("cuMemPoolCreate", |d| {
        out.required()?;
        let props = props.get()?;
        if props.allocation_type != PINNED || props.reserved.iter().any(|&b| b != 0) {
            return Status::INVALID_VALUE
                .because("expected CU_MEM_ALLOCATION_TYPE_PINNED and reserved bytes of 0");
        }
        if props.location_type != ON_DEVICE || props.handle_types != 0 {
            return Status::NOT_SUPPORTED.because("pools are on the device, and not shared");
        }
        d.check_device(props.location_id)?;
        out.set(d.pools.add(Pool::default()))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemPoolDestroy(pool: CUmemoryPool) -> Status {
    call("cuMemPoolDestroy", |d| {
        if pool == d.default_pool {
            return Status::INVALID_VALUE.because("the default pool cannot be destroyed");
        }
        d.pools.remove(pool)?;
        if d.current_pool == pool {
            d.current_pool = d.default_pool;
        }
        Ok(())
    })
}

/// Nothing is held back, so nothing needs trimming.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemPoolTrimTo(pool: CUmemoryPool, _keep: usize) -> Status {
    call("cuMemPoolTrimTo", |d| d.pools.get(pool).map(|_| ()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemPoolGetAttribute(
    pool: CUmemoryPool,
    attribute: c_uint,
    out: Out<c_void>,
) -> Status {
    call("cuMemPoolGetAttribute", |d| {
        let Pool { reuse, release_threshold, most_used } = d.pools.get(pool)?;
        match attribute {
            1..=3 => out.cast::<u32>().set(reuse[attribute as usize - 1]),
            RELEASE_THRESHOLD => out.cast::<u64>().set(*release_threshold),
            5 | 7 => out.cast::<u64>().set(d.pool_use(pool)),
            6 | 8 => out.cast::<u64>().set(*most_used),
            _ => unknown(attribute),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemPoolSetAttribute(
    pool: CUmemoryPool,
    attribute: c_uint,
    value: In<c_void>,
) -> Status {
    call("cuMemPoolSetAttribute", |d| {
        let used = d.pool_use(pool);
        let pool = d.pools.get_mut(pool)?;
        match attribute {
            1..=3 => pool.reuse[attribute as usize - 1] = value.cast::<u32>().get()?,
            RELEASE_THRESHOLD => pool.release_threshold = value.cast::<u64>().get()?,
            // The marks can only be set back.
            6 | 8 if value.cast::<u64>().get()? == 0 => pool.most_used = used,
            _ => return unknown(attribute),
        }
        Ok(())
    })
}

fn unknown(attribute: c_uint) -> Result {
    Status::INVALID_VALUE.because(format!("pool attribute {attribute} is unknown or cannot be set"))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocFromPoolAsync(
    out: Out<CUdeviceptr>,
    bytes: usize,
    pool: CUmemoryPool,
    stream: CUstream,
) -> Status {
    call("cuMemAllocFromPoolAsync", |d| {
        out.required()?;
        out.set(d.allocate_async(bytes, pool, stream, "cuMemAllocFromPoolAsync")?)
    })
}
