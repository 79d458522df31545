//! The smaller functions, and those that are refused by name.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr::{null, null_mut};

use crate::abi::*;
use crate::toy::TEXT;

#[rustfmt::skip]
unsafe extern "C" {
    safe fn cuCtxGetFlags(out: &mut c_uint) -> u32;
    safe fn cuCtxSetFlags(flags: c_uint) -> u32;
    safe fn cuCtxGetId(context: usize, out: &mut u64) -> u32;
    safe fn cuCtxGetApiVersion(context: usize, out: &mut c_uint) -> u32;
    safe fn cuCtxGetCacheConfig(out: &mut c_uint) -> u32;
    safe fn cuCtxSetCacheConfig(config: c_uint) -> u32;
    safe fn cuCtxResetPersistingL2Cache() -> u32;
    fn cuCtxCreate_v3(out: *mut usize, affinities: *const c_void, count: c_int, flags: c_uint, device: c_int) -> u32;
    fn cuCtxCreate_v4(out: *mut usize, params: *const c_void, flags: c_uint, device: c_int) -> u32;
    safe fn cuDevicePrimaryCtxSetFlags_v2(device: c_int, flags: c_uint) -> u32;
    safe fn cuDeviceComputeCapability(major: &mut c_int, minor: &mut c_int, device: c_int) -> u32;
    fn cuDeviceGetPCIBusId(out: *mut c_char, room: c_int, device: c_int) -> u32;
    fn cuDeviceGetByPCIBusId(out: *mut c_int, id: *const c_char) -> u32;
    safe fn cuDeviceCanAccessPeer(out: &mut c_int, device: c_int, peer: c_int) -> u32;
    safe fn cuStreamGetFlags(stream: usize, out: &mut c_uint) -> u32;
    safe fn cuStreamGetId(stream: usize, out: &mut u64) -> u32;
    safe fn cuStreamGetCtx(stream: usize, out: &mut usize) -> u32;
    safe fn cuStreamGetDevice(stream: usize, out: &mut c_int) -> u32;
    fn cuStreamGetCaptureInfo_v2(stream: usize, status: *mut c_uint, id: *mut u64, graph: *mut usize, nodes: *mut usize, count: *mut usize) -> u32;
    safe fn cuMemHostGetDevicePointer_v2(out: &mut u64, address: *mut u8, flags: c_uint) -> u32;
    fn cuPointerGetAttributes(count: c_uint, attributes: *const c_uint, outs: *const *mut c_void, address: u64) -> u32;
    fn cuMemcpyAsync(to: u64, from: u64, bytes: usize, stream: usize) -> u32;
    safe fn cuMemcpyPeerAsync(to: u64, to_context: usize, from: u64, from_context: usize, bytes: usize, stream: usize) -> u32;
    safe fn cuMemsetD16_v2(to: u64, value: u16, count: usize) -> u32;
    safe fn cuMemsetD2D8_v2(to: u64, pitch: usize, value: u8, width: usize, height: usize) -> u32;
    safe fn cuModuleGetFunctionCount(out: &mut c_uint, module: usize) -> u32;
    safe fn cuModuleGetLoadingMode(out: &mut c_uint) -> u32;
    safe fn cuFuncGetModule(out: &mut usize, function: usize) -> u32;
    safe fn cuFuncGetName(out: &mut *const c_char, function: usize) -> u32;
    safe fn cuFuncLoad(function: usize) -> u32;
    safe fn cuFuncIsLoaded(out: &mut c_uint, function: usize) -> u32;
    safe fn cuFuncSetCacheConfig(function: usize, config: c_uint) -> u32;
    safe fn cuGraphExecGetFlags(exec: usize, out: &mut u64) -> u32;
    safe fn cuProfilerStart() -> u32;
    safe fn cuProfilerStop() -> u32;
    safe fn cuMemAllocManaged(out: &mut u64, bytes: usize, flags: c_uint) -> u32;
    safe fn cuMemHostRegister_v2(address: *mut u8, bytes: usize, flags: c_uint) -> u32;
    fn cuTensorMapEncodeTiled(out: *mut c_void, data_type: c_uint, rank: c_uint, address: *mut c_void, sizes: *const u64, strides: *const u64, boxes: *const u32, elements: *const u32, interleave: c_uint, swizzle: c_uint, promotion: c_uint, fill: c_uint) -> u32;
}

#[test]
fn settings_of_a_context() {
    let gpu = gpu();
    let mut flags = 9;
    assert_eq!((cuCtxGetFlags(&mut flags), flags), (OK, 0));
    assert_eq!(cuCtxSetFlags(4), OK);
    assert_eq!((cuCtxGetFlags(&mut flags), flags), (OK, 4));
    assert_eq!(cuCtxSetFlags(1 << 20), INVALID_VALUE);
    assert_eq!(cuDevicePrimaryCtxSetFlags_v2(0, 1 << 20), INVALID_VALUE);
    assert_eq!(cuDevicePrimaryCtxSetFlags_v2(0, 4), OK);
    let (mut id, mut same) = (0, 0);
    assert_eq!(cuCtxGetId(0, &mut id), OK);
    assert_eq!((cuCtxGetId(gpu.context, &mut same), same), (OK, id));
    assert_eq!(cuCtxGetId(4711, &mut id), INVALID_CONTEXT);
    assert_eq!(cuCtxGetApiVersion(gpu.context, &mut flags), OK);
    assert_eq!(cuCtxGetApiVersion(4711, &mut flags), INVALID_CONTEXT);
    assert_eq!(cuCtxSetCacheConfig(2), OK);
    assert_eq!((cuCtxGetCacheConfig(&mut flags), flags), (OK, 2));
    assert_eq!(cuCtxSetCacheConfig(4), INVALID_VALUE);
    assert_eq!(cuCtxResetPersistingL2Cache(), OK);
    assert_eq!((cuProfilerStart(), cuProfilerStop()), (OK, OK));
    let mut context = 0;
    // SAFETY: null is allowed.
    unsafe {
        assert_eq!(cuCtxCreate_v3(&mut context, null(), 1, 0, 0), NOT_SUPPORTED);
        assert_eq!(cuCtxCreate_v4(&mut context, (&raw const id).cast(), 0, 0), NOT_SUPPORTED);
        for code in [
            cuCtxCreate_v3(&mut context, null(), 0, 0, 0),
            cuCtxCreate_v4(&mut context, null(), 0, 0),
        ] {
            assert_eq!(code, OK);
        }
        assert_eq!(cuCtxCreate_v4(&mut context, null(), 0, 1), INVALID_DEVICE);
    }
}

#[test]
fn the_device_by_other_names() {
    let _gpu = gpu();
    let (mut major, mut minor) = (0, 0);
    assert_eq!(cuDeviceComputeCapability(&mut major, &mut minor, 0), OK);
    assert_eq!((major, minor), (9, 0));
    let mut id = [0; 16];
    // SAFETY: an array with its length, strings.
    unsafe {
        assert_eq!(cuDeviceGetPCIBusId(id.as_mut_ptr(), 16, 0), OK);
        assert_eq!((cuDeviceGetByPCIBusId(&mut major, id.as_ptr()), major), (OK, 0));
        assert_eq!(cuDeviceGetByPCIBusId(&mut major, c"?".as_ptr()), INVALID_DEVICE);
    }
    assert_eq!((cuDeviceCanAccessPeer(&mut major, 0, 0), major), (OK, 0));
    assert_eq!(cuDeviceCanAccessPeer(&mut major, 0, 1), INVALID_DEVICE);
}

#[test]
fn what_a_stream_says_of_itself() {
    let gpu = gpu();
    let stream = gpu.stream();
    let (mut flags, mut device, mut context) = (0, 9, 0);
    let (mut id, mut other) = (0, 0);
    assert_eq!((cuStreamGetFlags(stream, &mut flags), flags), (OK, 1));
    assert_eq!((cuStreamGetFlags(0, &mut flags), flags), (OK, 0));
    assert_eq!((cuStreamGetCtx(stream, &mut context), context), (OK, gpu.context));
    assert_eq!((cuStreamGetDevice(stream, &mut device), device), (OK, 0));
    assert_eq!((cuStreamGetId(stream, &mut id), cuStreamGetId(0, &mut other)), (OK, OK));
    assert_ne!(id, other);
    assert_eq!(cuStreamGetId(4711, &mut id), INVALID_HANDLE);
    // SAFETY: null declines a result.
    let mut info = |graph| unsafe {
        let code =
            cuStreamGetCaptureInfo_v2(stream, &mut flags, &mut id, graph, null_mut(), null_mut());
        (code, flags)
    };
    assert_eq!(info(null_mut()), (OK, 0));
    assert_eq!(cuStreamBeginCapture_v2(stream, 0), OK);
    assert_eq!(info(null_mut()), (OK, 1));
    assert_eq!(info(&mut 0).0, NOT_SUPPORTED);
    let graph = make(|g| cuStreamEndCapture(stream, g));
    let exec = make(|e| cuGraphInstantiateWithFlags(e, graph, 1));
    let mut flags = 0;
    assert_eq!((cuGraphExecGetFlags(exec, &mut flags), flags), (OK, 1));
}

#[test]
fn more_of_memory() {
    let gpu = gpu();
    let host = gpu.pinned(8);
    let mut address = 0;
    assert_eq!(cuMemHostGetDevicePointer_v2(&mut address, host.as_mut_ptr(), 0), OK);
    assert_eq!(address, host.as_ptr() as u64);
    let a = gpu.alloc(8);
    assert_eq!(cuMemHostGetDevicePointer_v2(&mut address, a as *mut u8, 0), INVALID_VALUE);
    assert_eq!(cuMemsetD16_v2(a, 0x0102, 4), OK);
    assert_eq!(cuMemsetD2D8_v2(a, 4, 9, 1, 2), OK);
    assert_eq!(gpu.read(a, 8), [9, 1, 2, 1, 9, 1, 2, 1]);
    // SAFETY: addresses of 8 bytes.
    assert_eq!(unsafe { cuMemcpyAsync(host.as_ptr() as u64, a, 8, 0) }, OK);
    assert_eq!(cuCtxSynchronize(), OK);
    assert_eq!(host[..2], [9, 1]);
    assert_eq!(cuMemcpyPeerAsync(a, gpu.context, a + 4, gpu.context, 4, 0), OK);
    assert_eq!(cuMemcpyPeerAsync(a, 4711, a + 4, gpu.context, 4, 0), CONTEXT_DESTROYED);
    let (mut kind, mut start) = (9_u32, 9_u64);
    let outs: [*mut c_void; 2] = [(&raw mut kind).cast(), (&raw mut start).cast()];
    // SAFETY: two attributes, two results.
    let ask = |address| unsafe {
        let code = cuPointerGetAttributes(2, [2, 11].as_ptr(), outs.as_ptr(), address);
        (code, outs[0].cast::<u32>().read(), outs[1].cast::<u64>().read())
    };
    assert_eq!(ask(a + 4), (OK, 2, a));
    assert_eq!(ask(77), (OK, 0, 0));
}

#[test]
fn more_of_modules() {
    let _gpu = gpu();
    let module = load(TEXT).unwrap();
    let (mut n, mut back, mut name) = (0, 0, null());
    assert_eq!((cuModuleGetFunctionCount(&mut n, module), n), (OK, 10));
    assert_eq!((cuModuleGetLoadingMode(&mut n), n), (OK, 1));
    // SAFETY: a string, and room for the handle.
    let f = make(|f| unsafe { cuModuleGetFunction(f, module, c"hungry".as_ptr()) });
    assert_eq!((cuFuncGetModule(&mut back, f), back), (OK, module));
    assert_eq!(cuFuncGetName(&mut name, f), OK);
    // SAFETY: a string, as the call succeeded.
    assert_eq!(unsafe { CStr::from_ptr(name) }, c"hungry");
    assert_eq!((cuFuncLoad(f), cuFuncLoad(4711)), (OK, INVALID_HANDLE));
    assert_eq!((cuFuncIsLoaded(&mut n, f), n), (OK, 1));
    assert_eq!((cuFuncSetCacheConfig(f, 1), cuFuncSetCacheConfig(f, 9)), (OK, INVALID_VALUE));
}

#[test]
fn what_is_not_simulated_says_so() {
    let _gpu = gpu();
    assert_eq!(cuMemAllocManaged(&mut 0, 16, 1), NOT_SUPPORTED);
    assert_eq!(cuMemHostRegister_v2(null_mut(), 16, 0), NOT_SUPPORTED);
    // SAFETY: the arguments are not looked at.
    let code = unsafe {
        cuTensorMapEncodeTiled(
            null_mut(),
            0,
            2,
            null_mut(),
            null(),
            null(),
            null(),
            null(),
            0,
            0,
            0,
            0,
        )
    };
    assert_eq!(code, NOT_SUPPORTED);
}
