//! Events. Their times come from the modelled clock of [`super::work`]: differences are never measured.

use std::ffi::c_uint;
use std::sync::Arc;

use super::abi::{CUcontext, CUevent, CUstream, Out};
use super::queue::Completion;
use super::state::{Driver, call};
use super::status::{Result, Status};
use super::stream::Captured;
use super::work::Work;

/// An event.
#[derive(Debug)]
pub struct Event {
    pub context: CUcontext,
    pub has_time: bool,
    pub recorded: Recorded,
}

/// Where it was last recorded.
#[derive(Debug, Clone)]
pub enum Recorded {
    Never,
    Done(Arc<Completion>),
    /// In a stream under capture: a place in the graph, not a point in time.
    Captured(Captured),
}

/// Blocking synchronisation, no timing, between processes.
const BLOCKING: c_uint = 1;
const NO_TIME: c_uint = 2;
const SHARED: c_uint = 4;
const EXTERNAL: c_uint = 1;

impl Driver {
    pub fn event(&self, event: CUevent) -> Result<&Event> {
        let event = self.events.get(event)?;
        self.healthy(event.context)?;
        Ok(event)
    }

    /// The point of an event outside any capture; none if it was never recorded.
    fn event_point(&mut self, event: CUevent, name: &str) -> Result<Option<Arc<Completion>>> {
        match self.event(event)?.recorded.clone() {
            Recorded::Never => Ok(None),
            Recorded::Done(point) => Ok(Some(point)),
            Recorded::Captured(captured) => {
                self.invalidate(captured.capture);
                Status::CAPTURED_EVENT.because(format!("{name} on an event recorded in a capture"))
            }
        }
    }

    fn record(&mut self, event: CUevent, stream: CUstream, flags: c_uint) -> Result {
        let stream = self.stream(stream)?;
        let context = self.event(event)?.context;
        if context != self.streams.get(stream)?.context {
            return Status::INVALID_HANDLE.because("event and stream belong to different contexts");
        }
        if flags & !EXTERNAL != 0 {
            return Status::INVALID_VALUE.because(format!("unknown flags of a record {flags:#x}"));
        }
        let capture = self.streams.get(stream)?.capture.clone();
        let recorded = match capture {
            Some(captured) if flags & EXTERNAL == 0 => {
                self.check_capture(captured.capture)?;
                Recorded::Captured(captured)
            }
            Some(_) => return self.enqueue(stream, Work::Record(event)),
            None => match self.enqueue_after(stream, Work::Record(event), Vec::new())? {
                Some(point) => Recorded::Done(point),
                None => return Ok(()),
            },
        };
        self.events.get_mut(event)?.recorded = recorded;
        Ok(())
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventCreate(out: Out<CUevent>, flags: c_uint) -> Status {
    call("cuEventCreate", |d| {
        let context = d.current()?;
        out.required()?;
        if flags & !(BLOCKING | NO_TIME | SHARED) != 0 || flags & (SHARED | NO_TIME) == SHARED {
            return Status::INVALID_VALUE.because(format!(
                "event flags {flags:#x}: expected 1 (blocking), 2 (no timing), 4 (shared, with 2)"
            ));
        }
        if flags & SHARED != 0 {
            return Status::NOT_SUPPORTED.because("events between processes are not simulated");
        }
        let has_time = flags & NO_TIME == 0;
        out.set(d.events.add(Event { context, has_time, recorded: Recorded::Never }))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventDestroy_v2(event: CUevent) -> Status {
    call("cuEventDestroy_v2", |d| d.events.remove(event).map(|_| ()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecord(event: CUevent, stream: CUstream) -> Status {
    call("cuEventRecord", |d| d.record(event, stream, 0))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecordWithFlags(
    event: CUevent,
    stream: CUstream,
    flags: c_uint,
) -> Status {
    call("cuEventRecordWithFlags", |d| d.record(event, stream, flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventSynchronize(event: CUevent) -> Status {
    call("cuEventSynchronize", |d| {
        let point = d.event_point(event, "cuEventSynchronize")?;
        d.refuse_unsafe("cuEventSynchronize")?;
        let context = d.events.get(event)?.context;
        d.run_until(context, point.as_slice())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventQuery(event: CUevent) -> Status {
    call("cuEventQuery", |d| {
        let point = d.event_point(event, "cuEventQuery")?;
        d.refuse_unsafe("cuEventQuery")?;
        let context = d.events.get(event)?.context;
        d.poll(context, point.as_slice())
    })
}

/// Milliseconds on the modelled clock between two events that have happened.
#[unsafe(no_mangle)]
pub extern "C" fn cuEventElapsedTime_v2(out: Out<f32>, start: CUevent, end: CUevent) -> Status {
    call("cuEventElapsedTime_v2", |d| {
        out.required()?;
        let mut times = [0.0; 2];
        for (time, event) in times.iter_mut().zip([start, end]) {
            let Some(point) = d.event_point(event, "cuEventElapsedTime")? else {
                return Status::INVALID_HANDLE.because("the event was never recorded");
            };
            if !d.events.get(event)?.has_time {
                return Status::INVALID_HANDLE
                    .because("the event was created with CU_EVENT_DISABLE_TIMING");
            }
            let Some(at) = point.end() else { return Err(Status::NOT_READY.into()) };
            *time = at;
        }
        out.set(((times[1] - times[0]) / 1e3) as f32)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventElapsedTime(out: Out<f32>, start: CUevent, end: CUevent) -> Status {
    cuEventElapsedTime_v2(out, start, end)
}
