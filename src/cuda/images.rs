//! The compiled kernels: where they come from, what each takes, and the user's own in their place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Cuda;
use super::driver::Image;
use crate::error::{Error, Result};

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// What a kernel takes of a multiprocessor on one architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Its name.
    pub kernel: &'static str,
    /// Compute capability times 10.
    pub capability: u32,
    /// Registers of a thread.
    pub registers: u32,
    /// Static shared memory in bytes.
    pub shared: u32,
    /// Bytes of registers that a thread spills to local memory.
    pub spilled: u32,
}

impl Cuda {
    /// Every kernel file's name and its PTX for the oldest GPUs, and how that came about: "as committed" or
    /// by which compiler.
    pub fn kernels() -> (&'static str, impl Iterator<Item = (&'static str, String)>) {
        let oldest = IMAGES.iter().filter(|i| !i.cubin).map(|i| i.capability).min();
        let images = IMAGES.iter().filter(move |i| !i.cubin && Some(i.capability) == oldest);
        let text = |i: &Image| String::from_utf8_lossy(i.bytes).trim_end_matches('\0').to_owned();
        (ORIGIN, images.map(move |image| (image.unit, text(image))))
    }

    /// Every loaded kernel with the most dynamic shared memory that it is launched with, in bytes.
    pub fn loaded(&self) -> Vec<(&'static str, u32)> {
        self.driver.loaded.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// What each kernel takes on each architecture, by ptxas; empty where no compiler was at hand.
    pub fn resources() -> &'static [Resources] {
        RESOURCES
    }
}

/// The PTX files of a folder, by the unit they are of.
pub(super) fn own_kernels(folder: &Path) -> Result<BTreeMap<String, (PathBuf, String)>> {
    let mut own = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "reading kernels"))? {
        let path = entry.map_err(Error::io(folder, "reading kernels"))?.path();
        if path.extension().is_none_or(|extension| extension != "ptx") {
            continue;
        }
        let unit = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut units = IMAGES.iter().map(|image| image.unit);
        if !units.any(|known| known == unit) {
            let problem =
                "no kernels/NAME.cu is called like that; name the file as the unit it replaces";
            return Err(Error::model(&path, problem));
        }
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path, "reading kernels"))?;
        own.insert(unit, (path, text));
    }
    match own.is_empty() {
        true => Err(Error::model(folder, "there is no UNIT.ptx in it")),
        false => Ok(own),
    }
}
