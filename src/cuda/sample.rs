//! Launches of `kernels/sample.cu`.

use cudarc::driver::sys::CUmodule;

use super::arena::Buffer;
use super::driver::Driver;
use super::kernel::{Kernel, Launch};
use super::launch::*;
use crate::device::{Masked, Remask, Sampling};
use crate::error::Result;
use crate::rng::NoiseKey;
use crate::tensor::Tensor;

/// sampled, confidence, logits, positions, cells, v, guidance, temperature, top_k, seed, step
type Sample = Kernel<(u64, u64, u64, u64, u32, u32, f32, f32, u32, u64, u32)>;
/// tokens, positions, remaining, sampled, confidence, cells, n, keep_masked, temperature, mask_token, seed, step
type Mask = Kernel<(u64, u64, u64, u64, u64, u32, u32, u32, f32, u32, u64, u32)>;

pub(super) struct Kernels {
    guide_and_sample: Sample,
    remask: Mask,
}

/// Step and stage as the noise takes them.
fn step(noise: NoiseKey) -> u32 {
    u32::from(noise.step) | u32::from(noise.stage) << 16
}

/// Tokens of one image.
fn cells(masked: &Masked<Buffer>) -> u32 {
    (masked.tokens.shape().elements() / masked.images) as u32
}

impl Kernels {
    pub fn load(driver: &Driver, module: CUmodule) -> Result<Self> {
        Ok(Kernels {
            guide_and_sample: Kernel::load(driver, module, "guide_and_sample", 0)?,
            remask: Kernel::load(driver, module, "remask", 0)?,
        })
    }

    pub fn guide_and_sample(
        &self,
        masked: &mut Masked<Buffer>,
        logits: &Tensor<Buffer>,
        sampling: Sampling,
    ) -> Launch {
        let Sampling { guidance, temperature, top_k, noise } = sampling;
        let (n, v) = (masked.positions.shape().elements(), logits.shape().last());
        let arguments = (
            masked.sampled.buffer.address(),
            masked.confidence.buffer.address(),
            logits.buffer.address(),
            masked.positions.buffer.address(),
            cells(masked),
            v as u32,
            guidance,
            temperature,
            if top_k < v { top_k as u32 } else { 0 },
            noise.seed,
            step(noise),
        );
        self.guide_and_sample.on([n as u32, 1, 1], SAMPLE_THREADS, 0, arguments)
    }

    pub fn remask(&self, masked: &mut Masked<Buffer>, remask: Remask) -> Launch {
        let Remask { keep_masked, temperature, mask_token, noise } = remask;
        let arguments = (
            masked.tokens.buffer.address(),
            masked.positions.buffer.address(),
            masked.remaining.buffer.address(),
            masked.sampled.buffer.address(),
            masked.confidence.buffer.address(),
            cells(masked),
            (masked.positions.shape().elements() / masked.images) as u32,
            keep_masked as u32,
            temperature,
            mask_token,
            noise.seed,
            step(noise),
        );
        self.remask.on([masked.images as u32, 1, 1], REMASK_THREADS, 0, arguments)
    }
}
