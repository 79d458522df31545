//! `cuGetProcAddress`: every function by name, in the version that the caller was built for.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::Mutex;

use super::abi::{Out, Text};
use super::state::free_call;
use super::status::{Result, Status};

/// The functions of each module: their names, and the address of one.
macro_rules! symbols {
    ($($module:ident { $($name:ident)* })*) => {
        const NAMES: &[&str] = &[$($(stringify!($name),)*)*];

        fn address(name: &str) -> Option<*const c_void> {
            $($(
                if name == stringify!($name) {
                    return Some(super::$module::$name as *const c_void);
                }
            )*)*
            None
        }
    };
}

symbols! {
    capture {
        cuStreamBeginCapture_v2 cuStreamEndCapture cuStreamIsCapturing cuStreamGetCaptureInfo_v2
        cuStreamGetCaptureInfo_v3 cuThreadExchangeStreamCaptureMode
    }
    context {
        cuDevicePrimaryCtxRetain cuDevicePrimaryCtxRelease_v2 cuDevicePrimaryCtxReset_v2
        cuDevicePrimaryCtxSetFlags_v2 cuDevicePrimaryCtxGetState cuCtxCreate_v2 cuCtxCreate_v3 cuCtxCreate_v4
        cuCtxDestroy_v2 cuCtxPushCurrent_v2 cuCtxPopCurrent_v2 cuCtxSetCurrent cuCtxGetCurrent
        cuCtxGetDevice cuCtxGetFlags cuCtxSetFlags cuCtxGetId cuCtxGetApiVersion cuCtxSynchronize
        cuCtxGetLimit cuCtxSetLimit cuCtxGetCacheConfig cuCtxSetCacheConfig
        cuCtxGetStreamPriorityRange cuCtxResetPersistingL2Cache
    }
    copy {
        cuMemcpyHtoD_v2 cuMemcpyDtoH_v2 cuMemcpyDtoD_v2 cuMemcpy cuMemcpyHtoDAsync_v2
        cuMemcpyDtoHAsync_v2 cuMemcpyDtoDAsync_v2 cuMemcpyAsync cuMemcpyPeerAsync cuMemsetD8_v2
        cuMemsetD16_v2 cuMemsetD32_v2 cuMemsetD8Async cuMemsetD16Async cuMemsetD32Async
        cuMemsetD2D8_v2 cuMemsetD2D32_v2 cuMemsetD2D8Async cuMemsetD2D32Async
    }
    device {
        cuInit cuDriverGetVersion cuDeviceGet cuDeviceGetCount cuDeviceGetName cuDeviceGetUuid
        cuDeviceGetUuid_v2 cuDeviceTotalMem_v2 cuDeviceGetAttribute cuDeviceComputeCapability
        cuDeviceGetPCIBusId cuDeviceGetByPCIBusId cuDeviceCanAccessPeer cuDeviceGetDefaultMemPool
        cuDeviceGetMemPool cuDeviceSetMemPool
    }
    event {
        cuEventCreate cuEventDestroy_v2 cuEventRecord cuEventRecordWithFlags cuEventSynchronize
        cuEventQuery cuEventElapsedTime_v2 cuEventElapsedTime
    }
    graph {
        cuGraphCreate cuGraphDestroy cuGraphInstantiateWithFlags cuGraphExecGetFlags
        cuGraphExecDestroy cuGraphLaunch cuGraphUpload cuGraphExecUpdate_v2
    }
    graph_nodes {
        cuGraphAddEmptyNode cuGraphAddEventRecordNode cuGraphAddKernelNode_v2 cuGraphAddMemsetNode
        cuGraphGetNodes
        cuGraphAddDependencies_v2 cuGraphGetRootNodes cuGraphNodeGetDependencies_v2 cuGraphNodeGetType
        cuGraphKernelNodeGetParams_v2 cuGraphKernelNodeSetParams_v2
        cuGraphExecKernelNodeSetParams_v2
    }
    launch {
        cuLaunchKernel cuLaunchCooperativeKernel cuLaunchKernelEx
        cuLaunchCooperativeKernelMultiDevice
    }
    memory {
        cuMemAlloc_v2 cuMemAllocPitch_v2 cuMemFree_v2 cuMemAllocAsync cuMemFreeAsync
        cuMemHostAlloc cuMemAllocHost_v2 cuMemFreeHost cuMemHostGetDevicePointer_v2
        cuMemGetInfo_v2 cuMemGetAddressRange_v2 cuPointerGetAttribute cuPointerGetAttributes
    }
    misc {
        cuGetExportTable cuProfilerStart cuProfilerStop cuMemAllocManaged cuMemAdvise_v2
        cuMemPrefetchAsync_v2 cuStreamAttachMemAsync cuMemHostRegister_v2 cuMemHostUnregister
        cuImportExternalMemory cuExternalMemoryGetMappedBuffer cuDestroyExternalMemory
        cuTensorMapEncodeTiled cuProfilerInitialize
    }
    module {
        cuModuleLoadData cuModuleLoadDataEx cuModuleLoad cuModuleUnload cuModuleGetFunction
        cuModuleGetFunctionCount cuModuleGetGlobal_v2 cuFuncGetAttribute cuFuncSetAttribute
        cuFuncSetCacheConfig cuFuncGetParamInfo cuFuncGetModule cuFuncGetName cuFuncLoad
        cuFuncIsLoaded cuModuleGetLoadingMode cuModuleLoadFatBinary
    }
    occupancy {
        cuOccupancyMaxActiveBlocksPerMultiprocessor
        cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags cuOccupancyMaxPotentialBlockSize
        cuOccupancyMaxPotentialBlockSizeWithFlags cuOccupancyAvailableDynamicSMemPerBlock
        cuOccupancyMaxActiveClusters cuOccupancyMaxPotentialClusterSize
    }
    pool {
        cuMemPoolCreate cuMemPoolDestroy cuMemPoolTrimTo cuMemPoolGetAttribute
        cuMemPoolSetAttribute cuMemAllocFromPoolAsync
    }
    status {
        cuGetErrorName cuGetErrorString
    }
    stream {
        cuStreamCreate cuStreamCreateWithPriority cuStreamDestroy_v2 cuStreamSynchronize
        cuStreamQuery cuStreamWaitEvent cuLaunchHostFunc cuStreamGetFlags cuStreamGetPriority
        cuStreamGetId cuStreamGetCtx cuStreamGetDevice
    }
    symbols {
        cuGetProcAddress cuGetProcAddress_v2
    }
}

/// Versions of functions whose arguments changed: the CUDA version from which on the plain name means
/// them. Those not listed are older than any program.
const SINCE: [(&str, c_int); 13] = [
    ("cuCtxCreate_v3", 11040),
    ("cuCtxCreate_v4", 12050),
    ("cuEventElapsedTime_v2", 12080),
    ("cuGetProcAddress_v2", 12000),
    ("cuGraphAddKernelNode_v2", 12000),
    ("cuGraphExecKernelNodeSetParams_v2", 12000),
    ("cuGraphExecUpdate_v2", 12000),
    ("cuGraphKernelNodeGetParams_v2", 12000),
    ("cuGraphKernelNodeSetParams_v2", 12000),
    ("cuGraphAddDependencies_v2", 12030),
    ("cuGraphNodeGetDependencies_v2", 12030),
    ("cuStreamGetCaptureInfo_v2", 11030),
    ("cuStreamGetCaptureInfo_v3", 12030),
];

/// Names that cuda.h replaces by others.
const ALIASES: [(&str, &str); 2] = [
    ("cuGraphInstantiate", "cuGraphInstantiateWithFlags"),
    ("cuMemHostGetDevicePointer_v1", "cuMemHostGetDevicePointer_v2"),
];

/// What `cuGetProcAddress` found.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Function(&'static str),
    /// Only newer versions than asked for.
    TooNew,
    Nothing,
}

/// The newest version of a function that a program of the given CUDA version can know. A name with its
/// suffix is taken as it is.
fn resolve(name: &str, cuda_version: c_int) -> Found {
    let name = ALIASES.iter().find(|a| a.0 == name).map_or(name, |a| a.1);
    let mut found = Found::Nothing;
    for suffix in ["", "_v2", "_v3", "_v4"] {
        let Some(symbol) = NAMES.iter().find(|n| n.strip_prefix(name) == Some(suffix)) else {
            continue;
        };
        let since = SINCE.iter().find(|s| s.0 == *symbol).map_or(0, |s| s.1);
        if since <= cuda_version || *symbol == name {
            found = Found::Function(symbol);
        } else if found == Found::Nothing {
            found = Found::TooNew;
        }
    }
    found
}

/// Results of a query.
const SUCCESS: c_uint = 0;
const NOT_FOUND: c_uint = 1;
const VERSION_NOT_SUFFICIENT: c_uint = 2;
/// A default stream for each thread: other functions, which are not there.
const PER_THREAD: u64 = 2;

fn query(
    name: &Text,
    out: Out<*const c_void>,
    cuda_version: c_int,
    flags: u64,
    result: Out<c_uint>,
) -> Result {
    let name = name.get()?;
    out.set(std::ptr::null())?;
    if flags & PER_THREAD != 0 {
        result.set_if_wanted(NOT_FOUND);
        return Status::NOT_FOUND.because("default streams per thread: pass CU_STREAM_PER_THREAD");
    }
    match resolve(&name, cuda_version) {
        Found::Function(symbol) => {
            result.set_if_wanted(SUCCESS);
            out.set(address(symbol).expect("listed"))
        }
        Found::TooNew => {
            result.set_if_wanted(VERSION_NOT_SUFFICIENT);
            Status::NOT_FOUND.because(format!("{name} is newer than CUDA {cuda_version}"))
        }
        Found::Nothing => match stub_for(&name) {
            Some(stub) => {
                result.set_if_wanted(SUCCESS);
                out.set(stub as *const c_void)
            }
            None => {
                result.set_if_wanted(NOT_FOUND);
                Err(Status::NOT_FOUND.into())
            }
        },
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetProcAddress(
    name: Text,
    out: Out<*const c_void>,
    cuda_version: c_int,
    flags: u64,
) -> Status {
    free_call("cuGetProcAddress", || {
        // SAFETY: null.
        let result = unsafe { Out::from_address(0) };
        query(&name, out, cuda_version, flags, result)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetProcAddress_v2(
    name: Text,
    out: Out<*const c_void>,
    cuda_version: c_int,
    flags: u64,
    result: Out<c_uint>,
) -> Status {
    free_call("cuGetProcAddress_v2", || query(&name, out, cuda_version, flags, result))
}

/// Stands in for a function that is not there: says its name and refuses. Programs look up far more than
/// they call, and take a missing one for a broken driver.
extern "C" fn stub<const N: usize>() -> Status {
    let names = MISSING.lock().unwrap_or_else(|e| e.into_inner());
    let name = names.get(N).map_or("?", String::as_str);
    eprintln!("ptxsim: {name}: CUDA_ERROR_NOT_SUPPORTED: not simulated");
    Status::NOT_SUPPORTED
}

/// Names of the stubs handed out.
static MISSING: Mutex<Vec<String>> = Mutex::new(Vec::new());

macro_rules! stubs {
    ($($n:literal)*) => { [$(stub::<$n>),*] };
}

/// Each knows its place in `MISSING`.
const STUBS: [extern "C" fn() -> Status; 96] = stubs! {
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33
    34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64
    65 66 67 68 69 70 71 72 73 74 75 76 77 78 79 80 81 82 83 84 85 86 87 88 89 90 91 92 93 94 95
};

/// The stub of a name; none for what is no driver function, or when all are taken.
fn stub_for(name: &str) -> Option<extern "C" fn() -> Status> {
    if !name.starts_with("cu") {
        return None;
    }
    let mut names = MISSING.lock().unwrap_or_else(|e| e.into_inner());
    let place = names.iter().position(|n| n == name).unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    });
    STUBS.get(place).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_mean_the_newest_version_that_is_old_enough() {
        for (name, version, symbol) in [
            ("cuInit", 2000, "cuInit"),
            ("cuMemAlloc", 11000, "cuMemAlloc_v2"),
            ("cuMemAlloc_v2", 11000, "cuMemAlloc_v2"),
            ("cuCtxCreate", 11000, "cuCtxCreate_v2"),
            ("cuCtxCreate", 12000, "cuCtxCreate_v3"),
            ("cuGetProcAddress", 13000, "cuGetProcAddress_v2"),
            ("cuCtxCreate", 13000, "cuCtxCreate_v4"),
            ("cuEventElapsedTime", 12000, "cuEventElapsedTime"),
            ("cuEventElapsedTime", 13000, "cuEventElapsedTime_v2"),
            ("cuStreamGetCaptureInfo", 12000, "cuStreamGetCaptureInfo_v2"),
            ("cuGraphInstantiate", 12000, "cuGraphInstantiateWithFlags"),
        ] {
            assert_eq!(resolve(name, version), Found::Function(symbol), "{name} {version}");
        }
        assert_eq!(resolve("cuGraphExecUpdate", 11000), Found::TooNew);
        assert_eq!(resolve("cuMem", 13000), Found::Nothing);
    }

    #[test]
    fn every_version_in_the_list_is_there() {
        for (name, _) in SINCE {
            assert!(NAMES.contains(&name), "{name}");
        }
        assert!(NAMES.iter().all(|n| address(n).is_some()));
    }

    /// The list above is kept by hand: every function of the sources is in it.
    #[test]
    fn every_function_is_listed() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/driver");
        let mut count = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let declared = text.lines().filter_map(|l| l.strip_prefix("pub extern \"C\" fn "));
            for name in declared.filter_map(|l| l.split('(').next()) {
                assert!(NAMES.contains(&name), "{name}");
                count += 1;
            }
        }
        assert_eq!(count, NAMES.len());
    }

    #[test]
    fn missing_functions_get_one_stub_each() {
        let a = stub_for("cuNoSuchFunction").unwrap();
        let b = stub_for("cuNoOtherFunction").unwrap();
        assert_ne!(a as usize, b as usize);
        assert_eq!(a as usize, stub_for("cuNoSuchFunction").unwrap() as usize);
        assert_eq!(a(), Status::NOT_SUPPORTED);
        assert!(stub_for("malloc").is_none());
    }
}
