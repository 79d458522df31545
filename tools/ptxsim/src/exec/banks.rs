//! How often a request goes to shared memory: 32 banks of 4-byte words, one word per bank and pass.
//!
//! Lanes go together as the width of their elements lets them: all 32 up to 4 bytes, 16 of 8, 8 of 16.
//! Lanes that ask for the same word share a pass, and so do those of one row of `ldmatrix`. Merging
//! across these groups, which hardware sometimes manages for few distinct addresses, is not modelled.

use super::lanes::{FULL, Lanes, each};

const BANKS: usize = 32;

/// Passes of a request, and those that it would need without conflicts.
#[inline(always)]
pub fn passes(at: &Lanes<u64>, mask: u32, bytes: usize) -> (u64, u64) {
    let together = if bytes <= 4 { 32 } else { 128 / bytes.clamp(8, 16) };
    if mask == FULL && bytes >= 4 && at[0].is_multiple_of(4) {
        let mut dense = true;
        for (i, &address) in at.iter().enumerate() {
            dense &= address == at[0].wrapping_add((i * bytes) as u64);
        }
        if dense {
            return ((32 / together) as u64, (32 / together) as u64);
        }
    }
    let (mut passes, mut least) = (0, 0);
    let lanes = FULL >> (32 - together);
    for first in (0..32).step_by(together) {
        let group = mask & (lanes << first);
        if group != 0 {
            passes += of_group(at, group, bytes);
            least += 1;
        }
    }
    (passes, least)
}

/// The most distinct words that lanes of a group want of one bank.
fn of_group(at: &Lanes<u64>, group: u32, bytes: usize) -> u64 {
    let mut words = [0u64; BANKS];
    let mut found = 0;
    let mut counts = [0u8; BANKS];
    let mut first = [u64::MAX; BANKS];
    let mut most = 1;
    for lane in each(group) {
        let start = at[lane] / 4;
        for word in start..start + (bytes as u64).div_ceil(4).min(4) {
            let bank = word as usize % BANKS;
            if first[bank] == word || counts[bank] > 1 && words[..found].contains(&word) {
                continue;
            }
            if counts[bank] == 0 {
                first[bank] = word;
            }
            words[found % BANKS] = word;
            found = (found + 1).min(BANKS);
            counts[bank] += 1;
            most = most.max(counts[bank]);
        }
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
