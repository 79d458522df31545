//! Block-wide barriers: who has arrived, and when they open.

use super::Fault;
use super::block::Block;
use super::lanes::{FULL, each, load, load_bits, store, store_bits};
use super::op::{Barrier, Flow, Op, Reduction};
use super::warp::Wait;
use crate::finding::Kind;

/// Named barriers of a block.
pub const BARRIERS: usize = 16;

/// Who has arrived at a barrier.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gate {
    threads: u32,
    /// Those that must arrive; 0: all of the block.
    expected: u32,
    /// Warps that arrived or wait.
    warps: u32,
    /// Of a reduction: threads whose predicate holds.
    holds: u32,
}

impl Block<'_> {
    /// Lanes of a warp have come to a barrier.
    pub(super) fn arrive(
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
            let holds = barrier
                .reduction
                .map_or(0, |_| (load_bits(registers, op.sources[2]) ^ op.immediate as u32) & mask);
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
    pub(super) fn release(&mut self, number: usize) {
        let gate = self.barriers[number];
        let alive: u32 = self.warps.iter().map(|w| w.alive.count_ones()).sum();
        let needed = if gate.expected == 0 { alive } else { gate.expected };
        if gate.threads == 0 || gate.threads < needed {
            return;
        }
        self.barriers[number] = Gate::default();
        // A barrier of the whole block also waited for the warps that left: their work lies before it.
        let gone = (0..self.warps.len()).filter(|&w| self.warps[w].alive == 0);
        let gone = gone.fold(0, |mask, w| mask | 1 << w);
        self.shared.meet(if gate.expected == 0 { gate.warps | gone } else { gate.warps });
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
}
