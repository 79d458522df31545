//! Parallel decoding (MaskGIT; Muse §2.7–2.8): the one loop that every stage and every edit calls.
//!
//! Per step: predict all masked tokens, draw one for each, keep the most confident (or those that come
//! first in another [`Order`]), remask the rest on a cosine schedule. Everything that depends on the step
//! alone is laid out by [`plan()`] first; the loop itself computes nothing on the host, reads nothing back
//! and allocates nothing, so a device may take all of it as one unit of work ([`Device::together`]).

mod order;
mod plan;
mod torch;

use std::ops::ControlFlow;
use std::time::Duration;

use crate::device::{Device, Masked, Remask, Sampling};
use crate::error::{Error, Result};
use crate::models::MaskedModel;
use crate::ops;
use crate::rng::NoiseKey;
use crate::spans;
use crate::tensor::{DType, Tensor};

pub use order::Order;
pub(crate) use order::{drawn, halton};
pub use plan::{DecodeOptions, GuidanceSchedule, Start, StepPlan, plan};
pub use torch::TorchNoise;

/// What a step callback sees.
#[derive(Clone, Debug)]
pub struct Step<'a> {
    /// `"base"` or `"superres"`.
    pub stage: &'static str,
    /// Step, from 0.
    pub step: usize,
    /// Steps of this stage.
    pub steps: usize,
    /// Window that is being decoded, from 0; only outpainting has several.
    pub window: usize,
    /// Windows of this stage.
    pub windows: usize,
    /// Image of the batch, from 0: each step is seen once for every image.
    pub image: usize,
    /// Images that are decoded side by side.
    pub images: usize,
    /// Token grid, height and width: of the whole image.
    pub grid: [usize; 2],
    /// Token ids, row-major; `mask_token` where still masked.
    pub tokens: &'a [u32],
    /// The id that stands for a masked token.
    pub mask_token: u32,
    /// What the draws of this step were compared by, to keep some and to mask the others again, row-major: by
    /// confidence the token's log-probability and the step's noise, otherwise ranks. NaN where none was drawn.
    pub confidence: &'a [f32],
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
    /// Seed of the noise; of more than one image that of the first, the others' follow it.
    pub seed: u64,
    /// Which draws are kept.
    pub order: Order,
}

impl<B> Masked<B> {
    /// The state before the first step: `tokens` with `mask_token` where they are to be decoded.
    pub fn new<D: Device<Buffer = B>>(device: &D, tokens: &[u32], mask_token: u32) -> Result<Self> {
        Self::of_images(device, tokens, mask_token, 1)
    }

    /// The same for `images` images: their tokens one after another, in each of them as many masked.
    pub fn of_images<D: Device<Buffer = B>>(
        device: &D,
        tokens: &[u32],
        mask_token: u32,
        images: usize,
    ) -> Result<Self> {
        let masked = |&p: &u32| tokens[p as usize] == mask_token;
        let positions: Vec<u32> = (0..tokens.len() as u32).filter(masked).collect();
        let n = positions.len();
        Ok(Masked {
            images,
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
    decode_with(device, model, masked, plan, stage, None, on_step)
}

/// [`decode`], with PyTorch's noise where it is given: then each step reads the logits back.
pub fn decode_with<D: Device>(
    device: &D,
    model: &mut impl MaskedModel<D>,
    masked: &mut Masked<D::Buffer>,
    plan: &[StepPlan],
    stage: Stage,
    mut torch: Option<&mut TorchNoise>,
    on_step: Option<&mut OnStep<'_>>,
) -> Result<Vec<Duration>> {
    let host = torch.is_some();
    let ranks = match stage.order.ranks(stage.grid).map(|ranks| ranks.repeat(masked.images)) {
        Some(ranks) => Some(device.upload(&ranks, [ranks.len(), 1])?),
        None => None,
    };
    let mut run = |masked: &mut _, index: usize| -> Result<[D::Mark; 2]> {
        let _span = spans::step(stage.name, index);
        let start = device.mark()?;
        let torch = torch.as_deref_mut();
        step(device, model, masked, stage, &plan[index], (ranks.as_ref(), torch))?;
        Ok([start, device.mark()?])
    };
    let mut marks: Vec<[D::Mark; 2]> = Vec::with_capacity(plan.len());
    match on_step {
        // Nobody looks between the steps.
        None => {
            let mut all = || (0..plan.len()).map(|index| run(masked, index)).collect();
            marks = if host { all()? } else { device.together(all)? };
        }
        Some(on_step) => {
            for index in 0..plan.len() {
                let mut one = || run(masked, index);
                let [start, end] = if host { one()? } else { device.together(one)? };
                let tokens = device.download::<u32>(&masked.tokens)?;
                let compared = compared(device, masked, &plan[index])?;
                let elapsed = device.elapsed(&start, &end)?;
                let cells = tokens.len() / masked.images;
                let images = tokens.chunks(cells).zip(compared.chunks(cells));
                for (image, (tokens, confidence)) in images.enumerate() {
                    let seen = Step {
                        stage: stage.name,
                        step: index,
                        steps: plan.len(),
                        window: 0,
                        windows: 1,
                        image,
                        images: masked.images,
                        grid: stage.grid,
                        tokens,
                        mask_token: stage.mask_token,
                        confidence,
                        elapsed,
                    };
                    if on_step(seen).is_break() {
                        return Err(Error::Cancelled { stage: stage.name, step: index });
                    }
                }
                marks.push([start, end]);
            }
        }
    }
    marks.iter().map(|[start, end]| device.elapsed(start, end)).collect()
}

/// [`Step::confidence`] of a step that was made, of all images.
fn compared<D: Device>(
    device: &D,
    masked: &Masked<D::Buffer>,
    step: &StepPlan,
) -> Result<Vec<f32>> {
    let mut grids = vec![f32::NAN; masked.tokens.shape().elements()];
    if step.settles() {
        // What was masked before the step; `step` has left it where the next one writes what will be.
        let positions = device.download::<u32>(&masked.remaining)?;
        let confidence = device.download::<f32>(&masked.confidence)?;
        for (position, confidence) in positions.into_iter().zip(confidence) {
            grids[position as usize] = confidence;
        }
    }
    Ok(grids)
}

/// One step: predict, guide, draw, remask. `ranks` f32 `[images*cells, 1]` take the place of the confidences. A step
/// that would settle nothing is none.
fn step<D: Device>(
    device: &D,
    model: &mut impl MaskedModel<D>,
    masked: &mut Masked<D::Buffer>,
    stage: Stage,
    step: &StepPlan,
    (ranks, torch): (Option<&Tensor<D::Buffer>>, Option<&mut TorchNoise>),
) -> Result<()> {
    if !step.settles() {
        if let Some(torch) = torch {
            torch.skip_step(masked.tokens.shape().elements());
        }
        return Ok(());
    }
    let noise = NoiseKey { seed: stage.seed, stage: stage.index, step: step.number };
    let n = masked.images * step.masked;
    masked.positions.reshape([n]);
    masked.sampled.reshape([n]);
    masked.confidence.reshape([n]);
    masked.remaining.reshape([masked.images * step.remaining]);

    let logits = model.logits(device, masked, step.batch())?; // [batch*n, codebook]
    let host = torch.is_some();
    match torch {
        Some(torch) => torch.draw(device, masked, logits, step)?,
        None => {
            let sampling = Sampling {
                guidance: step.guidance,
                temperature: step.token_temperature,
                top_k: step.top_k,
                noise,
            };
            ops::guide_and_sample(device, masked, logits, sampling)?;
        }
    }
    if let Some(ranks) = ranks {
        masked.confidence.reshape([n, 1]);
        ops::select_rows(device, &mut masked.confidence, ranks, &masked.positions)?;
        masked.confidence.reshape([n]);
    }
    let remask = Remask {
        keep_masked: step.remaining,
        temperature: if host { 0.0 } else { step.noise }, // PyTorch's is in the confidences
        mask_token: stage.mask_token,
        noise,
    };
    ops::remask(device, masked, remask)?;
    std::mem::swap(&mut masked.positions, &mut masked.remaining);
    Ok(())
}
