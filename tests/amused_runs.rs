//! Whole runs of tiny aMUSEd models against diffusers': the same tokens after every step.

mod golden;
mod runs;

use runs::{Golden, Mode, all_runs, engine};

/// Every run takes minutes in a debug build, where each prompt has one of its three seeds, in turn; a release
/// build has all.
const ALL_SEEDS: bool = !cfg!(debug_assertions);

#[test]
fn text_to_image_takes_diffusers_tokens() {
    takes_diffusers_tokens(Mode::TextToImage);
}

#[test]
fn image_to_image_takes_diffusers_tokens() {
    takes_diffusers_tokens(Mode::ImageToImage);
}

#[test]
fn inpainting_takes_diffusers_tokens() {
    takes_diffusers_tokens(Mode::Inpaint);
}

fn takes_diffusers_tokens(mode: Mode) {
    let golden = Golden::open("amused_runs");
    // One thread each: the tests themselves run side by side.
    let engines = ["flat", "halved"].map(|name| (name.into(), engine(name, Some(1)))).into();
    let count = all_runs(&golden, &engines, mode, |prompt, seed| {
        ALL_SEEDS || seed == prompt % golden.seeds.len()
    });
    assert_eq!(count.runs, if ALL_SEEDS { 60 } else { 20 });
    assert_eq!(count.parted, 0);
}
