//! What a launch did, in numbers. All are sums over its warps unless said otherwise, and sums over
//! launches once added up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use super::class::Class;
use crate::memory::l2::SECTOR;

/// Instructions always; all else with [`super::Machine::counters`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counters {
    pub warp_instructions: u64,
    pub thread_instructions: u64,
    pub detail: Option<Box<Detail>>,
}

impl Counters {
    pub(super) fn add(&mut self, other: &Counters) {
        self.warp_instructions += other.warp_instructions;
        self.thread_instructions += other.thread_instructions;
    }
}

/// See the module; addresses of most contention apart, nothing depends on the host's threads, unless blocks
/// wait for each other: how often one looks is the schedule's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    pub blocks: u64,
    pub warps: u64,
    pub threads: u64,
    pub classes: BTreeMap<Class, Executed>,
    /// By shape, type of A and type of the accumulator: `m16n8k16 bf16 f32`.
    pub tensor: BTreeMap<String, Tensor>,
    pub shared: Shared,
    pub global: Global,
    /// Local memory, as if lanes lay side by side.
    pub local: Requests,
    pub waits: Waits,
}

/// Executions of instructions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    pub warps: u64,
    /// Lanes that took part, those that a guard kept back left out; of a branch, all that came to it.
    pub threads: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tensor {
    pub instructions: u64,
    /// Multiply-adds.
    pub macs: u64,
    pub operands: String,
    pub accumulator: String,
}

/// Requests of one kind to shared memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Banked {
    pub requests: u64,
    /// Passes over the banks.
    pub wavefronts: u64,
    /// Passes that would not be needed if no two words lay in one bank.
    pub conflicts: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    pub loads: Banked,
    pub stores: Banked,
    /// `ldmatrix` and `stmatrix`.
    pub matrices: Banked,
    /// What `cp.async` writes.
    pub copies: Banked,
    pub atomics: Banked,
}

/// Requests to global memory: one per instruction that a warp executes for any lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    pub requests: u64,
    /// Sectors of 32 bytes, each once per request.
    pub sectors: u64,
    /// Bytes that lanes asked for.
    pub bytes: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Global {
    pub loads: Requests,
    pub stores: Requests,
    pub atomics: Requests,
    /// What `cp.async` reads.
    pub copies: Requests,
    /// Distinct sectors that a launch reads, and writes.
    pub unique_reads: u64,
    pub unique_writes: u64,
    /// Sectors that L2 reads from DRAM, and writes back there, during the launch: it begins with what earlier
    /// ones left, and keeps what this one writes. See `memory::l2`.
    pub dram_reads: u64,
    pub dram_writes: u64,
    /// Sectors that no launch of the run touched before and this one reads; that none wrote before and this
    /// one writes: compulsory traffic, under an L2 that keeps everything.
    pub first_reads: u64,
    pub first_writes: u64,
    /// Distinct sectors that each block reads: what L2 serves if L1 keeps all of them for the block.
    pub block_reads: u64,
    /// Operations of lanes on the address that atomics meet at most, the largest of any launch.
    pub most_contended: u64,
    pub most_contended_address: Option<u64>,
}

/// What warps wait for, by the chains of results in the text; see `exec::latency`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Waits {
    /// Round trips to global memory, one after the other.
    pub round_trips: f64,
    /// Clocks besides.
    pub clocks: f64,
}

impl Detail {
    pub fn executed(&self) -> Executed {
        let mut sum = Executed::default();
        self.classes.values().for_each(|class| sum.add(class));
        sum
    }

    /// Of a class.
    pub fn class(&self, class: Class) -> Executed {
        self.classes.get(&class).copied().unwrap_or_default()
    }

    /// Lanes that take part in an instruction, of 32, on average.
    pub fn active_lanes(&self) -> f64 {
        let Executed { warps, threads } = self.executed();
        if warps == 0 { 0.0 } else { threads as f64 / warps as f64 }
    }

    pub fn add(&mut self, other: &Detail) {
        self.blocks += other.blocks;
        self.warps += other.warps;
        self.threads += other.threads;
        for (class, executed) in &other.classes {
            self.classes.entry(*class).or_default().add(executed);
        }
        for (shape, theirs) in &other.tensor {
            let mine = self.tensor.entry(shape.clone()).or_insert_with(|| Tensor {
                instructions: 0,
                macs: 0,
                ..theirs.clone()
            });
            mine.instructions += theirs.instructions;
            mine.macs += theirs.macs;
        }
        self.shared.add(&other.shared);
        self.global.add(&other.global);
        self.local.add(&other.local);
        self.waits.round_trips += other.waits.round_trips;
        self.waits.clocks += other.waits.clocks;
    }
}

impl Executed {
    pub(super) fn add(&mut self, other: &Executed) {
        self.warps += other.warps;
        self.threads += other.threads;
    }
}

impl Banked {
    fn add(&mut self, other: &Banked) {
        self.requests += other.requests;
        self.wavefronts += other.wavefronts;
        self.conflicts += other.conflicts;
    }
}

impl Shared {
    /// Over all kinds of requests.
    pub fn total(&self) -> Banked {
        let mut sum = Banked::default();
        [&self.loads, &self.stores, &self.matrices, &self.copies, &self.atomics]
            .into_iter()
            .for_each(|kind| sum.add(kind));
        sum
    }

    pub(super) fn add(&mut self, other: &Shared) {
        self.loads.add(&other.loads);
        self.stores.add(&other.stores);
        self.matrices.add(&other.matrices);
        self.copies.add(&other.copies);
        self.atomics.add(&other.atomics);
    }
}

impl Requests {
    pub(super) fn add(&mut self, other: &Requests) {
        self.requests += other.requests;
        self.sectors += other.sectors;
        self.bytes += other.bytes;
    }

    /// Of a request, on average.
    pub fn sectors_per_request(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.sectors as f64 / self.requests as f64 }
    }
}

impl Global {
    /// Bytes that L2 serves if each block fetches a sector once; stores and atomics always go there.
    pub fn l2_bytes(&self) -> u64 {
        SECTOR * (self.block_reads + self.stores.sectors + self.atomics.sectors)
    }

    /// Bytes that cross to and from DRAM.
    pub fn dram_bytes(&self) -> u64 {
        SECTOR * (self.dram_reads + self.dram_writes)
    }

    pub(super) fn add(&mut self, other: &Global) {
        self.loads.add(&other.loads);
        self.stores.add(&other.stores);
        self.atomics.add(&other.atomics);
        self.copies.add(&other.copies);
        self.unique_reads += other.unique_reads;
        self.unique_writes += other.unique_writes;
        self.dram_reads += other.dram_reads;
        self.dram_writes += other.dram_writes;
        self.first_reads += other.first_reads;
        self.first_writes += other.first_writes;
        self.block_reads += other.block_reads;
        if other.most_contended > self.most_contended {
            self.most_contended = other.most_contended;
            self.most_contended_address = other.most_contended_address;
        }
    }
}
