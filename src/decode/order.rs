//! Which masked positions a step keeps.

use crate::rng::{NoiseKey, Purpose};

/// Which of the tokens that a step draws are kept; how many of them is the schedule's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Order {
    /// Those the model is surest of, with noise (MaskGIT, arXiv 2202.04200).
    #[default]
    Confidence,
    /// Positions spread evenly over the grid, the same ones for every image: the Halton sequence of bases
    /// 2 and 3 (arXiv 2503.17076).
    Halton,
    /// Positions by chance.
    Random,
}

impl Order {
    /// What takes the place of the confidence of each position of a grid, larger first; `None` where the
    /// draws decide. Random positions all rank the same: the noise decides.
    pub(super) fn ranks(self, grid: [usize; 2]) -> Option<Vec<f32>> {
        let cells = grid[0] * grid[1];
        match self {
            Order::Confidence => None,
            Order::Random => Some(vec![0.0; cells]),
            Order::Halton => {
                let mut ranks = vec![0.0; cells];
                for (later, cell) in halton(grid).into_iter().enumerate() {
                    ranks[cell] = (cells - later) as f32;
                }
                Some(ranks)
            }
        }
    }
}

/// The `count` positions that come first when one after another is drawn without replacement, each with
/// chances in proportion to `exp(log_weights)` (Gumbel-top-k, Kool et al., arXiv 1903.06059); ascending.
pub(crate) fn drawn(log_weights: &[f32], count: usize, noise: NoiseKey) -> Vec<usize> {
    let score = |i: usize| log_weights[i] + noise.gumbel(Purpose::Order, i as u32, 0);
    let mut order: Vec<(f32, usize)> = (0..log_weights.len()).map(|i| (score(i), i)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut first: Vec<usize> = order.into_iter().take(count).map(|(_, i)| i).collect();
    first.sort_unstable();
    first
}

/// Every cell of a grid, in the order in which the points of the sequence first fall into them.
pub(crate) fn halton([rows, columns]: [usize; 2]) -> Vec<usize> {
    let cells = rows * columns;
    let (mut order, mut seen) = (Vec::with_capacity(cells), vec![false; cells]);
    let mut index = 0;
    while order.len() < cells {
        index += 1;
        let cell = scaled(index, 2, rows) * columns + scaled(index, 3, columns);
        if !std::mem::replace(&mut seen[cell], true) {
            order.push(cell);
        }
    }
    order
}

/// `⌊size · φ(index)⌋`, φ the radical inverse: the digits of `index` in `base` behind the point, in
/// reverse. Exact, so that all machines agree.
fn scaled(mut index: u64, base: u64, size: usize) -> usize {
    let (mut numerator, mut denominator) = (0, 1);
    while index > 0 {
        numerator = numerator * base + index % base;
        denominator *= base;
        index /= base;
    }
    (u128::from(numerator) * size as u128 / u128::from(denominator)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: NoiseKey = NoiseKey { seed: 5, stage: 0, step: 0 };

    /// The first points of the sequence are (1/2, 1/3), (1/4, 2/3), (3/4, 1/9), (1/8, 4/9), (5/8, 7/9).
    #[test]
    fn halton_begins_as_the_sequence_does() {
        let first: Vec<[usize; 2]> =
            halton([8, 9]).into_iter().take(5).map(|cell| [cell / 9, cell % 9]).collect();
        assert_eq!(first, [[4, 3], [2, 6], [6, 1], [1, 4], [5, 7]]);
    }

    #[test]
    fn halton_visits_every_cell_once() {
        for grid in [[1, 1], [8, 8], [16, 16], [3, 7], [64, 64]] {
            let mut cells = halton(grid);
            cells.sort_unstable();
            assert_eq!(cells, (0..grid[0] * grid[1]).collect::<Vec<_>>());
        }
    }

    #[test]
    fn draws_follow_the_weights() {
        let even = drawn(&[0.0; 40], 10, KEY);
        assert_eq!(even.len(), 10);
        assert!(even.windows(2).all(|pair| pair[0] < pair[1]));
        // The second half is ten times as likely: of ten draws about 1.1 are of the first one.
        let weights: Vec<f32> = (0..40).map(|i| if i < 20 { 0.0 } else { 10f32.ln() }).collect();
        let mut low = 0;
        for seed in 0..100 {
            let first = drawn(&weights, 10, NoiseKey { seed, ..KEY });
            low += first.iter().filter(|&&i| i < 20).count();
        }
        assert!((75..150).contains(&low), "{low} of 1000");
        assert_eq!(drawn(&weights, 40, KEY), (0..40).collect::<Vec<_>>());
    }
}
