//! Special registers and constants: registers that are filled before a warp starts.

use super::Launch;
use super::lanes::{LANES, Lanes};
use crate::ptx::ast::Special;

/// A register that holds the same bits in all lanes, or a special register.
#[derive(Debug, Clone, PartialEq)]
pub enum Fixed {
    Bits(u64),
    /// The address of a local variable: its place in the frame of its function.
    Local(u64),
    Special(Special),
}

/// Fills the constants and special registers of a warp, for a function whose local variables begin at
/// `frame`.
///
/// # Safety
/// `registers` is a register file of the function.
pub unsafe fn prepare(
    registers: *mut u8,
    fixed: &[(Fixed, u32, u8)],
    frame: u64,
    launch: &Launch<'_>,
    block: [u32; 3],
    warp: u32,
) {
    for (fixed, offset, bytes) in fixed {
        let lanes: Lanes<u64> = match fixed {
            Fixed::Bits(bits) => [*bits; LANES],
            Fixed::Local(at) => [frame.wrapping_add(*at); LANES],
            Fixed::Special(special) => {
                std::array::from_fn(|lane| value(special, launch, block, warp, lane as u32))
            }
        };
        // SAFETY: the caller's; offsets are those of the function.
        unsafe {
            let to = registers.add(*offset as usize);
            match bytes {
                2 => to.cast::<Lanes<u16>>().write(lanes.map(|v| v as u16)),
                4 => to.cast::<Lanes<u32>>().write(lanes.map(|v| v as u32)),
                16 => to.cast::<Lanes<u128>>().write(lanes.map(u128::from)),
                _ => to.cast::<Lanes<u64>>().write(lanes),
            }
        }
    }
}

/// Whether it is the same from start to end of a thread.
pub fn is_fixed(special: &Special) -> bool {
    use Special::*;
    !matches!(
        special,
        Clock | ClockHi | Clock64 | GlobalTimer | GlobalTimerLo | GlobalTimerHi | Other(_)
    )
}

fn value(special: &Special, launch: &Launch<'_>, block: [u32; 3], warp: u32, lane: u32) -> u64 {
    let [x, y, _] = launch.block;
    let thread = warp * LANES as u32 + lane;
    u64::from(match *special {
        Special::Tid(0) => thread % x,
        Special::Tid(1) => thread / x % y,
        Special::Tid(_) => thread / (x * y),
        Special::Ntid(i) => launch.block[usize::from(i)],
        Special::Ctaid(i) => block[usize::from(i)],
        Special::Nctaid(i) => launch.grid[usize::from(i)],
        Special::LaneId => lane,
        Special::WarpId => warp,
        Special::NWarpId => launch.threads().div_ceil(LANES as u32),
        Special::SmId => 0,
        Special::NSmId => 1,
        Special::GridId => 1,
        Special::LaneMaskEq => 1 << lane,
        Special::LaneMaskLe => u32::MAX >> (31 - lane),
        Special::LaneMaskLt => (1 << lane) - 1,
        Special::LaneMaskGe => u32::MAX << lane,
        Special::LaneMaskGt => (u32::MAX << lane) & !(1 << lane),
        Special::DynamicSharedBytes => launch.shared_bytes,
        Special::TotalSharedBytes => launch.kernel.static_shared_bytes + launch.shared_bytes,
        _ => 0,
    })
}
