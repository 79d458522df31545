//! `mbarrier`, and the arrival of `cp.async` at one.

use super::{Lowering, has};
use crate::exec::mbarrier::*;
use crate::exec::op::{Flow, Op};
use crate::exec::special::Fixed;
use crate::ptx::Error;
use crate::ptx::ast::Instruction;

/// Where an object is, and how it is used: modifiers that any `mbarrier` instruction may have.
const COMMON: [&str; 3] = ["shared", "shared::cta", "b64"];
/// Those that order and scope, beside.
const ORDER: [&str; 5] = ["release", "acquire", "relaxed", "cta", "cluster"];

impl Lowering<'_> {
    pub(super) fn mbarrier(&mut self, i: &Instruction) -> Result<Op, Error> {
        let Some((name, rest)) = i.modifiers.split_first() else { return self.unsupported(i) };
        let (ordered, own): (bool, &[&str]) = match name.as_str() {
            "init" | "inval" | "pending_count" => (false, &[]),
            "arrive" | "arrive_drop" => (true, &["noComplete", "expect_tx"]),
            "test_wait" | "try_wait" => (true, &["parity"]),
            "expect_tx" | "complete_tx" => (true, &[]),
            _ => return self.unsupported(i),
        };
        let known = |m: &&String| {
            COMMON.contains(&m.as_str())
                || own.contains(&m.as_str())
                || ordered && ORDER.contains(&m.as_str())
        };
        let waits = name.ends_with("_wait");
        let wrong = if waits { "release" } else { "acquire" };
        if !rest.iter().all(|m| known(&m)) || !has(i, "b64") || has(i, wrong) {
            return self.unsupported(i);
        }
        if name == "pending_count" {
            let state = self.operand(i, 1)?.clone();
            let state = self.source(i, &state, 8)?;
            let result = self.result(i, self.operand(i, 0)?, 4)?;
            self.operands(i, 2..=2)?;
            return Ok(self.op::<PendingCount>(result, &[self.sink, state]));
        }
        let zero = self.fixed(Fixed::Bits(0), 4);
        match name.as_str() {
            "init" => {
                let count = self.word(i, 1)?;
                self.operands(i, 2..=2)?;
                let op = self.op::<Init>(self.sink, &[self.sink, count]);
                self.at_object(i, 0, 0, op)
            }
            "inval" => {
                self.operands(i, 1..=1)?;
                let op = self.op::<Invalidate>(self.sink, &[]);
                self.at_object(i, 0, 0, op)
            }
            "expect_tx" | "complete_tx" => {
                let bytes = self.word(i, 1)?;
                self.operands(i, 2..=2)?;
                let [more, fewer] = if name == "expect_tx" { [bytes, zero] } else { [zero, bytes] };
                let op = self.op::<Transfer>(self.sink, &[self.sink, more, fewer]);
                self.at_object(i, 0, 0, op)
            }
            "arrive" | "arrive_drop" => {
                let result = self.result(i, self.operand(i, 0)?, 8)?;
                let (no_complete, expects) = (has(i, "noComplete"), has(i, "expect_tx"));
                self.operands(i, if no_complete || expects { 3..=3 } else { 2..=3 })?;
                let last = if i.operands.len() == 3 { Some(self.word(i, 2)?) } else { None };
                let one = self.fixed(Fixed::Bits(1), 4);
                let (count, bytes) = match last {
                    Some(_) if no_complete && expects => return self.unsupported(i),
                    Some(bytes) if expects => (one, bytes),
                    Some(count) => (count, zero),
                    None => (one, zero),
                };
                let op = self.op::<Arrive>(result, &[self.sink, count, bytes]);
                let flags = if no_complete { NO_COMPLETE } else { 0 };
                self.at_object(i, 1, flags | if name == "arrive_drop" { DROP } else { 0 }, op)
            }
            _ => {
                let result = self.result(i, self.operand(i, 0)?, 0)?;
                // A time may follow for which the hardware is to suspend the thread.
                self.operands(i, 3..=3 + usize::from(name == "try_wait"))?;
                let of_phase = self.operand(i, 2)?.clone();
                let mut op = if has(i, "parity") {
                    let parity = self.source(i, &of_phase, 4)?;
                    self.op::<Poll<true>>(result, &[self.sink, parity])
                } else {
                    let state = self.source(i, &of_phase, 8)?;
                    self.op::<Poll<false>>(result, &[self.sink, state])
                };
                op.flow = Flow::Poll;
                self.at_object(i, 1, 0, op)
            }
        }
    }

    /// `cp.async.mbarrier.arrive`.
    pub(super) fn arrive_of_copies(&mut self, i: &Instruction) -> Result<Op, Error> {
        let modifiers: Vec<&str> = i.modifiers.iter().map(String::as_str).collect();
        let ["async", "mbarrier", "arrive", rest @ .., "b64"] = &modifiers[..] else {
            return self.unsupported(i);
        };
        let (flags, space) = match rest {
            ["noinc", space @ ..] => (NO_INCREMENT, space),
            space => (0, space),
        };
        if !matches!(space, [] | ["shared" | "shared::cta"]) {
            return self.unsupported(i);
        }
        self.operands(i, 1..=1)?;
        let op = self.op::<ArriveOfCopies>(self.sink, &[]);
        self.at_object(i, 0, flags, op)
    }

    /// An operation on the object whose address is operand `n`.
    fn at_object(&mut self, i: &Instruction, n: usize, flags: u32, op: Op) -> Result<Op, Error> {
        let address = self.operand(i, n)?.clone();
        let (base, wide, offset) = self.address_of(i, &address)?;
        let mut op = op;
        (op.sources[0], op.immediate, op.access.wide) = (base, offset, wide);
        let generic = !has(i, "shared") && !has(i, "shared::cta");
        let flags = flags | if generic { GENERIC } else { 0 };
        let flags = flags | if has(i, "relaxed") { RELAXED } else { 0 };
        op.list = self.list(vec![flags]);
        Ok(op)
    }

    fn word(&mut self, i: &Instruction, n: usize) -> Result<u32, Error> {
        let operand = self.operand(i, n)?.clone();
        self.source(i, &operand, 4)
    }

    fn operands(
        &self,
        i: &Instruction,
        count: std::ops::RangeInclusive<usize>,
    ) -> Result<(), Error> {
        match i.operands.len() {
            found if count.contains(&found) => Ok(()),
            found => {
                let (least, most) = (count.start(), count.end());
                self.refuse(i, format!("expected {least} to {most} operands, found {found}"))
            }
        }
    }
}
