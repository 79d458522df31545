//! The simulated devices: what the driver answers about them and what the limits of a launch are.

mod attributes;
mod rates;

use crate::arith::mma::TensorCore;
pub use rates::{ISSUE_PER_CLOCK, Rates, SHARED_PER_CLOCK};

/// A GPU model.
#[derive(Debug)]
pub struct Device {
    /// The name that options use.
    pub id: &'static str,
    /// What `cuDeviceGetName` says.
    pub name: &'static str,
    pub capability: (u32, u32),
    pub multiprocessors: u32,
    pub memory_bytes: u64,
    pub l2_bytes: u32,
    /// Of the multiprocessors, in kHz.
    pub clock_khz: u32,
    pub memory_clock_khz: u32,
    pub memory_bus_bits: u32,
    pub threads_per_multiprocessor: u32,
    pub blocks_per_multiprocessor: u32,
    /// Shared memory of a multiprocessor, the system's part of each block included.
    pub shared_per_multiprocessor: u32,
    /// Most that a block may have after `cuFuncSetAttribute`.
    pub shared_per_block_optin: u32,
    pub tensor_core: TensorCore,
    /// For the modelled bound.
    pub rates: Rates,
}

/// Shared memory that every block may have without asking.
pub const SHARED_PER_BLOCK: u32 = 48 << 10;
/// Shared memory that the system takes from every block.
pub const RESERVED_SHARED: u32 = 1 << 10;
pub const REGISTERS_PER_MULTIPROCESSOR: u32 = 64 << 10;
pub const REGISTERS_PER_THREAD: u32 = 255;
pub const THREADS_PER_BLOCK: u32 = 1024;
pub const BLOCK_LIMITS: [u32; 3] = [1024, 1024, 64];
pub const GRID_LIMITS: [u32; 3] = [i32::MAX as u32, 65535, 65535];
pub const WARP: u32 = 32;

/// A100-SXM4 with 40 GB.
pub static A100: Device = Device {
    id: "a100",
    name: "NVIDIA A100-SXM4-40GB",
    capability: (8, 0),
    multiprocessors: 108,
    memory_bytes: 42_297_786_368,
    l2_bytes: 40 << 20,
    clock_khz: 1_410_000,
    memory_clock_khz: 1_215_000,
    memory_bus_bits: 5120,
    threads_per_multiprocessor: 2048,
    blocks_per_multiprocessor: 32,
    shared_per_multiprocessor: 164 << 10,
    shared_per_block_optin: 163 << 10,
    tensor_core: TensorCore::Ampere,
    rates: rates::A100,
};

/// GeForce RTX 4090.
pub static RTX_4090: Device = Device {
    id: "rtx4090",
    name: "NVIDIA GeForce RTX 4090",
    capability: (8, 9),
    multiprocessors: 128,
    memory_bytes: 25_386_352_640,
    l2_bytes: 72 << 20,
    clock_khz: 2_520_000,
    memory_clock_khz: 10_501_000,
    memory_bus_bits: 384,
    threads_per_multiprocessor: 1536,
    blocks_per_multiprocessor: 24,
    shared_per_multiprocessor: 100 << 10,
    shared_per_block_optin: 99 << 10,
    tensor_core: TensorCore::Ada,
    rates: rates::RTX_4090,
};

/// H100 SXM5 with 80 GB, the default.
pub static H100: Device = Device {
    id: "h100",
    name: "NVIDIA H100 80GB HBM3",
    capability: (9, 0),
    multiprocessors: 132,
    memory_bytes: 85_014_413_312,
    l2_bytes: 50 << 20,
    clock_khz: 1_980_000,
    memory_clock_khz: 2_619_000,
    memory_bus_bits: 5120,
    threads_per_multiprocessor: 2048,
    blocks_per_multiprocessor: 32,
    shared_per_multiprocessor: 228 << 10,
    shared_per_block_optin: 227 << 10,
    tensor_core: TensorCore::Hopper,
    rates: rates::H100,
};

/// GeForce RTX 5090. What its tensor cores do beyond the documented is not published: they add as Hopper's.
pub static RTX_5090: Device = Device {
    id: "rtx5090",
    name: "NVIDIA GeForce RTX 5090",
    capability: (12, 0),
    multiprocessors: 170,
    memory_bytes: 32_607 << 20,
    l2_bytes: 96 << 20,
    clock_khz: 2_407_000,
    memory_clock_khz: 14_001_000,
    memory_bus_bits: 512,
    threads_per_multiprocessor: 1536,
    blocks_per_multiprocessor: 24,
    shared_per_multiprocessor: 100 << 10,
    shared_per_block_optin: 99 << 10,
    tensor_core: TensorCore::Hopper,
    rates: rates::RTX_5090,
};

/// All of them.
pub static DEVICES: [&Device; 4] = [&A100, &RTX_4090, &H100, &RTX_5090];

/// The device that an option names.
pub fn by_name(id: &str) -> Option<&'static Device> {
    DEVICES.into_iter().find(|d| d.id == id)
}

/// What a kernel takes of a multiprocessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Threads of a block.
    pub threads: u32,
    /// Registers of a thread.
    pub registers: u32,
    /// Static and dynamic shared memory of a block.
    pub shared_bytes: u64,
}

impl Device {
    /// Blocks that a multiprocessor holds at once, by the documented formula: the least of what warps,
    /// registers (given out per warp in units of 256), shared memory (in units of 128 bytes, with the
    /// system's part) and the limit of blocks allow.
    pub fn resident_blocks(&self, kernel: Footprint) -> u32 {
        let warps = kernel.threads.div_ceil(WARP);
        if warps == 0 || kernel.threads > THREADS_PER_BLOCK {
            return 0;
        }
        let by_warps = self.threads_per_multiprocessor / WARP / warps;
        let per_warp = (kernel.registers.max(1) * WARP).next_multiple_of(256);
        // Registers lie in four parts, one for each scheduler, and a warp's come from one of them.
        let by_registers = (REGISTERS_PER_MULTIPROCESSOR / 4 / per_warp) * 4 / warps;
        let per_block = (kernel.shared_bytes + u64::from(RESERVED_SHARED)).next_multiple_of(128);
        let by_shared = u64::from(self.shared_per_multiprocessor) / per_block;
        by_warps.min(by_registers).min(self.blocks_per_multiprocessor).min(by_shared as u32)
    }

    /// Blocks that the whole device holds at once.
    pub fn resident_on_all(&self, kernel: Footprint) -> u32 {
        self.resident_blocks(kernel) * self.multiprocessors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn residency_follows_the_formula() {
        let kernel =
            |threads, registers, shared_bytes| Footprint { threads, registers, shared_bytes };
        for (device, kernel, blocks) in [
            (&A100, kernel(128, 32, 0), 16),
            (&A100, kernel(32, 16, 0), 32),
            (&A100, kernel(256, 128, 0), 2),
            (&A100, kernel(1024, 64, 0), 1),
            (&A100, kernel(1024, 65, 0), 0),
            (&A100, kernel(128, 32, 163 << 10), 1),
            (&A100, kernel(128, 32, 164 << 10), 0),
            (&H100, kernel(128, 32, 56 << 10), 4),
            (&RTX_4090, kernel(128, 32, 0), 12),
            (&RTX_4090, kernel(32, 16, 0), 24),
        ] {
            assert_eq!(device.resident_blocks(kernel), blocks, "{} {kernel:?}", device.id);
        }
    }
}
