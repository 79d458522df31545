//! The seam to the executor. The driver asks an [`Engine`] to load modules and their [`Program`]s to run
//! kernels; [`Executor`] is the engine of the library, tests of the driver bring small ones of their own.

use std::sync::Arc;

use crate::device::{REGISTERS_PER_MULTIPROCESSOR, THREADS_PER_BLOCK, WARP};
use crate::exec::{self, Counters, Fault, LoadedModule, Machine};
use crate::finding::Findings;
use crate::memory::Memory;
use crate::ptx;

/// Loads modules.
pub trait Engine: Send {
    /// Loads PTX; module variables are allocated in `memory` as [`crate::memory::Home::Module`].
    fn load(&self, text: &str, memory: &Memory) -> Result<Arc<dyn Program>, ptx::Error>;
}

/// A loaded module.
pub trait Program: Send + Sync + std::fmt::Debug {
    fn kernels(&self) -> &[KernelInfo];
    /// Name, address, bytes.
    fn globals(&self) -> &[(String, u64, u64)];
    fn launch(
        &self,
        machine: &Machine,
        memory: &Memory,
        findings: &Findings,
        request: &Request<'_>,
    ) -> Result<Counters, Fault>;
}

/// What the driver knows of a kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelInfo {
    pub name: String,
    /// Offset and bytes of each parameter.
    pub params: Vec<(usize, usize)>,
    pub static_shared_bytes: u32,
    pub local_bytes: u32,
    pub const_bytes: u32,
    pub registers: u32,
    /// Most threads of a block, by the kernel's own limits and registers.
    pub max_threads: u32,
    pub limits: ptx::ast::Limits,
}

impl KernelInfo {
    /// Bytes of the parameter block.
    pub fn param_bytes(&self) -> usize {
        self.params.iter().map(|&(offset, bytes)| offset + bytes).max().unwrap_or(0)
    }
}

/// One launch of a program's kernel.
#[derive(Debug)]
pub struct Request<'a> {
    /// Index into [`Program::kernels`].
    pub kernel: usize,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
    pub params: &'a [u8],
    pub cooperative: bool,
    /// Blocks that the device holds at once.
    pub resident: u64,
    /// With programmatic dependencies: the first writer of the launches that may still run.
    pub since: Option<u32>,
}

/// The PTX executor.
#[derive(Debug, Clone, Copy, Default)]
pub struct Executor;

#[derive(Debug)]
struct Loaded {
    module: LoadedModule,
    kernels: Vec<KernelInfo>,
}

impl Engine for Executor {
    fn load(&self, text: &str, memory: &Memory) -> Result<Arc<dyn Program>, ptx::Error> {
        let module = exec::load(text, memory)?;
        let kernels = module.kernels.iter().map(info).collect();
        Ok(Arc::new(Loaded { module, kernels }))
    }
}

fn info(kernel: &exec::Kernel) -> KernelInfo {
    KernelInfo {
        name: kernel.name.clone(),
        params: kernel.params.clone(),
        static_shared_bytes: kernel.static_shared_bytes,
        local_bytes: kernel.local_bytes,
        const_bytes: kernel.const_bytes,
        registers: kernel.registers.min(most_registers(kernel.max_threads)),
        max_threads: kernel.max_threads,
        limits: kernel.limits,
    }
}

/// Registers with which a block of as many threads as the kernel allows still fits. What the executor counts
/// is of text that no assembler has scheduled: on such a guess alone no launch may fail.
fn most_registers(max_threads: u32) -> u32 {
    let warps = if max_threads == 0 { THREADS_PER_BLOCK } else { max_threads }.div_ceil(WARP);
    (REGISTERS_PER_MULTIPROCESSOR / WARP / warps) & !7
}

impl Program for Loaded {
    fn kernels(&self) -> &[KernelInfo] {
        &self.kernels
    }

    fn globals(&self) -> &[(String, u64, u64)] {
        &self.module.globals
    }

    fn launch(
        &self,
        machine: &Machine,
        memory: &Memory,
        findings: &Findings,
        request: &Request<'_>,
    ) -> Result<Counters, Fault> {
        let launch = exec::Launch {
            kernel: &self.module.kernels[request.kernel],
            grid: request.grid,
            block: request.block,
            shared_bytes: request.shared_bytes,
            params: request.params,
            cooperative: request.cooperative,
            resident: request.resident,
            since: request.since,
        };
        exec::launch(machine, memory, findings, &launch)
    }
}
