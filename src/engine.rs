//! The public face: load a model directory once, generate any number of images.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::cpu::Cpu;
use crate::cuda::Cuda;
use crate::decode::{OnStep, Step};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::pipeline::{Generated, Pipeline};
use crate::request::{Request, Size};
use crate::trace::{Event, Traced};

/// Where an engine runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// Threads of the CPU backend; `None` takes all cores. Results do not depend on it.
    pub threads: Option<usize>,
}

/// A loaded model, ready to generate.
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
    /// Why the device is this one, when it was ours to choose.
    reason: Option<String>,
    path: PathBuf,
    load: Duration,
    hash: OnceLock<String>,
}

/// What an engine asks of its pipeline, on whichever device.
trait Stages: Send + Sync {
    fn generate(&self, request: &Request, on_step: Option<&mut OnStep<'_>>) -> Result<Generated>;
    fn preview(&self, step: &Step<'_>) -> Result<Image>;
    fn encode(&self, image: &Image, size: Size) -> Result<Vec<u32>>;
    fn config(&self) -> &Config;
    fn device(&self) -> String;
    fn start_trace(&self, hashes: bool);
    fn stop_trace(&self) -> Vec<Event>;
}

impl<D: Device> Stages for Pipeline<Traced<D>> {
    fn generate(&self, request: &Request, on_step: Option<&mut OnStep<'_>>) -> Result<Generated> {
        Pipeline::generate(self, request, on_step)
    }

    fn preview(&self, step: &Step<'_>) -> Result<Image> {
        Pipeline::preview(self, step.grid, step.tokens, step.mask_token)
    }

    fn encode(&self, image: &Image, size: Size) -> Result<Vec<u32>> {
        self.encode_image(image, size)
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn device(&self) -> String {
        self.device.describe()
    }

    fn start_trace(&self, hashes: bool) {
        self.device.start(hashes);
    }

    fn stop_trace(&self) -> Vec<Event> {
        self.device.stop()
    }
}

impl Engine {
    /// Loads the model directory `path`.
    ///
    /// # Errors
    /// [`Error::Model`] or [`Error::Tensor`] when the directory is not a usable model,
    /// [`Error::Device`] when the device asked for cannot be used.
    pub fn load(path: impl AsRef<Path>, options: EngineOptions) -> Result<Self> {
        let start = Instant::now();
        let path = path.as_ref().to_path_buf();
        let (gpu, reason) = options.device.gpu()?;
        let pipeline: Box<dyn Stages> = match gpu {
            Some(gpu) => Box::new(Pipeline::load(Traced::new(gpu), &path)?),
            None => Box::new(Pipeline::load(Traced::new(Cpu::new(options.threads)?), &path)?),
        };
        Ok(Engine { pipeline, reason, path, load: start.elapsed(), hash: OnceLock::new() })
    }

    /// Makes one image. The same request gives the same image on any number of threads.
    ///
    /// # Errors
    /// [`Error::Option`] names the field of the request that cannot be used.
    pub fn generate(&self, request: &Request) -> Result<Generated> {
        self.pipeline.generate(request, None)
    }

    /// Like [`Engine::generate`]; `on_step` sees the grid after every decode step and can cancel.
    pub fn generate_with(&self, request: &Request, on_step: &mut OnStep<'_>) -> Result<Generated> {
        self.pipeline.generate(request, Some(on_step))
    }

    /// The picture of a grid in the middle of decoding, masked cells hatched.
    pub fn preview(&self, step: &Step<'_>) -> Result<Image> {
        self.pipeline.preview(step)
    }

    /// Tokens of an image of the model's base or full size.
    pub fn encode(&self, image: &Image, size: Size) -> Result<Vec<u32>> {
        self.pipeline.encode(image, size)
    }

    /// The model's configuration.
    pub fn config(&self) -> &Config {
        self.pipeline.config()
    }

    /// The device, in words.
    pub fn device(&self) -> String {
        self.pipeline.device()
    }

    /// Why it runs there, when [`DeviceChoice::Auto`] left that open.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
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
        let hash = hash_model(&self.path)?;
        Ok(self.hash.get_or_init(|| hash))
    }
}

/// BLAKE3 over the model's files in a fixed order, each preceded by its name.
fn hash_model(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for file in crate::config::FILES {
        let file_path = path.join(file);
        if !file_path.exists() {
            continue; // super-res is optional
        }
        hasher.update(file.as_bytes());
        hasher.update_mmap_rayon(&file_path).map_err(Error::io(&file_path, "hashing"))?;
    }
    Ok(hasher.finalize().to_hex()[..16].to_string())
}
