//! The demonstration model on the CUDA backend against its CPU twin: the same tokens after every step and
//! the same picture. On a machine without a GPU the kernels run on the simulator, which ends this program
//! at the first finding.

use std::ops::ControlFlow;
use std::sync::OnceLock;

use muse::cuda::Cuda;
use muse::decode::Step;
use muse::{DeviceChoice, Engine, EngineOptions, Generated, Request};

fn engine(device: DeviceChoice) -> Engine {
    static READY: OnceLock<()> = OnceLock::new();
    READY.get_or_init(|| {
        if !Cuda::is_present() {
            // SAFETY: before the simulator is loaded, which alone reads it.
            unsafe { std::env::set_var("PTXSIM_STRICT", "1") };
            ptxsim::preload().unwrap();
        }
    });
    Engine::load("models/demo", EngineOptions { device, ..EngineOptions::default() }).unwrap()
}

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

fn furthest(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[test]
fn both_backends_make_the_same_choices_and_the_same_picture() {
    let (cpu, gpu) = (engine(DeviceChoice::Cpu), engine(DeviceChoice::Cuda(0)));
    println!("{}", gpu.device());
    let mut request = Request::new("two apples and a cat on a blue background");
    request.seed = 7;
    let (expected, on_cpu) = steps(&cpu, &request);
    let (found, on_gpu) = steps(&gpu, &request);
    assert_eq!(found.len(), expected.len());
    for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let differing = found.iter().zip(expected).filter(|(a, b)| a != b).count();
        assert_eq!(
            differing,
            0,
            "step {step} of both stages: {differing} of {} tokens",
            found.len()
        );
    }
    assert_eq!((on_gpu.image.width, on_gpu.image.height), (128, 128));
    let off = furthest(&on_gpu.image.rgb, &on_cpu.image.rgb);
    assert!(off <= 1, "a pixel differs by {off}/255");

    // Unobserved, the loop is one graph: recorded, then launched again with another seed, then with the
    // first one.
    request.size = muse::Size::Base;
    let (_, first) = steps(&gpu, &request);
    for seed in [7, 8, 7] {
        request.seed = seed;
        let whole = gpu.generate(&request).unwrap();
        let expected = cpu.generate(&request).unwrap();
        assert_eq!(whole.base_tokens, expected.base_tokens, "seed {seed}");
        assert_eq!(seed == 7, whole.base_tokens == first.base_tokens, "seed {seed}");
        assert_eq!(whole.timings.base_steps.len(), 12);
    }
}

/// The PTX in the repository is what these sources compile to. Without a compiler `build.rs` has seen to
/// it that it was made from them; with the pinned one the text must be the same.
#[test]
fn committed_ptx_is_of_these_sources() {
    let (origin, kernels) = Cuda::kernels();
    let mut seen = 0;
    for (name, ptx) in kernels {
        let path = format!("{}/kernels/ptx/{name}.ptx", env!("CARGO_MANIFEST_DIR"));
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        let stamp = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        assert_eq!(stamp(&committed), stamp(ptx), "{path} is stale: run scripts/ptx.sh");
        if origin.contains("NVRTC 13.0") {
            assert!(committed == ptx, "{path} differs from what {origin}: run scripts/ptx.sh");
        }
        seen += 1;
    }
    assert!(seen >= 3, "{seen} kernel files");
    println!("{seen} kernel files, {origin}");
}
