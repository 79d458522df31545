//! Draws as diffusers' `AmusedScheduler` makes them with `torch.Generator("cpu")`: its seeds give its tokens.
//!
//! That generator gives one number after the other, on the processor, known tokens' among them; so the draws
//! are made here, on the host, from logits that were read back, on any device.

use super::StepPlan;
use crate::device::{Device, Masked};
use crate::error::Result;
use crate::rng::torch::TorchGenerator;
use crate::tensor::Tensor;

/// Below it diffusers takes a logarithm of it.
const LEAST: f32 = 1e-20;

/// The noise of one image from PyTorch's CPU generator.
pub struct TorchNoise {
    generator: TorchGenerator,
    codes: usize,
}

impl TorchNoise {
    /// `torch.Generator().manual_seed(seed)`, for a model that draws from so many codes.
    pub fn new(seed: u64, codes: usize) -> Self {
        TorchNoise { generator: TorchGenerator::new(seed), codes }
    }

    /// `torch.rand`: which tokens image to image forgets.
    pub fn uniform(&mut self, out: &mut [f32]) {
        self.generator.uniform(out);
    }

    /// Draws a token for each masked position, and its confidence with the noise on it. `logits` f32
    /// `[batch*n, codes]`, as the step's batch is.
    pub(super) fn draw<D: Device>(
        &mut self,
        device: &D,
        masked: &mut Masked<D::Buffer>,
        logits: &Tensor<D::Buffer>,
        step: &StepPlan,
    ) -> Result<()> {
        let codes = self.codes;
        assert_eq!(logits.shape().last(), codes, "torch noise: logits of {codes} codes");
        let positions: Vec<u32> = device.download(&masked.positions)?;
        let logits: Vec<f32> = device.download(logits)?;
        let (conditional, unconditional) = logits.split_at(positions.len() * codes);
        let (mut sampled, mut confidence) = (Vec::new(), Vec::new());
        let (mut noise, mut next) = (vec![0.0; codes], 0);
        for (j, position) in positions.iter().map(|&p| p as usize).enumerate() {
            self.pass_over(position - next);
            self.generator.exponential(&mut noise);
            next = position + 1;
            let row = j * codes..(j + 1) * codes;
            let mut weights = conditional[row.clone()].to_vec();
            if step.batch() == 2 {
                for (c, u) in weights.iter_mut().zip(&unconditional[row]) {
                    *c = u + step.guidance * (*c - u);
                }
            }
            let largest = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            weights.iter_mut().for_each(|l| *l = (*l - largest).exp());
            let token = winner(&weights, &noise);
            let sum: f64 = weights.iter().map(|&w| f64::from(w)).sum();
            let probability = (f64::from(weights[token]) / sum) as f32;
            sampled.push(token as u32);
            confidence.push(probability.max(LEAST).ln());
        }
        let cells = masked.tokens.shape().elements();
        self.pass_over(cells - next);
        if step.remaining > 0 {
            let mut uniform = vec![0.0; cells];
            self.generator.uniform(&mut uniform);
            for (confidence, &position) in confidence.iter_mut().zip(&positions) {
                *confidence += step.noise * gumbel(uniform[position as usize]);
            }
        }
        device.write(&mut masked.sampled.buffer, bytemuck::cast_slice(&sampled))?;
        device.write(&mut masked.confidence.buffer, bytemuck::cast_slice(&confidence))
    }

    /// Passes over what a step draws, not the last one, of a grid of `cells` tokens.
    pub(super) fn skip_step(&mut self, cells: usize) {
        self.pass_over(cells);
        self.generator.skip(cells as u64);
    }

    /// Passes over the draws of `cells` tokens: two words for each code.
    fn pass_over(&mut self, cells: usize) {
        self.generator.skip(2 * (cells * self.codes) as u64);
    }
}

/// `torch.multinomial(weights, 1)`: the first of the largest `weight / exponential`.
fn winner(weights: &[f32], exponential: &[f32]) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (i, (w, e)) in weights.iter().zip(exponential).enumerate() {
        if w / e > best.1 {
            best = (i, w / e);
        }
    }
    best.0
}

/// Gumbel noise from a number in [0, 1), as diffusers makes it.
fn gumbel(uniform: f32) -> f32 {
    -(-uniform.max(LEAST).ln()).max(LEAST).ln()
}
