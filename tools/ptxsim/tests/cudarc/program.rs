//! The program: a session with a GPU as any cudarc program has it. It fails where a result is wrong.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;

use cudarc::driver::sys::{
    self, CUfunction_attribute_enum as FunctionAttribute, CUgraphInstantiate_flags, CUresult,
    CUstreamCaptureMode,
};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, PushKernelArg, result};

use crate::kernels::{self, load, shape};

/// Not a test of its own: what the others run under the simulator.
#[test]
fn program() {
    let Ok(from) = std::env::var(crate::KERNELS) else { return };
    let context = CudaContext::new(0).unwrap();
    let stream = context.new_stream().unwrap();
    kernels::gemm(&stream, &load(&context, &from, "gemm", "gemm"));
    kernels::layer_norm(&stream, &load(&context, &from, "norm", "add_layer_norm"));
    kernels::attention(&stream, &load(&context, &from, "attention", "attention"));
    kernels::sampling(&stream, &load(&context, &from, "sample", "sample"));
    two_streams(&context, &from);
    stream.synchronize().unwrap();
    // From here on the program orders its streams itself.
    // SAFETY: it does.
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream().unwrap();
    events_and_pinned_memory(&context, &stream, &from);
    pools(&context, &stream, &from);
    graphs(&context, &stream, &from);
    launches_with_attributes(&context, &stream, &from);
    limits(&context, &stream, &from);
    cooperation(&context, &stream, &from);
    grid_barrier(&context, &stream, &from);
    context.synchronize().unwrap();
}

const N: usize = 1000;

fn numbers() -> Vec<f32> {
    (0..N).map(|i| (i % 100) as f32).collect()
}

/// cudarc's own events order two streams that share buffers.
fn two_streams(context: &Arc<CudaContext>, from: &str) {
    let add = load(context, from, "vector", "add");
    let (one, two) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let a = one.clone_htod(&numbers()).unwrap();
    let mut b = two.alloc_zeros::<f32>(N).unwrap();
    for round in 1..=3 {
        // SAFETY: written by the kernel before it is read.
        let mut c = unsafe { one.alloc::<f32>(N) }.unwrap();
        let n = N as i32;
        let grid = shape([N.div_ceil(128) as u32, 1], 128, 0);
        // SAFETY: arguments of the kernel's types.
        unsafe {
            one.launch_builder(&add).arg(&a).arg(&b).arg(&mut c).arg(&n).launch(grid).unwrap();
        }
        two.memcpy_dtod(&c, &mut b).unwrap();
        let expected: Vec<f32> = numbers().iter().map(|x| x * round as f32).collect();
        assert_eq!(two.clone_dtoh(&b).unwrap(), expected);
    }
}

/// y += scale x, four elements a thread.
fn scale_add(
    stream: &Arc<CudaStream>,
    kernel: &cudarc::driver::CudaFunction,
    y: &mut CudaSlice<f32>,
    x: &CudaSlice<f32>,
    scale: f32,
) {
    let n = y.len() as i32 / 4;
    let mut launch = stream.launch_builder(kernel);
    launch.arg(y).arg(x).arg(&scale).arg(&n);
    // SAFETY: arguments of the kernel's types.
    unsafe { launch.launch(shape([2, 1], 64, 0)) }.unwrap();
}

/// Copies from and to pinned memory in a stream of their own, in step with kernels by events.
fn events_and_pinned_memory(context: &Arc<CudaContext>, compute: &Arc<CudaStream>, from: &str) {
    let kernel = load(context, from, "vector", "scale_add");
    let copies = context.new_stream().unwrap();
    // SAFETY: both are written before they are read.
    let [mut input, mut output] =
        [0, 0].map(|_| unsafe { context.alloc_pinned::<f32>(N) }.unwrap());
    input.as_mut_slice().unwrap().copy_from_slice(&numbers());
    let start = copies.record_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)).unwrap();
    let x = copies.clone_htod(&input).unwrap();
    let mut y = copies.alloc_zeros::<f32>(N).unwrap();
    compute.wait(&copies.record_event(None).unwrap()).unwrap();
    scale_add(compute, &kernel, &mut y, &x, 1.5);
    copies.wait(&compute.record_event(None).unwrap()).unwrap();
    copies.memcpy_dtoh(&y, &mut output).unwrap();
    let end = copies.record_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)).unwrap();
    end.synchronize().unwrap();
    assert!(end.is_complete());
    assert!(start.elapsed_ms(&end).unwrap() > 0.0);
    let expected: Vec<f32> = numbers().iter().map(|x| x * 1.5).collect();
    assert_eq!(output.as_slice().unwrap(), expected);
    // Freed in the order of their stream, which the kernel has passed.
    drop((x, y));
    copies.synchronize().unwrap();
}

/// Stream-ordered allocations of a pool that keeps its memory.
fn pools(context: &Arc<CudaContext>, stream: &Arc<CudaStream>, from: &str) {
    let kernel = load(context, from, "vector", "scale_add");
    let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    let mut keep = u64::MAX;
    // SAFETY: the attribute is a 64-bit number.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device()).unwrap();
        result::mem_pool::set_attribute(pool, threshold, (&raw mut keep).cast()).unwrap();
        let raw = result::mem_pool::alloc_async(pool, 4 * N, stream.cu_stream()).unwrap();
        result::memset_d8_async(raw, 0, 4 * N, stream.cu_stream()).unwrap();
        result::free_async(raw, stream.cu_stream()).unwrap();
    }
    let x = stream.clone_htod(&numbers()).unwrap();
    let mut sum = stream.alloc_zeros::<f32>(N).unwrap();
    for _ in 0..4 {
        let mut step = stream.alloc_zeros::<f32>(N).unwrap();
        scale_add(stream, &kernel, &mut step, &x, 0.5);
        scale_add(stream, &kernel, &mut sum, &step, 1.0);
    }
    let expected: Vec<f32> = numbers().iter().map(|x| x * 2.0).collect();
    assert_eq!(stream.clone_dtoh(&sum).unwrap(), expected);
}

/// A captured graph of two kernels, launched again and again; then updated with another number.
fn graphs(context: &Arc<CudaContext>, stream: &Arc<CudaStream>, from: &str) {
    let kernel = load(context, from, "vector", "scale_add");
    let x = stream.clone_htod(&numbers()).unwrap();
    let mut y = stream.alloc_zeros::<f32>(N).unwrap();
    stream.synchronize().unwrap();
    let capture = |y: &mut CudaSlice<f32>, scale: f32| {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        stream.begin_capture(mode).unwrap();
        stream.memset_zeros(y).unwrap();
        scale_add(stream, &kernel, y, &x, scale);
        scale_add(stream, &kernel, y, &x, 1.0);
        stream.end_capture(CUgraphInstantiate_flags(0)).unwrap().unwrap()
    };
    let (graph, other) = (capture(&mut y, 2.0), capture(&mut y, 4.0));
    assert_eq!(stream.clone_dtoh(&y).unwrap(), vec![0.0; N], "a capture runs nothing");
    let check = |factor: f32| {
        let expected: Vec<f32> = numbers().iter().map(|x| x * factor).collect();
        assert_eq!(stream.clone_dtoh(&y).unwrap(), expected);
    };
    graph.upload().unwrap();
    for _ in 0..3 {
        graph.launch().unwrap();
        check(3.0);
    }
    let mut info = std::mem::MaybeUninit::uninit();
    // SAFETY: both graphs are alive, and the result has room.
    let info = unsafe {
        sys::cuGraphExecUpdate_v2(graph.cu_graph_exec(), other.cu_graph(), info.as_mut_ptr())
            .result()
            .unwrap();
        info.assume_init()
    };
    assert_eq!(info.result, sys::CUgraphExecUpdateResult::CU_GRAPH_EXEC_UPDATE_SUCCESS);
    graph.launch().unwrap();
    check(5.0);
}

/// `cuLaunchKernelEx` in a chain of dependent kernels that do not wait for each other by themselves: GPUs
/// before Hopper take no notice of programmatic serialisation, on others it would be a race.
fn launches_with_attributes(context: &Arc<CudaContext>, stream: &Arc<CudaStream>, from: &str) {
    let kernel = load(context, from, "vector", "add");
    let a = stream.clone_htod(&numbers()).unwrap();
    let mut buffers = [0, 0].map(|_| stream.alloc_zeros::<f32>(N).unwrap());
    for round in 0..4 {
        let (first, second) = buffers.split_at_mut(1);
        let (b, c) =
            if round % 2 == 0 { (&first[0], &mut second[0]) } else { (&second[0], &mut first[0]) };
        // SAFETY: a plain structure, which may be zero.
        let mut attribute: sys::CUlaunchAttribute = unsafe { std::mem::zeroed() };
        attribute.id =
            sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
        let (major, _) = context.compute_capability().unwrap();
        attribute.value.programmaticStreamSerializationAllowed = i32::from(major < 9);
        let config = sys::CUlaunchConfig {
            gridDimX: N.div_ceil(128) as u32,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: 128,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            hStream: stream.cu_stream(),
            attrs: &raw mut attribute,
            numAttrs: 1,
        };
        use cudarc::driver::{DevicePtr, DevicePtrMut};
        let [mut a, mut b, mut c] =
            [a.device_ptr(stream).0, b.device_ptr(stream).0, c.device_ptr_mut(stream).0];
        let mut n = N as i32;
        let mut params: [*mut c_void; 4] =
            [(&raw mut a).cast(), (&raw mut b).cast(), (&raw mut c).cast(), (&raw mut n).cast()];
        // SAFETY: arguments of the kernel's types.
        unsafe {
            let params = params.as_mut_ptr();
            sys::cuLaunchKernelEx(&config, kernel.cu_function(), params, null_mut())
                .result()
                .unwrap();
        }
    }
    let expected: Vec<f32> = numbers().iter().map(|x| x * 4.0).collect();
    assert_eq!(stream.clone_dtoh(&buffers[0]).unwrap(), expected);
}

/// What is known of kernels, and shared memory above 48 KiB, which has to be asked for.
fn limits(context: &Arc<CudaContext>, stream: &Arc<CudaStream>, from: &str) {
    let gemm = load(context, from, "gemm", "gemm");
    assert_eq!(gemm.shared_size_bytes().unwrap(), 4 * 2 * 64 * 32 * 2);
    assert_eq!(gemm.max_threads_per_block().unwrap(), 128);
    assert!((32..=255).contains(&gemm.num_regs().unwrap()));
    let blocks = gemm.occupancy_max_active_blocks_per_multiprocessor(128, 0, None).unwrap();
    let multiprocessor =
        sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR;
    // Each takes 32 KiB, and 1 KiB of the system's.
    let most = context.attribute(multiprocessor).unwrap() as u32 / (33 << 10);
    assert!((1..=most).contains(&blocks), "{blocks} of {most}");

    let sum = load(context, from, "vector", "sum");
    let x = stream.clone_htod(&numbers()).unwrap();
    let mut total = stream.alloc_zeros::<f32>(1).unwrap();
    let n = N as i32;
    let mut launch = stream.launch_builder(&sum);
    launch.arg(&x).arg(&mut total).arg(&n);
    let grid = shape([4, 1], 256, 64 << 10);
    // SAFETY: arguments of the kernel's types.
    let refused = unsafe { launch.launch(grid) }.unwrap_err();
    assert_eq!(refused.0, CUresult::CUDA_ERROR_INVALID_VALUE);
    let attribute = FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    sum.set_attribute(attribute, 64 << 10).unwrap();
    // SAFETY: as before.
    unsafe { launch.launch(grid) }.unwrap();
    assert_eq!(stream.clone_dtoh(&total).unwrap(), [numbers().iter().sum::<f32>()]);
}

/// As many blocks as are resident at once, and no more.
fn cooperation(context: &Arc<CudaContext>, stream: &Arc<CudaStream>, from: &str) {
    let sum = load(context, from, "vector", "sum");
    let bytes = 1024;
    let each = sum.occupancy_max_active_blocks_per_multiprocessor(256, bytes, None).unwrap();
    let count = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
    let most = each * context.attribute(count).unwrap() as u32;
    let x = stream.clone_htod(&numbers()).unwrap();
    let mut total = stream.alloc_zeros::<f32>(1).unwrap();
    let n = N as i32;
    let mut launch = stream.launch_builder(&sum);
    launch.arg(&x).arg(&mut total).arg(&n);
    // SAFETY: arguments of the kernel's types.
    unsafe { launch.launch_cooperative(shape([4, 1], 256, bytes as u32)) }.unwrap();
    // SAFETY: as before.
    let refused =
        unsafe { launch.launch_cooperative(shape([most + 1, 1], 256, bytes as u32)) }.unwrap_err();
    assert_eq!(refused.0, CUresult::CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
    assert_eq!(stream.clone_dtoh(&total).unwrap(), [numbers().iter().sum::<f32>()]);
}

/// A cooperative launch that fills half of the device: all its blocks meet, three times.
fn grid_barrier(context: &Arc<CudaContext>, stream: &Arc<CudaStream>, from: &str) {
    let (blocks, threads, rounds) = (64, 32, 3_u32);
    let kernel = load(context, from, "grid", "rounds");
    let n = blocks * threads;
    let mut expected: Vec<u32> = (0..n).collect();
    let mut words = stream.clone_htod(&expected).unwrap();
    let mut other = stream.alloc_zeros::<u32>(n as usize).unwrap();
    let mut arrived = stream.alloc_zeros::<u32>(1).unwrap();
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&mut words).arg(&mut other).arg(&mut arrived).arg(&rounds);
    // SAFETY: arguments of the kernel's types.
    unsafe { launch.launch_cooperative(shape([blocks, 1], threads, 0)) }.unwrap();
    for _ in 0..rounds {
        let next = |i: u32| expected[i as usize] + 3 * expected[((i + threads + 1) % n) as usize];
        expected = (0..n).map(next).collect();
    }
    assert_eq!(stream.clone_dtoh(&other).unwrap(), expected);
}
