//! Stream capture: work becomes nodes of a graph instead of happening.
//!
//! What a real driver refuses during a capture is refused here with the same code, and it ends the
//! capture as there: `cuStreamEndCapture` then says 901.

use std::cell::Cell;
use std::ffi::c_uint;
use std::thread::{self, ThreadId};

use super::abi::{CUcontext, CUgraph, CUstream, Out};
use super::graph::Graph;
use super::state::{Driver, call};
use super::status::{Result, Status};
use super::stream::{Captured, StreamKind};
use super::work::Work;

/// A capture under way.
#[derive(Debug)]
pub struct Capture {
    pub context: CUcontext,
    /// Where it began and must end.
    origin: CUstream,
    mode: c_uint,
    thread: ThreadId,
    invalid: bool,
    pub graph: Graph,
}

const GLOBAL: c_uint = 0;
const THREAD_LOCAL: c_uint = 1;
const RELAXED: c_uint = 2;

thread_local! {
    /// The thread's own mode: how far other captures bind it.
    static MODE: Cell<c_uint> = const { Cell::new(GLOBAL) };
}

impl Driver {
    /// Adds a node behind the stream's last ones.
    pub fn capture_work(&mut self, stream: CUstream, work: Work) -> Result<usize> {
        let captured = self.captured(stream)?;
        self.check_capture(captured.capture)?;
        let graph = &mut self.captures.get_mut(captured.capture)?.graph;
        let node = graph.add(captured.after, work);
        self.set_captured(stream, Captured { capture: captured.capture, after: vec![node] })?;
        Ok(node)
    }

    /// A stream's place in its capture.
    pub fn captured(&self, stream: CUstream) -> Result<Captured> {
        match &self.streams.get(stream)?.capture {
            Some(captured) => Ok(captured.clone()),
            None => Status::ILLEGAL_STATE.because("the stream is not capturing"),
        }
    }

    pub fn set_captured(&mut self, stream: CUstream, captured: Captured) -> Result {
        self.streams.get_mut(stream)?.capture = Some(captured);
        Ok(())
    }

    /// Refuses a capture that was invalidated.
    pub fn check_capture(&self, capture: usize) -> Result {
        if self.captures.get(capture)?.invalid {
            return Err(Status::STREAM_CAPTURE_INVALIDATED.into());
        }
        Ok(())
    }

    pub fn invalidate(&mut self, capture: usize) {
        if let Ok(capture) = self.captures.get_mut(capture) {
            capture.invalid = true;
        }
    }

    /// Makes a stream wait for a place in a graph: it joins the capture.
    pub fn join_capture(&mut self, stream: CUstream, event: &Captured) -> Result {
        if self.captures.get(event.capture).is_err() {
            return Status::INVALID_VALUE
                .because("the event was recorded in a capture that has ended; record it again");
        }
        self.check_capture(event.capture)?;
        match self.streams.get(stream)?.capture.clone() {
            None if self.streams.get(stream)?.kind == StreamKind::Legacy => {
                self.invalidate(event.capture);
                Status::STREAM_CAPTURE_IMPLICIT.because("the default stream cannot join a capture")
            }
            None => self.set_captured(stream, event.clone()),
            Some(mut captured) if captured.capture == event.capture => {
                let new = event.after.iter().filter(|n| !captured.after.contains(n));
                let new: Vec<_> = new.copied().collect();
                captured.after.extend(new);
                self.set_captured(stream, captured)
            }
            Some(captured) => {
                self.invalidate(captured.capture);
                self.invalidate(event.capture);
                Status::STREAM_CAPTURE_MERGE.because("the event belongs to another capture")
            }
        }
    }

    /// A capturing stream waits for work outside its capture.
    pub fn refuse_outside_event(&mut self, stream: CUstream) -> Result {
        let captured = self.captured(stream)?;
        self.invalidate(captured.capture);
        Status::STREAM_CAPTURE_ISOLATION
            .because("a capturing stream waits for an event recorded outside its capture")
    }

    /// Work in the default stream would depend on blocking streams that are capturing.
    pub fn refuse_implicit(&mut self, stream: CUstream) -> Result {
        let Ok(s) = self.streams.get(stream) else { return Ok(()) };
        if s.kind != StreamKind::Legacy {
            return Ok(());
        }
        let context = s.context;
        let capturing: Vec<usize> = self
            .streams
            .iter()
            .filter(|(_, s)| s.context == context && s.kind == StreamKind::Blocking)
            .filter_map(|(_, s)| s.capture.as_ref().map(|c| c.capture))
            .collect();
        if capturing.is_empty() {
            return Ok(());
        }
        capturing.into_iter().for_each(|c| self.invalidate(c));
        Status::STREAM_CAPTURE_IMPLICIT
            .because("the default stream is used while a blocking stream is capturing")
    }

    /// Waiting for, or asking about, a stream that is capturing.
    pub fn refuse_capturing(&mut self, stream: CUstream, name: &str) -> Result {
        if let Some(captured) = self.streams.get(stream)?.capture.clone() {
            self.invalidate(captured.capture);
            return Status::STREAM_CAPTURE_UNSUPPORTED
                .because(format!("{name} on a stream that is capturing"));
        }
        self.refuse_implicit(stream)
    }

    /// Waiting for a context in which something is capturing.
    pub fn refuse_captures_of(&mut self, context: CUcontext, name: &str) -> Result {
        let found: Vec<usize> =
            self.captures.iter().filter(|(_, c)| c.context == context).map(|(h, _)| h).collect();
        if found.is_empty() {
            return self.refuse_unsafe(name);
        }
        found.into_iter().for_each(|c| self.invalidate(c));
        Status::STREAM_CAPTURE_UNSUPPORTED.because(format!("{name} while a stream is capturing"))
    }

    /// A call that may wait or allocate behind the program's back is refused while a capture binds this
    /// thread: its own, unless relaxed, or any global one.
    pub fn refuse_unsafe(&mut self, name: &str) -> Result {
        let mode = MODE.get();
        let me = thread::current().id();
        let binding: Vec<usize> = self
            .captures
            .iter()
            .filter(|(_, c)| match mode {
                RELAXED => false,
                THREAD_LOCAL => c.thread == me && c.mode != RELAXED,
                _ => c.mode == GLOBAL || (c.thread == me && c.mode != RELAXED),
            })
            .map(|(h, _)| h)
            .collect();
        if binding.is_empty() {
            return Ok(());
        }
        binding.into_iter().for_each(|c| self.invalidate(c));
        Status::STREAM_CAPTURE_UNSUPPORTED.because(format!("{name} during a stream capture"))
    }

    fn end_capture(&mut self, stream: CUstream) -> Result<Graph> {
        let captured = self.captured(stream)?;
        let capture = self.captures.get(captured.capture)?;
        if capture.origin != stream {
            self.invalidate(captured.capture);
            return Status::STREAM_CAPTURE_UNMATCHED
                .because("the capture began in another stream; end it there");
        }
        if capture.mode != RELAXED && capture.thread != thread::current().id() {
            return Status::STREAM_CAPTURE_WRONG_THREAD
                .because("the capture began in another thread, and is not relaxed");
        }
        let capture = self.captures.remove(captured.capture)?;
        let joined = capture.graph.ancestors(&captured.after);
        let mut all_joined = true;
        for other in self.streams.values_mut() {
            if let Some(c) = other.capture.take_if(|c| c.capture == captured.capture) {
                all_joined &= c.after.iter().all(|n| joined.contains(n));
            }
        }
        let failed = if capture.invalid {
            Err(Status::STREAM_CAPTURE_INVALIDATED.into())
        } else if !all_joined {
            Status::STREAM_CAPTURE_UNJOINED.because(
                "a stream that joined the capture has work that its origin does not wait for",
            )
        } else {
            Ok(())
        };
        match failed {
            Ok(()) => Ok(capture.graph),
            Err(e) => {
                drop(capture);
                self.collect_graph_memory();
                Err(e)
            }
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamBeginCapture_v2(stream: CUstream, mode: c_uint) -> Status {
    call("cuStreamBeginCapture_v2", |d| {
        let stream = d.stream(stream)?;
        if mode > RELAXED {
            return Status::INVALID_VALUE.because(format!("expected a capture mode, found {mode}"));
        }
        let s = d.streams.get(stream)?;
        let context = s.context;
        if s.kind == StreamKind::Legacy {
            return Status::STREAM_CAPTURE_UNSUPPORTED
                .because("the default stream cannot be captured");
        }
        if s.capture.is_some() {
            return Status::ILLEGAL_STATE.because("the stream is capturing already");
        }
        let capture = d.captures.add(Capture {
            context,
            origin: stream,
            mode,
            thread: thread::current().id(),
            invalid: false,
            graph: Graph::default(),
        });
        d.set_captured(stream, Captured { capture, after: Vec::new() })
    })
}

/// The graph of what was captured; null with an error.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamEndCapture(stream: CUstream, out: Out<CUgraph>) -> Status {
    call("cuStreamEndCapture", |d| {
        out.set(0)?;
        let stream = d.stream(stream)?;
        let graph = d.end_capture(stream)?;
        out.set(d.graphs.add(graph))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamIsCapturing(stream: CUstream, out: Out<c_uint>) -> Status {
    call("cuStreamIsCapturing", |d| {
        let stream = d.stream(stream)?;
        d.refuse_implicit(stream)?;
        out.set(capture_status(d, stream)?.0)
    })
}

/// State and number of a capture. Its graph and nodes are not shown before it ends.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetCaptureInfo_v2(
    stream: CUstream,
    status: Out<c_uint>,
    id: Out<u64>,
    graph: Out<CUgraph>,
    nodes: Out<usize>,
    node_count: Out<usize>,
) -> Status {
    call("cuStreamGetCaptureInfo_v2", |d| {
        if !(graph.is_null() && nodes.is_null() && node_count.is_null()) {
            return Status::NOT_SUPPORTED.because("graphs under capture are not shown");
        }
        let stream = d.stream(stream)?;
        d.refuse_implicit(stream)?;
        let (state, number) = capture_status(d, stream)?;
        status.set(state)?;
        id.set_if_wanted(number);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetCaptureInfo_v3(
    stream: CUstream,
    status: Out<c_uint>,
    id: Out<u64>,
    graph: Out<CUgraph>,
    nodes: Out<usize>,
    edges: Out<usize>,
    node_count: Out<usize>,
) -> Status {
    let nodes = if edges.is_null() { nodes } else { edges };
    cuStreamGetCaptureInfo_v2(stream, status, id, graph, nodes, node_count)
}

/// 0 none, 1 active, 2 invalidated; and the capture's number.
fn capture_status(d: &Driver, stream: CUstream) -> Result<(c_uint, u64)> {
    match &d.streams.get(stream)?.capture {
        None => Ok((0, 0)),
        Some(c) => Ok((1 + c_uint::from(d.captures.get(c.capture)?.invalid), c.capture as u64)),
    }
}

/// Sets the thread's mode and gives the old one back.
#[unsafe(no_mangle)]
pub extern "C" fn cuThreadExchangeStreamCaptureMode(mode: Out<c_uint>) -> Status {
    call("cuThreadExchangeStreamCaptureMode", |_| {
        let new = mode.get()?;
        if new > RELAXED {
            return Status::INVALID_VALUE.because(format!("expected a capture mode, found {new}"));
        }
        mode.set(MODE.replace(new))
    })
}
