//! What is said of an access that fails a check.

use super::Fault;
use super::access::Deed;
use super::op::{Ctx, Op};
use super::order::Writer;
use super::shared::Verdict;
use crate::finding::Kind;

impl Ctx<'_> {
    /// Whether a conflict of two writes is none, since both write the same.
    #[cold]
    #[inline(never)]
    pub fn same(&self, address: u64, deed: Deed<'_>, verdict: Verdict) -> bool {
        let (Deed::Write(value), Verdict::Race { wrote: true, .. }) = (deed, verdict) else {
            return false;
        };
        self.shared.data[address as usize..].starts_with(value)
    }

    #[cold]
    #[inline(never)]
    pub fn misaligned(&mut self, op: &Op, lane: usize, address: u64, bytes: usize, deed: Deed<'_>) {
        let verb = deed.verb();
        let message =
            format!("{verb} of {bytes} bytes at {address:#x}, which is no multiple of {bytes}");
        self.find(Kind::Misaligned, op, lane, Some(address), message.clone());
        self.fail(Fault::MisalignedAddress(message));
    }

    #[cold]
    #[inline(never)]
    pub fn out_of_bounds(
        &mut self,
        op: &Op,
        lane: usize,
        address: u64,
        bytes: usize,
        deed: Deed<'_>,
    ) {
        let place = self.memory.describe(address, bytes as u64);
        let verb = deed.verb();
        let message = format!("{verb} of {bytes} bytes at {address:#x}: {place}");
        let freed = self.memory.is_freed(address);
        let kind = if freed { Kind::UseAfterFree } else { Kind::OutOfBounds };
        self.find(kind, op, lane, Some(address), message.clone());
        self.fail(Fault::IllegalAddress(message));
    }

    #[cold]
    #[inline(never)]
    #[allow(clippy::too_many_arguments, reason = "all of it is in the message")]
    pub fn beyond(
        &mut self,
        op: &Op,
        lane: usize,
        address: u64,
        bytes: usize,
        deed: Deed<'_>,
        space: &str,
        size: usize,
    ) {
        let verb = deed.verb();
        let message = format!(
            "{verb} of {bytes} bytes at {space} address {address:#x}: there are {size} bytes"
        );
        self.find(Kind::OutOfBounds, op, lane, Some(address), message.clone());
        self.fail(Fault::IllegalAddress(message));
    }

    #[cold]
    #[inline(never)]
    pub fn uninitialised(&mut self, op: &Op, lane: usize, address: u64, bytes: usize, space: &str) {
        let place = match space {
            "global" => self.memory.describe(address, bytes as u64),
            "local" => "this thread has not".into(),
            _ => "no thread of this block wrote it".into(),
        };
        let message = format!(
            "a read of {bytes} {space} bytes at {address:#x} that nothing has written: {place}"
        );
        self.find(Kind::UninitialisedRead, op, lane, Some(address), message);
    }

    #[cold]
    #[inline(never)]
    pub fn global_race(
        &mut self,
        op: &Op,
        lane: usize,
        address: u64,
        bytes: usize,
        deed: Deed<'_>,
        with: Writer,
    ) {
        let (verb, place) = (deed.verb(), self.memory.describe(address, bytes as u64));
        let why = match with {
            Writer::Block(block) => format!(
                "block {block:?} of this launch wrote: no fence there with an atomic or volatile access here after it"
            ),
            Writer::Launch => "a launch before this one wrote, which may still run: no griddepcontrol.wait before \
                               this access"
                .to_owned(),
        };
        let message = format!("{verb} of {bytes} bytes at {address:#x} that {why} ({place})");
        self.find(Kind::GlobalRace, op, lane, Some(address), message);
    }

    #[cold]
    #[inline(never)]
    pub fn shared_finding(
        &mut self,
        op: &Op,
        lane: usize,
        address: u64,
        bytes: usize,
        deed: Deed<'_>,
        verdict: Verdict,
    ) {
        match verdict {
            Verdict::Good => {}
            Verdict::Uninitialised => self.uninitialised(op, lane, address, bytes, "shared"),
            Verdict::Landing => {
                let verb = deed.verb();
                let message = format!(
                    "{verb} of {bytes} bytes at shared address {address:#x} where an asynchronous copy may land: nothing has waited for it"
                );
                self.find(Kind::AsyncCopyRace, op, lane, Some(address), message);
            }
            Verdict::Mbarrier => {
                let verb = deed.verb();
                let message = format!(
                    "{verb} of {bytes} bytes at shared address {address:#x}, which is an mbarrier: only its own instructions may, until mbarrier.inval"
                );
                self.find(Kind::BarrierMismatch, op, lane, Some(address), message);
            }
            Verdict::Race { with, lane: other, wrote } => {
                let (verb, past) = (deed.verb(), if wrote { "wrote" } else { "read" });
                let whose = match other {
                    0..32 => format!("lane {other} of "),
                    _ if with == self.warp => "another lane of ".into(),
                    _ => String::new(),
                };
                let (who, missing) = if with == self.warp {
                    (format!("{whose}this warp"), "barrier or `.sync` operation")
                } else {
                    (format!("{whose}warp {with}"), "barrier")
                };
                let message = format!(
                    "{verb} of {bytes} bytes at shared address {address:#x} that {who} {past} with no {missing} in between"
                );
                self.find(Kind::SharedRace, op, lane, Some(address), message);
            }
        }
    }
}
