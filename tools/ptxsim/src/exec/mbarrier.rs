//! `mbarrier`: objects in shared memory that count arrivals and bytes, phase by phase.
//!
//! The object's state is its eight bytes. What an arrival released is kept beside them, in
//! [`super::shared::Shared`]: a successful wait acquires what was released up to the phase that it
//! waited for. As with barriers the knowledge is a warp's: an arrival of one lane releases what all
//! lanes of its warp did before, and a wait of one lane acquires for all of them.

use super::Fault;
use super::access::{Deed, SHARED_WINDOW, WINDOW, addresses};
use super::copy::land;
use super::lanes::{LANES, Lanes, Operation, each, load, store, store_bits};
use super::op::{Ctx, Op};
use crate::finding::Kind;

/// Bytes of an object.
pub const BYTES: usize = 8;
/// The largest count of arrivals, and of bytes in flight to either side of none.
const MOST: u32 = (1 << 20) - 1;

/// Flags of an operation, the first word of its list.
pub const GENERIC: u32 = 1;
/// `.relaxed`: neither releases nor acquires.
pub const RELAXED: u32 = 2;
pub const NO_COMPLETE: u32 = 4;
pub const DROP: u32 = 8;
/// `.noinc`
pub const NO_INCREMENT: u32 = 16;

/// What the eight bytes say. The encoding is this simulator's own: PTX keeps it opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    /// Arrivals of every phase.
    expected: u32,
    /// Those that this phase still lacks.
    pending: u32,
    /// Bytes that this phase still lacks.
    bytes: i32,
    /// Of the phase that is not complete.
    parity: bool,
}

impl State {
    fn of(bits: u64) -> Self {
        State {
            expected: bits as u32 & MOST,
            pending: (bits >> 20) as u32 & MOST,
            // Sign-extends the 21 bits from 40 on.
            bytes: ((bits << 3) as i64 >> 43) as i32,
            parity: bits >> 61 & 1 == 1,
        }
    }

    fn bits(self) -> u64 {
        let bytes = self.bytes as u64 & ((1 << 21) - 1);
        let counts = u64::from(self.expected) | u64::from(self.pending) << 20;
        counts | bytes << 40 | u64::from(self.parity) << 61
    }

    /// `count` arrivals, or what is wrong with them; whether the phase is complete with that.
    fn arrive(&mut self, count: u32, drop: bool) -> Result<bool, String> {
        if count == 0 || count > self.pending {
            let pending = self.pending;
            return Err(format!("{count} arrivals at a phase that lacks {pending}"));
        }
        self.pending -= count;
        if drop {
            self.expected -= count; // at least as many as are pending: every phase begins with all of them
        }
        Ok(self.finish())
    }

    /// So many more bytes are expected, or fewer.
    fn expect(&mut self, bytes: i64) -> Result<(), String> {
        let sum = i64::from(self.bytes) + bytes;
        if sum.unsigned_abs() > u64::from(MOST) {
            return Err(format!("a transaction count of {sum}, beyond {MOST}"));
        }
        self.bytes = sum as i32;
        Ok(())
    }

    /// Begins the next phase if this one lacks nothing.
    fn finish(&mut self) -> bool {
        let complete = self.pending == 0 && self.bytes == 0;
        if complete {
            self.pending = self.expected;
            self.parity = !self.parity;
        }
        complete
    }
}

fn flags(ctx: &Ctx<'_>, op: &Op) -> u32 {
    ctx.kernel.code.lists[op.list as usize][0]
}

/// Addresses within shared memory.
///
/// # Safety
/// The caller's of [`Operation::run`].
unsafe fn places(ctx: &Ctx<'_>, op: &Op) -> Lanes<u64> {
    // SAFETY: the caller's.
    let at = unsafe { addresses(ctx, op) };
    if flags(ctx, op) & GENERIC == 0 {
        return at;
    }
    // What is not in the window is beyond any shared memory.
    at.map(|at| match at.wrapping_sub(SHARED_WINDOW) {
        inside @ 0..WINDOW => inside,
        _ => !7,
    })
}

impl Ctx<'_> {
    /// Whether there may be an object; if not, the launch ends.
    fn object_place(&mut self, op: &Op, lane: usize, address: u64) -> bool {
        if !address.is_multiple_of(BYTES as u64) {
            self.misaligned(op, lane, address, BYTES, Deed::Atomic);
            return false;
        }
        let inside = self.shared.contains(address, BYTES);
        if !inside {
            let size = self.shared.data.len();
            self.beyond(op, lane, address, BYTES, Deed::Atomic, "shared", size);
        }
        inside
    }

    /// The state of the object there; None ends the launch.
    fn object(&mut self, op: &Op, lane: usize, address: u64) -> Option<State> {
        if !self.object_place(op, lane, address) {
            return None;
        }
        match self.shared.use_object(self.warp, lane as u8, address) {
            None => {
                self.misused(op, lane, address, "no mbarrier was initialised there".into());
                return None;
            }
            Some(verdict) => self.shared_finding(op, lane, address, BYTES, Deed::Atomic, verdict),
        }
        Some(State::of(u64::from_ne_bytes(*self.shared.object_bytes(address))))
    }

    fn set_object(&mut self, address: u64, state: State) {
        *self.shared.object_bytes(address) = state.bits().to_ne_bytes();
    }

    #[cold]
    fn misused(&mut self, op: &Op, lane: usize, address: u64, what: String) {
        let message = format!("mbarrier at shared address {address:#x}: {what}");
        self.find(Kind::BarrierMismatch, op, lane, Some(address), message.clone());
        let at = self.kernel.index_of(op);
        self.fail(Fault::LaunchFailure(self.kernel.name_place(at, message)));
    }

    /// Initialises or ends an object: a write, which nothing may be concurrent with.
    fn write_object(&mut self, op: &Op, lane: usize, address: u64, live: bool) {
        let verdict = self.shared.set_live(self.warp, lane as u8, address, live);
        self.shared_finding(op, lane, address, BYTES, Deed::Write(&[]), verdict);
    }
}

/// `mbarrier.init`: the second source is the count.
pub struct Init;

impl Operation for Init {
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        let (at, counts) = unsafe { (places(ctx, op), load::<u32>(ctx.registers, op.sources[1])) };
        for lane in each(mask) {
            if !ctx.object_place(op, lane, at[lane]) {
                return;
            }
            let count = counts[lane];
            if count == 0 || count > MOST {
                return ctx.misused(
                    op,
                    lane,
                    at[lane],
                    format!("a count of {count}, not 1 to {MOST}"),
                );
            }
            ctx.write_object(op, lane, at[lane], true);
            let state = State { expected: count, pending: count, bytes: 0, parity: false };
            ctx.set_object(at[lane], state);
        }
    }
}

/// `mbarrier.inval`.
pub struct Invalidate;

impl Operation for Invalidate {
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        let at = unsafe { places(ctx, op) };
        for lane in each(mask) {
            if ctx.object(op, lane, at[lane]).is_none() {
                return;
            }
            ctx.write_object(op, lane, at[lane], false);
        }
    }
}

/// `mbarrier.arrive` and `.arrive_drop`, with or without `.expect_tx`: arrivals by the second source,
/// bytes to expect before by the third. The result is the state before the arrival.
pub struct Arrive;

impl Operation for Arrive {
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let at = places(ctx, op);
            let counts = load::<u32>(ctx.registers, op.sources[1]);
            let bytes = load::<u32>(ctx.registers, op.sources[2]);
            let flags = flags(ctx, op);
            let mut old = [0; LANES];
            for lane in each(mask) {
                let Some(mut state) = ctx.object(op, lane, at[lane]) else { return };
                if flags & RELAXED == 0 {
                    ctx.shared.release(ctx.warp, at[lane]);
                }
                let expected = state.expect(bytes[lane].into());
                old[lane] = state.bits();
                match expected.and_then(|()| state.arrive(counts[lane], flags & DROP != 0)) {
                    Err(what) => return ctx.misused(op, lane, at[lane], what),
                    Ok(true) if flags & NO_COMPLETE != 0 => {
                        let what = "an arrival with .noComplete completes the phase".into();
                        return ctx.misused(op, lane, at[lane], what);
                    }
                    Ok(complete) => ctx.shared.finish_phase(at[lane], complete),
                }
                ctx.set_object(at[lane], state);
            }
            store(ctx.registers, op.result, mask, old);
        }
    }
}

/// `mbarrier.expect_tx` (the second source) and `.complete_tx` (the third).
pub struct Transfer;

impl Operation for Transfer {
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        let (at, more, fewer) = unsafe {
            let [_, more, fewer, _] = op.sources;
            let at = places(ctx, op);
            (at, load::<u32>(ctx.registers, more), load::<u32>(ctx.registers, fewer))
        };
        for lane in each(mask) {
            let Some(mut state) = ctx.object(op, lane, at[lane]) else { return };
            if let Err(what) = state.expect(i64::from(more[lane]) - i64::from(fewer[lane])) {
                return ctx.misused(op, lane, at[lane], what);
            }
            // Only the completion of a transfer ends a phase, expecting one does not.
            let complete = fewer[lane] != 0 && state.finish();
            ctx.shared.finish_phase(at[lane], complete);
            ctx.set_object(at[lane], state);
        }
    }
}

/// `mbarrier.test_wait` and `.try_wait`: whether the phase of a state (the second source) is complete;
/// of a parity, with `PARITY`.
pub struct Poll<const PARITY: bool>;

impl<const PARITY: bool> Operation for Poll<PARITY> {
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let at = places(ctx, op);
            let relaxed = flags(ctx, op) & RELAXED != 0;
            let parities = if PARITY {
                load::<u32>(ctx.registers, op.sources[1])
            } else {
                load::<u64>(ctx.registers, op.sources[1]).map(|s| State::of(s).parity.into())
            };
            let mut complete = 0;
            for lane in each(mask) {
                let Some(state) = ctx.object(op, lane, at[lane]) else { return };
                let parity = parities[lane];
                if parity > 1 {
                    return ctx.misused(
                        op,
                        lane,
                        at[lane],
                        format!("a parity of {parity}, not 0 or 1"),
                    );
                }
                if u32::from(state.parity) == parity {
                    continue;
                }
                complete |= 1 << lane;
                if !relaxed {
                    ctx.shared.acquire(ctx.warp, at[lane]);
                }
            }
            ctx.waits = complete != mask;
            store_bits(ctx.registers, op.result, mask, complete);
        }
    }
}

/// `mbarrier.pending_count` of a state (the second source).
pub struct PendingCount;

impl Operation for PendingCount {
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let states = load::<u64>(ctx.registers, op.sources[1]);
            store(ctx.registers, op.result, mask, states.map(|s| State::of(s).pending));
        }
    }
}

/// `cp.async.mbarrier.arrive`: the lanes' copies so far land, then each lane arrives; without `.noinc`
/// it was expected once more before, so that the count stays.
pub struct ArriveOfCopies;

impl Operation for ArriveOfCopies {
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        let at = unsafe { places(ctx, op) };
        land(ctx, -1, mask);
        for lane in each(mask) {
            let Some(mut state) = ctx.object(op, lane, at[lane]) else { return };
            ctx.shared.release(ctx.warp, at[lane]);
            if flags(ctx, op) & NO_INCREMENT == 0 {
                if state.pending == MOST {
                    let what = format!("a count of pending arrivals beyond {MOST}");
                    return ctx.misused(op, lane, at[lane], what);
                }
                state.pending += 1;
            }
            match state.arrive(1, false) {
                Err(what) => return ctx.misused(op, lane, at[lane], what),
                Ok(complete) => ctx.shared.finish_phase(at[lane], complete),
            }
            ctx.set_object(at[lane], state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_eight_bytes() {
        for expected in [1, 77, MOST] {
            for bytes in [0, 1, -1, MOST as i32, -(MOST as i32)] {
                for parity in [false, true] {
                    let state = State { expected, pending: expected / 2, bytes, parity };
                    assert_eq!(State::of(state.bits()), state);
                }
            }
        }
    }

    #[test]
    fn a_phase_needs_its_arrivals_and_bytes() {
        let mut state = State { expected: 3, pending: 3, bytes: 0, parity: false };
        state.expect(16).unwrap();
        assert_eq!(state.arrive(3, true), Ok(false));
        assert!(state.arrive(1, false).is_err());
        state.expect(-16).unwrap();
        assert!(state.finish());
        assert_eq!(state, State { expected: 0, pending: 0, bytes: 0, parity: true });
    }
}
