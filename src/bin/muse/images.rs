//! Making images: progress, files, and reports.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use muse::decode::{OnStep, Step};
use muse::image::{Animation, contact_sheet, write_new};
use muse::plans::{PlanSource, PlansUsed};
use muse::{Engine, EngineOptions, Error, Generated, Image, Request, Result};

use crate::options::{RunArgs, model_dir};

/// Shorter side of preview frames, so that tokens can be told apart.
const PREVIEW_SIDE: usize = 256;
/// Longest side of them.
const PREVIEW_LONGEST: usize = 2048;

/// The images of one call.
pub struct Batch {
    pub requests: Vec<Request>,
    /// Images of each request, every one with the next seed.
    pub count: u32,
    /// Whether the output is a directory, however many images there are.
    pub directory: bool,
}

impl Batch {
    fn len(&self) -> usize {
        self.requests.len() * self.count as usize
    }
}

/// Makes the images; nothing is loaded before all of them are known to be usable.
pub fn make(run: &RunArgs, batch: Batch) -> Result<()> {
    let started = Instant::now();
    batch.requests.iter().try_for_each(Request::validate)?;
    let outputs = outputs(run, &batch)?;
    let engine = load(run)?;
    let loaded = started.elapsed();

    let progress = Progress::new(batch.len());
    let (mut images, mut made) = (Vec::new(), 0);
    for request in &batch.requests {
        let mut request = request.clone();
        let mut left = batch.count as usize;
        while left > 0 {
            let group = engine.batch(&request, left)?;
            let preview = run.preview.as_deref().filter(|_| made == 0);
            let group = generate(&engine, (&request, group), preview, run.force, &progress)?;
            progress.clear();
            left -= group.len();
            for generated in group {
                let output = &outputs[if run.grid { 0 } else { made }];
                if run.grid {
                    images.push(generated.image.clone());
                } else {
                    let png = generated.image.to_png(&engine.png_text(&request)?)?;
                    write_new(output, &png, run.force)?;
                }
                if run.grid && made + 1 == batch.len() {
                    let sheet = contact_sheet(&images);
                    let png = sheet.to_png(&engine.png_text(&batch.requests[0])?)?;
                    write_new(output, &png, run.force)?;
                }
                let since_start = [loaded, started.elapsed()];
                if run.json {
                    println!("{}", report(&engine, &request, &generated, output, since_start));
                } else {
                    if !run.grid || made + 1 == batch.len() {
                        println!("{}", output.display());
                    }
                    eprintln!("{}", summary(&engine, &request, &generated, since_start));
                }
                for note in &generated.notes {
                    eprintln!("note: {note}");
                }
                request.seed = request.seed.wrapping_add(1);
                made += 1;
            }
        }
    }
    Ok(())
}

/// The files to write; existing ones are refused now, before the work, unless `--force`.
fn outputs(run: &RunArgs, batch: &Batch) -> Result<Vec<PathBuf>> {
    let output = &run.output;
    let directory = batch.directory || batch.len() > 1;
    let files: Vec<PathBuf> = if run.grid || !directory {
        vec![output.clone()]
    } else {
        std::fs::create_dir_all(output).map_err(|source| Error::Io {
            path: output.clone(),
            action: "creating the output directory",
            source,
        })?;
        (0..batch.len()).map(|i| output.join(format!("{i:04}.png"))).collect()
    };
    for file in files.iter().chain(&run.preview) {
        muse::image::check_new(file, run.force)?;
    }
    Ok(files)
}

fn load(run: &RunArgs) -> Result<Engine> {
    let threads = run.threads.map(|n| n as usize);
    let plans = run.cache.clone().map_or(PlanSource::Cached, PlanSource::File);
    let options = EngineOptions { device: run.device, dtype: run.dtype, threads, plans };
    let engine = Engine::load(model_dir(run.model.model.clone())?, options)?;
    if let Some(reason) = engine.reason() {
        eprintln!("device: {} ({reason})", engine.device());
    }
    if let Some(plans @ PlansUsed::Unusable(_)) = engine.plans() {
        eprintln!("plans: {plans}");
    }
    Ok(engine)
}

/// Images of one request, side by side; the preview is of the first.
fn generate(
    engine: &Engine,
    (request, images): (&Request, usize),
    preview: Option<&Path>,
    force: bool,
    progress: &Progress,
) -> Result<Vec<Generated>> {
    let mut frames: Vec<Image> = Vec::new();
    let mut failed = None;
    let mut on_step = |step: Step<'_>| {
        progress.step(&step);
        if preview.is_some() && step.image == 0 {
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
    let on_step: Option<&mut OnStep<'_>> = if observed { Some(&mut on_step) } else { None };
    let result = engine.generate_many(request, images, on_step);
    if let Some(error) = failed {
        return Err(error);
    }
    let generated = result?;
    if let (Some(path), Some(first)) = (preview, generated.first()) {
        frames.push(first.image.clone());
        let Image { width, height, .. } = first.image;
        let (short, long) = (width.min(height), width.max(height));
        let side = PREVIEW_SIDE.min(PREVIEW_LONGEST * short / long);
        let [width, height] = [width, height].map(|n| (n * side / short).max(1));
        let mut animation = Animation::new(width, height)?;
        for (i, frame) in frames.iter().enumerate() {
            let hold = if i + 1 == frames.len() { 2000 } else { 150 };
            animation.push(&frame.enlarge_to(width, height), hold)?;
        }
        write_new(path, &animation.finish()?, force)?;
    }
    Ok(generated)
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
        "seed {} on {} | load {:.3} s, text {:.3} s",
        request.seed,
        engine.device(),
        seconds(&since_start[0]),
        seconds(&t.text),
    );
    if request.edit.is_some() {
        line += &format!(", encode {:.3} s", seconds(&t.encode));
    }
    line += &format!(
        ", base {:.3} s ({} steps, {:.2} ms each)",
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
    if generated.batch > 1 {
        line += &format!(", {} images side by side", generated.batch);
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
            "encode": t.encode.as_secs_f64(),
            "base": t.base.as_secs_f64(),
            "superres": t.superres.as_secs_f64(),
            "vq": t.vq.as_secs_f64(),
            "first_step": (since_start[0] + t.first_step()).as_secs_f64(),
            "since_start": since_start[1].as_secs_f64(),
        },
        "batch": generated.batch,
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
            let template = format!("{{msg:>20}} {{bar:24}} step {{pos}}/{{len}}{images}");
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
            let mut message = step.stage.to_owned();
            if step.windows > 1 {
                message += &format!(" {}/{}", step.window + 1, step.windows);
            }
            if step.images > 1 {
                message += &format!(", {} images", step.images);
            }
            bar.set_message(message);
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
