//! Kernels of the user's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::images;
use crate::error::{Error, Result};

/// The PTX files of a folder, by the unit they are of.
pub(super) fn kernels(folder: &Path) -> Result<BTreeMap<String, (PathBuf, String)>> {
    let mut own = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "reading kernels"))? {
        let path = entry.map_err(Error::io(folder, "reading kernels"))?.path();
        if path.extension().is_none_or(|extension| extension != "ptx") {
            continue;
        }
        let unit = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut units = images::IMAGES.iter().map(|image| image.unit);
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
