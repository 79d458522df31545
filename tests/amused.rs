//! The made-up aMUSEd models (`tools/fixtures`) are those that transformers and diffusers gave the
//! golden tensors for (`tools/reference/amused.py`).

use std::collections::HashMap;
use std::path::Path;

use muse::amused::{DEFAULTS, Schedule};
use muse::decode::DecodeOptions;
use muse::hub::{Folder, MaskingSchedule};
use muse::tokenizer::clip::ClipTokenizer;
use muse::weights::Weights;
use serde_json::Value;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

fn metadata(stage: &str) -> HashMap<String, String> {
    let bytes = std::fs::read(format!("{GOLDEN}/{stage}.safetensors")).expect("golden file");
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).expect("golden file");
    metadata.metadata().clone().expect("metadata of a golden file")
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON in a golden file")
}

#[test]
fn the_made_up_models_have_diffusers_tensors() {
    let listings = json(&metadata("amused")["listings"]);
    let models = listings.as_object().unwrap();
    assert_eq!(models.len(), 5);
    for (model, parts) in models {
        for part in fixtures::PARTS {
            let mut lines: Vec<String> = fixtures::tensors(model, part)
                .into_iter()
                .map(|(name, shape)| format!("{name} {shape:?}"))
                .collect();
            lines.sort();
            let hash = fixtures::fnv1a(lines.join("\n").as_bytes());
            let found = Value::from(vec![lines.len().to_string(), hash.to_string()]);
            assert_eq!(found, parts[part], "{model} {part}");
        }
    }
}

/// The sum of (2 i + 1) · bits of every tensor of a file, as `fixtures.py` computes it.
fn checksum(path: &Path) -> u64 {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let sum = |(_, tensor): (_, safetensors::tensor::TensorView<'_>)| {
        let (words, []) = tensor.data().as_chunks::<4>() else { panic!("f32") };
        (1u64..).step_by(2).zip(words).fold(0u64, |sum, (weight, word)| {
            sum.wrapping_add(weight.wrapping_mul(u64::from(u32::from_le_bytes(*word))))
        })
    };
    file.iter().map(sum).fold(0, u64::wrapping_add)
}

#[test]
fn a_made_up_folder_is_read_and_has_the_references_weights() {
    let metadata = metadata("amused");
    let checksums = json(&metadata["checksums"]);
    for model in ["flat", "halved"] {
        let folder = tempfile::tempdir().unwrap();
        fixtures::write(model, &folder).unwrap();
        let opened = Folder::open(&folder, None).unwrap();
        assert_eq!(opened.scheduler.mask_token_id, fixtures::mask_token(model) as usize);
        assert_eq!(opened.transformer.downsample, model == "halved");
        for (part, paths) in fixtures::PARTS.into_iter().zip([
            &opened.text_encoder_weights,
            &opened.transformer_weights,
            &opened.vqvae_weights,
        ]) {
            let count = Weights::open(&paths[0]).unwrap().tensors().len();
            assert_eq!(count, fixtures::tensors(model, part).len());
            let found = checksum(&paths[0]).to_string();
            assert_eq!(checksums[model][part], found, "{model} {part}");
        }
    }
    let picture = fixtures::image("input.image", 20, 36);
    assert_eq!(metadata["picture"], format!("\"{}\"", fixtures::fnv1a(&picture)));
}

#[test]
fn prompts_have_transformers_ids() {
    let folder = tempfile::tempdir().unwrap();
    fixtures::write("flat", &folder).unwrap();
    let tokenizer = ClipTokenizer::open(folder.path().join("tokenizer")).unwrap();
    let length = fixtures::config("flat", "text_encoder")["max_position_embeddings"].as_u64();
    let bytes = std::fs::read(format!("{GOLDEN}/amused.safetensors")).unwrap();
    let golden = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let ids: Vec<u32> = golden
        .tensor("text.ids")
        .unwrap()
        .data()
        .as_chunks()
        .0
        .iter()
        .map(|b| u32::from_le_bytes(*b))
        .collect();
    let prompts = json(&metadata("amused")["text.prompts"]);
    let length = length.unwrap() as usize;
    assert_eq!(ids.len(), prompts.as_array().unwrap().len() * length);
    for (prompt, wanted) in prompts.as_array().unwrap().iter().zip(ids.chunks_exact(length)) {
        let mut found = tokenizer.encode(prompt.as_str().unwrap(), length).unwrap().ids;
        found.resize(length, tokenizer.pad());
        assert_eq!(found, wanted, "{prompt}");
    }
}

/// As many tokens stay masked after every step as in all of diffusers' runs.
#[test]
fn schedules_are_diffusers() {
    let prompts = json(&metadata("amused_runs")["prompts"]);
    let bytes = std::fs::read(format!("{GOLDEN}/amused_runs.safetensors")).unwrap();
    let golden = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut runs = 0;
    for (index, prompt) in prompts.as_array().unwrap().iter().enumerate() {
        for (mode, masking, steps) in [
            ("text2image", MaskingSchedule::Cosine, "steps"),
            ("image2image", MaskingSchedule::Cosine, "edit_steps"),
            ("inpaint", MaskingSchedule::Linear, "edit_steps"),
        ] {
            let steps = prompt[steps].as_u64().unwrap() as usize;
            let settled = golden.tensor(&format!("{index}.{mode}.settled")).unwrap(); // [3, cells]
            let taken = golden.tensor(&format!("{index}.{mode}.margins")).unwrap().shape()[1];
            let cells = settled.shape()[1];
            for run in settled.data().chunks_exact(cells) {
                let masked = |done| run.iter().filter(|&&s| usize::from(s) > done).count();
                let share = match masking {
                    MaskingSchedule::Linear => masked(0) as f32 / cells as f32,
                    MaskingSchedule::Cosine => 1.0,
                };
                let schedule = Schedule { masking, start: steps - taken, share };
                let plan = schedule.plan(cells, masked(0), &DecodeOptions { steps, ..DEFAULTS });
                let remaining: Vec<usize> = plan.iter().map(|step| step.remaining).collect();
                let expected: Vec<usize> = (1..=taken).map(masked).collect();
                assert_eq!(remaining, expected, "{mode} of prompt {index}");
                runs += 1;
            }
        }
    }
    assert_eq!(runs, 180);
}
