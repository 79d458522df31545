//! A model folder as the Hugging Face hub publishes it: diffusers' `AmusedPipeline`.
//!
//! `model_index.json` names the class of each part; a part's folder holds its `config.json` and its
//! weights in safetensors, whole or in shards, in full or half precision. The path may also be a
//! repository's folder in the hub's cache (`models--amused--amused-256`), whose `refs/main` names
//! one of its `snapshots/`.

mod config;
#[cfg(feature = "pull")]
mod pull;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
pub use config::{ClipConfig, MaskingSchedule, SchedulerConfig, UvitConfig, VqModelConfig};
#[cfg(feature = "pull")]
pub use pull::{Fetching, Pulled, cached, pull};

/// Longest JSON file that is read; an index of shards is the longest.
const MAX_BYTES: u64 = 16 << 20;

const PIPELINES: [&str; 3] = ["AmusedPipeline", "AmusedImg2ImgPipeline", "AmusedInpaintPipeline"];

/// The parts of a pipeline and the one class of each that is supported.
const PARTS: [(&str, &str); 5] = [
    ("scheduler", "AmusedScheduler"),
    ("text_encoder", "CLIPTextModelWithProjection"),
    ("tokenizer", "CLIPTokenizer"),
    ("transformer", "UVit2DModel"),
    ("vqvae", "VQModel"),
];

/// Which files of weights to use, by diffusers' name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// The files without a variant: f32.
    Full,
    /// The files of the variant `fp16`.
    Half,
}

impl Variant {
    /// The variants to look for, in this order.
    fn wanted(variant: Option<Variant>) -> Vec<Variant> {
        variant.map_or(vec![Variant::Full, Variant::Half], |variant| vec![variant])
    }

    /// The names of a file of weights, and of an index of shards in its place.
    fn files(self, stem: &str) -> [String; 2] {
        match self {
            Variant::Full => [".safetensors", ".safetensors.index.json"],
            Variant::Half => [".fp16.safetensors", ".safetensors.index.fp16.json"],
        }
        .map(|end| format!("{stem}{end}"))
    }
}

/// An aMUSEd model's folder: its configs, checked, and where its other files are.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The folder with `model_index.json`: of a cached repository, the snapshot.
    pub root: PathBuf,
    /// How many tokens stay masked at each step.
    pub scheduler: SchedulerConfig,
    /// The CLIP text encoder.
    pub text_encoder: ClipConfig,
    /// The transformer.
    pub transformer: UvitConfig,
    /// The VQ tokenizer of images.
    pub vqvae: VqModelConfig,
    /// The text tokenizer's folder.
    pub tokenizer: PathBuf,
    /// The text encoder's weights: one file, or all shards by name.
    pub text_encoder_weights: Vec<PathBuf>,
    /// The transformer's weights.
    pub transformer_weights: Vec<PathBuf>,
    /// The VQ tokenizer's weights.
    pub vqvae_weights: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(rename = "_class_name")]
    class: String,
    #[serde(flatten)]
    parts: BTreeMap<String, serde_json::Value>,
}

/// The class a config says it is of, by diffusers' and by transformers' key.
#[derive(Deserialize)]
struct Class {
    #[serde(rename = "_class_name")]
    diffusers: Option<String>,
    architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Shards {
    weight_map: BTreeMap<String, String>,
}

/// Whether `path` is laid out as the hub publishes a pipeline or caches its repository.
pub fn is_folder(path: impl AsRef<Path>) -> bool {
    let path = path.as_ref();
    path.join("model_index.json").is_file() || path.join("snapshots").is_dir()
}

impl Folder {
    /// Reads and checks a folder's configs and finds its weights: those of `variant`, or in full
    /// precision where they are there and else in half.
    pub fn open(path: impl AsRef<Path>, variant: Option<Variant>) -> Result<Self> {
        let root = snapshot(path.as_ref())?;
        check_index(&root.join("model_index.json"))?;
        let weights = |part: usize| {
            let (part, stem) = WEIGHTS[part];
            find_weights(&root.join(part), stem, variant)
        };
        let folder = Folder {
            scheduler: config(&root, "scheduler", "scheduler_config.json")?,
            text_encoder: config(&root, "text_encoder", "config.json")?,
            transformer: config(&root, "transformer", "config.json")?,
            vqvae: config(&root, "vqvae", "config.json")?,
            tokenizer: root.join("tokenizer"),
            text_encoder_weights: weights(0)?,
            transformer_weights: weights(1)?,
            vqvae_weights: weights(2)?,
            root,
        };
        if !folder.tokenizer.is_dir() {
            return Err(Error::model(&folder.tokenizer, INCOMPLETE));
        }
        folder.check()?;
        Ok(folder)
    }
}

/// The files that say what a model is made of.
const CONFIGS: [&str; 5] = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "transformer/config.json",
    "vqvae/config.json",
];

/// The parts that have weights, and their files' stems.
const WEIGHTS: [(&str, &str); 3] = [
    ("text_encoder", "model"),
    ("transformer", "diffusion_pytorch_model"),
    ("vqvae", "diffusion_pytorch_model"),
];

/// What a part's weights are called below a model's folder, in full precision and in one file.
pub(crate) fn weights_file(part: &str) -> String {
    let (_, stem) = WEIGHTS.into_iter().find(|(name, _)| *name == part).expect("a part");
    format!("{part}/{}", Variant::Full.files(stem)[0])
}

/// Files of a tokenizer's folder, all that may be there.
const TOKENIZER: [&str; 6] = [
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
];

impl Folder {
    /// What the model is called: as its repository, where it lies in the hub's cache, or as its folder.
    pub fn name(&self) -> String {
        let path = self.root.canonicalize().unwrap_or_else(|_| self.root.clone());
        let names = path.components().rev().filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        });
        let names: Vec<String> = names.collect();
        let cached = names.iter().find_map(|name| name.strip_prefix("models--"));
        match cached {
            Some(repository) => repository.replace("--", "/"),
            None => names.into_iter().next().unwrap_or_else(|| "amused".into()),
        }
    }

    /// Every file that decides about images, in a fixed order: its name within the folder, and its path.
    pub fn files(&self) -> Vec<(String, PathBuf)> {
        let tokenizer = TOKENIZER.into_iter().map(|file| self.tokenizer.join(file));
        let weights = [&self.text_encoder_weights, &self.transformer_weights, &self.vqvae_weights];
        let all = (CONFIGS.into_iter().map(|file| self.root.join(file)))
            .chain(tokenizer.filter(|path| path.exists()))
            .chain(weights.into_iter().flatten().cloned());
        let name = |path: &Path| {
            let parts = path.strip_prefix(&self.root).unwrap_or(path).components();
            let parts: Vec<_> = parts.map(|part| part.as_os_str().to_string_lossy()).collect();
            parts.join("/")
        };
        all.map(|path| (name(&path), path)).collect()
    }
}

const INCOMPLETE: &str = "not there: the model's folder is incomplete; fetch it again";

/// The folder with the model: `path`, or the snapshot that a cached repository's `refs/main` names.
fn snapshot(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Err(Error::model(path, "not a folder; expected a model folder of Hugging Face"));
    }
    let snapshots = path.join("snapshots");
    if path.join("model_index.json").exists() || !snapshots.is_dir() {
        return Ok(path.into());
    }
    let reference = path.join("refs/main");
    if reference.is_file() {
        let revision = String::from_utf8_lossy(&read(&reference)?).trim().to_owned();
        let hexadecimal = !revision.is_empty() && revision.bytes().all(|b| b.is_ascii_hexdigit());
        if !hexadecimal || !snapshots.join(&revision).is_dir() {
            let problem = format!("names the snapshot {revision:?}, which is not there");
            return Err(Error::model(reference, format!("{problem}; fetch the model again")));
        }
        return Ok(snapshots.join(revision));
    }
    let entries = std::fs::read_dir(&snapshots).map_err(Error::io(&snapshots, "listing"))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.sort();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        _ => {
            let problem =
                format!("{} snapshots and no refs/main; give the path of one", found.len());
            Err(Error::model(snapshots, problem))
        }
    }
}

/// The pipeline and each part must be of a class that is supported.
fn check_index(path: &Path) -> Result<()> {
    let Index { class, parts } = json(path)?;
    if !PIPELINES.contains(&class.as_str()) {
        let problem = format!("_class_name: {class:?} is not supported; expected {PIPELINES:?}");
        return Err(Error::model(path, problem));
    }
    for (part, wanted) in PARTS {
        let found = parts.get(part).and_then(|value| value.get(1)).and_then(|name| name.as_str());
        let Some(found) = found else {
            let problem = format!("{part}: missing; expected [library, {wanted:?}]");
            return Err(Error::model(path, problem));
        };
        check_class(path, part, found, wanted)?;
    }
    Ok(())
}

/// transformers' fast tokenizers have a class of their own, with the same files.
fn check_class(path: &Path, key: &str, found: &str, wanted: &str) -> Result<()> {
    if found == wanted || (key == "tokenizer" && found.strip_suffix("Fast") == Some(wanted)) {
        return Ok(());
    }
    Err(Error::model(path, format!("{key}: {found:?} is not supported; expected {wanted:?}")))
}

/// A part's config, with the class it names checked; what it must hold is checked in `config`.
fn config<T: DeserializeOwned>(root: &Path, part: &str, file: &str) -> Result<T> {
    let path = root.join(part).join(file);
    let Class { diffusers, architectures } = json(&path)?;
    let (_, wanted) = PARTS.into_iter().find(|(name, _)| *name == part).expect("a part");
    if let Some(class) = diffusers {
        check_class(&path, "_class_name", &class, wanted)?;
    }
    for class in architectures.unwrap_or_default() {
        check_class(&path, "architectures", &class, wanted)?;
    }
    json(&path)
}

/// The weights of a part: one file or the shards of an index.
fn find_weights(folder: &Path, stem: &str, variant: Option<Variant>) -> Result<Vec<PathBuf>> {
    for variant in Variant::wanted(variant) {
        let [whole, index] = variant.files(stem).map(|file| folder.join(file));
        if whole.is_symlink() || whole.exists() {
            return Ok(vec![present(whole)?]);
        }
        if index.is_symlink() || index.exists() {
            let names = shards(&index)?;
            return names.iter().map(|name| present(folder.join(name))).collect();
        }
    }
    let wanted = Variant::wanted(variant).into_iter().map(|variant| variant.files(stem)[0].clone());
    let wanted = wanted.collect::<Vec<_>>().join(" or ");
    let problem = format!("no {wanted}; fetch that variant of the model, as safetensors");
    Err(Error::model(folder, problem))
}

/// The shards that an index names: files beside it.
fn shards(index: &Path) -> Result<BTreeSet<String>> {
    let Shards { weight_map } = json(index)?;
    let names: BTreeSet<String> = weight_map.into_values().collect();
    if names.is_empty() {
        return Err(Error::model(index, "weight_map: names no file; fetch it again"));
    }
    for name in &names {
        let mut components = Path::new(name).components();
        let plain =
            matches!((components.next(), components.next()), (Some(Component::Normal(_)), None));
        if !plain {
            let problem = format!("weight_map: {name:?} is not a file of this folder");
            return Err(Error::model(index, problem));
        }
    }
    Ok(names)
}

/// A file that must be there, behind a link or not.
fn present(path: PathBuf) -> Result<PathBuf> {
    match path.is_file() {
        true => Ok(path),
        false if path.is_symlink() && !path.exists() => {
            let problem = "a link to a file that is not there, as an interrupted download leaves";
            Err(Error::model(path, format!("{problem}; fetch the model again")))
        }
        false if path.is_dir() => Err(Error::model(path, "a folder; expected a file of weights")),
        false => Err(Error::model(path, INCOMPLETE)),
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = read(path)?;
    let mut deserializer = serde_json::Deserializer::from_slice(&bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|e| e.to_string());
    let whole = value.and_then(|v| deserializer.end().map(|()| v).map_err(|e| e.to_string()));
    whole.map_err(|e| Error::model(path, format!("{e}; fetch the file again")))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let path = present(path.into())?;
    let metadata = std::fs::metadata(&path).map_err(Error::io(&path, "opening"))?;
    if metadata.len() > MAX_BYTES {
        return Err(Error::model(
            path,
            format!("{} bytes; expected at most 16 MiB", metadata.len()),
        ));
    }
    std::fs::read(&path).map_err(Error::io(&path, "reading"))
}
