use std::ptr::{null, null_mut};

use ptxsim::finding::Kind;

use crate::abi::*;

const GLOBAL: u32 = 0;
const THREAD_LOCAL: u32 = 1;
const RELAXED: u32 = 2;

/// Captures what `work` puts into a stream.
fn capture(stream: usize, mode: u32, work: impl FnOnce()) -> Result<usize, u32> {
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

fn instantiate(graph: usize) -> usize {
    make(|e| cuGraphInstantiateWithFlags(e, graph, 0))
}

fn nodes(graph: usize) -> Vec<usize> {
    let mut count = 0;
    // SAFETY: a count without room asks for the count.
    assert_eq!(unsafe { cuGraphGetNodes(graph, null_mut(), &mut count) }, OK);
    let mut all = vec![0; count];
    // SAFETY: room for so many.
    assert_eq!(unsafe { cuGraphGetNodes(graph, all.as_mut_ptr(), &mut count) }, OK);
    all
}

#[test]
fn a_captured_graph_does_its_work_at_each_launch() {
    let gpu = gpu();
    let stream = gpu.stream();
    let add = function(c"add_one");
    let a = gpu.alloc(4);
    assert_eq!(cuMemsetD8_v2(a, 0, 4), OK);
    assert_eq!(cuCtxSynchronize(), OK);
    let mut status = 9;
    let graph = capture(stream, GLOBAL, || {
        assert_eq!((cuStreamIsCapturing(stream, &mut status), status), (OK, 1));
        assert_eq!(launch(add, stream, &[a, 4]), OK);
        assert_eq!(launch(add, stream, &[a, 4]), OK);
    })
    .unwrap();
    assert_eq!((cuStreamIsCapturing(stream, &mut status), status), (OK, 0));
    let exec = instantiate(graph);
    assert_eq!(cuGraphUpload(exec, stream), OK);
    assert_eq!(gpu.read(a, 4), [0; 4], "a capture does nothing itself");
    for _ in 0..3 {
        assert_eq!(cuGraphLaunch(exec, stream), OK);
    }
    assert_eq!(cuStreamSynchronize(stream), OK);
    assert_eq!(gpu.read(a, 4), [6; 4]);
    assert_eq!(cuGraphDestroy(graph), OK);
    assert_eq!(cuGraphDestroy(graph), INVALID_HANDLE);
    assert_eq!(cuGraphLaunch(exec, stream), OK, "it lives without the graph");
    assert_eq!(cuGraphExecDestroy(exec), OK);
    assert_eq!(cuGraphLaunch(exec, stream), INVALID_HANDLE);
    assert_eq!(gpu.read(a, 4), [8; 4]);
}

#[test]
fn streams_fork_and_join_in_a_capture() {
    for seed in 0..20 {
        let gpu = gpu_with(|o| o.seed = seed);
        let (one, two) = (gpu.stream(), gpu.stream());
        let (fork, join) = (gpu.event(), gpu.event());
        let (a, b) = (gpu.alloc(4), gpu.alloc(4));
        let add = function(c"add_one");
        let graph = capture(one, THREAD_LOCAL, || {
            assert_eq!(cuMemsetD8Async(a, 1, 4, one), OK);
            assert_eq!(cuEventRecord(fork, one), OK);
            assert_eq!(cuStreamWaitEvent(two, fork, 0), OK);
            assert_eq!(cuMemcpyDtoDAsync_v2(b, a, 4, two), OK);
            assert_eq!(launch(add, two, &[b, 4]), OK);
            assert_eq!(cuEventRecord(join, two), OK);
            assert_eq!(cuStreamWaitEvent(one, join, 0), OK);
            assert_eq!(launch(add, one, &[b, 4]), OK);
        })
        .unwrap();
        let all = nodes(graph);
        assert_eq!(all.len(), 4);
        let mut kinds = [0; 4];
        for (kind, node) in kinds.iter_mut().zip(&all) {
            assert_eq!(cuGraphNodeGetType(*node, kind), OK);
        }
        assert_eq!(kinds, [2, 1, 0, 0]);
        let (mut before, mut count) = ([0; 4], 4);
        // SAFETY: room for four.
        let code = unsafe {
            cuGraphNodeGetDependencies_v2(all[3], before.as_mut_ptr(), null_mut(), &mut count)
        };
        assert_eq!((code, count), (OK, 2));
        assert_eq!(before[..2], [all[0], all[2]]);
        let exec = instantiate(graph);
        assert_eq!(cuGraphLaunch(exec, one), OK);
        assert_eq!(cuStreamSynchronize(one), OK);
        assert_eq!(gpu.read(b, 4), [3; 4], "seed {seed}");
    }
}

#[test]
fn unjoined_work_is_refused() {
    let gpu = gpu();
    let (one, two) = (gpu.stream(), gpu.stream());
    let (event, a) = (gpu.event(), gpu.alloc(4));
    let code = capture(one, GLOBAL, || {
        assert_eq!(cuEventRecord(event, one), OK);
        assert_eq!(cuStreamWaitEvent(two, event, 0), OK);
        assert_eq!(cuMemsetD8Async(a, 1, 4, two), OK);
    });
    assert_eq!(code, Err(CAPTURE_UNJOINED));
    let mut status = 9;
    assert_eq!((cuStreamIsCapturing(two, &mut status), status), (OK, 0));
}

#[test]
fn a_capture_is_isolated() {
    let gpu = gpu();
    let (one, two) = (gpu.stream(), gpu.stream());
    let (event, inner) = (gpu.event(), gpu.event());
    assert_eq!(cuEventRecord(event, two), OK);
    let code = capture(one, GLOBAL, || {
        assert_eq!(cuStreamWaitEvent(one, event, 0), CAPTURE_ISOLATION);
        let mut status = 0;
        assert_eq!((cuStreamIsCapturing(one, &mut status), status), (OK, 2));
        assert_eq!(cuMemsetD8Async(gpu_address(&gpu), 0, 1, one), CAPTURE_INVALIDATED);
    });
    assert_eq!(code, Err(CAPTURE_INVALIDATED));
    // An event that was never recorded is nothing to wait for.
    let never = gpu.event();
    assert!(capture(one, GLOBAL, || assert_eq!(cuStreamWaitEvent(one, never, 0), OK)).is_ok());
    let code = capture(one, GLOBAL, || {
        assert_eq!(cuEventRecord(inner, one), OK);
        assert_eq!(cuEventQuery(inner), CAPTURED_EVENT);
    });
    assert_eq!(code, Err(CAPTURE_INVALIDATED));
    assert_eq!(cuStreamBeginCapture_v2(one, RELAXED), OK);
    assert_eq!(cuStreamBeginCapture_v2(two, RELAXED), OK);
    assert_eq!(cuEventRecord(inner, one), OK);
    assert_eq!(cuStreamWaitEvent(two, inner, 0), CAPTURE_MERGE);
    assert_eq!(cuStreamEndCapture(one, &mut 0), CAPTURE_INVALIDATED);
    assert_eq!(cuStreamEndCapture(two, &mut 0), CAPTURE_INVALIDATED);
}

fn gpu_address(gpu: &Gpu) -> u64 {
    let (mut free, mut total, mut address) = (0, 0, 0);
    assert_eq!(cuMemGetInfo_v2(&mut free, &mut total), OK);
    assert_eq!(cuMemAllocAsync(Some(&mut address), 16, gpu.stream()), OK);
    address
}

#[test]
fn waiting_and_allocating_end_a_capture() {
    let calls: [fn(usize) -> u32; 8] = [
        |stream| cuStreamSynchronize(stream),
        |stream| cuStreamQuery(stream),
        |_| cuCtxSynchronize(),
        |_| cuMemAlloc_v2(Some(&mut 0), 16),
        |_| cuMemHostAlloc(Some(&mut null_mut()), 16, 0),
        |_| load(crate::toy::TEXT).unwrap_err(),
        |_| cuEventQuery(make(|e| cuEventCreate(e, 0))),
        |_| {
            let (mut address, other) = (0, make(|s| cuStreamCreate(s, 1)));
            assert_eq!(cuMemAllocAsync(Some(&mut address), 16, other), OK);
            cuMemFree_v2(address)
        },
    ];
    for (n, call) in calls.into_iter().enumerate() {
        let gpu = gpu();
        let stream = gpu.stream();
        let code = capture(stream, GLOBAL, || {
            assert_eq!(call(stream), CAPTURE_UNSUPPORTED, "call {n}");
        });
        assert_eq!(code, Err(CAPTURE_INVALIDATED), "call {n}");
    }
}

#[test]
fn modes_say_whom_a_capture_binds() {
    let gpu = gpu();
    let stream = gpu.stream();
    let context = gpu.context;
    let allocate_elsewhere = move || {
        std::thread::spawn(move || {
            assert_eq!(cuCtxSetCurrent(context), OK);
            cuMemAlloc_v2(Some(&mut 0), 16)
        })
        .join()
        .unwrap()
    };
    let code = capture(stream, THREAD_LOCAL, || assert_eq!(allocate_elsewhere(), OK));
    assert!(code.is_ok());
    let code = capture(stream, GLOBAL, || assert_eq!(allocate_elsewhere(), CAPTURE_UNSUPPORTED));
    assert_eq!(code, Err(CAPTURE_INVALIDATED));
    let code = capture(stream, RELAXED, || {
        assert_eq!(cuMemAlloc_v2(Some(&mut 0), 16), OK);
    });
    assert!(code.is_ok());
    let code = capture(stream, GLOBAL, || {
        let mut mode = RELAXED;
        assert_eq!((cuThreadExchangeStreamCaptureMode(&mut mode), mode), (OK, GLOBAL));
        assert_eq!(cuMemAlloc_v2(Some(&mut 0), 16), OK);
        assert_eq!((cuThreadExchangeStreamCaptureMode(&mut mode), mode), (OK, RELAXED));
    });
    assert!(code.is_ok());
}

#[test]
fn captures_begin_and_end_where_they_may() {
    let gpu = gpu();
    let (one, two, blocking) = (gpu.stream(), gpu.stream(), make(|s| cuStreamCreate(s, 0)));
    let event = gpu.event();
    assert_eq!(cuStreamBeginCapture_v2(0, GLOBAL), CAPTURE_UNSUPPORTED);
    assert_eq!(cuStreamBeginCapture_v2(one, 7), INVALID_VALUE);
    assert_eq!(cuStreamEndCapture(one, &mut 0), ILLEGAL_STATE);
    assert_eq!(cuStreamBeginCapture_v2(one, GLOBAL), OK);
    assert_eq!(cuStreamBeginCapture_v2(one, GLOBAL), ILLEGAL_STATE);
    assert_eq!(cuEventRecord(event, one), OK);
    assert_eq!(cuStreamWaitEvent(two, event, 0), OK);
    assert_eq!(cuStreamEndCapture(two, &mut 0), CAPTURE_UNMATCHED);
    assert_eq!(cuStreamEndCapture(one, &mut 0), CAPTURE_INVALIDATED);
    // The default stream may not meet a blocking stream that is capturing.
    let a = gpu.alloc(4);
    let code = capture(blocking, RELAXED, || {
        assert_eq!(cuMemsetD8Async(a, 0, 4, 0), CAPTURE_IMPLICIT);
    });
    assert_eq!(code, Err(CAPTURE_INVALIDATED));
    assert!(capture(one, RELAXED, || assert_eq!(cuMemsetD8Async(a, 0, 4, 0), OK)).is_ok());
}

#[test]
fn another_thread_ends_only_relaxed_captures() {
    let gpu = gpu();
    let stream = gpu.stream();
    let context = gpu.context;
    let end = move || {
        std::thread::spawn(move || {
            assert_eq!(cuCtxSetCurrent(context), OK);
            cuStreamEndCapture(stream, &mut 0)
        })
        .join()
        .unwrap()
    };
    assert_eq!(cuStreamBeginCapture_v2(stream, THREAD_LOCAL), OK);
    assert_eq!(end(), CAPTURE_WRONG_THREAD);
    assert_eq!(cuStreamEndCapture(stream, &mut 0), OK);
    assert_eq!(cuStreamBeginCapture_v2(stream, RELAXED), OK);
    assert_eq!(end(), OK);
}

#[test]
fn memory_of_a_graph_keeps_its_address() {
    let gpu = gpu();
    let stream = gpu.stream();
    let b = gpu.alloc(4);
    let mut a = 0;
    let graph = capture(stream, GLOBAL, || {
        assert_eq!(cuMemAllocAsync(Some(&mut a), 4, stream), OK);
        assert_eq!(cuMemsetD8Async(a, 7, 4, stream), OK);
        assert_eq!(cuMemcpyDtoDAsync_v2(b, a, 4, stream), OK);
        assert_eq!(cuMemFreeAsync(a, stream), OK);
    })
    .unwrap();
    let exec = instantiate(graph);
    for _ in 0..3 {
        assert_eq!(cuGraphLaunch(exec, stream), OK);
        assert_eq!(cuStreamSynchronize(stream), OK);
    }
    assert_eq!(gpu.read(b, 4), [7; 4]);
    assert_eq!(cuMemFree_v2(a), INVALID_VALUE, "the graph freed it");
    assert_eq!(gpu.kinds(), [Kind::DoubleFree]);
    assert_eq!(cuGraphDestroy(graph), OK);
    assert_eq!(cuGraphExecDestroy(exec), OK);
    assert_eq!(cuMemGetAddressRange_v2(None, None, a), NOT_FOUND, "it went with the graph");
}

#[test]
fn memory_that_a_graph_leaves_is_freed_before_the_next_launch() {
    let gpu = gpu();
    let stream = gpu.stream();
    let mut a = 0;
    let graph = capture(stream, GLOBAL, || {
        assert_eq!(cuMemAllocAsync(Some(&mut a), 4, stream), OK);
        assert_eq!(cuMemsetD8Async(a, 7, 4, stream), OK);
    })
    .unwrap();
    let exec = instantiate(graph);
    assert_eq!(cuGraphLaunch(exec, stream), OK);
    assert_eq!(cuGraphLaunch(exec, stream), INVALID_VALUE);
    assert_eq!(cuMemFreeAsync(a, stream), OK);
    assert_eq!(cuGraphLaunch(exec, stream), OK);
    let auto = make(|e| cuGraphInstantiateWithFlags(e, graph, 1));
    assert_eq!(cuGraphLaunch(auto, stream), OK);
    assert_eq!(cuStreamSynchronize(stream), OK);
    assert_eq!(gpu.read(a, 4), [7; 4]);
    for handle in [exec, auto] {
        assert_eq!(cuGraphExecDestroy(handle), OK);
    }
    assert_eq!(cuGraphDestroy(graph), OK);
    assert_eq!(cuMemFree_v2(a), OK, "what the last launch left is the program's");
    assert_eq!(gpu.kinds(), []);
}

#[test]
fn a_capture_frees_only_its_own_memory() {
    let gpu = gpu();
    let stream = gpu.stream();
    let a = gpu.alloc(4);
    let code = capture(stream, GLOBAL, || assert_eq!(cuMemFreeAsync(a, stream), INVALID_VALUE));
    assert_eq!(code, Err(CAPTURE_INVALIDATED));
    assert_eq!(cuMemFree_v2(a), OK);
}

#[test]
fn executable_graphs_take_new_parameters_of_the_same_shape() {
    let gpu = gpu();
    let stream = gpu.stream();
    let a = gpu.alloc(8);
    assert_eq!(cuMemsetD8_v2(a, 0, 8), OK);
    assert_eq!(cuCtxSynchronize(), OK);
    let add = function(c"add_one");
    let work = |bytes: u64| {
        capture(stream, GLOBAL, || assert_eq!(launch(add, stream, &[a, bytes]), OK)).unwrap()
    };
    let exec = instantiate(work(4));
    let mut result = UpdateResult::default();
    assert_eq!(cuGraphExecUpdate_v2(exec, work(8), &mut result), OK);
    assert_eq!(result.result, 0);
    assert_eq!(cuGraphLaunch(exec, stream), OK);
    assert_eq!(cuStreamSynchronize(stream), OK);
    assert_eq!(gpu.read(a, 8), [1; 8]);
    let fill = capture(stream, GLOBAL, || assert_eq!(cuMemsetD8Async(a, 0, 8, stream), OK));
    assert_eq!(cuGraphExecUpdate_v2(exec, fill.unwrap(), &mut result), UPDATE_FAILURE);
    assert_eq!(result.result, 3);
    let two = capture(stream, GLOBAL, || {
        assert_eq!(launch(add, stream, &[a, 8]), OK);
        assert_eq!(launch(add, stream, &[a, 8]), OK);
    });
    assert_eq!(cuGraphExecUpdate_v2(exec, two.unwrap(), &mut result), UPDATE_FAILURE);
    assert_eq!(result.result, 2);
}

#[test]
fn graphs_are_built_node_by_node() {
    let gpu = gpu();
    let stream = gpu.stream();
    let a = gpu.alloc(4);
    let add = function(c"add_one");
    let graph = make(|g| cuGraphCreate(g, 0));
    assert_eq!(cuGraphCreate(&mut 0, 1), INVALID_VALUE);
    let fill =
        MemsetNodeParams { to: a, pitch: 0, value: 3, element_bytes: 1, width: 4, height: 1 };
    let (all, half) = ([a, 4], [a, 2]);
    let mut values = pointers(&all);
    let params = KernelNodeParams {
        function: add,
        grid: [1; 3],
        block: [32, 1, 1],
        shared: 0,
        params: values.as_mut_ptr(),
        extra: null_mut(),
        kernel: 0,
        context: 0,
    };
    // SAFETY: everything below is as declared.
    unsafe {
        let root = make(|n| cuGraphAddEmptyNode(n, graph, null(), 0));
        let set = make(|n| cuGraphAddMemsetNode(n, graph, &root, 1, &fill, gpu.context));
        let run = make(|n| cuGraphAddKernelNode_v2(n, graph, &set, 1, &params));
        assert_eq!(cuGraphAddEmptyNode(&mut 0, graph, &77, 1), INVALID_VALUE);
        assert_eq!(cuGraphAddEmptyNode(&mut 0, graph, [set, set].as_ptr(), 2), INVALID_VALUE);
        assert_eq!(nodes(graph), [root, set, run]);
        let (mut roots, mut count) = ([1; 3], 3);
        assert_eq!(cuGraphGetRootNodes(graph, roots.as_mut_ptr(), &mut count), OK);
        assert_eq!((roots, count), ([root, 0, 0], 1));
        let exec = instantiate(graph);
        assert_eq!(cuGraphLaunch(exec, stream), OK);
        assert_eq!(cuStreamSynchronize(stream), OK);
        assert_eq!(gpu.read(a, 4), [4; 4]);

        let mut seen = params;
        assert_eq!(cuGraphKernelNodeGetParams_v2(run, &mut seen), OK);
        assert_eq!((seen.function, seen.grid, seen.block), (add, [1; 3], [32, 1, 1]));
        assert_eq!(*(*seen.params.add(1)).cast::<u64>(), 4);
        assert_eq!(cuGraphKernelNodeGetParams_v2(set, &mut seen), INVALID_VALUE);
        let mut fewer = pointers(&half);
        let changed = KernelNodeParams { params: fewer.as_mut_ptr(), ..params };
        assert_eq!(cuGraphExecKernelNodeSetParams_v2(exec, run, &changed), OK);
        assert_eq!(cuGraphExecKernelNodeSetParams_v2(exec, set, &changed), INVALID_VALUE);
        let bad = KernelNodeParams { block: [0; 3], ..params };
        assert_eq!(cuGraphKernelNodeSetParams_v2(run, &bad), INVALID_VALUE);
        assert_eq!(cuGraphLaunch(exec, stream), OK);
        assert_eq!(cuStreamSynchronize(stream), OK);
        assert_eq!(gpu.read(a, 4), [4, 4, 3, 3]);
        assert_eq!(cuGraphKernelNodeSetParams_v2(run, &changed), OK);
        assert_eq!(cuGraphKernelNodeGetParams_v2(run, &mut seen), OK);
        assert_eq!(*(*seen.params.add(1)).cast::<u64>(), 2);
    }
}

#[test]
fn a_graph_launched_in_a_capture_becomes_part_of_it() {
    let gpu = gpu();
    let stream = gpu.stream();
    let a = gpu.alloc(4);
    let add = function(c"add_one");
    let inner = capture(stream, GLOBAL, || assert_eq!(launch(add, stream, &[a, 4]), OK)).unwrap();
    let inner = instantiate(inner);
    let outer = capture(stream, GLOBAL, || {
        assert_eq!(cuMemsetD8Async(a, 1, 4, stream), OK);
        assert_eq!(cuGraphLaunch(inner, stream), OK);
        assert_eq!(launch(add, stream, &[a, 4]), OK);
    });
    assert_eq!(cuGraphLaunch(instantiate(outer.unwrap()), stream), OK);
    assert_eq!(cuStreamSynchronize(stream), OK);
    assert_eq!(gpu.read(a, 4), [3; 4]);
}

#[test]
fn pageable_memory_of_a_graph_is_read_at_its_launch() {
    let gpu = gpu();
    let stream = gpu.stream();
    let a = gpu.alloc(4);
    let mut host = vec![1; 4];
    let graph = capture(stream, GLOBAL, || assert_eq!(htod_async(a, &host, stream), OK)).unwrap();
    let exec = instantiate(graph);
    host.fill(2);
    assert_eq!(cuGraphLaunch(exec, stream), OK);
    host.fill(3);
    assert_eq!(cuStreamSynchronize(stream), OK);
    assert_eq!(gpu.read(a, 4), [2; 4]);
}

#[test]
fn flags_of_instantiation() {
    let gpu = gpu();
    let graph = capture(gpu.stream(), GLOBAL, || ()).unwrap();
    let mut exec = 0;
    assert_eq!(cuGraphInstantiateWithFlags(&mut exec, graph, 1 | 8), OK);
    assert_eq!(cuGraphInstantiateWithFlags(&mut exec, graph, 1 | 4), INVALID_VALUE);
    assert_eq!(cuGraphInstantiateWithFlags(&mut exec, graph, 4), NOT_SUPPORTED);
    assert_eq!(cuGraphInstantiateWithFlags(&mut exec, graph, 64), INVALID_VALUE);
    assert_eq!(cuGraphInstantiateWithFlags(&mut exec, 4711, 0), INVALID_HANDLE);
}
