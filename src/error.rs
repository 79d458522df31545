//! One error type: every message names the file, tensor, option or device, what was expected, what
//! was found, and what to do.

use std::path::{Path, PathBuf};

/// Result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong. [`Error::exit_code`] gives the CLI's documented exit code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A request or option holds a value that cannot be used.
    #[error("{name}: {found} cannot be used; expected {expected}")]
    Option {
        /// Option or field.
        name: &'static str,
        /// The value given.
        found: String,
        /// What it can be.
        expected: String,
    },

    /// A model directory or one of its files cannot be used.
    #[error("{}: {problem}", path.display())]
    Model {
        /// File or directory.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },

    /// A tensor of a checkpoint is missing, superfluous or of the wrong kind.
    #[error(
        "{}: tensor '{tensor}': expected {expected}, found {found}; the config and all weights must \
         come from one export",
        path.display()
    )]
    Tensor {
        /// The safetensors file.
        path: PathBuf,
        /// Tensor name.
        tensor: String,
        /// Dtype and shape, or another property, that the model needs.
        expected: String,
        /// What the file holds.
        found: String,
    },

    /// A file could not be read or written.
    #[error("{}: {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },

    /// A model could not be fetched.
    #[error("{repository}: {problem}")]
    Hub {
        /// The repository of the Hugging Face hub.
        repository: String,
        /// What is wrong and what to do.
        problem: String,
    },

    /// A device is absent or failed.
    #[error("device '{device}': {problem}")]
    Device {
        /// The device asked for.
        device: String,
        /// What is wrong and what to do.
        problem: String,
    },

    /// Another engine, which `muse-bench peers` runs, or its environment failed.
    #[error("peer '{peer}': {problem}")]
    Peer {
        /// The engine and what it computes in, or what sets all of them up.
        peer: String,
        /// What is wrong and what to do.
        problem: String,
    },

    /// The caller's step callback, or its [`crate::Cancel`], asked to stop.
    #[error("cancelled by the caller {}", moment(stage, *step))]
    Cancelled {
        /// Decode loop that was running; empty before the first one, as while a request waits for its turn.
        stage: &'static str,
        /// Step, from 0.
        step: usize,
    },
}

impl Error {
    pub(crate) fn model(path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Error::Model { path: path.as_ref().into(), problem: problem.into() }
    }

    pub(crate) fn option(
        name: &'static str,
        found: impl ToString,
        expected: impl Into<String>,
    ) -> Self {
        Error::Option { name, found: found.to_string(), expected: expected.into() }
    }

    pub(crate) fn io(
        path: impl AsRef<Path>,
        action: &'static str,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().into();
        move |source| Error::Io { path, action, source }
    }

    /// The CLI's exit code: 2 unusable options, 3 unusable model, 4 file input or output, or
    /// the hub, 5 device, 6 another engine, 130 cancelled.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Option { .. } => 2,
            Error::Model { .. } | Error::Tensor { .. } => 3,
            Error::Io { .. } | Error::Hub { .. } => 4,
            Error::Device { .. } => 5,
            Error::Peer { .. } => 6,
            Error::Cancelled { .. } => 130,
        }
    }
}

fn moment(stage: &str, step: usize) -> String {
    match stage {
        "" => "before the first step".into(),
        _ => format!("at step {step} of the {stage} stage"),
    }
}
