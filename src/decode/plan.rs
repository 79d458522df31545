//! What every step of a decode loop does, laid out before the first one.

use super::Order;
use crate::error::{Error, Result};

/// How a decode loop samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecodeOptions {
    /// Steps, at least 1 and at most the number of masked tokens.
    pub steps: usize,
    /// Guidance scale of the first step of a linear schedule.
    pub guidance_start: f32,
    /// Guidance scale; of a linear schedule that of the last step.
    pub guidance: f32,
    /// How guidance changes over the steps.
    pub guidance_schedule: GuidanceSchedule,
    /// Which draws a step keeps.
    pub order: Order,
    /// Temperature of the confidence noise at the first step, annealed linearly (MaskGIT's choice
    /// temperature); other orders have none.
    pub temperature: f32,
    /// What it is annealed to; `None` is the family's own choice: 0, or aMUSEd's 0.01.
    pub last_temperature: Option<f32>,
    /// Temperature of the token distribution; 0 is greedy.
    pub token_temperature: f32,
    /// Tokens are drawn from the `top_k` largest logits; 0 means all.
    pub top_k: usize,
}

/// How guidance changes over the steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum GuidanceSchedule {
    /// The same in every step.
    Constant,
    /// Rises, or falls, linearly from the first step to the last (Muse §2.7).
    #[default]
    Linear,
    /// Only in steps that begin between these two parts of the loop (arXiv 2404.07724); 1 in the others,
    /// which have no unconditional rows to compute.
    Interval([f32; 2]),
}

/// What one step does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepPlan {
    /// Number of the step in the noise key.
    pub number: u16,
    /// Masked positions of an image before the step.
    pub masked: usize,
    /// Masked positions after it.
    pub remaining: usize,
    /// Guidance scale.
    pub guidance: f32,
    /// Multiplies the Gumbel noise on the confidences.
    pub noise: f32,
    /// Temperature of the token distribution; 0 is greedy.
    pub token_temperature: f32,
    /// Tokens are drawn from the `top_k` largest logits; 0 means all.
    pub top_k: usize,
}

impl StepPlan {
    /// Sequences the transformer sees: at a guidance scale of exactly 1 the unconditional rows
    /// would cancel, so they are not computed.
    pub fn batch(&self) -> usize {
        if self.guidance == 1.0 { 1 } else { 2 }
    }

    /// Whether it settles any token: one that would not is passed over.
    pub fn settles(&self) -> bool {
        self.remaining < self.masked
    }
}

/// Where a decode loop begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Tokens of the grid.
    pub cells: usize,
    /// How many of them are masked.
    pub masked: usize,
    /// The first step that runs. 0 is a whole schedule over what is masked; from the middle on it is the
    /// rest of one over the whole grid.
    pub first: usize,
}

/// The steps of one decode loop over `masked` masked positions, all that there are.
///
/// # Errors
/// [`Error::Option`] when there are more steps than masked positions.
pub fn plan(masked: usize, options: &DecodeOptions) -> Result<Vec<StepPlan>> {
    Start { cells: masked, masked, first: 0 }.plan(options)
}

impl Start {
    /// The cosine schedule (MaskGIT).
    ///
    /// After step i of N, `⌊n·cos(π/2·(i+1)/N)⌋` positions stay masked, clamped to `[1, unknown − 1]`, and
    /// none after the last; n counts what is masked, or the grid where the loop begins in the middle. Where
    /// fewer positions than steps are masked, there are as many steps as positions.
    ///
    /// # Errors
    /// [`Error::Option`] when there are more steps than positions in the grid.
    pub fn plan(self, options: &DecodeOptions) -> Result<Vec<StepPlan>> {
        let Start { cells, masked, first } = self;
        if options.steps > cells {
            let expected = format!("1 to {cells}, the tokens of the grid");
            return Err(Error::option("steps", options.steps, expected));
        }
        let (n, of) = match first {
            0 => (options.steps.min(masked), masked),
            _ => (options.steps, cells),
        };
        let mut unknown = masked;
        let steps = (first..n).map(|i| {
            let done = (i + 1) as f64 / n as f64;
            let ratio = (std::f64::consts::FRAC_PI_2 * done).cos();
            // The margin keeps an exact product, as at cos(π/3) = ½, from falling below its integer.
            let target = (of as f64 * ratio + 1e-9).floor() as usize;
            let remaining = if i + 1 == n { 0 } else { target.min(unknown - 1).max(1) };
            let step = StepPlan {
                number: i as u16,
                masked: unknown,
                remaining,
                guidance: options.guidance_at(i, n),
                noise: options.noise({
                    let last = options.last_temperature.unwrap_or(0.0);
                    last + (options.temperature - last) * (1.0 - done as f32)
                }),
                token_temperature: options.token_temperature,
                top_k: options.top_k,
            };
            unknown = remaining;
            step
        });
        Ok(steps.collect())
    }
}

impl DecodeOptions {
    /// Noise on the confidences of a step at this temperature.
    pub(crate) fn noise(&self, temperature: f32) -> f32 {
        match self.order {
            Order::Confidence => temperature,
            Order::Halton => 0.0,
            Order::Random => 1.0,
        }
    }

    /// Guidance scale of step `i` of `n`.
    pub(crate) fn guidance_at(&self, i: usize, n: usize) -> f32 {
        match self.guidance_schedule {
            GuidanceSchedule::Constant => self.guidance,
            GuidanceSchedule::Linear => {
                let along = if n == 1 { 1.0 } else { i as f32 / (n - 1) as f32 };
                self.guidance_start + (self.guidance - self.guidance_start) * along
            }
            GuidanceSchedule::Interval([from, to]) => {
                let within = (from..to).contains(&(i as f32 / n as f32));
                if within { self.guidance } else { 1.0 }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(steps: usize) -> DecodeOptions {
        DecodeOptions {
            steps,
            guidance_start: 1.0,
            guidance: 3.0,
            guidance_schedule: GuidanceSchedule::Linear,
            order: Order::Confidence,
            temperature: 2.0,
            last_temperature: None,
            token_temperature: 1.0,
            top_k: 0,
        }
    }

    #[test]
    fn every_plan_decodes_everything_and_something_in_each_step() {
        for masked in [1, 2, 7, 64, 256, 4096] {
            for steps in (1..=masked).filter(|s| masked < 300 || s % 97 == 1) {
                let plan = plan(masked, &options(steps)).unwrap();
                assert_eq!((plan.len(), plan[0].masked), (steps, masked));
                assert_eq!(plan.last().map(|s| s.remaining), Some(0));
                assert!(plan.iter().all(|s| s.remaining < s.masked));
                assert!(plan.windows(2).all(|w| w[0].remaining == w[1].masked));
            }
        }
    }

    #[test]
    fn cosine_schedule_of_twelve_steps_over_256_tokens() {
        let left: Vec<usize> =
            plan(256, &options(12)).unwrap().iter().map(|s| s.remaining).collect();
        assert_eq!(left, [253, 247, 236, 221, 203, 181, 155, 128, 97, 66, 33, 0]);
    }

    #[test]
    fn guidance_rises_linearly_and_noise_falls_to_zero() {
        let plan = plan(64, &options(5)).unwrap();
        let guidance: Vec<f32> = plan.iter().map(|s| s.guidance).collect();
        assert_eq!(guidance, [1.0, 1.5, 2.0, 2.5, 3.0]);
        assert_eq!((plan[0].batch(), plan[1].batch()), (1, 2));
        assert!((plan[0].noise - 1.6).abs() < 1e-6 && plan[4].noise == 0.0);
    }

    #[test]
    fn noise_falls_to_the_last_temperature() {
        let options = DecodeOptions { last_temperature: Some(0.5), ..options(3) };
        let noise: Vec<f32> = plan(64, &options).unwrap().iter().map(|s| s.noise).collect();
        assert_eq!(noise, [1.5, 1.0, 0.5]);
    }

    #[test]
    fn more_steps_than_masked_tokens_are_refused() {
        let error = plan(16, &options(17)).unwrap_err().to_string();
        assert!(error.contains("steps: 17") && error.contains("1 to 16"), "{error}");
    }

    #[test]
    fn guidance_of_the_other_schedules() {
        let guidance = |guidance_schedule| -> Vec<f32> {
            let options = DecodeOptions { guidance_schedule, ..options(5) };
            plan(64, &options).unwrap().iter().map(|s| s.guidance).collect()
        };
        assert_eq!(guidance(GuidanceSchedule::Constant), [3.0; 5]);
        assert_eq!(guidance(GuidanceSchedule::Interval([0.2, 0.6])), [1.0, 3.0, 3.0, 1.0, 1.0]);
        assert_eq!(guidance(GuidanceSchedule::Interval([0.0, 1.0])), [3.0; 5]);
    }

    #[test]
    fn fewer_masked_tokens_than_steps_take_a_step_each() {
        let start = |masked| Start { cells: 64, masked, first: 0 };
        for masked in 0..12 {
            let plan = start(masked).plan(&options(12)).unwrap();
            assert_eq!(plan.len(), masked);
            assert!(plan.iter().all(|step| step.masked == step.remaining + 1));
        }
        assert_eq!(start(30).plan(&options(12)).unwrap(), plan(30, &options(12)).unwrap());
    }

    /// From any step on, the rest of the schedule is that of a loop that began with nothing.
    #[test]
    fn a_loop_that_begins_in_the_middle_ends_as_any_other() {
        for steps in 1..=64 {
            let options = options(steps);
            let whole = plan(64, &options).unwrap();
            for first in 1..steps {
                let start = Start { cells: 64, masked: whole[first].masked, first };
                assert_eq!(start.plan(&options).unwrap(), whole[first..]);
            }
        }
    }
}
