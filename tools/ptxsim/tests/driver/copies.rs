use std::ffi::c_void;

use ptxsim::finding::Kind;

use crate::abi::*;

#[test]
fn copies_arrive() {
    let gpu = gpu();
    let (a, b) = (gpu.alloc(8), gpu.alloc(8));
    assert_eq!(htod(a, &[1, 2, 3, 4, 5, 6, 7, 8]), OK);
    assert_eq!(cuMemcpyDtoD_v2(b, a, 8), OK);
    assert_eq!(gpu.read(b, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
    let host = gpu.pinned(8);
    // SAFETY: addresses of 8 bytes each.
    assert_eq!(unsafe { cuMemcpy(host.as_ptr() as u64, b, 8) }, OK);
    assert_eq!(host, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(gpu.kinds(), []);
}

#[test]
fn memsets_repeat_their_value() {
    let gpu = gpu();
    let a = gpu.alloc(24);
    assert_eq!(cuMemsetD8_v2(a, 7, 24), OK);
    assert_eq!(cuMemsetD16Async(a, 0x0201, 2, 0), OK);
    assert_eq!(cuMemsetD32_v2(a + 4, 0x0807_0605, 1), OK);
    assert_eq!(gpu.read(a, 9), [1, 2, 1, 2, 5, 6, 7, 8, 7]);
    assert_eq!(cuMemsetD2D32Async(a, 12, 0, 1, 2, 0), OK);
    assert_eq!(gpu.read(a, 17), [0, 0, 0, 0, 5, 6, 7, 8, 7, 7, 7, 7, 0, 0, 0, 0, 7]);
    assert_eq!(cuMemsetD32_v2(a + 2, 0, 1), INVALID_VALUE);
    assert_eq!(cuMemsetD32Async(a, 0, 7, 0), INVALID_VALUE);
    assert_eq!(cuMemsetD2D32Async(a, 4, 0, 2, 2, 0), INVALID_VALUE);
    assert_eq!(cuMemsetD8Async(a, 0, 4, 99), INVALID_HANDLE);
}

#[test]
fn ranges_are_checked() {
    let gpu = gpu();
    let a = gpu.alloc(8);
    assert_eq!(htod(a + 4, &[0; 8]), INVALID_VALUE);
    assert_eq!(htod(77, &[0; 8]), INVALID_VALUE);
    assert_eq!(dtoh(&mut [0; 9], a), INVALID_VALUE);
    // SAFETY: null is refused.
    assert_eq!(unsafe { cuMemcpyHtoD_v2(a, std::ptr::null(), 8) }, INVALID_VALUE);
    // SAFETY: memory of the device is refused as memory of the host.
    assert_eq!(unsafe { cuMemcpyHtoD_v2(a, a as *const c_void, 8) }, INVALID_VALUE);
    assert_eq!(gpu.kinds(), []);
    assert_eq!(cuMemFree_v2(a), OK);
    assert_eq!(htod(a, &[0; 8]), INVALID_VALUE);
    assert_eq!(gpu.kinds(), [Kind::UseAfterFree]);
}

#[test]
fn reading_what_was_never_written_is_found() {
    let gpu = gpu();
    let (a, b) = (gpu.alloc(8), gpu.alloc(8));
    assert_eq!(htod(a, &[0; 4]), OK);
    assert_eq!(gpu.read(a, 4), [0; 4]);
    assert_eq!(gpu.kinds(), []);
    assert_eq!(cuMemcpyDtoD_v2(b, a, 8), OK);
    gpu.read(b, 8);
    gpu.read(b, 8);
    let found = gpu.findings();
    assert_eq!(gpu.kinds(), [Kind::UninitialisedRead]);
    assert_eq!(found[0].count, 2);
    assert!(found[0].message.contains("byte 4 of allocation 2"), "{}", found[0].message);
}

#[test]
fn pageable_memory_is_read_at_the_call() {
    let gpu = gpu();
    let stream = gpu.stream();
    let a = gpu.alloc(4);
    let mut host = vec![1; 4];
    assert_eq!(htod_async(a, &host, stream), OK);
    host.fill(9);
    assert_eq!(cuStreamSynchronize(stream), OK);
    assert_eq!(gpu.read(a, 4), [1; 4]);
}

#[test]
fn pinned_memory_is_read_when_the_stream_comes_to_it() {
    let gpu = gpu();
    let stream = gpu.stream();
    let a = gpu.alloc(4);
    let host = gpu.pinned(4);
    host.fill(1);
    assert_eq!(htod_async(a, host, stream), OK);
    host.fill(9);
    assert_eq!(cuStreamSynchronize(stream), OK);
    assert_eq!(gpu.read(a, 4), [9; 4], "the program changed it too early");
    // The call without Async waits.
    assert_eq!(htod(a, host), OK);
    host.fill(3);
    assert_eq!(gpu.read(a, 4), [9; 4]);
}

#[test]
fn results_reach_pinned_memory_late_and_pageable_memory_at_once() {
    let gpu = gpu();
    let stream = gpu.stream();
    let a = gpu.alloc(4);
    assert_eq!(htod(a, &[5; 4]), OK);
    assert_eq!(cuCtxSynchronize(), OK);
    let (pinned, mut pageable) = (gpu.pinned(4), vec![0; 4]);
    assert_eq!(dtoh_async(pinned, a, stream), OK);
    assert_eq!(pinned, [0; 4]);
    assert_eq!(dtoh_async(&mut pageable, a, stream), OK);
    assert_eq!(pageable, [5; 4]);
    assert_eq!(pinned, [5; 4], "it came before in the stream");
}

#[test]
fn a_copy_that_outlives_its_memory_is_a_fault() {
    let gpu = gpu();
    let (one, two) = (gpu.stream(), gpu.stream());
    let mut a = 0;
    assert_eq!(cuMemAllocAsync(Some(&mut a), 4, one), OK);
    assert_eq!(cuStreamSynchronize(one), OK);
    assert_eq!(cuMemsetD8Async(a, 1, 4, two), OK);
    // The other stream frees without waiting for the memset.
    assert_eq!(cuMemFreeAsync(a, one), OK);
    assert_eq!(cuStreamSynchronize(one), OK);
    assert_eq!(cuStreamSynchronize(two), ILLEGAL_ADDRESS);
    assert_eq!(gpu.kinds(), [Kind::UseAfterFree]);
}

#[test]
fn memory_is_there_only_after_its_stream_ordered_allocation() {
    let gpu = gpu();
    let (one, two) = (gpu.stream(), gpu.stream());
    let mut a = 0;
    assert_eq!(cuMemAllocAsync(Some(&mut a), 4, one), OK);
    assert_eq!(cuMemsetD8Async(a, 1, 4, two), OK);
    assert_eq!(cuStreamSynchronize(two), ILLEGAL_ADDRESS);
    let found = gpu.findings();
    assert!(found[0].message.contains("has not taken place"), "{}", found[0].message);
}
