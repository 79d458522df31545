use std::ptr::null_mut;

use crate::abi::*;

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
fn a_capture_frees_only_its_own_memory() {
    let gpu = gpu();
    let stream = gpu.stream();
    let a = gpu.alloc(4);
    let code = capture(stream, GLOBAL, || assert_eq!(cuMemFreeAsync(a, stream), INVALID_VALUE));
    assert_eq!(code, Err(CAPTURE_INVALIDATED));
    assert_eq!(cuMemFree_v2(a), OK);
}
