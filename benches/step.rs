//! One decode step of a large transformer on the CUDA device: 22 layers of 1024 channels over 16 × 16 tokens
//! with guidance and 77 rows of text, about what aMUSEd's trunk at 256 px multiplies. Weights are noise.
//!
//! On a GPU it prints the time of a step. Without one, `python3 benches/step.py` runs it on the simulator and tabulates
//! what a step asks of the memory and the cores.

use muse::config::TransformerConfig;
use muse::cuda::Cuda;
use muse::decode::{DecodeOptions, GuidanceSchedule, Order};
use muse::device::{Device, Masked, Remask, Sampling};
use muse::models::MaskedModel;
use muse::models::muse::{Muse, Text};
use muse::ops;
use muse::rng::NoiseKey;
use muse::weights::Weights;

const HIDDEN: usize = 1024;
const TEXT: [usize; 2] = [77, 768];
const CODEBOOK: usize = 8192;
const GRID: usize = 256;

fn config() -> TransformerConfig {
    TransformerConfig {
        hidden_size: HIDDEN,
        num_layers: 22,
        num_heads: 16,
        mlp_size: 4224,
        text_size: TEXT[1],
        codebook_size: CODEBOOK,
        grid: [16, 16],
        multi_axis: None,
        layer_norm_eps: 1e-6,
        coarse: None,
        decode: DecodeOptions {
            steps: 12,
            guidance_start: 10.0,
            guidance: 10.0,
            guidance_schedule: GuidanceSchedule::Linear,
            order: Order::Confidence,
            temperature: 1.0,
            last_temperature: None,
            token_temperature: 1.0,
            top_k: 0,
        },
    }
}

fn main() {
    let steps = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(1usize);
    if !Cuda::is_present() {
        println!("no CUDA driver: nothing was run (without a GPU: python3 benches/step.py)");
        return;
    }
    let device = &Cuda::new(0).expect("a device");
    println!("{}", device.describe());
    let config = config();
    let model = Muse::load(device, Weights::noise("base"), &config).expect("a model");
    let states = Weights::noise("text").table(device, "embedding", [2 * TEXT[0], TEXT[1]]);
    let states = states.expect("memory");
    let text = Text { states, lengths: [TEXT[0]; 2], batch: 2 };
    let mut prepared = model.prepare(device, &text, None, 1).expect("prepared");
    let tokens = [model.mask_token(); GRID];
    let mut masked = Masked::new(device, &tokens, model.mask_token()).expect("memory");
    device.finish().expect("loaded");
    for step in 0..steps {
        masked.remaining.reshape([GRID - 3]);
        let noise = NoiseKey { seed: 1, stage: 0, step: step as u16 };
        let sampling = Sampling { guidance: 10.0, temperature: 1.0, top_k: 0, noise };
        let remask = Remask {
            keep_masked: GRID - 3,
            temperature: 1.0,
            mask_token: model.mask_token(),
            noise,
        };
        let marks = device
            .together(|| {
                let begin = device.mark()?;
                let logits = prepared.logits(device, &masked, 2)?;
                ops::guide_and_sample(device, &mut masked, logits, sampling)?;
                ops::remask(device, &mut masked, remask)?;
                Ok((begin, device.mark()?))
            })
            .expect("a step");
        device.finish().expect("the step");
        let time = device.elapsed(&marks.0, &marks.1).expect("marks");
        println!("step {step}: {:.3} ms by the driver's events", time.as_secs_f64() * 1e3);
    }
}
