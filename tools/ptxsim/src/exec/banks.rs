//! How often a request goes to shared memory: 32 banks of 4-byte words, one word per bank and pass.
//!
//! Lanes go together as the width of their elements lets them: all 32 up to 4 bytes, 16 of 8, 8 of 16.
//! Lanes that ask for the same word share a pass, and so do those of one row of `ldmatrix`. Merging
//! across these groups, which hardware sometimes manages for few distinct addresses, is not modelled.

use super::lanes::{FULL, Lanes, each};

const BANKS: usize = 32;

/// Passes of a request, and those that it would need without conflicts. Elements are aligned to their
/// width.
#[inline(always)]
pub fn passes(at: &Lanes<u64>, mask: u32, bytes: usize) -> (u64, u64) {
    // A row of the banks is 128 bytes: so many slots of an element's width, and lanes that go together.
    let (shift, together) = match bytes {
        0..=4 => (2, 32),
        5..=8 => (3, 16),
        _ => (4, 8),
    };
    let (mut passes, mut least) = (0, 0);
    for first in (0..32).step_by(together) {
        let group = mask & ((FULL >> (32 - together)) << first);
        if group == 0 {
            continue;
        }
        least += 1;
        let (mut slots, mut differ) = (0u32, 0);
        for &address in &at[first..first + together] {
            slots |= 1 << ((address >> shift) as usize % together);
            differ |= (address ^ at[first]) >> shift;
        }
        // Every lane has a slot of its own, or all have the same element.
        let whole = group.count_ones() as usize == together;
        if whole && (slots.count_ones() as usize == together || differ == 0) {
            passes += 1;
        } else {
            passes += of_group(at, group, shift, together);
        }
    }
    (passes, least)
}

/// The most distinct elements that lanes of a group want of one slot.
fn of_group(at: &Lanes<u64>, group: u32, shift: u32, slots: usize) -> u64 {
    let mut elements = [0u64; BANKS];
    let mut found = 0;
    let mut counts = [0u8; BANKS];
    let mut most = 1;
    for lane in each(group) {
        let element = at[lane] >> shift;
        let slot = element as usize % slots;
        if counts[slot] > 0 && elements[..found].contains(&element) {
            continue;
        }
        elements[found] = element;
        found += 1;
        counts[slot] += 1;
        most = most.max(counts[slot]);
    }
    u64::from(most)
}

/// Passes of atomic operations: lanes that want the same bank take turns, the same word or not.
pub fn atomic_passes(at: &Lanes<u64>, mask: u32) -> u64 {
    let mut counts = [0u64; BANKS];
    for lane in each(mask) {
        counts[(at[lane] / 4) as usize % BANKS] += 1;
    }
    counts.into_iter().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strided(stride: u64) -> Lanes<u64> {
        std::array::from_fn(|i| i as u64 * stride)
    }

    #[test]
    fn strides_conflict_as_their_common_factor_with_the_banks() {
        // Words at a stride of s: 32 / gcd(s, 32) banks, so gcd(s, 32) words in each.
        for (words, passes_expected) in [(1, 1), (2, 2), (3, 1), (4, 4), (8, 8), (32, 32), (33, 1)]
        {
            assert_eq!(passes(&strided(4 * words), FULL, 4), (passes_expected, 1), "{words}");
        }
        assert_eq!(passes(&[64; 32], FULL, 4), (1, 1), "one word for all");
        assert_eq!(passes(&strided(2), FULL, 2), (1, 1), "two halves of a word");
    }

    #[test]
    fn wide_elements_go_in_parts_of_a_warp() {
        assert_eq!(passes(&strided(8), FULL, 8), (2, 2));
        assert_eq!(passes(&strided(16), FULL, 16), (4, 4));
        // Eight rows of 64 bytes: rows 0, 2, 4, 6 begin in the same bank, so four words in each.
        assert_eq!(passes(&strided(64), FULL, 16), (16, 4));
        // Rows of 128 bytes: all eight; padded by 16 bytes: none.
        assert_eq!(passes(&strided(128), FULL, 16), (32, 4));
        assert_eq!(passes(&strided(144), FULL, 16), (4, 4));
        assert_eq!(passes(&strided(128), 0xFF, 16), (8, 1), "a quarter of the warp");
        assert_eq!(passes(&strided(4), 0x1, 4), (1, 1));
    }

    #[test]
    fn atomics_take_turns_at_a_word() {
        assert_eq!(atomic_passes(&[64; 32], FULL), 32);
        assert_eq!(atomic_passes(&strided(4), FULL), 1);
        assert_eq!(atomic_passes(&strided(8), 0xFFFF_FFFF), 2);
    }
}
