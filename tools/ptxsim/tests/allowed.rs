//! What public CUDA programs do, often at the edge of the rules, and must be neither refused nor blamed for.

mod support;

use std::ffi::CString;

use cudarc::driver::{CudaContext, DevicePtr, result, sys};
use ptxsim::exec::Level;
use support::{Arg, Device};

/// A kernel that keeps `live` values at once: it loads them all before it adds them up.
fn many_values(live: usize) -> String {
    let loads: String =
        (0..live).map(|i| format!("ld.global.nc.u32 %r{}, [%rd2+{}];\n", i + 1, 4 * i)).collect();
    let sums: String = (0..live).map(|i| format!("add.s32 %r0, %r0, %r{};\n", i + 1)).collect();
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n\
         .visible .entry many(.param .u64 from, .param .u64 to) {{\n\
         .reg .b32 %r<{}>;\n.reg .b32 %t;\n.reg .b64 %rd<6>;\n\
         ld.param.u64 %rd1, [from];\ncvta.to.global.u64 %rd2, %rd1;\n{loads}\
         mov.u32 %r0, 0;\n{sums}\
         ld.param.u64 %rd3, [to];\ncvta.to.global.u64 %rd4, %rd3;\n\
         mov.u32 %t, %tid.x;\nmul.wide.u32 %rd5, %t, 4;\nadd.s64 %rd4, %rd4, %rd5;\n\
         st.global.u32 [%rd4], %r0;\nret;\n}}\n",
        live + 1
    )
}

/// How many registers a kernel gets is for an assembler to say. By the text alone this one needs 90 a
/// thread, of which 1024 threads would not fit; an assembler would add up as it loads.
#[test]
fn a_guess_of_registers_refuses_no_launch() {
    ptxsim::preload().unwrap();
    let context = CudaContext::new(0).unwrap();
    let stream = context.default_stream();
    let text = CString::new(many_values(90)).unwrap();
    // SAFETY: PTX with its end marked.
    let module = unsafe { result::module::load_data(text.as_ptr().cast()) }.unwrap();
    // SAFETY: the module stays loaded.
    let many = unsafe { result::module::get_function(module, c"many".to_owned()) }.unwrap();
    let values: Vec<u32> = (0..90).map(|i| i * i).collect();
    let from = stream.clone_htod(&values).unwrap();
    let to = stream.alloc_zeros::<u32>(1024).unwrap();
    let (mut from_at, mut to_at) = (from.device_ptr(&stream).0, to.device_ptr(&stream).0);
    let mut args = [(&raw mut from_at).cast(), (&raw mut to_at).cast()];
    let (grid, block) = ((1, 1, 1), (1024, 1, 1));
    // SAFETY: the arguments are the kernel's.
    unsafe { result::launch_kernel(many, grid, block, 0, stream.cu_stream(), &mut args) }.unwrap();
    assert_eq!(stream.clone_dtoh(&to).unwrap(), [values.iter().sum::<u32>(); 1024]);
    let mut blocks = 0;
    // SAFETY: a function, and a place for the answer.
    unsafe { sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut blocks, many, 1024, 0) };
    assert_eq!(blocks, 1);
}

/// Warp 1 writes and leaves; `barrier` in warp 0; then warp 0 reads what warp 1 wrote.
fn leaves_early(barrier: &str) -> String {
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n\
         .visible .entry leave(.param .u64 to) {{\n\
         .shared .align 4 .b8 box[256];\n.reg .b32 %r<6>;\n.reg .b64 %rd<5>;\n.reg .pred %p;\n\
         mov.u32 %r1, %tid.x;\nshl.b32 %r2, %r1, 2;\nmov.u32 %r3, box;\nadd.s32 %r3, %r3, %r2;\n\
         setp.lt.u32 %p, %r1, 32;\n@%p bra $stay;\n\
         st.shared.u32 [%r3], %r1;\nret;\n\
         $stay:\n{barrier};\nld.shared.u32 %r4, [%r3+128];\n\
         ld.param.u64 %rd1, [to];\ncvta.to.global.u64 %rd2, %rd1;\n\
         mul.wide.u32 %rd3, %r1, 4;\nadd.s64 %rd4, %rd2, %rd3;\n\
         st.global.u32 [%rd4], %r4;\nret;\n}}\n"
    )
}

fn leave(barrier: &str, seed: u64) -> (Vec<u32>, usize) {
    let mut device = Device::new(&leaves_early(barrier), Level::Portable);
    device.machine.seed = seed;
    let to = device.upload(&[0u32; 32]);
    device.launch("leave", [1, 1, 1], [64, 1, 1], 0, &[Arg::Address(to)]).unwrap();
    (device.download(to, 32), device.findings.take().len())
}

/// A barrier of the whole block waits for each warp to come or to leave.
#[test]
fn what_a_warp_did_before_it_left_lies_before_the_barrier() {
    for seed in 0..20 {
        let expected: Vec<u32> = (32..64).collect();
        assert_eq!(leave("bar.sync 0", seed), (expected, 0), "seed {seed}");
    }
}

/// One that counts the 32 threads of warp 0 does not.
#[test]
fn a_counted_barrier_does_not_wait_for_those_that_leave() {
    assert!((0..20).all(|seed| leave("bar.sync 0, 32", seed).1 > 0));
}

/// A warp's rows of eight 16-bit numbers, word j of them being j, through one `ldmatrix`.
fn load_matrices(modifiers: &str) -> Vec<u32> {
    let text = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n\
         .visible .entry matrices(.param .u64 to) {{\n\
         .shared .align 16 .b8 box[512];\n.reg .b32 %r<12>;\n.reg .b64 %rd<5>;\n\
         mov.u32 %r1, %tid.x;\nshl.b32 %r2, %r1, 4;\nmov.u32 %r3, box;\nadd.s32 %r3, %r3, %r2;\n\
         shl.b32 %r4, %r1, 2;\nadd.s32 %r5, %r4, 1;\nadd.s32 %r6, %r4, 2;\nadd.s32 %r7, %r4, 3;\n\
         st.shared.v4.u32 [%r3], {{%r4, %r5, %r6, %r7}};\nbar.warp.sync -1;\n\
         ldmatrix.sync.aligned.{modifiers}.shared.b16 {{%r8, %r9, %r10, %r11}}, [%r3];\n\
         ld.param.u64 %rd1, [to];\ncvta.to.global.u64 %rd2, %rd1;\n\
         mul.wide.u32 %rd3, %r1, 16;\nadd.s64 %rd4, %rd2, %rd3;\n\
         st.global.v4.u32 [%rd4], {{%r8, %r9, %r10, %r11}};\nret;\n}}\n"
    );
    let device = Device::new(&text, Level::Portable);
    let to = device.upload(&[0u32; 128]);
    device.launch("matrices", [1, 1, 1], [32, 1, 1], 0, &[Arg::Address(to)]).unwrap();
    device.clean();
    device.download(to, 128)
}

/// The order of the ISA document, and the one of CUTLASS and of much that was written after it.
#[test]
fn the_modifiers_of_ldmatrix_come_in_any_order() {
    // Lane l has words l / 4 (row) and l % 4 (place) of matrix k.
    let straight: Vec<u32> = (0..128).map(|i| 32 * (i % 4) + i / 4).collect();
    assert_eq!(load_matrices("m8n8.x4"), straight);
    assert_eq!(load_matrices("x4.m8n8"), straight);
    // Transposed it has two neighbours of column l / 4; odd columns are the words' upper halves, zero.
    let number = |k: u32, row: u32, column: u32| {
        if column.is_multiple_of(2) { 32 * k + 4 * row + column / 2 } else { 0 }
    };
    let turned = (0..128).map(|i| {
        let (lane, k) = (i / 4, i % 4);
        let (row, column) = (lane % 4 * 2, lane / 4);
        number(k, row, column) | number(k, row + 1, column) << 16
    });
    let turned: Vec<u32> = turned.collect();
    assert_eq!(load_matrices("m8n8.x4.trans"), turned);
    assert_eq!(load_matrices("x4.trans.m8n8"), turned);
}

/// How `atomicAdd` of a 16-bit type is compiled: tried again until nobody came in between.
#[test]
fn halves_of_a_word_are_compared_and_swapped() {
    let text = ".version 8.0\n.target sm_80\n.address_size 64\n\
         .visible .entry bump(.param .u64 to) {\n\
         .reg .b16 %h<4>;\n.reg .b64 %rd<3>;\n.reg .pred %p;\n\
         ld.param.u64 %rd1, [to];\ncvta.to.global.u64 %rd2, %rd1;\n\
         ld.volatile.global.u16 %h1, [%rd2+2];\n\
         $again:\nadd.s16 %h2, %h1, 1;\n\
         atom.global.cas.b16 %h3, [%rd2+2], %h1, %h2;\n\
         setp.ne.s16 %p, %h3, %h1;\nmov.u16 %h1, %h3;\n@%p bra $again;\nret;\n}\n";
    for threads in [1, 2] {
        let mut device = Device::new(text, Level::Portable);
        device.machine.threads = threads;
        let to = device.upload(&[7u16, 65_500, 9, 11]);
        device.launch("bump", [8, 1, 1], [64, 1, 1], 0, &[Arg::Address(to)]).unwrap();
        device.clean();
        // 65,500 + 512 wraps to 476; the neighbours stay.
        assert_eq!(device.download::<u16>(to, 4), [7, 476, 9, 11]);
    }
}
