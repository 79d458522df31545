//! The L2 cache between the multiprocessors and device memory, for the counters: what it keeps from launch
//! to launch, and what therefore crosses to and from DRAM.
//!
//! Lines of four sectors in sets of `WAYS`; a miss fetches the sectors that are missing, a line that makes
//! room is the least recently used of its set and writes back the sectors that were written. A sector
//! written in part counts as written whole and is not fetched, as the device keeps a mask of its bytes.
//!
//! What blocks ask for is replayed when the launch is over, so that it depends on no host thread: as many
//! blocks at once as the device holds, in their order in the grid, each a run of sectors in turn.
//!
//! NVIDIA publishes capacities, and neither ways, nor policy, nor which address is in which set: 16 ways are
//! Accel-Sim's assumption too, and sets are spread so that each stretch of addresses fills all of them
//! alike. That the halves of a large L2 may both hold a line is not modelled, nor are residency controls.
//!
//! Copies and memsets of the host are no launch's traffic: they drop what L2 has of the bytes they write.

use memmap2::MmapMut;

/// Bytes of a sector.
pub const SECTOR: u64 = 32;
/// Sectors of a line.
const LINE: u64 = 4;
/// Lines of a set.
const WAYS: usize = 16;
/// Sets that a line's neighbour a whole round of sets away is moved on by, so that strides of powers of two
/// do not meet in one set.
const SKEW: u64 = 7919;

/// What blocks do to L2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    /// An atomic operation: both.
    Update,
}

/// Sectors side by side, by number from the first of device memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub first: u64,
    pub count: u32,
    pub access: Access,
}

/// Sectors that crossed between L2 and DRAM, and that any L2 would have let cross.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    pub reads: u64,
    pub writes: u64,
    /// Read for the first time since the host wrote them, and before any launch wrote them.
    pub first_reads: u64,
    /// Written for the first time by any launch since the host wrote them.
    pub first_writes: u64,
}

/// See the module. Without lines until a launch is counted.
#[derive(Debug)]
pub struct L2 {
    /// Sets one after the other, in each the most recently used line first.
    lines: Vec<Line>,
    /// Per line of device memory, a bit for each sector that launches touched, and, 4 bits up, wrote.
    known: MmapMut,
    traffic: Traffic,
}

#[derive(Debug, Clone, Copy, Default)]
struct Line {
    number: u32,
    /// A bit per sector.
    held: u8,
    /// Those that DRAM does not have yet.
    dirty: u8,
}

impl L2 {
    /// Bytes of the table for so many of device memory.
    pub fn table_bytes(memory: u64) -> u64 {
        memory.div_ceil(SECTOR * LINE)
    }

    /// `known` is all zero, and has [`L2::table_bytes`].
    pub fn new(known: MmapMut) -> Self {
        Self { lines: Vec::new(), known, traffic: Traffic::default() }
    }

    /// Gives it its lines, where it has none yet.
    pub fn fit(&mut self, bytes: u64) {
        if self.lines.is_empty() {
            let sets = (bytes / (SECTOR * LINE) / WAYS as u64).max(1);
            self.lines = vec![Line::default(); sets as usize * WAYS];
        }
    }

    /// A launch, as the module says: what each of its blocks asks for, `resident` of them at once.
    pub fn replay(&mut self, blocks: Vec<Vec<Run>>, resident: u64) -> Traffic {
        let mut waiting = blocks.into_iter().map(Vec::into_iter);
        let mut live: Vec<_> = waiting.by_ref().take(resident.max(1) as usize).collect();
        self.traffic = Traffic::default();
        while !live.is_empty() {
            live.retain_mut(|block| {
                loop {
                    if let Some(run) = block.next() {
                        self.run(run);
                        return true;
                    }
                    match waiting.next() {
                        Some(next) => *block = next,
                        None => return false,
                    }
                }
            });
        }
        self.traffic
    }

    fn run(&mut self, run: Run) {
        each_line(run.first..run.first + u64::from(run.count), |line, mask| {
            self.touch(line, mask, run.access);
        });
    }

    fn touch(&mut self, number: u64, mask: u8, access: Access) {
        let known = &mut self.known[number as usize];
        let traffic = &mut self.traffic;
        if access != Access::Write {
            traffic.first_reads += bits(mask & !*known);
        }
        if access != Access::Read {
            traffic.first_writes += bits(mask & !(*known >> LINE));
            *known |= mask << LINE;
        }
        *known |= mask;

        let set = set_of(&mut self.lines, number);
        let number = number as u32;
        let at = find(set, number).unwrap_or_else(|| {
            let way = set.iter().position(|line| line.held == 0).unwrap_or(WAYS - 1);
            traffic.writes += bits(set[way].dirty);
            set[way] = Line { number, held: 0, dirty: 0 };
            way
        });
        let line = &mut set[at];
        if access != Access::Write {
            traffic.reads += bits(mask & !line.held);
        }
        line.held |= mask;
        if access != Access::Read {
            line.dirty |= mask;
        }
        set[..=at].rotate_right(1);
    }

    /// The host writes bytes `start..end` of device memory. Sectors at the ends that it writes in part stay.
    pub fn overwrite(&mut self, start: u64, end: u64) {
        if self.lines.is_empty() {
            return;
        }
        each_line(start.div_ceil(SECTOR)..end / SECTOR, |number, mask| {
            self.known[number as usize] &= !(mask | mask << LINE);
            let set = set_of(&mut self.lines, number);
            if let Some(at) = find(set, number as u32) {
                set[at].held &= !mask;
                set[at].dirty &= !mask;
            }
        });
    }

    /// Sectors that were written and have not reached DRAM.
    pub fn dirty(&self) -> u64 {
        self.lines.iter().map(|line| bits(line.dirty)).sum()
    }
}

/// The lines that sectors lie in, and which of a line's they are.
fn each_line(sectors: std::ops::Range<u64>, mut visit: impl FnMut(u64, u8)) {
    let mut at = sectors.start;
    while at < sectors.end {
        let line = at / LINE;
        let end = sectors.end.min((line + 1) * LINE);
        visit(line, ((1 << (end - at)) - 1) << (at % LINE));
        at = end;
    }
}

fn set_of(lines: &mut [Line], number: u64) -> &mut [Line] {
    let sets = (lines.len() / WAYS) as u64;
    let set = (number + number / sets * SKEW) % sets;
    &mut lines[set as usize * WAYS..][..WAYS]
}

fn find(set: &[Line], number: u32) -> Option<usize> {
    set.iter().position(|line| line.number == number && line.held != 0)
}

fn bits(mask: u8) -> u64 {
    mask.count_ones().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn l2(bytes: u64) -> L2 {
        let mut l2 = L2::new(MmapMut::map_anon(1 << 16).unwrap());
        l2.fit(bytes);
        l2
    }

    fn run(first: u64, count: u32, access: Access) -> Run {
        Run { first, count, access }
    }

    /// One set, against a list of sectors and the times of their lines' last use.
    #[test]
    fn a_set_does_as_the_definition_of_lru_says() {
        let mut l2 = l2(16 * 128);
        // Sector, dirty; last use by line.
        let mut held: Vec<(u64, bool)> = Vec::new();
        let mut used: Vec<(u64, u64)> = Vec::new();
        let (mut seen, mut written) = (Vec::new(), Vec::new());
        let mut state = 1u64;
        let mut random = |n: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % n
        };
        let (mut evicted, mut discarded) = (0, 0);
        for time in 0..20_000 {
            let (first, count) = (random(20 * 4), 1 + random(6));
            let mut expected = Traffic::default();
            if random(40) == 0 {
                // Bytes that begin and end within sectors.
                l2.overwrite(32 * first + 31, 32 * (first + count) + 33);
                let gone = |sector: u64| (first + 1..first + count + 1).contains(&sector);
                discarded += held.iter().filter(|&&(sector, dirty)| dirty && gone(sector)).count();
                held.retain(|&(sector, _)| !gone(sector));
                used.retain(|&(line, _)| held.iter().any(|&(sector, _)| sector / 4 == line));
                seen.retain(|&sector| !gone(sector));
                written.retain(|&sector| !gone(sector));
                continue;
            }
            let access = [Access::Read, Access::Write, Access::Update][random(3) as usize];
            for sector in first..first + count {
                if !used.iter().any(|&(line, _)| line == sector / 4) && used.len() == 16 {
                    let &(oldest, _) = used.iter().min_by_key(|&&(_, time)| time).unwrap();
                    let dirty = held.iter().filter(|&&(s, dirty)| dirty && s / 4 == oldest);
                    expected.writes += dirty.count() as u64;
                    held.retain(|&(sector, _)| sector / 4 != oldest);
                    used.retain(|&(line, _)| line != oldest);
                    evicted += 1;
                }
                used.retain(|&(line, _)| line != sector / 4);
                used.push((sector / 4, 10 * time + (sector - first)));
                let reads = access != Access::Write;
                let writes = access != Access::Read;
                if !held.iter().any(|&(s, _)| s == sector) {
                    expected.reads += u64::from(reads);
                    held.push((sector, false));
                }
                held.iter_mut().filter(|(s, _)| *s == sector).for_each(|(_, d)| *d |= writes);
                expected.first_reads += u64::from(reads && !seen.contains(&sector));
                expected.first_writes += u64::from(writes && !written.contains(&sector));
                seen.push(sector);
                if writes {
                    written.push(sector);
                }
                seen.dedup();
                written.dedup();
            }
            let found = l2.replay(vec![vec![run(first, count as u32, access)]], 1);
            assert_eq!(found, expected, "{access:?} {first} {count} at {time}");
            assert_eq!(l2.dirty(), held.iter().filter(|(_, dirty)| *dirty).count() as u64);
        }
        assert!(evicted > 1000 && discarded > 100, "{evicted} {discarded}");
    }

    /// Whatever its start, a stretch of addresses fills no set with more than one line beyond its share,
    /// and the lines of a stride of a power of two do not all meet in one.
    #[test]
    fn sets_are_filled_alike() {
        let mut l2 = l2(40 << 10);
        let sets = l2.lines.len() as u64 / WAYS as u64;
        let filled = |l2: &mut L2, lines: &mut dyn Iterator<Item = u64>| {
            let mut per_set = std::collections::HashMap::new();
            for line in lines {
                *per_set.entry(set_of(&mut l2.lines, line).as_ptr()).or_insert(0) += 1;
            }
            *per_set.values().max().unwrap()
        };
        for start in [0, 5, 77] {
            assert!(filled(&mut l2, &mut (start..start + 8 * sets)) <= 9, "from {start}");
        }
        assert!(filled(&mut l2, &mut (0..8 * sets).map(|i| i * sets)) < 8 * sets);
        assert!(filled(&mut l2, &mut (0..64).map(|i| i * sets)) < 64 / 4);
    }

    /// Two blocks that read the same, more than L2 holds: at once they share it, one after the other they
    /// do not.
    #[test]
    fn blocks_that_the_device_holds_go_on_together() {
        for (resident, reads) in [(1, 2 * 1024), (2, 1024)] {
            let block: Vec<Run> = (0..256).map(|i| run(4 * i, 4, Access::Read)).collect();
            let traffic = l2(16 << 10).replay(vec![block.clone(), block], resident);
            assert_eq!((traffic.reads, traffic.first_reads), (reads, 1024));
        }
    }
}
