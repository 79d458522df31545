//! What is known of a word of shared memory, or of a line of four words that were always accessed as one.

use super::lanes::each;
use super::shared::{Verdict, WARPS};

/// A lane's place when there is none to blame: a collective access, or more than one lane.
pub const SEVERAL: u8 = 0xFD;
/// All lanes of a warp, reading a word.
pub const EVERYONE: u8 = 0xFC;
/// No lane is known to have read.
const NOBODY: u8 = 0xFE;

/// Who accesses, and when.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    pub warp: u32,
    /// Or [`SEVERAL`], or [`EVERYONE`].
    pub lane: u8,
    /// The warp's interval: it ends whenever the warp's lanes meet.
    pub now: u32,
    /// Of each warp, the first interval that this one is not ordered after; its own is `now`.
    pub known: &'a [u32; WARPS],
}

/// Who accessed a word last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Word {
    /// Interval of the writer; 0 before any write.
    written: u32,
    /// Interval of the readers that are not ordered before each other.
    read: u32,
    /// A bit per warp.
    readers: u32,
    writer: u8,
    /// Bytes of the word that the writer wrote in its interval.
    bytes: u8,
    /// Lanes that wrote the halves: one, or [`SEVERAL`].
    wrote: [u8; 2],
    /// Lanes known to have read all of a half, if only the writer's warp or one warp reads: one,
    /// [`SEVERAL`] or [`NOBODY`].
    seen: [u8; 2],
    /// Of a line: its words are no longer alike, and are what counts.
    pub split: bool,
}

/// Bytes of each half of a word.
const HALVES: [u8; 2] = [0b0011, 0b1100];

impl Word {
    #[inline(always)]
    pub fn read(&mut self, who: Who<'_>, mask: u8) -> Verdict {
        let verdict = self.after_write(who, mask);
        let Who { warp, lane, now, known } = who;
        if self.readers & !(1 << warp) == 0 {
            if self.read != now || self.readers == 0 {
                self.seen = [NOBODY; 2];
            }
            self.read = now;
        } else if self.readers >> warp & 1 == 0 || self.read != now {
            // Of the readers, those that this one is ordered after say nothing that it does not.
            for v in each(self.readers) {
                if self.read < known[v] {
                    self.readers &= !(1 << v);
                }
            }
            if self.readers == 0 {
                self.seen = [NOBODY; 2];
            }
            self.read = if self.readers == 0 { now } else { self.read.min(now) };
        }
        self.readers |= 1 << warp;
        if lane != SEVERAL {
            for (seen, half) in self.seen.iter_mut().zip(HALVES) {
                if mask & half == half {
                    let one = *seen == lane || (*seen == NOBODY && lane != EVERYONE);
                    *seen = if one { lane } else { SEVERAL };
                }
            }
        }
        verdict
    }

    /// Writes all of it if nothing speaks against that; else changes nothing.
    #[inline(always)]
    pub fn write_plainly(&mut self, who: Who<'_>) -> bool {
        let Who { warp, lane, now, known } = who;
        let ordered = self.written < known[usize::from(self.writer) % WARPS];
        let read = self.readers & !(1 << warp) != 0 || (self.readers != 0 && self.read == now);
        if self.split || !ordered || read {
            return false;
        }
        self.readers = 0;
        (self.wrote, self.bytes) = ([lane; 2], 0xF);
        (self.written, self.writer) = (now, warp as u8);
        true
    }

    #[inline(always)]
    pub fn write(&mut self, who: Who<'_>, mask: u8) -> Verdict {
        let mut verdict = self.after_write(who, mask);
        let Who { warp, lane, now, known } = who;
        if self.readers & !(1 << warp) != 0 {
            let others = self.readers & !(1 << warp);
            if let Some(v) = each(others).find(|&v| self.read >= known[v]) {
                verdict = Verdict::Race { with: v as u32, lane: SEVERAL, wrote: false };
            }
        } else if self.readers != 0 && self.read == now && lane != SEVERAL {
            for (seen, half) in self.seen.into_iter().zip(HALVES) {
                if mask & half != 0 && seen != NOBODY && seen != lane {
                    verdict = Verdict::Race { with: warp, lane: seen, wrote: false };
                }
            }
        }
        // Who is not ordered after these reads is not ordered after this write either.
        self.readers = 0;
        if self.written == now && u32::from(self.writer) == warp {
            for (wrote, half) in self.wrote.iter_mut().zip(HALVES) {
                if mask & half != 0 {
                    let alone = self.bytes & half == 0 || *wrote == lane;
                    *wrote = if alone { lane } else { SEVERAL };
                }
            }
            self.bytes |= mask;
        } else {
            (self.wrote, self.bytes) = ([lane; 2], mask);
        }
        (self.written, self.writer) = (now, warp as u8);
        verdict
    }

    /// Whether an access comes after the last write of its bytes.
    #[inline(always)]
    fn after_write(&self, who: Who<'_>, mask: u8) -> Verdict {
        if self.written < who.known[usize::from(self.writer) % WARPS] {
            return Verdict::Good;
        }
        self.unordered(who, mask)
    }

    #[inline(never)]
    fn unordered(&self, who: Who<'_>, mask: u8) -> Verdict {
        let with = u32::from(self.writer);
        let both = self.bytes & mask;
        if both == 0 {
            return Verdict::Good;
        }
        if with != who.warp {
            let lane = if both & HALVES[0] != 0 { self.wrote[0] } else { self.wrote[1] };
            return Verdict::Race { with, lane, wrote: true };
        }
        for (wrote, half) in self.wrote.into_iter().zip(HALVES) {
            if both & half != 0 && wrote != SEVERAL && wrote != who.lane && who.lane != SEVERAL {
                return Verdict::Race { with, lane: wrote, wrote: true };
            }
        }
        Verdict::Good
    }
}
