//! Engines, and what they do while Python's other threads go on.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use muse::edit::Change;
use muse::{EngineOptions, Image, Request, Result, Size};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use crate::errors::{raised, unusable};
use crate::pictures::{Mask, Picture, Pixels, bytes, mask_of, pixels};

/// Cancels requests from another thread.
#[pyclass(frozen, module = "muse")]
pub struct Cancel(muse::Cancel);

#[pymethods]
impl Cancel {
    #[new]
    fn new() -> Self {
        Cancel(muse::Cancel::new())
    }

    /// Cancels every call that has it, those to come too.
    fn cancel(&self) {
        self.0.cancel();
    }

    /// Whether it was.
    #[getter]
    fn cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// What a callback sees after a step.
#[pyclass(frozen, module = "muse._muse")]
pub struct Step {
    engine: Arc<muse::Engine>,
    step: muse::decode::Step<'static>, // without its grids
    tokens: Vec<u32>,                  // [rows*columns]
    confidence: Vec<f32>,              // [rows*columns]
    running: AtomicBool,               // the callback
}

#[pymethods]
impl Step {
    #[getter]
    fn stage(&self) -> &str {
        self.step.stage
    }

    /// `step` of `steps`, `window` of `windows`, `image` of `images`.
    #[getter]
    fn at(&self) -> [(usize, usize); 3] {
        let step = &self.step;
        [(step.step, step.steps), (step.window, step.windows), (step.image, step.images)]
    }

    #[getter]
    fn grid(&self) -> (usize, usize) {
        self.step.grid.into()
    }

    #[getter]
    fn mask_token(&self) -> u32 {
        self.step.mask_token
    }

    #[getter]
    fn seconds(&self) -> f64 {
        self.step.elapsed.as_secs_f64()
    }

    /// u32 [rows*columns].
    #[getter]
    fn tokens<'py>(&self, py: Python<'py>) -> Bound<'py, PyByteArray> {
        bytes(py, &self.tokens)
    }

    /// f32 [rows*columns].
    #[getter]
    fn confidence<'py>(&self, py: Python<'py>) -> Bound<'py, PyByteArray> {
        bytes(py, &self.confidence)
    }

    /// The picture of the grid as it is, masked cells hatched.
    fn preview<'py>(&self, py: Python<'py>) -> PyResult<Pixels<'py>> {
        let image = py.detach(|| {
            if !self.running.load(Ordering::SeqCst) {
                let found = "a step whose callback has returned";
                return Err(unusable("preview", found, "a call from within the callback"));
            }
            self.engine.preview(&muse::decode::Step { tokens: &self.tokens, ..self.step.clone() })
        });
        Ok(pixels(py, &image.map_err(|error| raised(py, error))?))
    }
}

impl Step {
    /// Shows a step to a callback: whether it goes on.
    fn show(
        py: Python<'_>,
        engine: &Arc<muse::Engine>,
        step: &muse::decode::Step<'_>,
        callback: &Py<PyAny>,
    ) -> PyResult<bool> {
        let shown = Step {
            engine: engine.clone(),
            step: muse::decode::Step { tokens: &[], confidence: &[], ..step.clone() },
            tokens: step.tokens.to_vec(),
            confidence: step.confidence.to_vec(),
            running: AtomicBool::new(true),
        };
        let shown = Py::new(py, shown)?;
        let answer = callback.call1(py, (shown.clone_ref(py),));
        shown.get().running.store(false, Ordering::SeqCst);
        Ok(!answer?.bind(py).is(pyo3::types::PyBool::new(py, false)))
    }
}

/// The exception that ended a call: its callback's, or that of an interrupt.
#[derive(Clone, Default)]
struct Stopped(Arc<Mutex<Option<PyErr>>>);

impl Stopped {
    fn by(&self, exception: PyErr) -> ControlFlow<()> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(exception);
        ControlFlow::Break(())
    }

    fn exception(&self) -> Option<PyErr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Cancels by the caller, and by signals as of Ctrl-C, which Python notes and its main thread must ask for.
    fn by_signals(&self, callers: Option<muse::Cancel>) -> muse::Cancel {
        let stopped = self.clone();
        muse::Cancel::when(move || {
            let signals = || Python::attach(|py| py.check_signals());
            callers.as_ref().is_some_and(muse::Cancel::is_cancelled)
                || signals().map_err(|exception| stopped.by(exception)).is_err()
        })
    }
}

/// An image, its tokens in both grids, notes, and the seconds of its stages.
type Made<'py> = (
    Pixels<'py>,
    Bound<'py, PyByteArray>,
    Option<Bound<'py, PyByteArray>>,
    Vec<String>,
    BTreeMap<&'static str, f64>,
);

/// States, rows, pooled states.
type Embedded<'py> = (Bound<'py, PyByteArray>, usize, Bound<'py, PyByteArray>);

fn seconds(timings: &muse::Timings) -> BTreeMap<&'static str, f64> {
    let muse::Timings { text, encode, base, superres, vq, .. } = timings;
    [("text", text), ("encode", encode), ("base", base), ("superres", superres), ("vq", vq)]
        .map(|(stage, time)| (stage, time.as_secs_f64()))
        .into()
}

/// A loaded model.
#[pyclass(frozen, module = "muse._muse")]
pub struct Engine(Arc<muse::Engine>);

#[pymethods]
impl Engine {
    #[new]
    fn load(
        py: Python<'_>,
        path: PathBuf,
        device: &str,
        dtype: &str,
        threads: Option<usize>,
    ) -> PyResult<Self> {
        let load = || -> Result<muse::Engine> {
            let mut options = EngineOptions { threads, ..EngineOptions::default() };
            options.device = device.parse().map_err(|e: String| unusable("device", device, &e))?;
            options.dtype = dtype.parse().map_err(|e: String| unusable("dtype", dtype, &e))?;
            muse::Engine::load(path, options)
        };
        py.detach(load).map(|engine| Engine(Arc::new(engine))).map_err(|error| raised(py, error))
    }

    /// Makes the images of a request, in JSON; `signals` is whether it is called by Python's main thread.
    #[allow(clippy::too_many_arguments)] // as one call has them
    fn generate<'py>(
        &self,
        py: Python<'py>,
        request: &str,
        count: usize,
        picture: Option<PyRef<'py, Picture>>,
        mask: Option<PyRef<'py, Mask>>,
        boxes: Vec<[usize; 4]>,
        embeddings: Option<(Vec<f32>, usize, Vec<f32>)>,
        cancel: Option<PyRef<'py, Cancel>>,
        signals: bool,
        callback: Option<Py<PyAny>>,
    ) -> PyResult<Vec<Made<'py>>> {
        let request = meant(request, picture.as_deref(), mask.as_deref(), &boxes);
        let mut request = request.map_err(|error| raised(py, error))?;
        request.embeddings =
            embeddings.map(|(states, rows, pooled)| muse::Embeddings { states, rows, pooled });
        let stopped = Stopped::default();
        request.cancel = cancel.map(|cancel| cancel.0.clone());
        if signals {
            request.cancel = Some(stopped.by_signals(request.cancel));
        }
        let engine = &self.0;
        let result = py.detach(|| {
            let Some(callback) = &callback else {
                return engine.generate_many(&request, count, None);
            };
            let mut on_step = |step: muse::decode::Step<'_>| match Python::attach(|py| {
                Step::show(py, engine, &step, callback)
            }) {
                Ok(true) => ControlFlow::Continue(()),
                Ok(false) => ControlFlow::Break(()),
                Err(exception) => stopped.by(exception),
            };
            engine.generate_many(&request, count, Some(&mut on_step))
        });
        if let Some(exception) = stopped.exception() {
            return Err(exception);
        }
        let made = |generated: muse::Generated| {
            let superres = generated.superres_tokens.map(|tokens| bytes(py, &tokens));
            let base = bytes(py, &generated.base_tokens);
            let seconds = seconds(&generated.timings);
            (pixels(py, &generated.image), base, superres, generated.notes, seconds)
        };
        Ok(result.map_err(|error| raised(py, error))?.into_iter().map(made).collect())
    }

    /// The PNG file of an image that a request made, as `muse` writes it.
    fn png<'py>(
        &self,
        py: Python<'py>,
        request: &str,
        width: usize,
        height: usize,
        rgb: Vec<u8>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let file = || {
            let request = Request::from_json(request)?;
            Image { width, height, rgb }.to_png(&self.0.png_text(&request)?)
        };
        let file = py.detach(file).map_err(|error| raised(py, error))?;
        Ok(PyBytes::new(py, &file))
    }

    /// Tokens of a picture of the model's size, u32.
    fn encode<'py>(
        &self,
        py: Python<'py>,
        picture: &Picture,
        base: bool,
    ) -> PyResult<Bound<'py, PyByteArray>> {
        let size = if base { Size::Base } else { Size::Full };
        let tokens = py.detach(|| self.0.encode(&picture.0.image, size));
        Ok(bytes(py, &tokens.map_err(|error| raised(py, error))?))
    }

    /// The picture of tokens of the model's size.
    fn decode<'py>(&self, py: Python<'py>, tokens: Vec<u32>, base: bool) -> PyResult<Pixels<'py>> {
        let size = if base { Size::Base } else { Size::Full };
        let image = py.detach(|| self.0.decode(&tokens, size));
        Ok(pixels(py, &image.map_err(|error| raised(py, error))?))
    }

    /// A text's states, f32 [rows*channels], how many rows, and the pooled ones, f32 [channels].
    fn embed<'py>(&self, py: Python<'py>, text: &str) -> PyResult<Embedded<'py>> {
        let embedded = py.detach(|| self.0.embed(text)).map_err(|error| raised(py, error))?;
        let muse::Embeddings { states, rows, pooled } = embedded;
        Ok((bytes(py, &states), rows, bytes(py, &pooled)))
    }

    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    #[getter]
    fn device(&self) -> String {
        self.0.device()
    }

    #[getter]
    fn dtype(&self) -> String {
        self.0.dtype().to_string()
    }

    #[getter]
    fn stages(&self) -> Vec<&'static str> {
        self.0.stages()
    }

    #[getter]
    fn waiting(&self) -> usize {
        self.0.waiting()
    }
}

fn meant(
    json: &str,
    picture: Option<&Picture>,
    mask: Option<&Mask>,
    boxes: &[[usize; 4]],
) -> Result<Request> {
    let mut request = Request::from_json(json)?;
    if let (Some(edit), Some(picture)) = (&mut request.edit, picture) {
        if let Change::Inpaint { mask: repainted, .. } = &mut edit.change {
            *repainted = mask_of(picture, mask, boxes)?;
        }
        edit.image = picture.0.image.clone();
    }
    Ok(request)
}
