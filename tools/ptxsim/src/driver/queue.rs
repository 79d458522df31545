//! Work that was asked for and has not happened yet.
//!
//! Every operation waits for the ones that its stream, its events or its graph put before it, and for
//! nothing else. Nothing runs until somebody waits for it: the latest legal moment, at which a program
//! that forgot to wait sees the old bytes. A seed other than 0 picks at random among what may run next
//! and lets other streams run ahead now and then: the other legal orders.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use super::abi::CUcontext;
use super::work::Work;

/// Operations that a real driver accepts before a launch blocks; then the oldest runs.
const DEPTH: usize = 1024;
/// Of those that may run next, so many are chosen among.
const CHOICE: usize = 32;

/// The end of an operation: a point that others can wait for.
#[derive(Debug)]
pub struct Completion {
    id: u64,
    /// Modelled time in microseconds, known once it happened.
    end: OnceLock<f64>,
    /// Of a kernel: the first writer of memory of the launches that may run at the same time, and the one
    /// after its last.
    pub writers: OnceLock<(u32, u32)>,
}

impl Completion {
    pub fn end(&self) -> Option<f64> {
        self.end.get().copied()
    }

    pub fn finish(&self, end: f64) {
        // An operation that a fault dropped may have been finished before.
        let _ = self.end.set(end);
    }
}

/// One operation.
#[derive(Debug)]
pub struct Op {
    pub context: CUcontext,
    pub work: Work,
    pub done: Arc<Completion>,
    after: Vec<Arc<Completion>>,
}

impl Op {
    /// When it can start: at the end of all that it waits for.
    pub fn start(&self) -> f64 {
        self.after.iter().filter_map(|c| c.end()).fold(0.0, f64::max)
    }

    /// The writers of the only operation that it waits for, if that is a kernel.
    pub fn writers_before(&self) -> Option<(u32, u32)> {
        match &self.after[..] {
            [only] => only.writers.get().copied(),
            _ => None,
        }
    }

    fn is_ready(&self) -> bool {
        self.after.iter().all(|c| c.end().is_some())
    }
}

/// Operations in the order in which they were asked for; each waits only for earlier ones.
#[derive(Debug)]
pub struct Queue {
    pending: BTreeMap<u64, Op>,
    last_id: u64,
    /// Zero: plain order.
    seed: u64,
    draws: u64,
}

impl Queue {
    pub fn new(seed: u64) -> Self {
        Self { pending: BTreeMap::new(), last_id: 0, seed, draws: 0 }
    }

    pub fn push(
        &mut self,
        context: CUcontext,
        work: Work,
        after: Vec<Arc<Completion>>,
    ) -> Arc<Completion> {
        self.last_id += 1;
        let done = Arc::new(Completion {
            id: self.last_id,
            end: OnceLock::new(),
            writers: OnceLock::new(),
        });
        let op = Op { context, work, done: done.clone(), after };
        self.pending.insert(self.last_id, op);
        done
    }

    pub fn is_full(&self) -> bool {
        self.pending.len() > DEPTH
    }

    /// The oldest operation, which waits for nothing.
    pub fn take_oldest(&mut self) -> Option<Op> {
        self.pending.pop_first().map(|(_, op)| op)
    }

    /// All that must happen before the given points have, these included.
    pub fn needed_for(&self, points: &[Arc<Completion>]) -> BTreeSet<u64> {
        let mut needed = BTreeSet::new();
        let mut stack: Vec<u64> = points.iter().map(|c| c.id).collect();
        while let Some(id) = stack.pop() {
            if let Some(op) = self.pending.get(&id)
                && needed.insert(id)
            {
                stack.extend(op.after.iter().filter(|c| c.end().is_none()).map(|c| c.id));
            }
        }
        needed
    }

    /// What was asked for before an operation and has not happened.
    pub fn earlier(&self, than: &Completion) -> impl Iterator<Item = &Work> {
        self.pending.range(..than.id).map(|(_, op)| &op.work)
    }

    /// All that a context has pending.
    pub fn of_context(&self, context: CUcontext) -> BTreeSet<u64> {
        self.pending.iter().filter(|(_, op)| op.context == context).map(|(&id, _)| id).collect()
    }

    /// Takes the next operation to run on the way to `needed`, which shrinks; none when it is empty.
    pub fn take_next(&mut self, needed: &mut BTreeSet<u64>) -> Option<Op> {
        // A fault may have dropped some.
        while let Some(&first) = needed.first()
            && !self.pending.contains_key(&first)
        {
            needed.remove(&first);
        }
        let &first = needed.first()?;
        let id = if self.seed == 0 {
            first
        } else {
            let ahead = self.draw(4) == 0;
            let among: Vec<u64> =
                if ahead { self.ready(self.pending.keys()) } else { self.ready(needed.iter()) };
            among[self.draw(among.len() as u64) as usize]
        };
        needed.remove(&id);
        self.pending.remove(&id)
    }

    /// Drops a context's operations: its points are passed, so that nobody waits for them.
    pub fn drop_context(&mut self, context: CUcontext) {
        self.pending.retain(|_, op| {
            if op.context == context {
                op.done.finish(op.start());
            }
            op.context != context
        });
    }

    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// True once in `n` draws.
    pub fn toss(&mut self, n: u64) -> bool {
        self.seed != 0 && self.draw(n) == 0
    }

    fn ready<'a>(&self, ids: impl Iterator<Item = &'a u64>) -> Vec<u64> {
        ids.filter(|id| self.pending.get(id).is_some_and(Op::is_ready))
            .take(CHOICE)
            .copied()
            .collect()
    }

    /// A number below `n`, by splitmix64 of seed and counter.
    fn draw(&mut self, n: u64) -> u64 {
        self.draws += 1;
        let mut x = self.seed.wrapping_add(self.draws.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % n
    }
}
