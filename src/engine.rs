//! The public face: load a model directory once, generate any number of images.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::cpu::Cpu;
use crate::decode::{OnStep, Step};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::pipeline::{Generated, Pipeline};
use crate::request::{Request, Size};
use crate::trace::{Event, Traced};

/// How an engine is set up.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
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
    pipeline: Pipeline<Traced<Cpu>>,
    path: PathBuf,
    load: Duration,
    hash: OnceLock<String>,
}

impl Engine {
    /// Loads the model directory `path` for the CPU.
    ///
    /// # Errors
    /// [`Error::Model`] or [`Error::Tensor`] when the directory is not a usable model.
    pub fn load(path: impl AsRef<Path>, options: EngineOptions) -> Result<Self> {
        let start = Instant::now();
        let path = path.as_ref().to_path_buf();
        let device = Traced::new(Cpu::new(options.threads)?);
        let pipeline = Pipeline::load(device, &path)?;
        Ok(Engine { pipeline, path, load: start.elapsed(), hash: OnceLock::new() })
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
        self.pipeline.preview(step.grid, step.tokens, step.mask_token)
    }

    /// Tokens of an image of the model's base or full size.
    pub fn encode(&self, image: &Image, size: Size) -> Result<Vec<u32>> {
        self.pipeline.encode_image(image, size)
    }

    /// The model's configuration.
    pub fn config(&self) -> &Config {
        &self.pipeline.config
    }

    /// The device, in words.
    pub fn device(&self) -> String {
        crate::device::Device::describe(&self.pipeline.device)
    }

    /// Time [`Engine::load`] took.
    pub fn load_time(&self) -> Duration {
        self.load
    }

    /// Records every verb of what `work` does with this engine.
    pub fn trace<T>(&self, hashes: bool, work: impl FnOnce(&Engine) -> T) -> (T, Vec<Event>) {
        self.pipeline.device.start(hashes);
        let result = work(self);
        (result, self.pipeline.device.stop())
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
