//! The functions under test as C declares them, and what every test needs around them.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::{Mutex, MutexGuard};

use ptxsim::driver::engine::Engine;
use ptxsim::driver::options::Options;
use ptxsim::finding::{Finding, Kind};

use crate::toy::Toy;

/// Result codes that tests expect.
pub const OK: u32 = 0;
pub const INVALID_VALUE: u32 = 1;
pub const OUT_OF_MEMORY: u32 = 2;
pub const INVALID_DEVICE: u32 = 101;
pub const INVALID_CONTEXT: u32 = 201;
pub const NO_BINARY: u32 = 209;
pub const INVALID_PTX: u32 = 218;
pub const PTX_TOO_NEW: u32 = 222;
pub const INVALID_HANDLE: u32 = 400;
pub const ILLEGAL_STATE: u32 = 401;
pub const NOT_FOUND: u32 = 500;
pub const NOT_READY: u32 = 600;
pub const ILLEGAL_ADDRESS: u32 = 700;
pub const OUT_OF_RESOURCES: u32 = 701;
pub const CONTEXT_DESTROYED: u32 = 709;
pub const MISALIGNED: u32 = 716;
pub const LAUNCH_FAILED: u32 = 719;
pub const COOPERATIVE_TOO_LARGE: u32 = 720;
pub const NOT_PERMITTED: u32 = 800;
pub const NOT_SUPPORTED: u32 = 801;
pub const CAPTURE_UNSUPPORTED: u32 = 900;
pub const CAPTURE_INVALIDATED: u32 = 901;
pub const CAPTURE_MERGE: u32 = 902;
pub const CAPTURE_UNMATCHED: u32 = 903;
pub const CAPTURE_UNJOINED: u32 = 904;
pub const CAPTURE_ISOLATION: u32 = 905;
pub const CAPTURE_IMPLICIT: u32 = 906;
pub const CAPTURED_EVENT: u32 = 907;
pub const CAPTURE_WRONG_THREAD: u32 = 908;
pub const UPDATE_FAILURE: u32 = 910;

/// Modes of a capture.
pub const GLOBAL: u32 = 0;
pub const THREAD_LOCAL: u32 = 1;
pub const RELAXED: u32 = 2;

#[repr(C)]
#[derive(Default)]
pub struct UpdateResult {
    pub result: u32,
    pub error_node: usize,
    pub error_from_node: usize,
}

#[repr(C)]
pub struct LaunchConfig {
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
    pub shared: c_uint,
    pub stream: usize,
    pub attributes: *const LaunchAttribute,
    pub count: c_uint,
}

#[repr(C)]
pub struct LaunchAttribute {
    pub id: c_uint,
    pub pad: c_uint,
    pub value: [u64; 8],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KernelNodeParams {
    pub function: usize,
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
    pub shared: c_uint,
    pub params: *mut *mut c_void,
    pub extra: *mut *mut c_void,
    pub kernel: usize,
    pub context: usize,
}

#[repr(C)]
pub struct MemsetNodeParams {
    pub to: u64,
    pub pitch: usize,
    pub value: c_uint,
    pub element_bytes: c_uint,
    pub width: usize,
    pub height: usize,
}

#[rustfmt::skip]
unsafe extern "C" {
    pub safe fn cuInit(flags: c_uint) -> u32;
    pub safe fn cuDriverGetVersion(out: Option<&mut c_int>) -> u32;
    pub safe fn cuGetErrorName(code: u32, out: &mut *const c_char) -> u32;
    pub safe fn cuGetErrorString(code: u32, out: &mut *const c_char) -> u32;
    pub safe fn cuGetExportTable(out: &mut *const c_void, id: &[u8; 16]) -> u32;
    pub fn cuGetProcAddress_v2(name: *const c_char, out: *mut *const c_void, version: c_int, flags: u64, result: *mut c_uint) -> u32;

    pub safe fn cuDeviceGet(out: &mut c_int, ordinal: c_int) -> u32;
    pub safe fn cuDeviceGetCount(out: &mut c_int) -> u32;
    pub fn cuDeviceGetName(out: *mut c_char, room: c_int, device: c_int) -> u32;
    pub safe fn cuDeviceGetUuid_v2(out: &mut [u8; 16], device: c_int) -> u32;
    pub safe fn cuDeviceTotalMem_v2(out: &mut usize, device: c_int) -> u32;
    pub safe fn cuDeviceGetAttribute(out: &mut c_int, attribute: c_uint, device: c_int) -> u32;
    pub safe fn cuDeviceGetDefaultMemPool(out: &mut usize, device: c_int) -> u32;
    pub safe fn cuDeviceGetMemPool(out: &mut usize, device: c_int) -> u32;
    pub safe fn cuDeviceSetMemPool(device: c_int, pool: usize) -> u32;
    pub safe fn cuDevicePrimaryCtxRetain(out: &mut usize, device: c_int) -> u32;
    pub safe fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> u32;
    pub safe fn cuDevicePrimaryCtxReset_v2(device: c_int) -> u32;
    pub safe fn cuDevicePrimaryCtxGetState(device: c_int, flags: &mut c_uint, active: &mut c_int) -> u32;

    pub safe fn cuCtxCreate_v2(out: &mut usize, flags: c_uint, device: c_int) -> u32;
    pub safe fn cuCtxDestroy_v2(context: usize) -> u32;
    pub safe fn cuCtxPushCurrent_v2(context: usize) -> u32;
    pub safe fn cuCtxPopCurrent_v2(out: Option<&mut usize>) -> u32;
    pub safe fn cuCtxSetCurrent(context: usize) -> u32;
    pub safe fn cuCtxGetCurrent(out: &mut usize) -> u32;
    pub safe fn cuCtxGetDevice(out: &mut c_int) -> u32;
    pub safe fn cuCtxSynchronize() -> u32;
    pub safe fn cuCtxGetLimit(out: &mut usize, limit: c_uint) -> u32;
    pub safe fn cuCtxSetLimit(limit: c_uint, value: usize) -> u32;
    pub safe fn cuCtxGetStreamPriorityRange(least: &mut c_int, greatest: &mut c_int) -> u32;

    pub safe fn cuMemAlloc_v2(out: Option<&mut u64>, bytes: usize) -> u32;
    pub safe fn cuMemFree_v2(address: u64) -> u32;
    pub safe fn cuMemAllocAsync(out: Option<&mut u64>, bytes: usize, stream: usize) -> u32;
    pub safe fn cuMemAllocFromPoolAsync(out: &mut u64, bytes: usize, pool: usize, stream: usize) -> u32;
    pub safe fn cuMemFreeAsync(address: u64, stream: usize) -> u32;
    pub safe fn cuMemHostAlloc(out: Option<&mut *mut u8>, bytes: usize, flags: c_uint) -> u32;
    pub safe fn cuMemFreeHost(address: *mut u8) -> u32;
    pub safe fn cuMemGetInfo_v2(free: &mut usize, total: &mut usize) -> u32;
    pub safe fn cuMemGetAddressRange_v2(base: Option<&mut u64>, bytes: Option<&mut usize>, address: u64) -> u32;
    pub fn cuPointerGetAttribute(out: *mut c_void, attribute: c_uint, address: u64) -> u32;
    pub safe fn cuMemAllocPitch_v2(out: &mut u64, pitch: &mut usize, width: usize, height: usize, element: c_uint) -> u32;

    pub fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize) -> u32;
    pub fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize) -> u32;
    pub safe fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) -> u32;
    pub fn cuMemcpy(to: u64, from: u64, bytes: usize) -> u32;
    pub fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: usize) -> u32;
    pub fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: usize) -> u32;
    pub safe fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: usize) -> u32;
    pub safe fn cuMemsetD8_v2(to: u64, value: u8, count: usize) -> u32;
    pub safe fn cuMemsetD32_v2(to: u64, value: u32, count: usize) -> u32;
    pub safe fn cuMemsetD8Async(to: u64, value: u8, count: usize, stream: usize) -> u32;
    pub safe fn cuMemsetD16Async(to: u64, value: u16, count: usize, stream: usize) -> u32;
    pub safe fn cuMemsetD32Async(to: u64, value: u32, count: usize, stream: usize) -> u32;
    pub safe fn cuMemsetD2D32Async(to: u64, pitch: usize, value: u32, width: usize, height: usize, stream: usize) -> u32;

    pub fn cuMemPoolCreate(out: *mut usize, props: *const c_void) -> u32;
    pub safe fn cuMemPoolDestroy(pool: usize) -> u32;
    pub fn cuMemPoolGetAttribute(pool: usize, attribute: c_uint, out: *mut c_void) -> u32;
    pub fn cuMemPoolSetAttribute(pool: usize, attribute: c_uint, value: *mut c_void) -> u32;
    pub safe fn cuMemPoolTrimTo(pool: usize, keep: usize) -> u32;

    pub safe fn cuStreamCreate(out: &mut usize, flags: c_uint) -> u32;
    pub safe fn cuStreamCreateWithPriority(out: &mut usize, flags: c_uint, priority: c_int) -> u32;
    pub safe fn cuStreamGetPriority(stream: usize, out: &mut c_int) -> u32;
    pub safe fn cuStreamDestroy_v2(stream: usize) -> u32;
    pub safe fn cuStreamSynchronize(stream: usize) -> u32;
    pub safe fn cuStreamQuery(stream: usize) -> u32;
    pub safe fn cuStreamWaitEvent(stream: usize, event: usize, flags: c_uint) -> u32;
    pub fn cuLaunchHostFunc(stream: usize, f: Option<unsafe extern "C" fn(*mut c_void)>, data: *mut c_void) -> u32;
    pub safe fn cuEventCreate(out: &mut usize, flags: c_uint) -> u32;
    pub safe fn cuEventDestroy_v2(event: usize) -> u32;
    pub safe fn cuEventRecord(event: usize, stream: usize) -> u32;
    pub safe fn cuEventRecordWithFlags(event: usize, stream: usize, flags: c_uint) -> u32;
    pub safe fn cuEventQuery(event: usize) -> u32;
    pub safe fn cuEventSynchronize(event: usize) -> u32;
    pub safe fn cuEventElapsedTime_v2(out: &mut f32, start: usize, end: usize) -> u32;

    pub safe fn cuStreamBeginCapture_v2(stream: usize, mode: c_uint) -> u32;
    pub safe fn cuStreamEndCapture(stream: usize, out: &mut usize) -> u32;
    pub safe fn cuStreamIsCapturing(stream: usize, out: &mut c_uint) -> u32;
    pub safe fn cuThreadExchangeStreamCaptureMode(mode: &mut c_uint) -> u32;
    pub safe fn cuGraphCreate(out: &mut usize, flags: c_uint) -> u32;
    pub safe fn cuGraphDestroy(graph: usize) -> u32;
    pub safe fn cuGraphInstantiateWithFlags(out: &mut usize, graph: usize, flags: u64) -> u32;
    pub safe fn cuGraphExecDestroy(exec: usize) -> u32;
    pub safe fn cuGraphLaunch(exec: usize, stream: usize) -> u32;
    pub safe fn cuGraphUpload(exec: usize, stream: usize) -> u32;
    pub safe fn cuGraphExecUpdate_v2(exec: usize, graph: usize, out: &mut UpdateResult) -> u32;
    pub fn cuGraphGetNodes(graph: usize, nodes: *mut usize, count: *mut usize) -> u32;
    pub fn cuGraphGetRootNodes(graph: usize, nodes: *mut usize, count: *mut usize) -> u32;
    pub fn cuGraphAddDependencies_v2(graph: usize, from: *const usize, to: *const usize, edges: *const u64, count: usize) -> u32;
    pub fn cuGraphNodeGetDependencies_v2(node: usize, nodes: *mut usize, edges: *mut u64, count: *mut usize) -> u32;
    pub safe fn cuGraphNodeGetType(node: usize, out: &mut c_uint) -> u32;
    pub fn cuGraphAddEventRecordNode(out: *mut usize, graph: usize, after: *const usize, count: usize, event: usize) -> u32;
    pub fn cuGraphAddEmptyNode(out: *mut usize, graph: usize, after: *const usize, count: usize) -> u32;
    pub fn cuGraphAddKernelNode_v2(out: *mut usize, graph: usize, after: *const usize, count: usize, params: *const KernelNodeParams) -> u32;
    pub fn cuGraphAddMemsetNode(out: *mut usize, graph: usize, after: *const usize, count: usize, params: *const MemsetNodeParams, context: usize) -> u32;
    pub fn cuGraphKernelNodeGetParams_v2(node: usize, out: *mut KernelNodeParams) -> u32;
    pub fn cuGraphKernelNodeSetParams_v2(node: usize, params: *const KernelNodeParams) -> u32;
    pub fn cuGraphExecKernelNodeSetParams_v2(exec: usize, node: usize, params: *const KernelNodeParams) -> u32;

    pub fn cuModuleLoadData(out: *mut usize, image: *const c_char) -> u32;
    pub fn cuModuleLoadDataEx(out: *mut usize, image: *const c_char, count: c_uint, options: *const c_uint, values: *mut *mut c_void) -> u32;
    pub fn cuModuleLoad(out: *mut usize, path: *const c_char) -> u32;
    pub safe fn cuModuleUnload(module: usize) -> u32;
    pub fn cuModuleGetFunction(out: *mut usize, module: usize, name: *const c_char) -> u32;
    pub fn cuModuleGetGlobal_v2(address: *mut u64, bytes: *mut usize, module: usize, name: *const c_char) -> u32;
    pub safe fn cuFuncGetAttribute(out: &mut c_int, attribute: c_uint, function: usize) -> u32;
    pub safe fn cuFuncSetAttribute(function: usize, attribute: c_uint, value: c_int) -> u32;
    pub safe fn cuFuncGetParamInfo(function: usize, index: usize, offset: &mut usize, bytes: Option<&mut usize>) -> u32;
    pub fn cuLaunchKernel(function: usize, gx: c_uint, gy: c_uint, gz: c_uint, bx: c_uint, by: c_uint, bz: c_uint, shared: c_uint, stream: usize, params: *mut *mut c_void, extra: *mut *mut c_void) -> u32;
    pub fn cuLaunchCooperativeKernel(function: usize, gx: c_uint, gy: c_uint, gz: c_uint, bx: c_uint, by: c_uint, bz: c_uint, shared: c_uint, stream: usize, params: *mut *mut c_void) -> u32;
    pub fn cuLaunchKernelEx(config: *const LaunchConfig, function: usize, params: *mut *mut c_void, extra: *mut *mut c_void) -> u32;
    pub safe fn cuOccupancyMaxActiveBlocksPerMultiprocessor(out: &mut c_int, function: usize, threads: c_int, shared: usize) -> u32;
    pub fn cuOccupancyMaxPotentialBlockSize(grid: *mut c_int, block: *mut c_int, function: usize, f: Option<unsafe extern "C" fn(c_int) -> usize>, shared: usize, limit: c_int) -> u32;
    pub safe fn cuOccupancyAvailableDynamicSMemPerBlock(out: &mut usize, function: usize, blocks: c_int, threads: c_int) -> u32;
}

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A fresh driver with its primary context current, for as long as this lives.
pub struct Gpu {
    pub context: usize,
    _alone: MutexGuard<'static, ()>,
}

/// Bytes of the small device that tests use.
pub const MEMORY: u64 = 64 << 20;

pub fn gpu() -> Gpu {
    gpu_with(|_| ())
}

pub fn gpu_with(change: impl FnOnce(&mut Options)) -> Gpu {
    gpu_of(Box::new(Toy), change)
}

/// With an engine that runs the kernels.
pub fn gpu_of(engine: Box<dyn Engine>, change: impl FnOnce(&mut Options)) -> Gpu {
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let mut options = Options { memory_bytes: MEMORY, quiet: true, ..Options::default() };
    change(&mut options);
    ptxsim::driver::start(options, engine);
    let mut context = 0;
    assert_eq!(cuDevicePrimaryCtxRetain(&mut context, 0), OK);
    assert_eq!(cuCtxSetCurrent(context), OK);
    Gpu { context, _alone: alone }
}

impl Gpu {
    /// What was found so far.
    pub fn kinds(&self) -> Vec<Kind> {
        self.findings().iter().map(|f| f.kind).collect()
    }

    pub fn findings(&self) -> Vec<Finding> {
        ptxsim::driver::findings()
    }

    /// A stream that does not synchronise with the default one.
    pub fn stream(&self) -> usize {
        make(|s| cuStreamCreate(s, 1))
    }

    pub fn event(&self) -> usize {
        make(|e| cuEventCreate(e, 0))
    }

    pub fn alloc(&self, bytes: usize) -> u64 {
        let mut address = 0;
        assert_eq!(cuMemAlloc_v2(Some(&mut address), bytes), OK);
        address
    }

    pub fn pinned(&self, bytes: usize) -> &'static mut [u8] {
        let mut address = std::ptr::null_mut();
        assert_eq!(cuMemHostAlloc(Some(&mut address), bytes, 0), OK);
        // SAFETY: so many bytes were just allocated; tests free them last if at all.
        unsafe { std::slice::from_raw_parts_mut(address, bytes) }
    }

    pub fn read(&self, from: u64, bytes: usize) -> Vec<u8> {
        let mut out = vec![0; bytes];
        assert_eq!(dtoh(&mut out, from), OK);
        out
    }
}

pub fn make(f: impl FnOnce(&mut usize) -> u32) -> usize {
    let mut handle = 0;
    assert_eq!(f(&mut handle), OK);
    assert_ne!(handle, 0);
    handle
}

pub fn htod(to: u64, from: &[u8]) -> u32 {
    // SAFETY: a slice.
    unsafe { cuMemcpyHtoD_v2(to, from.as_ptr().cast(), from.len()) }
}

pub fn dtoh(to: &mut [u8], from: u64) -> u32 {
    // SAFETY: a slice.
    unsafe { cuMemcpyDtoH_v2(to.as_mut_ptr().cast(), from, to.len()) }
}

pub fn htod_async(to: u64, from: &[u8], stream: usize) -> u32 {
    // SAFETY: a slice; the tests keep pinned ones.
    unsafe { cuMemcpyHtoDAsync_v2(to, from.as_ptr().cast(), from.len(), stream) }
}

pub fn dtoh_async(to: &mut [u8], from: u64, stream: usize) -> u32 {
    // SAFETY: as above.
    unsafe { cuMemcpyDtoHAsync_v2(to.as_mut_ptr().cast(), from, to.len(), stream) }
}

/// A kernel of the toy module.
pub fn function(name: &std::ffi::CStr) -> usize {
    let module = load(crate::toy::TEXT).unwrap();
    // SAFETY: a string, and room for the handle.
    make(|f| unsafe { cuModuleGetFunction(f, module, name.as_ptr()) })
}

pub fn load(text: &std::ffi::CStr) -> Result<usize, u32> {
    let mut module = 0;
    // SAFETY: a string, and room for the handle.
    match unsafe { cuModuleLoadData(&mut module, text.as_ptr()) } {
        OK => Ok(module),
        code => Err(code),
    }
}

/// Launches one block of one warp with 64-bit parameters.
pub fn launch(function: usize, stream: usize, params: &[u64]) -> u32 {
    launch_as(function, [1; 3], [32, 1, 1], 0, stream, params)
}

pub fn launch_as(
    function: usize,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    stream: usize,
    params: &[u64],
) -> u32 {
    let mut pointers = pointers(params);
    let ([gx, gy, gz], [bx, by, bz]) = (grid, block);
    let null = std::ptr::null_mut();
    // SAFETY: pointers to the parameters.
    unsafe {
        cuLaunchKernel(
            function,
            gx,
            gy,
            gz,
            bx,
            by,
            bz,
            shared,
            stream,
            pointers.as_mut_ptr(),
            null,
        )
    }
}

pub fn pointers(params: &[u64]) -> Vec<*mut c_void> {
    params.iter().map(|p| std::ptr::from_ref(p).cast_mut().cast()).collect()
}

/// Captures what `work` puts into a stream.
pub fn capture(stream: usize, mode: u32, work: impl FnOnce()) -> Result<usize, u32> {
    assert_eq!(cuStreamBeginCapture_v2(stream, mode), OK);
    work();
    let mut graph = 0;
    match cuStreamEndCapture(stream, &mut graph) {
        OK => Ok(graph),
        code => {
            assert_eq!(graph, 0);
            Err(code)
        }
    }
}

pub fn instantiate(graph: usize) -> usize {
    make(|e| cuGraphInstantiateWithFlags(e, graph, 0))
}

/// The nodes of a graph.
pub fn nodes(graph: usize) -> Vec<usize> {
    let mut count = 0;
    // SAFETY: a count without room asks for the count.
    assert_eq!(unsafe { cuGraphGetNodes(graph, std::ptr::null_mut(), &mut count) }, OK);
    let mut all = vec![0; count];
    // SAFETY: room for so many.
    assert_eq!(unsafe { cuGraphGetNodes(graph, all.as_mut_ptr(), &mut count) }, OK);
    all
}
