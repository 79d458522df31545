//! What an engine keeps of the first steps of images that are nothing but masks: no image is another one for it, and
//! every image but the first is spared it.

use muse::edit::{Change, Edit, Margins};
use muse::image::{Mask, Rectangle};
use muse::tensor::Precision;
use muse::{Engine, EngineOptions, Generated, Image, Overrides, Request, Rng, Size};
use tempfile::TempDir;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo");

fn load(model: &str, dtype: Precision) -> Engine {
    let options = EngineOptions { threads: Some(1), dtype, ..EngineOptions::default() };
    Engine::load(model, options).unwrap()
}

fn few(steps: usize) -> Overrides {
    Overrides { steps: Some(steps), guidance: Some(3.0), ..Overrides::default() }
}

fn request(prompt: &str, negative: &str) -> Request {
    Request { base: few(2), size: Size::Base, negative: negative.into(), ..Request::new(prompt) }
}

fn same(a: &Generated, b: &Generated) -> bool {
    a.base_tokens == b.base_tokens && a.image == b.image
}

/// Each of the requests, one after the other, gives the image that an engine makes of it which made none before.
fn independent(model: &str, dtype: Precision, requests: &[Request]) {
    let engine = load(model, dtype);
    for (i, request) in requests.iter().enumerate() {
        let expected = load(model, dtype).generate(request).unwrap();
        let found = engine.generate(request).unwrap();
        assert!(same(&found, &expected), "{dtype}: request {i} after the others: {request:?}");
    }
}

fn edited(change: Change, side: usize) -> Request {
    let mut image = Image::filled(side, side, [60, 110, 200]);
    image.place(&Image::filled(side / 3, side / 3, [190, 40, 30]), side / 8, side / 2);
    Request { base: few(2), ..Request::edit("a cat", Edit::new(image, change)) }
}

fn mask(side: usize, part: Rectangle) -> Change {
    let mut mask = Mask::empty(side, side);
    mask.add(part).unwrap();
    Change::Inpaint { mask, strength: 1.0 }
}

#[test]
fn an_image_does_not_depend_on_those_before_it() {
    // More negative texts than are kept, of several lengths.
    let negatives = ["", "a frog", "rain", "a red apple on a green hill", "fog", ""];
    let mut requests: Vec<_> = negatives.map(|negative| request("two apples", negative)).into();
    requests.push(request("a cat on a blue background", "rain"));
    requests.push(Request { base: few(1), ..request("a cat", "rain") });
    requests.push(edited(mask(128, Rectangle { x: 10, y: 50, width: 60, height: 60 }), 128));
    requests.push(edited(mask(128, Rectangle { x: 0, y: 0, width: 128, height: 128 }), 128));
    let margins = Margins { left: 128, ..Margins::default() };
    requests.push(edited(Change::Outpaint { margins, overlap: Some(1) }, 128));
    independent(DEMO, Precision::Bf16, &requests);
    for dtype in [Precision::F32, Precision::Int8] {
        independent(DEMO, dtype, &requests[4..6]);
    }
}

#[test]
fn nor_does_one_of_amused() {
    for name in ["flat", "halved"] {
        let folder = TempDir::new().unwrap();
        fixtures::write(name, folder.path()).unwrap();
        let plain = Request { size: Size::Full, ..request("a cat", "rain") };
        let requests = [
            plain.clone(),
            Request { crop: Some([0.0, 32.0]), ..plain.clone() },
            Request { aesthetic: Some(2.0), ..plain.clone() },
            Request { size: Size::Pixels([32, 64]), ..plain.clone() },
            Request { size: Size::Pixels([64, 32]), ..plain.clone() },
            Request { rng: Rng::Torch, ..plain.clone() },
            Request { negative: "fog".into(), ..plain.clone() },
            plain,
        ];
        independent(folder.path().to_str().unwrap(), Precision::F32, &requests);
    }
}

/// Floating-point operations of an image's products.
fn flops(engine: &Engine, request: &Request) -> u64 {
    let (image, events) = engine.trace(false, |engine| engine.generate(request));
    image.unwrap();
    events.iter().map(|event| event.flops).sum()
}

#[test]
fn the_next_image_is_spared_half_of_a_step() {
    let engine = load(DEMO, Precision::Bf16);
    let guided = Request { base: few(1), ..request("two apples", "a frog") };
    let mut alone = guided.clone();
    alone.base.guidance = Some(1.0);
    let [first, second, other] = ["a frog", "a frog", "rain"]
        .map(|n| flops(&engine, &Request { negative: n.into(), ..guided.clone() }));
    let half = flops(&engine, &alone);
    assert!(half == second && second < first, "{first}, then {second}; {half} without guidance");
    assert!(other > second, "another negative text is known before it was seen");
}
