//! Parallel decoding (MaskGIT; Muse §2.7–2.8): the one loop that every stage and every edit calls.
//!
//! Per step: predict all masked tokens, draw one for each, keep the most confident, remask the rest
//! on a cosine schedule. Everything that depends on the step alone is laid out by [`plan`] first;
//! the loop itself computes nothing on the host, reads nothing back and allocates nothing, so a device
//! may take all of it as one unit of work ([`Device::together`]).

use std::ops::ControlFlow;
use std::time::Duration;

use crate::device::{Device, Masked, Remask, Sampling};
use crate::error::{Error, Result};
use crate::models::MaskedModel;
use crate::ops;
use crate::rng::NoiseKey;
use crate::tensor::DType;

/// How a decode loop samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecodeOptions {
    /// Steps, at least 1 and at most the number of masked tokens.
    pub steps: usize,
    /// Guidance scale of the first step.
    pub guidance_start: f32,
    /// Guidance scale of the last step; between the two it is linear in the step (Muse §2.7).
    pub guidance: f32,
    /// Temperature of the confidence noise, annealed linearly to 0 (MaskGIT's choice temperature).
    pub temperature: f32,
    /// Temperature of the token distribution; 0 is greedy.
    pub token_temperature: f32,
    /// Tokens are drawn from the `top_k` largest logits; 0 means all.
    pub top_k: usize,
}

/// What one step does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepPlan {
    /// Masked positions before the step.
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
}

/// The steps of one decode loop over `masked` masked positions.
///
/// After step i of N, `⌊masked·cos(π/2·(i+1)/N)⌋` positions stay masked, clamped to
/// `[1, unknown − 1]`, and none after the last.
///
/// # Errors
/// [`Error::Option`] when there are more steps than masked positions.
pub fn plan(masked: usize, options: &DecodeOptions) -> Result<Vec<StepPlan>> {
    let n = options.steps;
    if n > masked {
        return Err(Error::option("steps", n, format!("1 to {masked}, the grid's masked tokens")));
    }
    let mut unknown = masked;
    let steps = (0..n)
        .map(|i| {
            let done = (i + 1) as f64 / n as f64;
            let ratio = (std::f64::consts::FRAC_PI_2 * done).cos();
            // The margin keeps an exact product, as at cos(π/3) = ½, from falling below its integer.
            let target = (masked as f64 * ratio + 1e-9).floor() as usize;
            let remaining = if i + 1 == n { 0 } else { target.min(unknown - 1).max(1) };
            let along = if n == 1 { 1.0 } else { i as f32 / (n - 1) as f32 };
            let step = StepPlan {
                masked: unknown,
                remaining,
                guidance: options.guidance_start
                    + (options.guidance - options.guidance_start) * along,
                noise: options.temperature * (1.0 - done as f32),
                token_temperature: options.token_temperature,
                top_k: options.top_k,
            };
            unknown = remaining;
            step
        })
        .collect();
    Ok(steps)
}

/// What a step callback sees.
#[derive(Clone, Debug)]
pub struct Step<'a> {
    /// `"base"` or `"superres"`.
    pub stage: &'static str,
    /// Step, from 0.
    pub step: usize,
    /// Steps of this stage.
    pub steps: usize,
    /// Latent grid, height and width.
    pub grid: [usize; 2],
    /// Token ids, row-major; `mask_token` where still masked.
    pub tokens: &'a [u32],
    /// The id that stands for a masked token.
    pub mask_token: u32,
    /// Time this step took.
    pub elapsed: Duration,
}

/// Called after every step; `Break` cancels the generation.
pub type OnStep<'a> = dyn FnMut(Step<'_>) -> ControlFlow<()> + 'a;

/// One decode loop: which stage it is, its grid, and where its noise comes from.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// `"base"` or `"superres"`.
    pub name: &'static str,
    /// Number of the stage in the noise key.
    pub index: u16,
    /// Latent grid, height and width.
    pub grid: [usize; 2],
    /// The id that stands for a masked token.
    pub mask_token: u32,
    /// Seed of the noise.
    pub seed: u64,
}

impl<B> Masked<B> {
    /// The state before the first step: `tokens` with `mask_token` where they are to be decoded.
    pub fn new<D: Device<Buffer = B>>(device: &D, tokens: &[u32], mask_token: u32) -> Result<Self> {
        let masked = |&p: &u32| tokens[p as usize] == mask_token;
        let positions: Vec<u32> = (0..tokens.len() as u32).filter(masked).collect();
        let n = positions.len();
        Ok(Masked {
            tokens: device.upload(tokens, [tokens.len()])?,
            positions: device.upload(&positions, [n])?,
            remaining: device.zeros(DType::U32, [n])?,
            sampled: device.zeros(DType::U32, [n])?,
            confidence: device.zeros(DType::F32, [n])?,
        })
    }
}

/// Runs the steps of `plan`, which begins with all that is masked; returns the time of each.
pub fn decode<D: Device>(
    device: &D,
    model: &mut impl MaskedModel<D>,
    masked: &mut Masked<D::Buffer>,
    plan: &[StepPlan],
    stage: Stage,
    on_step: Option<&mut OnStep<'_>>,
) -> Result<Vec<Duration>> {
    let mut run = |masked: &mut _, index: usize| -> Result<[D::Mark; 2]> {
        let start = device.mark()?;
        step(device, model, masked, stage, (index, &plan[index]))?;
        Ok([start, device.mark()?])
    };
    let mut marks: Vec<[D::Mark; 2]> = Vec::with_capacity(plan.len());
    match on_step {
        // Nobody looks between the steps.
        None => {
            let all = || (0..plan.len()).map(|index| run(masked, index)).collect();
            marks = device.together(all)?;
        }
        Some(on_step) => {
            for index in 0..plan.len() {
                let [start, end] = device.together(|| run(masked, index))?;
                let tokens = device.download::<u32>(&masked.tokens)?;
                let seen = Step {
                    stage: stage.name,
                    step: index,
                    steps: plan.len(),
                    grid: stage.grid,
                    tokens: &tokens,
                    mask_token: stage.mask_token,
                    elapsed: device.elapsed(&start, &end)?,
                };
                if on_step(seen).is_break() {
                    return Err(Error::Cancelled { stage: stage.name, step: index });
                }
                marks.push([start, end]);
            }
        }
    }
    marks.iter().map(|[start, end]| device.elapsed(start, end)).collect()
}

/// One step: predict, guide, draw, remask.
fn step<D: Device>(
    device: &D,
    model: &mut impl MaskedModel<D>,
    masked: &mut Masked<D::Buffer>,
    stage: Stage,
    (index, step): (usize, &StepPlan),
) -> Result<()> {
    let noise = NoiseKey { seed: stage.seed, stage: stage.index, step: index as u16 };
    masked.positions.reshape([step.masked]);
    masked.sampled.reshape([step.masked]);
    masked.confidence.reshape([step.masked]);
    masked.remaining.reshape([step.remaining]);

    let logits = model.logits(device, masked, step.batch())?; // [batch*masked, codebook]
    let sampling = Sampling {
        guidance: step.guidance,
        temperature: step.token_temperature,
        top_k: step.top_k,
        noise,
    };
    ops::guide_and_sample(device, masked, logits, sampling)?;
    let remask = Remask {
        keep_masked: step.remaining,
        temperature: step.noise,
        mask_token: stage.mask_token,
        noise,
    };
    ops::remask(device, masked, remask)?;
    std::mem::swap(&mut masked.positions, &mut masked.remaining);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(steps: usize) -> DecodeOptions {
        DecodeOptions {
            steps,
            guidance_start: 1.0,
            guidance: 3.0,
            temperature: 2.0,
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
    fn more_steps_than_masked_tokens_are_refused() {
        let error = plan(16, &options(17)).unwrap_err().to_string();
        assert!(error.contains("steps: 17") && error.contains("1 to 16"), "{error}");
    }
}
