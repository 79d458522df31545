//! The stages of an aMUSEd model against golden tensors of transformers and diffusers on the same made-up weights
//! (`tools/reference/amused.py`).
//!
//! The rule: the error may be at most twice that of the reference's own run in the same dtype, in its largest
//! and in its root mean square value. The tolerances come from the golden file, not from here.

use std::collections::HashMap;
use std::path::PathBuf;

use muse::config::VqConfig;
use muse::device::{Device, Masked};
use muse::hub::Folder;
use muse::models::MaskedModel;
use muse::models::uvit::{Conditions, Uvit};
use muse::tensor::{DType, Precision, Tensor};
use muse::text::clip::Clip;
use muse::vq::Vq;
use muse::weights::Weights;
use serde_json::Value;

/// Root mean square of the error of PyTorch's dynamic int8 on aMUSEd-256's made-up weights, by that of the values
/// (`muse-bench peers`): ours is to be no larger.
const INT8: f64 = 0.091;

/// A golden file.
pub struct Golden {
    tensors: safetensors::SafeTensors<'static>,
    metadata: HashMap<String, String>,
}

impl Golden {
    pub fn open(name: &str) -> Self {
        let (tensors, metadata) = super::golden::open(name);
        Golden { tensors, metadata }
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.words(name).map(f32::from_le_bytes).collect()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        self.words(name).map(u32::from_le_bytes).collect()
    }

    fn words(&self, name: &str) -> impl Iterator<Item = [u8; 4]> {
        let tensor = self.tensors.tensor(name).expect(name);
        tensor.data().as_chunks().0.to_vec().into_iter()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.metadata[name]).expect("JSON in a golden file")
    }

    fn sizes(&self, name: &str) -> [usize; 2] {
        let sizes = self.json(name);
        let sizes = if sizes.is_object() { &sizes["grid"] } else { &sizes };
        [0, 1].map(|i| sizes[i].as_u64().expect("a size") as usize)
    }

    /// The largest error that the reference had, and the root of its mean square.
    fn errors(&self, name: &str, precision: Precision) -> [f64; 2] {
        let errors = self.floats(&format!("{name}.{precision}_error"));
        [0, 1].map(|i| f64::from(errors[i]))
    }

    /// Holds the whole of `got` to twice the error of the reference's run in `precision`; in int8, of which
    /// the file has no run, to [`INT8`] of the exact values.
    fn check(&self, name: &str, got: &[f32], precision: Precision) {
        let info = self.json(name);
        let whole: u64 =
            info["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).product();
        assert_eq!(got.len() as u64, whole, "{name}: size");
        let exact = self.floats(name);
        let kept = got.iter().step_by(info["stride"].as_u64().unwrap() as usize);
        assert_eq!(kept.len(), exact.len(), "{name}: size");
        let errors: Vec<f64> = kept.zip(&exact).map(|(g, e)| f64::from(g - e).abs()).collect();
        let max = errors.iter().copied().fold(0.0, f64::max);
        let rms = (errors.iter().map(|e| e * e).sum::<f64>() / exact.len() as f64).sqrt();
        let square = |x: &f32| f64::from(*x).powi(2);
        let share = rms / (exact.iter().map(square).sum::<f64>() / exact.len() as f64).sqrt();
        println!("{name}: off by {:.2} % in {precision}", 1e2 * share);
        if precision == Precision::Int8 {
            return assert!(share <= INT8, "{name}: off by {share}");
        }
        let [most, root] = self.errors(name, precision);
        let (most, root) = (max / most, rms / root);
        println!("{name}: error max {most:.2} and rms {root:.2} of the {precision} reference's");
        assert!(
            most <= 2.0 && root <= 2.0,
            "{name}: {most} and {root} times the {precision} error"
        );
    }
}

fn floats<D: Device>(device: &D, tensor: &Tensor<D::Buffer>) -> Vec<f32> {
    match tensor.dtype() {
        DType::F32 => device.download(tensor).unwrap(),
        _ => device.download::<half::bf16>(tensor).unwrap().iter().map(|v| v.to_f32()).collect(),
    }
}

/// The made-up model `name`, in the layout of the hub.
pub fn made_up(name: &str) -> (tempfile::TempDir, Folder) {
    let folder = tempfile::tempdir().unwrap();
    fixtures::write(name, &folder).unwrap();
    let opened = Folder::open(&folder, None).unwrap();
    (folder, opened)
}

pub fn weights(paths: &[PathBuf], precision: Precision) -> Weights {
    Weights::open_shards(paths).unwrap().in_precision(precision)
}

/// Text states and pooled ones.
pub fn clip_agrees(device: &impl Device, golden: &Golden, folder: &Folder, precision: Precision) {
    let weights = weights(&folder.text_encoder_weights, precision);
    let clip = Clip::load(device, weights, &folder.text_encoder).unwrap();
    let ids = golden.ids("text.ids");
    let texts: Vec<&[u32]> = ids.chunks_exact(clip.length()).collect();
    let (mut states, mut pooled) = (Vec::new(), Vec::new());
    for texts in texts.chunks(2) {
        let encoded = clip.encode(device, texts).unwrap();
        states.extend(floats(device, &encoded.states));
        pooled.extend(floats(device, &encoded.pooled));
    }
    golden.check("text.states", &states, precision);
    golden.check("text.pooled", &pooled, precision);
}

/// Logits at fixed tokens. `name` is what their names begin with in the golden file; `mask` the token
/// that stands for a masked one.
pub fn logits_agree(
    device: &impl Device,
    golden: &Golden,
    folder: &Folder,
    name: &str,
    mask: u32,
    precision: Precision,
) {
    let weights = weights(&folder.transformer_weights, precision);
    let uvit = Uvit::load(device, weights, &folder.transformer).unwrap();

    let (length, config) = (folder.text_encoder.max_position_embeddings, &folder.transformer);
    let uniform = |name: &str, shape: [usize; 2]| {
        let values: Vec<f32> = fixtures::uniform(name, shape[0] * shape[1]).collect();
        match precision {
            Precision::F32 => device.upload(&values, shape).unwrap(),
            Precision::Bf16 | Precision::Int8 => {
                let rounded: Vec<_> = values.into_iter().map(half::bf16::from_f32).collect();
                device.upload(&rounded, shape).unwrap()
            }
        }
    };
    let states = uniform("input.states", [2 * length, config.encoder_hidden_size]);
    let pooled = uniform("input.pooled", [2, config.cond_embed_dim]);
    let info = golden.json(name);
    let micro = [0, 1, 2, 3, 4].map(|i| info["micro"][i].as_f64().unwrap() as f32);
    let grid = golden.sizes(name);
    let conditions = Conditions { states: &states, pooled: &pooled, micro };
    let mut prepared = uvit.prepare(device, &conditions, grid, 1).unwrap();

    let count = grid[0] * grid[1];
    for ratio in info["ratios"].as_array().unwrap().iter().map(|ratio| ratio.as_u64().unwrap()) {
        let codes = config.codebook_size as u32;
        let ids = fixtures::integers(&format!("input.tokens.{ratio}"), count, codes);
        let masked = fixtures::integers(&format!("input.mask.{ratio}"), count, 100);
        let ids: Vec<u32> = (ids.into_iter().zip(masked))
            .map(|(id, at)| if u64::from(at) < ratio { mask } else { id })
            .collect();
        let masked = Masked::new(device, &ids, mask).unwrap();
        let logits = floats(device, prepared.logits(device, &masked, 2).unwrap());
        let (conditional, unconditional) = logits.split_at(logits.len() / 2);
        golden.check(&format!("{name}.{ratio}.conditional"), conditional, precision);
        golden.check(&format!("{name}.{ratio}.unconditional"), unconditional, precision);
        let alone = floats(device, prepared.logits(device, &masked, 1).unwrap());
        assert_eq!(alone, conditional, "the conditional rows do not depend on the unconditional");
    }
}

/// Pixels of fixed codes, latents and codes of a picture.
pub fn vq_agrees(device: &impl Device, golden: &Golden, folder: &Folder, precision: Precision) {
    let weights = weights(&folder.vqvae_weights, precision);
    let vq = Vq::load(device, weights, &VqConfig::from(&folder.vqvae)).unwrap();
    let [height, width] = golden.sizes("vq.grid");
    let count = height * width;

    let tokens = fixtures::integers("input.codes", count, folder.vqvae.num_vq_embeddings as u32);
    let tokens = device.upload(&tokens, [count]).unwrap();
    let image = vq.decode_float(device, &tokens, [height, width]).unwrap();
    golden.check("vq.pixels", &floats(device, &image), precision);

    let shape = [height * vq.grid_factor(), width * vq.grid_factor(), 3];
    let picture = fixtures::image("input.image", shape[0], shape[1]);
    let picture = device.upload(&picture, shape).unwrap();
    let latents = vq.latents(device, &picture).unwrap();
    golden.check("vq.latents", &floats(device, &latents), precision);

    // A code may be another only where the two nearest are about as far as the latents may be off.
    let ids: Vec<u32> = device.download(&vq.encode(device, &picture).unwrap()).unwrap();
    let off = 2.0 * golden.errors("vq.latents", precision)[0];
    let allowed = 2.0 * off * (latents.shape().last() as f64).sqrt();
    let (codes, margins) = (golden.ids("vq.codes"), golden.floats("vq.margins"));
    for (i, (got, want)) in ids.iter().zip(&codes).enumerate() {
        let tie = f64::from(margins[i]) < allowed;
        assert!(got == want || tie, "position {i}: code {got}, not {want}");
    }
    let same = ids.iter().zip(&codes).filter(|(a, b)| a == b).count();
    println!("{same} of {} codes equal", ids.len());
    assert!(same * 10 >= ids.len() * 9, "{same} of {} codes equal", ids.len());
}
