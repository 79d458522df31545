//! Runs one block: its warps take turns in a seeded order, from barrier to barrier.

use super::barrier::{BARRIERS, Gate};
use super::copy::Copies;
use super::count::Tally;
use super::lanes::{each, load, load_bits};
use super::op::{Ctx, Flow, Op, UNGUARDED};
use super::order::{Order, Presence};
use super::schedule::Random;
use super::shared::Shared;
use super::special;
use super::warp::{KERNEL, Path, Wait, Warp};
use super::{Counters, Fault, Kernel, Launch, Machine};
use crate::finding::{Findings, Kind};
use crate::memory::Memory;

/// Instructions that a warp runs before another has a turn,
const TURN: u64 = 20_000;
/// or polls of global memory: whoever makes so many is likely to wait.
const POLLS: u64 = 64;
/// Rounds of nothing but vain polls of `mbarrier` objects after which nobody is thought to go on,
const ROUNDS: u32 = 20_000;
/// and instructions of a turn that are no more than a loop around such a poll.
const POLLING: u64 = 64;

/// Why a block does not go on for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    Ended,
    /// It looked at what other blocks may change.
    Polled,
    /// It ran as many instructions as it may.
    Spent,
}

/// What a launch's blocks share.
#[derive(Clone, Copy)]
pub struct Common<'a> {
    pub machine: &'a Machine,
    pub memory: &'a Memory,
    pub findings: &'a Findings,
    pub launch: &'a Launch<'a>,
    pub kernel: &'a Kernel,
    pub order: &'a Order,
}

/// Storage for a block, used again for the next.
pub struct Block<'a> {
    pub(super) common: Common<'a>,
    pub(super) index: [u32; 3],
    pub(super) shared: Shared,
    registers: Vec<Line>,
    pub(super) local: Vec<u8>,
    pub(super) local_written: Vec<u8>,
    presence: Presence,
    pub(super) warps: Vec<Warp>,
    copies: Vec<Copies>,
    pub(super) barriers: [Gate; BARRIERS],
    random: Random,
    /// A poll of the turn was in vain.
    polled: bool,
    pub counters: Counters,
    /// What `printf` wrote, with the number of the block.
    pub printed: Vec<(u64, String)>,
    /// With `Machine::counters`: what its host thread counts, while it runs,
    pub tally: Option<Tally>,
    /// and its number there.
    number: u32,
}

/// A cache line: register files are aligned to it.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub struct Line(
    #[allow(dead_code, reason = "only its bytes are used, through a pointer")] [u8; 64],
);

impl Line {
    pub const ZERO: Line = Line([0; 64]);
}

impl<'a> Block<'a> {
    pub fn new(common: Common<'a>) -> Self {
        let Common { machine, launch, kernel, .. } = common;
        let warps = launch.threads().div_ceil(32) as usize;
        let shared = (kernel.static_shared_bytes + launch.shared_bytes) as usize;
        let lines = kernel.code.register_bytes as usize / 64;
        Block {
            common,
            index: [0; 3],
            shared: Shared::new(shared, machine.checks),
            registers: vec![Line::ZERO; lines * warps],
            local: vec![0; 32 * warps * kernel.lane_bytes()],
            local_written: vec![0; 32 * warps * kernel.lane_bytes()],
            presence: Presence::default(),
            printed: Vec::new(),
            warps: Vec::new(),
            copies: Vec::new(),
            barriers: [Gate::default(); BARRIERS],
            random: Random::new(0),
            polled: false,
            counters: Counters::default(),
            tally: None,
            number: 0,
        }
    }

    /// Makes ready to run block `index`.
    pub fn begin(&mut self, index: [u32; 3]) {
        let Common { machine, launch, kernel, .. } = self.common;
        let threads = launch.threads();
        self.index = index;
        self.number = self.tally.as_mut().map_or(0, |tally| tally.next_block(launch, index));
        self.shared.clear();
        self.local_written.fill(0);
        self.presence = self.common.order.enter(index);
        self.barriers = [Gate::default(); BARRIERS];
        let [x, y, z] = index.map(u64::from);
        self.random = Random::new(machine.seed ^ (x + (y << 22) + (z << 43)));
        self.warps.clear();
        self.copies.clear();
        for warp in 0..threads.div_ceil(32) {
            self.warps.push(Warp::new(threads - 32 * warp));
            self.copies.push(Copies::new());
            let registers = self.registers_of(warp as usize);
            // SAFETY: this warp's register file.
            unsafe { special::prepare(registers, &kernel.code.fixed, 0, launch, index, warp) };
        }
    }

    /// Runs the block until it ends, polls or has run `most` instructions, all warps in turn.
    pub fn go_on(&mut self, most: u64) -> Result<Pause, Fault> {
        let number = self.number;
        self.tally.iter_mut().for_each(|tally| tally.resume(number));
        let (end, polls) = (self.counters.warp_instructions + most, self.presence.polls);
        let mut idle = 0;
        let mut vain = 0;
        loop {
            let live: Vec<usize> =
                (0..self.warps.len()).filter(|&w| self.warps[w].alive != 0).collect();
            if live.is_empty() {
                return Ok(Pause::Ended);
            }
            if self.presence.polls != polls {
                return Ok(Pause::Polled);
            }
            if self.counters.warp_instructions >= end {
                return Ok(Pause::Spent);
            }
            let before = self.counters.warp_instructions;
            let changes = self.shared.changes;
            let mut busy = false;
            let first = self.random.below(live.len());
            for i in 0..live.len() {
                busy |= !self.turn(live[(first + i) % live.len()])?;
            }
            vain = if busy || self.shared.changes != changes { 0 } else { vain + 1 };
            if vain > ROUNDS {
                return Err(self.stuck());
            }
            for number in 0..BARRIERS {
                self.release(number); // what exits have completed
            }
            idle = if self.counters.warp_instructions == before { idle + 1 } else { 0 };
            if idle > 1 {
                return Err(self.stuck());
            }
        }
    }

    fn registers_of(&mut self, warp: usize) -> *mut u8 {
        let bytes = self.common.kernel.code.register_bytes as usize;
        // SAFETY: one file per warp was allocated.
        unsafe { self.registers.as_mut_ptr().cast::<u8>().add(warp * bytes) }
    }

    /// The register file of a path: the kernel's, or that of the call it is in.
    pub(super) fn registers_in(&mut self, warp: usize, frame: u32) -> *mut u8 {
        match frame {
            KERNEL => self.registers_of(warp),
            _ => self.warps[warp].frame_mut(frame).registers.as_mut_ptr().cast(),
        }
    }

    /// Accesses so far that changed global memory.
    pub fn changes(&self) -> u64 {
        self.presence.changes
    }

    /// Runs one warp until no path of it can go on or its turn is over; whether all it did was to poll
    /// `mbarrier` objects in vain, or nothing.
    fn turn(&mut self, warp: usize) -> Result<bool, Fault> {
        let start = self.counters.warp_instructions;
        let end = start + TURN;
        let polls = self.presence.polls + POLLS;
        self.polled = false;
        while !self.polled && self.counters.warp_instructions < end && self.presence.polls < polls {
            let Some(index) = self.choose(warp) else { break };
            self.follow(warp, index, end)?;
        }
        let ran = self.counters.warp_instructions - start;
        Ok(ran == 0 || self.polled && ran < POLLING)
    }

    /// A path of the warp that can run, if any.
    fn choose(&mut self, warp: usize) -> Option<usize> {
        let w = &self.warps[warp];
        match &w.paths[..] {
            [] => None,
            [only] if only.wait == Wait::Ready => Some(0),
            paths => {
                let can = |&i: &usize| paths[i].wait == Wait::Ready || w.gathered(i);
                let ready: Vec<usize> = (0..paths.len()).filter(can).collect();
                (!ready.is_empty()).then(|| ready[self.random.below(ready.len())])
            }
        }
    }

    /// Runs a path until it splits, joins, waits, exits, or the turn is over.
    fn follow(&mut self, warp: usize, index: usize, end: u64) -> Result<(), Fault> {
        let Common { machine, memory, findings, launch, kernel, order } = self.common;
        let registers = self.registers_in(warp, self.warps[warp].paths[index].frame);
        let local = kernel.lane_bytes() * 32;
        let mut ctx = Ctx {
            registers,
            memory,
            shared: &mut self.shared,
            copies: &mut self.copies[warp],
            local: &mut self.local[warp * local..][..local],
            printed: &mut self.printed,
            local_written: &mut self.local_written[warp * local..][..local],
            order,
            presence: &mut self.presence,
            launch,
            kernel,
            machine,
            findings,
            block: self.index,
            warp: warp as u32,
            clock: self.counters.warp_instructions,
            waits: false,
            fault: None,
        };
        let polls = ctx.presence.polls + POLLS;
        let w = &mut self.warps[warp];
        let ops = &kernel.code.ops[..];
        if let Wait::Lanes(_) = w.paths[index].wait {
            // Everyone is here: run the instruction for all of them at once.
            let one = w.paths[index];
            let at = one.at;
            let here = |p: &&mut Path| p.together(&one);
            let mut mask = 0;
            for path in w.paths.iter_mut().filter(here) {
                mask |= path.mask;
                path.wait = Wait::Ready;
                path.at += 1;
            }
            let op = &ops[at as usize];
            count(&mut self.counters, mask);
            ctx.shared.sync(warp as u32);
            if let Some(tally) = &mut self.tally {
                tally.note(&ctx, at, op, mask);
            }
            // SAFETY: lowered for this kernel.
            unsafe { (op.run)(&mut ctx, op, mask) };
            for path in (0..w.paths.len()).rev() {
                let Path { at: now, wait, frame, .. } = w.paths[path];
                if now == at + 1
                    && frame == one.frame
                    && wait == Wait::Ready
                    && w.stop(&w.paths[path]) == now
                {
                    w.arrive(path);
                }
            }
            return ctx.fault.map_or(Ok(()), Err);
        }
        let Path { mut at, mask: lanes, .. } = w.paths[index];
        let stop = w.stop(&w.paths[index]);
        loop {
            if at == stop {
                w.paths[index].at = at;
                w.arrive(index);
                return Ok(());
            }
            let Some(op) = ops.get(at as usize) else {
                w.exit(index, lanes);
                return Ok(());
            };
            let mut mask = lanes;
            if op.guard != UNGUARDED {
                // SAFETY: a predicate of this kernel.
                let bits = unsafe { load_bits(registers, op.guard) };
                mask &= if op.guard_negated { !bits } else { bits };
            }
            count(&mut self.counters, mask);
            if let Some(tally) = &mut self.tally {
                match op.flow {
                    // All lanes take part in a branch, those that it does not move too.
                    Flow::Branch { .. } | Flow::Table { .. } => tally.note(&ctx, at, op, lanes),
                    // Counted when it runs, not when lanes come and wait for others.
                    Flow::Together => {}
                    _ => tally.note(&ctx, at, op, mask),
                }
            }
            match op.flow {
                Flow::Next => {
                    if mask != 0 {
                        // SAFETY: lowered for this kernel.
                        unsafe { (op.run)(&mut ctx, op, mask) };
                        if let Some(fault) = ctx.fault {
                            return Err(fault);
                        }
                    }
                    at += 1;
                }
                Flow::Poll => {
                    at += 1;
                    if mask == 0 {
                        continue;
                    }
                    // SAFETY: lowered for this kernel.
                    unsafe { (op.run)(&mut ctx, op, mask) };
                    if let Some(fault) = ctx.fault {
                        return Err(fault);
                    }
                    if ctx.waits {
                        w.paths[index].at = at;
                        self.polled = true;
                        return Ok(());
                    }
                }
                Flow::Branch { to, .. } if mask == lanes => {
                    at = to;
                    if self.counters.warp_instructions >= end || ctx.presence.polls >= polls {
                        w.paths[index].at = at;
                        return Ok(());
                    }
                }
                Flow::Branch { .. } if mask == 0 => at += 1,
                Flow::Branch { to, meet } => {
                    w.paths[index].at = at;
                    w.split(index, mask, to, at + 1, meet);
                    return Ok(());
                }
                Flow::Table { meet } => {
                    // SAFETY: a 32-bit register of this kernel.
                    let chosen = unsafe { load::<u32>(registers, op.sources[0]) };
                    let targets = &kernel.code.lists[op.list as usize];
                    let mut parts: Vec<(u32, u32)> = Vec::new();
                    let mut add = |to: u32, bit: u32| match parts.iter_mut().find(|p| p.0 == to) {
                        Some(part) => part.1 |= bit,
                        None => parts.push((to, bit)),
                    };
                    for lane in each(lanes) {
                        if mask >> lane & 1 == 0 {
                            add(at + 1, 1 << lane);
                        } else if let Some(&to) = targets.get(chosen[lane] as usize) {
                            add(to, 1 << lane);
                        } else {
                            let (n, index) = (targets.len(), chosen[lane]);
                            let fault = format!("brx.idx: index {index} of {n} targets");
                            return Err(Fault::LaunchFailure(kernel.name_place(at, fault)));
                        }
                    }
                    w.scatter(index, &parts, meet);
                    return Ok(());
                }
                Flow::Exit => {
                    w.paths[index].at = at + 1;
                    w.exit(index, mask);
                    return Ok(());
                }
                Flow::Return => {
                    w.paths[index].at = at + 1;
                    if mask != 0 {
                        self.leave(warp, index, mask);
                        return Ok(());
                    }
                    at += 1;
                }
                Flow::Call if mask == 0 => at += 1,
                Flow::Call if mask != lanes => {
                    // The guard keeps some lanes back.
                    w.paths[index].at = at;
                    w.split(index, mask, at, at + 1, at + 1);
                    return Ok(());
                }
                Flow::Call => {
                    w.paths[index].at = at;
                    return self.enter(warp, index, op);
                }
                Flow::Together => {
                    // SAFETY: a 32-bit register of this kernel.
                    let members = unsafe { load::<u32>(registers, op.sources[3]) };
                    let outside = each(mask).find(|&lane| members[lane] >> lane & 1 == 0);
                    if let Some(lane) = outside
                        && machine.checks
                    {
                        let message = format!(
                            "a lane executes what its mask {:#x} does not include it in",
                            members[lane]
                        );
                        ctx.find(Kind::BarrierMismatch, op, lane, None, message);
                    }
                    let first = each(mask).next();
                    let members = first.map_or(0, |lane| members[lane]);
                    if members & w.alive & !mask == 0 {
                        if let Some(tally) = &mut self.tally {
                            tally.note(&ctx, at, op, mask);
                        }
                        if mask != 0 {
                            ctx.shared.sync(warp as u32);
                            // SAFETY: lowered for this kernel.
                            unsafe { (op.run)(&mut ctx, op, mask) };
                            if let Some(fault) = ctx.fault {
                                return Err(fault);
                            }
                        }
                        at += 1;
                    } else if mask == lanes {
                        w.paths[index].at = at;
                        w.paths[index].wait = Wait::Lanes(members);
                        return Ok(());
                    } else {
                        // The guard keeps some lanes back: they go on alone.
                        w.paths[index].at = at;
                        w.split(index, mask, at, at + 1, at + 1);
                        return Ok(());
                    }
                }
                Flow::Barrier(barrier) => {
                    w.paths[index].at = at + 1;
                    if mask == 0 {
                        at += 1;
                        continue;
                    }
                    if barrier.waits {
                        w.paths[index].wait = Wait::Barrier;
                    }
                    return self.arrive(warp, registers, op, barrier, mask);
                }
            }
        }
    }

    /// Nobody can go on: opens what the exits of others have completed, or says who waits for what.
    fn stuck(&mut self) -> Fault {
        let kernel = self.common.kernel;
        let waits = self.places(true);
        let message = format!("deadlock: every thread that is left waits: {waits}");
        if let Some(warp) = self.warps.iter().position(|w| w.alive != 0) {
            let path = self.warps[warp].paths[0];
            let op = &kernel.code.ops[path.at.saturating_sub(1) as usize];
            let lane = path.mask.trailing_zeros() as usize;
            self.find(Kind::DivergentBarrier, op, warp, lane, message.clone());
        }
        Fault::LaunchFailure(message)
    }

    /// Where warps are, those first that wait for nobody, which are behind a poll if they `polled`.
    pub(super) fn places(&self, polled: bool) -> String {
        let kernel = self.common.kernel;
        let mut places = Vec::new();
        for (number, w) in self.warps.iter().enumerate() {
            for path in &w.paths {
                let after = match path.wait {
                    Wait::Lanes(_) => false,
                    Wait::Barrier => true,
                    Wait::Ready => polled,
                };
                let at = path.at.saturating_sub(u32::from(after));
                let place = kernel.name_place(at, format!("warp {number} lanes {:#x}", path.mask));
                places.push((path.wait != Wait::Ready, place));
            }
        }
        places.sort_by_key(|(waits, _)| *waits);
        let places: Vec<String> = places.into_iter().take(4).map(|(_, place)| place).collect();
        places.join("; ")
    }

    #[cold]
    pub(super) fn find(&self, kind: Kind, op: &Op, warp: usize, lane: usize, message: String) {
        let Common { kernel, findings, .. } = self.common;
        let place = kernel.place(kernel.index_of(op));
        let place = crate::finding::Place {
            block: self.index,
            warp: warp as u32,
            lane: lane as u32,
            ..place
        };
        findings.add(crate::finding::Finding { kind, message, place: Some(place), count: 1 });
    }
}

#[inline(always)]
fn count(counters: &mut Counters, mask: u32) {
    counters.warp_instructions += 1;
    counters.thread_instructions += u64::from(mask.count_ones());
}
