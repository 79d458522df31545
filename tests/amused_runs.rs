//! Whole runs of aMUSEd against diffusers' on made-up weights, with its noise (`tools/reference/amused_runs.py`):
//! the same tokens after every step.

use std::collections::HashMap;
use std::ops::ControlFlow;

use muse::decode::Step;
use muse::edit::{Change, Edit};
use muse::image::Mask;
use muse::{DeviceChoice, Engine, EngineOptions, Image, Precision, Request, Rng, Size};
use serde_json::Value;

/// Logits may be off by twice what the reference's were, and so may the reference's: a choice may be another
/// one where what decided it was no more than this many of its errors.
const ERRORS: f32 = 6.0;

/// Every run takes minutes in a debug build, where each prompt has one of its three seeds, in turn; a release
/// build has all.
const ALL_SEEDS: bool = !cfg!(debug_assertions);

struct Golden {
    tensors: safetensors::SafeTensors<'static>,
    prompts: Vec<Value>,
    seeds: Vec<u64>,
}

impl Golden {
    fn open() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/amused_runs.safetensors");
        let bytes = std::fs::read(path).expect("golden file").leak();
        let (_, metadata) = safetensors::SafeTensors::read_metadata(bytes).expect("golden file");
        let metadata = metadata.metadata().clone().expect("metadata of a golden file");
        let json = |name: &str| serde_json::from_str::<Value>(&metadata[name]).expect("JSON");
        Golden {
            tensors: safetensors::SafeTensors::deserialize(bytes).unwrap(),
            prompts: json("prompts").as_array().unwrap().clone(),
            seeds: serde_json::from_value(json("seeds")).unwrap(),
        }
    }

    /// One seed's part of a tensor.
    fn part(&self, name: &str, seed: usize) -> &[u8] {
        let data = self.tensors.tensor(name).expect(name).data();
        let size = data.len() / self.seeds.len();
        &data[seed * size..(seed + 1) * size]
    }
}

fn number(value: &Value) -> f32 {
    value.as_f64().expect("a number") as f32
}

fn pair(value: &Value) -> [f32; 2] {
    [number(&value[0]), number(&value[1])]
}

/// The made-up model `name`, in f32.
fn engine(name: &str) -> Engine {
    let folder = tempfile::tempdir().unwrap();
    fixtures::write(name, &folder).unwrap();
    let options = EngineOptions {
        device: DeviceChoice::Cpu,
        dtype: Precision::F32,
        threads: Some(1), // the tests themselves run side by side
        ..EngineOptions::default()
    };
    Engine::load(&folder, options).unwrap()
}

/// What the golden run was asked for, as a request. diffusers takes an empty prompt; one of nothing but the end
/// token has the same ids, those of padding.
fn request(settings: &Value, seed: u64) -> Request {
    let text = |name: &str| settings[name].as_str().expect("a text").to_owned();
    let prompt = match text("prompt") {
        empty if empty.is_empty() => "<|endoftext|>".to_owned(),
        prompt => prompt,
    };
    let mut request = Request { negative: text("negative"), seed, ..Request::new(prompt) };
    request.rng = Rng::Torch;
    request.crop = Some(pair(&settings["crop"]));
    request.aesthetic = Some(number(&settings["aesthetic"]));
    let [first, last] = pair(&settings["temperature"]);
    (request.base.temperature, request.base.last_temperature) = (Some(first), Some(last));
    request.base.guidance = Some(number(&settings["guidance"]));
    request
}

/// How many runs and steps were the same, and how many runs parted where rounding decides.
#[derive(Debug, Default, PartialEq)]
struct Count {
    runs: usize,
    steps: usize,
    parted: usize,
}

/// Runs a request and compares the tokens after each step, until one parts from the golden run where it may.
fn compare(
    engine: &Engine,
    golden: &Golden,
    name: &str,
    seed: usize,
    request: &Request,
    count: &mut Count,
) {
    let tokens = golden.part(&format!("{name}.tokens"), seed);
    let settled = golden.part(&format!("{name}.settled"), seed);
    let margins: Vec<f32> = golden
        .part(&format!("{name}.margins"), seed)
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect(); // [steps, 3]
    let mut steps = 0;
    let mut parted = false;
    let mut watch = |step: Step<'_>| {
        let done = step.step + 1;
        let expected: Vec<u32> = tokens
            .iter()
            .zip(settled)
            .map(
                |(&token, &at)| {
                    if usize::from(at) <= done { u32::from(token) } else { step.mask_token }
                },
            )
            .collect();
        if step.tokens != expected {
            let [draw, cut, error] = margins[3 * step.step..][..3] else { panic!("three margins") };
            let cut = if done == step.steps { f32::INFINITY } else { cut };
            assert!(
                draw.min(cut) <= ERRORS * error,
                "{name}, seed number {seed}, step {done} of {}: margins {draw} and {cut}, error {error}: \
                 {:?}, not {expected:?}",
                step.steps,
                step.tokens
            );
            parted = true;
            return ControlFlow::Break(());
        }
        steps += 1;
        ControlFlow::Continue(())
    };
    let result = engine.generate_with(request, &mut watch);
    count.steps += steps;
    count.runs += usize::from(!parted);
    count.parted += usize::from(parted);
    if !parted {
        assert_eq!(steps, margins.len() / 3, "{name}: steps");
        let found: Vec<u32> = tokens.iter().map(|&token| u32::from(token)).collect();
        assert_eq!(result.unwrap().base_tokens, found, "{name}");
    }
}

/// Every run of one mode; `ask` adds to the request what is the mode's own.
fn all_runs(mode: &str, ask: impl Fn(usize, &Value, &mut Request)) -> Count {
    let golden = Golden::open();
    let mut engines: HashMap<String, Engine> = HashMap::new();
    let mut count = Count::default();
    for (index, settings) in golden.prompts.iter().enumerate() {
        let model = settings["model"].as_str().unwrap();
        let engine = engines.entry(model.into()).or_insert_with(|| engine(model));
        for (number, &seed) in golden.seeds.iter().enumerate() {
            if !ALL_SEEDS && number != index % golden.seeds.len() {
                continue;
            }
            let mut request = request(settings, seed);
            ask(index, settings, &mut request);
            compare(engine, &golden, &format!("{index}.{mode}"), number, &request, &mut count);
        }
    }
    println!("{mode}: {count:?}");
    count
}

#[test]
fn text_to_image_takes_diffusers_tokens() {
    let count = all_runs("text2image", |_, settings, request| {
        let [height, width] = pair(&settings["size"]).map(|side| side as usize);
        request.size = Size::Pixels([width, height]);
        request.base.steps = Some(settings["steps"].as_u64().unwrap() as usize);
    });
    assert_eq!(count.runs, if ALL_SEEDS { 60 } else { 20 });
    assert_eq!(count.parted, 0);
}

/// The edited picture of the run, `[height, width]`.
fn picture(index: usize, settings: &Value) -> Image {
    let [height, width] = pair(&settings["edit_size"]).map(|side| side as usize);
    Image { width, height, rgb: fixtures::image(&format!("run.{index}"), height, width) }
}

fn edit_steps(settings: &Value) -> Option<usize> {
    Some(settings["edit_steps"].as_u64().unwrap() as usize)
}

#[test]
fn image_to_image_takes_diffusers_tokens() {
    let count = all_runs("image2image", |index, settings, request| {
        let change = Change::Repaint { strength: number(&settings["strength"]) };
        request.edit = Some(Edit::new(picture(index, settings), change));
        request.base.steps = edit_steps(settings);
    });
    assert_eq!(count.runs, if ALL_SEEDS { 60 } else { 20 });
    assert_eq!(count.parted, 0);
}

#[test]
fn inpainting_takes_diffusers_tokens() {
    let count = all_runs("inpaint", |index, settings, request| {
        let picture = picture(index, settings);
        let mask = mask(index, picture.width, picture.height);
        let strength = if index % 2 == 0 { 1.0 } else { number(&settings["strength"]) };
        request.edit = Some(Edit::new(picture, Change::Inpaint { mask, strength }));
        request.base.steps = edit_steps(settings);
    });
    assert_eq!(count.runs, if ALL_SEEDS { 60 } else { 20 });
    assert_eq!(count.parted, 0);
}

/// `mask` of the reference: rectangles of whole tokens, every fourth an ellipse, with the pixels that Pillow
/// paints of these.
fn mask(index: usize, width: usize, height: usize) -> Mask {
    let (top, left) = (4 * (index % 3), 4 * (index % 5));
    let (bottom, right) = (top + 12 + 4 * (index % 4), left + 8 + 4 * (index % 3));
    let ellipse = index % 4 == 3;
    let (bottom, right) = if ellipse { (bottom + 4, right + 6) } else { (bottom, right) };
    let inside = |at: usize| {
        let (x, y) = (at % width, at / width);
        let within = (left..right).contains(&x) && (top..bottom).contains(&y);
        // How far from the middle, of half a side.
        let far = |at: usize, from: usize, to: usize| {
            (2.0 * at as f32 + 1.0 - (from + to) as f32) / (to - from) as f32
        };
        let (x, y) = (far(x, left, right), far(y, top, bottom));
        within && (!ellipse || x * x + y * y < 0.995)
    };
    Mask { width, height, repaint: (0..width * height).map(inside).collect() }
}
