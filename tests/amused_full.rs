//! aMUSEd at its published sizes against diffusers on made-up weights: every stage, and nine whole runs. Not among
//! the default tests: it writes 3.5 GB of weights, twice, and computes for ten minutes.
//! `cargo test --release --test amused_full -- --test-threads 1 --nocapture`

mod golden;
mod runs;
mod stages;

use muse::cpu::Cpu;
use muse::tensor::Precision;
use runs::Mode;
use stages::{Golden, clip_agrees, logits_agree, made_up, vq_agrees};

#[test]
fn stages_of_256_agree_with_diffusers() {
    stages_agree("amused-256", "amused_256", true);
}

#[test]
fn stages_of_512_agree_with_diffusers() {
    stages_agree("amused-512", "amused_512", false); // the text encoder is the same
}

fn stages_agree(model: &str, golden: &str, text: bool) {
    let golden = Golden::open(golden);
    let (_guard, folder) = made_up(model);
    let device = Cpu::new(None).unwrap();
    for precision in [Precision::Bf16, Precision::F32] {
        if text {
            clip_agrees(&device, &golden, &folder, precision);
        }
        let mask = fixtures::mask_token(model);
        logits_agree(&device, &golden, &folder, "published.logits", mask, precision);
        vq_agrees(&device, &golden, &folder, precision);
    }
    let mask = fixtures::mask_token(model);
    logits_agree(&device, &golden, &folder, "published.logits", mask, Precision::Int8);
}

#[test]
fn runs_of_256_take_diffusers_tokens() {
    let golden = runs::Golden::open("amused_256_runs");
    let engines = [("amused-256".to_owned(), runs::engine("amused-256", None))].into();
    for mode in [Mode::TextToImage, Mode::ImageToImage, Mode::Inpaint] {
        let count = runs::all_runs(&golden, &engines, mode, |_, _| true);
        assert_eq!((count.runs, count.parted), (golden.seeds.len(), 0));
    }
}
