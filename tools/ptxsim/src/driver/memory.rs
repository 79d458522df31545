//! Allocating and freeing, and questions about addresses.

use std::ffi::{c_int, c_uint, c_void};

use super::abi::{CUcontext, CUdeviceptr, CUmemoryPool, CUstream, In, Out};
use super::state::{Driver, GraphUse, Owner, call};
use super::status::{Result, Status};
use super::work::Work;
use crate::finding::Kind;
use crate::memory::{Allocation, FreeError, Home, MemoryError};

impl Driver {
    /// Allocates. When memory is short, pending frees are brought forward first, as a real driver does.
    fn allocate(
        &mut self,
        home: Home,
        bytes: usize,
        pool: Option<CUmemoryPool>,
        origin: &'static str,
    ) -> Result<u64> {
        let context = self.current()?;
        let mut result = self.memory.allocate_in(home, bytes as u64, origin);
        if matches!(result, Err(MemoryError::OutOfMemory { .. })) {
            self.run_context(context)?;
            result = self.memory.allocate_in(home, bytes as u64, origin);
        }
        let address = match result {
            Ok(address) => address,
            Err(e @ MemoryError::Empty) => return Status::INVALID_VALUE.because(e.to_string()),
            Err(e) => return Status::OUT_OF_MEMORY.because(e.to_string()),
        };
        let bytes = bytes as u64;
        let owner = Owner { context, bytes, pool, graph: GraphUse::No, freeing: false };
        self.owners.insert(address, owner);
        Ok(address)
    }

    /// Allocates in the order of a stream: the memory may be used by what comes after.
    pub fn allocate_async(
        &mut self,
        bytes: usize,
        pool: CUmemoryPool,
        stream: CUstream,
        origin: &'static str,
    ) -> Result<u64> {
        let stream = self.stream(stream)?;
        self.pools.get(pool)?;
        let captured = self.streams.get(stream)?.capture.is_some();
        if !captured {
            self.refuse_implicit(stream)?;
        }
        let address = self.allocate(Home::Device, bytes, Some(pool), origin)?;
        self.memory.close(address);
        if let (Some(owner), true) = (self.owners.get_mut(&address), captured) {
            owner.graph = GraphUse::Idle;
        }
        self.raise_pool_marks();
        self.enqueue(stream, Work::Open(address))?;
        Ok(address)
    }

    /// Frees now and forgets; a failure is a finding.
    pub fn release(&mut self, address: u64, home: Home, by: &'static str) {
        self.owners.remove(&address);
        if let Err(e) = self.memory.free(home, address, by) {
            self.find(free_kind(&e), format!("{by}: {e}"));
        }
    }

    /// Whether an address can be freed: what a second free, or a free of something else, is told.
    fn check_free(&mut self, address: u64, home: Home, by: &'static str) -> Result<Owner> {
        let fault = match (self.owners.get(&address), self.memory.find(address)) {
            (Some(owner), Some(a)) if a.address == address && a.home == home => {
                if !owner.freeing && owner.graph != GraphUse::Idle {
                    return Ok(*owner);
                }
                FreeError::DoubleFree(format!("{a} is already freed in stream order"))
            }
            // The memory itself knows best what is wrong, and frees nothing.
            (_, Some(Allocation { home: Home::Module, .. })) => {
                FreeError::WrongHome(self.memory.describe(address, 1))
            }
            _ => match self.memory.free(home, address, by) {
                Err(e) => e,
                Ok(a) => FreeError::Unknown(a.to_string()),
            },
        };
        self.find(free_kind(&fault), format!("{by}: {fault}"));
        Status::INVALID_VALUE.because(fault.to_string())
    }

    /// Frees at once, after all work of the context, as `cuMemFree` does.
    fn free_now(&mut self, address: u64, home: Home, by: &'static str) -> Result {
        self.current()?;
        self.refuse_unsafe(by)?;
        let owner = self.check_free(address, home, by)?;
        self.run_context(owner.context)?;
        if owner.graph == GraphUse::Live {
            self.memory.close(address);
            self.set_graph_use(address, GraphUse::Idle);
        } else {
            self.release(address, home, by);
        }
        Ok(())
    }

    fn free_async(&mut self, address: u64, stream: CUstream) -> Result {
        let stream = self.stream(stream)?;
        if self.streams.get(stream)?.capture.is_some() {
            return self.capture_free(address, stream);
        }
        let owner = self.check_free(address, Home::Device, "cuMemFreeAsync")?;
        if owner.graph == GraphUse::Live {
            self.enqueue(stream, Work::Close(address))?;
            self.set_graph_use(address, GraphUse::Idle);
            return Ok(());
        }
        self.refuse_implicit(stream)?;
        if let Some(owner) = self.owners.get_mut(&address) {
            owner.freeing = true;
        }
        self.enqueue(stream, Work::Free(address))
    }

    /// A free in a capture frees what a node of the same graph allocated, once.
    fn capture_free(&mut self, address: u64, stream: CUstream) -> Result {
        let capture = self.captured(stream)?.capture;
        let nodes = &self.captures.get(capture)?.graph.nodes;
        let opened = nodes.iter().any(|n| matches!(n.work, Work::Open(a) if a == address));
        let closed = nodes.iter().any(|n| matches!(n.work, Work::Close(a) if a == address));
        if closed {
            let message = format!("cuMemFreeAsync in a capture: {address:#x} is freed twice");
            self.find(Kind::DoubleFree, message);
        }
        if closed || !opened {
            self.invalidate(capture);
            return Status::INVALID_VALUE.because(format!(
                "a capture frees {}, which the same graph did not allocate or frees already",
                self.memory.describe(address, 1)
            ));
        }
        self.enqueue(stream, Work::Close(address))
    }

    fn set_graph_use(&mut self, address: u64, graph: GraphUse) {
        if let Some(owner) = self.owners.get_mut(&address) {
            owner.graph = graph;
        }
    }
}

fn free_kind(error: &FreeError) -> Kind {
    match error {
        FreeError::DoubleFree(_) => Kind::DoubleFree,
        _ => Kind::InvalidFree,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAlloc_v2(out: Out<CUdeviceptr>, bytes: usize) -> Status {
    call("cuMemAlloc_v2", |d| {
        out.required()?;
        d.current()?;
        d.refuse_unsafe("cuMemAlloc")?;
        out.set(d.allocate(Home::Device, bytes, None, "cuMemAlloc")?)
    })
}

/// Rows at a pitch of 512 bytes.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocPitch_v2(
    out: Out<CUdeviceptr>,
    pitch: Out<usize>,
    width: usize,
    height: usize,
    element_bytes: c_uint,
) -> Status {
    call("cuMemAllocPitch_v2", |d| {
        out.required()?;
        pitch.required()?;
        d.current()?;
        d.refuse_unsafe("cuMemAllocPitch")?;
        if !matches!(element_bytes, 4 | 8 | 16) {
            return Status::INVALID_VALUE
                .because(format!("expected elements of 4, 8 or 16 bytes, found {element_bytes}"));
        }
        let row = width.checked_next_multiple_of(512).unwrap_or(usize::MAX);
        let bytes = row.saturating_mul(height);
        out.set(d.allocate(Home::Device, bytes, None, "cuMemAllocPitch")?)?;
        pitch.set(row)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(address: CUdeviceptr) -> Status {
    call("cuMemFree_v2", |d| d.free_now(address, Home::Device, "cuMemFree"))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocAsync(out: Out<CUdeviceptr>, bytes: usize, stream: CUstream) -> Status {
    call("cuMemAllocAsync", |d| {
        out.required()?;
        out.set(d.allocate_async(bytes, d.current_pool, stream, "cuMemAllocAsync")?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeAsync(address: CUdeviceptr, stream: CUstream) -> Status {
    call("cuMemFreeAsync", |d| d.free_async(address, stream))
}

/// Pinned host memory: portable, mapped or write-combined make no difference here.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostAlloc(out: Out<*mut c_void>, bytes: usize, flags: c_uint) -> Status {
    call("cuMemHostAlloc", |d| {
        out.required()?;
        d.current()?;
        d.refuse_unsafe("cuMemHostAlloc")?;
        if flags & !7 != 0 {
            return Status::INVALID_VALUE.because(format!("unknown flags {flags:#x}"));
        }
        out.set(d.allocate(Home::Host, bytes, None, "cuMemHostAlloc")? as *mut c_void)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocHost_v2(out: Out<*mut c_void>, bytes: usize) -> Status {
    cuMemHostAlloc(out, bytes, 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeHost(address: *mut c_void) -> Status {
    call("cuMemFreeHost", |d| d.free_now(address as u64, Home::Host, "cuMemFreeHost"))
}

/// Pinned memory has one address for host and device.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostGetDevicePointer_v2(
    out: Out<CUdeviceptr>,
    address: *mut c_void,
    flags: c_uint,
) -> Status {
    call("cuMemHostGetDevicePointer_v2", |d| {
        d.current()?;
        let address = address as u64;
        match d.memory.find(address) {
            Some(a) if a.home == Home::Host && flags == 0 => out.set(address),
            _ => Status::INVALID_VALUE.because(format!(
                "expected pinned memory, found {}",
                d.memory.describe(address, 1)
            )),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) -> Status {
    call("cuMemGetInfo_v2", |d| {
        d.current()?;
        let info = d.memory.info();
        free.set(info.0 as usize)?;
        total.set(info.1 as usize)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemGetAddressRange_v2(
    base: Out<CUdeviceptr>,
    bytes: Out<usize>,
    address: CUdeviceptr,
) -> Status {
    call("cuMemGetAddressRange_v2", |d| {
        d.current()?;
        let Some(a) = d.memory.find(address) else {
            return Status::NOT_FOUND.because(d.memory.describe(address, 1));
        };
        base.set_if_wanted(a.address);
        bytes.set_if_wanted(a.bytes as usize);
        Ok(())
    })
}

/// `CUpointer_attribute`: context, memory type, addresses, id, managed, device, range, mapped, pool.
#[unsafe(no_mangle)]
pub extern "C" fn cuPointerGetAttribute(
    out: Out<c_void>,
    attribute: c_uint,
    address: CUdeviceptr,
) -> Status {
    call("cuPointerGetAttribute", |d| {
        out.required()?;
        match d.memory.find(address) {
            Some(a) => pointer_attribute(d, out, attribute, address, &a),
            None => Status::INVALID_VALUE.because(d.memory.describe(address, 1)),
        }
    })
}

/// As `cuPointerGetAttribute` for several; what an address of no allocation lacks is 0.
#[unsafe(no_mangle)]
pub extern "C" fn cuPointerGetAttributes(
    count: c_uint,
    attributes: In<c_uint>,
    outs: In<usize>,
    address: CUdeviceptr,
) -> Status {
    call("cuPointerGetAttributes", |d| {
        let count = count as usize;
        for (attribute, out) in attributes.list(count)?.into_iter().zip(outs.list(count)?) {
            // SAFETY: an array of pointers to results, by the interface's contract.
            let out = unsafe { Out::<c_void>::from_address(out) };
            out.required()?;
            match d.memory.find(address) {
                Some(a) => pointer_attribute(d, out, attribute, address, &a)?,
                None if matches!(attribute, 1 | 3 | 4 | 11 | 12 | 17) => {
                    out.cast::<u64>().set(0)?
                }
                None => out.cast::<c_uint>().set(0)?,
            }
        }
        Ok(())
    })
}

fn pointer_attribute(
    d: &Driver,
    out: Out<c_void>,
    attribute: c_uint,
    address: u64,
    a: &Allocation,
) -> Result {
    let is_host = a.home == Home::Host;
    let owner = d.owners.get(&a.address);
    match attribute {
        1 => out.cast::<CUcontext>().set(owner.map_or(0, |o| o.context)),
        2 => out.cast::<c_uint>().set(if is_host { 1 } else { 2 }),
        3 => out.cast::<u64>().set(address),
        4 if is_host => out.cast::<u64>().set(address),
        7 => out.cast::<u64>().set(a.id),
        8 => out.cast::<c_uint>().set(0),
        9 => out.cast::<c_int>().set(0),
        11 => out.cast::<u64>().set(a.address),
        12 => out.cast::<u64>().set(a.bytes),
        13 => out.cast::<c_uint>().set(1),
        17 => out.cast::<CUmemoryPool>().set(owner.and_then(|o| o.pool).unwrap_or(0)),
        _ => {
            Status::INVALID_VALUE.because(format!("attribute {attribute} of {a} is not simulated"))
        }
    }
}
