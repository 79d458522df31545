//! The modelled bound of a launch: not a time, and never to be printed as one.
//!
//! Time ≥ launch + the largest of the terms below, each as if it alone counted, by the public figures of
//! `device::rates`. Which kernel is slower than which, and why, can be trusted; the microseconds cannot:
//! instructions are PTX's and not machine code's, L1 keeps all that a block reads, nothing interferes.
//!
//! Work of blocks lies on the multiprocessor that has most of them: `⌈blocks / multiprocessors⌉`.
//!
//! | term | from |
//! |---|---|
//! | issue | warp-instructions without moves, four per clock and multiprocessor |
//! | pipe | the fullest of the units for f32, f64, half, integers, special functions, conversions, shuffles |
//! | tensor | multiply-adds of `mma.sync` by type |
//! | shared | passes over the banks, one per clock and multiprocessor |
//! | l2 | sectors that blocks read (each once per block), write and update |
//! | dram | sectors that L2, as earlier launches left it, reads from DRAM and writes back there |
//! | latency | chains of results of an average warp, times waves of blocks |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::device::{
    Device, Footprint, ISSUE_PER_CLOCK, REGISTERS_PER_THREAD, SHARED_PER_CLOCK, WARP,
};
use crate::exec::{Class, Detail};

/// What bounds a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Term {
    Issue,
    Pipe,
    Tensor,
    Shared,
    L2,
    Dram,
    Latency,
}

/// How a kernel was launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launched {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// Of a thread, as the PTX needs them.
    pub registers: u32,
    /// Static and dynamic, of a block.
    pub shared_bytes: u32,
}

/// How much of the device a launch fills.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Occupancy {
    /// Blocks that a multiprocessor holds at once; 0 if not even one fits.
    pub resident_blocks: u32,
    pub resident_warps: u32,
    /// Of the warps that a multiprocessor can hold.
    pub occupancy: f64,
    /// Times that the device is filled.
    pub waves: u64,
}

/// Modelled microseconds of one launch, or sums over launches.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// The largest term of each launch, and the launch itself.
    pub microseconds: f64,
    pub launch: f64,
    pub terms: BTreeMap<Term, f64>,
    /// Microseconds of the launches that each term binds, without the launch itself.
    pub binds: BTreeMap<Term, f64>,
    /// The unit that makes the term `pipe`, by microseconds.
    pub pipes: BTreeMap<Class, f64>,
    /// Bytes of global memory that the warps of a multiprocessor have asked for and not yet been given,
    /// on average while they wait; and how many the bandwidth of DRAM needs. Of several launches, the
    /// largest.
    pub bytes_in_flight: f64,
    pub bytes_in_flight_needed: f64,
}

impl Launched {
    pub fn occupancy(&self, device: &Device) -> Occupancy {
        let threads = self.block.iter().product::<u32>();
        let resident_blocks = device.resident_blocks(Footprint {
            threads,
            registers: self.registers.min(REGISTERS_PER_THREAD),
            shared_bytes: self.shared_bytes.into(),
        });
        let resident_warps = resident_blocks * threads.div_ceil(WARP);
        let blocks: u64 = self.grid.iter().map(|&n| u64::from(n)).product();
        Occupancy {
            resident_blocks,
            resident_warps,
            occupancy: f64::from(resident_warps * WARP)
                / f64::from(device.threads_per_multiprocessor),
            waves: blocks.div_ceil(u64::from(resident_blocks.max(1) * device.multiprocessors)),
        }
    }
}

impl Bound {
    /// The bound of one launch from its counters.
    pub fn of(device: &Device, launched: &Launched, detail: &Detail) -> Bound {
        let rates = &device.rates;
        let multiprocessors = u64::from(device.multiprocessors);
        // Of all work, what the fullest multiprocessor has.
        let blocks = detail.blocks.max(1);
        let share = blocks.div_ceil(multiprocessors) as f64 / blocks as f64;
        let microseconds = |clocks: f64| clocks / rates.clock_mhz;
        let issued = detail.executed().warps - detail.class(Class::Move).warps;
        let pipes: BTreeMap<Class, f64> = [
            (Class::F32, rates.f32_lanes),
            (Class::F64, rates.f64_lanes),
            (Class::Half, rates.half_lanes),
            (Class::Integer, rates.integer_lanes),
            (Class::Special, rates.special_lanes),
            (Class::Conversion, rates.conversion_lanes),
            (Class::Collective, rates.collective_lanes),
        ]
        .into_iter()
        .map(|(class, lanes)| (class, detail.class(class).warps as f64 * f64::from(WARP) / lanes))
        .map(|(class, clocks)| (class, microseconds(clocks * share)))
        .filter(|&(_, time)| time > 0.0)
        .collect();
        let tensor: f64 = detail
            .tensor
            .values()
            .map(|t| t.macs as f64 / rates.macs_per_clock(&t.operands, &t.accumulator))
            .sum();
        let occupancy = launched.occupancy(device);
        let warps = detail.warps.max(1) as f64;
        let trips = detail.waits.round_trips / warps;
        let chain = trips * round_trip(device, detail) + detail.waits.clocks / warps;
        let terms = BTreeMap::from([
            (Term::Issue, microseconds(issued as f64 * share / ISSUE_PER_CLOCK)),
            (Term::Pipe, pipes.values().copied().fold(0.0, f64::max)),
            (Term::Tensor, microseconds(tensor * share)),
            (
                Term::Shared,
                microseconds(detail.shared.total().wavefronts as f64 * share / SHARED_PER_CLOCK),
            ),
            (Term::L2, microseconds(detail.global.l2_bytes() as f64 / rates.l2_bytes_per_clock)),
            (Term::Dram, detail.global.dram_bytes() as f64 / (rates.dram_gb_per_second * 1e3)),
            (Term::Latency, microseconds(occupancy.waves as f64 * chain)),
        ]);
        let (&term, &largest) =
            terms.iter().max_by(|a, b| a.1.total_cmp(b.1)).expect("seven terms");
        // Warps that are there at once, and what each has asked for per round trip.
        let there = u64::from(occupancy.resident_blocks).min(blocks.div_ceil(multiprocessors));
        let warps_there = there as f64 * warps / blocks as f64;
        let asked = (detail.global.loads.bytes + detail.global.copies.bytes) as f64 / warps;
        let bytes_per_clock = rates.dram_gb_per_second * 1e3 / rates.clock_mhz;
        Bound {
            microseconds: largest + rates.launch_microseconds,
            launch: rates.launch_microseconds,
            binds: BTreeMap::from([(term, largest)]),
            terms,
            pipes,
            bytes_in_flight: if trips > 0.0 { warps_there * asked / trips } else { 0.0 },
            bytes_in_flight_needed: bytes_per_clock * rates.dram_clocks / multiprocessors as f64,
        }
    }

    /// The term that binds for the largest part of the time.
    pub fn binding(&self) -> Option<Term> {
        self.binds.iter().max_by(|a, b| a.1.total_cmp(b.1)).map(|(&term, _)| term)
    }

    /// The unit that is fullest.
    pub fn fullest_pipe(&self) -> Option<Class> {
        self.pipes.iter().max_by(|a, b| a.1.total_cmp(b.1)).map(|(&class, _)| class)
    }

    pub fn term(&self, term: Term) -> f64 {
        self.terms.get(&term).copied().unwrap_or_default()
    }

    /// Another launch, after this.
    pub fn add(&mut self, other: &Bound) {
        fn sum<K: Ord + Copy>(mine: &mut BTreeMap<K, f64>, theirs: &BTreeMap<K, f64>) {
            for (&key, value) in theirs {
                *mine.entry(key).or_default() += value;
            }
        }
        self.microseconds += other.microseconds;
        self.launch += other.launch;
        sum(&mut self.terms, &other.terms);
        sum(&mut self.binds, &other.binds);
        sum(&mut self.pipes, &other.pipes);
        self.bytes_in_flight = self.bytes_in_flight.max(other.bytes_in_flight);
        self.bytes_in_flight_needed = self.bytes_in_flight_needed.max(other.bytes_in_flight_needed);
    }
}

/// Clocks of a round trip: from DRAM for what L2 has not, from L2 for what the block reads first, else from
/// L1.
fn round_trip(device: &Device, detail: &Detail) -> f64 {
    let rates = &device.rates;
    let global = &detail.global;
    let asked = (global.loads.sectors + global.copies.sectors + global.atomics.sectors) as f64;
    if asked == 0.0 {
        return rates.l2_clocks;
    }
    let first = global.dram_reads as f64 / asked;
    let of_block = (global.block_reads + global.atomics.sectors) as f64 / asked;
    let near = (1.0 - of_block).max(0.0);
    let middle = (of_block.min(1.0) - first).max(0.0);
    first * rates.dram_clocks + middle * rates.l2_clocks + near * rates.l1_clocks
}
