//! The native half of the Python package: engines, and the pictures that go in. What users see is in
//! `python/muse`.

#![deny(missing_docs)]

mod engine;
mod errors;
mod pictures;

use std::path::PathBuf;

use pyo3::prelude::*;

use errors::raised;

/// Writes a file that must not exist unless `force`: all of it, or nothing.
#[pyfunction]
fn write_new(py: Python<'_>, path: PathBuf, bytes: &[u8], force: bool) -> PyResult<()> {
    muse::image::write_new(&path, bytes, force).map_err(|error| raised(py, error))
}

/// The module `muse._muse`.
#[pymodule]
fn _muse(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<engine::Cancel>()?;
    module.add_class::<engine::Engine>()?;
    module.add_class::<engine::Step>()?;
    module.add_class::<pictures::Mask>()?;
    module.add_class::<pictures::Picture>()?;
    module.add_function(wrap_pyfunction!(write_new, module)?)
}
