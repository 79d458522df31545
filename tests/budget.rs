//! `kernels/budget.txt`: what every kernel takes on every architecture, so that a change of registers, shared
//! memory, spills or occupancy shows in review.
//!
//! `MUSE_BUDGET=write cargo test --test budget` writes the file anew. Figures are ptxas' and need a CUDA
//! compiler (`scripts/test.sh` fetches one); without it only the names are compared.

mod gpu;

use std::collections::BTreeSet;
use std::fmt::Write;

use muse::cuda::{Cuda, Resources};
use ptxsim::device::{DEVICES, Footprint};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/budget.txt");
const HEAD: &str = "\
# Registers and spilled bytes of a thread, shared memory of a block in bytes (static + dynamic, the most that is
# launched), and warps that a multiprocessor holds by the documented formula, of its most. From ptxas;
# `MUSE_BUDGET=write cargo test --test budget` writes this file.
#
# kernel                    arch    registers  spilled  shared  warps
";

/// Threads of a block: the most the kernel was compiled for, as its PTX says.
fn threads(kernel: &str) -> u32 {
    let (_, files) = Cuda::kernels();
    for (_, ptx) in files {
        let Some((_, entry)) = ptx.split_once(&format!(".entry {kernel}(")) else { continue };
        let limit = entry.lines().find_map(|line| line.trim().strip_prefix(".maxntid "));
        let limit = limit.expect("every kernel has launch bounds");
        return limit.split([',', ' ']).next().unwrap().parse().unwrap();
    }
    panic!("no PTX file has kernel {kernel}")
}

fn line(kernel: &Resources, dynamic: u32) -> String {
    let Resources { kernel: name, capability, registers, shared, spilled } = *kernel;
    // Of devices whose figures are known, one of the same generation.
    let same = |device: &&&ptxsim::device::Device| {
        let (major, minor) = device.capability;
        major * 10 + minor == capability
    };
    let occupancy = DEVICES.iter().find(same).map_or("-".into(), |device| {
        let threads = threads(name);
        let shared_bytes = u64::from(shared + dynamic);
        let blocks = device.resident_blocks(Footprint { threads, registers, shared_bytes });
        format!("{}/{}", blocks * threads / 32, device.threads_per_multiprocessor / 32)
    });
    let arch = format!("sm_{capability}");
    let shared = shared + dynamic;
    format!("{name:<27} {arch:<7} {registers:>9} {spilled:>8} {shared:>7}  {occupancy}\n")
}

#[test]
fn every_kernel_is_within_its_budget() {
    let loaded = gpu::cuda().loaded();
    let mut table = HEAD.to_owned();
    for kernel in Cuda::resources() {
        let (_, dynamic) = loaded
            .iter()
            .find(|(name, _)| *name == kernel.kernel)
            .unwrap_or_else(|| panic!("kernel {} is never loaded", kernel.kernel));
        table.write_str(&line(kernel, *dynamic)).unwrap();
        assert_eq!(kernel.spilled, 0, "{} spills on sm_{}", kernel.kernel, kernel.capability);
    }
    if std::env::var_os("MUSE_BUDGET").is_some_and(|v| v == "write") {
        assert!(!Cuda::resources().is_empty(), "there is no CUDA compiler to ask");
        std::fs::write(PATH, &table).unwrap();
    }
    let committed = std::fs::read_to_string(PATH).unwrap();
    let rows = committed.lines().filter(|line| !line.starts_with('#'));
    let named: BTreeSet<&str> = rows.filter_map(|row| row.split_whitespace().next()).collect();
    let kernels: BTreeSet<&str> = loaded.iter().map(|(name, _)| *name).collect();
    assert_eq!(named, kernels, "{PATH} lists other kernels than are loaded: see its head");
    if Cuda::kernels().0.contains("NVRTC 13.0") {
        for (old, new) in committed.lines().zip(table.lines()) {
            assert_eq!(old, new, "{PATH} is stale: see its head");
        }
        assert_eq!(committed.lines().count(), table.lines().count(), "{PATH}: see its head");
    }
}
