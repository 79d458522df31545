//! The blocks of a launch: which of them are live, whose turn it is, and whether they come to an end.
//!
//! Blocks may wait for each other: at barriers of the grid, for a predecessor's flag, for a lock. So a
//! host thread has several live blocks. One that ends before it has polled global memory for long is never
//! interrupted, and the next has its storage; others take turns. Few are live at first; there may be twice
//! as many whenever each had a turn and none ended, up to those that the device holds at once. More than
//! that cannot wait for each other on a GPU either. Blocks start in an order that a seed decides, and go on
//! in that in which they stopped.
//!
//! A launch hangs, by `Machine::hang`, when no block has started, ended or changed a byte of global memory
//! while one block ran that many instructions, or while the blocks of one host thread ran that many and
//! did nothing but poll. Whoever writes without end hangs, too: after [`FOREVER`] times as many
//! instructions of a block while none started or ended.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::block::{Block, Common, Pause};
use super::count::Tally;
use super::schedule::Random;
use super::{Counters, Fault};

/// Instructions of a block that does not poll before another has a turn.
const SLICE: u64 = 1 << 24;
/// How much longer a launch may go on that changes memory but ends no block.
const FOREVER: u64 = 64;

/// What all blocks of a launch did.
#[derive(Default)]
pub struct Outcome {
    pub counters: Counters,
    pub fault: Option<Fault>,
    /// With the number of the block.
    pub printed: Vec<(u64, String)>,
    /// With `Machine::counters`.
    pub tally: Option<Tally>,
}

/// What the host threads of a launch share.
struct Grid<'a> {
    common: Common<'a>,
    blocks: u64,
    stride: u64,
    /// Blocks that have started.
    started: AtomicU64,
    live: AtomicU64,
    /// Blocks that may be live.
    room: AtomicU64,
    /// Turns since there is so much room, or a block ended.
    turns: AtomicU64,
    /// Starts and ends of blocks,
    steps: AtomicU64,
    /// turns that changed memory, with those steps,
    changes: AtomicU64,
    /// and with both, turns of blocks that did not poll.
    events: AtomicU64,
    /// A block has failed.
    failed: AtomicBool,
    outcome: Mutex<Outcome>,
}

/// A block that has not ended.
struct Live<'a> {
    block: Block<'a>,
    unchanged: Since,
    endless: Since,
}

/// Instructions since something was last counted.
#[derive(Default)]
struct Since {
    count: u64,
    instructions: u64,
}

impl Since {
    fn add(&mut self, count: &AtomicU64, instructions: u64) -> u64 {
        let count = count.load(Ordering::Relaxed);
        match count == self.count {
            true => self.instructions += instructions,
            false => *self = Since { count, instructions: 0 },
        }
        self.instructions
    }
}

/// Runs every block.
pub fn run(common: Common<'_>, blocks: u64) -> Outcome {
    let mut random = Random::new(common.machine.seed);
    // A stride that shares no factor with the number of blocks reaches all of them.
    let stride = loop {
        let stride = if common.machine.seed == 0 { 1 } else { random.next() % blocks + 1 };
        if gcd(stride, blocks) == 1 {
            break stride;
        }
    };
    let resident = common.launch.resident.min(blocks);
    let threads = (common.machine.threads as u64).min(resident).max(1);
    let count = || AtomicU64::new(0);
    let grid = Grid {
        common,
        blocks,
        stride,
        started: count(),
        live: count(),
        room: AtomicU64::new(threads),
        turns: count(),
        steps: count(),
        changes: count(),
        events: count(),
        failed: AtomicBool::new(false),
        outcome: Mutex::default(),
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| grid.work());
        }
        grid.work();
    });
    grid.outcome.into_inner().unwrap_or_else(|e| e.into_inner())
}

impl<'a> Grid<'a> {
    /// What one host thread does.
    fn work(&self) {
        let Common { machine, memory, kernel, .. } = self.common;
        let mut tally = machine.counters.then(|| Tally::new(kernel, memory));
        let mut waiting: VecDeque<Live<'a>> = VecDeque::new();
        let mut free: Vec<Block<'a>> = Vec::new();
        let mut polling = Since::default();
        while !self.failed.load(Ordering::Relaxed) {
            let mut one = match (self.next(), waiting.pop_front()) {
                (Some(index), first) => {
                    first.into_iter().for_each(|first| waiting.push_front(first));
                    let mut block = free.pop().unwrap_or_else(|| Block::new(self.common));
                    block.tally = tally.take();
                    block.begin(index);
                    Live { block, unchanged: Since::default(), endless: Since::default() }
                }
                (None, Some(mut one)) => {
                    one.block.tally = tally.take();
                    one
                }
                (None, None) if self.started.load(Ordering::Relaxed) < self.blocks => {
                    // The other threads' blocks fill the device.
                    std::thread::yield_now();
                    continue;
                }
                (None, None) => break,
            };
            let paused = self.turn(&mut one, &mut polling);
            tally = one.block.tally.take();
            match paused {
                Ok(Pause::Ended) => free.push(one.block),
                Ok(Pause::Polled | Pause::Spent) => waiting.push_back(one),
                Err(fault) => {
                    self.failed.store(true, Ordering::Relaxed);
                    self.outcome().fault.get_or_insert(fault);
                    free.push(one.block);
                }
            }
        }
        let mut outcome = self.outcome();
        for mut block in free.into_iter().chain(waiting.into_iter().map(|live| live.block)) {
            outcome.counters.add(&block.counters);
            outcome.printed.append(&mut block.printed);
        }
        match (&mut outcome.tally, tally) {
            (Some(all), Some(mine)) => all.merge(mine),
            (all, mine) => *all = mine,
        }
    }

    /// The next block that may start, if any.
    fn next(&self) -> Option<[u32; 3]> {
        if self.started.load(Ordering::Relaxed) >= self.blocks {
            return None;
        }
        let room = self.room.load(Ordering::Relaxed);
        let enter = |live| (live < room).then_some(live + 1);
        self.live.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).ok()?;
        let i = self.started.fetch_add(1, Ordering::Relaxed);
        if i >= self.blocks {
            self.live.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.step();
        let [x, y, _] = self.common.launch.grid.map(u64::from);
        let i = (u128::from(i) * u128::from(self.stride) % u128::from(self.blocks)) as u64;
        Some([i % x, i / x % y, i / (x * y)].map(|n| n as u32))
    }

    /// A block has started or ended.
    fn step(&self) {
        for count in [&self.steps, &self.changes, &self.events] {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn turn(&self, one: &mut Live<'a>, polling: &mut Since) -> Result<Pause, Fault> {
        let hang = match self.common.machine.hang {
            0 => u64::MAX,
            hang => hang,
        };
        let before = (one.block.counters.warp_instructions, one.block.changes());
        let pause = one.block.go_on(SLICE.min(hang))?;
        let ran = one.block.counters.warp_instructions - before.0;
        if pause == Pause::Ended {
            self.step();
            self.live.fetch_sub(1, Ordering::Relaxed);
            self.turns.store(0, Ordering::Relaxed);
            return Ok(pause);
        }
        let room = self.room.load(Ordering::Relaxed);
        let resident = self.common.launch.resident;
        if self.turns.fetch_add(1, Ordering::Relaxed) + 1 >= room && room < resident {
            self.room.store((2 * room).min(resident), Ordering::Relaxed);
            self.turns.store(0, Ordering::Relaxed);
        }
        if one.block.changes() != before.1 {
            self.changes.fetch_add(1, Ordering::Relaxed);
            self.events.fetch_add(1, Ordering::Relaxed);
        } else if pause == Pause::Spent {
            self.events.fetch_add(1, Ordering::Relaxed);
        }
        let unchanged = one.unchanged.add(&self.changes, ran);
        let polled = polling.add(&self.events, ran);
        let endless = one.endless.add(&self.steps, ran);
        if unchanged.max(polled) >= hang || endless >= hang.saturating_mul(FOREVER) {
            return Err(self.no_progress(&one.block, unchanged.max(polled) >= hang));
        }
        Ok(pause)
    }

    /// The launch hangs, and this is one of the blocks.
    fn no_progress(&self, block: &Block<'_>, unchanged: bool) -> Fault {
        let hang = self.common.machine.hang;
        let (did, limit) = match unchanged {
            true => ("started, ended or changed global memory", hang),
            false => ("started or ended", hang.saturating_mul(FOREVER)),
        };
        let live = self.live.load(Ordering::Relaxed);
        let started = self.started.load(Ordering::Relaxed);
        Fault::LaunchFailure(format!(
            "no progress: no block {did} for {limit} instructions; {live} blocks are live, {} of {} have not \
             started, {} fit the device; in block {:?}: {}",
            self.blocks.saturating_sub(started),
            self.blocks,
            self.common.launch.resident,
            block.index,
            block.places(false)
        ))
    }

    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
