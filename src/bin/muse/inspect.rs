//! `muse info` and `muse check`.

use std::path::Path;

use muse::config::{Config, FILES, VqConfig};
use muse::hub::{Folder, is_folder};
use muse::weights::Weights;
use muse::{Engine, EngineOptions, Error, Result};

use crate::options::{InspectArgs, model_dir};

/// A model without its weights.
struct Model {
    name: String,
    config: Option<Config>, // of a Muse model
    parts: Vec<Part>,
}

/// One safetensors file in figures.
struct Part {
    file: String,
    family: String,
    tensors: usize,
    parameters: u64,
    bytes: u64,
    dtypes: Vec<String>,
}

pub fn info(arguments: InspectArgs) -> Result<()> {
    let path = model_dir(arguments.model)?;
    let Model { name, config, parts } = Model::read(&path)?;
    let total = |figure: fn(&Part) -> u64| parts.iter().map(figure).sum::<u64>();
    if arguments.json {
        let parts: Vec<_> = parts
            .iter()
            .map(|p| {
                serde_json::json!({
                    "file": p.file, "family": p.family, "tensors": p.tensors,
                    "parameters": p.parameters, "bytes": p.bytes, "dtypes": p.dtypes,
                })
            })
            .collect();
        println!(
            "{}",
            serde_json::json!({ "path": path, "name": name, "config": config, "files": parts })
        );
        return Ok(());
    }
    println!("{name} ({})", path.display());
    println!(
        "{:<51} {:<46} {:>7} {:>10} {:>11}  dtypes",
        "file", "family", "tensors", "parameters", "bytes"
    );
    for p in &parts {
        let dtypes = p.dtypes.join(", ");
        println!(
            "{:<51} {:<46} {:>7} {:>10} {:>11}  {dtypes}",
            p.file, p.family, p.tensors, p.parameters, p.bytes
        );
    }
    let tensors = parts.iter().map(|p| p.tensors).sum::<usize>();
    println!(
        "{:<98} {tensors:>7} {:>10} {:>11}",
        "total",
        total(|p| p.parameters),
        total(|p| p.bytes)
    );
    Ok(())
}

pub fn check(arguments: InspectArgs) -> Result<()> {
    let path = model_dir(arguments.model)?;
    // Loading asks for every tensor by name, dtype and shape, refuses leftovers and looks at every value.
    let engine = Engine::load(&path, EngineOptions::default())?;
    let parts = Model::read(&path)?.parts;
    let tensors: usize = parts.iter().map(|p| p.tensors).sum();
    let hash = engine.model_hash()?;
    if arguments.json {
        println!(
            "{}",
            serde_json::json!({ "path": path, "tensors": tensors, "hash": hash, "usable": true })
        );
    } else {
        println!(
            "{}: {tensors} tensors, all present, shaped and finite, none left over; model hash {hash}",
            path.display()
        );
    }
    Ok(())
}

impl Model {
    fn read(path: &Path) -> Result<Self> {
        if is_folder(path) {
            return Self::amused(&Folder::open(path, None)?);
        }
        let config = Config::read(path)?;
        let files = FILES.into_iter().filter(|file| file.ends_with(".safetensors"));
        let parts = files.filter_map(|file| {
            let family = family(file, &config)?;
            Some(part(file, family, &path.join(file)))
        });
        let parts = parts.collect::<Result<_>>()?;
        Ok(Model { name: config.name.clone(), config: Some(config), parts })
    }

    fn amused(folder: &Folder) -> Result<Self> {
        let Folder { text_encoder: text, transformer: uvit, vqvae, .. } = folder;
        let families = [
            format!("CLIP {} layers of {}", text.num_hidden_layers, text.hidden_size),
            format!(
                "aMUSEd {size}×{size}, {} layers of {}, {} codes",
                uvit.num_hidden_layers,
                uvit.hidden_size,
                uvit.codebook_size,
                size = uvit.sample_size
            ),
            vq(&VqConfig::from(vqvae)),
        ];
        let weights =
            [&folder.text_encoder_weights, &folder.transformer_weights, &folder.vqvae_weights];
        let mut parts = Vec::new();
        for (family, paths) in families.iter().zip(weights) {
            for path in paths {
                let name = path.strip_prefix(&folder.root).unwrap_or(path).display().to_string();
                parts.push(part(&name, family.clone(), path)?);
            }
        }
        Ok(Model { name: folder.name(), config: None, parts })
    }
}

fn part(file: &str, family: String, path: &Path) -> Result<Part> {
    let weights = Weights::open(path)?;
    let bytes = std::fs::metadata(path)
        .map_err(|source| Error::Io { path: path.into(), action: "reading its size", source })?
        .len();
    let mut dtypes: Vec<String> = weights.tensors().map(|t| t.dtype.to_string()).collect();
    dtypes.sort();
    dtypes.dedup();
    let parameters = weights
        .tensors()
        .filter(|t| !t.name.ends_with("_scale"))
        .map(|t| t.shape.iter().product::<usize>() as u64)
        .sum();
    let (file, tensors) = (file.to_owned(), weights.tensors().len());
    Ok(Part { file, family, tensors, parameters, bytes, dtypes })
}

fn vq(config: &VqConfig) -> String {
    let (codes, channels) = (config.num_vq_embeddings, config.vq_embed_dim);
    format!("VQModel f={}, {codes} codes of {channels}", config.factor())
}

/// What a file is, with its shape; `None` where the config has no such part.
fn family(file: &str, config: &Config) -> Option<String> {
    let transformer = |t: &muse::config::TransformerConfig| {
        format!(
            "Muse {}×{}, {} layers of {}, {} codes",
            t.grid[0], t.grid[1], t.num_layers, t.hidden_size, t.codebook_size
        )
    };
    match file {
        "text_encoder.safetensors" => {
            let t = &config.text_encoder;
            Some(format!("{} {} layers of {}", t.class, t.num_hidden_layers, t.hidden_size))
        }
        "base.safetensors" => Some(transformer(&config.base)),
        "superres.safetensors" => config.superres.as_ref().map(transformer),
        "vq_base.safetensors" => Some(vq(&config.vq_base)),
        _ => config.vq_superres.as_ref().map(vq),
    }
}
