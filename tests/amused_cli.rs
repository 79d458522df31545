//! aMUSEd's folders on the command line: what it writes, what it prints, how it fails.

mod program;

use std::path::Path;

use muse::image::Picture;
use program::{fails, muse, text};

fn works(arguments: &[&str]) -> String {
    let output = muse(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn size(path: &str) -> [usize; 2] {
    let picture = Picture::open(path).unwrap().image;
    [picture.width, picture.height]
}

/// A made-up model in `directory/NAME`, and where outputs go.
fn made_up(directory: &Path, name: &str) -> (String, String) {
    let folder = directory.join(name);
    fixtures::write(name, &folder).unwrap();
    (folder.display().to_string(), directory.join("out.png").display().to_string())
}

#[test]
fn a_folder_generates_and_edits() {
    let directory = tempfile::tempdir().unwrap();
    let (model, out) = made_up(directory.path(), "flat");
    let common = ["--model", &model, "--device", "cpu", "--steps", "3", "--force", "-o", &out];
    let with = |first: &[&str], rest: &[&str]| works(&[first, &common, rest].concat());

    let line = with(&["generate", "a photo of a cat"], &["--rng", "torch", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(report["request"]["rng"], "torch");
    assert_eq!(report["step_ms"]["base"].as_array().unwrap().len(), 3);
    assert_eq!(size(&out), [32, 32]);
    let generated = Picture::open(&out).unwrap().image;
    with(&["generate", "a photo of a cat"], &["--rng", "torch", "--crop", "8,0"]);
    assert!(Picture::open(&out).unwrap().image != generated, "the crop decides nothing");
    with(&["generate", "a photo of a cat"], &["--rng", "torch", "--aesthetic", "2"]);
    assert!(Picture::open(&out).unwrap().image != generated, "the aesthetic score decides nothing");

    with(&["generate", "a cat", "--size", "48x20", "--temperature", "3,0.5"], &[]);
    assert_eq!(size(&out), [48, 20]);

    let long = muse(&[&["generate", &*"cat ".repeat(20)], &common[..]].concat());
    assert!(text(&long.stderr).contains("the last 6 tokens of the prompt were cut off: 14 fit"));
    with(&["generate", "a cat", "--size", "48x20"], &[]);

    // An image is edited in its own size; what is not masked stays.
    let scene = directory.path().join("scene.png").display().to_string();
    std::fs::copy(&out, &scene).unwrap();
    let before = Picture::open(&scene).unwrap().image;
    with(&["inpaint", &scene, "a dog", "--box", "0,0,12,20", "--feather", "0"], &[]);
    let after = Picture::open(&out).unwrap().image;
    assert_eq!([after.width, after.height], [48, 20]);
    for (i, (a, b)) in before.rgb.iter().zip(&after.rgb).enumerate() {
        assert!(a == b || i / 3 % 48 < 12, "pixel {} has changed", i / 3);
    }
    assert!(after != before, "nothing was painted");
    with(&["edit", &scene, "a dog", "--strength", "0.7", "--rng", "torch"], &[]);
    assert_eq!(size(&out), [48, 20]);
    let none =
        [&["inpaint", &*scene, "a dog", "--box", "0,0,8,8", "--strength", "0.3"], &common[..]];
    fails(&none.concat(), 2, &["strength", "none of the 3 steps"]);
    with(&["outpaint", &scene, "a dog", "--left", "8"], &[]);
    assert_eq!(size(&out), [56, 20]);
    with(&["edit", &scene, "a dog", "--iterations", "2"], &["--size", "32x32"]);
    assert_eq!(size(&out), [32, 32]);
}

#[test]
fn a_folder_is_described_and_checked() {
    let directory = tempfile::tempdir().unwrap();
    let (model, _) = made_up(directory.path(), "halved");
    let info = works(&["info", &model]);
    for word in ["halved", "CLIP 3 layers", "aMUSEd 8×8", "VQModel f=4", "transformer/", "total"] {
        assert!(info.contains(word), "no {word:?} in {info}");
    }
    assert!(works(&["check", &model]).contains("none left over"));
}

#[test]
fn what_a_model_does_not_have_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let (flat, out) = made_up(directory.path(), "flat");
    let (halved, _) = made_up(directory.path(), "halved");
    let refused = |model: &str, options: &[&str], words: &[&str]| {
        let common = ["generate", "a cat", "--device", "cpu", "--model", model, "-o", &out];
        fails(&[&common, options].concat(), 2, words);
        assert!(!Path::new(&out).exists(), "{options:?}: a file was written");
    };
    refused(&flat, &["--size", "34x32"], &["size", "34x32", "multiples of 4"]);
    refused(&halved, &["--size", "36x32"], &["size", "36x32", "multiples of 8"]);
    refused(&flat, &["--size", "4096x4096"], &["size", "1048576 tokens", "at most 16384"]);
    refused(&flat, &["--size", "0x32"], &["size", "1 to 4096"]);
    refused(&flat, &["--size", "32"], &["--size", "WIDTHxHEIGHT"]);
    refused(&flat, &["--steps", "1001"], &["steps", "1001", "1 to 1000"]);
    refused(&flat, &["--superres-steps", "2"], &["superres", "one stage"]);
    refused(&flat, &["--rng", "torch", "--top-k", "3"], &["top-k", "diffusers"]);
    refused(&flat, &["--rng", "torch", "--order", "halton"], &["order", "diffusers"]);
    refused(&flat, &["--aesthetic", "101"], &["aesthetic", "0 to 100"]);
    refused(&flat, &["--temperature", "2,0,1"], &["--temperature", "FIRST,LAST"]);
    let demo = "models/demo";
    refused(demo, &["--rng", "torch"], &["rng", "torch", "Muse model"]);
    refused(demo, &["--crop", "0,0"], &["crop", "Muse model"]);
    refused(demo, &["--aesthetic", "6"], &["aesthetic", "Muse model"]);
    refused(demo, &["--size", "64x64"], &["size", "64x64", "128x128"]);
}

#[test]
fn other_and_incomplete_folders_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let (model, out) = made_up(directory.path(), "flat");
    let generate = ["generate", "a cat", "--device", "cpu", "--model", &model, "-o", &out];
    let index = Path::new(&model).join("model_index.json");
    let whole = std::fs::read_to_string(&index).unwrap();
    let other = whole.replace("AmusedPipeline", "StableDiffusionPipeline");
    std::fs::write(&index, other).unwrap();
    let words = ["model_index.json", "StableDiffusionPipeline", "AmusedPipeline"];
    fails(&generate, 3, &words);
    std::fs::write(&index, whole).unwrap();
    let weights = Path::new(&model).join("vqvae/diffusion_pytorch_model.safetensors");
    std::fs::remove_file(&weights).unwrap();
    fails(&generate, 3, &["vqvae", "diffusion_pytorch_model.safetensors"]);
    assert!(!Path::new(&out).exists());
}
