//! Questions about generic addresses.

use super::access::{LOCAL_WINDOW, SHARED_WINDOW, WINDOW};
use super::lanes::{LANES, Operation, load, store_bits};
use super::op::{Ctx, Op};

/// `isspacep`: whether a generic address is in the space of `immediate`.
pub struct InSpace;

/// In the order of `immediate`.
pub const SPACES: [&str; 4] = ["global", "shared", "local", "shared::cta"];

impl Operation for InSpace {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let at = load::<u64>(ctx.registers, op.sources[0]);
            let mut bits = 0;
            for i in 0..LANES {
                let shared = at[i].wrapping_sub(SHARED_WINDOW) < WINDOW;
                let local = at[i].wrapping_sub(LOCAL_WINDOW) < WINDOW;
                let holds = match op.immediate {
                    0 => !shared && !local,
                    2 => local,
                    _ => shared,
                };
                bits |= u32::from(holds) << i;
            }
            store_bits(ctx.registers, op.result, mask, bits);
        }
    }
}
