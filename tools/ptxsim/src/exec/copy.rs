//! `cp.async`: copies that land when they are waited for, the latest moment the program allows.

use super::access::{Deed, Space, addresses};
use super::lanes::{LANES, Lanes, Operation, each, load};
use super::op::{Ctx, Op};

/// Copies of a warp that are on their way.
#[derive(Debug)]
pub struct Copies {
    /// In order of issue.
    pending: Vec<Copy>,
    /// Groups that each lane has committed.
    committed: Lanes<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Copy {
    lane: u8,
    bytes: u8,
    group: u32,
    to: u32,
    data: [u8; 16],
}

impl Copies {
    pub fn new() -> Self {
        Copies { pending: Vec::new(), committed: [0; LANES] }
    }
}

/// `cp.async.{ca,cg}.shared.global`: the second source is the global address (its displacement in the
/// list), the third the bytes that are read, the others of `access.bytes` being zero.
pub struct CopyAsync;

impl Operation for CopyAsync {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's; places are checked.
        unsafe {
            let to = addresses(ctx, op);
            let from = load::<u64>(ctx.registers, op.sources[1]);
            let read = load::<u32>(ctx.registers, op.sources[2]);
            let displacement = i64::from(ctx.kernel.code.lists[op.list as usize][0] as i32);
            let bytes = usize::from(op.access.bytes);
            for lane in each(mask) {
                let Some(_) = ctx.place(op, lane, Space::Shared, to[lane], bytes, Deed::Write)
                else {
                    return;
                };
                let mut data = [0; 16];
                let read = (read[lane] as usize).min(bytes);
                if read > 0 {
                    let from = from[lane].wrapping_add_signed(displacement);
                    if !from.is_multiple_of(bytes as u64) {
                        ctx.misaligned(op, lane, from, bytes, Deed::Read);
                        return;
                    }
                    let Some(place) = ctx.global(op, lane, from, read, Deed::Read) else { return };
                    // What lands is what lies there when it lands; nobody may write it until then.
                    place.copy_to_nonoverlapping(data.as_mut_ptr(), read);
                }
                ctx.shared.begin(to[lane], bytes);
                let group = ctx.copies.committed[lane];
                let (lane, bytes, to) = (lane as u8, bytes as u8, to[lane] as u32);
                ctx.copies.pending.push(Copy { lane, bytes, group, to, data });
            }
        }
    }
}

/// `cp.async.commit_group`.
pub struct Commit;

impl Operation for Commit {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, _: &Op, mask: u32) {
        for lane in each(mask) {
            ctx.copies.committed[lane] += 1;
        }
    }
}

/// `cp.async.wait_group` and `wait_all`: all but the last `immediate` groups land (−1: all, committed
/// or not).
pub struct WaitGroup;

impl Operation for WaitGroup {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        let Ctx { shared, copies, warp, .. } = ctx;
        let Copies { pending, committed } = &mut **copies;
        pending.retain(|copy| {
            let lane = usize::from(copy.lane);
            let due = op.immediate < 0
                || i64::from(copy.group) + op.immediate < i64::from(committed[lane]);
            if mask >> lane & 1 == 0 || !due {
                return true;
            }
            let (to, bytes) = (copy.to as usize, usize::from(copy.bytes));
            shared.data[to..to + bytes].copy_from_slice(&copy.data[..bytes]);
            shared.land(*warp, to as u64, bytes);
            false
        });
    }
}
