//! `muse info` and `muse check`.

use std::path::{Path, PathBuf};

use muse::config::{Config, FILES};
use muse::weights::Weights;
use muse::{Engine, EngineOptions, Error, Result};

use crate::options::{InspectArgs, model_dir};

/// One safetensors file in figures.
struct Part {
    file: &'static str,
    family: String,
    tensors: usize,
    parameters: u64,
    bytes: u64,
    dtypes: Vec<String>,
}

pub fn info(arguments: InspectArgs) -> Result<()> {
    let path = model_dir(arguments.model)?;
    let config = Config::read(&path)?;
    let parts = parts(&path, &config)?;
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
        println!("{}", serde_json::json!({ "path": path, "config": config, "files": parts }));
        return Ok(());
    }
    println!("{} ({})", config.name, path.display());
    println!(
        "{:<26} {:<46} {:>7} {:>10} {:>11}  dtypes",
        "file", "family", "tensors", "parameters", "bytes"
    );
    for p in &parts {
        let dtypes = p.dtypes.join(", ");
        println!(
            "{:<26} {:<46} {:>7} {:>10} {:>11}  {dtypes}",
            p.file, p.family, p.tensors, p.parameters, p.bytes
        );
    }
    let tensors = parts.iter().map(|p| p.tensors).sum::<usize>();
    println!(
        "{:<73} {tensors:>7} {:>10} {:>11}",
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
    let parts = parts(&path, &Config::read(&path)?)?;
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

fn parts(path: &Path, config: &Config) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for file in FILES.into_iter().filter(|file| file.ends_with(".safetensors")) {
        let Some(family) = family(file, config) else { continue };
        let full: PathBuf = path.join(file);
        let weights = Weights::open(&full)?;
        let bytes = std::fs::metadata(&full)
            .map_err(|source| Error::Io { path: full.clone(), action: "reading its size", source })?
            .len();
        let mut dtypes: Vec<String> = weights.tensors().map(|t| t.dtype.to_string()).collect();
        dtypes.sort();
        dtypes.dedup();
        let parameters = weights
            .tensors()
            .filter(|t| !t.name.ends_with("_scale"))
            .map(|t| t.shape.iter().product::<usize>() as u64)
            .sum();
        parts.push(Part {
            file,
            family,
            tensors: weights.tensors().len(),
            parameters,
            bytes,
            dtypes,
        });
    }
    Ok(parts)
}

/// What a file is, with its shape; `None` where the config has no such part.
fn family(file: &str, config: &Config) -> Option<String> {
    let transformer = |t: &muse::config::TransformerConfig| {
        format!(
            "Muse {}×{}, {} layers of {}, {} codes",
            t.grid[0], t.grid[1], t.num_layers, t.hidden_size, t.codebook_size
        )
    };
    let vq = |v: &muse::config::VqConfig| {
        format!("VQModel f={}, {} codes of {}", v.factor(), v.num_vq_embeddings, v.vq_embed_dim)
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
