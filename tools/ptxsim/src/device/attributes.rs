//! The values of `CUdevice_attribute`, by number.

use super::{
    BLOCK_LIMITS, Device, GRID_LIMITS, REGISTERS_PER_MULTIPROCESSOR, RESERVED_SHARED,
    SHARED_PER_BLOCK, THREADS_PER_BLOCK, WARP,
};

/// First number that CUDA 13.0 does not know.
const END: u32 = 148;

impl Device {
    /// The value of an attribute; none for a number that is none. What is left out is 0: absent.
    pub fn attribute(&self, number: u32) -> Option<i32> {
        if number == 0 || number >= END {
            return None;
        }
        let value = match number {
            // Limits of a launch.
            1 => THREADS_PER_BLOCK,
            2..=4 => BLOCK_LIMITS[number as usize - 2],
            5..=7 => GRID_LIMITS[number as usize - 5],
            8 => SHARED_PER_BLOCK,
            9 => 64 << 10,
            10 => WARP,
            11 => i32::MAX as u32,
            12 | 82 => REGISTERS_PER_MULTIPROCESSOR,
            39 => self.threads_per_multiprocessor,
            81 => self.shared_per_multiprocessor,
            97 => self.shared_per_block_optin,
            106 => self.blocks_per_multiprocessor,
            111 => RESERVED_SHARED,
            // The device.
            13 => self.clock_khz,
            16 => self.multiprocessors,
            32 => u32::from(self.is_data_centre()),
            33 => 1,
            36 => self.memory_clock_khz,
            37 => self.memory_bus_bits,
            38 => self.l2_bytes,
            40 => {
                if self.is_data_centre() {
                    3
                } else {
                    2
                }
            }
            75 => self.capability.0,
            76 => self.capability.1,
            87 => {
                if self.is_data_centre() {
                    2
                } else {
                    64
                }
            }
            // Most of L2 that may be set aside, and the largest window for it.
            108 => self.l2_bytes / 16 * 11,
            109 => 128 << 20,
            // Abilities that the simulator has: overlap, mapped host memory, concurrent kernels, unified
            // addresses, priorities, caches, preemption, cooperative launch, pools, function pointers.
            // Managed, registered and virtual memory, sharing and stream memory operations are absent.
            15 | 19 | 31 | 41 | 78 | 79 | 80 | 90 | 95 | 115 | 129 => 1,
            // Textures and surfaces.
            14 => 512,
            30 => 512,
            51 => 32,
            21 | 22 | 23 | 55 | 56 | 57 => 131_072,
            24 | 25 | 26 | 58 | 59 | 60 => 16_384,
            27 | 28 | 42 | 45 | 46 | 52 | 53 | 61 | 63 | 64 | 66 | 67 | 73 | 74 | 77 => 32_768,
            29 | 43 | 62 | 65 => 2048,
            54 | 68 => 2046,
            47 | 48 => 8192,
            49 => 32_768,
            44 => 1,
            69 => 1 << 28,
            70 => 131_072,
            71 => 65_000,
            72 => 2_097_120,
            // From Hopper on: clusters, four memory synchronisation domains, tensor maps.
            120 | 127 => u32::from(self.capability.0 >= 9),
            126 => {
                if self.capability.0 >= 9 {
                    4
                } else {
                    1
                }
            }
            // NUMA: no node of the device (-1 below), node 0 of the host.
            _ => 0,
        };
        Some(if number == 131 { -1 } else { value as i32 })
    }

    fn is_data_centre(&self) -> bool {
        self.capability != (8, 9)
    }
}

#[cfg(test)]
mod tests {
    use crate::device::{A100, H100, RTX_4090};

    #[test]
    fn attributes_a_program_asks_for() {
        assert_eq!(H100.attribute(16), Some(132));
        assert_eq!((A100.attribute(75), A100.attribute(76)), (Some(8), Some(0)));
        assert_eq!(RTX_4090.attribute(97), Some(101_376));
        assert_eq!(H100.attribute(97), Some(232_448));
        assert_eq!(H100.attribute(115), Some(1));
        assert_eq!((A100.attribute(120), H100.attribute(120)), (Some(0), Some(1)));
        assert_eq!(H100.attribute(17), Some(0));
        assert_eq!((H100.attribute(0), H100.attribute(148)), (None, None));
    }
}
