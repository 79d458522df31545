//! Device memory: a stack of buffers in a few large chunks.
//!
//! A buffer is taken from the top; the top falls when the topmost buffers are dropped. So an image's
//! buffers, allocated in the same order as the last image's, lie at the same addresses, and a recorded
//! decode loop fits again (see `graph.rs`).

use std::sync::{Arc, Mutex, MutexGuard};

use cudarc::driver::{result, sys};

use super::driver::Driver;
use crate::error::Result;

/// Every buffer begins at a multiple: wide loads need 16 bytes, sectors 32, cache lines 128.
const ALIGN: usize = 256;
/// Smallest chunk: the demonstration model fits in two or three.
const CHUNK: usize = 32 << 20;

/// The memory of one device.
pub(super) struct Arena {
    driver: Arc<Driver>,
    chunks: Mutex<Vec<Chunk>>,
}

struct Chunk {
    base: sys::CUdeviceptr,
    bytes: usize,
    top: usize,
    /// Begin of each buffer, lowest first, and whether it is still alive.
    buffers: Vec<(usize, bool)>,
}

/// Device memory, zeroed when allocated; given back when dropped.
pub struct Buffer {
    arena: Arc<Arena>,
    address: sys::CUdeviceptr,
    bytes: usize,
}

impl Buffer {
    /// Its address on the device.
    pub(super) fn address(&self) -> sys::CUdeviceptr {
        self.address
    }

    /// Its size.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Arena {
    pub fn new(driver: Arc<Driver>) -> Arc<Self> {
        Arc::new(Arena { driver, chunks: Mutex::default() })
    }

    /// Memory of `bytes` bytes, all zero once the stream comes to them.
    pub fn alloc(self: &Arc<Self>, bytes: usize) -> Result<Buffer> {
        let address = self.take(bytes.max(1).next_multiple_of(ALIGN))?;
        // SAFETY: the range was just taken.
        let cleared =
            unsafe { result::memset_d8_async(address, 0, bytes, self.driver.stream.cu_stream()) };
        cleared.map_err(|e| self.driver.failed(&format!("clearing {bytes} bytes"), e))?;
        Ok(Buffer { arena: self.clone(), address, bytes })
    }

    /// Bytes of the device's memory and of the chunks that nothing takes up; 0 where the driver does not say.
    pub fn free(&self) -> usize {
        let free = self.driver.bind().ok().and_then(|()| result::mem_get_info().ok());
        let (free, _) = free.unwrap_or_default();
        free + self.chunks().iter().map(|chunk| chunk.bytes - chunk.top).sum::<usize>()
    }

    fn take(&self, bytes: usize) -> Result<sys::CUdeviceptr> {
        self.driver.bind()?;
        let mut chunks = self.chunks();
        let fits = |chunk: &Chunk| chunk.bytes - chunk.top >= bytes;
        // Never back into a chunk before one in use: the order of buffers must repeat.
        let last = chunks.iter().rposition(|chunk| chunk.top > 0).unwrap_or(0);
        let index = match (last..chunks.len()).find(|&i| fits(&chunks[i])) {
            Some(index) => index,
            None => {
                let size = bytes.next_multiple_of(CHUNK);
                // SAFETY: the address is used as far as the size asked for.
                let base = unsafe { result::malloc_sync(size) };
                let what = || format!("allocating {} MiB of device memory", size >> 20);
                let base = base.map_err(|e| self.driver.failed(&what(), e))?;
                chunks.push(Chunk { base, bytes: size, top: 0, buffers: Vec::new() });
                chunks.len() - 1
            }
        };
        let chunk = &mut chunks[index];
        let at = chunk.top;
        chunk.buffers.push((at, true));
        chunk.top += bytes;
        Ok(chunk.base + at as u64)
    }

    fn give_back(&self, address: sys::CUdeviceptr) {
        let mut chunks = self.chunks();
        let inside =
            |chunk: &&mut Chunk| (chunk.base..chunk.base + chunk.bytes as u64).contains(&address);
        let Some(chunk) = chunks.iter_mut().find(inside) else { return };
        let at = (address - chunk.base) as usize;
        if let Ok(index) = chunk.buffers.binary_search_by_key(&at, |&(at, _)| at) {
            chunk.buffers[index].1 = false;
        }
        while let Some(&(at, false)) = chunk.buffers.last() {
            chunk.buffers.pop();
            chunk.top = at;
        }
    }

    fn chunks(&self) -> MutexGuard<'_, Vec<Chunk>> {
        self.chunks.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.arena.give_back(self.address);
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if self.driver.bind().is_ok() {
            for chunk in self.chunks().drain(..) {
                // SAFETY: no buffer is left: each holds the arena. Freeing waits for the device; an error
                // then has no one to go to.
                let _ = unsafe { result::free_sync(chunk.base) };
            }
        }
    }
}
