//! Operations on the device, and what happens when their turn comes.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::abi::{CUcontext, CUevent, CUfunction, CUhostFn, HostPtr};
use super::engine::{Program, Request};
use super::queue::{Completion, Op};
use super::state::{Driver, callback};
use super::status::{Result, Status};
use crate::exec::Fault;
use crate::finding::Kind;
use crate::memory::{BadRange, Home};
use crate::model::Launched;

/// One operation of a stream or a graph's node.
#[derive(Debug, Clone)]
pub enum Work {
    /// Joins what it waits for.
    Marker,
    Kernel(Arc<KernelCall>),
    Copy(Copy),
    Fill(Fill),
    Host(HostCall),
    Record(CUevent),
    /// A stream-ordered allocation takes place.
    Open(u64),
    /// A graph's memory is given up until its next launch.
    Close(u64),
    Free(u64),
}

/// A launch, its parameters copied.
#[derive(Debug, Clone)]
pub struct KernelCall {
    pub function: CUfunction,
    pub program: Arc<dyn Program>,
    pub kernel: usize,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
    pub params: Vec<u8>,
    /// Addresses of each parameter in `params`, for programs that ask a graph's node.
    pub pointers: Vec<usize>,
    pub cooperative: bool,
    /// Programmatic dependencies: it may start before the launch ends that it waits for.
    pub early: bool,
}

#[derive(Debug, Clone)]
pub struct Copy {
    pub from: End,
    pub to: End,
    pub bytes: u64,
}

/// One end of a copy.
#[derive(Debug, Clone)]
pub enum End {
    Device(u64),
    /// Pageable host memory as it was when the copy was asked for.
    Staged(Arc<[u8]>),
    Host(HostPtr),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fill {
    pub to: u64,
    pub pattern: Vec<u8>,
    /// Patterns per row.
    pub width: u64,
    pub height: u64,
    /// Bytes from row to row.
    pub pitch: u64,
}

#[derive(Debug, Clone)]
pub struct HostCall {
    pub function: CUhostFn,
    pub data: usize,
}

/// Modelled microseconds of an operation besides its bytes or instructions. The clock orders events
/// and gives their differences a plausible size; it measures nothing.
const OVERHEAD: f64 = 1.5;
/// Modelled bytes per microsecond between host and device, and within the device.
const HOST_RATE: f64 = 25e3;
const DEVICE_RATE: f64 = 1e6;

impl Driver {
    /// Runs what must happen before the given points.
    pub fn run_until(&mut self, context: CUcontext, points: &[Arc<Completion>]) -> Result {
        let mut needed = self.queue.needed_for(points);
        while let Some(op) = self.queue.take_next(&mut needed) {
            self.perform(op);
        }
        self.healthy(context)
    }

    /// Runs everything that a context has pending.
    pub fn run_context(&mut self, context: CUcontext) -> Result {
        let mut needed = self.queue.of_context(context);
        while let Some(op) = self.queue.take_next(&mut needed) {
            self.perform(op);
        }
        self.healthy(context)
    }

    /// For a query: runs at most one operation on the way to the points, so that polling comes to an
    /// end. `NOT_READY` if there was one.
    pub fn poll(&mut self, context: CUcontext, points: &[Arc<Completion>]) -> Result {
        let mut needed = self.queue.needed_for(points);
        match self.queue.take_next(&mut needed) {
            Some(op) => {
                self.perform(op);
                self.healthy(context)?;
                Err(Status::NOT_READY.into())
            }
            None => self.healthy(context),
        }
    }

    /// After an operation was added: the oldest run once the queue is full, and with a seed a few run at
    /// once, as they would on an idle device.
    pub fn relieve(&mut self) {
        while self.queue.is_full() || (self.queue.len() > 0 && self.queue.toss(16)) {
            let Some(op) = self.queue.take_oldest() else { return };
            self.perform(op);
        }
    }

    fn perform(&mut self, op: Op) {
        let start = op.start();
        let took = match &op.work {
            Work::Marker => Ok(0.0),
            Work::Kernel(kernel) => self.run_kernel(kernel, &op),
            Work::Copy(copy) => self.run_copy(copy, &op.done),
            Work::Fill(fill) => self.run_fill(fill),
            Work::Host(HostCall { function, data }) => {
                if let Some(function) = *function {
                    // SAFETY: the program passed the function together with its argument.
                    callback(|| unsafe { function(*data as *mut _) });
                }
                Ok(OVERHEAD)
            }
            Work::Record(_) => Ok(OVERHEAD / 3.0),
            Work::Open(address) => {
                self.memory.open(*address);
                Ok(OVERHEAD)
            }
            Work::Close(address) => {
                self.memory.close(*address);
                Ok(OVERHEAD)
            }
            Work::Free(address) => {
                self.release(*address, Home::Device, "cuMemFreeAsync");
                Ok(OVERHEAD)
            }
        };
        op.done.finish(start + *took.as_ref().unwrap_or(&0.0));
        if let Err((status, why)) = took {
            self.break_context(op.context, status, why);
        }
    }

    /// A fault: the context answers nothing but this code from now on, and its work is dropped.
    fn break_context(&mut self, context: CUcontext, status: Status, why: String) {
        let name = status.name().map_or("?".into(), |n| n.to_string_lossy());
        self.note(format!("{name}, sticky until the context is destroyed: {why}"));
        if let Ok(context) = self.contexts.get_mut(context) {
            context.broken.get_or_insert(status);
        }
        self.queue.drop_context(context);
    }

    fn run_kernel(&mut self, call: &KernelCall, op: &Op) -> Outcome {
        let (done, next) = (&op.done, self.memory.next_writer());
        // Before Hopper nothing starts early. Only where nothing came between: what other launches write is
        // ordered otherwise.
        let early = call.early && self.options.device.capability.0 >= 9;
        let before = op.writers_before().filter(|&(_, end)| early && end == next);
        let since = before.map(|(first, _)| first);
        let known = self.findings.len();
        let info = &call.program.kernels()[call.kernel];
        let footprint = info.footprint(call.block.iter().product(), call.shared_bytes.into());
        let request = Request {
            kernel: call.kernel,
            grid: call.grid,
            block: call.block,
            shared_bytes: call.shared_bytes,
            params: &call.params,
            cooperative: call.cooperative,
            resident: self.options.device.resident_on_all(footprint).max(1).into(),
            since,
        };
        let machine = self.options.machine();
        // A bug in the executor must not leave the operation half done: others wait for it.
        let result = catch_unwind(AssertUnwindSafe(|| {
            call.program.launch(&machine, &self.memory, &self.findings, &request)
        }))
        .unwrap_or_else(|_| Err(Fault::LaunchFailure("a bug in the simulator, see above".into())));
        let _ = done.writers.set((since.unwrap_or(next), self.memory.next_writer()));
        let mut out = std::io::stdout();
        let printed = self.findings.take_printed().concat();
        // A closed output loses what kernels print, as it does for a GPU.
        let _ = out.write_all(printed.as_bytes()).and_then(|()| out.flush());
        self.blame_pending(known, done);
        let name = &info.name;
        match result {
            Ok(counters) => {
                let device = self.options.device;
                // Four instructions per clock and multiprocessor, at best.
                let rate =
                    f64::from(device.multiprocessors) * 4.0 * f64::from(device.clock_khz) / 1e3;
                let took = OVERHEAD + counters.warp_instructions as f64 / rate;
                let launched = Launched {
                    grid: call.grid,
                    block: call.block,
                    registers: info.capped_registers(),
                    shared_bytes: info.static_shared_bytes + call.shared_bytes,
                };
                let profile = self.report.kernels.entry(name.clone()).or_default();
                profile.count(device, launched, &counters);
                Ok(took)
            }
            Err(fault) => {
                let status = match fault {
                    Fault::IllegalAddress(_) => Status::ILLEGAL_ADDRESS,
                    Fault::MisalignedAddress(_) => Status::MISALIGNED_ADDRESS,
                    Fault::Assert(_) => Status::ASSERT,
                    Fault::Trap(_) | Fault::LaunchFailure(_) => Status::LAUNCH_FAILED,
                };
                Err((status, format!("{name}: {fault}")))
            }
        }
    }

    fn run_copy(&mut self, copy: &Copy, done: &Completion) -> Outcome {
        let bytes = copy.bytes;
        let memory = &self.memory;
        let mut uninitialised = None;
        let checked = match (&copy.from, &copy.to) {
            (&End::Device(from), &End::Device(to)) => memory.copy(from, to, bytes),
            (End::Staged(staged), &End::Device(to)) => memory.write(to, staged),
            // SAFETY: the program promised that the host's memory lives until the copy has happened;
            // where it is pinned, that was checked.
            (&End::Host(from), &End::Device(to)) => self
                .check_host(from, bytes)
                .and_then(|()| unsafe { memory.write_from(to, from.as_ptr(), bytes) }),
            // SAFETY: as above.
            (&End::Device(from), &End::Host(to)) => self
                .check_host(to, bytes)
                .and_then(|()| unsafe { memory.read_into(from, to.as_ptr(), bytes) })
                .map(|first| uninitialised = first.map(|n| from + n)),
            // SAFETY: as above.
            (&End::Host(from), &End::Host(to)) => self
                .check_host(from, bytes)
                .and_then(|()| self.check_host(to, bytes))
                .map(|()| unsafe { std::ptr::copy(from.as_ptr(), to.as_ptr(), bytes as usize) }),
            (_, End::Staged(_)) | (End::Staged(_), End::Host(_)) => {
                unreachable!("staging is on the way to the device")
            }
        };
        if let Some(address) = uninitialised {
            let what = memory.describe(address, 1);
            let why = self.pending_writer(address, done);
            let message =
                format!("a copy to the host reads bytes never written, first {what}{why}");
            self.find(Kind::UninitialisedRead, message);
        }
        checked.map_err(|bad| self.bad_range("a copy", bad))?;
        let on_device = matches!((&copy.from, &copy.to), (End::Device(_), End::Device(_)));
        Ok(OVERHEAD + bytes as f64 / if on_device { DEVICE_RATE } else { HOST_RATE })
    }

    fn run_fill(&mut self, fill: &Fill) -> Outcome {
        for row in 0..fill.height {
            self.memory
                .fill(fill.to + row * fill.pitch, &fill.pattern, fill.width)
                .map_err(|bad| self.bad_range("a memset", bad))?;
        }
        let bytes = fill.width * fill.height * fill.pattern.len() as u64;
        Ok(OVERHEAD + bytes as f64 / DEVICE_RATE)
    }

    /// Pinned memory must still be there when the copy happens; of other memory nothing is known.
    fn check_host(&self, at: HostPtr, bytes: u64) -> std::result::Result<(), BadRange> {
        let at = at.0 as u64;
        if self.memory.contains(at, 1) { self.memory.check(at, bytes) } else { Ok(()) }
    }

    /// The range was right when the operation was asked for: it was freed, or not yet allocated, when
    /// its turn came.
    fn bad_range(&self, what: &str, bad: BadRange) -> (Status, String) {
        let kind = if bad.freed { Kind::UseAfterFree } else { Kind::OutOfBounds };
        let message = format!("{what} in a stream: {bad}");
        self.find(kind, message.clone());
        (Status::ILLEGAL_ADDRESS, message)
    }
}

/// Modelled microseconds, or the sticky error and why.
type Outcome = std::result::Result<f64, (Status, String)>;
