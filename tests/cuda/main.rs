//! The demonstration model on the CUDA backend against its CPU twin: the same tokens after every step and
//! the same picture. On a machine without a GPU the kernels run on the simulator, which ends this program
//! at the first finding.

mod draws;
mod edits;
#[path = "../gpu/mod.rs"]
mod gpu;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Barrier, LazyLock};
use std::time::Duration;

use half::bf16;
use muse::amused::{self, AESTHETIC, Schedule};
use muse::config::{Config, TransformerConfig};
use muse::cpu::Cpu;
use muse::cuda::Cuda;
use muse::decode::{DecodeOptions, Step, StepPlan, plan};
use muse::device::{Device, Norm, NormKind};
use muse::hub::{Folder, MaskingSchedule};
use muse::models::muse::{Muse, Text};
use muse::models::uvit::{Conditions, Uvit};
use muse::ops;
use muse::plans::PlanSource;
use muse::rng::NoiseKey;
use muse::tensor::{DType, Precision};
use muse::text::bert::Bert;
use muse::text::clip::Clip;
use muse::tokenizer::Tokenizer;
use muse::tokenizer::clip::ClipTokenizer;
use muse::weights::Weights;
use muse::{DeviceChoice, Engine, EngineOptions, Generated, Request, Result, Size};

use draws::{Draws, draws_of, same_draws};

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

/// Text states of the prompt and of the empty one.
fn text<D: Device>(device: &D, config: &Config, ids: &[Vec<u32>; 2]) -> Vec<bf16> {
    let weights = Weights::open(format!("{MODEL}/text_encoder.safetensors")).unwrap();
    let bert = Bert::load(device, weights, &config.text_encoder).unwrap();
    device.download(&bert.encode(device, &[&ids[0], &ids[1]]).unwrap()).unwrap()
}

/// Text states of a prompt and a negative one, by both backends, and how many rows each has.
struct Texts {
    states: [Vec<bf16>; 2],
    lengths: [usize; 2],
}

fn texts(config: &Config, processor: &Cpu, request: &Request) -> Texts {
    let tokenizer = Tokenizer::open(format!("{MODEL}/tokenizer.json")).unwrap();
    let ids =
        [&*request.prompt, &*request.negative].map(|text| tokenizer.encode(text, 64).unwrap().ids);
    let states = [text(processor, config, &ids), text(gpu::cuda(), config, &ids)];
    Texts { states, lengths: [ids[0].len(), ids[1].len()] }
}

/// Every step of a plan, by a stage of the model.
fn draws<D: Device>(
    device: &D,
    (config, file): (&TransformerConfig, &str),
    (text, lengths): (&[bf16], [usize; 2]),
    coarse: Option<&[u32]>,
    states: &[Vec<u32>],
    (plan, key): (&[StepPlan], NoiseKey),
) -> Vec<Draws> {
    let model =
        Muse::load(device, Weights::open(format!("{MODEL}/{file}")).unwrap(), config).unwrap();
    let rows = text.len() / config.text_size;
    let states_of_text = device.upload(text, [rows, config.text_size]).unwrap();
    let text = Text { states: states_of_text, lengths, batch: 2 };
    let coarse = coarse.map(|tokens| device.upload(tokens, [tokens.len()]).unwrap());
    let mut prepared = model.prepare(device, &text, coarse.as_ref(), 1).unwrap();
    draws_of(device, &mut prepared, plan, model.mask_token(), states, key)
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
    let processor = Cpu::new(None).unwrap();
    let Texts { states: [text_on_cpu, text_on_gpu], lengths } =
        texts(&config, &processor, &request);
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
        let of = (config, &*file);
        let plan = plan(config.grid[0] * config.grid[1], &config.decode).unwrap();
        let how = (&plan[..], key(stage));
        let on_cpu = draws(&processor, of, (&text_on_cpu, lengths), coarse, states, how);
        let on_gpu = draws(gpu::cuda(), of, (&text_on_gpu, lengths), coarse, states, how);
        let mask_token = config.codebook_size as u32;
        same_draws(name, mask_token, states, key(stage), [&on_cpu, &on_gpu], 50);
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
            image: 0,
            images: 1,
            grid,
            tokens,
            mask_token,
            confidence: &[],
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

/// Half of a first step is known to an engine that has seen the negative text: to the bit what it computes itself.
#[test]
fn a_gpus_image_does_not_depend_on_those_before_it() {
    let [_, gpu] = &*ENGINES;
    let mut request = Request { size: Size::Base, ..Request::new("two apples") };
    (request.negative, request.base.steps) = ("a frog in the sea".into(), Some(1));
    let [first, again] = [(); 2].map(|()| gpu.generate(&request).unwrap());
    assert!(first.base_tokens == again.base_tokens && first.image == again.image);

    // And what both halves give that nobody knew before.
    let config = Config::read(MODEL).unwrap();
    let processor = Cpu::new(None).unwrap();
    let Texts { states: [on_cpu, on_gpu], lengths } = texts(&config, &processor, &request);
    let mask_token = config.base.codebook_size as u32;
    let states = [vec![mask_token; config.base.grid[0] * config.base.grid[1]]];
    let plan = plan(states[0].len(), &DecodeOptions { steps: 1, ..config.base.decode }).unwrap();
    let key = NoiseKey { seed: request.seed, stage: 0, step: 0 };
    let (of, how) = ((&config.base, "base.safetensors"), (&plan[..], key));
    let on_cpu = draws(&processor, of, (&on_cpu, lengths), None, &states, how);
    let on_gpu = draws(gpu::cuda(), of, (&on_gpu, lengths), None, &states, how);
    same_draws("base", mask_token, &states, key, [&on_cpu, &on_gpu], 50);
    assert_eq!(first.base_tokens, on_gpu[0].tokens);
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
    let mut model = uvit.prepare(device, &conditions, [side, side], 1).unwrap();
    let options = DecodeOptions { steps: states.len(), ..amused::DEFAULTS };
    let schedule = Schedule { masking: MaskingSchedule::Cosine, start: 0, share: 1.0 };
    let plan = schedule.plan(side * side, side * side, &options);
    let mask_token = folder.scheduler.mask_token_id as u32;
    let key = NoiseKey { seed: 0, stage: 0, step: 0 };
    draws_of(device, &mut model, &plan, mask_token, states, key)
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
        same_draws(model, mask_token, &states, key, [&on_cpu, &on_gpu], 10);
    }
}

/// Verbs of several launches hand results on in memory of their kernels: of two threads that queue them at once, none
/// gets the other's.
#[test]
fn threads_share_a_device() {
    let device = gpu::cuda();
    let (pixels, channels) = (16, 32);
    let shape = [1, 4, 4, channels];
    // Many of both verbs before anything is waited for.
    let work = |thread: usize, count: usize, together: &Barrier| -> Vec<(Vec<f32>, Vec<u32>)> {
        let value = |i: usize| ((i * (37 + 5 * thread) + 11) % 101) as f32 - 50.0;
        let values = |n: usize| (0..n).map(value).collect::<Vec<f32>>();
        let x = device.upload(&values(pixels * channels), shape).unwrap();
        let z = device.upload(&values(pixels * channels), [pixels, channels]).unwrap();
        let codebook: Vec<f32> = (0..50 * channels).map(|i| value(3 * i)).collect();
        let codebook = device.upload(&codebook, [50, channels]).unwrap();
        let all = |value: f32| device.upload(&vec![value; channels], [channels]).unwrap();
        let norm =
            Norm { kind: NormKind::Layer, weight: all(1.0), bias: Some(all(0.0)), epsilon: 1e-6 };
        let zeros = || (device.zeros(DType::F32, shape), device.zeros(DType::U32, [pixels]));
        let mut results: Vec<_> = (0..count).map(|_| zeros()).collect();
        for (normed, codes) in &mut results {
            let (normed, codes) = (normed.as_mut().unwrap(), codes.as_mut().unwrap());
            together.wait();
            ops::group_norm_silu(device, normed, &x, &norm, 8).unwrap();
            together.wait();
            ops::nearest_code(device, codes, &z, &codebook).unwrap();
        }
        let read = |(normed, codes): &(Result<_>, Result<_>)| {
            let normed = device.download(normed.as_ref().unwrap()).unwrap();
            (normed, device.download(codes.as_ref().unwrap()).unwrap())
        };
        results.iter().map(read).collect()
    };
    let alone = [0, 1].map(|thread| work(thread, 1, &Barrier::new(1)).remove(0));
    assert!(alone[0].0 != alone[1].0 && alone[0].1 != alone[1].1);
    let together = &Barrier::new(2);
    std::thread::scope(|scope| {
        for (thread, alone) in alone.iter().enumerate() {
            scope.spawn(move || {
                for (i, found) in work(thread, 200, together).iter().enumerate() {
                    assert!(found == alone, "thread {thread}, call {i}");
                }
            });
        }
    });
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

#[test]
fn weights_packed_for_the_processor_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("made");
    muse::convert(MODEL.as_ref(), &made, Precision::Bf16).unwrap();
    gpu::ready();
    let device = DeviceChoice::Cuda(0);
    let loaded = Engine::load(&made, EngineOptions { device, ..EngineOptions::default() });
    let error = loaded.err().expect("it must be refused").to_string();
    assert!(error.contains("packed for the processor"), "{error}");
}
