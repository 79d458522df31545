//! A place in the warp's register file for each register: linear scan over lives.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::super::ast::{Register, Type};
use super::Slot;
use super::liveness::Life;

/// Every slot begins at a multiple of this: a cache line, and the smallest slot.
const UNIT: u32 = 64;
const LANES: u32 = 32;

/// Slots and the bytes of the file. Registers nobody names share the first slot; they are never touched.
///
/// Only registers of one width share slots: a lane's part of a slot is then the same bytes for all of
/// them, and lanes that run on write over nothing that lanes elsewhere still need.
pub(super) fn assign(registers: &[Register], lives: &[Life]) -> (Vec<Slot>, u32) {
    let mut slots: Vec<Slot> =
        registers.iter().map(|r| Slot { offset: 0, lane_bytes: lane_bytes(r.ty) }).collect();
    let mut order: Vec<(u8, usize, usize, usize)> = lives
        .iter()
        .enumerate()
        .filter_map(|(register, life)| {
            life.map(|(first, last)| (slots[register].lane_bytes, first, last, register))
        })
        .collect();
    order.sort_unstable();
    let mut end = 0;
    for class in order.chunk_by(|a, b| a.0 == b.0) {
        let mut file = File::default();
        let mut ending: BinaryHeap<Reverse<(usize, usize)>> = BinaryHeap::new();
        for &(_, first, last, register) in class {
            while let Some(Reverse((last, other))) = ending.peek().copied()
                && last < first
            {
                ending.pop();
                file.give((slots[other].offset - end) / UNIT / units(slots[other]));
            }
            slots[register].offset = end + file.take() * units(slots[register]) * UNIT;
            ending.push(Reverse((last, register)));
        }
        end += file.in_use.len() as u32 * units(slots[class[0].3]) * UNIT;
    }
    (slots, end)
}

fn lane_bytes(ty: Type) -> u8 {
    match ty {
        Type::Pred => 0,
        ty => ty.bytes().max(2) as u8,
    }
}

fn units(slot: Slot) -> u32 {
    (u32::from(slot.lane_bytes) * LANES).div_ceil(UNIT).max(1)
}

/// The slots of one width; the lowest free one is taken.
#[derive(Default)]
struct File {
    in_use: Vec<bool>,
    /// No slot below is free.
    lowest: usize,
}

impl File {
    fn take(&mut self) -> u32 {
        while self.in_use.get(self.lowest) == Some(&true) {
            self.lowest += 1;
        }
        if self.in_use.len() == self.lowest {
            self.in_use.push(false);
        }
        self.in_use[self.lowest] = true;
        self.lowest as u32
    }

    fn give(&mut self, slot: u32) {
        self.in_use[slot as usize] = false;
        self.lowest = self.lowest.min(slot as usize);
    }
}
