use std::ffi::c_void;
use std::ptr::{null_mut, without_provenance_mut};

use ptxsim::finding::Kind;

use crate::abi::*;

#[test]
fn a_kernel_runs() {
    let gpu = gpu();
    let a = gpu.alloc(4);
    assert_eq!(htod(a, &[1, 2, 3, 4]), OK);
    assert_eq!(launch(function(c"add_one"), 0, &[a, 4]), OK);
    assert_eq!(gpu.read(a, 4), [2, 3, 4, 5]);
    assert_eq!(gpu.kinds(), []);
}

#[test]
fn limits_of_a_launch() {
    let gpu = gpu();
    let f = function(c"nothing");
    for (grid, block, code) in [
        ([0, 1, 1], [1, 1, 1], INVALID_VALUE),
        ([1, 65536, 1], [1, 1, 1], INVALID_VALUE),
        ([1, 1, 1], [0, 1, 1], INVALID_VALUE),
        ([1, 1, 1], [1025, 1, 1], INVALID_VALUE),
        ([1, 1, 1], [1, 1, 65], INVALID_VALUE),
        ([1, 1, 1], [32, 33, 1], INVALID_VALUE),
        ([i32::MAX as u32, 65535, 65535], [1, 1, 1], OK),
        ([1, 1, 1], [32, 32, 1], OK),
    ] {
        assert_eq!(launch_as(f, grid, block, 0, 0, &[]), code, "{grid:?} {block:?}");
    }
    let one = [1; 3];
    assert_eq!(launch_as(function(c"hungry"), one, [512, 1, 1], 0, 0, &[]), OK);
    assert_eq!(launch_as(function(c"hungry"), one, [544, 1, 1], 0, 0, &[]), OUT_OF_RESOURCES);
    assert_eq!(launch_as(function(c"bounded"), one, [65, 1, 1], 0, 0, &[]), INVALID_VALUE);
    assert_eq!(launch_as(function(c"required"), one, [8, 4, 1], 0, 0, &[]), OK);
    assert_eq!(launch_as(function(c"required"), one, [32, 1, 1], 0, 0, &[]), INVALID_VALUE);
    assert!(gpu.kinds().iter().all(|&k| k == Kind::BadLaunch));
    assert_eq!(launch(4711, 0, &[]), INVALID_HANDLE);
    assert_eq!(launch(f, 4711, &[]), INVALID_HANDLE);
}

#[test]
fn shared_memory_beyond_48_kib_is_asked_for() {
    let gpu = gpu();
    let f = function(c"shared");
    let go = |bytes| launch_as(f, [1; 3], [32, 1, 1], bytes, 0, &[]);
    assert_eq!(go(32 << 10), OK);
    assert_eq!(go((32 << 10) + 1), INVALID_VALUE);
    assert!(gpu.findings()[0].message.contains("CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES"));
    assert_eq!(cuFuncSetAttribute(f, 8, 211 << 10), OK);
    assert_eq!(go(211 << 10), OK);
    assert_eq!(go((211 << 10) + 1), INVALID_VALUE);
}

#[test]
fn parameters_are_counted_and_sized() {
    let _gpu = gpu();
    let f = function(c"mixed");
    let (mut small, mut big) = (1_u32, 2_u64);
    let mut each: [*mut c_void; 2] = [(&raw mut small).cast(), (&raw mut big).cast()];
    let mut block = [0_u8; 32];
    let go = |each: *mut *mut c_void, extra: *mut *mut c_void| {
        // SAFETY: what is not null is as declared.
        unsafe { cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, 0, each, extra) }
    };
    let mut with_buffer = |mut bytes: usize| {
        let mut extra: [*mut c_void; 5] = [
            without_provenance_mut(1),
            block.as_mut_ptr().cast(),
            without_provenance_mut(2),
            (&raw mut bytes).cast(),
            null_mut(),
        ];
        go(null_mut(), extra.as_mut_ptr())
    };
    assert_eq!(with_buffer(16), OK);
    assert_eq!(with_buffer(15), INVALID_VALUE);
    assert_eq!(with_buffer(24), INVALID_VALUE);
    assert_eq!(go(each.as_mut_ptr(), null_mut()), OK);
    assert_eq!(go(null_mut(), null_mut()), INVALID_VALUE);
    let mut wrong: [*mut c_void; 3] = [without_provenance_mut(7), null_mut(), null_mut()];
    assert_eq!(go(null_mut(), wrong.as_mut_ptr()), INVALID_VALUE);
    assert_eq!(go(each.as_mut_ptr(), wrong.as_mut_ptr()), INVALID_VALUE);
    each[1] = null_mut();
    assert_eq!(go(each.as_mut_ptr(), null_mut()), INVALID_VALUE);
}

#[test]
fn attributes_of_a_launch() {
    let gpu = gpu();
    let a = gpu.alloc(1);
    assert_eq!(htod(a, &[1]), OK);
    let f = function(c"add_one");
    let go = |id, value: u64, grid| {
        let value = [value, 1, 0, 0, 0, 0, 0, 0];
        let attribute = LaunchAttribute { id, pad: 0, value };
        let config = LaunchConfig {
            grid: [grid, 1, 1],
            block: [1024, 1, 1],
            shared: 0,
            stream: 0,
            attributes: &attribute,
            count: 1,
        };
        let values = [a, 1];
        let mut params = pointers(&values);
        // SAFETY: all as declared.
        unsafe { cuLaunchKernelEx(&config, f, params.as_mut_ptr(), null_mut()) }
    };
    // One block each way: x = y = z = 1.
    assert_eq!(go(4, 1 | 1 << 32, 1), OK);
    assert_eq!(go(4, 2 | 1 << 32, 1), NOT_SUPPORTED);
    assert_eq!(go(6, 1, 1), OK);
    assert_eq!(go(2, 1, 264), OK);
    assert_eq!(go(2, 1, 265), COOPERATIVE_TOO_LARGE);
    assert_eq!(go(2, 0, 265), OK);
    assert_eq!(go(77, 0, 1), INVALID_VALUE);
    assert_eq!(gpu.read(a, 1), [5]);
    // SAFETY: null is refused.
    assert_eq!(
        unsafe { cuLaunchKernelEx(std::ptr::null(), f, null_mut(), null_mut()) },
        INVALID_VALUE
    );
}

#[test]
fn cooperative_launches_fit_the_device() {
    let _gpu = gpu();
    let f = function(c"nothing");
    // SAFETY: a kernel without parameters.
    let go =
        |grid| unsafe { cuLaunchCooperativeKernel(f, grid, 1, 1, 1024, 1, 1, 0, 0, null_mut()) };
    assert_eq!(go(2 * 132), OK);
    assert_eq!(go(2 * 132 + 1), COOPERATIVE_TOO_LARGE);
}

unsafe extern "C" fn half_a_kib_each(threads: i32) -> usize {
    threads as usize * 512
}

#[test]
fn occupancy_follows_the_formula() {
    let _gpu = gpu();
    let (f, hungry) = (function(c"nothing"), function(c"hungry"));
    let blocks = |f, threads, shared| {
        let mut n = 0;
        (cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut n, f, threads, shared), n)
    };
    assert_eq!(blocks(f, 128, 0), (OK, 16));
    assert_eq!(blocks(f, 128, 47 << 10), (OK, 4));
    assert_eq!(blocks(f, 128, 49 << 10), (OK, 0));
    assert_eq!(blocks(hungry, 128, 0), (OK, 4));
    assert_eq!(blocks(f, 0, 0).0, INVALID_VALUE);
    assert_eq!(blocks(9, 32, 0).0, INVALID_HANDLE);
    let (mut grid, mut block) = (0, 0);
    // SAFETY: room for the results, and a function of threads.
    let mut best = |f, to_shared, limit| unsafe {
        let code = cuOccupancyMaxPotentialBlockSize(&mut grid, &mut block, f, to_shared, 0, limit);
        (code, grid, block)
    };
    assert_eq!(best(f, None, 0), (OK, 264, 1024));
    assert_eq!(best(f, None, 256), (OK, 1056, 256));
    assert_eq!(best(hungry, None, 0), (OK, 132, 512));
    assert_eq!(best(f, Some(half_a_kib_each), 0), (OK, 13 * 132, 32));
    let mut left = 0;
    assert_eq!(cuOccupancyAvailableDynamicSMemPerBlock(&mut left, f, 2, 1024), OK);
    assert_eq!(left, 113 << 10);
    assert_eq!(cuOccupancyAvailableDynamicSMemPerBlock(&mut left, f, 3, 1024), INVALID_VALUE);
}
