//! Calls of device functions: each has a register file and local variables of its own.

use super::block::{Block, Common, Line};
use super::lanes::{each, load};
use super::op::Op;
use super::warp::{KERNEL, Path};
use super::{Fault, special};

/// Most calls within calls.
const MOST_FRAMES: u32 = 512;
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
    pub fixed: Vec<(special::Fixed, u32, u8)>,
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

/// Copies variables, or what is known of their bytes, within the local memory of the lanes of `mask`;
/// `bytes` is that of a lane.
fn copy(
    local: &mut [u8],
    bytes: usize,
    mask: u32,
    from: (u32, &[(u32, u32)]),
    to: (u32, &[(u32, u32)]),
) {
    for lane in each(mask) {
        for (&(source, size), &(target, room)) in from.1.iter().zip(to.1) {
            let source = lane * bytes + (from.0 + source) as usize;
            let target = lane * bytes + (to.0 + target) as usize;
            local.copy_within(source..source + size.min(room) as usize, target);
        }
    }
}

impl Block<'_> {
    /// A path goes into a function; if its lanes call several, those of the first.
    pub(super) fn enter(&mut self, warp: usize, index: usize, op: &Op) -> Result<(), Fault> {
        let Common { kernel, launch, .. } = self.common;
        let Path { at, mask, frame, .. } = self.warps[warp].paths[index];
        let number = op.list as usize;
        let call = &kernel.code.calls[number];
        let registers = self.registers_in(warp, frame);
        let fail =
            |what: String| Err(Fault::LaunchFailure(kernel.name_place(kernel.index_of(op), what)));
        let function = match call.function {
            Some(function) => function,
            None => {
                // SAFETY: a 64-bit register of this function.
                let targets = unsafe { load::<u64>(registers, op.sources[0]) };
                let target = targets[mask.trailing_zeros() as usize & 31];
                let same = each(mask).filter(|&lane| targets[lane] == target);
                let same = same.fold(0, |bits, lane| bits | 1 << lane);
                if same != mask {
                    self.warps[warp].split(index, same, at, at, at + 1);
                    return Ok(());
                }
                match kernel.code.functions.iter().position(|f| f.address == target) {
                    Some(function) => function,
                    None => return fail(format!("call: {target:#x} is no function's address")),
                }
            }
        };
        let callee = &kernel.code.functions[function];
        let (caller_base, caller_bytes, depth) = match frame {
            KERNEL => (0, kernel.local_bytes, 0),
            _ => {
                let caller = self.warps[warp].frame(frame);
                (caller.base, kernel.code.functions[caller.function].local_bytes, caller.depth)
            }
        };
        let base = caller_base + caller_bytes;
        let bytes = kernel.lane_bytes();
        if depth >= MOST_FRAMES || (base + callee.local_bytes) as usize > bytes {
            return fail(format!(
                "stack overflow: call {} deep of {}, whose local variables end at byte {} of {bytes}",
                depth + 1,
                callee.name,
                base + callee.local_bytes,
            ));
        }
        let mut registers = vec![Line::ZERO; callee.register_bytes as usize / 64];
        // SAFETY: a register file of the function.
        unsafe {
            let registers = registers.as_mut_ptr().cast();
            let fixed = &callee.fixed;
            special::prepare(registers, fixed, base.into(), launch, self.index, warp as u32);
        }
        let local = &mut self.local[warp * 32 * bytes..][..32 * bytes];
        let (from, to) = ((caller_base, &call.arguments[..]), (base, &callee.params[..]));
        copy(local, bytes, mask, from, to);
        let written = &mut self.local_written[warp * 32 * bytes..][..32 * bytes];
        for lane in each(mask) {
            written[lane * bytes + base as usize..][..callee.local_bytes as usize].fill(0);
        }
        copy(written, bytes, mask, from, to);
        let depth = depth + 1;
        let join = 0;
        let frame = Frame { function, call: number, registers, base, caller_base, depth, join };
        self.warps[warp].call(index, frame, callee.entry, at + 1);
        Ok(())
    }

    /// Lanes of a path return from a function.
    pub(super) fn leave(&mut self, warp: usize, index: usize, mask: u32) {
        let kernel = self.common.kernel;
        let bytes = kernel.lane_bytes();
        let frame = self.warps[warp].frame(self.warps[warp].paths[index].frame);
        let returns = &kernel.code.functions[frame.function].returns;
        let results = &kernel.code.calls[frame.call].results;
        let local = &mut self.local[warp * 32 * bytes..][..32 * bytes];
        let (from, to) = ((frame.base, &returns[..]), (frame.caller_base, &results[..]));
        copy(local, bytes, mask, from, to);
        let written = &mut self.local_written[warp * 32 * bytes..][..32 * bytes];
        copy(written, bytes, mask, from, to);
        self.warps[warp].ret(index, mask);
    }
}
