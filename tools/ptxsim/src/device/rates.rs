//! What the devices can do per clock and second, by public figures: the table under the modelled bound.
//!
//! Sources: (1) NVIDIA's white papers on the A100, Ada and H100 architectures: clocks, tensor cores,
//! DRAM, the L2 of the A100. (2) The table of arithmetic throughput of the CUDA C++ Programming Guide.
//! (3) github.com/te42kyfo/gpu-benches: latencies of the H100 PCIe and the L40 (the same chip as the
//! RTX 4090), bandwidth of the L40's L2. (4) doi 10.1016/j.ultsonch.2023.106546, table 3: latencies of
//! the A100, L2 of the H100. (5) arXiv 2402.13499: what `mma` reaches on Hopper, about 63 % of the peak
//! that needs `wgmma`. (6) arXiv 2507.10789: latencies of the RTX 5080. The RTX 5090's L2 is taken to be as
//! wide as the RTX 4090's for each multiprocessor.

/// Lanes are 32-bit results per clock and multiprocessor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// The clock under which the figures of (1) are peaks.
    pub clock_mhz: f64,
    pub dram_gb_per_second: f64,
    /// Of the whole device.
    pub l2_bytes_per_clock: f64,
    pub f32_lanes: f64,
    pub f64_lanes: f64,
    /// Instructions count, packed or not.
    pub half_lanes: f64,
    pub integer_lanes: f64,
    pub special_lanes: f64,
    pub conversion_lanes: f64,
    pub collective_lanes: f64,
    /// Multiply-adds of 16-bit floats with f32 sums, per clock and multiprocessor, dense.
    pub tensor_macs: f64,
    /// How much faster sums in f16 are.
    pub f16_sums: f64,
    /// The same for fp8 with f32 sums, and for int8.
    pub fp8: f64,
    pub int8: f64,
    /// Of `tensor_macs`, what `mma.sync` reaches.
    pub mma_share: f64,
    /// Clocks of a load that hits L1, that hits L2, and of one that goes to DRAM.
    pub l1_clocks: f64,
    pub l2_clocks: f64,
    pub dram_clocks: f64,
    /// Microseconds from one kernel on a stream to the next.
    pub launch_microseconds: f64,
}

/// Warp-instructions per clock and multiprocessor: one for each of four schedulers.
pub const ISSUE_PER_CLOCK: f64 = 4.0;
/// Passes over the banks of shared memory per clock and multiprocessor, 128 bytes each.
pub const SHARED_PER_CLOCK: f64 = 1.0;

pub const A100: Rates = Rates {
    clock_mhz: 1410.0,
    dram_gb_per_second: 1555.0,
    l2_bytes_per_clock: 5120.0,
    f32_lanes: 64.0,
    f64_lanes: 32.0,
    half_lanes: 128.0,
    integer_lanes: 64.0,
    special_lanes: 16.0,
    conversion_lanes: 64.0,
    collective_lanes: 32.0,
    tensor_macs: 1024.0, // 312 TFLOP/s
    f16_sums: 1.0,
    fp8: 1.0,
    int8: 2.0,
    mma_share: 1.0,
    l1_clocks: 33.0,
    l2_clocks: 200.0,
    dram_clocks: 400.0,
    launch_microseconds: 2.1,
};

pub const RTX_4090: Rates = Rates {
    clock_mhz: 2520.0,
    dram_gb_per_second: 1008.0,
    l2_bytes_per_clock: 2130.0, // 5.3 TB/s at 2490 MHz
    f32_lanes: 128.0,
    f64_lanes: 2.0,
    half_lanes: 128.0,
    integer_lanes: 64.0,
    special_lanes: 16.0,
    conversion_lanes: 64.0,
    collective_lanes: 32.0,
    tensor_macs: 256.0, // 165 TFLOP/s; 330 with f16 sums
    f16_sums: 2.0,
    fp8: 2.0,
    int8: 4.0,
    mma_share: 1.0,
    l1_clocks: 36.0,
    l2_clocks: 276.0,
    dram_clocks: 630.0,
    launch_microseconds: 2.1,
};

pub const H100: Rates = Rates {
    clock_mhz: 1830.0,
    dram_gb_per_second: 3352.0,
    l2_bytes_per_clock: 5120.0,
    f32_lanes: 128.0,
    f64_lanes: 64.0,
    half_lanes: 128.0,
    integer_lanes: 64.0,
    special_lanes: 16.0,
    conversion_lanes: 64.0,
    collective_lanes: 32.0,
    tensor_macs: 2048.0, // 989 TFLOP/s
    f16_sums: 1.0,
    fp8: 2.0,
    int8: 2.0,
    mma_share: 0.63,
    l1_clocks: 34.0,
    l2_clocks: 265.0,
    dram_clocks: 650.0,
    launch_microseconds: 2.1,
};

pub const RTX_5090: Rates = Rates {
    clock_mhz: 2407.0,
    dram_gb_per_second: 1792.0,
    l2_bytes_per_clock: 2830.0,
    f32_lanes: 128.0,
    f64_lanes: 2.0,
    half_lanes: 128.0,
    integer_lanes: 128.0,
    special_lanes: 16.0,
    conversion_lanes: 64.0,
    collective_lanes: 32.0,
    tensor_macs: 256.0, // 209.5 TFLOP/s; 419 with f16 sums
    f16_sums: 2.0,
    fp8: 2.0,
    int8: 4.0,
    mma_share: 1.0,
    l1_clocks: 30.0,
    l2_clocks: 358.0,
    dram_clocks: 877.0,
    launch_microseconds: 2.1,
};

impl Rates {
    /// Multiply-adds of `mma.sync` per clock and multiprocessor, by the types of A and of the sums.
    pub fn macs_per_clock(&self, operands: &str, accumulator: &str) -> f64 {
        let factor = match (operands, accumulator) {
            ("tf32", _) => 0.5,
            ("f16", "f16") => self.f16_sums,
            ("e4m3" | "e5m2", "f16") => self.fp8 * self.f16_sums,
            ("e4m3" | "e5m2", _) => self.fp8,
            ("s8" | "u8", _) => self.int8,
            _ => 1.0,
        };
        self.tensor_macs * factor * self.mma_share
    }
}

#[cfg(test)]
mod tests {
    use crate::device::{A100, DEVICES, H100, RTX_4090, RTX_5090};

    /// Peaks as the data sheets have them, in TFLOP/s (or TOP/s): a multiply-add counts twice.
    #[test]
    fn rates_multiply_to_the_published_peaks() {
        for (device, operands, accumulator, peak) in [
            (&A100, "bf16", "f32", 312.0),
            (&A100, "tf32", "f32", 156.0),
            (&A100, "s8", "s32", 624.0),
            (&RTX_4090, "bf16", "f32", 165.2),
            (&RTX_4090, "f16", "f16", 330.3),
            (&RTX_4090, "e4m3", "f32", 330.3),
            (&RTX_4090, "s8", "s32", 660.6),
            (&RTX_5090, "bf16", "f32", 209.5),
            (&RTX_5090, "f16", "f16", 419.0),
            (&RTX_5090, "s8", "s32", 838.0),
            (&H100, "bf16", "f32", 989.4),
            (&H100, "tf32", "f32", 494.7),
            (&H100, "e4m3", "f32", 1978.9),
        ] {
            let rates = &device.rates;
            let macs = rates.macs_per_clock(operands, accumulator) / rates.mma_share;
            let found =
                2.0 * macs * f64::from(device.multiprocessors) * rates.clock_mhz * 1e6 / 1e12;
            let id = device.id;
            assert!((found / peak - 1.0).abs() < 1e-3, "{id} {operands} {accumulator}: {found}");
        }
    }

    /// Two transfers per clock of the memory, as the driver gives clock and width.
    #[test]
    fn memory_clock_and_width_give_the_bandwidth() {
        for device in DEVICES {
            let bytes = f64::from(device.memory_bus_bits) / 8.0;
            let found = 2.0 * f64::from(device.memory_clock_khz) * 1e3 * bytes / 1e9;
            let published = device.rates.dram_gb_per_second;
            assert!((found / published - 1.0).abs() < 1e-3, "{}: {found}", device.id);
        }
    }
}
