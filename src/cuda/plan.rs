//! Which tile a block computes and how many blocks share a sum: chosen here and nowhere else, from a table that
//! was timed on the device, or else by rule. Results do not depend on it beyond the order of sums.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::blocks;
use super::launch::*;
use super::linear::{TILES, Tile};
use crate::device::Attention;
use crate::tensor::DType;

/// The verbs whose kernels have a choice. A convolution's geometry and a linear layer's activation do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choosing {
    /// [`crate::device::Device::linear`].
    Linear,
    /// [`crate::device::Device::linear_add`].
    LinearAdd,
    /// [`crate::device::Device::linear_add_norm`].
    LinearAddNorm,
    /// [`crate::device::Device::conv2d`].
    Conv2d,
    /// [`crate::device::Device::attention`].
    Attention,
}

/// What a plan is chosen for: an output `[m, n]` of sums over k, rows rounded up to those of the smallest tile;
/// or queries, keys and channels of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// Who asks.
    pub verb: Choosing,
    /// Products of this size in one launch: 1, or heads of all sequences.
    pub batch: usize,
    /// Output rows, or queries of a sequence.
    pub m: usize,
    /// Output columns, or keys of a sequence.
    pub n: usize,
    /// Terms of a sum, all taps; or channels of a head.
    pub k: usize,
    /// What is stored.
    pub out: DType,
}

impl Problem {
    /// A product of `m` rows.
    pub(super) fn product(verb: Choosing, [m, n, k]: [usize; 3], out: DType) -> Self {
        Problem { verb, batch: 1, m: m.next_multiple_of(GEMM_SMALL_M as usize), n, k, out }
    }

    /// An attention; keys rounded up to a stage of them.
    pub(super) fn attention(sizes: Attention) -> Self {
        let Attention { batch, heads, head_dim, queries, keys, .. } = sizes;
        Problem {
            verb: Choosing::Attention,
            batch: batch * heads,
            m: queries.next_multiple_of(ATTENTION_ROWS as usize),
            n: keys.next_multiple_of(ATTENTION_KEYS as usize),
            k: head_dim,
            out: DType::BF16,
        }
    }

    /// Tiles that cover the output.
    fn tiles(&self, tile: Tile) -> u32 {
        let [x, y, _] = tile.grid(self.m, self.n);
        x * y
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { verb, batch, m, n, k, out } = self;
        match verb {
            Choosing::Linear => write!(f, "linear {m}×{n}×{k} {out}"),
            Choosing::LinearAdd => write!(f, "linear_add {m}×{n}×{k}"),
            Choosing::LinearAddNorm => write!(f, "linear_add_norm {m}×{n}×{k} {out}"),
            Choosing::Conv2d => write!(f, "conv2d {m}×{n}×{k} {out}"),
            Choosing::Attention => write!(f, "attention {batch}×{m}×{n}×{k}"),
        }
    }
}

/// How the work is shared among blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Rows and columns of a block's tile; of an attention, queries and keys.
    pub tile: [u32; 2],
    /// Blocks that share a tile, each with its part of k.
    pub splits: u32,
}

impl Plan {
    /// `linear_add_norm` as two launches.
    pub const APART: Plan = Plan { tile: [0, 0], splits: 0 };

    pub(super) fn new(tile: Tile, splits: u32) -> Self {
        Plan { tile: [tile.rows, tile.columns], splits }
    }

    /// Index of the tile in [`TILES`].
    pub(super) fn index(self) -> usize {
        let found = TILES.iter().position(|tile| [tile.rows, tile.columns] == self.tile);
        found.expect("plans come from this file, and tables are checked")
    }

    /// Blocks for an output `[m, n]`.
    pub(super) fn grid(self, m: usize, n: usize) -> [u32; 3] {
        let [x, y, _] = TILES[self.index()].grid(m, n);
        [x, y, self.splits]
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { tile: [rows, columns], splits } = self;
        match splits {
            0 => write!(f, "apart"),
            1 => write!(f, "{rows}×{columns}"),
            _ => write!(f, "{rows}×{columns}, {splits} splits"),
        }
    }
}

/// Index of the tile for an output `[m, n]`: the largest that still gives most multiprocessors a block.
/// A larger tile reads less for each product; blocks that are missing leave multiprocessors idle.
pub(super) fn choose(m: usize, n: usize, multiprocessors: u32) -> usize {
    let enough = |tile: &Tile| {
        let [x, y, _] = tile.grid(m, n);
        10 * x * y >= 7 * multiprocessors
    };
    TILES.iter().rposition(enough).unwrap_or(0)
}

/// Steps in k, of GEMM_DEPTH each, below which sharing a tile costs more than it saves.
const SPLIT_STEPS: u32 = 4;
/// Most blocks that share a tile.
const SPLITS: u32 = 8;
/// Blocks of an attention that fill a large GPU well enough: below, fewer query rows a block make more of them.
const ENOUGH: u32 = 96;
/// The same for the blocks of twice as many rows, of which a multiprocessor has two at a time.
const ENOUGH_WIDE: u32 = 264;
/// Channels of a head up to which attention has blocks of twice as many rows.
const WIDE: usize = 64;

/// Chooses plans for one device.
pub(super) struct Plans {
    pub multiprocessors: u32,
    /// Blocks of `linear_add_norm` that are resident at once, by tile.
    pub resident: Vec<u32>,
    pub table: BTreeMap<Problem, Plan>,
}

impl Plans {
    /// The plan to use.
    pub fn of(&self, problem: &Problem) -> Plan {
        self.table.get(problem).copied().unwrap_or_else(|| self.rule(problem))
    }

    /// The plan without a table. The rules come from the modelled bound of an H100, not from a measurement.
    pub fn rule(&self, problem: &Problem) -> Plan {
        let Problem { verb, m, n, .. } = *problem;
        let tile = TILES[choose(m, n, self.multiprocessors)];
        match verb {
            Choosing::Attention => self.attention_rule(problem),
            Choosing::Conv2d => Plan::new(tile, 1),
            Choosing::Linear | Choosing::LinearAdd => self.shared(problem, tile),
            Choosing::LinearAddNorm => {
                let plan = self.shared(problem, tile);
                if self.fuses(problem, plan) { plan } else { Plan::APART }
            }
        }
    }

    /// Where tiles are few and sums long, so many blocks share a tile that multiprocessors have two of them, one
    /// to work while the other waits.
    fn shared(&self, problem: &Problem, tile: Tile) -> Plan {
        let most = most_splits(problem, tile).min(blocks(problem.k, GEMM_DEPTH) / SPLIT_STEPS);
        let wanted = 2 * self.multiprocessors / problem.tiles(tile);
        Plan::new(tile, wanted.min(most).clamp(1, SPLITS))
    }

    fn attention_rule(&self, problem: &Problem) -> Plan {
        let tiles = |warps: u32| blocks(problem.m, ATTENTION_ROWS * warps);
        let of_batch = problem.batch as u32;
        let most = tiles(2 * ATTENTION_WARPS);
        let wide = most * of_batch >= ENOUGH_WIDE && tiles(ATTENTION_WARPS) > 1;
        if problem.k <= WIDE && wide {
            return attention(2 * ATTENTION_WARPS);
        }
        let mut warps = ATTENTION_WARPS;
        while warps > 1 && (tiles(warps) * of_batch < ENOUGH || tiles(warps / 2) == 1) {
            warps /= 2;
        }
        attention(warps)
    }

    /// Whether one launch of `linear_add_norm` can do both: its blocks wait for each other, so all of them must
    /// be resident.
    fn fuses(&self, problem: &Problem, plan: Plan) -> bool {
        let [columns, rows, splits] = plan.grid(problem.m, problem.n);
        let resident = self.resident.get(plan.index()).copied().unwrap_or(0);
        problem.out == DType::BF16 && columns * rows * splits <= resident && rows <= GEMM_ROW_SLOTS
    }

    /// Every plan that gives the result.
    pub fn allowed(&self, problem: &Problem) -> Vec<Plan> {
        let splits = |tile: Tile| {
            let most =
                most_splits(problem, tile).min(blocks(problem.k, GEMM_DEPTH)).clamp(1, SPLITS);
            (1..=most).map(move |splits| Plan::new(tile, splits))
        };
        match problem.verb {
            Choosing::Attention => {
                let wide = if problem.k <= WIDE { 2 } else { 1 };
                let most = wide * ATTENTION_WARPS;
                (0..=most.ilog2()).map(|power| attention(1 << power)).collect()
            }
            Choosing::Conv2d => TILES.iter().map(|&tile| Plan::new(tile, 1)).collect(),
            Choosing::Linear | Choosing::LinearAdd => {
                TILES.iter().flat_map(|&tile| splits(tile)).collect()
            }
            Choosing::LinearAddNorm => {
                let all = TILES.iter().flat_map(|&tile| splits(tile));
                all.filter(|&plan| self.fuses(problem, plan)).chain([Plan::APART]).collect()
            }
        }
    }
}

/// The plan of an attention whose blocks have `warps` times ATTENTION_ROWS queries.
fn attention(warps: u32) -> Plan {
    Plan { tile: [ATTENTION_ROWS * warps, ATTENTION_KEYS], splits: 1 }
}

/// Blocks that can share a tile: parts of sums have so much room.
fn most_splits(problem: &Problem, tile: Tile) -> u32 {
    let tiles = problem.tiles(tile);
    match tiles > GEMM_TILE_SLOTS {
        true => 1,
        false => GEMM_PART_SLOTS / (tiles * tile.rows * tile.columns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans() -> Plans {
        Plans { multiprocessors: 132, resident: vec![528, 396], table: BTreeMap::new() }
    }

    #[test]
    fn small_outputs_get_small_tiles() {
        let chosen = |m, n| choose(m, n, 132);
        assert_eq!(chosen(1, 1), 0);
        assert_eq!(chosen(512, 1024), 1); // 128 blocks: four multiprocessors idle
        assert_eq!(chosen(256, 1024), 0);
        assert_eq!(chosen(512, 2048), 1);
        assert_eq!(chosen(512, 3072), 2); // 96 blocks, each reading half as much per product
        assert_eq!(chosen(8192, 8192), 2);
        for (m, n) in [(1, 1), (31, 65), (512, 1024), (4096, 70)] {
            let tile = TILES[choose(m, n, 132)];
            let [x, y, z] = tile.grid(m, n);
            assert!(x * tile.columns >= n as u32 && y * tile.rows >= m as u32 && z == 1);
        }
    }

    #[test]
    fn few_tiles_with_long_sums_are_shared() {
        let plan =
            |m, n, k| plans().rule(&Problem::product(Choosing::Linear, [m, n, k], DType::BF16));
        assert_eq!(plan(512, 1024, 1024), Plan::new(TILES[1], 2));
        assert_eq!(plan(512, 1024, 128), Plan::new(TILES[1], 1));
        assert_eq!(plan(64, 256, 4096), Plan::new(TILES[0], 8));
        assert_eq!(plan(512, 4096, 4096), Plan::new(TILES[2], 1)); // no room for two parts
        assert_eq!(plan(8192, 8192, 8192).splits, 1);
    }

    #[test]
    fn what_is_allowed_has_room_and_holds_the_rule() {
        let verbs =
            [Choosing::Linear, Choosing::LinearAdd, Choosing::LinearAddNorm, Choosing::Conv2d];
        for [m, n, k] in
            [[1, 1, 1], [1, 70_000, 4096], [31, 65, 70], [640, 1024, 9000], [8192, 8192, 64]]
        {
            for verb in verbs {
                let problem = Problem::product(verb, [m, n, k], DType::BF16);
                let allowed = plans().allowed(&problem);
                assert!(allowed.contains(&plans().rule(&problem)), "{problem}");
                for plan in allowed.into_iter().filter(|plan| *plan != Plan::APART) {
                    let [x, y, z] = plan.grid(m, n);
                    let [rows, columns] = plan.tile;
                    assert!(z >= 1 && z <= blocks(k, GEMM_DEPTH), "{problem}: {plan}");
                    assert!(z == 1 || x * y <= GEMM_TILE_SLOTS, "{problem}: {plan}");
                    let sums = x * y * rows * columns * z;
                    assert!(z == 1 || sums <= GEMM_PART_SLOTS, "{problem}: {plan}");
                }
            }
        }
    }

    #[test]
    fn a_table_goes_before_the_rule() {
        let problem = Problem::product(Choosing::Linear, [500, 1024, 1024], DType::BF16);
        let mut plans = plans();
        let other = Plan::new(TILES[0], 3);
        assert_ne!(plans.of(&problem), other);
        plans.table.insert(problem, other);
        assert_eq!(plans.of(&problem), other);
    }
}
