//! The executor: lowers a checked module to operations on registers of 32 lanes and runs launches.

use crate::finding::Findings;
use crate::memory::Memory;

/// What the executor models of a GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// Accumulation of tensor cores; see `arith::mma`.
    pub tensor_core: crate::arith::mma::TensorCore,
    /// Host threads that run blocks; findings and results do not depend on it.
    pub threads: usize,
    /// Seed of the schedule of blocks, warps and divergent paths.
    pub seed: u64,
    /// Off: no race, initialisation and bounds checks beyond what protects the host.
    pub checks: bool,
}

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
    pub limits: crate::ptx::ast::Limits,
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
    #[error("launch failed: {0}")]
    LaunchFailure(String),
}

/// Lowers every function of the module; the error names the instruction and its line.
pub fn load(text: &str, memory: &Memory) -> Result<LoadedModule, crate::ptx::Error> {
    todo!()
}

/// Runs one launch to its end.
pub fn launch(
    machine: &Machine,
    memory: &Memory,
    findings: &Findings,
    launch: &Launch<'_>,
) -> Result<Counters, Fault> {
    todo!()
}

/// What a launch did. Sums over warps unless said otherwise.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counters {
    pub warp_instructions: u64,
    pub thread_instructions: u64,
}
