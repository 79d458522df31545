//! The aMUSEd family (Patil et al., arXiv 2401.01808): how its scheduler decodes.

use crate::decode::StepPlan;
use crate::hub::MaskingSchedule;

/// Temperature that a single given temperature falls to over the steps, as in diffusers.
pub const LAST_TEMPERATURE: f32 = 0.01;

/// How an image is decoded: diffusers' `AmusedScheduler` and the pipelines around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// How the share of masked tokens falls.
    pub masking: MaskingSchedule,
    /// Steps of the whole schedule, at least 1.
    pub steps: usize,
    /// First step that is taken: more than 0 where an image is given.
    pub start: usize,
    /// Share of the grid that is masked at first, where the schedule scales with it (inpainting); else 1.
    pub share: f32,
    /// Guidance scale of every step.
    pub guidance: f32,
    /// Temperature of the confidence noise in the first and in the last step, linear between.
    pub temperature: [f32; 2],
}

impl Schedule {
    /// The steps that decode `masked` of `cells` tokens. As in diffusers all in f32, where cos(π/3)
    /// lies below ½ and 127 of 256 tokens stay masked, and one token stays masked up to the last
    /// step even if it was the only one.
    pub fn plan(&self, cells: usize, masked: usize) -> Vec<StepPlan> {
        let mut unknown = masked;
        let mut plan = Vec::with_capacity(self.steps.saturating_sub(self.start));
        for index in self.start..self.steps {
            let target = (cells as f32 * (self.share * self.ratio(index + 1))).floor() as usize;
            let last = index + 1 == self.steps;
            let remaining = if last { 0 } else { target.min(unknown.saturating_sub(1)).max(1) };
            plan.push(StepPlan {
                masked: unknown,
                remaining,
                guidance: self.guidance.max(1.0), // diffusers guides above 1 only
                noise: self.noise(index),
                token_temperature: 1.0,
                top_k: 0,
            });
            unknown = remaining;
        }
        plan
    }

    /// Share of the tokens that is masked when `done` steps are.
    pub fn ratio(&self, done: usize) -> f32 {
        let done = done as f32 / self.steps as f32;
        match self.masking {
            // By way of f64, so that the cosine is correctly rounded on every platform.
            MaskingSchedule::Cosine => f64::from(done * std::f32::consts::PI / 2.0).cos() as f32,
            MaskingSchedule::Linear => 1.0 - done,
        }
    }

    /// Temperature of the confidence noise in step `index`.
    fn noise(&self, index: usize) -> f32 {
        let [first, last] = self.temperature;
        let along = if self.steps == 1 { 0.0 } else { index as f32 / (self.steps - 1) as f32 };
        first + (last - first) * along
    }
}
