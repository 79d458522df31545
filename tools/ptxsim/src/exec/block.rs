//! Runs one block: its warps take turns in a seeded order, from barrier to barrier.

use super::copy::Copies;
use super::lanes::{FULL, each, load, load_bits, store, store_bits};
use super::op::{Barrier, Ctx, Flow, Op, Reduction, UNGUARDED};
use super::schedule::Random;
use super::shared::Shared;
use super::special;
use super::warp::{KERNEL, Path, Wait, Warp};
use super::{Counters, Fault, Kernel, Launch, Machine};
use crate::finding::{Findings, Kind};
use crate::memory::Memory;

/// Instructions that a warp runs before another has a turn.
const TURN: u64 = 20_000;
/// Named barriers of a block.
const BARRIERS: usize = 16;

/// What a launch's blocks share.
#[derive(Clone, Copy)]
pub struct Common<'a> {
    pub machine: &'a Machine,
    pub memory: &'a Memory,
    pub findings: &'a Findings,
    pub launch: &'a Launch<'a>,
    pub kernel: &'a Kernel,
}

/// Storage for a block, used again for the next.
pub struct Block<'a> {
    pub(super) common: Common<'a>,
    pub(super) index: [u32; 3],
    shared: Shared,
    registers: Vec<Line>,
    pub(super) local: Vec<u8>,
    pub(super) warps: Vec<Warp>,
    copies: Vec<Copies>,
    barriers: [Gate; BARRIERS],
    random: Random,
    pub counters: Counters,
    /// What `printf` wrote, with the number of the block.
    pub printed: Vec<(u64, String)>,
}

/// A cache line: register files are aligned to it.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub struct Line(
    #[allow(dead_code, reason = "only its bytes are used, through a pointer")] pub [u8; 64],
);

/// Who has arrived at a barrier.
#[derive(Debug, Clone, Copy, Default)]
struct Gate {
    threads: u32,
    /// Those that must arrive; 0: all of the block.
    expected: u32,
    /// Warps that arrived or wait.
    warps: u32,
    /// Of a reduction: threads whose predicate holds.
    holds: u32,
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
            registers: vec![Line([0; 64]); lines * warps],
            local: vec![0; 32 * warps * kernel.lane_bytes()],
            printed: Vec::new(),
            warps: Vec::new(),
            copies: Vec::new(),
            barriers: [Gate::default(); BARRIERS],
            random: Random::new(0),
            counters: Counters::default(),
        }
    }

    /// Runs block `index` to its end.
    pub fn run(&mut self, index: [u32; 3]) -> Result<(), Fault> {
        let Common { machine, launch, kernel, .. } = self.common;
        let threads = launch.threads();
        self.index = index;
        self.shared.clear();
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
        let mut idle = 0;
        loop {
            let live: Vec<usize> =
                (0..self.warps.len()).filter(|&w| self.warps[w].alive != 0).collect();
            if live.is_empty() {
                return Ok(());
            }
            let before = self.counters.warp_instructions;
            let first = self.random.below(live.len());
            for i in 0..live.len() {
                self.turn(live[(first + i) % live.len()])?;
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

    /// Runs one warp until no path of it can go on or its turn is over.
    fn turn(&mut self, warp: usize) -> Result<(), Fault> {
        let end = self.counters.warp_instructions + TURN;
        while self.counters.warp_instructions < end {
            let Some(index) = self.choose(warp) else { break };
            self.follow(warp, index, end)?;
        }
        Ok(())
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
        let Common { machine, memory, findings, launch, kernel } = self.common;
        let registers = self.registers_in(warp, self.warps[warp].paths[index].frame);
        let local = kernel.lane_bytes() * 32;
        let mut ctx = Ctx {
            registers,
            memory,
            shared: &mut self.shared,
            copies: &mut self.copies[warp],
            local: &mut self.local[warp * local..][..local],
            printed: &mut self.printed,
            launch,
            kernel,
            machine,
            findings,
            block: self.index,
            warp: warp as u32,
            clock: self.counters.warp_instructions,
            fault: None,
        };
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
                Flow::Branch { to, .. } if mask == lanes => {
                    at = to;
                    if self.counters.warp_instructions >= end {
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
                    let first = each(mask).next();
                    let members = first.map_or(0, |lane| members[lane]);
                    if members & w.alive & !mask == 0 {
                        if mask != 0 {
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

    /// Lanes of a warp have come to a barrier.
    fn arrive(
        &mut self,
        warp: usize,
        registers: *mut u8,
        op: &Op,
        barrier: Barrier,
        mask: u32,
    ) -> Result<(), Fault> {
        let kernel = self.common.kernel;
        let lane = mask.trailing_zeros() as usize;
        // SAFETY: 32-bit registers, and a predicate, of this kernel.
        let (number, threads, holds) = unsafe {
            let holds = barrier.reduction.map_or(0, |_| load_bits(registers, op.sources[2]) & mask);
            (
                load::<u32>(registers, op.sources[0])[lane],
                load::<u32>(registers, op.sources[1])[lane],
                holds,
            )
        };
        let at = kernel.index_of(op);
        if number as usize >= BARRIERS {
            let fault = format!("barrier {number}: expected 0 to 15");
            return Err(Fault::LaunchFailure(kernel.name_place(at, fault)));
        }
        let alive = self.warps[warp].alive;
        if barrier.aligned && mask != alive {
            let missing = (alive & !mask).count_ones();
            self.find(
                Kind::DivergentBarrier,
                op,
                warp,
                lane,
                format!("an aligned barrier needs all lanes of the warp together: {missing} of them are elsewhere"),
            );
        }
        let expected = if barrier.counted { threads } else { 0 };
        let gate = &mut self.barriers[number as usize];
        if gate.threads > 0 && gate.expected != expected {
            let (now, before) = (expected, gate.expected);
            self.find(
                Kind::BarrierMismatch,
                op,
                warp,
                lane,
                format!("barrier {number} is waited for with {now} threads here and {before} elsewhere (0: the whole block)"),
            );
        }
        let gate = &mut self.barriers[number as usize];
        gate.expected = expected;
        // A counted barrier counts whole warps.
        gate.threads += if barrier.counted { 32 } else { mask.count_ones() };
        gate.warps |= 1 << warp;
        gate.holds += holds.count_ones();
        self.release(number as usize);
        Ok(())
    }

    /// Opens a barrier if everyone is there.
    fn release(&mut self, number: usize) {
        let gate = self.barriers[number];
        let alive: u32 = self.warps.iter().map(|w| w.alive.count_ones()).sum();
        let needed = if gate.expected == 0 { alive } else { gate.expected };
        if gate.threads == 0 || gate.threads < needed {
            return;
        }
        self.barriers[number] = Gate::default();
        self.shared.meet(gate.warps);
        let kernel = self.common.kernel;
        for warp in each(gate.warps) {
            for index in 0..self.warps[warp].paths.len() {
                let path = self.warps[warp].paths[index];
                let op = &kernel.code.ops[path.at.saturating_sub(1) as usize];
                let Flow::Barrier(barrier) = op.flow else { continue };
                let registers = self.registers_in(warp, path.frame);
                // SAFETY: a 32-bit register, and results, of this kernel.
                unsafe {
                    let lane = path.mask.trailing_zeros() as usize;
                    let here = load::<u32>(registers, op.sources[0])[lane & 31];
                    if path.wait != Wait::Barrier || here as usize != number {
                        continue;
                    }
                    self.warps[warp].paths[index].wait = Wait::Ready;
                    match barrier.reduction {
                        None => {}
                        Some(Reduction::Population) => {
                            store(registers, op.result, path.mask, [gate.holds; 32]);
                        }
                        Some(kind) => {
                            let all = if kind == Reduction::And { gate.threads } else { 1 };
                            let bits = if gate.holds >= all { FULL } else { 0 };
                            store_bits(registers, op.result, path.mask, bits);
                        }
                    }
                }
            }
            // A path may have waited right before its join.
            let w = &mut self.warps[warp];
            for index in (0..w.paths.len()).rev() {
                if w.paths[index].wait == Wait::Ready
                    && w.stop(&w.paths[index]) == w.paths[index].at
                {
                    w.arrive(index);
                }
            }
        }
    }

    /// Nobody can go on: opens what the exits of others have completed, or says who waits for what.
    fn stuck(&mut self) -> Fault {
        let kernel = self.common.kernel;
        let mut places = Vec::new();
        for (number, w) in self.warps.iter().enumerate() {
            for path in &w.paths {
                let at = path.at.saturating_sub(u32::from(path.wait == Wait::Barrier));
                places.push(kernel.name_place(at, format!("warp {number} lanes {:#x}", path.mask)));
            }
        }
        places.truncate(4);
        let waits = places.join("; ");
        let message = format!("deadlock: every thread that is left waits: {waits}");
        if let Some(warp) = self.warps.iter().position(|w| w.alive != 0) {
            let path = self.warps[warp].paths[0];
            let op = &kernel.code.ops[path.at.saturating_sub(1) as usize];
            let lane = path.mask.trailing_zeros() as usize;
            self.find(Kind::DivergentBarrier, op, warp, lane, message.clone());
        }
        Fault::LaunchFailure(message)
    }

    #[cold]
    fn find(&self, kind: Kind, op: &Op, warp: usize, lane: usize, message: String) {
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
