//! The engine's errors as Python's exceptions.

use muse::Error;
use pyo3::prelude::*;

/// The exception of an error: the class of its kind in `muse._errors`, with the engine's words.
pub fn raised(py: Python<'_>, error: Error) -> PyErr {
    let class = match &error {
        Error::Option { .. } => "OptionError",
        Error::Model { .. } | Error::Tensor { .. } => "ModelError",
        Error::Io { .. } | Error::Hub { .. } => "FileError",
        Error::Device { .. } => "DeviceError",
        Error::Cancelled { .. } => "Cancelled",
        _ => "Error",
    };
    let exception = || py.import("muse._errors")?.getattr(class)?.call1((error.to_string(),));
    exception().map_or_else(|failed| failed, PyErr::from_value)
}

/// An option that cannot be used.
pub fn unusable(name: &'static str, found: impl ToString, expected: &str) -> Error {
    Error::Option { name, found: found.to_string(), expected: expected.into() }
}
