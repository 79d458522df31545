//! Calls of device functions: each has a register file and local variables of its own.

use super::block::Line;

/// Most calls within calls.
pub const MOST_FRAMES: u32 = 512;
/// Local memory of a lane for the functions that a kernel calls.
pub const STACK_BYTES: u32 = 16 << 10;

/// A device function, lowered.
#[derive(Debug)]
pub struct Function {
    pub name: String,
    /// What its address is.
    pub address: u64,
    /// Number of its first instruction.
    pub entry: u32,
    pub register_bytes: u32,
    pub fixed: Vec<(super::special::Fixed, u32, u8)>,
    pub local_bytes: u32,
    /// Offset in its local variables, and bytes.
    pub params: Vec<(u32, u32)>,
    pub returns: Vec<(u32, u32)>,
}

/// A call as the caller has it.
#[derive(Debug)]
pub struct Call {
    /// Number of the function; None: its address is the operation's first source.
    pub function: Option<usize>,
    /// Places in the caller's local variables, and bytes.
    pub arguments: Vec<(u32, u32)>,
    pub results: Vec<(u32, u32)>,
}

/// A call that is under way.
#[derive(Debug)]
pub struct Frame {
    /// Number of the function.
    pub function: usize,
    /// Number of the call.
    pub call: usize,
    pub registers: Vec<Line>,
    /// Where its local variables begin, and the caller's.
    pub base: u32,
    pub caller_base: u32,
    /// How many calls it is in, itself included.
    pub depth: u32,
    /// The join of its lanes, which [`super::warp::Warp::call`] sets.
    pub join: u32,
}

/// Copies variables within the local memory of the lanes of `mask`; `bytes` is that of a lane.
pub fn copy(
    local: &mut [u8],
    bytes: usize,
    mask: u32,
    from: (u32, &[(u32, u32)]),
    to: (u32, &[(u32, u32)]),
) {
    for lane in super::lanes::each(mask) {
        for (&(source, size), &(target, room)) in from.1.iter().zip(to.1) {
            let source = lane * bytes + (from.0 + source) as usize;
            let target = lane * bytes + (to.0 + target) as usize;
            local.copy_within(source..source + size.min(room) as usize, target);
        }
    }
}
