//! A program's spans in a file of Chrome's trace format, which `ui.perfetto.dev` and `chrome://tracing` draw.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Instant;

use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Subscriber, subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::error::{Error, Result};
use crate::image::write_new;

/// All spans of this process from [`Recording::start`] on, in memory until they are written.
pub struct Recording {
    path: PathBuf,
    spans: Spans,
}

#[derive(Clone)]
struct Spans {
    start: Instant,
    ended: Arc<Mutex<Ended>>,
}

#[derive(Default)]
struct Ended {
    events: Vec<Value>,
    threads: Vec<ThreadId>,
}

/// What a span that is under way remembers.
struct Begun {
    name: String,
    at: Instant,
}

impl Recording {
    /// Becomes the process' subscriber of spans; the file is written by [`Recording::finish`].
    ///
    /// # Errors
    /// [`Error::Option`] in a process that has a subscriber.
    pub fn start(path: &Path) -> Result<Self> {
        let spans = Spans { start: Instant::now(), ended: Arc::default() };
        subscriber::set_global_default(tracing_subscriber::registry().with(spans.clone()))
            .map_err(|_| {
                Error::option(
                    "--spans",
                    path.display(),
                    "a process with no other subscriber of spans",
                )
            })?;
        Ok(Recording { path: path.into(), spans })
    }

    /// Writes every span that has ended.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be written.
    pub fn finish(self) -> Result<()> {
        let ended = std::mem::take(&mut *self.spans.lock());
        let trace = json!({ "displayTimeUnit": "ms", "traceEvents": ended.events });
        write_new(&self.path, trace.to_string().as_bytes(), true)
    }
}

impl Spans {
    fn lock(&self) -> std::sync::MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut named = Named::default();
        attributes.record(&mut named);
        if let Some(span) = context.span(id) {
            let name = format!("{}{}", named.name, named.step);
            span.extensions_mut().insert(Begun { name, at: Instant::now() });
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let end = Instant::now();
        let Some(span) = context.span(&id) else { return };
        let extensions = span.extensions();
        let Some(begun) = extensions.get::<Begun>() else { return };
        let mut ended = self.lock();
        let this = std::thread::current().id();
        let thread = ended.threads.iter().position(|&known| known == this).unwrap_or_else(|| {
            ended.threads.push(this);
            ended.threads.len() - 1
        });
        ended.events.push(json!({
            "ph": "X",
            "name": begun.name,
            "cat": span.name(),
            "ts": (begun.at - self.start).as_secs_f64() * 1e6,
            "dur": (end - begun.at).as_secs_f64() * 1e6,
            "pid": std::process::id(),
            "tid": thread,
        }));
    }
}

/// The name in a span's fields, and the number of a step.
#[derive(Default)]
struct Named {
    name: String,
    step: String,
}

impl Visit for Named {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "name" {
            self.name = value.into();
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "step" {
            self.step = format!(" step {value}");
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
