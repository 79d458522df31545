use std::ffi::c_void;

use ptxsim::finding::Kind;

use crate::abi::*;

#[test]
fn allocation_and_its_errors() {
    let gpu = gpu();
    assert_eq!(cuMemAlloc_v2(None, 16), INVALID_VALUE);
    assert_eq!(cuMemAlloc_v2(Some(&mut 0), 0), INVALID_VALUE);
    assert_eq!(cuMemAlloc_v2(Some(&mut 0), MEMORY as usize + 1), OUT_OF_MEMORY);
    let (mut free, mut total) = (0, 0);
    assert_eq!(cuMemGetInfo_v2(&mut free, &mut total), OK);
    assert_eq!((free as u64, total as u64), (MEMORY, MEMORY));
    let a = gpu.alloc(1000);
    assert_eq!(cuMemGetInfo_v2(&mut free, &mut total), OK);
    assert_eq!(free as u64, MEMORY - 1024);
    let (mut base, mut bytes) = (0, 0);
    assert_eq!(cuMemGetAddressRange_v2(Some(&mut base), Some(&mut bytes), a + 999), OK);
    assert_eq!((base, bytes), (a, 1000));
    assert_eq!(cuMemGetAddressRange_v2(None, None, a + 1000), NOT_FOUND);
    assert_eq!(cuMemFree_v2(a), OK);
    let mut pitch = 0;
    assert_eq!(cuMemAllocPitch_v2(&mut base, &mut pitch, 100, 3, 4), OK);
    assert_eq!(pitch, 512);
    assert_eq!(cuMemAllocPitch_v2(&mut base, &mut pitch, 100, 3, 5), INVALID_VALUE);
    assert_eq!(cuMemFree_v2(base), OK);
    assert_eq!(gpu.kinds(), []);
}

#[test]
fn wrong_frees_are_refused_and_found() {
    let gpu = gpu();
    let a = gpu.alloc(64);
    assert_eq!(cuMemFree_v2(a + 8), INVALID_VALUE);
    assert_eq!(cuMemFree_v2(1234), INVALID_VALUE);
    assert_eq!(cuMemFree_v2(a), OK);
    assert_eq!(cuMemFree_v2(a), INVALID_VALUE);
    assert_eq!(gpu.kinds(), [Kind::InvalidFree, Kind::InvalidFree, Kind::DoubleFree]);
    let host = gpu.pinned(16).as_mut_ptr();
    assert_eq!(cuMemFree_v2(host as u64), INVALID_VALUE);
    assert_eq!(cuMemFreeHost(host), OK);
    assert_eq!(cuMemFreeHost(host), INVALID_VALUE);
    assert_eq!(gpu.kinds()[3..], [Kind::InvalidFree, Kind::DoubleFree]);
}

#[test]
fn stream_ordered_frees_are_checked_when_asked_for() {
    let gpu = gpu();
    let stream = gpu.stream();
    let mut a = 0;
    assert_eq!(cuMemAllocAsync(None, 64, stream), INVALID_VALUE);
    assert_eq!(cuMemAllocAsync(Some(&mut a), 64, 4711), INVALID_HANDLE);
    assert_eq!(cuMemAllocAsync(Some(&mut a), 64, stream), OK);
    assert_eq!(cuMemFreeAsync(a, stream), OK);
    assert_eq!(cuMemFreeAsync(a, stream), INVALID_VALUE);
    assert_eq!(gpu.kinds(), [Kind::DoubleFree]);
    assert_eq!(cuStreamSynchronize(stream), OK);
    assert_eq!(cuMemFree_v2(a), INVALID_VALUE);
}

#[test]
fn pending_frees_make_room() {
    let gpu = gpu();
    let stream = gpu.stream();
    let most = MEMORY as usize;
    for _ in 0..4 {
        let mut a = 0;
        assert_eq!(cuMemAllocAsync(Some(&mut a), most, stream), OK);
        assert_eq!(cuMemFreeAsync(a, stream), OK);
    }
    assert_eq!(cuStreamSynchronize(stream), OK);
    assert_eq!(gpu.kinds(), []);
}

#[test]
fn leaks_are_found_at_the_end() {
    let gpu = gpu();
    let (kept, freed, pinned) = (gpu.alloc(100), gpu.alloc(100), gpu.pinned(8));
    assert_eq!(cuMemFree_v2(freed), OK);
    ptxsim::driver::find_leaks();
    let found = gpu.findings();
    assert_eq!(gpu.kinds(), [Kind::Leak, Kind::Leak]);
    assert!(found[0].message.contains(&format!("100 bytes at {kept:#x}, from cuMemAlloc")));
    assert!(
        found[1].message.contains(&format!("{:#x}, from cuMemHostAlloc", pinned.as_ptr() as u64))
    );
}

#[test]
fn leaks_are_found_when_a_context_ends() {
    let gpu = gpu();
    let stream = gpu.stream();
    gpu.alloc(100);
    let mut pending = 0;
    assert_eq!(cuMemAllocAsync(Some(&mut pending), 64, stream), OK);
    assert_eq!(cuMemFreeAsync(pending, stream), OK);
    assert_eq!(cuDevicePrimaryCtxRelease_v2(0), OK);
    assert_eq!(gpu.kinds(), [Kind::Leak]);
}

#[test]
fn pointers_can_be_asked_about() {
    let gpu = gpu();
    let (device, host) = (gpu.alloc(64), gpu.pinned(64).as_ptr() as u64);
    let ask = |attribute, address| {
        let mut value = 0_u64;
        // SAFETY: room for any of the values.
        let code =
            unsafe { cuPointerGetAttribute((&raw mut value).cast::<c_void>(), attribute, address) };
        (code, value)
    };
    assert_eq!(ask(2, device), (OK, 2));
    assert_eq!(ask(2, host), (OK, 1));
    assert_eq!(ask(11, device + 5), (OK, device));
    assert_eq!(ask(12, device + 5), (OK, 64));
    assert_eq!(ask(1, device), (OK, gpu.context as u64));
    assert_eq!(ask(4, device).0, INVALID_VALUE);
    assert_eq!(ask(2, 99).0, INVALID_VALUE);
}
