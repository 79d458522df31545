//! A block's shared memory, with what is known of every byte: who wrote and read it since which barrier.
//!
//! Races are found by happens-before, not by luck of the schedule. Every warp counts its barriers;
//! `known[v]` of warp w is the first interval of v that w is not ordered after. An access conflicts
//! with an earlier one of another warp unless that lies before it, whatever order they ran in.

use super::lanes::LANES;

/// Warps of the largest block.
pub const WARPS: usize = 32;

/// Who accessed a word last.
#[derive(Debug, Clone, Copy, Default)]
struct Word {
    /// Interval of the writer; 0 before any write.
    written: u32,
    writer: u8,
    /// Bytes of the word that it wrote.
    bytes: u8,
    /// Interval of the readers that are not ordered before each other.
    read: u32,
    /// A bit per warp.
    readers: u32,
    /// Asynchronous copies on their way here.
    landing: u8,
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
        let (start, mut verdict) = (address as usize, Verdict::Good);
        if self.written[start..start + bytes].iter().any(|&w| w == 0) {
            verdict = Verdict::Uninitialised;
        }
        let (known, now) = (&self.known[warp as usize], self.now[warp as usize]);
        for (word, mask) in words(start, bytes) {
            let word = &mut self.words[word];
            let ordered = word.written < known[usize::from(word.writer) % WARPS];
            if !ordered && u32::from(word.writer) != warp && word.bytes & mask != 0 {
                verdict = Verdict::Race { with: word.writer.into(), wrote: true };
            }
            if word.readers == 1 << warp || word.readers == 0 {
                word.read = now;
            } else if word.readers >> warp & 1 == 0 || word.read != now {
                for v in 0..WARPS {
                    if word.readers >> v & 1 == 1 && word.read < known[v] {
                        word.readers &= !(1 << v);
                    }
                }
                word.read = if word.readers == 0 { now } else { word.read.min(now) };
            }
            word.readers |= 1 << warp;
            if word.landing > 0 {
                verdict = Verdict::Landing;
            }
        }
        verdict
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

    /// Notes a write by a warp of bytes that lie inside.
    #[inline(always)]
    pub fn write(&mut self, warp: u32, address: u64, bytes: usize) -> Verdict {
        if !self.checks {
            return Verdict::Good;
        }
        let (start, mut verdict) = (address as usize, Verdict::Good);
        self.written[start..start + bytes].fill(1);
        let (known, now) = (&self.known[warp as usize], self.now[warp as usize]);
        for (word, mask) in words(start, bytes) {
            let word = &mut self.words[word];
            let other = u32::from(word.writer) != warp;
            let ordered = word.written < known[usize::from(word.writer) % WARPS];
            if !ordered && other && word.bytes & mask != 0 {
                verdict = Verdict::Race { with: word.writer.into(), wrote: true };
            }
            let others = word.readers & !(1 << warp);
            if others != 0 {
                let unordered = |v: &usize| others >> v & 1 == 1 && word.read >= known[*v];
                if let Some(v) = (0..WARPS).find(unordered) {
                    verdict = Verdict::Race { with: v as u32, wrote: false };
                }
                word.readers &= 1 << warp;
            }
            let same = !other && word.written == now;
            word.bytes = if same { word.bytes | mask } else { mask };
            (word.written, word.writer) = (now, warp as u8);
            if word.landing > 0 {
                verdict = Verdict::Landing;
            }
        }
        verdict
    }
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
