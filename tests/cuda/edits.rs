//! Edits on both backends: the encoder, and decodes that begin with an image's tokens.

use std::sync::LazyLock;

use muse::config::Config;
use muse::cpu::Cpu;
use muse::decode::{Start, StepPlan};
use muse::edit::Margins;
use muse::image::{Mask, Rectangle};
use muse::rng::{NoiseKey, Purpose};
use muse::tokenizer::Tokenizer;
use muse::{Change, Edit, Image, Request, Size};

use super::draws::same_draws;
use super::{ENGINES, MODEL, draws, gpu, same_picture, steps, text};

const PROMPT: &str = "a dog on a blue background";

static IMAGE: LazyLock<Image> = LazyLock::new(|| {
    let mut image = Image::filled(64, 64, [60, 110, 200]);
    image.place(&Image::filled(24, 20, [190, 40, 30]), 8, 30);
    image
});

/// The small image's edit, of few steps.
fn request(change: Change) -> Request {
    let edit = Edit { decoded: true, ..Edit::new(IMAGE.clone(), change) };
    let mut request = Request::edit(PROMPT, edit);
    (request.size, request.base.steps) = (Size::Base, Some(2));
    request
}

/// Every step's draws of the tokens before it, and all of them one after another: where the backends part, it is
/// with one of these draws.
fn alike(name: &str, states: &[Vec<u32>], plan: &[StepPlan], after: [&[Vec<u32>]; 2]) {
    let config = Config::read(MODEL).unwrap();
    let tokenizer = Tokenizer::open(format!("{MODEL}/tokenizer.json")).unwrap();
    let ids = [PROMPT, ""].map(|text| tokenizer.encode(text, 64).unwrap().ids);
    let lengths = [ids[0].len(), ids[1].len()];
    let key = NoiseKey { seed: 0, stage: 0, step: 0 };
    let of = (&config.base, "base.safetensors");
    let processor = Cpu::new(None).unwrap();
    let states_of_text = text(&processor, &config, &ids);
    let on_cpu = draws(&processor, of, (&states_of_text, lengths), None, states, (plan, key));
    let states_of_text = text(gpu::cuda(), &config, &ids);
    let on_gpu = draws(gpu::cuda(), of, (&states_of_text, lengths), None, states, (plan, key));
    let mask_token = config.base.codebook_size as u32;
    same_draws(name, mask_token, states, key, [&on_cpu, &on_gpu], 10);

    let [expected, found] = after;
    assert_eq!((expected.len(), found.len()), (plan.len(), plan.len()));
    let same = (0..plan.len()).take_while(|&i| found[i] == expected[i]).count();
    println!("{name}: the same tokens after {same} of {} steps", plan.len());
    for (i, after) in expected.iter().enumerate() {
        assert_eq!(*after, on_cpu[i].tokens, "{name}, step {i}");
    }
    if same < plan.len() {
        assert!(found[same] == on_gpu[same].tokens, "{name}, step {same}: not by a near tie");
    }
}

#[test]
fn both_backends_inpaint_alike() {
    let mut mask = Mask::empty(64, 64);
    mask.add(Rectangle { x: 6, y: 28, width: 28, height: 20 }).unwrap();
    let request = request(Change::Inpaint { mask, strength: 1.0 });
    let [(expected, on_cpu), (found, on_gpu)] =
        ENGINES.each_ref().map(|engine| steps(engine, &request));
    assert_eq!(expected.len(), 2);
    assert_eq!(found, expected);
    same_picture(&on_gpu.image.rgb, &on_cpu.image.rgb);
}

#[test]
fn both_backends_outpaint_alike() {
    let margins = Margins { right: 32, ..Margins::default() };
    let request = request(Change::Outpaint { margins, overlap: None });
    let [(expected, _), (found, _)] = ENGINES.each_ref().map(|engine| steps(engine, &request));
    // One window: the right half of the image, and as much beyond.
    let window = |canvas: &[u32]| -> Vec<u32> {
        assert_eq!(canvas.len(), 12 * 8);
        canvas.chunks(12).flat_map(|row| row[4..].to_vec()).collect()
    };
    let [expected, found] =
        [expected, found].map(|seen| seen.iter().map(|s| window(s)).collect::<Vec<_>>());
    let known = ENGINES[0].encode(&IMAGE, Size::Base).unwrap();
    let config = Config::read(MODEL).unwrap();
    let mask_token = config.base.codebook_size as u32;
    let mut states = vec![vec![mask_token; 64], expected[0].clone()];
    for (row, known) in states[0].chunks_mut(8).zip(known.chunks(8)) {
        row[..4].copy_from_slice(&known[4..]);
    }
    let mut options = config.base.decode;
    options.steps = 2;
    let plan = Start { cells: 64, masked: 32, first: 0 }.plan(&options).unwrap();
    alike("outpainting", &states, &plan, [&expected, &found]);
}

#[test]
fn both_backends_edit_without_a_mask_alike() {
    let (rounds, count) = (6, 5);
    let request = request(Change::Resample { iterations: rounds, fraction: 0.08, preserve: 0.0 });
    let [(expected, _), (found, _)] = ENGINES.each_ref().map(|engine| steps(engine, &request));
    let config = Config::read(MODEL).unwrap();
    let options = config.base.decode;
    let mask_token = config.base.codebook_size as u32;
    let [before, on_gpu] =
        ENGINES.each_ref().map(|engine| engine.encode(&IMAGE, Size::Base).unwrap());
    assert_eq!(before, on_gpu);
    let mut states = vec![before];
    states.extend_from_slice(&expected[..rounds - 1]);
    let mut plan = Vec::new();
    for (round, state) in states.iter_mut().enumerate() {
        let number = round as u16;
        let key = NoiseKey { seed: 0, stage: 0, step: number };
        let mut order: Vec<u32> = (0..64).collect();
        let noise = |&cell: &u32| key.gumbel(Purpose::Order, cell, 0);
        order.sort_by(|a, b| noise(b).total_cmp(&noise(a)));
        order[..count].iter().for_each(|&cell| state[cell as usize] = mask_token);
        plan.push(StepPlan {
            number,
            masked: count,
            remaining: 0,
            guidance: options.guidance,
            noise: 0.0,
            token_temperature: options.token_temperature,
            top_k: Change::TOP_K,
        });
    }
    alike("a mask-free edit", &states, &plan, [&expected, &found]);
}
