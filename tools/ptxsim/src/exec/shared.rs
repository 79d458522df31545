//! A block's shared memory, with what is known of every byte: who wrote and read it since which barrier.
//!
//! Races are found by happens-before, not by luck of the schedule. Time runs in intervals: a warp
//! begins another whenever its lanes meet, at barriers of the block or at `.sync` operations of the
//! warp. `known[v]` of warp w is the first interval of v that w is not ordered after. An access
//! conflicts with an earlier one of another warp unless that lies before it, whatever order they ran
//! in; and with one of another lane of its warp in the same interval, since lanes that run an
//! instruction together are not ordered by that.
//!
//! Within a warp this is exact for accesses of aligned halves of words, but for these: a `.sync` of
//! some lanes orders all of the warp; of bytes in one half that several lanes wrote, or that lanes
//! read one at a time, nobody knows whose they are; and while several warps read a word, only races
//! between warps are seen. Writes of the value that is there already are no conflict, and
//! `.volatile` and `.relaxed` accesses are held to be plain.

use super::lanes::LANES;
use super::word::{EVERYONE, SEVERAL, Who, Word};

/// Warps of the largest block.
pub const WARPS: usize = 32;

/// Bytes of a line: what tensor cores and asynchronous copies access at once.
const LINE: usize = 16;

/// State of a byte that nothing wrote is 0. Others have a bit if they were written,
const WRITTEN: u8 = 1;
/// and another while an asynchronous copy is on its way there.
const LANDING: u8 = 2;

/// Shared memory of a running block.
#[derive(Debug)]
pub struct Shared {
    pub data: Vec<u8>,
    /// One per byte.
    states: Vec<u8>,
    lines: Vec<Word>,
    /// Those of lines that are split.
    words: Vec<Word>,
    /// The last interval that any warp began.
    clock: u32,
    /// Interval of each warp, from 1.
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
    /// With this warp, and this lane of it if that is below 32.
    Race {
        with: u32,
        lane: u8,
        wrote: bool,
    },
}

impl Shared {
    pub fn new(bytes: usize, checks: bool) -> Self {
        let lines = if checks { bytes.div_ceil(LINE) } else { 0 };
        Self {
            data: vec![0; bytes],
            states: vec![0; lines * LINE],
            lines: vec![Word::default(); lines],
            words: vec![Word::default(); lines * LINE / 4],
            clock: 1,
            now: [1; WARPS],
            known: [[1; WARPS]; WARPS],
            checks,
        }
    }

    /// Forgets everything: another block begins.
    pub fn clear(&mut self) {
        self.states.fill(0);
        self.lines.fill(Word::default());
        self.clock = 1;
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
        self.clock += 1;
        for w in all() {
            self.now[w] = self.clock;
            merged[w] = self.clock;
        }
        for w in all() {
            self.known[w] = merged;
        }
    }

    /// Lanes of a warp have met.
    #[inline(always)]
    pub fn sync(&mut self, warp: u32) {
        let warp = warp as usize % WARPS;
        self.clock += 1;
        self.now[warp] = self.clock;
        self.known[warp][warp] = self.clock;
    }

    /// Whether `bytes` from `address` lie inside.
    #[inline(always)]
    pub fn contains(&self, address: u64, bytes: usize) -> bool {
        address.checked_add(bytes as u64).is_some_and(|end| end <= self.data.len() as u64)
    }

    /// Notes a read by a lane of bytes that lie inside.
    #[inline(always)]
    pub fn read(&mut self, warp: u32, lane: u8, address: u64, bytes: usize) -> Verdict {
        if !self.checks {
            return Verdict::Good;
        }
        let start = address as usize;
        let (mut all, mut any) = (WRITTEN, 0);
        for &state in &self.states[start..start + bytes] {
            all &= state;
            any |= state;
        }
        let race = self.visit(warp, lane, start, bytes, Word::read);
        match (any & LANDING, all) {
            (LANDING, _) => Verdict::Landing,
            (_, 0) if race == Verdict::Good => Verdict::Uninitialised,
            _ => race,
        }
    }

    /// Notes a write by a lane of bytes that lie inside.
    #[inline(always)]
    pub fn write(&mut self, warp: u32, lane: u8, address: u64, bytes: usize) -> Verdict {
        if !self.checks {
            return Verdict::Good;
        }
        let start = address as usize;
        let mut any = 0;
        for state in &mut self.states[start..start + bytes] {
            any |= *state;
            *state |= WRITTEN;
        }
        let race = self.visit(warp, lane, start, bytes, Word::write);
        if any & LANDING != 0 { Verdict::Landing } else { race }
    }

    /// An asynchronous copy is on its way to bytes that were written to just now.
    pub fn begin(&mut self, address: u64, bytes: usize) {
        if self.checks {
            let start = address as usize;
            self.states[start..start + bytes].iter_mut().for_each(|state| *state |= LANDING);
        }
    }

    /// It lands: this lane writes the bytes now.
    pub fn land(&mut self, warp: u32, lane: u8, address: u64, data: &[u8]) {
        let range = address as usize..address as usize + data.len();
        self.data[range.clone()].copy_from_slice(data);
        if self.checks {
            self.states[range].iter_mut().for_each(|state| *state &= !LANDING);
            self.write(warp, lane, address, data.len());
        }
    }

    /// Number of the line at an address, and of its bytes.
    #[inline(always)]
    fn line(&self, address: u64) -> Option<(usize, std::ops::Range<usize>)> {
        let start = address as usize;
        let good = start.is_multiple_of(LINE)
            && self.checks
            && address < self.data.len() as u64
            && self.data.len() - start >= LINE;
        good.then_some((start / LINE, start..start + LINE))
    }

    /// Reads lines for all of a warp together up to the first that is not plainly good, and notes it;
    /// [`Shared::read`] is to be asked about the rest. Returns how many.
    #[inline(always)]
    pub fn read_lines(&mut self, warp: u32, at: &[u64], to: &mut [[u8; LINE]]) -> usize {
        let w = warp as usize % WARPS;
        // A copy, so that it need not be read again for every line.
        let known = self.known[w];
        let who = Who { warp, lane: SEVERAL, now: self.now[w], known: &known };
        for (n, (&address, to)) in at.iter().zip(to).enumerate() {
            let Some((line, bytes)) = self.line(address) else { return n };
            let word = &mut self.lines[line];
            let good = *of_line(&mut self.states, bytes.clone()) == [WRITTEN; LINE]
                && !word.split
                && word.read(who, 0xF) == Verdict::Good;
            if !good {
                return n;
            }
            *to = *of_line(&mut self.data, bytes);
        }
        at.len()
    }

    /// Notes that all lanes of a warp read `bytes`, likewise.
    #[inline(always)]
    pub fn read_by_all(&mut self, warp: u32, address: u64, bytes: usize) -> Option<*const u8> {
        let aligned = address.is_multiple_of(bytes as u64);
        if !aligned || !self.checks || !self.contains(address, bytes) {
            return None;
        }
        let good = self.read(warp, EVERYONE, address, bytes) == Verdict::Good;
        good.then(|| self.data[address as usize..].as_ptr())
    }

    /// Notes that a copy to a line begins, if that is plainly good; else changes nothing.
    #[inline(always)]
    pub fn begin_line(&mut self, warp: u32, lane: u8, address: u64) -> bool {
        let Some((line, bytes)) = self.line(address) else { return false };
        let states = of_line(&mut self.states, bytes);
        let landing = u128::from_ne_bytes(*states) & u128::from_ne_bytes([LANDING; LINE]);
        let w = warp as usize % WARPS;
        let who = Who { warp, lane, now: self.now[w], known: &self.known[w] };
        if landing != 0 || !self.lines[line].write_plainly(who) {
            return false;
        }
        *states = [WRITTEN | LANDING; LINE];
        true
    }

    /// Such a copy lands, likewise.
    #[inline(always)]
    pub fn land_line(&mut self, warp: u32, lane: u8, address: u64, data: &[u8; LINE]) -> bool {
        let Some((line, bytes)) = self.line(address) else { return false };
        let w = warp as usize % WARPS;
        let who = Who { warp, lane, now: self.now[w], known: &self.known[w] };
        let good = self.lines[line].write_plainly(who);
        if good {
            *of_line(&mut self.states, bytes.clone()) = [WRITTEN; LINE];
            *of_line(&mut self.data, bytes) = *data;
        }
        good
    }

    /// Runs `note` on every line or word of a range, with the bits of its bytes.
    #[inline(always)]
    fn visit(
        &mut self,
        warp: u32,
        lane: u8,
        start: usize,
        bytes: usize,
        note: impl Fn(&mut Word, Who<'_>, u8) -> Verdict,
    ) -> Verdict {
        let Shared { lines, words, now, known, .. } = self;
        let w = warp as usize % WARPS;
        let who = Who { warp, lane, now: now[w], known: &known[w] };
        let mut verdict = Verdict::Good;
        let mut judge = |new: Verdict| {
            if new != Verdict::Good {
                verdict = new;
            }
        };
        if start.is_multiple_of(LINE) && bytes.is_multiple_of(LINE) {
            for line in start / LINE..(start + bytes) / LINE {
                if !lines[line].split {
                    judge(note(&mut lines[line], who, 0xF));
                    continue;
                }
                let four = &mut words[4 * line..4 * line + 4];
                four.iter_mut().for_each(|word| judge(note(word, who, 0xF)));
                if four.iter().all(|word| *word == four[0]) {
                    lines[line] = four[0];
                }
            }
        } else {
            for (word, mask) in words_of(start, bytes) {
                let line = word * 4 / LINE;
                if !lines[line].split {
                    words[4 * line..4 * line + 4].fill(lines[line]);
                    lines[line].split = true;
                }
                judge(note(&mut words[word], who, mask));
            }
        }
        verdict
    }
}

/// The bytes of a line.
#[inline(always)]
fn of_line(all: &mut [u8], bytes: std::ops::Range<usize>) -> &mut [u8; LINE] {
    all[bytes].first_chunk_mut().expect("a line is within shared memory")
}

/// The words that `bytes` from `start` touch, each with the bits of its bytes.
#[inline(always)]
fn words_of(start: usize, bytes: usize) -> impl Iterator<Item = (usize, u8)> {
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
    use super::super::word::SEVERAL;
    use super::*;

    fn race(with: u32, lane: u8, wrote: bool) -> Verdict {
        Verdict::Race { with, lane, wrote }
    }

    #[test]
    fn a_barrier_orders_and_its_absence_shows_in_either_order() {
        let mut s = Shared::new(64, true);
        assert_eq!(s.write(0, 5, 0, 4), Verdict::Good);
        assert_eq!(s.read(1, 0, 0, 4), race(0, 5, true));
        s.clear();
        s.write(1, 0, 0, 4);
        s.meet(0b11);
        assert_eq!(s.read(0, 0, 0, 4), Verdict::Good);
        assert_eq!(s.write(1, 0, 0, 4), race(0, SEVERAL, false));
        s.clear();
        s.write(1, 0, 0, 4);
        s.meet(0b11);
        s.read(0, 0, 0, 4);
        s.meet(0b11);
        assert_eq!(s.write(1, 0, 0, 4), Verdict::Good);
    }

    #[test]
    fn a_barrier_of_some_orders_only_those() {
        let mut s = Shared::new(64, true);
        s.write(0, 0, 0, 4);
        s.meet(0b011);
        assert_eq!(s.read(1, 0, 0, 4), Verdict::Good);
        assert_eq!(s.read(2, 0, 0, 4), race(0, 0, true));
        // And in turn: what 1 knows, 2 knows once they have met.
        s.clear();
        s.write(0, 0, 0, 4);
        s.meet(0b011);
        s.meet(0b110);
        assert_eq!(s.read(2, 0, 0, 4), Verdict::Good);
    }

    #[test]
    fn bytes_of_one_word_are_apart() {
        let mut s = Shared::new(8, true);
        assert_eq!(s.write(0, 0, 0, 2), Verdict::Good);
        assert_eq!(s.write(1, 0, 2, 2), Verdict::Good);
        assert_eq!(s.read(1, 0, 2, 2), Verdict::Good);
        assert_eq!(s.read(0, 0, 4, 4), Verdict::Uninitialised);
    }

    #[test]
    fn lanes_are_ordered_by_meeting_only() {
        let mut s = Shared::new(64, true);
        // A read after another lane's write.
        s.write(3, 7, 8, 4);
        assert_eq!(s.read(3, 7, 8, 4), Verdict::Good);
        assert_eq!(s.read(3, 8, 8, 4), race(3, 7, true));
        // Ordered once the lanes have met, in another word of the line too.
        s.write(3, 1, 12, 4);
        s.sync(3);
        assert_eq!((s.read(3, 9, 8, 4), s.read(3, 2, 12, 4)), (Verdict::Good, Verdict::Good));
        // A write after another lane's read, of one and of many.
        assert_eq!(s.write(3, 9, 8, 4), Verdict::Good);
        assert_eq!(s.write(3, 3, 12, 4), race(3, 2, false));
        s.sync(3);
        s.read(3, 4, 8, 4);
        s.read(3, 5, 8, 4);
        assert_eq!(s.write(3, 4, 8, 4), race(3, SEVERAL, false));
        // Meetings of other warps order nothing here.
        s.sync(2);
        assert_eq!(s.write(3, 5, 8, 4), race(3, 4, true));
    }

    #[test]
    fn halves_have_lanes_of_their_own() {
        let mut s = Shared::new(64, true);
        s.write(0, 0, 0, 2);
        s.write(0, 1, 2, 2);
        assert_eq!(s.read(0, 1, 2, 2), Verdict::Good);
        assert_eq!(s.read(0, 0, 2, 2), race(0, 1, true));
        assert_eq!(s.read(0, 1, 0, 4), race(0, 0, true));
        s.sync(0);
        // Each lane reads and then overwrites its own half, or its own byte.
        for lane in 0..2 {
            s.read(0, lane, 2 * u64::from(lane), 2);
        }
        for lane in 0..2 {
            assert_eq!(s.write(0, lane, 2 * u64::from(lane), 2), Verdict::Good);
        }
        s.sync(0);
        for lane in 0..4 {
            s.read(0, lane, lane.into(), 1);
        }
        for lane in 0..4 {
            assert_eq!(s.write(0, lane, lane.into(), 1), Verdict::Good);
        }
    }

    #[test]
    fn lines_split_and_become_whole_again() {
        let mut s = Shared::new(64, true);
        s.write(0, 0, 16, 16);
        s.meet(0b11);
        assert_eq!(s.write(1, 0, 20, 4), Verdict::Good);
        assert_eq!(s.read(0, 0, 16, 4), Verdict::Good);
        assert_eq!(s.read(0, 0, 16, 16), race(1, 0, true));
        s.meet(0b11);
        assert_eq!(s.write(0, 0, 16, 16), Verdict::Good);
        assert!(!s.lines[1].split);
        assert_eq!(s.read(0, 1, 24, 4), race(0, 0, true));
    }

    #[test]
    fn copies_land_once_they_are_waited_for() {
        let mut s = Shared::new(64, true);
        s.write(0, 3, 0, 16);
        s.begin(0, 16);
        assert_eq!(s.read(0, 3, 0, 4), Verdict::Landing);
        assert_eq!(s.write(0, 3, 12, 4), Verdict::Landing);
        s.land(0, 3, 0, &[0; 16]);
        assert_eq!(s.read(0, 3, 0, 4), Verdict::Good);
        // Waiting is the lane's own affair: the others still have to meet it.
        assert_eq!(s.read(0, 4, 0, 4), race(0, 3, true));
    }
}
