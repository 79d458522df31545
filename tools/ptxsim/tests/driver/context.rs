use std::ffi::{CStr, c_void};

use crate::abi::*;

#[test]
fn the_driver_and_its_device() {
    let _gpu = gpu();
    assert_eq!(cuInit(0), OK);
    assert_eq!(cuInit(1), INVALID_VALUE);
    let mut n = 0;
    assert_eq!((cuDriverGetVersion(Some(&mut n)), n), (OK, 13000));
    assert_eq!(cuDriverGetVersion(None), INVALID_VALUE);
    assert_eq!((cuDeviceGetCount(&mut n), n), (OK, 1));
    assert_eq!((cuDeviceGet(&mut n, 0), n), (OK, 0));
    assert_eq!(cuDeviceGet(&mut n, 1), INVALID_DEVICE);
    assert_eq!((cuDeviceGetAttribute(&mut n, 75, 0), n), (OK, 9));
    assert_eq!(cuDeviceGetAttribute(&mut n, 999, 0), INVALID_VALUE);
    assert_eq!(cuDeviceGetAttribute(&mut n, 75, 3), INVALID_DEVICE);
    let mut name = [1; 8];
    // SAFETY: an array with its length.
    assert_eq!(unsafe { cuDeviceGetName(name.as_mut_ptr(), 8, 0) }, OK);
    assert_eq!(name.map(|c| c as u8), *b"NVIDIA \0");
    // SAFETY: null is refused.
    assert_eq!(unsafe { cuDeviceGetName(std::ptr::null_mut(), 8, 0) }, INVALID_VALUE);
    let mut uuid = [0; 16];
    assert_eq!(cuDeviceGetUuid_v2(&mut uuid, 0), OK);
    assert_ne!(uuid, [0; 16]);
    let mut bytes = 0;
    assert_eq!((cuDeviceTotalMem_v2(&mut bytes, 0), bytes as u64), (OK, MEMORY));
}

#[test]
fn codes_have_names() {
    let mut text = std::ptr::null();
    assert_eq!(cuGetErrorName(700, &mut text), OK);
    // SAFETY: a string, as the call succeeded.
    assert_eq!(unsafe { CStr::from_ptr(text) }, c"CUDA_ERROR_ILLEGAL_ADDRESS");
    assert_eq!(cuGetErrorString(2, &mut text), OK);
    // SAFETY: as above.
    assert_eq!(unsafe { CStr::from_ptr(text) }, c"out of memory");
    assert_eq!(cuGetErrorName(12345, &mut text), INVALID_VALUE);
    assert!(text.is_null());
}

#[test]
fn functions_are_found_by_name() {
    let mut function = std::ptr::null::<c_void>();
    let mut result = 9;
    let mut get = |name: &CStr, version, flags| {
        // SAFETY: a string and room for the results.
        let code = unsafe {
            cuGetProcAddress_v2(name.as_ptr(), &mut function, version, flags, &mut result)
        };
        (code, function as usize, result)
    };
    assert_eq!(get(c"cuInit", 13000, 0), (OK, cuInit as *const () as usize, 0));
    assert_eq!(get(c"cuMemAlloc", 13000, 0), (OK, cuMemAlloc_v2 as *const () as usize, 0));
    assert_eq!(get(c"cuGraphExecUpdate", 11000, 0), (NOT_FOUND, 0, 2));
    assert_eq!(get(c"cuInit", 13000, 2), (NOT_FOUND, 0, 1));
    assert_eq!(get(c"nvInit", 13000, 0), (NOT_FOUND, 0, 1));
    let (code, stub, result) = get(c"cuTexObjectCreate", 13000, 0);
    assert_eq!((code, result), (OK, 0));
    // SAFETY: stubs take what comes.
    let stub: extern "C" fn() -> u32 = unsafe { std::mem::transmute(stub) };
    assert_eq!(stub(), NOT_SUPPORTED);
    let mut table = std::ptr::null();
    assert_eq!(cuGetExportTable(&mut table, &[0; 16]), NOT_FOUND);
}

#[test]
fn the_primary_context_lives_as_long_as_its_users() {
    let gpu = gpu();
    let mut again = 0;
    assert_eq!((cuDevicePrimaryCtxRetain(&mut again, 0), again), (OK, gpu.context));
    assert_eq!(cuDevicePrimaryCtxRelease_v2(0), OK);
    assert_eq!(cuCtxSynchronize(), OK);
    let (mut flags, mut active) = (9, 9);
    assert_eq!(cuDevicePrimaryCtxGetState(0, &mut flags, &mut active), OK);
    assert_eq!((flags, active), (0, 1));
    assert_eq!(cuDevicePrimaryCtxRelease_v2(0), OK);
    assert_eq!(cuCtxSynchronize(), CONTEXT_DESTROYED);
    assert_eq!(cuDevicePrimaryCtxRelease_v2(0), INVALID_CONTEXT);
    assert_eq!(cuCtxSetCurrent(gpu.context), INVALID_CONTEXT);
}

#[test]
fn contexts_are_stacked_per_thread() {
    let gpu = gpu();
    let mut own = 0;
    assert_eq!(cuCtxCreate_v2(&mut own, 0, 0), OK);
    let mut now = 0;
    assert_eq!((cuCtxGetCurrent(&mut now), now), (OK, own));
    assert_eq!((cuCtxPopCurrent_v2(Some(&mut now)), now), (OK, own));
    assert_eq!((cuCtxGetCurrent(&mut now), now), (OK, gpu.context));
    assert_eq!(cuCtxPushCurrent_v2(own), OK);
    assert_eq!(cuCtxDestroy_v2(own), OK);
    assert_eq!((cuCtxGetCurrent(&mut now), now), (OK, gpu.context));
    assert_eq!(cuCtxDestroy_v2(own), INVALID_CONTEXT);
    assert_eq!(cuCtxDestroy_v2(gpu.context), INVALID_CONTEXT);
    std::thread::spawn(|| {
        let (mut now, mut device) = (1, 0);
        assert_eq!((cuCtxGetCurrent(&mut now), now), (OK, 0));
        assert_eq!(cuCtxGetDevice(&mut device), INVALID_CONTEXT);
        assert_eq!(cuCtxPopCurrent_v2(None), INVALID_CONTEXT);
        assert_eq!(cuMemAlloc_v2(Some(&mut 0), 16), INVALID_CONTEXT);
    })
    .join()
    .unwrap();
}

#[test]
fn limits_and_priorities() {
    let _gpu = gpu();
    let mut value = 0;
    assert_eq!((cuCtxGetLimit(&mut value, 0), value), (OK, 1024));
    assert_eq!(cuCtxSetLimit(0, 4096), OK);
    assert_eq!((cuCtxGetLimit(&mut value, 0), value), (OK, 4096));
    assert_eq!(cuCtxSetLimit(77, 1), 215);
    let (mut least, mut greatest) = (9, 9);
    assert_eq!(cuCtxGetStreamPriorityRange(&mut least, &mut greatest), OK);
    assert!(greatest < least);
    let stream = make(|s| cuStreamCreateWithPriority(s, 1, -100));
    let mut priority = 0;
    assert_eq!((cuStreamGetPriority(stream, &mut priority), priority), (OK, greatest));
}

#[test]
fn a_fault_is_the_answer_until_the_context_ends() {
    for (kernel, code) in
        [(c"illegal", ILLEGAL_ADDRESS), (c"misaligned", MISALIGNED), (c"trap", LAUNCH_FAILED)]
    {
        let gpu = gpu();
        let stream = gpu.stream();
        let memory = gpu.alloc(16);
        assert_eq!(launch(function(kernel), stream, &[]), OK);
        assert_eq!(cuStreamSynchronize(stream), code);
        assert_eq!(cuStreamSynchronize(stream), code);
        assert_eq!(cuMemAlloc_v2(Some(&mut 0), 16), code);
        assert_eq!(cuMemFree_v2(memory), code);
        assert_eq!(htod(memory, &[0; 4]), code);
        assert_eq!(cuCtxSynchronize(), code);
        assert_eq!(cuStreamCreate(&mut 0, 0), code);
        // Another context is not concerned.
        let mut other = 0;
        assert_eq!(cuCtxCreate_v2(&mut other, 0, 0), OK);
        assert_eq!(cuCtxSynchronize(), OK);
        assert_eq!(cuCtxDestroy_v2(other), OK);
        assert_eq!(cuDevicePrimaryCtxReset_v2(0), OK);
        let mut fresh = 0;
        assert_eq!(cuDevicePrimaryCtxRetain(&mut fresh, 0), OK);
        assert_eq!(cuCtxSetCurrent(fresh), OK);
        assert_eq!(cuCtxSynchronize(), OK);
        assert_eq!(gpu.kinds(), [], "what a fault leaves behind is no leak");
    }
}
