//! aMUSEd's models against golden tensors of transformers and diffusers on tiny made-up weights.

mod golden;
mod gpu;
mod stages;

use muse::cpu::Cpu;
use muse::device::Device;
use muse::models::uvit::{Conditions, Uvit};
use muse::tensor::{DType, Precision};
use stages::{Golden, clip_agrees, logits_agree, made_up, vq_agrees, weights};

const BOTH: [Precision; 2] = [Precision::Bf16, Precision::F32];

#[test]
fn clip_agrees_with_transformers() {
    let golden = Golden::open("amused");
    let (_guard, folder) = made_up("flat");
    let device = Cpu::new(None).unwrap();
    for precision in BOTH {
        clip_agrees(&device, &golden, &folder, precision);
    }
    clip_agrees(gpu::cuda(), &golden, &folder, Precision::Bf16);
}

#[test]
fn flat_logits_agree_with_diffusers() {
    logits_agree_everywhere("flat");
}

#[test]
fn halved_logits_agree_with_diffusers() {
    logits_agree_everywhere("halved");
}

/// With biases, and blocks as wide as the layers: the text goes to both as it is.
#[test]
fn biased_logits_agree_with_diffusers() {
    logits_agree_everywhere("biased");
}

fn logits_agree_everywhere(model: &str) {
    let golden = Golden::open("amused");
    let (_guard, folder) = made_up(model);
    let (name, mask) = (format!("{model}.logits"), fixtures::mask_token(model));
    let device = Cpu::new(None).unwrap();
    for precision in BOTH.into_iter().chain([Precision::Int8]) {
        logits_agree(&device, &golden, &folder, &name, mask, precision);
    }
    logits_agree(gpu::cuda(), &golden, &folder, &name, mask, Precision::Bf16);
}

#[test]
fn a_grid_without_a_half_is_refused() {
    let device = Cpu::new(None).unwrap();
    let (_guard, folder) = made_up("halved");
    let weights = weights(&folder.transformer_weights, Precision::Bf16);
    let (config, length) = (&folder.transformer, 2);
    let uvit = Uvit::load(&device, weights, config).unwrap();
    let states = device.zeros(DType::BF16, [length, config.encoder_hidden_size]).unwrap();
    let pooled = device.zeros(DType::BF16, [1, config.cond_embed_dim]).unwrap();
    let conditions = Conditions { states: &states, pooled: &pooled, micro: [0.0; 5] };
    let error = uvit.prepare(&device, &conditions, [4, 7], 1).err().unwrap().to_string();
    assert!(error.contains("[4, 7]") && error.contains("even numbers"), "{error}");
    assert!(uvit.prepare(&device, &conditions, [4, 6], 1).is_ok());
}

#[test]
fn vq_agrees_with_diffusers() {
    let golden = Golden::open("amused");
    let (_guard, folder) = made_up("flat");
    let device = Cpu::new(None).unwrap();
    for precision in BOTH {
        vq_agrees(&device, &golden, &folder, precision);
    }
    vq_agrees(gpu::cuda(), &golden, &folder, Precision::Bf16);
}
