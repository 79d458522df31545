//! The public face: load a model directory once, generate any number of images.

mod stages;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::cpu::Cpu;
use crate::cuda::{Cuda, Timed};
use crate::decode::{OnStep, Step};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::pipeline::{Generated, Probe};
use crate::plans::{PlanSource, PlansUsed};
use crate::queue::Queue;
use crate::request::{Embeddings, Request, Size};
use crate::shape::Shape;
use crate::spans;
use crate::tensor::Precision;
use crate::trace::Event;
use crate::weights::Reading;
use stages::{Source, Stages, stages};

/// Where an engine runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceChoice {
    /// The first NVIDIA GPU that can be used, or else this machine's processor.
    Auto,
    /// This machine's processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by its number; an error where it cannot be used.
    Cuda(usize),
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => write!(f, "auto"),
            DeviceChoice::Cpu => write!(f, "cpu"),
            DeviceChoice::Cuda(0) => write!(f, "cuda"),
            DeviceChoice::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda(0)),
            _ => {
                let ordinal = text.strip_prefix("cuda:").and_then(|n| n.parse().ok());
                let device = ordinal.map(DeviceChoice::Cuda);
                device.ok_or_else(|| "expected auto, cpu, cuda or cuda:N".into())
            }
        }
    }
}

impl DeviceChoice {
    /// Opens the GPU that is meant, `None` for the processor; and why it is this one, when that was ours to
    /// choose.
    ///
    /// # Errors
    /// [`Error::Device`] when a GPU was asked for and cannot be used.
    pub fn gpu(self) -> Result<(Option<Cuda>, Option<String>)> {
        Ok(match self {
            DeviceChoice::Cpu => (None, None),
            DeviceChoice::Cuda(ordinal) => (Some(Cuda::new(ordinal)?), None),
            DeviceChoice::Auto => match Cuda::new(0) {
                Ok(gpu) => (Some(gpu), Some("the first GPU".into())),
                Err(error) => (None, Some(format!("no GPU can be used: {error}"))),
            },
        })
    }
}

/// How an engine is set up.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// Where it runs.
    pub device: DeviceChoice,
    /// What it computes in. [`Precision::F32`] and [`Precision::Int8`] are the processor's alone.
    pub dtype: Precision,
    /// Threads of the CPU backend; `None` takes all cores. Results do not depend on it.
    pub threads: Option<usize>,
    /// Where a GPU's kernels take their tiles from. Results do not depend on it beyond rounding.
    pub plans: PlanSource,
}

/// A loaded model, ready to generate, on one device. Any number of threads may use it, and a process may have
/// several.
///
/// Its work is done one call after the other, first come, first served, each with all of its threads: nobody
/// overtakes, and nobody is slowed down by those who come later. [`Engine::generate_many`] queues again for every
/// batch. The turn lasts as long as the call, step callbacks too: what they wait for the others wait for. From within
/// a callback the engine can be used at once.
///
/// ```
/// use muse::{Engine, EngineOptions, Request};
///
/// let engine = Engine::load("models/demo", EngineOptions::default())?;
/// let mut request = Request::new("two apples on a blue background");
/// request.seed = 7;
/// let generated = engine.generate(&request)?;
/// assert_eq!((generated.image.width, generated.image.height), (128, 128));
/// # Ok::<(), muse::Error>(())
/// ```
pub struct Engine {
    pipeline: Box<dyn Stages>,
    queue: Queue,
    /// Why the device is this one, when it was ours to choose.
    reason: Option<String>,
    dtype: Precision,
    plans: Option<PlansUsed>, // of a GPU
    simulated: bool,
    load: Duration,
    hash: OnceLock<String>,
}

impl Engine {
    /// Loads the model directory `path`; what it holds says which family it is of.
    ///
    /// # Errors
    /// [`Error::Model`] or [`Error::Tensor`] when the directory is not a usable model,
    /// [`Error::Device`] when the device asked for cannot be used, [`Error::Option`] when it does not compute
    /// in that precision.
    pub fn load(path: impl AsRef<Path>, options: EngineOptions) -> Result<Self> {
        Self::open(Source::Folder(path.as_ref()), options, None)
    }

    /// Loads a model folder, and keeps what was packed of its weights below another folder ([`crate::convert`]).
    pub(crate) fn keep(path: &Path, options: EngineOptions, below: PathBuf) -> Result<Self> {
        Self::open(Source::Folder(path), options, Some(below))
    }

    /// A model of that shape whose weights are noise, drawn straight into memory.
    ///
    /// # Errors
    /// As [`Engine::load`]; [`Error::Device`] when there is too little memory.
    pub fn draw(shape: &Shape, options: EngineOptions) -> Result<Self> {
        shape.check_memory(options.dtype)?;
        let engine = Self::open(Source::Shape(shape), options, None)?;
        engine.hash.get_or_init(|| shape.hash());
        Ok(engine)
    }

    fn open(
        source: Source<'_>,
        options: EngineOptions,
        keep_below: Option<PathBuf>,
    ) -> Result<Self> {
        let start = Instant::now();
        let _span = spans::stage("load");
        let EngineOptions { device, dtype, threads, plans } = options;
        let (gpu, reason) = match device {
            DeviceChoice::Cuda(_) if !Cuda::supports(dtype.products()) => {
                let found = format!("{dtype} on {device}");
                return Err(Error::option("dtype", found, "bf16, or the device cpu"));
            }
            DeviceChoice::Auto if !Cuda::supports(dtype.products()) => {
                (None, Some(format!("GPUs do not compute in {dtype}")))
            }
            _ => device.gpu()?,
        };
        let reading = &Reading { precision: dtype, keep_below };
        let simulated = gpu.as_ref().is_some_and(|gpu| gpu.identity().simulated);
        let (pipeline, plans) = match (gpu, plans) {
            (Some(mut gpu), tiles) => {
                let plans = tiles.apply(&mut gpu)?;
                (stages(gpu, source, reading)?, Some(plans))
            }
            (None, PlanSource::File(table)) => {
                let expected = "no table of plans without a GPU, whose kernels have a choice";
                return Err(Error::option("plans", table.display(), expected));
            }
            (None, _) => (stages(Cpu::new(threads)?, source, reading)?, None),
        };
        let load = start.elapsed();
        let (queue, hash) = Default::default();
        Ok(Engine { pipeline, queue, reason, dtype, plans, simulated, load, hash })
    }

    /// Times every plan of every problem that one request poses, on a device that is used up by it; `on_timed`
    /// hears of each problem and of how many there are.
    ///
    /// # Errors
    /// As [`Engine::load`] and [`Engine::generate`].
    pub fn tune(
        path: impl AsRef<Path>,
        mut device: Cuda,
        request: &Request,
        mut on_timed: impl FnMut(&Timed, usize) + Send + 'static,
    ) -> Result<Vec<Timed>> {
        let tuner = device.tune()?;
        let pipeline = stages(device, Source::Folder(path.as_ref()), &Reading::default())?;
        pipeline.generate(request, 1, None)?;
        let problems = tuner.problems().len();
        pipeline.forget(); // so that they are all posed again
        tuner.start(move |timed| on_timed(timed, problems));
        pipeline.generate(request, 1, None)?;
        Ok(tuner.timed())
    }

    /// Makes one image. The same request gives the same image on any number of threads.
    ///
    /// # Errors
    /// [`Error::Option`] names the field of the request that cannot be used; [`Error::Cancelled`] where its
    /// [`Request::cancel`] was called.
    pub fn generate(&self, request: &Request) -> Result<Generated> {
        self.one(request, None)
    }

    /// Like [`Engine::generate`]; `on_step` sees the grid after every decode step and can cancel.
    pub fn generate_with(&self, request: &Request, on_step: &mut OnStep<'_>) -> Result<Generated> {
        self.one(request, Some(on_step))
    }

    fn one(&self, request: &Request, on_step: Option<&mut OnStep<'_>>) -> Result<Generated> {
        let mut images = self.turn(request, 1, on_step)?;
        Ok(images.pop().expect("one image was asked for"))
    }

    /// Makes images side by side, once it is this caller's turn.
    fn turn(
        &self,
        request: &Request,
        images: usize,
        mut on_step: Option<&mut OnStep<'_>>,
    ) -> Result<Vec<Generated>> {
        request.validate()?; // what cannot be used need not wait
        let _turn = self.queue.enter(request.cancel.as_ref())?;
        let Some(cancel) = &request.cancel else {
            return self.pipeline.generate(request, images, on_step);
        };
        let mut watched = |step: Step<'_>| match &mut on_step {
            _ if cancel.is_cancelled() => ControlFlow::Break(()),
            Some(on_step) => on_step(step),
            None => ControlFlow::Continue(()),
        };
        self.pipeline.generate(request, images, Some(&mut watched))
    }

    /// Calls that wait for their turn.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// How many of `count` images of a request [`Engine::generate_many`] makes side by side: as many as half of
    /// the device's free memory is enough for, and at most 8.
    ///
    /// # Errors
    /// As [`Engine::generate`].
    pub fn batch(&self, request: &Request, count: usize) -> Result<usize> {
        self.pipeline.batch(request, count)
    }

    /// Makes `count` images of one request: of its seed and those that follow it, batch by batch. Each is the one
    /// that [`Engine::generate`] makes of its seed, on a GPU but for near ties. `on_step` sees every step of every
    /// image and can cancel.
    ///
    /// # Errors
    /// As [`Engine::generate`].
    pub fn generate_many(
        &self,
        request: &Request,
        count: usize,
        mut on_step: Option<&mut OnStep<'_>>,
    ) -> Result<Vec<Generated>> {
        let batch = self.batch(request, count)?;
        let mut request = request.clone();
        let mut all = Vec::with_capacity(count);
        while all.len() < count {
            let images = batch.min(count - all.len());
            all.extend(self.turn(&request, images, on_step.as_deref_mut())?);
            request.seed = request.seed.wrapping_add(images as u64);
        }
        Ok(all)
    }

    /// The picture of a grid in the middle of decoding, masked cells hatched. It does not queue: a callback has the
    /// turn, or waits for a thread that makes it.
    pub fn preview(&self, step: &Step<'_>) -> Result<Image> {
        self.pipeline.preview(step)
    }

    /// What the models make of fixed tokens and a request's prompts: the same in every engine, but for rounding.
    ///
    /// # Errors
    /// As [`Engine::generate`].
    pub fn probe(&self, request: &Request) -> Result<Probe> {
        let _turn = self.queue.enter(request.cancel.as_ref())?;
        self.pipeline.probe(request)
    }

    /// Tokens of an image of the model's base or full size.
    pub fn encode(&self, image: &Image, size: Size) -> Result<Vec<u32>> {
        let _turn = self.queue.enter(None)?;
        self.pipeline.encode(image, size)
    }

    /// The picture of finished tokens, row by row: of the model's base or full size, or, of aMUSEd, of a size in pixels.
    ///
    /// # Errors
    /// [`Error::Option`] for another number of tokens, and for one that is not in the codebook.
    pub fn decode(&self, tokens: &[u32], size: Size) -> Result<Image> {
        let _turn = self.queue.enter(None)?;
        self.pipeline.decode(tokens, size)
    }

    /// A text as the model's text encoder leaves it, for [`Request::embeddings`].
    ///
    /// # Errors
    /// [`Error::Option`] for a text that is too long.
    pub fn embed(&self, text: &str) -> Result<Embeddings> {
        let _turn = self.queue.enter(None)?;
        self.pipeline.embed(text)
    }

    /// Every file of the model that decides about images: its name below the folder, and its path.
    pub(crate) fn files(&self) -> &[(String, PathBuf)] {
        self.pipeline.files()
    }

    /// What the model is called.
    pub fn name(&self) -> &str {
        self.pipeline.name()
    }

    /// Its stages, coarse to fine: `"base"`, `"superres"`.
    pub fn stages(&self) -> Vec<&'static str> {
        self.pipeline.stages()
    }

    /// Whether the device is a simulator, so that times on it mean nothing.
    pub fn simulated(&self) -> bool {
        self.simulated
    }

    /// The device, in words.
    pub fn device(&self) -> String {
        self.pipeline.device()
    }

    /// What it computes in.
    pub fn dtype(&self) -> Precision {
        self.dtype
    }

    /// Why it runs there, when [`DeviceChoice::Auto`] left that open.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// What a GPU's kernels choose their tiles by; `None` on the processor.
    pub fn plans(&self) -> Option<&PlansUsed> {
        self.plans.as_ref()
    }

    /// Time [`Engine::load`] took.
    pub fn load_time(&self) -> Duration {
        self.load
    }

    /// Records every verb of what `work` does with this engine.
    pub fn trace<T>(&self, hashes: bool, work: impl FnOnce(&Engine) -> T) -> (T, Vec<Event>) {
        self.pipeline.start_trace(hashes);
        let result = work(self);
        (result, self.pipeline.stop_trace())
    }

    /// Hash of all files of the model, 16 hexadecimal digits; computed at the first call.
    pub fn model_hash(&self) -> Result<&str> {
        if let Some(hash) = self.hash.get() {
            return Ok(hash);
        }
        let hash = hash_model(self.pipeline.files())?;
        Ok(self.hash.get_or_init(|| hash))
    }

    /// What a PNG file of a request's image says about itself: [`Image::to_png`] takes it.
    ///
    /// # Errors
    /// [`Error::Io`] when a file of the model, whose hash is a part of it, cannot be read.
    pub fn png_text(&self, request: &Request) -> Result<Vec<(&'static str, String)>> {
        let settings = serde_json::to_string(request).unwrap_or_default();
        let mut chunks = vec![
            ("Software", concat!("muse ", env!("CARGO_PKG_VERSION")).to_string()),
            ("prompt", request.prompt.clone()),
            ("seed", request.seed.to_string()),
            ("settings", settings),
            ("dtype", self.dtype.to_string()),
            ("model", format!("{} {}", self.name(), self.model_hash()?)),
        ];
        if !request.negative.is_empty() {
            chunks.push(("negative prompt", request.negative.clone()));
        }
        Ok(chunks)
    }
}

/// BLAKE3 over the model's files in their order, each preceded by its name.
fn hash_model(files: &[(String, PathBuf)]) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut part = Vec::new();
    for (name, path) in files {
        hasher.update(name.as_bytes());
        let failed = || Error::io(path, "hashing");
        let mut file = File::open(path).map_err(failed())?;
        loop {
            part.clear(); // read, not mapped: a map would count as this process' memory
            let read = file.by_ref().take(4 << 20).read_to_end(&mut part).map_err(failed())?;
            if read == 0 {
                break;
            }
            hasher.update_rayon(&part);
        }
    }
    Ok(hasher.finalize().to_hex()[..16].to_string())
}
