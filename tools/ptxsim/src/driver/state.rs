//! The driver's state, behind one lock, and the way into it from C.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard};

use super::abi::{CUcontext, CUmemoryPool};
use super::capture::Capture;
use super::context::Context;
use super::engine::{Engine, Executor};
use super::event::Event;
use super::graph::{Graph, GraphExec};
use super::module::{Function, Module};
use super::options::Options;
use super::pool::Pool;
use super::queue::Queue;
use super::report::{self, Report};
use super::status::{Failure, Result, Status};
use super::stream::Stream;
use super::table::Table;
use crate::finding::{Finding, Findings, Kind};
use crate::memory::{Memory, MemoryError};

static DRIVER: Mutex<Option<Driver>> = Mutex::new(None);

/// A program that goes on after errors may make more; the first ones tell.
const MOST_NOTES: usize = 200;

thread_local! {
    /// Set while a host function of the program runs inside the driver.
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// The state of an initialised driver.
pub struct Driver {
    pub options: Options,
    pub engine: Box<dyn Engine>,
    pub memory: Memory,
    pub findings: Findings,
    pub contexts: Table<Context>,
    pub primary: Primary,
    pub streams: Table<Stream>,
    pub events: Table<Event>,
    pub modules: Table<Module>,
    pub functions: Table<Function>,
    pub graphs: Table<Graph>,
    pub execs: Table<GraphExec>,
    pub captures: Table<Capture>,
    pub pools: Table<Pool>,
    pub default_pool: CUmemoryPool,
    pub current_pool: CUmemoryPool,
    /// Whose the allocations are, by address.
    pub owners: BTreeMap<u64, Owner>,
    pub queue: Queue,
    pub report: Report,
}

/// The device's primary context.
#[derive(Debug, Default)]
pub struct Primary {
    pub context: Option<CUcontext>,
    pub users: u32,
    pub flags: u32,
}

/// What is known of an allocation besides its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub context: CUcontext,
    pub bytes: u64,
    pub pool: Option<CUmemoryPool>,
    pub graph: GraphUse,
    /// A stream-ordered free is on its way.
    pub freeing: bool,
}

/// How a graph uses an allocation: its memory is kept from launch to launch, between which the program
/// may have it or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GraphUse {
    No,
    /// Freed, or not launched yet.
    Idle,
    /// Allocated by the last launch.
    Live,
}

impl Driver {
    pub fn new(
        options: Options,
        engine: Box<dyn Engine>,
    ) -> std::result::Result<Self, MemoryError> {
        let memory = Memory::new(options.memory_bytes)?;
        let mut pools = Table::new("memory pool");
        let default_pool = pools.add(Pool::default());
        Ok(Self {
            memory,
            engine,
            findings: Findings::default(),
            contexts: Table::new("context"),
            primary: Primary::default(),
            streams: Table::new("stream"),
            events: Table::new("event"),
            modules: Table::new("module"),
            functions: Table::new("function"),
            graphs: Table::new("graph"),
            execs: Table::new("executable graph"),
            captures: Table::new("capture"),
            pools,
            default_pool,
            current_pool: default_pool,
            owners: BTreeMap::new(),
            queue: Queue::new(options.seed),
            report: Report::default(),
            options,
        })
    }

    /// Adds a finding of one of the host's calls.
    pub fn find(&self, kind: Kind, message: impl Into<String>) {
        self.findings.add(Finding::of_host(kind, message.into()));
    }

    /// An explanation for the program's author: on standard error and in the report, once each.
    pub fn note(&mut self, text: String) {
        if self.report.notes.len() >= MOST_NOTES || self.report.notes.contains(&text) {
            return;
        }
        if !self.options.quiet {
            eprintln!("ptxsim: {text}");
        }
        self.report.notes.push(text);
    }

    fn explain(&mut self, name: &str, result: &Result) {
        if let Err(Failure { status, why }) = result
            && !why.is_empty()
        {
            let code = status.name().map_or("?".into(), |n| n.to_string_lossy());
            self.note(format!("{name}: {code}: {why}"));
        }
    }
}

/// Replaces the driver by a fresh one, as if the process had just called `cuInit`: for tests, which
/// bring their own engine or a small memory. Handles of the old one are unknown to the new.
pub fn start(options: Options, engine: Box<dyn Engine>) {
    let fresh = Driver::new(options, engine).expect("address space for the simulated memory");
    *driver() = Some(fresh);
}

/// What was found since [`start`] or `cuInit`.
pub fn findings() -> Vec<Finding> {
    driver().as_ref().map_or_else(Vec::new, |d| d.findings.list())
}

/// Adds the leaks of the present moment to the findings, as the end of the process would.
pub fn find_leaks() {
    if let Some(driver) = driver().as_mut() {
        report::find_leaks(driver);
    }
}

/// The emulated driver's version, before and after `cuInit`.
pub(super) fn driver_version() -> i32 {
    if let Some(driver) = driver().as_ref() {
        return driver.options.driver_version;
    }
    Options::from_environment().unwrap_or_default().driver_version
}

/// `cuInit`.
pub(super) fn initialise() -> Result {
    let mut slot = driver();
    if slot.is_some() {
        return Ok(());
    }
    let options = match Options::from_environment() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("ptxsim: {why}");
            return Status::INVALID_VALUE.because(why);
        }
    };
    match Driver::new(options, Box::new(Executor)) {
        Ok(fresh) => *slot = Some(fresh),
        Err(e) => {
            eprintln!("ptxsim: {e}");
            return Status::OUT_OF_MEMORY.because(e.to_string());
        }
    }
    report::at_exit();
    Ok(())
}

/// A call that needs an initialised driver.
pub(super) fn call(name: &str, f: impl FnOnce(&mut Driver) -> Result) -> Status {
    free_call(name, || {
        let mut slot = driver();
        let Some(driver) = slot.as_mut() else {
            return Status::NOT_INITIALIZED.because("cuInit was not called");
        };
        let result = f(driver);
        driver.explain(name, &result);
        if driver.options.strict && !driver.findings.is_empty() {
            report::end_process(driver);
        }
        result
    })
}

/// A call that needs none. No panic of ours reaches the program.
pub(super) fn free_call(name: &str, f: impl FnOnce() -> Result) -> Status {
    if IN_CALLBACK.get() {
        eprintln!(
            "ptxsim: {name}: called from a host function of a stream, which may not call CUDA"
        );
        return Status::NOT_PERMITTED;
    }
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(())) => Status::SUCCESS,
        Ok(Err(failure)) => failure.status,
        Err(_) => {
            eprintln!("ptxsim: {name}: a bug in the simulator, see the panic above");
            Status::UNKNOWN
        }
    }
}

/// Runs a host function of the program, which may not call back.
pub(super) fn callback(f: impl FnOnce()) {
    IN_CALLBACK.set(true);
    f();
    IN_CALLBACK.set(false);
}

/// The state, if nobody holds it: for the end of the process, when threads may have died with it.
pub(super) fn try_driver() -> Option<MutexGuard<'static, Option<Driver>>> {
    match DRIVER.try_lock() {
        Ok(guard) => Some(guard),
        Err(std::sync::TryLockError::Poisoned(e)) => Some(e.into_inner()),
        Err(std::sync::TryLockError::WouldBlock) => None,
    }
}

fn driver() -> MutexGuard<'static, Option<Driver>> {
    DRIVER.lock().unwrap_or_else(|e| e.into_inner())
}
