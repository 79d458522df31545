//! Quantiles, and how sure one may be of a ratio of medians.

use serde::{Deserialize, Serialize};

use crate::rng::philox;

/// Samples in a few numbers, of the samples' unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// How many samples.
    pub count: usize,
    /// Half of them are less.
    pub median: f64,
    /// 5 % are less.
    pub p5: f64,
    /// 95 % are less.
    pub p95: f64,
    /// 99 % are less.
    pub p99: f64,
    /// Median distance from the median.
    pub mad: f64,
}

/// `None` without samples.
pub fn summary(samples: &[f64]) -> Option<Summary> {
    let sorted = sorted(samples);
    let at = |q| quantile(&sorted, q);
    let median = at(0.5)?;
    let distances: Vec<f64> = samples.iter().map(|x| (x - median).abs()).collect();
    Some(Summary {
        count: samples.len(),
        median,
        p5: at(0.05)?,
        p95: at(0.95)?,
        p99: at(0.99)?,
        mad: quantile(&self::sorted(&distances), 0.5)?,
    })
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Between the two samples next to it, linearly.
fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let place = q * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

/// How many times as long b takes as a.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// Median of b over median of a; of pairs, the median of the pairs' ratios.
    pub ratio: f64,
    /// Lower end of the interval that holds 95 % of the bootstrap's ratios.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Ratio {
    /// b is slower by more than `threshold` (0.05 is 5 %), and surely slower.
    pub fn is_regression(&self, threshold: f64) -> bool {
        self.ratio > 1.0 + threshold && self.low > 1.0
    }
}

/// The ratio of b to a with its interval, by the percentile bootstrap (Efron 1979) of 2000 resamples, the same
/// ones every time. Pairs are samples of one number, taken one after the other: what disturbs both cancels.
/// `None` without samples, or for pairs that do not match.
pub fn ratio(a: &[f64], b: &[f64], paired: bool) -> Option<Ratio> {
    const RESAMPLES: u32 = 2000;
    if a.is_empty() || b.is_empty() || paired && a.len() != b.len() {
        return None;
    }
    let pairs: Vec<f64> = a.iter().zip(b).map(|(a, b)| b / a).collect();
    let median = |samples: &[f64]| quantile(&sorted(samples), 0.5).unwrap_or(f64::NAN);
    let of = |pick: &dyn Fn(&[f64], u32) -> Vec<f64>| match paired {
        true => median(&pick(&pairs, 0)),
        false => median(&pick(b, 0)) / median(&pick(a, 1)),
    };
    let ratios: Vec<f64> = (0..RESAMPLES)
        .map(|resample| {
            of(&|samples, which| {
                let draw = |i: usize| {
                    let word = philox([i as u32, resample, which, 0], [0, 0])[0];
                    samples[((u64::from(word) * samples.len() as u64) >> 32) as usize]
                };
                (0..samples.len()).map(draw).collect()
            })
        })
        .collect();
    let ratios = sorted(&ratios);
    Some(Ratio {
        ratio: of(&|samples, _| samples.to_vec()),
        low: quantile(&ratios, 0.025)?,
        high: quantile(&ratios, 0.975)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_a_known_sample() {
        let samples: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        let found = summary(&samples).unwrap();
        let expected =
            Summary { count: 101, median: 50.0, p5: 5.0, p95: 95.0, p99: 99.0, mad: 25.0 };
        assert_eq!(found, expected);
        assert_eq!(summary(&[]), None);
        assert_eq!(summary(&[1.0, 2.0]).unwrap().median, 1.5);
    }

    /// Samples about `median`, spread by 3 % each way.
    fn noisy(median: f64, count: u32, stream: u32) -> Vec<f64> {
        let unit = |i| f64::from(philox([i, stream, 7, 7], [1, 2])[0]) / 2f64.powi(32);
        (0..count).map(|i| median * (0.97 + 0.06 * unit(i))).collect()
    }

    #[test]
    fn a_difference_is_told_from_noise() {
        let (old, same, slow) = (noisy(5.0, 60, 0), noisy(5.0, 60, 1), noisy(5.5, 60, 2));
        for paired in [false, true] {
            let found = ratio(&old, &same, paired).unwrap();
            assert!(found.low < 1.0 && 1.0 < found.high, "{found:?}");
            assert!(!found.is_regression(0.0), "{found:?}");
            let found = ratio(&old, &slow, paired).unwrap();
            assert!(found.low < 1.1 && 1.1 < found.high && found.low > 1.07, "{found:?}");
            assert!(found.is_regression(0.05) && !found.is_regression(0.2), "{found:?}");
        }
        assert_eq!(ratio(&old, &slow[1..], true), None);
        assert_eq!(ratio(&[], &slow, false), None);
    }

    /// What slows both of a pair down cancels, where it would hide the difference otherwise.
    #[test]
    fn pairs_cancel_what_they_share() {
        let drift = |i: usize| 1.0 + (i % 10) as f64 / 10.0;
        let old: Vec<f64> = (0..40).map(|i| 3.0 * drift(i)).collect();
        let slow: Vec<f64> = (0..40).map(|i| 3.15 * drift(i)).collect();
        let paired = ratio(&old, &slow, true).unwrap();
        assert!((paired.low - 1.05).abs() < 1e-9 && (paired.high - 1.05).abs() < 1e-9);
        assert!(!ratio(&old, &slow, false).unwrap().is_regression(0.0));
    }
}
