//! Editing with the bundled model: what stays, what changes, and what is refused.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use muse::decode::Step;
use muse::edit::{Change, Edit, Margins};
use muse::image::{Fit, Mask, Rectangle};
use muse::{Engine, EngineOptions, Generated, Image, Request, Size, Toward};

const PROMPT: &str = "two apples and a cat on a blue background";
const OTHER: &str = "two apples and a dog on a blue background";

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo");
    // The tests themselves run side by side.
    let options = EngineOptions { threads: Some(1), ..EngineOptions::default() };
    Engine::load(model, options).unwrap()
});

/// The picture that is edited.
static ORIGINAL: LazyLock<Generated> =
    LazyLock::new(|| ENGINE.generate(&seeded(Request::new(PROMPT), 7)).unwrap());

/// Few steps: the tests are about what changes, not about how well.
fn seeded(mut request: Request, seed: u64) -> Request {
    request.seed = seed;
    (request.base.steps, request.superres.steps) = (Some(4), Some(1));
    request
}

fn original() -> Image {
    ORIGINAL.image.clone()
}

fn edited(change: Change) -> Edit {
    Edit::new(original(), change)
}

fn run(prompt: &str, edit: Edit) -> Generated {
    ENGINE.generate(&seeded(Request::edit(prompt, edit), 3)).unwrap()
}

/// The result, and the tokens after every step with their stage.
fn watched(prompt: &str, edit: Edit) -> (Generated, Vec<(String, Vec<u32>)>) {
    let mut seen = Vec::new();
    let mut watch = |step: Step<'_>| {
        assert_eq!(step.tokens.len(), step.grid[0] * step.grid[1]);
        assert!(step.step < step.steps && step.window < step.windows);
        seen.push((format!("{} {}", step.stage, step.window), step.tokens.to_vec()));
        ControlFlow::Continue(())
    };
    let request = seeded(Request::edit(prompt, edit), 3);
    let generated = ENGINE.generate_with(&request, &mut watch).unwrap();
    (generated, seen)
}

fn boxed(width: usize, height: usize, rectangle: Rectangle) -> Mask {
    let mut mask = Mask::empty(width, height);
    mask.add(rectangle).unwrap();
    mask
}

/// The encoder's tokens of a picture of the model's size, coarse and fine.
fn tokens_of(image: &Image) -> [Vec<u32>; 2] {
    [
        ENGINE.encode(&image.resized(64, 64), Size::Base).unwrap(),
        ENGINE.encode(image, Size::Full).unwrap(),
    ]
}

fn fine(generated: &Generated) -> &[u32] {
    generated.superres_tokens.as_ref().unwrap()
}

#[test]
fn an_empty_mask_returns_the_original() {
    let strange = original().resized(150, 200);
    for (image, fit) in
        [(original(), Fit::Crop), (strange.clone(), Fit::Crop), (strange, Fit::Stretch)]
    {
        let mask = Mask::empty(image.width, image.height);
        let mut edit = Edit::new(image.clone(), Change::Inpaint { mask, strength: 1.0 });
        edit.fit = fit;
        assert!(run(OTHER, edit).image == image, "{}×{}", image.width, image.height);
    }
}

#[test]
fn a_full_mask_is_generation() {
    let generated = ENGINE.generate(&seeded(Request::new(OTHER), 3)).unwrap();
    let mask = boxed(128, 128, Rectangle { x: 0, y: 0, width: 128, height: 128 });
    for change in [Change::Inpaint { mask, strength: 1.0 }, Change::Repaint { strength: 1.0 }] {
        let again = run(OTHER, edited(change));
        assert_eq!(again.base_tokens, generated.base_tokens);
        assert_eq!(again.superres_tokens, generated.superres_tokens);
        assert!(again.image == generated.image);
    }
}

#[test]
fn inpainting_leaves_what_the_mask_does_not_touch() {
    // From within a token to within another one: 3 × 2 coarse ones, 5 × 3 fine ones.
    let hole = Rectangle { x: 20, y: 37, width: 36, height: 20 };
    let mut before = original();
    before.place(&Image::filled(hole.width, hole.height, [60, 10, 80]), hole.x, hole.y); // what no model would draw there
    let edit =
        Edit::new(before.clone(), Change::Inpaint { mask: boxed(128, 128, hole), strength: 1.0 });
    let result = run(OTHER, edit.clone());
    let [coarse_before, fine_before] = tokens_of(&before);
    let mut changed = [0, 0];
    for (number, (before, after, side)) in
        [(&coarse_before[..], &result.base_tokens[..], 16), (&fine_before, fine(&result), 8)]
            .into_iter()
            .enumerate()
    {
        let columns = 128 / side;
        for (cell, (before, after)) in before.iter().zip(after).enumerate() {
            let (x, y) = (cell % columns * side, cell / columns * side);
            let touched = x < 56 && x + side > 20 && y < 57 && y + side > 37;
            assert!(touched || before == after, "stage {number}: token {cell}");
            changed[number] += usize::from(before != after);
        }
    }
    assert!(changed[0] > 0 && changed[1] > 0, "{changed:?}");

    // The original's pixels but for the hole and its seam; the decoder's alone when that is asked for.
    let pure = run(OTHER, Edit { decoded: true, ..edit.clone() });
    assert_eq!(pure.base_tokens, result.base_tokens);
    let hard = run(OTHER, Edit { feather: 0, ..edit });
    let mut off = 0;
    for (at, (old, new)) in before.rgb.chunks(3).zip(result.image.rgb.chunks(3)).enumerate() {
        let (x, y) = (at % 128, at / 128);
        let pixel = 3 * at..3 * at + 3;
        let inside = (20..56).contains(&x) && (37..57).contains(&y);
        let near = (16..60).contains(&x) && (33..61).contains(&y);
        assert!(near || old == new, "{x}, {y}");
        assert!(!inside || *new == pure.image.rgb[pixel.clone()], "{x}, {y}");
        let of = if inside { &pure.image.rgb } else { &before.rgb };
        assert_eq!(hard.image.rgb[pixel.clone()], of[pixel], "{x}, {y}");
        off += usize::from(near && !inside && old != new);
    }
    assert!(off > 0, "no seam");
}

#[test]
fn an_image_of_any_shape_is_inpainted_in_place() {
    let image = original().resized(300, 200);
    let hole = Rectangle { x: 60, y: 10, width: 50, height: 50 };
    let mask = boxed(300, 200, hole);
    let result = run(OTHER, Edit::new(image.clone(), Change::Inpaint { mask, strength: 1.0 }));
    assert_eq!((result.image.width, result.image.height), (300, 200));
    for (at, (before, after)) in image.rgb.chunks(3).zip(result.image.rgb.chunks(3)).enumerate() {
        let (x, y) = (at % 300, at / 300);
        assert!((56..114).contains(&x) && (6..64).contains(&y) || before == after, "{x}, {y}");
    }
    // The model sees columns 50 to 250.
    let mask = boxed(300, 200, Rectangle { x: 40, ..hole });
    let mut edit = Edit::new(image, Change::Inpaint { mask, strength: 1.0 });
    let error = ENGINE.generate(&Request::edit(OTHER, edit.clone())).unwrap_err().to_string();
    assert!(error.contains("mask") && error.contains("50,0,200,200"), "{error}");
    edit.fit = Fit::Stretch;
    run(OTHER, edit);
}

#[test]
fn outpainting_keeps_tokens_and_gives_any_size() {
    let margins = Margins { left: 40, right: 0, top: 0, bottom: 7 };
    let change = Change::Outpaint { margins, overlap: None };
    let (result, seen) = watched(PROMPT, Edit { feather: 0, ..edited(change) });
    assert_eq!((result.image.width, result.image.height), (168, 135));
    let [coarse, fine_before] = tokens_of(&original());
    // Three columns of coarse tokens are added left, and a row below.
    for (tokens, before, columns, rows) in
        [(&result.base_tokens[..], &coarse, 11, 9), (fine(&result), &fine_before, 22, 18)]
    {
        assert_eq!(tokens.len(), columns * rows);
        let side = columns / 11;
        let kept: Vec<u32> = (0..8 * side)
            .flat_map(|y| tokens[y * columns + 3 * side..][..8 * side].to_vec())
            .collect();
        assert_eq!(&kept, before);
        assert!(tokens.iter().all(|&token| token < 1024));
    }
    let windows = |stage: &str| {
        let mut names: Vec<_> =
            seen.iter().map(|s| &s.0[..]).filter(|name| name.starts_with(stage)).collect();
        names.dedup();
        names.len()
    };
    assert_eq!(windows("base"), windows("superres"));
    assert_eq!(windows("base"), 3);
    assert_eq!(seen.last().unwrap().1, fine(&result));
    assert!(result.image.cropped(Rectangle { x: 40, y: 0, width: 128, height: 128 }) == original());
}

#[test]
fn image_to_image_begins_in_the_middle() {
    let [coarse, fine_before] = tokens_of(&original());
    let nothing = run(OTHER, edited(Change::Repaint { strength: 0.0 }));
    assert_eq!(nothing.base_tokens, coarse);
    assert_eq!(fine(&nothing), fine_before);
    // Two of four steps: 64·cos(π/4) tokens are forgotten, and the fine ones within them.
    let (half, seen) = watched(OTHER, edited(Change::Repaint { strength: 0.5 }));
    let base: Vec<_> = seen.iter().filter(|(stage, _)| stage.starts_with("base")).collect();
    assert_eq!(base.len(), 2);
    let unlike = |a: &[u32], b: &[u32]| a.iter().zip(b).filter(|(a, b)| a != b).count();
    // After the first of them 64·cos(3π/8) are masked.
    assert_eq!(base[0].1.iter().filter(|&&token| token == 1024).count(), 24);
    assert!((1..=45).contains(&unlike(&half.base_tokens, &coarse)));
    assert!((1..=180).contains(&unlike(fine(&half), &fine_before)));
}

#[test]
fn mask_free_editing_redraws_a_few_tokens_a_round() {
    let change = |iterations, preserve| Change::Resample { iterations, fraction: 0.08, preserve };
    let (long, rounds) = watched(OTHER, edited(change(4, 0.0)));
    let mut before = tokens_of(&original())[0].clone();
    for (stage, tokens) in &rounds[..4] {
        assert_eq!(stage, "base 0");
        let changed = tokens.iter().zip(&before).filter(|(a, b)| a != b).count();
        assert!(changed <= 5, "{changed} tokens"); // 8 % of 64
        before.clone_from(tokens);
    }
    assert_eq!(rounds[3].1, long.base_tokens);
    assert_ne!(long.base_tokens, tokens_of(&original())[0]);
    // Fewer rounds are what more of them pass through.
    assert_eq!(run(OTHER, edited(change(2, 0.0))).base_tokens, rounds[1].1);
    // What the prompt explains is drawn anew less often.
    assert_ne!(run(OTHER, edited(change(2, 2.0))).base_tokens, rounds[1].1);
    assert_eq!((long.image.width, long.image.height), (128, 128));
}

#[test]
fn between_two_prompts() {
    let mut request = seeded(Request::new(PROMPT), 3);
    request.size = Size::Base;
    let ends = [PROMPT, "a frog"].map(|prompt| {
        let request = Request { prompt: prompt.into(), ..request.clone() };
        ENGINE.generate(&request).unwrap().base_tokens
    });
    let mut at = |part| {
        request.toward = Some(Toward { prompt: "a frog".into(), part });
        ENGINE.generate(&request).unwrap().base_tokens
    };
    assert_eq!([at(0.0), at(1.0)], ends);
    let middle = at(0.5);
    assert!(middle != ends[0] && middle != ends[1]);
    // A text on the way to itself is itself, but for a rounding.
    request.toward = Some(Toward { prompt: PROMPT.into(), part: 0.25 });
    assert_eq!(ENGINE.generate(&request).unwrap().base_tokens, ends[0]);
}

/// Runs and expects an error of an option with these words, before anything is computed.
fn refused(request: Request, words: &[&str]) {
    let error = request.validate().and_then(|()| ENGINE.generate(&request).map(drop)).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "no {word:?} in {error}");
    }
}

#[test]
fn edits_that_cannot_be_made() {
    let refuse = |change, words: &[&str]| refused(Request::edit(PROMPT, edited(change)), words);
    refuse(
        Change::Inpaint { mask: Mask::empty(64, 128), strength: 1.0 },
        &["mask: 64×128 pixels", "128×128 pixels, the size of the image"],
    );
    for rectangle in [
        Rectangle { x: 0, y: 0, width: 0, height: 4 },
        Rectangle { x: 0, y: 0, width: 4, height: 0 },
        Rectangle { x: 120, y: 0, width: 9, height: 4 },
        Rectangle { x: 0, y: usize::MAX, width: 1, height: 2 },
    ] {
        let error = Mask::empty(128, 128).add(rectangle).unwrap_err().to_string();
        assert!(error.contains("box") && error.contains("128×128 pixels"), "{error}");
    }
    let outpaint = |left, overlap| Change::Outpaint {
        margins: Margins { left, ..Margins::default() },
        overlap,
    };
    refuse(outpaint(0, None), &["outpainting: no pixels to add"]);
    refuse(outpaint(9000, None), &["outpainting: an image of 9128×128 pixels", "8192"]);
    refuse(outpaint(usize::MAX, None), &["outpainting"]);
    refuse(outpaint(64, Some(0)), &["overlap: 0", "1 to 7 tokens"]);
    refuse(outpaint(64, Some(8)), &["overlap: 8"]);
    let mut small = edited(outpaint(64, None));
    small.image = small.image.resized(15, 128);
    refused(Request::edit(PROMPT, small), &["image: 15×128 pixels", "16×16"]);
    for strength in [-0.1, 1.1, f32::NAN] {
        refuse(Change::Repaint { strength }, &["strength", "a number from 0 to 1"]);
    }
    let resample =
        |iterations, fraction, preserve| Change::Resample { iterations, fraction, preserve };
    refuse(resample(0, 0.1, 0.0), &["iterations: 0", "1 to 1000"]);
    refuse(resample(1, 0.0, 0.0), &["fraction: 0"]);
    refuse(resample(1, 2.0, 0.0), &["fraction: 2"]);
    refuse(resample(1, 0.1, -1.0), &["preserve: -1"]);
    let repaint = Change::Repaint { strength: 0.5 };
    refused(Request::edit(PROMPT, Edit::new(Image::default(), repaint.clone())), &["image: 0×0"]);
    let broad = Edit { feather: 300, ..edited(repaint.clone()) };
    refused(Request::edit(PROMPT, broad), &["feather: 300", "0 to 256 pixels"]);
    let mut request = Request::edit(PROMPT, edited(repaint));
    request.base.steps = Some(65);
    refused(request.clone(), &["steps: 65", "1 to 64"]);
    for (prompt, part, words) in [("", 0.5, "prompt"), ("a cat", 1.5, "part: 1.5")] {
        request.toward = Some(Toward { prompt: prompt.into(), part });
        refused(request.clone(), &[words]);
    }
}

#[test]
fn json_holds_all_but_the_pixels() {
    let json = r#"{"prompt": "", "edit": {"change": {"resample": {"fraction": 0.1}}}}"#;
    let mut request = Request::from_json(json).unwrap();
    assert!(request.validate().unwrap_err().to_string().contains("image: 0×0"));
    request.edit.as_mut().unwrap().image = original();
    request.validate().unwrap();
    let change = &request.edit.as_ref().unwrap().change;
    let (iterations, preserve) = (Change::ITERATIONS, 0.0);
    assert_eq!(*change, Change::Resample { iterations, fraction: 0.1, preserve });
    let again = Request::from_json(&serde_json::to_string(&request).unwrap()).unwrap();
    assert_eq!(again.edit.unwrap().change, *change);
    for wrong in [r#"{"repaint": {"strength": 2}}"#, r#"{"erase": {}}"#] {
        let json = format!(r#"{{"prompt": "x", "edit": {{"change": {wrong}}}}}"#);
        Request::from_json(&json).unwrap_err();
    }
}
