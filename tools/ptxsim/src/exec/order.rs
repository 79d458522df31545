//! Which blocks of a launch are ordered, for races on global memory.
//!
//! Every 4 bytes have an entry in the memory's table of writers: which block wrote them last with a
//! plain store, in which of its *phases*, and which of the 4 bytes. A fence of device scope ends a phase
//! of the block: what was written in it is released. A block that afterwards performs an atomic or
//! strong (`.volatile`, `.relaxed`, `.acquire`) access of global memory is ordered after it. That the
//! two access the same word is not asked, so that some races go unseen, but no finding is false. Neither
//! is a read that ran before the write it races with: another seed, with another order of blocks,
//! shows it. Strong and atomic accesses themselves race with nothing.
//!
//! A launch with programmatic dependencies may start while those before it still run: what they wrote it
//! may not touch before it has executed `griddepcontrol.wait`.

use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};
use std::sync::{Mutex, MutexGuard};

use super::lanes::Operation;
use super::op::{Ctx, Op};
use crate::memory::Memory;

/// Bits of an entry that say which bytes were written; the number of the phase is above them.
const BYTES: u32 = 4;

/// Atomic accesses that a strong read counts as, where polls are counted.
const READ_POLLS: u64 = 16;

/// Phases of a launch beyond which writes are no longer noted.
const MOST_PHASES: u64 = 1 << 22;

/// What the blocks of a launch know of each other.
#[derive(Debug)]
pub struct Order {
    /// Number of the first phase, and of the first of launches that may still run when this one starts.
    first: u32,
    since: u32,
    /// Phases that there may be; 0 if nothing is noted.
    count: u32,
    /// Fences so far.
    fences: AtomicU64,
    phases: Mutex<Vec<Phase>>,
}

/// Between two fences of a block.
#[derive(Debug, Clone, Copy)]
struct Phase {
    block: [u32; 3],
    /// Which fence ended it, from 1.
    fence: Option<u64>,
}

/// Who wrote what an access races with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// A block of the same launch.
    Block([u32; 3]),
    /// A launch before it that may still run.
    Launch,
}

/// A running block, as others see it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Presence {
    /// What it writes to the table: the number of its phase, no bytes; 0 if nothing is noted.
    entry: u32,
    /// Of those that it may race with, the first phase, and how many there may be.
    since: u32,
    count: u32,
    /// Whether it wrote in this phase.
    wrote: bool,
    /// Fences before its last atomic or strong access.
    acquired: u64,
    /// Atomic accesses and strong reads of global memory so far, as a block that waits for others makes them.
    pub polls: u64,
    /// Accesses so far that changed global memory.
    pub changes: u64,
    block: [u32; 3],
}

impl Order {
    /// For a launch of so many blocks, which may overlap with those from the writer `since` on.
    pub fn new(memory: &Memory, blocks: u64, checks: bool, since: Option<u32>) -> Self {
        let count = if checks { (16 * blocks).min(MOST_PHASES) as u32 } else { 0 };
        let first = if count > 0 { memory.number_writers(count) } else { 0 };
        let since = since.map_or(first, |since| since.min(first));
        Self { first, since, count, fences: AtomicU64::new(0), phases: Mutex::default() }
    }

    /// A block begins.
    pub fn enter(&self, block: [u32; 3]) -> Presence {
        let count = self.first - self.since + self.count;
        let mut presence = Presence { block, since: self.since, count, ..Presence::default() };
        self.begin(&mut presence);
        presence
    }

    fn begin(&self, presence: &mut Presence) {
        let mut phases = self.phases();
        presence.entry = 0;
        presence.wrote = false;
        if (phases.len() as u64) < u64::from(self.count) {
            presence.entry = (self.first + phases.len() as u32) << BYTES;
            phases.push(Phase { block: presence.block, fence: None });
        }
    }

    /// A fence: what the block wrote so far is released.
    pub fn release(&self, presence: &mut Presence) {
        if presence.wrote && presence.entry != 0 {
            let fence = self.fences.fetch_add(1, Ordering::SeqCst) + 1;
            let index = (presence.entry >> BYTES) - self.first;
            self.phases()[index as usize].fence = Some(fence);
            self.begin(presence);
        }
    }

    /// An atomic access or a strong read has happened: what it saw was there before this is called.
    pub fn acquire(&self, presence: &mut Presence) {
        compiler_fence(Ordering::SeqCst);
        presence.acquired = self.fences.load(Ordering::SeqCst);
        presence.polls += 1;
    }

    /// A strong read of global memory has happened, as most are made by who waits.
    pub fn poll(&self, presence: &mut Presence) {
        self.acquire(presence);
        presence.polls += READ_POLLS - 1;
    }

    /// The launches before have ended.
    fn wait(&self, presence: &mut Presence) {
        (presence.since, presence.count) = (self.first, self.count);
    }

    /// Whether an entry may be of another block, of this launch or one that may still run.
    #[inline(always)]
    pub fn is_suspect(&self, presence: &Presence, entry: u32) -> bool {
        let phase = entry >> BYTES;
        (phase.wrapping_sub(presence.since) < presence.count) & (phase != presence.entry >> BYTES)
    }

    /// Whether no entry may be of such a block.
    #[inline(always)]
    pub fn is_clear(&self, presence: &Presence, entries: &[u32]) -> bool {
        let mut suspect = false;
        for &entry in entries {
            suspect |= self.is_suspect(presence, entry);
        }
        !suspect
    }

    /// Notes plain writes of whole words.
    #[inline(always)]
    pub fn write_words(&self, presence: &mut Presence, entries: &mut [u32]) {
        if presence.entry != 0 {
            presence.wrote = true;
            entries.fill(presence.entry | 0xF);
        }
    }

    /// Who wrote some of the bytes, if nothing orders it before this block.
    #[cold]
    fn conflict(&self, presence: &Presence, entry: u32, bytes: u32) -> Option<Writer> {
        let Some(index) = (entry >> BYTES).checked_sub(self.first) else {
            return (entry & bytes != 0).then_some(Writer::Launch);
        };
        let phase = self.phases()[index as usize];
        let ordered = phase.fence.is_some_and(|fence| fence <= presence.acquired);
        let other = phase.block != presence.block && entry & bytes != 0;
        (other && !ordered).then_some(Writer::Block(phase.block))
    }

    /// Whom a plain read of `bytes` from `address` races with.
    ///
    /// # Safety
    /// The bytes are in the memory's range.
    #[inline(always)]
    pub unsafe fn read(
        &self,
        presence: &Presence,
        memory: &Memory,
        address: u64,
        bytes: usize,
    ) -> Option<Writer> {
        // SAFETY: the caller's.
        let table = unsafe { memory.writer(address) };
        let words = (address as usize % 4 + bytes).div_ceil(4);
        for word in 0..words {
            // SAFETY: an entry for each word of the range.
            let entry = unsafe { table.add(word).read() };
            if self.is_suspect(presence, entry) {
                let mask = mask_of(address, bytes, word);
                if let Some(writer) = self.conflict(presence, entry, mask) {
                    return Some(writer);
                }
            }
        }
        None
    }

    /// Notes a plain write of `value`; whom it races with, unless it changes nothing.
    ///
    /// # Safety
    /// As [`Order::read`].
    #[inline(always)]
    pub unsafe fn write(
        &self,
        presence: &mut Presence,
        memory: &Memory,
        address: u64,
        value: &[u8],
    ) -> Option<Writer> {
        if presence.entry == 0 {
            return None;
        }
        presence.wrote = true;
        // SAFETY: the caller's.
        let table = unsafe { memory.writer(address) };
        let words = (address as usize % 4 + value.len()).div_ceil(4);
        let mut found = None;
        for word in 0..words {
            let mask = mask_of(address, value.len(), word);
            // SAFETY: an entry for each word of the range.
            unsafe {
                let at = table.add(word);
                let entry = at.read();
                if self.is_suspect(presence, entry)
                    && let Some(writer) = self.conflict(presence, entry, mask)
                    && std::slice::from_raw_parts(memory.data(address), value.len()) != value
                {
                    found = Some(writer);
                }
                let own = entry >> BYTES == presence.entry >> BYTES;
                at.write(if own { entry | mask } else { presence.entry | mask });
            }
        }
        found
    }

    /// Forgets who wrote the bytes: a strong write races with nothing.
    ///
    /// # Safety
    /// As [`Order::read`].
    pub unsafe fn forget(&self, memory: &Memory, address: u64, bytes: usize) {
        let words = (address as usize % 4 + bytes).div_ceil(4);
        // SAFETY: the caller's.
        unsafe { memory.writer(address).write_bytes(0, words) };
    }

    fn phases(&self) -> MutexGuard<'_, Vec<Phase>> {
        self.phases.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Which bytes of the `word`th word an access touches.
#[inline(always)]
fn mask_of(address: u64, bytes: usize, word: usize) -> u32 {
    let start = address as usize % 4;
    let first = start.max(4 * word) - 4 * word;
    let last = (start + bytes).min(4 * word + 4) - 4 * word;
    (1 << last) - (1 << first)
}

/// `fence` and `membar` of device or system scope.
pub struct Fence;

impl Operation for Fence {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, _: &Op, _: u32) {
        ctx.order.release(ctx.presence);
    }
}

/// `griddepcontrol.wait`, by any thread of the block.
pub struct Wait;

impl Operation for Wait {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, _: &Op, _: u32) {
        ctx.order.wait(ctx.presence);
    }
}
