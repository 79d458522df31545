//! The executor: lowers a checked module to operations on registers of 32 lanes and runs launches.
//!
//! `lower` turns instructions into `Op`s; a `Block` runs them: its `Warp`s say where the lanes are,
//! `integer`, `float`, `compare`, `convert`, `access`, `atomic`, `collective` and so on what an
//! operation does to them.

#![allow(clippy::needless_range_loop, reason = "lanes, rows and columns read best as indices")]

mod access;
mod address;
mod approximate;
mod atomic;
mod banks;
mod barrier;
mod bits;
mod blame;
mod block;
mod call;
mod class;
mod collective;
mod compare;
mod control;
mod convert;
mod copy;
mod count;
pub mod counters;
mod float;
mod grid;
mod half;
mod integer;
mod lanes;
mod latency;
mod lower;
mod matrix;
#[cfg(target_arch = "x86_64")]
mod matrix_f32;
mod mbarrier;
mod modifiers;
mod number;
mod objects;
mod op;
mod order;
mod printf;
mod rounded;
mod schedule;
mod sectors;
mod shared;
mod special;
mod warp;
mod word;
mod words;

use crate::finding::{Findings, Place};
use crate::memory::Memory;
use crate::ptx::{self, ast};
use block::Common;
pub use counters::{Class, Counters, Detail};
use grid::Outcome;
pub use lanes::Level;
pub use lower::coverage;
use op::Op;
use order::Order;
use special::Fixed;

/// What the executor models of a GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// Accumulation of tensor cores; see `arith::mma`.
    pub tensor_core: crate::arith::mma::TensorCore,
    /// Host threads that run blocks; findings and results do not depend on it, unless blocks race.
    pub threads: usize,
    /// Seed of the schedule of blocks, warps and divergent paths.
    pub seed: u64,
    /// Off: no race, initialisation and bounds checks beyond what protects the host.
    pub checks: bool,
    /// Counts more than instructions; see [`Detail`].
    pub counters: bool,
    /// Capacity of the L2 cache that is counted with; the memory's first counted launch decides it.
    pub l2_bytes: u32,
    /// Seed of other results of approximate functions, within their documented error; None: correctly
    /// rounded.
    pub perturb: Option<u64>,
    /// Instructions of a block without progress after which a launch is held to hang; see `exec::grid`. 0:
    /// never.
    pub hang: u64,
}

/// `Machine::hang` unless told otherwise: half a minute or more on a host thread.
pub const HANG: u64 = 1 << 30;

/// One kernel launch.
#[derive(Debug)]
pub struct Launch<'a> {
    pub kernel: &'a Kernel,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// Dynamic shared memory in bytes.
    pub shared_bytes: u32,
    /// The parameter block, laid out as `Kernel::params` says.
    pub params: &'a [u8],
    pub cooperative: bool,
    /// Blocks that the device holds at once, at least 1: so many may wait for each other.
    pub resident: u64,
    /// With programmatic dependencies: the first writer ([`Memory::next_writer`]) of the launches that may
    /// still run when this one starts.
    pub since: Option<u32>,
}

impl Launch<'_> {
    /// Threads of a block.
    pub fn threads(&self) -> u32 {
        self.block.iter().product()
    }
}

/// An entry function, lowered.
#[derive(Debug)]
pub struct Kernel {
    pub name: String,
    /// Offset and bytes of each parameter.
    pub params: Vec<(usize, usize)>,
    pub static_shared_bytes: u32,
    pub local_bytes: u32,
    pub const_bytes: u32,
    /// 32-bit registers a lane, as the register allocation needs them.
    pub registers: u32,
    pub max_threads: u32,
    pub limits: ast::Limits,
    code: Code,
}

/// What the executor needs of a kernel.
#[derive(Debug, Default)]
struct Code {
    /// One per instruction of the body.
    ops: Vec<Op>,
    /// Operands of instructions with many, and targets of indirect branches.
    lists: Vec<Vec<u32>>,
    /// Registers that are filled before a warp starts: what, where, bytes a lane.
    fixed: Vec<(Fixed, u32, u8)>,
    /// Bytes of a warp's register file.
    register_bytes: u32,
    /// The functions that the kernel may call; their instructions follow its own.
    functions: Vec<call::Function>,
    calls: Vec<call::Call>,
    /// Bytes a lane for local variables of the functions; 0 where nothing is called.
    stack_bytes: u32,
    /// Line of the PTX and lines of the source, per instruction.
    lines: Vec<(u32, Vec<String>)>,
    /// For the counters, per instruction.
    kinds: Vec<class::Kind>,
}

impl Kernel {
    /// Local memory of a lane: the kernel's own, then the stack of the functions it calls.
    fn lane_bytes(&self) -> usize {
        (self.local_bytes + self.code.stack_bytes) as usize
    }

    /// Number of an instruction, from its place among the others.
    fn index_of(&self, op: &Op) -> u32 {
        let offset = (&raw const *op as usize).wrapping_sub(self.code.ops.as_ptr() as usize);
        (offset / size_of::<Op>()) as u32
    }

    /// Where an instruction comes from; the thread is the caller's to fill in.
    fn place(&self, index: u32) -> Place {
        let (ptx_line, source) = self.code.lines.get(index as usize).cloned().unwrap_or_default();
        let kernel = self.name.clone();
        Place { kernel, source, ptx_line, block: [0; 3], warp: 0, lane: 0, address: None }
    }

    /// "`what` at file.cu:12 (PTX line 40)".
    fn name_place(&self, index: u32, what: String) -> String {
        let Place { source, ptx_line, .. } = self.place(index);
        let at = source.first().map_or(String::new(), |line| format!("{line}, "));
        format!("{what} in {} at {at}PTX line {ptx_line}", self.name)
    }
}

/// A module on the device: kernels, and module variables at their addresses in `Memory`.
#[derive(Debug)]
pub struct LoadedModule {
    pub kernels: Vec<Kernel>,
    /// Name, address, bytes.
    pub globals: Vec<(String, u64, u64)>,
}

/// Why a launch ended early; sticky for the context.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("illegal address: {0}")]
    IllegalAddress(String),
    #[error("misaligned address: {0}")]
    MisalignedAddress(String),
    #[error("trap: {0}")]
    Trap(String),
    #[error("assertion failed: {0}")]
    Assert(String),
    #[error("launch failed: {0}")]
    LaunchFailure(String),
}

/// Lowers every kernel of a module for the best instructions this machine has; the error names the
/// instruction and its line.
pub fn load(text: &str, memory: &Memory) -> Result<LoadedModule, ptx::Error> {
    let level = Level::available().pop().unwrap_or(Level::Portable);
    load_for(text, memory, level)
}

/// As [`load`], for the given instructions.
pub fn load_for(text: &str, memory: &Memory, level: Level) -> Result<LoadedModule, ptx::Error> {
    lower::module(&ptx::parse(text)?, memory, level)
}

/// Runs one launch to its end.
pub fn launch(
    machine: &Machine,
    memory: &Memory,
    findings: &Findings,
    launch: &Launch<'_>,
) -> Result<Counters, Fault> {
    let kernel = launch.kernel;
    let blocks = launch.grid.iter().map(|&n| u64::from(n)).product();
    let order = &Order::new(memory, blocks, machine.checks, launch.since);
    let common = Common { machine, memory, findings, launch, kernel, order };
    let Outcome { counters, fault, mut printed, tally } = grid::run(common, blocks);
    // Whatever thread ran a block, its output has one place.
    printed.sort_by_key(|(block, _)| *block);
    findings.print(printed.into_iter().map(|(_, text)| text));
    if let Some(fault) = fault {
        return Err(fault);
    }
    let detail = tally.map(|tally| Box::new(tally.detail(launch, machine, memory)));
    Ok(Counters { detail, ..counters })
}
