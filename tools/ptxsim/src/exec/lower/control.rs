//! Branches, exits, barriers and what lanes do together.

use super::{Lowering, has, types};
use crate::exec::collective::*;
use crate::exec::control::{Clock, Trap};
use crate::exec::op::{Barrier, Flow, Op, Reduction};
use crate::exec::order::Wait;
use crate::exec::special::Fixed;
use crate::ptx::Error;
use crate::ptx::ast::{Instruction, Operand, Special, Type};

impl Lowering<'_> {
    pub(super) fn control(&mut self, index: usize, i: &Instruction) -> Result<Op, Error> {
        let mut op = self.op::<Nothing>(self.sink, &[]);
        match i.opcode.as_str() {
            "bra" => {
                let Operand::Label(label) = *self.operand(i, 0)? else {
                    return self.refuse(i, "expected a label");
                };
                let to = self.number(self.function.labels[label].1);
                op.flow = Flow::Branch { to, meet: self.meet(index) };
            }
            "brx" => {
                let (chosen, table) = (self.operand(i, 0)?.clone(), self.operand(i, 1)?.clone());
                let Operand::BranchTable(table) = table else {
                    return self.refuse(i, "expected a list of branch targets");
                };
                op.sources[0] = self.source(i, &chosen, 4)?;
                let labels = &self.function.branch_tables[table].1;
                let targets = labels
                    .iter()
                    .map(|&label| self.number(self.function.labels[label].1))
                    .collect();
                op.list = self.list(targets);
                op.flow = Flow::Table { meet: self.meet(index) };
            }
            "ret" if !self.function.is_entry => op.flow = Flow::Return,
            "ret" | "exit" => op.flow = Flow::Exit,
            "trap" => return Ok(self.op::<Trap>(self.sink, &[])),
            "nanosleep" | "pragma" => {}
            // Successors start when this launch is done.
            "griddepcontrol" if i.modifiers[..] == ["launch_dependents"] => {}
            "griddepcontrol" => return Ok(self.op::<Wait>(self.sink, &[])),
            "bar" | "barrier" => return self.barrier(i),
            "shfl" => return self.shuffle(i),
            "vote" => return self.vote(i),
            "activemask" => {
                let result = self.result(i, self.operand(i, 0)?, 4)?;
                return Ok(self.op::<ActiveMask>(result, &[]));
            }
            "elect" => {
                let (result, leads) = self.pair(i, self.operand(i, 0)?, 4)?;
                let members = self.operand(i, 1)?.clone();
                let members = self.source(i, &members, 4)?;
                return Ok(self.together::<Elect>(result, &[], members, leads));
            }
            "match" => return self.matching(i),
            "redux" => {
                let name = match &i.modifiers[..] {
                    [sync, operation, ty] if sync == "sync" => format!("{operation}.{ty}"),
                    _ => return self.unsupported(i),
                };
                let number = match REDUCTIONS.iter().position(|&r| r == name) {
                    Some(number) => number as i64,
                    None if name == "xor.b32" => XOR,
                    None => return self.unsupported(i),
                };
                let (value, members) = (self.operand(i, 1)?.clone(), self.operand(i, 2)?.clone());
                let (value, members) = (self.source(i, &value, 4)?, self.source(i, &members, 4)?);
                let result = self.result(i, self.operand(i, 0)?, 4)?;
                let mut op = self.together::<Redux>(result, &[value], members, self.sink);
                op.immediate = number;
                return Ok(op);
            }
            _ => return self.unsupported(i),
        }
        Ok(op)
    }

    /// An operation that the lanes of a mask run together; `extra` is a second, predicate result.
    fn together<O: crate::exec::lanes::Operation>(
        &self,
        result: u32,
        sources: &[u32],
        members: u32,
        extra: u32,
    ) -> Op {
        let mut op = self.op::<O>(result, sources);
        op.sources[3] = members;
        op.list = extra;
        op.flow = Flow::Together;
        op
    }

    fn barrier(&mut self, i: &Instruction) -> Result<Op, Error> {
        if has(i, "warp") {
            let members = self.operand(i, 0)?.clone();
            let members = self.source(i, &members, 4)?;
            return Ok(self.together::<Nothing>(self.sink, &[], members, self.sink));
        }
        if has(i, "cluster") {
            return self.unsupported(i);
        }
        let reduction = match () {
            () if !has(i, "red") => None,
            () if has(i, "popc") => Some(Reduction::Population),
            () if has(i, "and") => Some(Reduction::And),
            () => Some(Reduction::Or),
        };
        let first = usize::from(reduction.is_some());
        // Results first, a predicate last; between them the barrier's number and perhaps a thread count.
        let last = i.operands.len() - first;
        let number = self.operand(i, first)?.clone();
        let number = self.source(i, &number, 4)?;
        let counted = last - first == 2;
        let threads = if counted {
            let threads = self.operand(i, first + 1)?.clone();
            self.source(i, &threads, 4)?
        } else {
            self.sink
        };
        let mut op = self.op::<Nothing>(self.sink, &[number, threads]);
        if let Some(kind) = reduction {
            let (predicate, negated) = self.predicate(i, &i.operands[last].clone())?;
            op.immediate = if negated { u32::MAX.into() } else { 0 };
            op.sources[2] = predicate;
            let bytes = if kind == Reduction::Population { 4 } else { 0 };
            op.result = self.result(i, self.operand(i, 0)?, bytes)?;
        }
        let aligned = i.opcode == "bar" || has(i, "aligned");
        op.flow = Flow::Barrier(Barrier { waits: !has(i, "arrive"), aligned, counted, reduction });
        Ok(op)
    }

    fn shuffle(&mut self, i: &Instruction) -> Result<Op, Error> {
        let direction = match () {
            () if !has(i, "sync") => return self.unsupported(i),
            () if has(i, "up") => UP,
            () if has(i, "down") => DOWN,
            () if has(i, "bfly") => BUTTERFLY,
            () => INDEX,
        };
        let (result, inside) = self.pair(i, self.operand(i, 0)?, 4)?;
        let mut sources = [0; 4];
        for (n, source) in sources.iter_mut().enumerate() {
            let operand = self.operand(i, n + 1)?.clone();
            *source = self.source(i, &operand, 4)?;
        }
        let [a, b, c, members] = sources;
        let mut op = self.together::<ShuffleSync>(result, &[a, b, c], members, inside);
        op.immediate = direction;
        Ok(op)
    }

    fn vote(&mut self, i: &Instruction) -> Result<Op, Error> {
        if !has(i, "sync") {
            return self.unsupported(i);
        }
        let (predicate, members) = (self.operand(i, 1)?.clone(), self.operand(i, 2)?.clone());
        let (predicate, negated) = self.predicate(i, &predicate)?;
        let members = self.source(i, &members, 4)?;
        let flag = if negated { NEGATED } else { 0 };
        if has(i, "ballot") {
            let result = self.result(i, self.operand(i, 0)?, 4)?;
            let mut op = self.together::<Ballot>(result, &[predicate], members, self.sink);
            op.immediate = flag;
            return Ok(op);
        }
        let result = self.result(i, self.operand(i, 0)?, 0)?;
        let mut op = self.together::<Vote>(result, &[predicate], members, self.sink);
        op.immediate = flag
            | match () {
                () if has(i, "all") => ALL,
                () if has(i, "any") => ANY,
                () => UNIFORM,
            };
        Ok(op)
    }

    fn matching(&mut self, i: &Instruction) -> Result<Op, Error> {
        let [ty] = types(i)[..] else { return self.unsupported(i) };
        let bytes = ty.bytes() as u8;
        let (result, same) = self.pair(i, self.operand(i, 0)?, 4)?;
        let (value, members) = (self.operand(i, 1)?.clone(), self.operand(i, 2)?.clone());
        let (value, members) = (self.source(i, &value, bytes)?, self.source(i, &members, 4)?);
        Ok(match (has(i, "any"), ty) {
            (true, Type::B32) => self.together::<MatchAny<u32>>(result, &[value], members, same),
            (true, Type::B64) => self.together::<MatchAny<u64>>(result, &[value], members, same),
            (false, Type::B32) => self.together::<MatchAll<u32>>(result, &[value], members, same),
            (false, Type::B64) => self.together::<MatchAll<u64>>(result, &[value], members, same),
            _ => return self.unsupported(i),
        })
    }

    /// `mov` from a clock.
    pub(super) fn clock(
        &mut self,
        i: &Instruction,
        special: &Special,
        to: &Operand,
    ) -> Result<Op, Error> {
        let (bytes, shift) = match special {
            Special::Clock | Special::GlobalTimerLo => (4, 0),
            Special::ClockHi | Special::GlobalTimerHi => (4, 32),
            Special::Clock64 | Special::GlobalTimer => (8, 0),
            other => return self.refuse(i, format!("{other:?} is not supported")),
        };
        let result = self.result(i, to, bytes)?;
        let shift = self.fixed(Fixed::Bits(shift), 4);
        let mut op = self.op::<Clock>(result, &[shift]);
        op.access.register_bytes = bytes;
        Ok(op)
    }
}
