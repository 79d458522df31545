//! Streams: what an operation waits for, and waiting for streams.

use std::ffi::{c_int, c_uint, c_ulonglong, c_void};
use std::sync::Arc;

use super::abi::{CUcontext, CUdevice, CUevent, CUhostFn, CUstream, Out};
use super::context::PRIORITIES;
use super::event::Recorded;
use super::queue::Completion;
use super::state::{Driver, call};
use super::status::{Result, Status};
use super::work::{HostCall, Work};

/// A stream.
#[derive(Debug)]
pub struct Stream {
    pub context: CUcontext,
    pub kind: StreamKind,
    pub priority: c_int,
    /// Its last operation.
    pub tail: Option<Arc<Completion>>,
    pub capture: Option<Captured>,
}

/// How a stream stands to the context's default stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// The default stream: waits for all blocking ones, and they for it.
    Legacy,
    Blocking,
    NonBlocking,
}

/// A stream's place in a capture: the nodes that its next one depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    pub capture: usize,
    pub after: Vec<usize>,
}

const LEGACY: CUstream = 1;
const PER_THREAD: CUstream = 2;
const NON_BLOCKING: c_uint = 1;

impl Stream {
    pub fn new(context: CUcontext, kind: StreamKind, priority: c_int) -> Self {
        Self { context, kind, priority, tail: None, capture: None }
    }
}

impl Driver {
    /// The stream that a handle means: default streams have fixed ones. Refuses broken contexts.
    pub fn stream(&mut self, handle: CUstream) -> Result<CUstream> {
        match handle {
            0 | LEGACY => Ok(self.contexts.get(self.current()?)?.legacy),
            PER_THREAD => {
                let context = self.current()?;
                let thread = std::thread::current().id();
                if let Some(&stream) = self.contexts.get(context)?.per_thread.get(&thread) {
                    return Ok(stream);
                }
                let stream = self.streams.add(Stream::new(context, StreamKind::Blocking, 0));
                self.contexts.get_mut(context)?.per_thread.insert(thread, stream);
                Ok(stream)
            }
            _ => {
                let context = self.streams.get(handle)?.context;
                self.current()?;
                self.healthy(context)?;
                Ok(handle)
            }
        }
    }

    /// Adds an operation to a stream, or a node to the graph that it is captured into.
    pub fn enqueue(&mut self, stream: CUstream, work: Work) -> Result {
        self.enqueue_after(stream, work, Vec::new()).map(|_| ())
    }

    /// As `enqueue`, behind other points as well; returns the operation's own unless it was captured.
    pub fn enqueue_after(
        &mut self,
        stream: CUstream,
        work: Work,
        mut after: Vec<Arc<Completion>>,
    ) -> Result<Option<Arc<Completion>>> {
        if self.streams.get(stream)?.capture.is_some() {
            self.capture_work(stream, work)?;
            return Ok(None);
        }
        self.refuse_implicit(stream)?;
        after.extend(self.points(stream)?);
        let context = self.streams.get(stream)?.context;
        let done = self.queue.push(context, work, after);
        self.streams.get_mut(stream)?.tail = Some(done.clone());
        if self.streams.get(stream)?.kind == StreamKind::Legacy {
            self.contexts.get_mut(context)?.orphans.clear();
        }
        self.relieve();
        Ok(Some(done))
    }

    /// What an operation added to the stream now would wait for.
    pub fn points(&self, stream: CUstream) -> Result<Vec<Arc<Completion>>> {
        let stream = self.streams.get(stream)?;
        let context = self.contexts.get(stream.context)?;
        let mut points: Vec<_> = stream.tail.iter().cloned().collect();
        match stream.kind {
            StreamKind::Legacy => {
                let blocking = self
                    .streams
                    .iter()
                    .filter(|(_, s)| s.context == stream.context && s.kind == StreamKind::Blocking);
                points.extend(blocking.filter_map(|(_, s)| s.tail.clone()));
                points.extend(context.orphans.iter().cloned());
            }
            StreamKind::Blocking => {
                points.extend(self.streams.get(context.legacy)?.tail.clone());
            }
            StreamKind::NonBlocking => {}
        }
        Ok(points)
    }

    /// Runs a stream to its end.
    pub fn synchronize(&mut self, stream: CUstream) -> Result {
        let context = self.streams.get(stream)?.context;
        let ends = self.ends(stream)?;
        self.run_until(context, &ends)
    }

    /// The points that waiting for a stream means; the default stream stands for the blocking ones too.
    fn ends(&self, stream: CUstream) -> Result<Vec<Arc<Completion>>> {
        let Stream { kind, tail, .. } = self.streams.get(stream)?;
        if *kind == StreamKind::Legacy {
            return self.points(stream);
        }
        Ok(tail.iter().cloned().collect())
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamCreate(out: Out<CUstream>, flags: c_uint) -> Status {
    call("cuStreamCreate", |d| create(d, out, flags, 0))
}

/// A priority out of range is brought into it, as documented.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamCreateWithPriority(
    out: Out<CUstream>,
    flags: c_uint,
    priority: c_int,
) -> Status {
    call("cuStreamCreateWithPriority", |d| create(d, out, flags, priority))
}

fn create(d: &mut Driver, out: Out<CUstream>, flags: c_uint, priority: c_int) -> Result {
    let context = d.current()?;
    out.required()?;
    let kind = match flags {
        0 => StreamKind::Blocking,
        NON_BLOCKING => StreamKind::NonBlocking,
        _ => return Status::INVALID_VALUE.because(format!("unknown stream flags {flags:#x}")),
    };
    let priority = priority.clamp(PRIORITIES.1, PRIORITIES.0);
    out.set(d.streams.add(Stream::new(context, kind, priority)))
}

/// Its work goes on; only the handle ends.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamDestroy_v2(stream: CUstream) -> Status {
    call("cuStreamDestroy_v2", |d| {
        if stream <= PER_THREAD {
            return Status::INVALID_HANDLE.because("default streams cannot be destroyed");
        }
        d.streams.get(stream)?;
        if let Some(captured) = d.streams.get(stream)?.capture.clone() {
            d.invalidate(captured.capture);
        }
        let gone = d.streams.remove(stream)?;
        if gone.kind == StreamKind::Blocking
            && let Ok(context) = d.contexts.get_mut(gone.context)
        {
            context.orphans.extend(gone.tail.filter(|t| t.end().is_none()));
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSynchronize(stream: CUstream) -> Status {
    call("cuStreamSynchronize", |d| {
        let stream = d.stream(stream)?;
        d.refuse_capturing(stream, "cuStreamSynchronize")?;
        d.refuse_unsafe("cuStreamSynchronize")?;
        d.synchronize(stream)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamQuery(stream: CUstream) -> Status {
    call("cuStreamQuery", |d| {
        let stream = d.stream(stream)?;
        d.refuse_capturing(stream, "cuStreamQuery")?;
        d.refuse_unsafe("cuStreamQuery")?;
        let context = d.streams.get(stream)?.context;
        let ends = d.ends(stream)?;
        d.poll(context, &ends)
    })
}

/// The stream's next operations wait for the event as it is recorded now.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitEvent(stream: CUstream, event: CUevent, flags: c_uint) -> Status {
    call("cuStreamWaitEvent", |d| {
        let stream = d.stream(stream)?;
        if flags > 1 {
            return Status::INVALID_VALUE.because(format!("unknown flags of a wait {flags:#x}"));
        }
        match d.events.get(event)?.recorded.clone() {
            Recorded::Never => Ok(()),
            Recorded::Captured(captured) => d.join_capture(stream, &captured),
            Recorded::Done(point) => {
                if d.streams.get(stream)?.capture.is_some() {
                    return d.refuse_outside_event(stream);
                }
                d.enqueue_after(stream, Work::Marker, vec![point]).map(|_| ())
            }
        }
    })
}

/// A host function in its turn; it may not call CUDA.
#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchHostFunc(
    stream: CUstream,
    function: CUhostFn,
    data: *mut c_void,
) -> Status {
    call("cuLaunchHostFunc", |d| {
        let stream = d.stream(stream)?;
        if function.is_none() {
            return Status::INVALID_VALUE.because("a null host function");
        }
        d.enqueue(stream, Work::Host(HostCall { function, data: data as usize }))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetFlags(stream: CUstream, out: Out<c_uint>) -> Status {
    call("cuStreamGetFlags", |d| {
        let stream = d.stream(stream)?;
        out.set((d.streams.get(stream)?.kind == StreamKind::NonBlocking).into())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetPriority(stream: CUstream, out: Out<c_int>) -> Status {
    call("cuStreamGetPriority", |d| {
        let stream = d.stream(stream)?;
        out.set(d.streams.get(stream)?.priority)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetId(stream: CUstream, out: Out<c_ulonglong>) -> Status {
    call("cuStreamGetId", |d| out.set(d.stream(stream)? as u64))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetCtx(stream: CUstream, out: Out<CUcontext>) -> Status {
    call("cuStreamGetCtx", |d| {
        let stream = d.stream(stream)?;
        out.set(d.streams.get(stream)?.context)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetDevice(stream: CUstream, out: Out<CUdevice>) -> Status {
    call("cuStreamGetDevice", |d| {
        d.stream(stream)?;
        out.set(0)
    })
}
