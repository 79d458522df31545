//! What is known of the `mbarrier` objects in a block's shared memory: where they are, and what their
//! arrivals released.

use super::mbarrier::BYTES;
use super::shared::{MBARRIER, Shared, Verdict, WARPS, WRITTEN};
use super::word::Word;

/// The first intervals of each warp that are not ordered before something.
type Known = [u32; WARPS];

/// A live object.
#[derive(Debug)]
pub struct Object {
    address: u64,
    /// What was released by arrivals so far,
    released: Known,
    /// and by those of complete phases.
    complete: Known,
}

fn merge(into: &mut Known, other: &Known) {
    into.iter_mut().zip(other).for_each(|(known, &other)| *known = other.max(*known));
}

impl Shared {
    /// The object's bytes, which lie inside.
    pub fn object_bytes(&mut self, address: u64) -> &mut [u8; BYTES] {
        self.data[address as usize..].first_chunk_mut().expect("its place was checked")
    }

    /// An object begins or ends there.
    pub fn set_live(&mut self, warp: u32, lane: u8, address: u64, live: bool) -> Verdict {
        self.changes += 1;
        self.objects.retain(|object| object.address != address);
        if live {
            let nothing = [1; WARPS];
            self.objects.push(Object { address, released: nothing, complete: nothing });
        }
        if !self.checks {
            return Verdict::Good;
        }
        let range = address as usize..address as usize + BYTES;
        self.states[range.clone()].fill(0);
        let verdict = self.visit(warp, lane, range.start, BYTES, Word::write);
        // What an object leaves behind means nothing.
        self.states[range].fill(if live { WRITTEN | MBARRIER } else { 0 });
        verdict
    }

    /// Whoever uses an object reads what its initialisation wrote; None if there is no object.
    pub fn use_object(&mut self, warp: u32, lane: u8, address: u64) -> Option<Verdict> {
        self.objects.iter().find(|object| object.address == address)?;
        match self.checks {
            true => Some(self.visit(warp, lane, address as usize, BYTES, Word::read)),
            false => Some(Verdict::Good),
        }
    }

    fn object(&mut self, address: u64) -> Option<&mut Object> {
        self.objects.iter_mut().find(|object| object.address == address)
    }

    /// What the warp did and knows so far is before what follows a wait for this phase. The warp begins
    /// an interval, but its lanes have not met.
    pub fn release(&mut self, warp: u32, address: u64) {
        let warp = warp as usize % WARPS;
        self.clock += 1;
        self.now[warp] = self.clock;
        let mut known = self.known[warp];
        known[warp] = self.clock;
        if let Some(object) = self.object(address) {
            merge(&mut object.released, &known);
        }
    }

    /// The object has changed, and perhaps its phase was complete with that.
    pub fn finish_phase(&mut self, address: u64, complete: bool) {
        self.changes += 1;
        if let Some(object) = self.object(address).filter(|_| complete) {
            object.complete = object.released;
        }
    }

    /// The warp has seen that a phase was complete.
    pub fn acquire(&mut self, warp: u32, address: u64) {
        if let Some(object) = self.object(address) {
            let complete = object.complete;
            merge(&mut self.known[warp as usize % WARPS], &complete);
        }
    }
}
