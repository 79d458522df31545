//! `trap` and the clocks.

use super::Fault;
use super::lanes::{LANES, Operation, load, store};
use super::op::{Ctx, Op};
use crate::finding::Kind;

/// `trap`.
pub struct Trap;

impl Operation for Trap {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        let lane = mask.trailing_zeros() as usize & 31;
        let message = ctx.kernel.name_place(ctx.kernel.index_of(op), "trap executed".into());
        ctx.find(Kind::Trap, op, lane, None, message.clone());
        ctx.fail(Fault::Trap(message));
    }
}

/// A clock: warp-instructions of the block so far, so that it moves and repeats.
pub struct Clock;

impl Operation for Clock {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let shift = load::<u32>(ctx.registers, op.sources[0])[0];
            let now = ctx.clock >> shift;
            match op.access.register_bytes {
                4 => store(ctx.registers, op.result, mask, [now as u32; LANES]),
                _ => store(ctx.registers, op.result, mask, [now; LANES]),
            }
        }
    }
}
