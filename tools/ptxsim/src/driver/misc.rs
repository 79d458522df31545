//! Functions that programs call and that do nothing here, or are refused by name.

use std::ffi::{c_char, c_int, c_uint, c_void};

use super::abi::{CUdeviceptr, CUstream, In, Out};
use super::state::{call, free_call};
use super::status::{Result, Status};

/// Private tables of the driver: there are none. NVRTC asks for one, and takes this answer.
#[unsafe(no_mangle)]
pub extern "C" fn cuGetExportTable(out: Out<*const c_void>, _id: In<[u8; 16]>) -> Status {
    free_call("cuGetExportTable", || {
        out.set_if_wanted(std::ptr::null());
        Err(Status::NOT_FOUND.into())
    })
}

/// No profiler is attached: nothing to start.
#[unsafe(no_mangle)]
pub extern "C" fn cuProfilerStart() -> Status {
    call("cuProfilerStart", |d| d.current().map(|_| ()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuProfilerStop() -> Status {
    call("cuProfilerStop", |d| d.current().map(|_| ()))
}

fn no_managed_memory() -> Result {
    Status::NOT_SUPPORTED.because("managed memory is not simulated; allocate and copy")
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocManaged(
    _out: Out<CUdeviceptr>,
    _bytes: usize,
    _flags: c_uint,
) -> Status {
    call("cuMemAllocManaged", |_| no_managed_memory())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAdvise_v2(
    _address: CUdeviceptr,
    _bytes: usize,
    _advice: c_uint,
    _location: u64,
) -> Status {
    call("cuMemAdvise_v2", |_| no_managed_memory())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemPrefetchAsync_v2(
    _address: CUdeviceptr,
    _bytes: usize,
    _location: u64,
    _flags: c_uint,
    _stream: CUstream,
) -> Status {
    call("cuMemPrefetchAsync_v2", |_| no_managed_memory())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamAttachMemAsync(
    _stream: CUstream,
    _address: CUdeviceptr,
    _bytes: usize,
    _flags: c_uint,
) -> Status {
    call("cuStreamAttachMemAsync", |_| no_managed_memory())
}

fn no_registered_memory() -> Result {
    Status::NOT_SUPPORTED.because("registered host memory is not simulated; use cuMemHostAlloc")
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostRegister_v2(
    _address: *mut c_void,
    _bytes: usize,
    _flags: c_uint,
) -> Status {
    call("cuMemHostRegister_v2", |_| no_registered_memory())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostUnregister(_address: *mut c_void) -> Status {
    call("cuMemHostUnregister", |_| no_registered_memory())
}

fn no_external_memory() -> Result {
    Status::NOT_SUPPORTED.because("memory of other programs and devices is not simulated")
}

#[unsafe(no_mangle)]
pub extern "C" fn cuImportExternalMemory(_out: Out<usize>, _description: In<c_void>) -> Status {
    call("cuImportExternalMemory", |_| no_external_memory())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuExternalMemoryGetMappedBuffer(
    _out: Out<CUdeviceptr>,
    _memory: usize,
    _description: In<c_void>,
) -> Status {
    call("cuExternalMemoryGetMappedBuffer", |_| no_external_memory())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDestroyExternalMemory(_memory: usize) -> Status {
    call("cuDestroyExternalMemory", |_| no_external_memory())
}

/// Tensor maps serve bulk copies by TMA, which are not executed.
#[unsafe(no_mangle)]
pub extern "C" fn cuTensorMapEncodeTiled(
    _out: Out<[u64; 16]>,
    _data_type: c_uint,
    _rank: c_uint,
    _address: *mut c_void,
    _sizes: In<u64>,
    _strides: In<u64>,
    _box_sizes: In<c_uint>,
    _element_strides: In<c_uint>,
    _interleave: c_uint,
    _swizzle: c_uint,
    _promotion: c_uint,
    _fill: c_uint,
) -> Status {
    call("cuTensorMapEncodeTiled", |_| {
        Status::NOT_SUPPORTED.because("tensor maps are not simulated; take the path without TMA")
    })
}

/// Configuration of a profiler that is not there.
#[unsafe(no_mangle)]
pub extern "C" fn cuProfilerInitialize(
    _config: In<c_char>,
    _output: In<c_char>,
    _mode: c_int,
) -> Status {
    call("cuProfilerInitialize", |_| Status::NOT_SUPPORTED.because("there is no profiler"))
}
