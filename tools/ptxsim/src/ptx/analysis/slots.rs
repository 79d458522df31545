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
pub(super) fn assign(registers: &[Register], lives: &[Life]) -> (Vec<Slot>, u32) {
    let mut slots: Vec<Slot> =
        registers.iter().map(|r| Slot { offset: 0, lane_bytes: lane_bytes(r.ty) }).collect();
    let mut order: Vec<(usize, usize, usize)> = lives
        .iter()
        .enumerate()
        .filter_map(|(register, life)| life.map(|(first, last)| (first, last, register)))
        .collect();
    order.sort_unstable();
    let mut file = File::default();
    let mut ending: BinaryHeap<Reverse<(usize, usize)>> = BinaryHeap::new();
    for (first, last, register) in order {
        while let Some(Reverse((end, other))) = ending.peek().copied()
            && end < first
        {
            ending.pop();
            file.give(slots[other].offset / UNIT, units(slots[other]));
        }
        slots[register].offset = file.take(units(slots[register])) * UNIT;
        ending.push(Reverse((last, register)));
    }
    (slots, file.in_use.len() as u32 * UNIT)
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

/// The register file in units; the lowest free place is taken.
#[derive(Default)]
struct File {
    in_use: Vec<bool>,
    /// No unit below is free.
    lowest: usize,
}

impl File {
    fn take(&mut self, units: u32) -> u32 {
        let units = units as usize;
        while self.in_use.get(self.lowest) == Some(&true) {
            self.lowest += 1;
        }
        // A slot of several units begins at a multiple of its size, or small ones would splinter the file.
        let mut start = self.lowest.next_multiple_of(units);
        while self.in_use.iter().skip(start).take(units).any(|used| *used) {
            start += units;
        }
        if self.in_use.len() < start + units {
            self.in_use.resize(start + units, false);
        }
        self.in_use[start..start + units].fill(true);
        start as u32
    }

    fn give(&mut self, start: u32, units: u32) {
        let start = start as usize;
        self.in_use[start..start + units as usize].fill(false);
        self.lowest = self.lowest.min(start);
    }
}
