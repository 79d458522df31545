use std::ffi::c_void;

use crate::abi::*;

#[repr(C)]
struct Props {
    allocation_type: u32,
    handle_types: u32,
    location_type: u32,
    location_id: i32,
    rest: [u64; 9],
}

fn create(allocation_type: u32, location_type: u32, location_id: i32) -> (u32, usize) {
    let props =
        Props { allocation_type, handle_types: 0, location_type, location_id, rest: [0; 9] };
    let mut pool = 0;
    // SAFETY: room for the handle, and properties as declared.
    (unsafe { cuMemPoolCreate(&mut pool, (&raw const props).cast()) }, pool)
}

fn attribute(pool: usize, attribute: u32) -> u64 {
    let mut value = 0_u64;
    // SAFETY: room for any of the values.
    assert_eq!(
        unsafe { cuMemPoolGetAttribute(pool, attribute, (&raw mut value).cast::<c_void>()) },
        OK
    );
    value
}

fn set(pool: usize, attribute: u32, mut value: u64) -> u32 {
    // SAFETY: as above.
    unsafe { cuMemPoolSetAttribute(pool, attribute, (&raw mut value).cast()) }
}

#[test]
fn pools_count_what_they_hold() {
    let gpu = gpu();
    let stream = gpu.stream();
    let (code, pool) = create(1, 1, 0);
    assert_eq!(code, OK);
    let mut a = 0;
    assert_eq!(cuMemAllocFromPoolAsync(&mut a, 1000, pool, stream), OK);
    assert_eq!((attribute(pool, 7), attribute(pool, 8)), (1000, 1000));
    assert_eq!(cuMemFreeAsync(a, stream), OK);
    assert_eq!(cuStreamSynchronize(stream), OK);
    assert_eq!((attribute(pool, 7), attribute(pool, 8)), (0, 1000));
    assert_eq!(set(pool, 8, 0), OK);
    assert_eq!(attribute(pool, 8), 0);
    assert_eq!(set(pool, 8, 5), INVALID_VALUE);
    assert_eq!(set(pool, 4, 1 << 20), OK);
    assert_eq!(attribute(pool, 4), 1 << 20);
    assert_eq!(set(pool, 99, 0), INVALID_VALUE);
    assert_eq!(cuMemPoolTrimTo(pool, 0), OK);
    assert_eq!(cuMemPoolDestroy(pool), OK);
    assert_eq!(cuMemPoolDestroy(pool), INVALID_HANDLE);
    assert_eq!(cuMemAllocFromPoolAsync(&mut a, 1000, pool, stream), INVALID_HANDLE);
    assert_eq!(gpu.kinds(), []);
}

#[test]
fn the_device_has_a_default_pool() {
    let _gpu = gpu();
    let default = make(|p| cuDeviceGetDefaultMemPool(p, 0));
    assert_eq!(make(|p| cuDeviceGetMemPool(p, 0)), default);
    assert_eq!(cuMemPoolDestroy(default), INVALID_VALUE);
    let (_, pool) = create(1, 1, 0);
    assert_eq!(cuDeviceSetMemPool(0, pool), OK);
    assert_eq!(make(|p| cuDeviceGetMemPool(p, 0)), pool);
    let mut a = 0;
    assert_eq!(cuMemAllocAsync(Some(&mut a), 64, 0), OK);
    assert_eq!(attribute(pool, 7), 64);
    assert_eq!(cuMemPoolDestroy(pool), OK);
    assert_eq!(make(|p| cuDeviceGetMemPool(p, 0)), default);
    assert_eq!(cuDeviceSetMemPool(0, pool), INVALID_HANDLE);
    assert_eq!(cuMemFree_v2(a), OK);
}

#[test]
fn pools_are_on_the_device() {
    let _gpu = gpu();
    assert_eq!(create(0, 1, 0).0, INVALID_VALUE);
    assert_eq!(create(1, 2, 0).0, NOT_SUPPORTED);
    assert_eq!(create(1, 1, 1).0, INVALID_DEVICE);
}
