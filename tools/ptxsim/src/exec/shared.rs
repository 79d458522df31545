//! A block's shared memory, with what is known of every byte: who wrote and read it since which barrier.
//!
//! Races are found by happens-before, not by luck of the schedule. Every warp counts its barriers;
//! `known[v]` of warp w is the first interval of v that w is not ordered after. An access conflicts
//! with an earlier one of another warp unless that lies before it, whatever order they ran in.

use super::lanes::{LANES, each};

/// Warps of the largest block.
pub const WARPS: usize = 32;

/// Who accessed a word last. Sixteen bytes, so that four neighbours are compared at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C, align(16))]
struct Word {
    /// Interval of the writer; 0 before any write.
    written: u32,
    /// Interval of the readers that are not ordered before each other.
    read: u32,
    /// A bit per warp.
    readers: u32,
    writer: u8,
    /// Bytes of the word that it wrote.
    bytes: u8,
    /// Asynchronous copies on their way here.
    landing: u8,
    unused: u8,
}

/// Shared memory of a running block.
#[derive(Debug)]
pub struct Shared {
    pub data: Vec<u8>,
    /// 1 where a byte was written.
    written: Vec<u8>,
    words: Vec<Word>,
    /// Intervals of each warp, from 1.
    now: [u32; WARPS],
    known: [[u32; WARPS]; WARPS],
    checks: bool,
}

/// What the checks say of an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Good,
    Uninitialised,
    /// An asynchronous copy is on its way there.
    Landing,
    /// With this warp.
    Race {
        with: u32,
        wrote: bool,
    },
}

impl Shared {
    pub fn new(bytes: usize, checks: bool) -> Self {
        let words = if checks { bytes.div_ceil(4) } else { 0 };
        Self {
            data: vec![0; bytes],
            written: vec![0; if checks { bytes } else { 0 }],
            words: vec![Word::default(); words],
            now: [1; WARPS],
            known: [[1; WARPS]; WARPS],
            checks,
        }
    }

    /// Forgets everything: another block begins.
    pub fn clear(&mut self) {
        self.written.fill(0);
        self.words.fill(Word::default());
        self.now = [1; WARPS];
        self.known = [[1; WARPS]; WARPS];
        if self.checks {
            self.data.fill(0xFF); // what was left behind is not zero on a GPU either
        }
    }

    /// The warps of `members` have met: what each did before is before what any does next.
    pub fn meet(&mut self, members: u32) {
        let all = || (0..WARPS).filter(|w| members >> w & 1 == 1);
        let mut merged = [1; WARPS];
        for w in all() {
            for (merged, known) in merged.iter_mut().zip(self.known[w]) {
                *merged = known.max(*merged);
            }
        }
        for w in all() {
            self.now[w] += 1;
            merged[w] = self.now[w];
        }
        for w in all() {
            self.known[w] = merged;
        }
    }

    /// Whether `bytes` from `address` lie inside.
    #[inline(always)]
    pub fn contains(&self, address: u64, bytes: usize) -> bool {
        address.checked_add(bytes as u64).is_some_and(|end| end <= self.data.len() as u64)
    }

    /// Notes a read by a warp of bytes that lie inside.
    #[inline(always)]
    pub fn read(&mut self, warp: u32, address: u64, bytes: usize) -> Verdict {
        if !self.checks {
            return Verdict::Good;
        }
        let start = address as usize;
        let mut all = 1;
        for &written in &self.written[start..start + bytes] {
            all &= written;
        }
        let initial = if all == 1 { Verdict::Good } else { Verdict::Uninitialised };
        let (known, now) = (&self.known[warp as usize], self.now[warp as usize]);
        visit(&mut self.words, start, bytes, initial, |word, mask| {
            word.read(warp, now, known, mask)
        })
    }

    /// Notes a write by a warp of bytes that lie inside.
    #[inline(always)]
    pub fn write(&mut self, warp: u32, address: u64, bytes: usize) -> Verdict {
        if !self.checks {
            return Verdict::Good;
        }
        let start = address as usize;
        self.written[start..start + bytes].fill(1);
        let (known, now) = (&self.known[warp as usize], self.now[warp as usize]);
        visit(&mut self.words, start, bytes, Verdict::Good, |word, mask| {
            word.write(warp, now, known, mask)
        })
    }

    /// An asynchronous copy is on its way to bytes that were written to just now.
    pub fn begin(&mut self, address: u64, bytes: usize) {
        if self.checks {
            for (word, _) in words(address as usize, bytes) {
                self.words[word].landing += 1;
            }
        }
    }

    /// It has landed: this warp has written the bytes now.
    pub fn land(&mut self, warp: u32, address: u64, bytes: usize) {
        if self.checks {
            for (word, _) in words(address as usize, bytes) {
                self.words[word].landing -= 1;
            }
            self.write(warp, address, bytes);
        }
    }
}

impl Word {
    #[inline(always)]
    fn read(&mut self, warp: u32, now: u32, known: &[u32; WARPS], mask: u8) -> Verdict {
        let mut verdict = Verdict::Good;
        let ordered = self.written < known[usize::from(self.writer) % WARPS];
        if !ordered && u32::from(self.writer) != warp && self.bytes & mask != 0 {
            verdict = Verdict::Race { with: self.writer.into(), wrote: true };
        }
        if self.readers & !(1 << warp) == 0 {
            self.read = now;
        } else if self.readers >> warp & 1 == 0 || self.read != now {
            // Of the readers, those that this one is ordered after say nothing that it does not.
            for v in each(self.readers) {
                if self.read < known[v] {
                    self.readers &= !(1 << v);
                }
            }
            self.read = if self.readers == 0 { now } else { self.read.min(now) };
        }
        self.readers |= 1 << warp;
        if self.landing > 0 { Verdict::Landing } else { verdict }
    }

    #[inline(always)]
    fn write(&mut self, warp: u32, now: u32, known: &[u32; WARPS], mask: u8) -> Verdict {
        let mut verdict = Verdict::Good;
        let other = u32::from(self.writer) != warp;
        let ordered = self.written < known[usize::from(self.writer) % WARPS];
        if !ordered && other && self.bytes & mask != 0 {
            verdict = Verdict::Race { with: self.writer.into(), wrote: true };
        }
        let others = self.readers & !(1 << warp);
        if others != 0 {
            if let Some(v) = each(others).find(|&v| self.read >= known[v]) {
                verdict = Verdict::Race { with: v as u32, wrote: false };
            }
            self.readers &= 1 << warp;
        }
        self.bytes = if !other && self.written == now { self.bytes | mask } else { mask };
        (self.written, self.writer) = (now, warp as u8);
        if self.landing > 0 { Verdict::Landing } else { verdict }
    }
}

/// Runs `note` on every word of a range; of four neighbours in the same state, once for all.
#[inline(always)]
fn visit(
    all: &mut [Word],
    start: usize,
    bytes: usize,
    initial: Verdict,
    note: impl Fn(&mut Word, u8) -> Verdict,
) -> Verdict {
    let mut verdict = initial;
    let mut judge = |new: Verdict| {
        if new != Verdict::Good {
            verdict = new;
        }
    };
    if start.is_multiple_of(4) && bytes.is_multiple_of(16) {
        for four in all[start / 4..(start + bytes) / 4].chunks_exact_mut(4) {
            if four[0] == four[1] && four[0] == four[2] && four[0] == four[3] {
                judge(note(&mut four[0], 0xF));
                let word = four[0];
                four[1..].fill(word);
            } else {
                four.iter_mut().for_each(|word| judge(note(word, 0xF)));
            }
        }
    } else {
        for (word, mask) in words(start, bytes) {
            judge(note(&mut all[word], mask));
        }
    }
    verdict
}

/// The words that `bytes` from `start` touch, each with the bits of its bytes.
#[inline(always)]
fn words(start: usize, bytes: usize) -> impl Iterator<Item = (usize, u8)> {
    let end = start + bytes;
    (start / 4..end.div_ceil(4)).map(move |word| {
        let first = start.max(4 * word) - 4 * word;
        let last = end.min(4 * word + 4) - 4 * word;
        (word, ((1u16 << last) - (1 << first)) as u8)
    })
}

const _: () = assert!(LANES == WARPS, "a mask of warps is as wide as one of lanes");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_orders_and_its_absence_shows_in_either_order() {
        let mut s = Shared::new(64, true);
        assert_eq!(s.write(0, 0, 4), Verdict::Good);
        assert_eq!(s.read(1, 0, 4), Verdict::Race { with: 0, wrote: true });
        s.clear();
        s.write(1, 0, 4);
        s.meet(0b11);
        assert_eq!(s.read(0, 0, 4), Verdict::Good);
        assert_eq!(s.write(1, 0, 4), Verdict::Race { with: 0, wrote: false });
        s.clear();
        s.write(1, 0, 4);
        s.meet(0b11);
        s.read(0, 0, 4);
        s.meet(0b11);
        assert_eq!(s.write(1, 0, 4), Verdict::Good);
    }

    #[test]
    fn a_barrier_of_some_orders_only_those() {
        let mut s = Shared::new(64, true);
        s.write(0, 0, 4);
        s.meet(0b011);
        assert_eq!(s.read(1, 0, 4), Verdict::Good);
        assert_eq!(s.read(2, 0, 4), Verdict::Race { with: 0, wrote: true });
        // And in turn: what 1 knows, 2 knows once they have met.
        s.clear();
        s.write(0, 0, 4);
        s.meet(0b011);
        s.meet(0b110);
        assert_eq!(s.read(2, 0, 4), Verdict::Good);
    }

    #[test]
    fn bytes_of_one_word_are_apart() {
        let mut s = Shared::new(8, true);
        assert_eq!(s.write(0, 0, 2), Verdict::Good);
        assert_eq!(s.write(1, 2, 2), Verdict::Good);
        assert_eq!(s.read(1, 2, 2), Verdict::Good);
        assert_eq!(s.read(0, 4, 4), Verdict::Uninitialised);
    }
}
