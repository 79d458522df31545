//! A forgotten wait must show, and a right program must never look wrong, whatever the seed.

use std::ffi::c_void;
use std::ptr::without_provenance_mut;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::abi::*;

const SEEDS: std::ops::Range<u64> = 0..40;

/// A producer in one stream, a consumer in another; `wait` makes the second wait for the first.
fn produce_and_consume(seed: u64, flags: [u32; 2], wait: impl Fn(&Gpu, usize, usize)) -> Vec<u8> {
    let gpu = gpu_with(|o| o.seed = seed);
    let [one, two] = flags.map(|flags| make(|s| cuStreamCreate(s, flags)));
    let (a, b) = (gpu.alloc(4), gpu.alloc(4));
    assert_eq!(cuMemsetD8_v2(a, 1, 4), OK);
    assert_eq!(cuCtxSynchronize(), OK);
    assert_eq!(launch(function(c"add_one"), one, &[a, 4]), OK);
    wait(&gpu, one, two);
    assert_eq!(cuMemcpyDtoDAsync_v2(b, a, 4, two), OK);
    assert_eq!(cuStreamSynchronize(two), OK);
    gpu.read(b, 4)
}

#[test]
fn an_event_orders_two_streams() {
    for seed in SEEDS {
        let seen = produce_and_consume(seed, [1, 1], |gpu, one, two| {
            let event = gpu.event();
            assert_eq!(cuEventRecord(event, one), OK);
            assert_eq!(cuStreamWaitEvent(two, event, 0), OK);
            // Recording it anew later does not move the wait.
            assert_eq!(cuEventDestroy_v2(event), OK);
        });
        assert_eq!(seen, [2; 4], "seed {seed}");
    }
}

#[test]
fn a_forgotten_wait_shows() {
    assert_eq!(produce_and_consume(0, [1, 1], |_, _, _| ()), [1; 4]);
    let wrong = SEEDS.filter(|&s| produce_and_consume(s, [1, 1], |_, _, _| ()) == [1; 4]).count();
    let right = SEEDS.count() - wrong;
    assert!(wrong > 0 && right > 0, "both orders are legal, and both are tried: {wrong} {right}");
}

#[test]
fn blocking_streams_meet_in_the_default_stream_only() {
    for seed in SEEDS {
        let through_default = |_: &Gpu, _, _| {
            assert_eq!(launch(function(c"nothing"), 0, &[]), OK);
        };
        assert_eq!(produce_and_consume(seed, [0, 0], through_default), [2; 4], "seed {seed}");
    }
    assert_eq!(produce_and_consume(0, [0, 0], |_, _, _| ()), [1; 4]);
    // A non-blocking stream takes no part in it.
    let through_default = |_: &Gpu, _, _| {
        assert_eq!(launch(function(c"nothing"), 0, &[]), OK);
    };
    assert_eq!(produce_and_consume(0, [0, 1], through_default), [1; 4]);
    assert_eq!(produce_and_consume(0, [1, 0], through_default), [1; 4]);
}

#[test]
fn the_default_stream_waits_for_destroyed_blocking_streams() {
    for seed in SEEDS {
        let gpu = gpu_with(|o| o.seed = seed);
        let stream = make(|s| cuStreamCreate(s, 0));
        let a = gpu.alloc(4);
        assert_eq!(cuMemsetD8Async(a, 6, 4, stream), OK);
        assert_eq!(cuStreamDestroy_v2(stream), OK);
        assert_eq!(gpu.read(a, 4), [6; 4], "seed {seed}");
    }
}

#[test]
fn a_plain_copy_to_the_device_may_arrive_after_its_return() {
    let gpu = gpu();
    let stream = gpu.stream();
    let (a, b) = (gpu.alloc(4), gpu.alloc(4));
    assert_eq!(cuMemsetD8_v2(a, 1, 4), OK);
    assert_eq!(cuCtxSynchronize(), OK);
    assert_eq!(htod(a, &[2; 4]), OK);
    assert_eq!(cuMemcpyDtoDAsync_v2(b, a, 4, stream), OK);
    assert_eq!(cuStreamSynchronize(stream), OK);
    assert_eq!(gpu.read(b, 4), [1; 4], "a non-blocking stream does not wait for the copy");
}

#[test]
fn overwriting_too_early_shows() {
    let gpu = gpu();
    let (one, two) = (gpu.stream(), gpu.stream());
    let (a, b) = (gpu.alloc(4), gpu.alloc(4));
    assert_eq!(cuMemsetD8_v2(a, 1, 4), OK);
    assert_eq!(cuCtxSynchronize(), OK);
    assert_eq!(cuMemcpyDtoDAsync_v2(b, a, 4, one), OK);
    assert_eq!(cuMemsetD8Async(a, 9, 4, two), OK);
    assert_eq!(cuStreamSynchronize(two), OK);
    assert_eq!(cuStreamSynchronize(one), OK);
    assert_eq!(gpu.read(b, 4), [9; 4]);
}

#[test]
fn one_stream_keeps_its_order() {
    for seed in SEEDS {
        let gpu = gpu_with(|o| o.seed = seed);
        let stream = gpu.stream();
        let add = function(c"add_one");
        let a = gpu.alloc(4);
        for _ in 0..3 {
            assert_eq!(cuMemsetD8Async(a, 0, 4, stream), OK);
            for _ in 0..5 {
                assert_eq!(launch(add, stream, &[a, 4]), OK);
            }
        }
        assert_eq!(cuStreamSynchronize(stream), OK);
        assert_eq!(gpu.read(a, 4), [5; 4], "seed {seed}");
        assert_eq!(gpu.kinds(), []);
    }
}

#[test]
fn long_queues_drain_by_themselves() {
    let gpu = gpu();
    let stream = gpu.stream();
    let add = function(c"add_one");
    let a = gpu.alloc(1);
    assert_eq!(cuMemsetD8Async(a, 0, 1, stream), OK);
    for _ in 0..5000 {
        assert_eq!(launch(add, stream, &[a, 1]), OK);
    }
    assert_eq!(cuStreamSynchronize(stream), OK);
    assert_eq!(gpu.read(a, 1), [(5000 % 256) as u8]);
}

static CALLS: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" fn count(data: *mut c_void) {
    assert_eq!(cuCtxSynchronize(), NOT_PERMITTED);
    CALLS.fetch_add(data as u32, Ordering::Relaxed);
}

#[test]
fn host_functions_run_in_their_turn_and_may_not_call() {
    let gpu = gpu();
    let stream = gpu.stream();
    // SAFETY: the function takes a number for a pointer.
    assert_eq!(unsafe { cuLaunchHostFunc(stream, Some(count), without_provenance_mut(5)) }, OK);
    assert_eq!(CALLS.load(Ordering::Relaxed), 0);
    assert_eq!(cuStreamSynchronize(stream), OK);
    assert_eq!(CALLS.load(Ordering::Relaxed), 5);
    // SAFETY: null is refused.
    assert_eq!(unsafe { cuLaunchHostFunc(stream, None, std::ptr::null_mut()) }, INVALID_VALUE);
}

#[test]
fn threads_have_default_streams_of_their_own() {
    let gpu = gpu();
    let a = gpu.alloc(4);
    assert_eq!(cuMemsetD8Async(a, 3, 4, 2), OK);
    // It is a blocking stream: the default stream waits for it.
    assert_eq!(gpu.read(a, 4), [3; 4]);
    let context = gpu.context;
    std::thread::spawn(move || {
        assert_eq!(cuCtxSetCurrent(context), OK);
        assert_eq!(cuMemsetD8Async(a, 4, 4, 2), OK);
        assert_eq!(cuStreamSynchronize(2), OK);
    })
    .join()
    .unwrap();
    assert_eq!(gpu.read(a, 4), [4; 4]);
}
