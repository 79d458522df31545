//! Device memory: one reserved address range with a shadow that knows, per byte, what may be read.
//!
//! A device address is the host address of its byte, so that the executor reads and writes it directly
//! after one look at the shadow. The range is reserved without storage (`memmap2`, no swap reserved);
//! pages appear when touched. Every allocation has red zones on both sides; freed ranges are kept back
//! for a while before they are used again, so that late accesses are seen.
//!
//! Two tables lie beside the data, as lazily stored as it: a state per byte and, per 4 bytes, who wrote
//! them last in the running launch. Pinned host memory comes from the same range, since kernels may
//! address it. Between it and the multiprocessors is [`l2`], which only counters need.

mod allocator;
pub mod l2;

use std::borrow::Cow;
use std::sync::{Mutex, MutexGuard};

use memmap2::{MmapOptions, MmapRaw, UncheckedAdvice};

pub use allocator::{Allocation, FreeError, Home};
use allocator::{Allocator, PAGE};
use l2::L2;

/// State of a byte: what the executor's check compares, for all lanes at once.
pub const UNADDRESSABLE: u8 = 0;
pub const UNINITIALISED: u8 = 1;
pub const INITIALISED: u8 = 3;

/// Device memory. Bookkeeping is behind a lock; the bytes, states and writers are raw memory that blocks
/// on several threads touch without one, as on a GPU: ordering them is the program's business, and
/// noticing that it did not is the executor's.
#[derive(Debug)]
pub struct Memory {
    data: MmapRaw,
    states: MmapRaw,
    writers: MmapRaw,
    /// Address of the first byte: `data`'s, kept here so that checks need no indirection.
    base: u64,
    len: u64,
    capacity: u64,
    allocator: Mutex<Allocator>,
    l2: Mutex<L2>,
    /// The next number for a writer.
    next_writer: Mutex<u32>,
}

/// Why memory cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    #[error("out of memory: {wanted} bytes asked for, {free} of {capacity} free")]
    OutOfMemory { wanted: u64, free: u64, capacity: u64 },
    #[error("an allocation of 0 bytes; ask for at least 1")]
    Empty,
    #[error(
        "cannot reserve {bytes} bytes of address space: {cause}; lift `ulimit -v`, or simulate a \
         device with less memory"
    )]
    Reserve { bytes: u64, cause: String },
}

/// A range that a copy or memset by the host may not touch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {len} bytes inside one allocation, found {found}")]
pub struct BadRange {
    pub len: u64,
    pub found: String,
    /// The range lies in memory that was freed.
    pub freed: bool,
}

impl Memory {
    /// Memory of a device with `capacity` bytes. Address space of three times that is reserved, so that
    /// freed ranges can rest and pinned host memory has room; nothing is stored until it is touched.
    pub fn new(capacity: u64) -> Result<Self, MemoryError> {
        let capacity = capacity.next_multiple_of(PAGE).max(PAGE);
        let len = 3 * capacity + PAGE;
        let map = |bytes: u64| {
            MmapOptions::new()
                .len(bytes as usize)
                .no_reserve_swap()
                .map_anon()
                .map_err(|e| MemoryError::Reserve { bytes, cause: e.to_string() })
        };
        let l2 = Mutex::new(L2::new(map(L2::table_bytes(len))?));
        let map = |bytes| map(bytes).map(MmapRaw::from);
        let (data, states, writers) = (map(len)?, map(len)?, map(len)?);
        let base = data.as_ptr() as u64;
        let allocator = Mutex::new(Allocator::new(base..base + len, capacity));
        Ok(Self {
            data,
            states,
            writers,
            base,
            len,
            capacity,
            allocator,
            l2,
            next_writer: Mutex::new(1),
        })
    }

    /// First address of the range.
    #[inline]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Bytes of the range.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether `address..address + len` lies in the range: the condition under which `data`, `state` and
    /// `writer` may be followed. Says nothing of allocations; the states do.
    #[inline]
    pub fn contains(&self, address: u64, len: u64) -> bool {
        let offset = address.wrapping_sub(self.base);
        offset < self.len && len <= self.len - offset
    }

    /// The bytes from `address` on.
    ///
    /// # Safety
    /// `contains(address, n)` holds for the `n` bytes that the pointer is followed for. Other threads may
    /// access the same bytes; accesses that may collide are volatile or atomic.
    #[inline]
    pub unsafe fn data(&self, address: u64) -> *mut u8 {
        // SAFETY: in the mapping, by the caller's promise.
        unsafe { self.data.as_mut_ptr().add((address - self.base) as usize) }
    }

    /// Asks the host for the byte, its state and its writer, which will be wanted soon. Any address will do.
    #[inline(always)]
    pub fn prefetch(&self, address: u64) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let offset = address.wrapping_sub(self.base) as usize;
            for map in [&self.data, &self.states, &self.writers] {
                // SAFETY: it accesses nothing.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(map.as_ptr().wrapping_add(offset).cast()) };
            }
        }
    }

    /// The states from `address` on, a byte per byte.
    ///
    /// # Safety
    /// As for [`Memory::data`].
    #[inline]
    pub unsafe fn state(&self, address: u64) -> *mut u8 {
        // SAFETY: in the mapping, by the caller's promise; the states are as many as the bytes.
        unsafe { self.states.as_mut_ptr().add((address - self.base) as usize) }
    }

    /// The writers from the aligned 4 bytes that hold `address` on: for each 4 bytes, 28 bits of one of
    /// the executor's numbers and 4 bits of its own; 0 where nobody wrote since the memory was allocated.
    ///
    /// # Safety
    /// As for [`Memory::data`], for `n` bytes of data per `n / 4` writers.
    #[inline]
    pub unsafe fn writer(&self, address: u64) -> *mut u32 {
        let offset = (address - self.base) as usize & !3;
        // SAFETY: in the mapping, by the caller's promise; a writer is as wide as the bytes it stands for.
        unsafe { self.writers.as_mut_ptr().add(offset).cast() }
    }

    /// The number of the next writer.
    pub fn next_writer(&self) -> u32 {
        *self.next_writer.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Numbers for `count` writers, the first of them: none of them is in the table.
    pub fn number_writers(&self, count: u32) -> u32 {
        let mut next = self.next_writer.lock().unwrap_or_else(|e| e.into_inner());
        if *next + count > 1 << 28 {
            // SAFETY: entries of no use any more, all of an own mapping; they read as 0 from now on.
            unsafe { self.writers.unchecked_advise(UncheckedAdvice::DontNeed) }
                .expect("giving back pages of an own mapping");
            *next = 1;
        }
        *next += count;
        *next - count
    }

    /// Where an access lies in relation to the allocations, in words: "4 bytes past the end of allocation
    /// 3 (4096 bytes at 0x…, from cuMemAllocAsync)".
    pub fn describe(&self, address: u64, len: u64) -> String {
        self.book().describe(address, len)
    }

    /// Whether the byte belongs to an allocation that was freed and not used again since.
    pub fn is_freed(&self, address: u64) -> bool {
        self.book().is_freed(address)
    }

    /// Allocates uninitialised memory of the device. `origin` is the call it comes from, for messages.
    pub fn allocate(
        &self,
        bytes: u64,
        origin: impl Into<Cow<'static, str>>,
    ) -> Result<u64, MemoryError> {
        self.allocate_in(Home::Device, bytes, origin)
    }

    /// Allocates memory of the given home. Only what lies on the device counts against the capacity.
    /// Pinned host memory is initialised from the start: the host's writes to it cannot be seen.
    pub fn allocate_in(
        &self,
        home: Home,
        bytes: u64,
        origin: impl Into<Cow<'static, str>>,
    ) -> Result<u64, MemoryError> {
        let mut book = self.book();
        let address = book.allocate(home, bytes, origin.into())?;
        let state = if home == Home::Host { INITIALISED } else { UNINITIALISED };
        // SAFETY: the allocator hands out ranges inside the mapping.
        unsafe { self.state(address).write_bytes(state, bytes as usize) };
        Ok(address)
    }

    /// Closes an allocation: its address is kept, but nothing may access it until [`Memory::open`]. So
    /// stream-ordered allocations are before their turn, and a graph's between two launches.
    pub fn close(&self, address: u64) {
        let mut book = self.book();
        if let Some(bytes) = book.set_open(address, false).map(|a| a.bytes) {
            self.forget(address, bytes);
        }
    }

    /// Opens a closed allocation: its bytes are addressable and uninitialised.
    pub fn open(&self, address: u64) {
        let mut book = self.book();
        if let Some(bytes) = book.set_open(address, true).map(|a| a.bytes) {
            // SAFETY: an allocation is inside the mapping.
            unsafe { self.state(address).write_bytes(UNINITIALISED, bytes as usize) };
        }
    }

    /// Frees what `allocate` or `allocate_in` returned; `by` is the call, for messages. The range is
    /// unaddressable from now on, and its storage is given back.
    pub fn free(
        &self,
        home: Home,
        address: u64,
        by: impl Into<Cow<'static, str>>,
    ) -> Result<Allocation, FreeError> {
        let mut book = self.book();
        let allocation = book.free(home, address, by.into())?;
        self.forget(allocation.address, allocation.bytes);
        Ok(allocation)
    }

    /// The live allocation that holds a byte, open or not.
    pub fn find(&self, address: u64) -> Option<Allocation> {
        self.book().find(address).cloned()
    }

    /// Live allocations in order of address: at the end of a program, its leaks.
    pub fn live(&self) -> Vec<Allocation> {
        self.book().live().cloned().collect()
    }

    /// Free and total bytes of the device.
    pub fn info(&self) -> (u64, u64) {
        (self.capacity - self.book().used(), self.capacity)
    }

    /// Whether the host may copy from or to the range: inside one live allocation.
    pub fn check(&self, address: u64, len: u64) -> Result<(), BadRange> {
        let book = self.book();
        match book.find_open(address) {
            Some(a) if len <= a.address + a.bytes - address => Ok(()),
            _ => Err(BadRange {
                len,
                found: book.describe(address, len),
                freed: book.is_freed(address),
            }),
        }
    }

    /// Host to device: the bytes are initialised.
    pub fn write(&self, to: u64, from: &[u8]) -> Result<(), BadRange> {
        // SAFETY: a slice is readable for its length.
        unsafe { self.write_from(to, from.as_ptr(), from.len() as u64) }
    }

    /// Device to host. `Some(n)`: the `n`th byte is the first that was never written; all are copied.
    pub fn read(&self, from: u64, to: &mut [u8]) -> Result<Option<u64>, BadRange> {
        // SAFETY: a slice is writable for its length.
        unsafe { self.read_into(from, to.as_mut_ptr(), to.len() as u64) }
    }

    /// As [`Memory::write`].
    ///
    /// # Safety
    /// `from` is readable for `len` bytes.
    pub unsafe fn write_from(&self, to: u64, from: *const u8, len: u64) -> Result<(), BadRange> {
        self.check(to, len)?;
        // SAFETY: the destination was just checked. `copy`, since pinned memory may be the source.
        unsafe {
            std::ptr::copy(from, self.data(to), len as usize);
            self.state(to).write_bytes(INITIALISED, len as usize);
        }
        self.overwrite(to, len);
        Ok(())
    }

    /// As [`Memory::read`].
    ///
    /// # Safety
    /// `to` is writable for `len` bytes.
    pub unsafe fn read_into(
        &self,
        from: u64,
        to: *mut u8,
        len: u64,
    ) -> Result<Option<u64>, BadRange> {
        self.check(from, len)?;
        // SAFETY: the source was just checked.
        unsafe { std::ptr::copy(self.data(from), to, len as usize) };
        Ok(self.first_uninitialised(from, len))
    }

    /// Device to device, as if through a buffer in between: the states go along.
    pub fn copy(&self, from: u64, to: u64, len: u64) -> Result<(), BadRange> {
        self.check(from, len)?;
        self.check(to, len)?;
        // SAFETY: both were just checked.
        unsafe {
            std::ptr::copy(self.data(from), self.data(to), len as usize);
            std::ptr::copy(self.state(from), self.state(to), len as usize);
        }
        self.overwrite(to, len);
        Ok(())
    }

    /// Repeats a pattern `count` times.
    pub fn fill(&self, to: u64, pattern: &[u8], count: u64) -> Result<(), BadRange> {
        let bytes = count.saturating_mul(pattern.len() as u64);
        self.check(to, bytes)?;
        // SAFETY: just checked.
        unsafe {
            match pattern {
                [byte] => self.data(to).write_bytes(*byte, bytes as usize),
                _ => {
                    for at in (to..to + bytes).step_by(pattern.len()) {
                        self.data(at).copy_from_nonoverlapping(pattern.as_ptr(), pattern.len());
                    }
                }
            }
            self.state(to).write_bytes(INITIALISED, bytes as usize);
        }
        self.overwrite(to, bytes);
        Ok(())
    }

    /// What launches are counted by.
    pub fn l2(&self) -> MutexGuard<'_, L2> {
        self.l2.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn overwrite(&self, to: u64, bytes: u64) {
        let start = to - self.base;
        self.l2().overwrite(start, start + bytes);
    }

    fn first_uninitialised(&self, from: u64, len: u64) -> Option<u64> {
        // SAFETY: the caller checked the range; the driver runs no launch meanwhile.
        let states = unsafe { std::slice::from_raw_parts(self.state(from), len as usize) };
        states.iter().position(|&s| s != INITIALISED).map(|n| n as u64)
    }

    /// Clears states and writers of a freed range and gives its storage back, data included.
    fn forget(&self, address: u64, bytes: u64) {
        let start = address - self.base;
        let whole = start.next_multiple_of(PAGE)..(start + bytes) / PAGE * PAGE;
        // SAFETY: inside the mappings; anonymous pages read as 0 (`UNADDRESSABLE`) once given back. Data
        // of the partial pages at both ends may stay: nothing may read it.
        unsafe {
            if whole.is_empty() {
                self.state(address).write_bytes(UNADDRESSABLE, bytes as usize);
                self.forget_writers(address, bytes);
                return;
            }
            let head = whole.start - start;
            let tail = start + bytes - whole.end;
            self.state(address).write_bytes(UNADDRESSABLE, head as usize);
            self.forget_writers(address, head);
            self.state(self.base + whole.end).write_bytes(UNADDRESSABLE, tail as usize);
            self.forget_writers(self.base + whole.end, tail);
            for map in [&self.data, &self.states, &self.writers] {
                let (offset, len) = (whole.start as usize, (whole.end - whole.start) as usize);
                map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, len)
                    .expect("giving back pages of an own mapping");
            }
        }
    }

    /// # Safety
    /// The range is inside the mapping and starts at a multiple of 4.
    unsafe fn forget_writers(&self, address: u64, bytes: u64) {
        // SAFETY: the caller's promise; red zones follow every allocation, so rounding up stays inside.
        unsafe { self.writer(address).write_bytes(0, bytes.div_ceil(4) as usize) };
    }

    fn book(&self) -> MutexGuard<'_, Allocator> {
        self.allocator.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests;
