//! `cp.async`: copies that land when they are waited for, the latest moment the program allows.

use std::collections::VecDeque;

use super::access::{Deed, Space, addresses};
use super::lanes::{LANES, Lanes, Operation, each, load};
use super::op::{Ctx, Op};
use super::words::readable;

/// Copies of a warp that are on their way.
#[derive(Debug)]
pub struct Copies {
    /// In order of issue.
    pending: VecDeque<Copy>,
    /// Groups that each lane has committed.
    committed: Lanes<u32>,
}

/// Those of one instruction.
#[derive(Debug)]
struct Copy {
    /// Lanes whose copy has not landed.
    lanes: u32,
    bytes: usize,
    groups: Lanes<u32>,
    to: Lanes<u32>,
    data: Lanes<[u8; 16]>,
}

impl Copies {
    pub fn new() -> Self {
        Copies { pending: VecDeque::new(), committed: [0; LANES] }
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
                ctx.memory.prefetch(from[lane].wrapping_add_signed(displacement));
            }
            let groups = ctx.copies.committed;
            ctx.copies.pending.push_back(Copy {
                lanes: mask,
                bytes,
                groups,
                to: to.map(|to| to as u32),
                data: [[0; 16]; LANES],
            });
            let Some(copy) = ctx.copies.pending.back_mut() else { return };
            let data: *mut [u8; 16] = copy.data.as_mut_ptr();
            for lane in each(mask) {
                let whole = bytes == 16;
                if !(whole && ctx.shared.begin_line(ctx.warp, lane as u8, to[lane])) {
                    let place = ctx.place(op, lane, Space::Shared, to[lane], bytes, Deed::Copy);
                    if place.is_none() {
                        return;
                    }
                    ctx.shared.begin(to[lane], bytes);
                }
                let read = (read[lane] as usize).min(bytes);
                if read == 0 {
                    continue;
                }
                let from = from[lane].wrapping_add_signed(displacement);
                // What lands is what lies there when it lands; nobody may write it until then.
                if whole
                    && read == 16
                    && from.is_multiple_of(16)
                    && let Some(place) = readable::<[u8; 16]>(ctx, from)
                {
                    data.add(lane).write(place.read());
                    continue;
                }
                if !from.is_multiple_of(bytes as u64) {
                    ctx.misaligned(op, lane, from, bytes, Deed::Read);
                    return;
                }
                let Some(place) = ctx.global(op, lane, from, read, Deed::Read) else { return };
                place.copy_to_nonoverlapping(data.add(lane).cast(), read);
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
        for copy in pending.iter_mut() {
            let mut due = 0;
            for lane in 0..LANES {
                let landing =
                    i64::from(copy.groups[lane]) + op.immediate < i64::from(committed[lane]);
                due |= u32::from(op.immediate < 0 || landing) << lane;
            }
            due &= mask & copy.lanes;
            copy.lanes &= !due;
            for lane in each(due) {
                let (to, data) = (u64::from(copy.to[lane]), &copy.data[lane]);
                if copy.bytes < 16 || !shared.land_line(*warp, lane as u8, to, data) {
                    shared.land(*warp, lane as u8, to, &data[..copy.bytes]);
                }
            }
        }
        while pending.front().is_some_and(|copy| copy.lanes == 0) {
            pending.pop_front();
        }
    }
}
