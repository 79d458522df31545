//! Sectors of global memory, 32 bytes each: how many a request touches, which the launch touched, and what
//! of that each block asks L2 for.

use super::access::Deed;
use super::lanes::{FULL, LANES, Lanes, each};
use crate::memory::Memory;
use crate::memory::l2::{Access, Run, SECTOR};

/// Sectors of a page of the tables.
const PAGE: usize = 2048;

/// What blocks of one host thread touched. A page's entry appears with its first access.
pub struct Sectors {
    base: u64,
    /// Per page, its index in `pages` and 1, or 0.
    index: Vec<u32>,
    pages: Vec<Page>,
    /// Number of the running block, from 1.
    block: u32,
    /// Of each block that began, its place in the grid, and in order what L1 does not keep for it.
    asked: Vec<(u64, Vec<Run>)>,
    /// Sectors that blocks read, each once per block.
    pub block_reads: u64,
}

struct Page {
    number: usize,
    /// Per sector, the last block that read it; 0: none.
    reads: Box<[u32; PAGE]>,
    /// A bit per sector.
    writes: Box<[u64; PAGE / 64]>,
}

impl Sectors {
    pub fn new(memory: &Memory) -> Self {
        let pages = memory.len().div_ceil(SECTOR * PAGE as u64) as usize;
        Self {
            base: memory.base(),
            index: vec![0; pages + 1],
            pages: Vec::new(),
            block: 0,
            asked: Vec::new(),
            block_reads: 0,
        }
    }

    /// The block at a place in the grid begins.
    pub fn next_block(&mut self, place: u64) -> u32 {
        self.asked.push((place, Vec::new()));
        self.block = self.asked.len() as u32;
        self.block
    }

    /// The block goes on. What others read since, it seems to read anew.
    pub fn resume(&mut self, block: u32) {
        self.block = block;
    }

    /// The sectors of a request; elements do not cross any, unless they are larger.
    pub fn touch(&mut self, at: &Lanes<u64>, mask: u32, bytes: u64, deed: Deed) -> u64 {
        if mask == FULL && dense(at, bytes) {
            let start = at[0].wrapping_sub(self.base);
            let sectors = start / SECTOR..=start.saturating_add(LANES as u64 * bytes - 1) / SECTOR;
            sectors.clone().for_each(|sector| self.mark(sector as usize, deed));
            return sectors.end() - sectors.start() + 1;
        }
        let mut seen = [0u64; 64];
        let (mut count, mut last, mut highest) = (0, u64::MAX, 0);
        for lane in each(mask) {
            let offset = at[lane].wrapping_sub(self.base);
            for sector in offset / SECTOR..=offset.saturating_add(bytes - 1) / SECTOR {
                if sector == last {
                    continue;
                }
                last = sector;
                // Ascending addresses need no search.
                if count > 0 && sector <= highest && seen[..count].contains(&sector) {
                    continue;
                }
                highest = highest.max(sector);
                if count < seen.len() {
                    seen[count] = sector;
                    count += 1;
                }
            }
        }
        for &sector in &seen[..count] {
            self.mark(sector as usize, deed);
        }
        count as u64
    }

    fn mark(&mut self, sector: usize, deed: Deed) {
        let (page, at) = (sector / PAGE, sector % PAGE);
        // An address outside device memory is the checks' to report.
        let Some(&index) = self.index.get(page) else { return };
        let page = match index {
            0 => self.page(page),
            index => index as usize - 1,
        };
        let page = &mut self.pages[page];
        if deed != Deed::Read {
            page.writes[at / 64] |= 1 << (at % 64);
        }
        let access = match deed {
            Deed::Read if page.reads[at] == self.block => return,
            Deed::Read => {
                page.reads[at] = self.block;
                self.block_reads += 1;
                Access::Read
            }
            Deed::Write(_) | Deed::Copy => Access::Write,
            Deed::Atomic => {
                // L2 works on it, and no block keeps it.
                if page.reads[at] == 0 {
                    page.reads[at] = u32::MAX;
                }
                Access::Update
            }
        };
        let first = sector as u64;
        let runs = &mut self.asked[self.block as usize - 1].1;
        match runs.last_mut().filter(|run| run.access == access) {
            Some(run) if run.first + u64::from(run.count) == first => run.count += 1,
            Some(run) if (run.first..run.first + u64::from(run.count)).contains(&first) => {}
            _ => runs.push(Run { first, count: 1, access }),
        }
    }

    /// Index of a new page.
    #[cold]
    fn page(&mut self, number: usize) -> usize {
        let page = Page { number, reads: Box::new([0; PAGE]), writes: Box::new([0; PAGE / 64]) };
        self.pages.push(page);
        self.index[number] = self.pages.len() as u32;
        self.pages.len() - 1
    }

    /// Takes in what another host thread's blocks touched.
    pub fn merge(&mut self, other: Sectors) {
        self.block_reads += other.block_reads;
        self.asked.extend(other.asked);
        for theirs in other.pages {
            let mine = match self.index[theirs.number] {
                0 => self.page(theirs.number),
                index => index as usize - 1,
            };
            let mine = &mut self.pages[mine];
            for (mine, theirs) in mine.reads.iter_mut().zip(theirs.reads.iter()) {
                *mine |= theirs;
            }
            for (mine, theirs) in mine.writes.iter_mut().zip(theirs.writes.iter()) {
                *mine |= theirs;
            }
        }
    }

    /// What the blocks ask L2 for, in their order in the grid.
    pub fn into_runs(mut self) -> Vec<Vec<Run>> {
        self.asked.sort_unstable_by_key(|&(place, _)| place);
        self.asked.into_iter().map(|(_, runs)| runs).collect()
    }

    /// Distinct sectors that were read, and written.
    pub fn unique(&self) -> (u64, u64) {
        let reads = self.pages.iter().flat_map(|p| p.reads.iter()).filter(|&&block| block != 0);
        let writes = self.pages.iter().flat_map(|p| p.writes.iter());
        (reads.count() as u64, writes.map(|bits| u64::from(bits.count_ones())).sum())
    }
}

/// Whether lanes lie side by side.
#[inline(always)]
fn dense(at: &Lanes<u64>, bytes: u64) -> bool {
    let mut differ = 0;
    for (i, &address) in at.iter().enumerate() {
        differ |= address ^ at[0].wrapping_add(i as u64 * bytes);
    }
    differ == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_blocks_and_launches_count_sectors_apart() {
        let memory = Memory::new(1 << 20).unwrap();
        let base = memory.base();
        let mut sectors = Sectors::new(&memory);
        let strided = |stride: u64| std::array::from_fn(|i| base + i as u64 * stride);
        sectors.next_block(1);
        // 32 words side by side: 128 bytes. One per 64 bytes: a sector each. 16 bytes each: 512 bytes.
        assert_eq!(sectors.touch(&strided(4), FULL, 4, Deed::Read), 4);
        assert_eq!(sectors.touch(&strided(64), FULL, 4, Deed::Read), 32);
        assert_eq!(sectors.touch(&strided(16), FULL, 16, Deed::Write(&[])), 16);
        assert_eq!(sectors.touch(&[base; 32], FULL, 4, Deed::Read), 1);
        assert_eq!(
            sectors.touch(&std::array::from_fn(|i| base + 124 - 4 * i as u64), FULL, 4, Deed::Read),
            4
        );
        // Reads: sectors 0 to 3, and every other to 62, of which 0 and 2 are among the first four.
        assert_eq!((sectors.block_reads, sectors.unique()), (34, (34, 16)));
        let mut other = Sectors::new(&memory);
        other.next_block(0);
        other.touch(&strided(4), 0x1FF, 4, Deed::Read);
        other.touch(&[base + 8192; 32], FULL, 4, Deed::Atomic);
        other.touch(&std::array::from_fn(|i| base + 4096 + i as u64 * 4), FULL, 4, Deed::Read);
        sectors.merge(other);
        // 9 words are 2 sectors, known here; four are new. The atomic's one is read and written, in L2.
        assert_eq!((sectors.block_reads, sectors.unique()), (40, (39, 17)));
        // Blocks in their order in the grid, each sector that L1 does not have once, neighbours in one run.
        let runs = sectors.into_runs();
        let run = |first, count, access| Run { first, count, access };
        let (read, update) = (Access::Read, Access::Update);
        assert_eq!(runs[0], [run(0, 2, read), run(256, 1, update), run(128, 4, read)]);
        assert_eq!(runs[1][..2], [run(0, 5, read), run(6, 1, read)]);
        assert_eq!(runs[1].last(), Some(&run(0, 16, Access::Write)));
    }
}
