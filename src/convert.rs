//! Models whose weights are packed already: they are used where they lie in the file, so that nothing is read before it
//! is needed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::engine::{DeviceChoice, Engine, EngineOptions};
use crate::error::{Error, Result};
use crate::tensor::Precision;

/// What [`convert`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Converted {
    /// Bytes of the model's files.
    pub from: u64,
    /// Bytes of those that were made of them.
    pub to: u64,
}

/// Writes the model folder `path` anew as the folder `into`, which must not exist, its weights packed for a processor
/// that computes in `precision`. It gives the same images, and is loaded in no time; only in that precision, and not
/// by a GPU. Whatever fails, `into` is not there.
///
/// # Errors
/// As [`Engine::load`]; [`Error::Io`] when the folder is there or cannot be written; [`Error::Model`] when the weights
/// are packed already.
pub fn convert(path: &Path, into: &Path, precision: Precision) -> Result<Converted> {
    const ACTION: &str = "writing the converted model";
    if into.exists() {
        let there = std::io::Error::other("it exists already; choose another name");
        return Err(Error::io(into, ACTION)(there));
    }
    let beside = into.parent().filter(|parent| !parent.as_os_str().is_empty());
    let beside = beside.unwrap_or(Path::new("."));
    let name = into.file_name().unwrap_or_default().to_string_lossy();
    let partial = Partial(beside.join(format!(".{name}.{}.partial", std::process::id())));
    fs::create_dir(&partial.0).map_err(Error::io(&partial.0, ACTION))?;
    let options =
        EngineOptions { device: DeviceChoice::Cpu, dtype: precision, ..EngineOptions::default() };
    let original = Engine::keep(path, options.clone(), partial.0.clone())?;
    for (name, source) in original.files() {
        if source.extension().is_none_or(|extension| extension != "safetensors") {
            let copy = partial.0.join(name);
            let folder = copy.parent().unwrap_or(&partial.0);
            fs::create_dir_all(folder).map_err(Error::io(folder, ACTION))?;
            fs::copy(source, &copy).map_err(Error::io(&copy, ACTION))?;
        }
    }
    let converted = Engine::load(&partial.0, options)?; // it can be
    let size = |engine: &Engine| -> Result<u64> {
        let sizes = engine.files().iter().map(|(_, path)| {
            Ok(fs::metadata(path).map_err(Error::io(path, "looking at the model"))?.len())
        });
        sizes.sum()
    };
    let sizes = Converted { from: size(&original)?, to: size(&converted)? };
    fs::rename(&partial.0, into).map_err(Error::io(into, ACTION))?;
    Ok(sizes)
}

/// A folder that goes unless it was renamed.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // the first error is the one to report
    }
}
