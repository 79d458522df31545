//! The demonstration model on the CUDA backend against its CPU twin: the same tokens after every step and
//! the same picture. On a machine without a GPU the kernels run on the simulator, which ends this program
//! at the first finding.

mod gpu;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use half::bf16;
use muse::amused::{self, AESTHETIC, Schedule};
use muse::config::{Config, TransformerConfig};
use muse::cpu::Cpu;
use muse::cuda::Cuda;
use muse::decode::{DecodeOptions, Step, StepPlan, plan};
use muse::device::{Device, Masked, Remask, Sampling};
use muse::hub::{Folder, MaskingSchedule};
use muse::image::{Mask, Rectangle};
use muse::models::MaskedModel;
use muse::models::muse::{Muse, Text};
use muse::models::uvit::{Conditions, Uvit};
use muse::ops;
use muse::plans::PlanSource;
use muse::rng::{NoiseKey, Purpose};
use muse::tensor::Precision;
use muse::text::bert::Bert;
use muse::text::clip::Clip;
use muse::tokenizer::Tokenizer;
use muse::tokenizer::clip::ClipTokenizer;
use muse::weights::Weights;
use muse::{Change, DeviceChoice, Edit, Engine, EngineOptions, Generated, Image, Request, Size};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo");

/// The model on the processor and on the GPU.
static ENGINES: LazyLock<[Engine; 2]> = LazyLock::new(|| {
    gpu::ready();
    [DeviceChoice::Cpu, DeviceChoice::Cuda(0)].map(|device| {
        let plans = PlanSource::Rule; // whatever this machine's user has tuned
        Engine::load(MODEL, EngineOptions { device, plans, ..EngineOptions::default() }).unwrap()
    })
});

/// The tokens after every step, base then super-res, and the result.
fn steps(engine: &Engine, request: &Request) -> (Vec<Vec<u32>>, Generated) {
    let mut seen = Vec::new();
    let mut watch = |step: Step<'_>| {
        seen.push(step.tokens.to_vec());
        ControlFlow::Continue(())
    };
    let generated = engine.generate_with(request, &mut watch).unwrap();
    (seen, generated)
}

/// How many bytes are one, two and more apart.
fn apart(a: &[u8], b: &[u8]) -> [usize; 3] {
    assert_eq!(a.len(), b.len());
    let mut counts = [0; 3];
    for off in a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).filter(|off| *off > 0) {
        counts[usize::from(off).min(3) - 1] += 1;
    }
    counts
}

/// Pictures of the same tokens: no byte is more than one apart.
fn same_picture(found: &[u8], expected: &[u8]) {
    let [one, two, more] = apart(found, expected);
    let bytes = expected.len();
    println!("of {bytes} bytes of the pictures {one} are one apart, {two} two, {more} more");
    assert!(two + more == 0, "{two} bytes are two apart, {more} more");
}

/// What a stage makes of the tokens before a step.
struct Draws {
    sampled: Vec<u32>,
    /// What it draws from, `[positions, codebook]`, guided and divided by the temperature.
    logits: Vec<f32>,
    /// Of what was drawn, with the noise by which positions are masked again.
    confidence: Vec<f32>,
    /// Positions that stay masked.
    remaining: usize,
    /// The tokens after the step.
    tokens: Vec<u32>,
}

/// Text states of the prompt and of the empty one.
fn text<D: Device>(device: &D, config: &Config, ids: &[Vec<u32>; 2]) -> Vec<bf16> {
    let weights = Weights::open(format!("{MODEL}/text_encoder.safetensors")).unwrap();
    let bert = Bert::load(device, weights, &config.text_encoder).unwrap();
    device.download(&bert.encode(device, [&ids[0], &ids[1]]).unwrap()).unwrap()
}

fn draws<D: Device>(
    device: &D,
    config: &TransformerConfig,
    file: &str,
    (text, lengths): (&[bf16], [usize; 2]),
    coarse: Option<&[u32]>,
    states: &[Vec<u32>],
    (stage, seed): (u16, u64),
) -> Vec<Draws> {
    let model =
        Muse::load(device, Weights::open(format!("{MODEL}/{file}")).unwrap(), config).unwrap();
    let rows = text.len() / config.text_size;
    let states_of_text = device.upload(text, [rows, config.text_size]).unwrap();
    let text = Text { states: states_of_text, lengths, batch: 2 };
    let coarse = coarse.map(|tokens| device.upload(tokens, [tokens.len()]).unwrap());
    let mut prepared = model.prepare(device, &text, coarse.as_ref()).unwrap();
    let plan = plan(model.positions(), &config.decode).unwrap();
    let key = NoiseKey { seed, stage, step: 0 };
    draws_of(device, &mut prepared, &plan, &config.decode, model.mask_token(), states, key)
}

fn draws_of<D: Device>(
    device: &D,
    model: &mut impl MaskedModel<D>,
    plan: &[StepPlan],
    options: &DecodeOptions,
    mask_token: u32,
    states: &[Vec<u32>],
    key: NoiseKey,
) -> Vec<Draws> {
    let draw = |(step, (tokens, plan)): (usize, (&Vec<u32>, &StepPlan))| {
        let mut masked = Masked::new(device, tokens, mask_token).unwrap();
        masked.remaining.reshape([plan.remaining]);
        let logits = model.logits(device, &masked, plan.batch()).unwrap();
        let noise = NoiseKey { step: step as u16, ..key };
        let sampling = Sampling {
            guidance: plan.guidance,
            temperature: options.token_temperature,
            top_k: options.top_k,
            noise,
        };
        ops::guide_and_sample(device, &mut masked, logits, sampling).unwrap();
        let raw: Vec<f32> = device.download(logits).unwrap();
        let (conditional, unconditional) = raw.split_at(raw.len() / plan.batch());
        let guided = conditional.iter().enumerate().map(|(i, c)| match unconditional.get(i) {
            Some(u) => u + plan.guidance * (c - u),
            None => *c,
        });
        let divisor = if options.token_temperature > 0.0 { options.token_temperature } else { 1.0 };
        let logits = guided.map(|l| l / divisor).collect();
        let remask =
            Remask { keep_masked: plan.remaining, temperature: plan.noise, mask_token, noise };
        ops::remask(device, &mut masked, remask).unwrap();
        Draws {
            sampled: device.download(&masked.sampled).unwrap(),
            logits,
            confidence: device.download(&masked.confidence).unwrap(),
            remaining: plan.remaining,
            tokens: device.download(&masked.tokens).unwrap(),
        }
    };
    states.iter().zip(plan).enumerate().map(draw).collect()
}

/// Both backends draw the same token, and mask the same positions again, wherever the difference of their
/// logits cannot decide. How far the logits may be apart is for `models.rs` to judge.
fn same_draws(
    name: &str,
    (mask_token, token_temperature): (u32, f32),
    states: &[Vec<u32>],
    key: NoiseKey,
    cpu: &[Draws],
    gpu: &[Draws],
    most: usize, // one choice of so many may be another
) {
    let (mut all, mut differing, mut otherwise) = (0, 0, 0);
    for (step, ((tokens, cpu), gpu)) in states.iter().zip(cpu).zip(gpu).enumerate() {
        let masked = |&p: &usize| tokens[p] == mask_token;
        let positions: Vec<usize> = (0..tokens.len()).filter(masked).collect();
        otherwise += masked_again(name, step, &positions, cpu, gpu);
        let codes = cpu.logits.len() / positions.len();
        for (j, position) in positions.into_iter().enumerate() {
            let row = j * codes..(j + 1) * codes;
            let (a, b) = (cpu.sampled[j] as usize, gpu.sampled[j] as usize);
            all += 1;
            if a == b {
                continue;
            }
            differing += 1;
            let (on_cpu, on_gpu) = (&cpu.logits[row.clone()], &gpu.logits[row]);
            let apart = on_cpu.iter().zip(on_gpu).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let noise = |token: usize| match token_temperature > 0.0 {
                true => {
                    let key = NoiseKey { step: step as u16, ..key };
                    key.gumbel(Purpose::Token, position as u32, token as u32)
                }
                false => 0.0,
            };
            let margin = (on_cpu[a] + noise(a)) - (on_cpu[b] + noise(b));
            assert!(
                (0.0..=2.0 * apart + 1e-5).contains(&margin),
                "{name}, step {step}, position {position}: {b}, not {a}, by {margin}; logits are {apart} apart"
            );
        }
    }
    println!(
        "{name}: {differing} of {all} draws differ, and {otherwise} positions masked again, each within the \
         difference of the logits"
    );
    assert!(differing + otherwise <= all / most, "{name}: {differing} and {otherwise} of {all}");
}

/// How many positions only one backend masks again: those whose confidence is about as high as that of the
/// last one to be masked, by what confidences of the same draw are apart.
fn masked_again(name: &str, step: usize, positions: &[usize], cpu: &Draws, gpu: &Draws) -> usize {
    let same = |&j: &usize| cpu.sampled[j] == gpu.sampled[j];
    let pairs = (0..positions.len()).filter(same).map(|j| (cpu.confidence[j], gpu.confidence[j]));
    let apart = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let mut order = cpu.confidence.clone();
    order.sort_by(f32::total_cmp);
    // Where a draw differs, so does a confidence, and one position more or less lies below the others.
    let drawn = (0..positions.len()).filter(|j| !same(j)).count();
    let last =
        cpu.remaining.saturating_sub(1 + drawn)..(cpu.remaining + 1 + drawn).min(order.len());
    let is_masked = |draws: &Draws, j: usize| draws.tokens[positions[j]] != draws.sampled[j];
    let other: Vec<usize> = (0..positions.len())
        .filter(same)
        .filter(|&j| is_masked(cpu, j) != is_masked(gpu, j))
        .collect();
    for &j in &other {
        let c = cpu.confidence[j];
        let near = order[last.clone()].iter().any(|edge| (c - edge).abs() <= 2.0 * apart + 1e-5);
        assert!(
            near,
            "{name}, step {step}, position {}: confidences are {apart} apart",
            positions[j]
        );
    }
    other.len()
}

#[test]
fn both_backends_make_the_same_choices_and_the_same_picture() {
    let [cpu, gpu] = &*ENGINES;
    println!("{}", gpu.device());
    let mut request = Request::new("two apples and a cat on a blue background");
    request.seed = 7;
    let (mut states, expected) = steps(cpu, &request);
    let config = Config::read(MODEL).unwrap();
    let superres = config.superres.as_ref().unwrap();

    // Given the tokens before each step, every draw of both stages.
    let tokenizer = Tokenizer::open(format!("{MODEL}/tokenizer.json")).unwrap();
    let ids = [&*request.prompt, ""].map(|text| tokenizer.encode(text, 64).unwrap().ids);
    let processor = Cpu::new(None).unwrap();
    let text_on_cpu = text(&processor, &config, &ids);
    let text_on_gpu = text(gpu::cuda(), &config, &ids);
    let lengths = [ids[0].len(), ids[1].len()];
    let mut fine = states.split_off(config.base.decode.steps);
    let key = |stage| NoiseKey { seed: request.seed, stage, step: 0 };
    let mut after = Vec::new();
    for (name, config, coarse, states, stage) in [
        ("base", &config.base, None, &mut states, 0),
        ("superres", superres, Some(&expected.base_tokens[..]), &mut fine, 1),
    ] {
        // From the states after each step to those before it.
        states.insert(0, vec![config.codebook_size as u32; config.grid[0] * config.grid[1]]);
        states.pop();
        let file = format!("{name}.safetensors");
        let seed = (stage, request.seed);
        let text = (&text_on_cpu[..], lengths);
        let on_cpu = draws(&processor, config, &file, text, coarse, states, seed);
        let text = (&text_on_gpu[..], lengths);
        let on_gpu = draws(gpu::cuda(), config, &file, text, coarse, states, seed);
        let of = (config.codebook_size as u32, config.decode.token_temperature);
        same_draws(name, of, states, key(stage), &on_cpu, &on_gpu, 50);
        after.push(on_gpu);
    }

    // The whole base stage: each step's tokens, and the picture.
    request.size = Size::Base;
    let (expected, on_cpu) = steps(cpu, &request);
    let (found, on_gpu) = steps(gpu, &request);
    // After the first choice that the logits' difference decided, the two go different ways.
    let alike = (0..expected.len()).take_while(|&i| found[i] == expected[i]).count();
    println!("the same tokens after {alike} of {} steps of the base stage", expected.len());
    if alike < expected.len() {
        assert!(
            found[alike] == after[0][alike].tokens,
            "step {alike} differs, and not by a near tie"
        );
    }
    // The pictures of the same tokens.
    let tokens = &on_cpu.base_tokens[..];
    let (grid, mask_token) = (config.base.grid, config.base.codebook_size as u32);
    let [on_cpu_picture, on_gpu_picture] = [cpu, gpu].map(|engine| {
        let elapsed = Duration::ZERO;
        let step = Step {
            stage: "base",
            step: 0,
            steps: 1,
            window: 0,
            windows: 1,
            grid,
            tokens,
            mask_token,
            elapsed,
        };
        engine.preview(&step).unwrap()
    });
    same_picture(&on_gpu_picture.rgb, &on_cpu_picture.rgb);

    // Unobserved, the loop is one graph: recorded, then launched again with another seed, then with the
    // first one. It does what the steps one by one do.
    for seed in [7, 8, 7] {
        request.seed = seed;
        let whole = gpu.generate(&request).unwrap();
        let stepwise = match seed {
            7 => &on_gpu,
            _ => &steps(gpu, &request).1,
        };
        assert_eq!(whole.base_tokens, stepwise.base_tokens, "seed {seed}");
        assert_eq!(seed == 7, whole.base_tokens == on_gpu.base_tokens, "seed {seed}");
        assert_eq!(whole.timings.base_steps.len(), config.base.decode.steps);
    }
}

/// The encoder, and a decode that begins with an image's tokens.
#[test]
fn both_backends_inpaint_alike() {
    let mut image = Image::filled(64, 64, [60, 110, 200]);
    image.place(&Image::filled(24, 20, [190, 40, 30]), 8, 30);
    let mut mask = Mask::empty(64, 64);
    mask.add(Rectangle { x: 6, y: 28, width: 28, height: 20 }).unwrap();
    let edit = Edit { decoded: true, ..Edit::new(image, Change::Inpaint { mask, strength: 1.0 }) };
    let mut request = Request::edit("a dog on a blue background", edit);
    request.size = Size::Base;
    request.base.steps = Some(2);
    let [(expected, on_cpu), (found, on_gpu)] =
        ENGINES.each_ref().map(|engine| steps(engine, &request));
    assert_eq!(expected.len(), 2);
    assert_eq!(found, expected);
    same_picture(&on_gpu.image.rgb, &on_cpu.image.rgb);
}

/// What a model of the hub's layout makes of the tokens before a step.
fn amused_draws<D: Device>(device: &D, folder: &Folder, states: &[Vec<u32>]) -> Vec<Draws> {
    let open =
        |paths: &[PathBuf]| Weights::open_shards(paths).unwrap().in_precision(Precision::Bf16);
    let weights = open(&folder.text_encoder_weights);
    let clip = Clip::load(device, weights, &folder.text_encoder).unwrap();
    let tokenizer = ClipTokenizer::open(&folder.tokenizer).unwrap();
    let ids = ["a small red house", ""].map(|text| {
        let mut ids = tokenizer.encode(text, clip.length()).unwrap().ids;
        ids.resize(clip.length(), tokenizer.pad());
        ids
    });
    let text = clip.encode(device, &[&ids[0], &ids[1]]).unwrap();
    let uvit = Uvit::load(device, open(&folder.transformer_weights), &folder.transformer).unwrap();
    let side = folder.transformer.sample_size;
    let micro = [side as f32, side as f32, 0.0, 0.0, AESTHETIC];
    let conditions = Conditions { states: &text.states, pooled: &text.pooled, micro };
    let mut model = uvit.prepare(device, &conditions, [side, side]).unwrap();
    let options = DecodeOptions { steps: states.len(), ..amused::DEFAULTS };
    let schedule = Schedule { masking: MaskingSchedule::Cosine, start: 0, share: 1.0 };
    let plan = schedule.plan(side * side, side * side, &options);
    let mask_token = folder.scheduler.mask_token_id as u32;
    let key = NoiseKey { seed: 0, stage: 0, step: 0 };
    draws_of(device, &mut model, &plan, &options, mask_token, states, key)
}

/// Tiny models of made-up weights, with and without halves, at a guidance that makes ten times as much of what the
/// backends' logits are apart: each choice, and the whole run step by step and as one graph.
#[test]
fn both_backends_run_amused_alike() {
    gpu::ready();
    for model in ["flat", "halved"] {
        let folder = tempfile::tempdir().unwrap();
        fixtures::write(model, &folder).unwrap();
        let [cpu, gpu] = [DeviceChoice::Cpu, DeviceChoice::Cuda(0)].map(|device| {
            let options =
                EngineOptions { device, plans: PlanSource::Rule, ..EngineOptions::default() };
            Engine::load(&folder, options).unwrap()
        });
        let mut request = Request::new("a small red house");
        request.base.steps = Some(4);
        let [(mut states, _), (found, on_gpu)] = [&cpu, &gpu].map(|engine| steps(engine, &request));
        assert_eq!((states.len(), found.len()), (4, 4));
        assert_eq!(gpu.generate(&request).unwrap().base_tokens, on_gpu.base_tokens, "{model}");

        let folder = Folder::open(&folder, None).unwrap();
        let mask_token = folder.scheduler.mask_token_id as u32;
        states.insert(0, vec![mask_token; states[0].len()]);
        states.pop();
        let on_cpu = amused_draws(&Cpu::new(None).unwrap(), &folder, &states);
        let on_gpu = amused_draws(gpu::cuda(), &folder, &states);
        let key = NoiseKey { seed: 0, stage: 0, step: 0 };
        same_draws(model, (mask_token, 1.0), &states, key, &on_cpu, &on_gpu, 10);
    }
}

/// Uploads from two threads, larger than all slots of the ring and smaller than a cache line, none of them
/// waited for: the simulator copies page-locked memory as late as it may, so a slot that is filled too early
/// shows.
#[test]
fn what_is_uploaded_arrives() {
    let sizes = [1, 63, 64, 1000, (2 << 20) - 1, 2 << 20, 100, (5 << 20) + 3, 9 << 20, 7, 0];
    let data = |thread: usize, i: usize| -> Vec<u8> {
        let first = (thread * 31 + i * 7) as u64;
        (first..)
            .map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
            .take(sizes[i])
            .collect()
    };
    std::thread::scope(|scope| {
        for thread in 0..2 {
            scope.spawn(move || {
                let device = gpu::cuda();
                let upload = |i| device.upload(&data(thread, i), [sizes[i]]).unwrap();
                let tensors: Vec<_> = (0..sizes.len()).map(upload).collect();
                for (i, tensor) in tensors.iter().enumerate() {
                    let found: Vec<u8> = device.download(tensor).unwrap();
                    assert!(found == data(thread, i), "thread {thread}, {} bytes", sizes[i]);
                }
            });
        }
    });
}

/// The PTX in the repository is what these sources compile to. Without a compiler `build.rs` has seen to
/// it that it was made from them; with the pinned one the text must be the same.
#[test]
fn committed_ptx_is_of_these_sources() {
    let (origin, kernels) = Cuda::kernels();
    let mut seen = 0;
    for (name, ptx) in kernels {
        let path = format!("{}/kernels/ptx/{name}.ptx.gz", env!("CARGO_MANIFEST_DIR"));
        let committed = std::fs::File::open(&path)
            .and_then(|file| std::io::read_to_string(flate2::read::GzDecoder::new(file)));
        let committed = committed.unwrap_or_default();
        let stamp = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        assert_eq!(stamp(&committed), stamp(&ptx), "{path} is stale: run scripts/ptx.sh");
        if origin.contains("NVRTC 13.0") {
            // The committed text has no source lines.
            let debug = |line: &&str| line.starts_with("\t.loc") || line.starts_with("\t.file");
            let lines = ptx.lines().take_while(|line| !line.starts_with("\t.section"));
            let same = lines.filter(|line| !debug(line)).eq(committed.lines());
            assert!(same, "{path} differs from what {origin} gives: run scripts/ptx.sh");
        }
        seen += 1;
    }
    assert!(seen >= 8, "{seen} kernel files");
    println!("{seen} kernel files, {origin}");
}
