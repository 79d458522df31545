use crate::abi::*;

#[test]
fn events_happen_in_their_stream() {
    let gpu = gpu();
    let stream = gpu.stream();
    let (start, end) = (gpu.event(), gpu.event());
    let mut ms = 0.0;
    assert_eq!(cuEventElapsedTime_v2(&mut ms, start, end), INVALID_HANDLE);
    assert_eq!(cuEventQuery(start), OK, "never recorded counts as done");
    assert_eq!(cuEventRecord(start, stream), OK);
    assert_eq!(launch(function(c"nothing"), stream, &[]), OK);
    assert_eq!(cuEventRecord(end, stream), OK);
    assert_eq!(cuEventElapsedTime_v2(&mut ms, start, end), NOT_READY);
    assert_eq!(cuEventQuery(end), NOT_READY);
    assert_eq!(cuEventSynchronize(end), OK);
    assert_eq!(cuEventQuery(end), OK);
    assert_eq!(cuEventElapsedTime_v2(&mut ms, start, end), OK);
    assert!(ms > 0.0 && ms < 1.0, "{ms}");
    assert_eq!(cuEventElapsedTime_v2(&mut ms, end, start), OK);
    assert!(ms < 0.0);
}

#[test]
fn polling_comes_to_an_end() {
    for seed in 0..8 {
        let gpu = gpu_with(|o| o.seed = seed);
        let stream = gpu.stream();
        let a = gpu.alloc(4);
        for value in 0..10 {
            assert_eq!(cuMemsetD8Async(a, value, 4, stream), OK);
        }
        let mut polls = 0;
        while cuStreamQuery(stream) == NOT_READY {
            polls += 1;
            assert!(polls < 100);
        }
        assert_eq!(cuStreamQuery(stream), OK);
        assert_eq!(gpu.read(a, 4), [9; 4]);
    }
}

#[test]
fn wrong_use_is_refused() {
    let gpu = gpu();
    let stream = gpu.stream();
    let mut event = 0;
    assert_eq!(cuEventCreate(&mut event, 8), INVALID_VALUE);
    assert_eq!(cuEventCreate(&mut event, 4), INVALID_VALUE);
    assert_eq!(cuEventCreate(&mut event, 6), NOT_SUPPORTED);
    assert_eq!(cuEventCreate(&mut event, 2), OK);
    assert_eq!(cuEventRecord(event, stream), OK);
    assert_eq!(cuEventSynchronize(event), OK);
    assert_eq!(cuEventElapsedTime_v2(&mut 0.0, event, event), INVALID_HANDLE);
    assert_eq!(cuEventRecordWithFlags(event, stream, 2), INVALID_VALUE);
    assert_eq!(cuStreamWaitEvent(stream, event, 2), INVALID_VALUE);
    assert_eq!(cuEventDestroy_v2(event), OK);
    assert_eq!(cuEventDestroy_v2(event), INVALID_HANDLE);
    assert_eq!(cuEventRecord(event, stream), INVALID_HANDLE);
    assert_eq!(cuEventQuery(event), INVALID_HANDLE);
    assert_eq!(cuStreamWaitEvent(stream, event, 0), INVALID_HANDLE);
    assert_eq!(cuStreamCreate(&mut 0, 2), INVALID_VALUE);
    assert_eq!(cuStreamDestroy_v2(stream), OK);
    assert_eq!(cuStreamDestroy_v2(stream), INVALID_HANDLE);
    assert_eq!(cuStreamDestroy_v2(0), INVALID_HANDLE);
    assert_eq!(cuStreamSynchronize(stream), INVALID_HANDLE);
    // Events of another context cannot be recorded here.
    let foreign = gpu.event();
    let mut own = 0;
    assert_eq!(cuCtxCreate_v2(&mut own, 0, 0), OK);
    let stream = gpu.stream();
    assert_eq!(cuEventRecord(foreign, stream), INVALID_HANDLE);
    assert_eq!(cuCtxDestroy_v2(own), OK);
}
