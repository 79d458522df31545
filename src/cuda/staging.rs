//! Copies between host and device by way of page-locked memory.
//!
//! A device reads and writes page-locked memory by itself, at the rate of its bus, while the host goes on. A
//! copy of other memory is staged by the driver, piece by piece, and the host waits for it. Here bytes go from
//! where they lie, a mapped file of weights say, straight into a ring of slots; the host waits only where all
//! slots are still being copied. Results arrive in a buffer of their own, after the one wait that they need.

use std::sync::{Arc, Mutex, MutexGuard};

use cudarc::driver::{result, sys};

use super::driver::Driver;
use super::event::{Events, Mark};
use crate::error::Result;

/// Bytes of a slot: 80 µs at 25 GB/s, many times what it takes to ask for the copy.
const SLOT: usize = 2 << 20;
/// Slots: one being filled while others are copied.
const SLOTS: usize = 4;
/// Bytes of a result that arrive at once: the pixels of a megapixel.
const RESULT: usize = 4 << 20;
/// Pieces within a slot begin at a multiple: a cache line.
const LINE: usize = 64;

/// The page-locked memory of one device's copies.
pub(super) struct Staging {
    driver: Arc<Driver>,
    events: Arc<Events>,
    ring: Mutex<Ring>,
    result: Mutex<Locked>,
}

struct Ring {
    memory: Locked, // [SLOTS, SLOT]
    /// The slot being filled, and how far it is.
    slot: usize,
    filled: usize,
    /// The end of each slot's copies, and whether it is still to come.
    copied: [Mark; SLOTS],
    under_way: [bool; SLOTS],
}

impl Staging {
    pub fn new(driver: &Arc<Driver>, events: &Arc<Events>) -> Result<Self> {
        let copied = [events.take()?, events.take()?, events.take()?, events.take()?];
        let memory = Locked::new(driver, SLOTS * SLOT)?;
        let ring = Ring { memory, slot: 0, filled: 0, copied, under_way: [false; SLOTS] };
        Ok(Staging {
            driver: driver.clone(),
            events: events.clone(),
            ring: Mutex::new(ring),
            result: Mutex::new(Locked::new(driver, RESULT)?),
        })
    }

    /// Queues a copy to the device; `bytes` are free when this returns.
    ///
    /// # Safety
    /// `to` is the address of as many bytes of device memory.
    pub unsafe fn write(&self, mut to: sys::CUdeviceptr, mut bytes: &[u8]) -> Result<()> {
        self.driver.bind()?;
        let mut ring = locked(&self.ring);
        while !bytes.is_empty() {
            if ring.filled == SLOT {
                self.next_slot(&mut ring)?;
            }
            let (piece, rest) = bytes.split_at(bytes.len().min(SLOT - ring.filled));
            let at = ring.slot * SLOT + ring.filled;
            // SAFETY: nothing is copied from this part of the slot yet.
            let staged = unsafe { ring.memory.part(at, piece.len()) };
            staged.copy_from_slice(piece);
            // SAFETY: the caller's; the slot is filled anew only after this copy.
            unsafe { result::memcpy_htod_async(to, staged, self.driver.stream.cu_stream()) }
                .map_err(|e| {
                    let what = format!("copying {} bytes to the device", piece.len());
                    self.driver.failed(&what, e)
                })?;
            ring.filled = (ring.filled + piece.len()).next_multiple_of(LINE);
            (to, bytes) = (to + piece.len() as u64, rest);
        }
        Ok(())
    }

    /// Leaves a slot, and waits until the next one has been copied.
    fn next_slot(&self, ring: &mut Ring) -> Result<()> {
        self.events.record(&ring.copied[ring.slot])?;
        ring.under_way[ring.slot] = true;
        let next = (ring.slot + 1) % SLOTS;
        if ring.under_way[next] {
            self.events.wait(&ring.copied[next])?;
            ring.under_way[next] = false;
        }
        (ring.slot, ring.filled) = (next, 0);
        Ok(())
    }

    /// Copies from the device, after all that was queued before.
    ///
    /// # Safety
    /// `from` is the address of as many bytes of device memory.
    pub unsafe fn read(&self, from: sys::CUdeviceptr, bytes: &mut [u8]) -> Result<()> {
        self.driver.bind()?;
        let mut memory = locked(&self.result);
        let stream = &self.driver.stream;
        for (i, piece) in bytes.chunks_mut(RESULT).enumerate() {
            let what = || {
                format!(
                    "copying {} bytes from the device, after what was queued before",
                    piece.len()
                )
            };
            // SAFETY: no other copy is under way; this one has ended before its bytes are used.
            let copied = unsafe { memory.part(0, piece.len()) };
            // SAFETY: the caller's.
            unsafe {
                result::memcpy_dtoh_async(copied, from + (i * RESULT) as u64, stream.cu_stream())
            }
            .and_then(|()| stream.synchronize())
            .map_err(|e| self.driver.failed(&what(), e))?;
            piece.copy_from_slice(copied);
        }
        Ok(())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// Page-locked memory of the host.
struct Locked {
    driver: Arc<Driver>,
    start: *mut u8,
    bytes: usize,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for Locked {}

impl Locked {
    fn new(driver: &Arc<Driver>, bytes: usize) -> Result<Self> {
        driver.bind()?;
        // SAFETY: used as far as the size asked for.
        let start = unsafe { result::malloc_host(bytes, 0) };
        let what = || format!("page-locking {} MiB of the host's memory", bytes >> 20);
        let start = start.map_err(|e| driver.failed(&what(), e))?;
        Ok(Locked { driver: driver.clone(), start: start.cast(), bytes })
    }

    /// Some of it.
    ///
    /// # Safety
    /// No copy of the device uses it, but for those that the caller waits for.
    unsafe fn part(&mut self, at: usize, bytes: usize) -> &mut [u8] {
        assert!(at + bytes <= self.bytes);
        // SAFETY: within the allocation, which any byte may be written to; the rest is the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), bytes) }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // A copy may still be under way. An error has no one to go to.
        if self.driver.bind().is_ok() && self.driver.stream.synchronize().is_ok() {
            // SAFETY: allocated by `new`, and no longer in use.
            let _ = unsafe { result::free_host(self.start.cast()) };
        }
    }
}
