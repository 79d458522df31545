//! `muse generate`.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use muse::decode::Step;
use muse::image::{Animation, contact_sheet, write_new};
use muse::plans::{PlanSource, PlansUsed};
use muse::{Engine, EngineOptions, Error, Generated, Image, Request, Result};

use crate::options::{GenerateArgs, model_dir};

/// Side to which preview frames are enlarged, so that tokens can be told apart.
const PREVIEW_SIDE: usize = 256;

pub fn run(arguments: Box<GenerateArgs>) -> Result<()> {
    let started = Instant::now();
    let requests = requests(&arguments)?;
    let outputs = outputs(&arguments, requests.len())?;
    let engine = load(&arguments)?;
    let loaded = started.elapsed();

    let progress = Progress::new(requests.len());
    let mut images = Vec::new();
    for (i, request) in requests.iter().enumerate() {
        let preview = arguments.preview.as_deref().filter(|_| i == 0);
        let generated = generate(&engine, request, preview, arguments.force, &progress)?;
        if arguments.grid {
            images.push(generated.image.clone());
        } else {
            let png = generated.image.to_png(&text_chunks(&engine, request)?)?;
            write_new(&outputs[i], &png, arguments.force)?;
        }
        let output = if arguments.grid { &outputs[0] } else { &outputs[i] };
        let last = i + 1 == requests.len();
        if arguments.grid && last {
            let sheet = contact_sheet(&images);
            let png = sheet.to_png(&text_chunks(&engine, &requests[0])?)?;
            write_new(output, &png, arguments.force)?;
        }
        progress.clear();
        if arguments.json {
            println!(
                "{}",
                report(&engine, request, &generated, output, [loaded, started.elapsed()])
            );
        } else {
            if !arguments.grid || last {
                println!("{}", output.display());
            }
            eprintln!("{}", summary(&engine, request, &generated, [loaded, started.elapsed()]));
        }
    }
    Ok(())
}

/// Every image to make, in order; nothing is loaded before all of them are known to be usable.
fn requests(arguments: &GenerateArgs) -> Result<Vec<Request>> {
    let prompts = match (&arguments.prompts, &arguments.prompt) {
        (Some(path), _) => {
            let read = |source| Error::Io { path: path.clone(), action: "reading prompts", source };
            let text = std::fs::read_to_string(path).map_err(read)?;
            text.lines().map(str::to_owned).collect()
        }
        (None, prompt) => vec![prompt.clone().unwrap_or_default()],
    };
    let repeated = prompts.iter().flat_map(|prompt| (0..arguments.count).map(move |_| prompt));
    let requests: Vec<Request> =
        repeated.zip(0..).map(|(prompt, index)| arguments.request(prompt, index)).collect();
    requests.iter().try_for_each(Request::validate)?;
    Ok(requests)
}

/// The files to write; existing ones are refused now, before the work, unless `--force`.
fn outputs(arguments: &GenerateArgs, count: usize) -> Result<Vec<PathBuf>> {
    let output = &arguments.output;
    let directory = arguments.prompts.is_some() || (count > 1 && !arguments.grid);
    let files: Vec<PathBuf> = if arguments.grid || !directory {
        vec![output.clone()]
    } else {
        std::fs::create_dir_all(output).map_err(|source| Error::Io {
            path: output.clone(),
            action: "creating the output directory",
            source,
        })?;
        (0..count).map(|i| output.join(format!("{i:04}.png"))).collect()
    };
    for file in files.iter().chain(&arguments.preview) {
        muse::image::check_new(file, arguments.force)?;
    }
    Ok(files)
}

fn load(arguments: &GenerateArgs) -> Result<Engine> {
    let threads = arguments.threads.map(|n| n as usize);
    let plans = arguments.cache.clone().map_or(PlanSource::Cached, PlanSource::File);
    let (device, dtype) = (arguments.device, arguments.dtype);
    let options = EngineOptions { device, dtype, threads, plans };
    let engine = Engine::load(model_dir(arguments.model.model.clone())?, options)?;
    if let Some(reason) = engine.reason() {
        eprintln!("device: {} ({reason})", engine.device());
    }
    if let Some(plans @ PlansUsed::Unusable(_)) = engine.plans() {
        eprintln!("plans: {plans}");
    }
    Ok(engine)
}

fn generate(
    engine: &Engine,
    request: &Request,
    preview: Option<&Path>,
    force: bool,
    progress: &Progress,
) -> Result<Generated> {
    let mut frames: Vec<Image> = Vec::new();
    let mut failed = None;
    let mut on_step = |step: Step<'_>| {
        progress.step(&step);
        if preview.is_some() {
            match engine.preview(&step) {
                Ok(frame) => frames.push(frame),
                Err(error) => {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    };
    let observed = preview.is_some() || progress.visible();
    let result = if observed {
        engine.generate_with(request, &mut on_step)
    } else {
        engine.generate(request)
    };
    if let Some(error) = failed {
        return Err(error);
    }
    let generated = result?;
    if let Some(path) = preview {
        frames.push(generated.image.clone());
        let mut animation = Animation::new(PREVIEW_SIDE, PREVIEW_SIDE)?;
        for (i, frame) in frames.iter().enumerate() {
            let hold = if i + 1 == frames.len() { 2000 } else { 150 };
            animation.push(&frame.enlarge_to(PREVIEW_SIDE, PREVIEW_SIDE), hold)?;
        }
        write_new(path, &animation.finish()?, force)?;
    }
    Ok(generated)
}

/// What the PNG says about itself.
fn text_chunks(engine: &Engine, request: &Request) -> Result<Vec<(&'static str, String)>> {
    let settings = serde_json::to_string(request).unwrap_or_default();
    let mut chunks = vec![
        ("Software", concat!("muse ", env!("CARGO_PKG_VERSION")).to_string()),
        ("prompt", request.prompt.clone()),
        ("seed", request.seed.to_string()),
        ("settings", settings),
        ("dtype", engine.dtype().to_string()),
        ("model", format!("{} {}", engine.name(), engine.model_hash()?)),
    ];
    if !request.negative.is_empty() {
        chunks.push(("negative prompt", request.negative.clone()));
    }
    Ok(chunks)
}

/// Hash of all tokens: the same on every machine, thread count and build.
fn token_hash(generated: &Generated) -> String {
    let mut hasher = blake3::Hasher::new();
    for tokens in std::iter::once(&generated.base_tokens).chain(&generated.superres_tokens) {
        tokens.iter().for_each(|token| {
            hasher.update(&token.to_le_bytes());
        });
    }
    hasher.finalize().to_hex()[..16].to_string()
}

fn milliseconds_per_step(steps: &[Duration]) -> f64 {
    steps.iter().sum::<Duration>().as_secs_f64() * 1e3 / steps.len().max(1) as f64
}

/// The last line of a run; `since_start` is the time until the model was loaded, and until now.
fn summary(
    engine: &Engine,
    request: &Request,
    generated: &Generated,
    since_start: [Duration; 2],
) -> String {
    let t = &generated.timings;
    let seconds = Duration::as_secs_f64;
    let mut line = format!(
        "seed {} on {} | load {:.3} s, text {:.3} s, base {:.3} s ({} steps, {:.2} ms each)",
        request.seed,
        engine.device(),
        seconds(&since_start[0]),
        seconds(&t.text),
        seconds(&t.base),
        t.base_steps.len(),
        milliseconds_per_step(&t.base_steps)
    );
    if generated.superres_tokens.is_some() {
        line += &format!(
            ", super-res {:.3} s ({} steps, {:.2} ms each)",
            seconds(&t.superres),
            t.superres_steps.len(),
            milliseconds_per_step(&t.superres_steps)
        );
    }
    line + &format!(
        ", vq {:.3} s | {:.3} s since start | tokens {}",
        seconds(&t.vq),
        seconds(&since_start[1]),
        token_hash(generated)
    )
}

fn report(
    engine: &Engine,
    request: &Request,
    generated: &Generated,
    output: &Path,
    since_start: [Duration; 2],
) -> serde_json::Value {
    let t = &generated.timings;
    let steps = |s: &[Duration]| s.iter().map(|d| d.as_secs_f64() * 1e3).collect::<Vec<_>>();
    serde_json::json!({
        "path": output.display().to_string(),
        "width": generated.image.width,
        "height": generated.image.height,
        "request": request,
        "tokens": token_hash(generated),
        "device": engine.device(),
        "dtype": engine.dtype().to_string(),
        "plans": engine.plans().map(ToString::to_string),
        "seconds": {
            "load": since_start[0].as_secs_f64(),
            "text": t.text.as_secs_f64(),
            "base": t.base.as_secs_f64(),
            "superres": t.superres.as_secs_f64(),
            "vq": t.vq.as_secs_f64(),
            "first_step": (since_start[0] + t.first_step()).as_secs_f64(),
            "since_start": since_start[1].as_secs_f64(),
        },
        "step_ms": { "base": steps(&t.base_steps), "superres": steps(&t.superres_steps) },
    })
}

/// Progress on a terminal's stderr; silent elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    fn new(images: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let images = if images > 1 { format!(" of {images} images") } else { String::new() };
            let template = format!("{{msg:>10}} {{bar:24}} step {{pos}}/{{len}}{images}");
            if let Ok(style) = ProgressStyle::with_template(&template) {
                bar.set_style(style);
            }
            bar
        });
        Progress { bar }
    }

    fn visible(&self) -> bool {
        self.bar.is_some()
    }

    fn step(&self, step: &Step<'_>) {
        if let Some(bar) = &self.bar {
            bar.set_message(step.stage);
            bar.set_length(step.steps as u64);
            bar.set_position(step.step as u64 + 1);
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.set_length(0);
            bar.finish_and_clear();
            bar.reset();
        }
    }
}
