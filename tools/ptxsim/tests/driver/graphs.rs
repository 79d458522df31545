use std::ptr::{null, null_mut};

use ptxsim::finding::Kind;

use crate::abi::*;

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
fn the_end_of_a_graph_waits_for_users_of_its_memory() {
    let gpu = gpu();
    let (stream, b) = (gpu.stream(), gpu.alloc(4));
    let mut a = 0;
    let graph = capture(stream, GLOBAL, || {
        assert_eq!(cuMemAllocAsync(Some(&mut a), 4, stream), OK);
        assert_eq!(cuMemsetD8Async(a, 7, 4, stream), OK);
    })
    .unwrap();
    let exec = instantiate(graph);
    assert_eq!(cuGraphLaunch(exec, stream), OK);
    assert_eq!(cuMemcpyDtoDAsync_v2(b, a, 4, stream), OK);
    assert_eq!(cuMemFreeAsync(a, stream), OK);
    assert_eq!((cuGraphExecDestroy(exec), cuGraphDestroy(graph)), (OK, OK));
    assert_eq!(cuStreamSynchronize(stream), OK);
    assert_eq!(gpu.read(b, 4), [7; 4]);
    assert_eq!(gpu.kinds(), []);
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
fn event_nodes_time_what_lies_between_them() {
    let gpu = gpu();
    let stream = gpu.stream();
    let a = gpu.alloc(4);
    let (start, end) = (make(|e| cuEventCreate(e, 0)), make(|e| cuEventCreate(e, 0)));
    let graph = make(|g| cuGraphCreate(g, 0));
    let fill =
        MemsetNodeParams { to: a, pitch: 0, value: 3, element_bytes: 1, width: 4, height: 1 };
    // SAFETY: as declared.
    unsafe {
        let first = make(|n| cuGraphAddEventRecordNode(n, graph, null(), 0, start));
        let set = make(|n| cuGraphAddMemsetNode(n, graph, &first, 1, &fill, gpu.context));
        make(|n| cuGraphAddEventRecordNode(n, graph, &set, 1, end));
        assert_eq!(cuGraphAddEventRecordNode(&mut 0, graph, null(), 0, 77), INVALID_HANDLE);
        let exec = instantiate(graph);
        let mut milliseconds = -1.0;
        assert_ne!(cuEventElapsedTime_v2(&mut milliseconds, start, end), OK);
        assert_eq!(cuGraphLaunch(exec, stream), OK);
        assert_eq!(cuEventSynchronize(end), OK);
        assert_eq!(cuEventElapsedTime_v2(&mut milliseconds, start, end), OK);
        assert!(milliseconds > 0.0, "{milliseconds} ms");
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
