//! cudarc on the built library: what a Rust program does that needs no kernel, end to end.
//!
//! Tests share the process's driver, so none may break its context.

use std::sync::Arc;

use cudarc::driver::sys::{
    CUdevice_attribute, CUevent_flags, CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode,
};
use cudarc::driver::{CudaContext, CudaStream, DriverError};

fn context() -> Arc<CudaContext> {
    ptxsim::preload().unwrap();
    CudaContext::new(0).unwrap()
}

/// A context without event tracking, and a stream of its own: how programs with graphs work.
fn stream() -> Arc<CudaStream> {
    let context = context();
    // SAFETY: each test uses one stream.
    unsafe { context.disable_event_tracking() };
    context.new_stream().unwrap()
}

#[test]
fn the_library_is_found_and_describes_its_device() {
    ptxsim::preload().unwrap();
    // SAFETY: only looks for the library.
    assert!(unsafe { cudarc::driver::sys::is_culib_present() });
    let context = context();
    assert_eq!(context.name().unwrap(), ptxsim::device::H100.name);
    assert_eq!(context.compute_capability().unwrap(), (9, 0));
    assert_eq!(context.total_mem().unwrap() as u64 >> 30, ptxsim::device::H100.memory_bytes >> 30);
    let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
    assert_eq!(context.attribute(attribute).unwrap(), 132);
    assert_eq!(CudaContext::device_count().unwrap(), 1);
    let error = CudaContext::new(1).unwrap_err();
    assert_eq!(error, DriverError(CUresult::CUDA_ERROR_INVALID_DEVICE));
    assert!(format!("{error:?}").contains("invalid device ordinal"));
}

#[test]
fn copies_go_there_and_back() {
    let stream = context().default_stream();
    let host: Vec<f32> = (0..1000).map(|n| n as f32).collect();
    let a = stream.clone_htod(&host).unwrap();
    let mut b = stream.alloc_zeros::<f32>(1000).unwrap();
    assert_eq!(stream.clone_dtoh(&b).unwrap(), vec![0.0; 1000]);
    stream.memcpy_dtod(&a, &mut b).unwrap();
    assert_eq!(stream.clone_dtoh(&b).unwrap(), host);
    let half = b.slice(500..);
    assert_eq!(stream.clone_dtoh(&half).unwrap(), host[500..]);
}

#[test]
fn pinned_memory_takes_part() {
    let context = context();
    let stream = context.new_stream().unwrap();
    // SAFETY: written before it is read.
    let mut pinned = unsafe { context.alloc_pinned::<u32>(256).unwrap() };
    for (n, value) in pinned.as_mut_slice().unwrap().iter_mut().enumerate() {
        *value = n as u32;
    }
    let device = stream.clone_htod(&pinned).unwrap();
    let mut back = vec![0; 256];
    stream.memcpy_dtoh(&device, &mut back).unwrap();
    stream.synchronize().unwrap();
    assert_eq!(back, (0..256).collect::<Vec<_>>());
}

#[test]
fn tracked_events_order_two_streams() {
    let context = context();
    let (one, two) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let mut a = one.clone_htod(&[1_u8; 64]).unwrap();
    for round in 0..10 {
        let b = two.clone_dtod(&a).unwrap();
        assert_eq!(two.clone_dtoh(&b).unwrap(), vec![if round == 0 { 1 } else { 0 }; 64]);
        one.memset_zeros(&mut a).unwrap();
    }
}

#[test]
fn events_have_modelled_times() {
    let context = context();
    let stream = context.new_stream().unwrap();
    let flags = Some(CUevent_flags::CU_EVENT_DEFAULT);
    let start = stream.record_event(flags).unwrap();
    let _a = stream.alloc_zeros::<u8>(1 << 20).unwrap();
    let end = stream.record_event(flags).unwrap();
    end.synchronize().unwrap();
    assert!(start.elapsed_ms(&end).unwrap() > 0.0);
}

#[test]
fn a_captured_graph_is_launched_again_and_again() {
    let stream = stream();
    let mut a = stream.clone_htod(&[5_u32; 16]).unwrap();
    stream.synchronize().unwrap();
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    stream.memset_zeros(&mut a).unwrap();
    let graph = stream.end_capture(CUgraphInstantiate_flags(0)).unwrap().unwrap();
    assert_eq!(stream.clone_dtoh(&a).unwrap(), [5; 16]);
    for _ in 0..3 {
        graph.upload().unwrap();
        graph.launch().unwrap();
        assert_eq!(stream.clone_dtoh(&a).unwrap(), [0; 16]);
        stream.memcpy_htod(&[7_u32; 16], &mut a).unwrap();
    }
}

#[test]
fn synchronising_in_a_capture_is_refused() {
    let stream = stream();
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    let error = stream.synchronize().unwrap_err();
    assert_eq!(error.0, CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    let error = stream.end_capture(CUgraphInstantiate_flags(0)).err().unwrap();
    assert_eq!(error.0, CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
}

#[test]
fn memory_is_returned() {
    let stream = stream();
    let context = stream.context().clone();
    // Other tests allocate at the same time, but not so much.
    let mut last = usize::MAX;
    for _ in 0..3 {
        let a = stream.alloc_zeros::<u8>(48 << 20).unwrap();
        stream.synchronize().unwrap();
        let with = context.mem_get_info().unwrap().0;
        drop(a);
        stream.synchronize().unwrap();
        let without = context.mem_get_info().unwrap().0;
        assert!(without >= with + (40 << 20));
        last = last.min(without);
    }
    assert!(last > context.total_mem().unwrap() - (1 << 30));
    let error = stream.alloc_zeros::<u8>(1 << 40).err().unwrap();
    assert_eq!(error.0, CUresult::CUDA_ERROR_OUT_OF_MEMORY);
}
