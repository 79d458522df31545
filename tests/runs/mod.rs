//! Whole runs of aMUSEd against diffusers' on the same made-up weights, with its noise
//! (`tools/reference/amused_runs.py`): the same tokens after every step.

use std::collections::HashMap;
use std::ops::ControlFlow;

use muse::decode::Step;
use muse::edit::{Change, Edit};
use muse::image::Mask;
use muse::{DeviceChoice, Engine, EngineOptions, Image, Precision, Request, Rng, Size};
use safetensors::Dtype;
use serde_json::Value;

/// Logits may be off by twice what the reference's were, and so may the reference's: a choice may be another
/// one where what decided it was no more than this many of its errors.
const ERRORS: f32 = 6.0;

/// A golden file.
pub struct Golden {
    tensors: safetensors::SafeTensors<'static>,
    pub prompts: Vec<Value>,
    pub seeds: Vec<u64>,
}

impl Golden {
    pub fn open(name: &str) -> Self {
        let (tensors, metadata) = super::golden::open(name);
        let json = |name: &str| serde_json::from_str::<Value>(&metadata[name]).expect("JSON");
        Golden {
            tensors,
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

    /// One seed's tokens, of one byte or two.
    fn tokens(&self, name: &str, seed: usize) -> Vec<u32> {
        let bytes = self.part(name, seed);
        match self.tensors.tensor(name).expect(name).dtype() {
            Dtype::U8 => bytes.iter().map(|&token| u32::from(token)).collect(),
            Dtype::U16 => {
                let pairs = bytes.as_chunks().0;
                pairs.iter().map(|&pair| u32::from(u16::from_le_bytes(pair))).collect()
            }
            other => panic!("{name}: tokens of {other}"),
        }
    }
}

fn number(value: &Value) -> f32 {
    value.as_f64().expect("a number") as f32
}

fn pair(value: &Value) -> [f32; 2] {
    [number(&value[0]), number(&value[1])]
}

/// The made-up model `name`, in f32.
pub fn engine(name: &str, threads: Option<usize>) -> Engine {
    let folder = tempfile::tempdir().unwrap();
    fixtures::write(name, &folder).unwrap();
    let options = EngineOptions {
        device: DeviceChoice::Cpu,
        dtype: Precision::F32,
        threads,
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
pub struct Count {
    pub runs: usize,
    pub steps: usize,
    pub parted: usize,
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
    let tokens = golden.tokens(&format!("{name}.tokens"), seed);
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
        let expected: Vec<u32> = (tokens.iter().zip(settled))
            .map(|(&token, &at)| if usize::from(at) <= done { token } else { step.mask_token })
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
        assert_eq!(result.unwrap().base_tokens, tokens, "{name}");
    }
}

/// diffusers' three pipelines.
#[derive(Clone, Copy)]
pub enum Mode {
    TextToImage,
    ImageToImage,
    Inpaint,
}

impl Mode {
    /// As the golden file calls it.
    fn name(self) -> &'static str {
        match self {
            Mode::TextToImage => "text2image",
            Mode::ImageToImage => "image2image",
            Mode::Inpaint => "inpaint",
        }
    }

    /// Adds to the request what is the mode's own; `index` is the prompt's.
    fn ask(self, index: usize, settings: &Value, request: &mut Request) {
        if let Mode::TextToImage = self {
            let [height, width] = pair(&settings["size"]).map(|side| side as usize);
            request.size = Size::Pixels([width, height]);
            request.base.steps = Some(settings["steps"].as_u64().unwrap() as usize);
            return;
        }
        let picture = picture(index, settings);
        let strength = number(&settings["strength"]);
        let change = match self {
            Mode::Inpaint => Change::Inpaint {
                mask: mask(index, picture.width, picture.height),
                strength: if index.is_multiple_of(2) { 1.0 } else { strength },
            },
            _ => Change::Repaint { strength },
        };
        request.edit = Some(Edit::new(picture, change));
        request.base.steps = Some(settings["edit_steps"].as_u64().unwrap() as usize);
    }
}

/// Every run of one mode for the seeds that `chosen` names by the indices of the prompt and the seed.
pub fn all_runs(
    golden: &Golden,
    engines: &HashMap<String, Engine>,
    mode: Mode,
    chosen: impl Fn(usize, usize) -> bool,
) -> Count {
    let mut count = Count::default();
    for (index, settings) in golden.prompts.iter().enumerate() {
        let engine = &engines[settings["model"].as_str().unwrap()];
        for (number, &seed) in golden.seeds.iter().enumerate() {
            if chosen(index, number) {
                let mut request = request(settings, seed);
                mode.ask(index, settings, &mut request);
                let name = format!("{index}.{}", mode.name());
                compare(engine, golden, &name, number, &request, &mut count);
            }
        }
    }
    println!("{}: {count:?}", mode.name());
    count
}

/// The edited picture of the run, `[height, width]`.
fn picture(index: usize, settings: &Value) -> Image {
    let [height, width] = pair(&settings["edit_size"]).map(|side| side as usize);
    Image { width, height, rgb: fixtures::image(&format!("run.{index}"), height, width) }
}

/// `mask` of the reference: rectangles of whole tokens, every fourth an ellipse, with the pixels that Pillow
/// paints of these.
fn mask(index: usize, width: usize, height: usize) -> Mask {
    let side = 4 * (height / 32);
    let (top, left) = (side * (index % 3), side * (index % 5));
    let (bottom, right) = (top + side * (3 + index % 4), left + side * (2 + index % 3));
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
