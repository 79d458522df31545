//! Launches: every limit that a real driver checks, with the reason in words.

use std::ffi::{c_uint, c_void};
use std::sync::Arc;

use super::abi::{CUfunction, CUstream, In, LaunchAttribute, LaunchConfig};
use super::engine::KernelInfo;
use super::state::{Driver, call};
use super::status::{Result, Status};
use super::work::{KernelCall, Work};
use crate::device::{
    BLOCK_LIMITS, Footprint, GRID_LIMITS, REGISTERS_PER_MULTIPROCESSOR, REGISTERS_PER_THREAD,
    THREADS_PER_BLOCK, WARP,
};
use crate::finding::Kind;

/// What a launch asks for.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
    pub cooperative: bool,
    /// Programmatic dependencies: it may start before the launch ends that it waits for.
    pub early: bool,
}

/// Where a launch's parameters lie: `kernelParams` or `extra`, as the program gave them.
#[derive(Debug, Clone, Copy)]
pub struct Params {
    pub each: In<usize>,
    pub extra: In<usize>,
}

/// `CU_LAUNCH_PARAM_…` in the list of extras.
const EXTRA_END: usize = 0;
const EXTRA_BUFFER: usize = 1;
const EXTRA_BYTES: usize = 2;

impl KernelInfo {
    /// Registers of a thread, as machine code could have them.
    pub fn capped_registers(&self) -> u32 {
        self.registers.min(REGISTERS_PER_THREAD)
    }

    pub fn footprint(&self, threads: u32, dynamic_shared: u64) -> Footprint {
        Footprint {
            threads,
            registers: self.capped_registers(),
            shared_bytes: u64::from(self.static_shared_bytes) + dynamic_shared,
        }
    }
}

impl Driver {
    /// Threads of the largest block that a kernel can run with.
    pub fn most_threads(&self, kernel: &KernelInfo) -> u32 {
        let per_warp = (kernel.capped_registers().max(1) * WARP).next_multiple_of(256);
        let by_registers = REGISTERS_PER_MULTIPROCESSOR / per_warp * WARP;
        let own = if kernel.max_threads == 0 { THREADS_PER_BLOCK } else { kernel.max_threads };
        own.min(THREADS_PER_BLOCK).min(by_registers)
    }

    /// Checks a launch and copies its parameters. A refusal is a finding too: programs are known to
    /// ignore the code.
    pub fn prepare(
        &self,
        function: CUfunction,
        shape: Shape,
        params: Params,
    ) -> Result<KernelCall> {
        let f = self.functions.get(function)?;
        self.healthy(f.context)?;
        let info = f.info();
        let checked = self
            .check_shape(info, f.max_dynamic_shared, shape)
            .and_then(|()| copy_params(info, params));
        let params = checked.inspect_err(|e| {
            let message = format!("launch of {} refused: {}", info.name, e.why);
            self.find(Kind::BadLaunch, message);
        })?;
        let Shape { grid, block, shared_bytes, cooperative, early } = shape;
        let pointers =
            info.params.iter().map(|&(offset, _)| params.as_ptr() as usize + offset).collect();
        Ok(KernelCall {
            function,
            program: f.program.clone(),
            kernel: f.kernel,
            grid,
            block,
            shared_bytes,
            params,
            pointers,
            cooperative,
            early,
        })
    }

    fn check_shape(&self, info: &KernelInfo, max_dynamic: u32, shape: Shape) -> Result {
        let Shape { grid, block, shared_bytes, cooperative, .. } = shape;
        for (what, size, limits) in [("grid", grid, GRID_LIMITS), ("block", block, BLOCK_LIMITS)] {
            if size.iter().zip(limits).any(|(&n, most)| n == 0 || n > most) {
                return Status::INVALID_VALUE
                    .because(format!("a {what} of {size:?}; each is 1 to {limits:?}"));
            }
        }
        let threads = block.iter().map(|&n| u64::from(n)).product::<u64>();
        if threads > u64::from(THREADS_PER_BLOCK) {
            return Status::INVALID_VALUE
                .because(format!("{threads} threads in a block; at most {THREADS_PER_BLOCK}"));
        }
        let threads = threads as u32;
        if let Some(required) = info.limits.required_threads
            && required != block
        {
            return Status::INVALID_VALUE.because(format!(
                "a block of {block:?}; the kernel requires {required:?} (.reqntid)"
            ));
        }
        if info.limits.cluster.is_some_and(|c| c != [1; 3]) {
            return Status::NOT_SUPPORTED
                .because("the kernel requires a cluster; clusters are not simulated");
        }
        let most = self.most_threads(info);
        if info.max_threads != 0 && threads > info.max_threads {
            return Status::INVALID_VALUE.because(format!(
                "{threads} threads in a block; the kernel allows {} (.maxntid)",
                info.max_threads
            ));
        }
        if threads > most {
            return Status::LAUNCH_OUT_OF_RESOURCES.because(format!(
                "{threads} threads of {} registers; a block of this kernel has at most {most} threads",
                info.capped_registers()
            ));
        }
        if shared_bytes > max_dynamic {
            return Status::INVALID_VALUE.because(format!(
                "{shared_bytes} bytes of dynamic shared memory; {max_dynamic} are allowed. Raise \
                 CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES first, to at most {}",
                self.options.device.shared_per_block_optin - info.static_shared_bytes
            ));
        }
        let blocks = grid.iter().map(|&n| u128::from(n)).product::<u128>();
        let device = self.options.device;
        let footprint = info.footprint(threads, u64::from(shared_bytes));
        let resident = device.resident_on_all(footprint);
        if cooperative && blocks > u128::from(resident) {
            return Status::COOPERATIVE_LAUNCH_TOO_LARGE.because(format!(
                "{blocks} blocks in a cooperative launch; {resident} are resident at once"
            ));
        }
        Ok(())
    }

    fn launch(
        &mut self,
        function: CUfunction,
        shape: Shape,
        stream: CUstream,
        params: Params,
    ) -> Result {
        self.current()?;
        let call = self.prepare(function, shape, params)?;
        let stream = self.stream(stream)?;
        if self.functions.get(function)?.context != self.streams.get(stream)?.context {
            return Status::INVALID_HANDLE
                .because("kernel and stream belong to different contexts");
        }
        self.enqueue(stream, Work::Kernel(Arc::new(call)))
    }
}

/// The parameter block, from pointers to each parameter or from one buffer.
fn copy_params(info: &KernelInfo, params: Params) -> Result<Vec<u8>> {
    let whole = info.param_bytes();
    let mut block = vec![0; whole];
    match (params.each.is_null(), params.extra.is_null()) {
        (false, false) => {
            return Status::INVALID_VALUE.because("both kernelParams and extra; give one of them");
        }
        (true, true) if !info.params.is_empty() => {
            return Status::INVALID_VALUE.because(format!(
                "neither kernelParams nor extra; the kernel takes {} parameters",
                info.params.len()
            ));
        }
        (true, false) => {
            let (buffer, bytes) = read_extra(params.extra)?;
            // The buffer may be padded to the alignment of its parameters.
            if bytes < whole || bytes > whole.next_multiple_of(16) {
                return Status::INVALID_VALUE.because(format!(
                    "a parameter buffer of {bytes} bytes; the kernel's parameters take {whole}"
                ));
            }
            block.copy_from_slice(&buffer.list(whole)?);
        }
        _ => {
            let pointers = params.each.list(info.params.len())?;
            for (n, (pointer, &(offset, bytes))) in pointers.iter().zip(&info.params).enumerate() {
                if *pointer == 0 {
                    return Status::INVALID_VALUE.because(format!(
                        "parameter {n} of {} is a null pointer",
                        info.params.len()
                    ));
                }
                // SAFETY: `kernelParams` points to each parameter, by the interface's contract.
                let value = unsafe { In::<u8>::from_address(*pointer) }.list(bytes)?;
                block[offset..offset + bytes].copy_from_slice(&value);
            }
        }
    }
    Ok(block)
}

/// Buffer and bytes from the list of extras.
fn read_extra(extra: In<usize>) -> Result<(In<u8>, usize)> {
    let (mut buffer, mut bytes) = (0, None);
    for pair in 0.. {
        // The list ends at its end marker only.
        let entry = |n: usize| extra.list(2 * pair + n + 1).map(|l| l[2 * pair + n]);
        match entry(0)? {
            EXTRA_END => break,
            EXTRA_BUFFER => buffer = entry(1)?,
            EXTRA_BYTES => {
                // SAFETY: the size is passed by pointer, by the interface's contract.
                bytes = Some(unsafe { In::<usize>::from_address(entry(1)?) }.get()?);
            }
            other => {
                return Status::INVALID_VALUE.because(format!(
                    "expected CU_LAUNCH_PARAM_BUFFER_POINTER, _BUFFER_SIZE or _END in extra, found \
                     {other:#x}"
                ));
            }
        }
    }
    match bytes {
        // SAFETY: the buffer has so many bytes, by the interface's contract.
        Some(bytes) => Ok((unsafe { In::from_address(buffer) }, bytes)),
        None => Status::INVALID_VALUE.because("extra lacks CU_LAUNCH_PARAM_BUFFER_SIZE"),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchKernel(
    function: CUfunction,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared_bytes: c_uint,
    stream: CUstream,
    each: In<usize>,
    extra: In<usize>,
) -> Status {
    call("cuLaunchKernel", |d| {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        let shape = Shape { grid, block, shared_bytes, cooperative: false, early: false };
        d.launch(function, shape, stream, Params { each, extra })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchCooperativeKernel(
    function: CUfunction,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared_bytes: c_uint,
    stream: CUstream,
    each: In<usize>,
) -> Status {
    call("cuLaunchCooperativeKernel", |d| {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        let shape = Shape { grid, block, shared_bytes, cooperative: true, early: false };
        // SAFETY: null.
        let extra = unsafe { In::from_address(0) };
        d.launch(function, shape, stream, Params { each, extra })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchKernelEx(
    config: In<LaunchConfig>,
    function: CUfunction,
    each: In<usize>,
    extra: In<usize>,
) -> Status {
    call("cuLaunchKernelEx", |d| {
        let config = config.get()?;
        let LaunchConfig { grid, block, shared_bytes, stream, .. } = config;
        let mut shape = Shape { grid, block, shared_bytes, cooperative: false, early: false };
        for attribute in config.attributes.list(config.attribute_count as usize)? {
            read_attribute(&attribute, &mut shape)?;
        }
        d.launch(function, shape, stream, Params { each, extra })
    })
}

/// What an attribute makes of a launch. Programmatic stream serialisation allows an early start: the launch
/// waits for the one before, but must not rely on it.
fn read_attribute(attribute: &LaunchAttribute, shape: &mut Shape) -> Result {
    let value = attribute.value.0;
    let unsupported =
        |name: &str| Status::NOT_SUPPORTED.because(format!("{name} is not simulated"));
    match attribute.id {
        2 => shape.cooperative |= value[0] != 0,
        6 => shape.early |= value[0] != 0,
        4 if value[..3] != [1; 3] => return unsupported("a cluster of more than one block"),
        7 => return unsupported("CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT"),
        11 if value[..3] != [1; 3] => {
            return unsupported("CU_LAUNCH_ATTRIBUTE_PREFERRED_CLUSTER_DIMENSION");
        }
        12 => return unsupported("CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT"),
        13 => return unsupported("CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE"),
        // None, access policy, synchronisation policy, scheduling policy, priority, memory domains,
        // carveout: they change speed, not results.
        0 | 1 | 3..=5 | 8..=11 | 14 => {}
        id => return Status::INVALID_VALUE.because(format!("there is no launch attribute {id}")),
    }
    Ok(())
}

/// Launches on several devices went out of use, and there is one device.
#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchCooperativeKernelMultiDevice(
    _list: In<c_void>,
    _count: c_uint,
    _flags: c_uint,
) -> Status {
    call("cuLaunchCooperativeKernelMultiDevice", |_| {
        Status::NOT_SUPPORTED.because("there is one device; use cuLaunchCooperativeKernel")
    })
}
