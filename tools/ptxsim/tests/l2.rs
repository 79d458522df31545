//! L2 from launch to launch: what crosses to and from DRAM when kernels read and write more than it holds,
//! and less.

mod support;

use ptxsim::device::H100;
use ptxsim::exec::Level;
use ptxsim::exec::counters::Global;
use ptxsim::model::{Bound, Launched, Term};
use support::{Arg, Device};

/// Bytes that a block reads or writes.
const BLOCK: u64 = 4096;
/// Capacity of L2, in bytes; what fits for certain, and what is too much, in blocks.
const L2: u32 = 64 << 10;
const FITS: u64 = 12;
const TOO_MUCH: u64 = 32;

/// Kernels of 256 threads, of 16 bytes each.
fn device() -> Device {
    let kernel = |name: &str, body: &str| {
        format!(
            ".visible .entry {name}(.param .u64 p) {{\n\
             .reg .b32 %r<9>; .reg .b64 %d<3>;\n\
             ld.param.u64 %d0, [p]; mov.u32 %r0, %tid.x; mov.u32 %r1, %ctaid.x;\n\
             mad.lo.u32 %r0, %r1, 256, %r0; mul.wide.u32 %d1, %r0, 16; add.u64 %d1, %d0, %d1;\n\
             {body}\nret;\n}}\n"
        )
    };
    let ptx = [
        ".version 8.0\n.target sm_80\n.address_size 64\n".to_owned(),
        kernel("reads", "ld.global.v4.u32 {%r2, %r3, %r4, %r5}, [%d1];"),
        kernel("writes", "st.global.v4.u32 [%d1], {%r0, %r0, %r0, %r0};"),
        kernel("adds", "red.global.add.u32 [%d1], %r0;"),
    ];
    let mut device = Device::new(&ptx.concat(), Level::Portable);
    (device.machine.counters, device.machine.l2_bytes) = (true, L2);
    device
}

fn upload(device: &Device, blocks: u64) -> u64 {
    device.upload(&vec![0u8; (blocks * BLOCK) as usize])
}

fn launch(device: &Device, kernel: &str, at: u64, blocks: u64) -> Global {
    let grid = [blocks as u32, 1, 1];
    let counters = device.launch(kernel, grid, [256, 1, 1], 0, &[Arg::Address(at)]).unwrap();
    device.clean();
    counters.detail.unwrap().global
}

/// Sectors read and written back, and those of them that are compulsory.
fn dram(global: &Global) -> [u64; 4] {
    [global.dram_reads, global.dram_writes, global.first_reads, global.first_writes]
}

fn sectors(blocks: u64) -> u64 {
    blocks * BLOCK / 32
}

#[test]
fn what_fits_is_read_once_over_two_launches() {
    let device = device();
    let at = upload(&device, FITS);
    let (first, again) = (launch(&device, "reads", at, FITS), launch(&device, "reads", at, FITS));
    assert_eq!(dram(&first), [sectors(FITS), 0, sectors(FITS), 0]);
    assert_eq!((dram(&again), again.unique_reads), ([0; 4], sectors(FITS)));
}

#[test]
fn what_does_not_fit_is_read_twice() {
    for threads in [1, 3] {
        let mut device = device();
        device.machine.threads = threads;
        let at = upload(&device, TOO_MUCH);
        let all = sectors(TOO_MUCH);
        assert_eq!(dram(&launch(&device, "reads", at, TOO_MUCH)), [all, 0, all, 0]);
        assert_eq!(dram(&launch(&device, "reads", at, TOO_MUCH)), [all, 0, 0, 0]);
    }
}

#[test]
fn what_is_written_is_written_back_once() {
    let device = device();
    let (written, other) = (upload(&device, FITS), upload(&device, TOO_MUCH));
    let all = sectors(FITS);
    // Nothing is fetched to be written; the second launch finds it in L2.
    assert_eq!(dram(&launch(&device, "writes", written, FITS)), [0, 0, 0, all]);
    assert_eq!(dram(&launch(&device, "writes", written, FITS)), [0; 4]);
    assert_eq!(dram(&launch(&device, "reads", written, FITS)), [0; 4]);
    assert_eq!(device.memory.l2().dirty(), all);
    let much = sectors(TOO_MUCH);
    assert_eq!(dram(&launch(&device, "reads", other, TOO_MUCH)), [much, all, much, 0]);
    assert_eq!(device.memory.l2().dirty(), 0);
    // Read anew from DRAM, though not for the first time: it is the run's own.
    assert_eq!(dram(&launch(&device, "reads", written, FITS)), [all, 0, 0, 0]);
}

#[test]
fn atomics_read_and_write_in_l2() {
    let device = device();
    let at = upload(&device, FITS);
    // A word in each 16 bytes.
    let all = sectors(FITS);
    assert_eq!(dram(&launch(&device, "adds", at, FITS)), [all, 0, all, all]);
    assert_eq!(dram(&launch(&device, "adds", at, FITS)), [0; 4]);
    assert_eq!(device.memory.l2().dirty(), all);
}

#[test]
fn what_the_host_writes_is_read_anew_and_not_written_back() {
    let device = device();
    let (at, from) = (upload(&device, FITS), upload(&device, FITS));
    let all = sectors(FITS);
    let bytes = FITS * BLOCK;
    let host: [&dyn Fn(); 3] = [
        &|| device.memory.write(at, &vec![1; bytes as usize]).unwrap(),
        &|| device.memory.fill(at, &[2], bytes).unwrap(),
        &|| device.memory.copy(from, at, bytes).unwrap(),
    ];
    for write in host {
        assert_eq!(dram(&launch(&device, "writes", at, FITS)), [0, 0, 0, all]);
        write();
        assert_eq!(device.memory.l2().dirty(), 0);
        assert_eq!(dram(&launch(&device, "reads", at, FITS)), [all, 0, all, 0]);
    }
}

#[test]
fn the_bound_counts_what_crosses_to_dram() {
    let device = device();
    let at = upload(&device, TOO_MUCH);
    let launched =
        Launched { grid: [32, 1, 1], block: [256, 1, 1], registers: 16, shared_bytes: 0 };
    let bound = |kernel| {
        let counters =
            device.launch(kernel, launched.grid, launched.block, 0, &[Arg::Address(at)]).unwrap();
        let detail = counters.detail.unwrap();
        (Bound::of(&H100, &launched, &detail).term(Term::Dram), detail.global.dram_bytes())
    };
    // Half of what is written is still in L2, and written back by the launch that writes it again.
    let (bytes, l2) = (TOO_MUCH * BLOCK, u64::from(L2));
    for (kernel, expected) in
        [("writes", bytes - l2), ("writes", bytes), ("reads", bytes + l2), ("reads", bytes)]
    {
        let (term, crossed) = bound(kernel);
        assert_eq!(crossed, expected);
        assert!((term - expected as f64 / 3352e3).abs() < 1e-9);
    }
}
