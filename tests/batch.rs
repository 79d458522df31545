//! Images that are decoded side by side are those that are made one by one.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use muse::decode::{GuidanceSchedule, Order, Step};
use muse::edit::{Change, Edit, Margins};
use muse::image::{Mask, Rectangle};
use muse::{Engine, EngineOptions, Generated, Image, Overrides, Request, Rng, Size};

const PROMPT: &str = "two apples and a cat on a blue background";

fn load(model: impl AsRef<std::path::Path>) -> Engine {
    Engine::load(model, EngineOptions { threads: Some(1), ..EngineOptions::default() }).unwrap()
}

static ENGINE: LazyLock<Engine> =
    LazyLock::new(|| load(concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo")));

fn same(a: &Generated, b: &Generated) -> bool {
    a.base_tokens == b.base_tokens && a.superres_tokens == b.superres_tokens && a.image == b.image
}

/// `count` images side by side and one by one.
fn alike(engine: &Engine, name: &str, request: &Request, count: usize) {
    assert_eq!(engine.batch(request, count).unwrap(), count, "{name}");
    let together = engine.generate_many(request, count, None).unwrap();
    assert_eq!(together.len(), count);
    for (i, image) in together.iter().enumerate() {
        let request = Request { seed: request.seed.wrapping_add(i as u64), ..request.clone() };
        let alone = engine.generate(&request).unwrap();
        assert_eq!((image.batch, alone.batch), (count, 1));
        assert!(same(image, &alone), "{name}: image {i} is another one by itself");
    }
    assert!(!same(&together[0], &together[1]), "{name}");
}

fn few(steps: usize) -> Overrides {
    Overrides { steps: Some(steps), ..Overrides::default() }
}

#[test]
fn the_demonstration_model() {
    let mut request = Request::new(PROMPT);
    (request.base, request.superres, request.seed) = (few(3), few(2), u64::MAX);
    // Guided in every stage, by a text of another length; the seed passes the last one.
    request.negative = "a frog in the sea".into();
    request.superres.guidance = Some(2.0);
    alike(&ENGINE, "guided", &request, 3);
    let defaults = Request { base: few(3), ..Request::new(PROMPT) };
    alike(&ENGINE, "the model's own guidance", &defaults, 2);
    for order in [Order::Halton, Order::Random] {
        let schedule = Some(GuidanceSchedule::Interval([0.5, 1.0]));
        let mut request = Request { size: Size::Base, ..defaults.clone() };
        (request.base.order, request.base.top_k) = (Some(order), Some(50));
        request.base.guidance_schedule = schedule;
        alike(&ENGINE, "another order", &request, 2);
    }
}

#[test]
fn edits() {
    let mut image = Image::filled(128, 128, [60, 110, 200]);
    image.place(&Image::filled(48, 40, [190, 40, 30]), 16, 60);
    let mut mask = Mask::empty(128, 128);
    mask.add(Rectangle { x: 10, y: 50, width: 60, height: 60 }).unwrap();
    let margins = Margins { left: 20, bottom: 40, ..Margins::default() };
    for (name, change) in [
        ("inpainting", Change::Inpaint { mask, strength: 1.0 }),
        ("outpainting", Change::Outpaint { margins, overlap: None }),
        ("image to image", Change::Repaint { strength: 0.6 }),
        ("mask-free", Change::Resample { iterations: 3, fraction: 0.1, preserve: 1.0 }),
    ] {
        let mut request = Request::edit(PROMPT, Edit::new(image.clone(), change));
        (request.base, request.superres) = (few(3), few(1));
        alike(&ENGINE, name, &request, 2);
    }
}

#[test]
fn amused() {
    for model in ["flat", "halved"] {
        let folder = tempfile::tempdir().unwrap();
        fixtures::write(model, &folder).unwrap();
        let engine = load(&folder);
        let request = Request { base: few(3), ..Request::new("a small red house") };
        alike(&engine, model, &request, 3);
        // PyTorch's noise comes image by image, and image to image forgets more of one than of another.
        let torch = Request { rng: Rng::Torch, ..request };
        assert_eq!(engine.batch(&torch, 3).unwrap(), 1);
        let image = Image::filled(128, 128, [60, 110, 200]);
        let edit = Edit::new(image, Change::Repaint { strength: 0.5 });
        assert_eq!(engine.batch(&Request::edit("a house", edit), 3).unwrap(), 1);
    }
}

/// What does not fit one batch takes several; every step of every image is seen.
#[test]
fn more_images_than_a_batch() {
    let mut request = Request { base: few(1), ..Request::new(PROMPT) };
    request.size = Size::Base;
    let batch = ENGINE.batch(&request, 1000).unwrap();
    assert!((1..=8).contains(&batch), "{batch}");
    let mut seen = Vec::new();
    let mut watch = |step: Step<'_>| {
        assert_eq!(step.tokens.len(), 64);
        seen.push(step.tokens.to_vec());
        ControlFlow::Continue(())
    };
    let images = ENGINE.generate_many(&request, 10, Some(&mut watch)).unwrap();
    assert_eq!(images.len(), 10);
    let tokens: Vec<_> = images.iter().map(|image| image.base_tokens.clone()).collect();
    assert_eq!(seen, tokens);
    assert!(ENGINE.generate_many(&request, 0, None).unwrap().is_empty());
}
