//! Which addresses belong to what: pure bookkeeping, no memory is touched here.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::MemoryError;

/// Host page, the unit in which storage is given back.
pub(super) const PAGE: u64 = 4096;
/// Red zone after every allocation, and so before the next; CUDA's alignment as well.
const RED_ZONE: u64 = 256;
/// From this size on allocations are aligned to 512 bytes.
const BIG: u64 = 1 << 20;
/// Accesses farther than this from an allocation are not described as next to it.
const NEAR: u64 = 1 << 16;

/// Where an allocation lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Home {
    /// Memory of the device, freed by the program.
    Device,
    /// Pinned host memory that kernels may address.
    Host,
    /// A module's variable: on the device, freed with the module.
    Module,
}

/// A live or freed allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// Counts allocations from 1.
    pub id: u64,
    pub address: u64,
    pub bytes: u64,
    pub home: Home,
    /// The call it came from.
    pub origin: Cow<'static, str>,
}

impl std::fmt::Display for Allocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, address, bytes, origin, .. } = self;
        write!(f, "allocation {id} ({bytes} bytes at {address:#x}, from {origin})")
    }
}

/// Why an address cannot be freed. Each holds a sentence that says what the address is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FreeError {
    #[error("freed twice: {0}")]
    DoubleFree(String),
    #[error("expected the start of an allocation, found {0}")]
    NotStart(String),
    #[error("expected an allocation, found {0}")]
    Unknown(String),
    /// Device memory freed as host memory or the other way round.
    #[error("freed with the wrong call: {0}")]
    WrongHome(String),
}

#[derive(Debug)]
struct Block {
    allocation: Allocation,
    /// End of the addresses it occupies, red zone included.
    end: u64,
    /// False while a stream-ordered allocation waits for its turn, or after its graph's free node.
    open: bool,
    /// The call that freed it.
    freed_by: Option<Cow<'static, str>>,
}

/// First fit over the free ranges; freed blocks rest until half the capacity is in quarantine.
#[derive(Debug)]
pub(super) struct Allocator {
    /// Start to end; never adjacent.
    free: BTreeMap<u64, u64>,
    /// Live and resting blocks by address.
    blocks: BTreeMap<u64, Block>,
    /// Addresses of resting blocks, oldest first.
    quarantine: VecDeque<u64>,
    resting: u64,
    /// Bytes of live blocks on the device and on the host.
    used: u64,
    used_by_host: u64,
    capacity: u64,
    last_id: u64,
}

impl Allocator {
    /// The first red zone is taken off the range's start.
    pub fn new(range: Range<u64>, capacity: u64) -> Self {
        Self {
            free: BTreeMap::from([(range.start + RED_ZONE, range.end)]),
            blocks: BTreeMap::new(),
            quarantine: VecDeque::new(),
            resting: 0,
            used: 0,
            used_by_host: 0,
            capacity,
            last_id: 0,
        }
    }

    pub fn allocate(
        &mut self,
        home: Home,
        bytes: u64,
        origin: Cow<'static, str>,
    ) -> Result<u64, MemoryError> {
        if bytes == 0 {
            return Err(MemoryError::Empty);
        }
        let capacity = self.capacity;
        let used = if home == Home::Host { self.used_by_host } else { self.used };
        let out = MemoryError::OutOfMemory { wanted: bytes, free: capacity - used, capacity };
        if footprint(bytes).is_none_or(|f| f > capacity - used) {
            return Err(out);
        }
        let align = if bytes >= BIG { 512 } else { RED_ZONE };
        let whole = bytes.next_multiple_of(RED_ZONE) + RED_ZONE;
        let address = loop {
            match self.take(whole, align) {
                Some(address) => break address,
                None if self.release_oldest() => {}
                None => return Err(out),
            }
        };
        *self.used_in(home) += whole - RED_ZONE;
        self.last_id += 1;
        let allocation = Allocation { id: self.last_id, address, bytes, home, origin };
        self.blocks.insert(
            address,
            Block { allocation, end: address + whole, open: true, freed_by: None },
        );
        Ok(address)
    }

    pub fn free(
        &mut self,
        home: Home,
        address: u64,
        by: Cow<'static, str>,
    ) -> Result<Allocation, FreeError> {
        let Some(block) = self.blocks.get(&address) else {
            let what = self.describe(address, 1);
            return Err(match self.block_of(address) {
                Some(block) if block.freed_by.is_none() => FreeError::NotStart(what),
                _ => FreeError::Unknown(what),
            });
        };
        if let Some(first) = &block.freed_by {
            return Err(FreeError::DoubleFree(format!(
                "{} was already freed by {first}",
                block.allocation
            )));
        }
        if block.allocation.home != home {
            return Err(FreeError::WrongHome(format!("{} by {by}", block.allocation)));
        }
        let block = self.blocks.get_mut(&address).expect("just found");
        block.freed_by = Some(by);
        let allocation = block.allocation.clone();
        let occupied = block.end - address;
        *self.used_in(home) -= occupied - RED_ZONE;
        self.resting += occupied;
        self.quarantine.push_back(address);
        while self.resting > self.capacity / 2 && self.release_oldest() {}
        Ok(allocation)
    }

    /// Opens or closes a live allocation; none if the address is no start of one.
    pub fn set_open(&mut self, address: u64, open: bool) -> Option<&Allocation> {
        let block = self.blocks.get_mut(&address).filter(|b| b.freed_by.is_none())?;
        block.open = open;
        Some(&block.allocation)
    }

    /// The live and open allocation that holds the byte.
    pub fn find_open(&self, address: u64) -> Option<&Allocation> {
        self.block_of(address).filter(|b| b.open)?;
        self.find(address)
    }

    /// The live allocation that holds the byte.
    pub fn find(&self, address: u64) -> Option<&Allocation> {
        let block = self.block_of(address)?;
        block.freed_by.is_none().then_some(&block.allocation)
    }

    pub fn is_freed(&self, address: u64) -> bool {
        self.block_of(address).is_some_and(|b| b.freed_by.is_some())
    }

    pub fn live(&self) -> impl Iterator<Item = &Allocation> {
        self.blocks.values().filter(|b| b.freed_by.is_none()).map(|b| &b.allocation)
    }

    /// Bytes in use on the device.
    pub fn used(&self) -> u64 {
        self.used
    }

    pub fn describe(&self, address: u64, len: u64) -> String {
        if let Some(block) = self.block_of(address) {
            return block.describe_inside(address, len);
        }
        let before = self.blocks.range(..address).next_back().map(|(_, b)| &b.allocation);
        let after = self.blocks.range(address..).next().map(|(_, b)| &b.allocation);
        let past = before.map_or(u64::MAX, |a| address - (a.address + a.bytes));
        let short = after.map_or(u64::MAX, |a| a.address - address);
        match (before, after) {
            (Some(a), _) if past <= short && past <= NEAR => match past {
                0 => format!("{len} bytes right at the end of {a}"),
                _ => format!("{past} bytes past the end of {a}"),
            },
            (_, Some(a)) if short <= NEAR => format!("{short} bytes before {a}"),
            _ if address < PAGE => format!("{address:#x}, a null pointer or an offset from one"),
            _ => format!("{address:#x}, which is in or near no allocation"),
        }
    }

    /// The live or resting block that holds the byte.
    fn block_of(&self, address: u64) -> Option<&Block> {
        let (_, block) = self.blocks.range(..=address).next_back()?;
        (address < block.allocation.address + block.allocation.bytes).then_some(block)
    }

    fn used_in(&mut self, home: Home) -> &mut u64 {
        if home == Home::Host { &mut self.used_by_host } else { &mut self.used }
    }

    /// Cuts `bytes` off the first free range that holds them at the alignment.
    fn take(&mut self, bytes: u64, align: u64) -> Option<u64> {
        let (start, end, address) = self.free.iter().find_map(|(&start, &end)| {
            let address = start.next_multiple_of(align);
            (address + bytes <= end).then_some((start, end, address))
        })?;
        self.free.remove(&start);
        if start < address {
            self.free.insert(start, address);
        }
        if address + bytes < end {
            self.free.insert(address + bytes, end);
        }
        Some(address)
    }

    /// Makes the block that has rested longest usable again, joined with its free neighbours.
    fn release_oldest(&mut self) -> bool {
        let Some(address) = self.quarantine.pop_front() else { return false };
        let block = self.blocks.remove(&address).expect("resting blocks are kept");
        let (mut start, mut end) = (address, block.end);
        self.resting -= end - start;
        if let Some(next_end) = self.free.remove(&end) {
            end = next_end;
        }
        if let Some((&previous, &previous_end)) = self.free.range(..start).next_back()
            && previous_end == start
        {
            start = previous;
        }
        self.free.insert(start, end);
        true
    }
}

impl Block {
    fn describe_inside(&self, address: u64, len: u64) -> String {
        let a = &self.allocation;
        let offset = address - a.address;
        if let Some(by) = &self.freed_by {
            return format!("byte {offset} of freed {a}, freed by {by}");
        }
        if !self.open {
            return format!(
                "byte {offset} of {a}, whose stream-ordered allocation has not taken place or is undone"
            );
        }
        match (offset + len).checked_sub(a.bytes) {
            None | Some(0) => format!("byte {offset} of {a}"),
            Some(beyond) => {
                format!("{len} bytes at byte {offset}, {beyond} of them past the end of {a}")
            }
        }
    }
}

/// What an allocation counts against the capacity; none when it overflows.
fn footprint(bytes: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(RED_ZONE)
}

#[cfg(test)]
mod tests;
