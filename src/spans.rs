//! Spans of stages, steps and verbs for profilers, in builds with the feature `spans`: those of `tracing` with target
//! `muse`, for whatever subscriber a program has, and NVTX ranges of the same names, for Nsight. Without the feature
//! nothing of this is compiled. On a GPU a span is the time in which work is queued, not that in which it is done.

#[cfg(feature = "spans")]
mod chrome;

#[cfg(feature = "spans")]
pub use chrome::Recording;
#[cfg(feature = "spans")]
pub(crate) use on::{stage, step, verb};

#[cfg(not(feature = "spans"))]
pub use off::Recording;
#[cfg(not(feature = "spans"))]
pub(crate) use off::{stage, step, verb};

#[cfg(feature = "spans")]
mod on {
    use tracing::span::EnteredSpan;

    /// A span under way: it ends where this is dropped, on the same thread.
    pub(crate) struct Span {
        _tracing: EnteredSpan,
        _range: Range,
    }

    /// An NVTX range of this thread.
    struct Range;

    impl Drop for Range {
        fn drop(&mut self) {
            nvtx::range_pop!();
        }
    }

    /// A part of a request, or a whole decode loop.
    pub(crate) fn stage(name: &'static str) -> Span {
        nvtx::range_push!("{name}");
        Span {
            _tracing: tracing::info_span!(target: "muse", "stage", name).entered(),
            _range: Range,
        }
    }

    /// A step of a decode loop.
    pub(crate) fn step(stage: &'static str, step: usize) -> Span {
        nvtx::range_push!("{stage} step {step}");
        let span = tracing::debug_span!(target: "muse", "step", name = stage, step);
        Span { _tracing: span.entered(), _range: Range }
    }

    /// A verb of a device.
    pub(crate) fn verb(name: &'static str) -> Span {
        nvtx::range_push!("{name}");
        Span {
            _tracing: tracing::trace_span!(target: "muse", "verb", name).entered(),
            _range: Range,
        }
    }
}

#[cfg(not(feature = "spans"))]
mod off {
    use std::path::Path;

    use crate::error::{Error, Result};

    /// Nothing.
    pub(crate) struct Span;

    pub(crate) fn stage(_: &'static str) -> Span {
        Span
    }

    pub(crate) fn step(_: &'static str, _: usize) -> Span {
        Span
    }

    pub(crate) fn verb(_: &'static str) -> Span {
        Span
    }

    /// Spans on their way to a file: in a build without them there are none.
    pub struct Recording(std::convert::Infallible);

    impl Recording {
        /// Begins to record.
        ///
        /// # Errors
        /// [`Error::Option`]: always, in this build.
        pub fn start(path: &Path) -> Result<Self> {
            Err(Error::option(
                "--spans",
                path.display(),
                "a muse that was built with `--features spans`",
            ))
        }

        /// Writes the file.
        pub fn finish(self) -> Result<()> {
            match self.0 {}
        }
    }
}
