//! Loads and stores, and the checks on every address.

use std::marker::PhantomData;

use super::Fault;
use super::lanes::{LANES, Lanes, Operation, each, load, store};
use super::op::{Ctx, Op};
use super::shared::Verdict;
use super::word::SEVERAL;
use crate::finding::Kind;
use crate::memory::{INITIALISED, UNADDRESSABLE};

/// Generic addresses of shared and local memory begin here: no global address has these bits.
pub const SHARED_WINDOW: u64 = 1 << 56;
pub const LOCAL_WINDOW: u64 = 1 << 57;
/// Bytes of the widest vector: eight elements of at most sixteen.
const WIDEST: usize = 8 * 16;
/// Bytes of each window.
pub const WINDOW: u64 = 1 << 32;

/// Where an address points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    Global,
    Shared,
    Local,
    Generic,
}

/// What is done there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed<'a> {
    Read,
    /// Of these bytes.
    Write(&'a [u8]),
    /// The start of an asynchronous copy to there.
    Copy,
    /// Reads and writes in one, ordered by the hardware.
    Atomic,
}

impl Deed<'_> {
    pub fn verb(self) -> &'static str {
        match self {
            Deed::Read => "a read",
            Deed::Write(_) | Deed::Copy => "a write",
            Deed::Atomic => "an atomic access",
        }
    }
}

/// A state space as a type, so that loads and stores are compiled for each.
pub trait In {
    const SPACE: Space;
}
pub struct Global;
pub struct Shared;
pub struct Local;
pub struct Generic;
impl In for Global {
    const SPACE: Space = Space::Global;
}
impl In for Shared {
    const SPACE: Space = Space::Shared;
}
impl In for Local {
    const SPACE: Space = Space::Local;
}
impl In for Generic {
    const SPACE: Space = Space::Generic;
}

/// The addresses of an instruction: a register of 32 or 64 bits, plus a displacement.
///
/// # Safety
/// The first source is such a register.
#[inline(always)]
pub unsafe fn addresses(ctx: &Ctx<'_>, op: &Op) -> Lanes<u64> {
    // SAFETY: the caller's.
    unsafe {
        let mut result = [0; LANES];
        if op.access.wide {
            let base = load::<u64>(ctx.registers, op.sources[0]);
            for i in 0..LANES {
                result[i] = base[i].wrapping_add_signed(op.immediate);
            }
        } else {
            let base = load::<u32>(ctx.registers, op.sources[0]);
            for i in 0..LANES {
                result[i] = u64::from(base[i].wrapping_add(op.immediate as u32));
            }
        }
        result
    }
}

impl Ctx<'_> {
    /// The host's place for an access that passes all checks; None ends the launch.
    #[inline(always)]
    pub fn place(
        &mut self,
        op: &Op,
        lane: usize,
        space: Space,
        address: u64,
        bytes: usize,
        deed: Deed<'_>,
    ) -> Option<*mut u8> {
        if !address.is_multiple_of(bytes as u64) {
            self.misaligned(op, lane, address, bytes, deed);
            return None;
        }
        match space {
            Space::Global => self.global(op, lane, address, bytes, deed),
            Space::Shared => self.in_shared(op, lane, lane as u8, address, bytes, deed),
            Space::Local => self.in_local(op, lane, address, bytes, deed),
            Space::Generic if address.wrapping_sub(SHARED_WINDOW) < WINDOW => {
                self.in_shared(op, lane, lane as u8, address - SHARED_WINDOW, bytes, deed)
            }
            Space::Generic if address.wrapping_sub(LOCAL_WINDOW) < WINDOW => {
                self.in_local(op, lane, address - LOCAL_WINDOW, bytes, deed)
            }
            Space::Generic => self.global(op, lane, address, bytes, deed),
        }
    }

    #[inline(always)]
    pub fn global(
        &mut self,
        op: &Op,
        lane: usize,
        address: u64,
        bytes: usize,
        deed: Deed<'_>,
    ) -> Option<*mut u8> {
        if !self.memory.contains(address, bytes as u64) {
            self.out_of_bounds(op, lane, address, bytes, deed);
            return None;
        }
        // SAFETY: in the range.
        let states = unsafe { std::slice::from_raw_parts_mut(self.memory.state(address), bytes) };
        if states.contains(&UNADDRESSABLE) {
            self.out_of_bounds(op, lane, address, bytes, deed);
            return None;
        }
        if self.machine.checks || op.access.strong {
            self.global_order(op, lane, address, bytes, deed);
        }
        if let Deed::Write(value) = deed {
            states.fill(INITIALISED);
            // SAFETY: in the range.
            let now = unsafe { std::slice::from_raw_parts(self.memory.data(address), bytes) };
            self.presence.changes += u64::from(now != value);
        } else if self.machine.checks && states.iter().any(|&s| s != INITIALISED) {
            self.uninitialised(op, lane, address, bytes, "global");
            states.fill(INITIALISED); // one report
        }
        // SAFETY: in the range.
        Some(unsafe { self.memory.data(address) })
    }

    /// Asks whether another block of the launch wrote there, and notes what this one writes.
    #[inline(always)]
    fn global_order(&mut self, op: &Op, lane: usize, address: u64, bytes: usize, deed: Deed<'_>) {
        let Ctx { order, presence, memory, .. } = self;
        // SAFETY: the caller has asked whether the range is in memory.
        let with = unsafe {
            match (deed, op.access.strong) {
                (Deed::Read, false) => order.read(presence, memory, address, bytes),
                (Deed::Write(value), false) => order.write(presence, memory, address, value),
                (Deed::Write(_), true) => {
                    if op.access.releases {
                        order.release(presence);
                    }
                    order.forget(memory, address, bytes);
                    None
                }
                // A strong read is followed by `poll`, an atomic access by both.
                (Deed::Read, true) | (Deed::Atomic | Deed::Copy, _) => None,
            }
        };
        if let Some(with) = with {
            self.global_race(op, lane, address, bytes, deed, with);
        }
    }

    /// The place of a row that a warp reads or writes together; the lane is whose address it is.
    #[inline(always)]
    pub fn row(&mut self, op: &Op, lane: usize, address: u64, deed: Deed<'_>) -> Option<*mut u8> {
        if !address.is_multiple_of(16) {
            self.misaligned(op, lane, address, 16, deed);
            return None;
        }
        self.in_shared(op, lane, SEVERAL, address, 16, deed)
    }

    /// `who` is the lane, or [`SEVERAL`].
    #[inline(always)]
    fn in_shared(
        &mut self,
        op: &Op,
        lane: usize,
        who: u8,
        address: u64,
        bytes: usize,
        deed: Deed<'_>,
    ) -> Option<*mut u8> {
        if !self.shared.contains(address, bytes) {
            self.beyond(op, lane, address, bytes, deed, "shared", self.shared.data.len());
            return None;
        }
        let verdict = match deed {
            Deed::Read => self.shared.read(self.warp, who, address, bytes),
            Deed::Write(_) | Deed::Copy => self.shared.write(self.warp, who, address, bytes),
            Deed::Atomic => self.shared.atomic(address, bytes),
        };
        if verdict != Verdict::Good && !self.same(address, deed, verdict) {
            self.shared_finding(op, lane, address, bytes, deed, verdict);
        }
        // SAFETY: inside, as was just asked.
        Some(unsafe { self.shared.data.as_mut_ptr().add(address as usize) })
    }

    #[inline(always)]
    fn in_local(
        &mut self,
        op: &Op,
        lane: usize,
        address: u64,
        bytes: usize,
        deed: Deed<'_>,
    ) -> Option<*mut u8> {
        let size = self.kernel.lane_bytes();
        if address.checked_add(bytes as u64).is_none_or(|end| end > size as u64) {
            self.beyond(op, lane, address, bytes, deed, "local", size);
            return None;
        }
        let start = lane * size + address as usize;
        if self.machine.checks {
            let written = &mut self.local_written[start..start + bytes];
            // Copies of a structure read its padding too: an element must lack all of its bytes.
            let mut elements = written.chunks(usize::from(op.access.bytes).max(1));
            let lacking = elements.any(|element| element.iter().all(|&written| written == 0));
            written.fill(1);
            if lacking && deed == Deed::Read {
                self.uninitialised(op, lane, address, bytes, "local");
            }
        }
        // SAFETY: within this lane's part.
        Some(unsafe { self.local.as_mut_ptr().add(start) })
    }
}

/// `ld` of any width, extended to its registers.
pub struct Load<S>(PhantomData<S>);

impl<S: In> Operation for Load<S> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's; places are checked.
        unsafe {
            let at = addresses(ctx, op);
            let access = op.access;
            let bytes = usize::from(access.bytes) * usize::from(access.count);
            let results = &ctx.kernel.code.lists[op.list as usize];
            for lane in each(mask) {
                let Some(from) = ctx.place(op, lane, S::SPACE, at[lane], bytes, Deed::Read) else {
                    return;
                };
                for (i, &result) in results.iter().enumerate() {
                    let from = from.add(i * usize::from(access.bytes));
                    put(ctx.registers, result, lane, access, from);
                }
            }
            // Not before the reads: whoever sees a flag is ordered after what came before it.
            if access.strong && each(mask).any(|lane| is_global(S::SPACE, at[lane])) {
                ctx.order.poll(ctx.presence);
            }
        }
    }
}

/// Whether an address of the space is one of global memory.
fn is_global(space: Space, address: u64) -> bool {
    let windows = [SHARED_WINDOW, LOCAL_WINDOW];
    let generic = || windows.iter().all(|window| address.wrapping_sub(*window) >= WINDOW);
    space == Space::Global || space == Space::Generic && generic()
}

/// `st` of any width.
pub struct Store<S>(PhantomData<S>);

impl<S: In> Operation for Store<S> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's; places are checked.
        unsafe {
            let at = addresses(ctx, op);
            let access = op.access;
            let width = usize::from(access.bytes);
            let bytes = width * usize::from(access.count);
            let values = &ctx.kernel.code.lists[op.list as usize];
            let mut value = [0u8; WIDEST];
            for lane in each(mask) {
                for (i, &register) in values.iter().enumerate() {
                    let from = ctx
                        .registers
                        .add(register as usize + lane * usize::from(access.register_bytes));
                    value.as_mut_ptr().add(i * width).copy_from_nonoverlapping(from, width);
                }
                let deed = Deed::Write(&value[..bytes]);
                let Some(to) = ctx.place(op, lane, S::SPACE, at[lane], bytes, deed) else {
                    return;
                };
                to.copy_from_nonoverlapping(value.as_ptr(), bytes);
            }
        }
    }
}

/// An element of at most 8 bytes from memory, extended to 64 bits.
///
/// # Safety
/// `access.bytes` are readable.
#[inline(always)]
unsafe fn get(from: *const u8, access: super::op::Access) -> u64 {
    // SAFETY: the caller's. No alignment is asked for: an atomic host access is not needed here.
    unsafe {
        match (access.bytes, access.signed) {
            (1, false) => u64::from(from.read()),
            (1, true) => from.cast::<i8>().read() as i64 as u64,
            (2, false) => u64::from(from.cast::<u16>().read_unaligned()),
            (2, true) => from.cast::<i16>().read_unaligned() as i64 as u64,
            (4, false) => u64::from(from.cast::<u32>().read_unaligned()),
            (4, true) => from.cast::<i32>().read_unaligned() as i64 as u64,
            _ => from.cast::<u64>().read_unaligned(),
        }
    }
}

/// Writes an element from memory to one lane of a register.
///
/// # Safety
/// `access.bytes` are readable; the register has `access.register_bytes` a lane.
#[inline(always)]
unsafe fn put(
    registers: *mut u8,
    result: u32,
    lane: usize,
    access: super::op::Access,
    from: *const u8,
) {
    // SAFETY: the caller's.
    unsafe {
        let to = registers.add(result as usize + lane * usize::from(access.register_bytes));
        match access.register_bytes {
            2 => to.cast::<u16>().write(get(from, access) as u16),
            4 => to.cast::<u32>().write(get(from, access) as u32),
            8 => to.cast::<u64>().write(get(from, access)),
            _ => to.copy_from_nonoverlapping(from, 16),
        }
    }
}

/// `ld.param` of a kernel: the same for all threads.
pub struct LoadParam;

impl Operation for LoadParam {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's; the parameter block's end is asked for.
        unsafe {
            let at = addresses(ctx, op);
            let (access, width) = (op.access, usize::from(op.access.bytes));
            let lane = mask.trailing_zeros() as usize & 31;
            let bytes = width * usize::from(access.count);
            let params = ctx.launch.params;
            let start = at[lane] as usize;
            if start.checked_add(bytes).is_none_or(|end| end > params.len()) {
                let found = params.len();
                let message =
                    format!("a read of {bytes} bytes at parameter byte {start}: there are {found}");
                ctx.find(Kind::OutOfBounds, op, lane, Some(at[lane]), message.clone());
                return ctx.fail(Fault::LaunchFailure(message));
            }
            let results = &ctx.kernel.code.lists[op.list as usize];
            for (i, &result) in results.iter().enumerate() {
                let from = params.as_ptr().add(start + i * width);
                if access.register_bytes == 16 {
                    let value = from.cast::<u128>().read_unaligned();
                    store(ctx.registers, result, mask, [value; LANES]);
                    continue;
                }
                let value = get(from, access);
                match access.register_bytes {
                    2 => store(ctx.registers, result, mask, [value as u16; LANES]),
                    4 => store(ctx.registers, result, mask, [value as u32; LANES]),
                    _ => store(ctx.registers, result, mask, [value; LANES]),
                }
            }
        }
    }
}
