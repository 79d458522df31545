//! Counts while blocks run: per instruction how often and with how many lanes, and what only addresses
//! tell. Classes and shapes are added up from that when the launch is over.

use std::collections::HashMap;

use super::access::{Deed, LOCAL_WINDOW, SHARED_WINDOW, Space, WINDOW, addresses};
use super::banks;
use super::class::Touch;
use super::counters::{Banked, Detail, Executed, Global, Requests, Shared, Tensor};
use super::lanes::{LANES, Lanes, each, load};
use super::op::{Ctx, Op};
use super::sectors::Sectors;
use super::{Kernel, Launch, Machine};
use crate::memory::Memory;
use crate::memory::l2::SECTOR;

/// What the blocks of one host thread did.
pub struct Tally {
    /// One per instruction.
    counts: Vec<Count>,
    shared: Shared,
    global: Global,
    local: Requests,
    sectors: Sectors,
    /// Operations of lanes per address.
    atomics: HashMap<u64, u64>,
}

#[derive(Clone, Copy)]
struct Count {
    executed: Executed,
    touch: Touch,
}

impl Tally {
    pub fn new(kernel: &Kernel, memory: &Memory) -> Self {
        let count = |touch| Count { executed: Executed::default(), touch };
        Self {
            counts: kernel.code.kinds.iter().map(|kind| count(kind.touch)).collect(),
            shared: Shared::default(),
            global: Global::default(),
            local: Requests::default(),
            sectors: Sectors::new(memory),
            atomics: HashMap::new(),
        }
    }

    /// A block begins; the number to resume it by.
    pub fn next_block(&mut self, launch: &Launch<'_>, index: [u32; 3]) -> u32 {
        let ([width, height, _], [x, y, z]) = (launch.grid.map(u64::from), index.map(u64::from));
        self.sectors.next_block((z * height + y) * width + x)
    }

    /// A block goes on.
    pub fn resume(&mut self, number: u32) {
        self.sectors.resume(number);
    }

    /// A warp is about to execute instruction `at` for the lanes of `mask`.
    #[inline(always)]
    pub fn note(&mut self, ctx: &Ctx<'_>, at: u32, op: &Op, mask: u32) {
        let count = &mut self.counts[at as usize];
        count.executed.warps += 1;
        count.executed.threads += u64::from(mask.count_ones());
        if count.touch != Touch::Nothing && mask != 0 {
            let touch = count.touch;
            self.touch(ctx, op, mask, touch);
        }
    }

    #[inline(never)]
    fn touch(&mut self, ctx: &Ctx<'_>, op: &Op, mask: u32, touch: Touch) {
        // SAFETY: the operation has an address.
        let at = unsafe { addresses(ctx, op) };
        let bytes = usize::from(op.access.bytes) * usize::from(op.access.count.max(1));
        match touch {
            Touch::Nothing => {}
            Touch::Matrix(count) => {
                let rows = u32::MAX >> (32 - 8 * u32::from(count));
                self.shared.matrices.note(banks::passes(&at, rows, 16));
            }
            Touch::Copy => self.copy(ctx, op, mask, &at),
            Touch::Load(space) => self.access(space, &at, mask, bytes, touch),
            Touch::Store(space) => self.access(space, &at, mask, bytes, touch),
            Touch::Atomic(space) => self.access(space, &at, mask, bytes.max(4), touch),
        }
    }

    /// Lanes of a generic address may point to several spaces.
    fn access(&mut self, space: Space, at: &Lanes<u64>, mask: u32, bytes: usize, touch: Touch) {
        match space {
            Space::Shared => self.in_shared(at, mask, bytes, touch),
            Space::Global => self.in_global(at, mask, bytes, touch),
            Space::Local => self.in_local(mask, bytes),
            Space::Generic => {
                let within = |start: u64| {
                    each(mask)
                        .filter(|&i| at[i].wrapping_sub(start) < WINDOW)
                        .fold(0, |bits, i| bits | 1 << i)
                };
                let (shared, local) = (within(SHARED_WINDOW), within(LOCAL_WINDOW));
                if shared != 0 {
                    self.in_shared(
                        &at.map(|a| a.wrapping_sub(SHARED_WINDOW)),
                        shared,
                        bytes,
                        touch,
                    );
                }
                if local != 0 {
                    self.in_local(local, bytes);
                }
                if mask & !(shared | local) != 0 {
                    self.in_global(at, mask & !(shared | local), bytes, touch);
                }
            }
        }
    }

    fn in_shared(&mut self, at: &Lanes<u64>, mask: u32, bytes: usize, touch: Touch) {
        match touch {
            Touch::Load(_) => self.shared.loads.note(banks::passes(at, mask, bytes)),
            Touch::Store(_) => self.shared.stores.note(banks::passes(at, mask, bytes)),
            _ => self.shared.atomics.note((banks::atomic_passes(at, mask), 1)),
        }
    }

    fn in_global(&mut self, at: &Lanes<u64>, mask: u32, bytes: usize, touch: Touch) {
        let deed = match touch {
            Touch::Load(_) => Deed::Read,
            Touch::Store(_) => Deed::Write(&[]),
            _ => Deed::Atomic,
        };
        let sectors = self.sectors.touch(at, mask, bytes as u64, deed);
        let requests = match deed {
            Deed::Read => &mut self.global.loads,
            Deed::Write(_) | Deed::Copy => &mut self.global.stores,
            Deed::Atomic => {
                let first = at[mask.trailing_zeros() as usize & 31];
                if each(mask).all(|i| at[i] == first) {
                    *self.atomics.entry(first).or_default() += u64::from(mask.count_ones());
                } else {
                    each(mask).for_each(|i| *self.atomics.entry(at[i]).or_default() += 1);
                }
                &mut self.global.atomics
            }
        };
        requests.note(sectors, u64::from(mask.count_ones()) * bytes as u64);
    }

    fn in_local(&mut self, mask: u32, bytes: usize) {
        let bytes = u64::from(mask.count_ones()) * bytes as u64;
        self.local.note(bytes.div_ceil(SECTOR), bytes);
    }

    /// `cp.async`: see `copy::CopyAsync` for its operands.
    fn copy(&mut self, ctx: &Ctx<'_>, op: &Op, mask: u32, to: &Lanes<u64>) {
        let width = usize::from(op.access.bytes);
        self.shared.copies.note(banks::passes(to, mask, width));
        // SAFETY: a 64-bit and a 32-bit register of this kernel.
        let (mut from, read) = unsafe {
            (load::<u64>(ctx.registers, op.sources[1]), load::<u32>(ctx.registers, op.sources[2]))
        };
        let displacement = i64::from(ctx.kernel.code.lists[op.list as usize][0] as i32);
        let (mut reading, mut bytes) = (0, 0);
        for lane in 0..LANES {
            from[lane] = from[lane].wrapping_add_signed(displacement);
            if mask >> lane & 1 == 1 && read[lane] > 0 {
                reading |= 1 << lane;
                bytes += u64::from(read[lane]).min(width as u64);
            }
        }
        if reading != 0 {
            let sectors = self.sectors.touch(&from, reading, width as u64, Deed::Read);
            self.global.copies.note(sectors, bytes);
        }
    }

    /// Takes in what another host thread's blocks did.
    pub fn merge(&mut self, other: Tally) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            mine.executed.add(&theirs.executed);
        }
        self.shared.add(&other.shared);
        self.global.add(&other.global);
        self.local.add(&other.local);
        self.sectors.merge(other.sectors);
        for (address, count) in other.atomics {
            *self.atomics.entry(address).or_default() += count;
        }
    }

    /// The counters of a launch whose blocks are all counted here, and which has not met L2 yet.
    pub fn detail(self, launch: &Launch<'_>, machine: &Machine, memory: &Memory) -> Detail {
        let blocks = launch.grid.iter().map(|&n| u64::from(n)).product();
        let threads = launch.threads();
        let mut detail = Detail {
            blocks,
            warps: blocks * u64::from(threads.div_ceil(LANES as u32)),
            threads: blocks * u64::from(threads),
            shared: self.shared,
            global: self.global,
            local: self.local,
            ..Detail::default()
        };
        for (kind, Count { executed, .. }) in launch.kernel.code.kinds.iter().zip(&self.counts) {
            if executed.warps == 0 {
                continue;
            }
            detail.classes.entry(kind.class).or_default().add(executed);
            // How often a warp looks while it waits is no property of the kernel.
            let times = if kind.polls { executed.warps.min(detail.warps) } else { executed.warps };
            detail.waits.round_trips += times as f64 * kind.wait.trips;
            detail.waits.clocks += executed.warps as f64 * kind.wait.clocks;
            if let Some(shape) = &kind.tensor {
                let name = format!("{} {} {}", shape.shape, shape.operands, shape.accumulator);
                let tensor = detail.tensor.entry(name).or_insert_with(|| Tensor {
                    operands: shape.operands.clone(),
                    accumulator: shape.accumulator.clone(),
                    ..Tensor::default()
                });
                tensor.instructions += executed.warps;
                tensor.macs += executed.warps * shape.macs;
            }
        }
        let global = &mut detail.global;
        global.block_reads = self.sectors.block_reads;
        (global.unique_reads, global.unique_writes) = self.sectors.unique();
        let mut l2 = memory.l2();
        l2.fit(machine.l2_bytes.into());
        let traffic = l2.replay(self.sectors.into_runs(), launch.resident);
        (global.dram_reads, global.dram_writes) = (traffic.reads, traffic.writes);
        (global.first_reads, global.first_writes) = (traffic.first_reads, traffic.first_writes);
        // Of equals, the lowest address: the order of a hash table means nothing.
        let most = self.atomics.iter().max_by_key(|&(&at, &count)| (count, std::cmp::Reverse(at)));
        if let Some((&address, &count)) = most {
            (global.most_contended, global.most_contended_address) = (count, Some(address));
        }
        detail
    }
}

impl Banked {
    fn note(&mut self, (passes, least): (u64, u64)) {
        self.requests += 1;
        self.wavefronts += passes;
        self.conflicts += passes - least;
    }
}

impl Requests {
    fn note(&mut self, sectors: u64, bytes: u64) {
        self.requests += 1;
        self.sectors += sectors;
        self.bytes += bytes;
    }
}
