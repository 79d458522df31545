//! `mov` and `cvt`.

use super::{Lowering, has, types};
use crate::exec::convert::*;
use crate::exec::float::SaturateF32;
use crate::exec::integer::{Logic, Move16, Move32, Move64};
use crate::exec::op::{Access, Op};
use crate::ptx::Error;
use crate::ptx::ast::{Instruction, Operand, Type};

impl Lowering<'_> {
    pub(super) fn conversion(&mut self, i: &Instruction) -> Result<Op, Error> {
        if i.opcode == "mov" { self.mov(i) } else { self.cvt(i) }
    }

    fn mov(&mut self, i: &Instruction) -> Result<Op, Error> {
        let [ty] = types(i)[..] else { return self.refuse(i, "expected one type") };
        let (to, from) = (self.operand(i, 0)?.clone(), self.operand(i, 1)?.clone());
        if ty == Type::Pred {
            let (source, negated) = self.predicate(i, &from)?;
            let result = self.result(i, &to, 0)?;
            let mut op = self.op::<Logic>(result, &[source, source]);
            op.immediate = if negated { 0b0011 } else { 0b1100 };
            return Ok(op);
        }
        let bytes = ty.bytes() as u8;
        match (&to, &from) {
            (Operand::Vector(parts), _) => {
                let source = self.source(i, &from, bytes)?;
                let width = bytes / parts.len() as u8;
                let mut list = Vec::new();
                for part in parts {
                    list.push(match part {
                        Operand::Sink => u32::MAX,
                        part => self.result(i, part, width)?,
                    });
                }
                let mut op = match (bytes, width) {
                    (4, 2) => self.op::<Unpack<u32, u16>>(self.sink, &[source]),
                    (8, 4) => self.op::<Unpack<u64, u32>>(self.sink, &[source]),
                    (8, 2) => self.op::<Unpack<u64, u16>>(self.sink, &[source]),
                    _ => return self.unsupported(i),
                };
                op.list = self.list(list);
                Ok(op)
            }
            (_, Operand::Vector(parts)) => {
                let width = bytes / parts.len() as u8;
                let sources = parts
                    .iter()
                    .map(|p| self.source(i, p, width))
                    .collect::<Result<Vec<_>, _>>()?;
                let result = self.result(i, &to, bytes)?;
                Ok(match (bytes, parts.len()) {
                    (4, 2) => self.op::<Pack16>(result, &sources),
                    (8, 2) => self.op::<Pack32>(result, &sources),
                    (8, 4) => self.op::<Pack16x4>(result, &sources),
                    _ => return self.unsupported(i),
                })
            }
            (_, Operand::Special(special)) if !crate::exec::special::is_fixed(special) => {
                self.clock(i, special, &to)
            }
            _ => {
                let result = self.result(i, &to, bytes.max(2))?;
                // The address of a variable of shared or local memory is one within its space.
                let source = self.source(i, &from, bytes.max(2))?;
                Ok(match bytes {
                    2 => self.op::<Move16>(result, &[source]),
                    4 => self.op::<Move32>(result, &[source]),
                    8 => self.op::<Move64>(result, &[source]),
                    _ => return self.unsupported(i),
                })
            }
        }
    }

    fn cvt(&mut self, i: &Instruction) -> Result<Op, Error> {
        let (to, from) = match types(i)[..] {
            [to, from] => (to, from),
            _ => return self.unsupported(i),
        };
        if is_integer(to) && is_integer(from) {
            return self.cvt_integer(i, to, from);
        }
        let rounding = i.modifiers.iter().map(String::as_str).find(|m| {
            matches!(*m, "rn" | "rz" | "rm" | "rp" | "rna" | "rni" | "rzi" | "rmi" | "rpi" | "rs")
        });
        let (flush, saturate) = (has(i, "ftz"), has(i, "sat"));
        if has(i, "relu") || has(i, "satfinite") || flush && saturate {
            return self.unsupported(i);
        }
        use Type::*;
        if let (F16x2 | Bf16x2, F32, Some("rn")) = (to, from, rounding) {
            let (a, b) = (self.operand(i, 1)?.clone(), self.operand(i, 2)?.clone());
            let sources = [self.source(i, &a, 4)?, self.source(i, &b, 4)?];
            let result = self.result(i, self.operand(i, 0)?, 4)?;
            return Ok(if to == F16x2 {
                self.op::<NarrowPairF16>(result, &sources)
            } else {
                self.op::<NarrowPairBf16>(result, &sources)
            });
        }
        let operand = self.operand(i, 1)?.clone();
        let (source, result) = (
            &[self.source(i, &operand, (from.bytes() as u8).max(2))?],
            self.result(i, self.operand(i, 0)?, (to.bytes() as u8).max(2))?,
        );
        // Only what is listed is known: every other combination of types and modifiers is refused.
        Ok(match (to, from, rounding, flush, saturate) {
            (F32, U32, Some("rn"), false, false) => self.op::<FloatU32>(result, source),
            (F32, S32, Some("rn"), false, false) => self.op::<FloatS32>(result, source),
            (F32, U64, Some("rn"), false, false) => self.op::<FloatU64>(result, source),
            (F32, S64, Some("rn"), false, false) => self.op::<FloatS64>(result, source),
            (F64, U32, Some("rn"), false, false) => self.op::<DoubleU32>(result, source),
            (F64, S32, Some("rn"), false, false) => self.op::<DoubleS32>(result, source),
            (F64, U64, Some("rn"), false, false) => self.op::<DoubleU64>(result, source),
            (F64, S64, Some("rn"), false, false) => self.op::<DoubleS64>(result, source),
            (U32, F32, Some("rzi"), _, false) => self.op::<TruncateU32>(result, source),
            (S32, F32, Some("rzi"), _, false) => self.op::<TruncateS32>(result, source),
            (U64, F32, Some("rzi"), _, false) => self.op::<TruncateU64>(result, source),
            (S64, F32, Some("rzi"), _, false) => self.op::<TruncateS64>(result, source),
            (U32, F32, Some("rni"), _, false) => self.op::<NearestU32>(result, source),
            (S32, F32, Some("rni"), _, false) => self.op::<NearestS32>(result, source),
            (U32, F32, Some("rmi"), false, false) => self.op::<DownU32>(result, source),
            (S32, F32, Some("rmi"), false, false) => self.op::<DownS32>(result, source),
            (U32, F32, Some("rpi"), false, false) => self.op::<UpU32>(result, source),
            (S32, F32, Some("rpi"), false, false) => self.op::<UpS32>(result, source),
            (U32, F64, Some("rzi"), false, false) => self.op::<TruncateDoubleU32>(result, source),
            (S32, F64, Some("rzi"), false, false) => self.op::<TruncateDoubleS32>(result, source),
            (U64, F64, Some("rzi"), false, false) => self.op::<TruncateDoubleU64>(result, source),
            (S64, F64, Some("rzi"), false, false) => self.op::<TruncateDoubleS64>(result, source),
            (F32, F32, Some("rni"), false, false) => self.op::<NearestF32>(result, source),
            (F32, F32, Some("rzi"), false, false) => self.op::<TowardsZeroF32>(result, source),
            (F32, F32, Some("rmi"), false, false) => self.op::<DownF32>(result, source),
            (F32, F32, Some("rpi"), false, false) => self.op::<UpF32>(result, source),
            (F32, F32, None, false, true) => self.op::<SaturateF32>(result, source),
            (F64, F64, Some("rni"), false, false) => self.op::<NearestF64>(result, source),
            (F64, F64, Some("rzi"), false, false) => self.op::<TowardsZeroF64>(result, source),
            (F64, F64, Some("rmi"), false, false) => self.op::<DownF64>(result, source),
            (F64, F64, Some("rpi"), false, false) => self.op::<UpF64>(result, source),
            (F32, F64, Some("rn"), false, false) => self.op::<Narrow>(result, source),
            (F64, F32, None, false, false) => self.op::<Widen>(result, source),
            (F64, F32, None, true, false) => self.op::<WidenFlush>(result, source),
            (F32, F16, None, _, false) => self.op::<WidenF16>(result, source),
            (F32, Bf16, None, _, false) => self.op::<WidenBf16>(result, source),
            (F16, F32, Some("rn"), false, false) => self.op::<NarrowF16>(result, source),
            (F16, F32, Some("rz"), false, false) => self.op::<NarrowF16Zero>(result, source),
            (Bf16, F32, Some("rn"), false, false) => self.op::<NarrowBf16>(result, source),
            (Bf16, F32, Some("rz"), false, false) => self.op::<NarrowBf16Zero>(result, source),
            (F16, F64, Some("rn"), false, false) => self.op::<NarrowDoubleF16>(result, source),
            _ => return self.unsupported(i),
        })
    }

    fn cvt_integer(&mut self, i: &Instruction, to: Type, from: Type) -> Result<Op, Error> {
        let operand = self.operand(i, 1)?.clone();
        let (from_bytes, to_bytes) = (from.bytes() as u8, to.bytes() as u8);
        let (source, source_bytes) = self.any_source(i, &operand, from_bytes)?;
        let (result, result_bytes) = match self.operand(i, 0)? {
            Operand::Register(index) => self.register(*index),
            _ => (self.sink, to_bytes.max(2)),
        };
        if source_bytes < from_bytes || result_bytes < to_bytes {
            return self.refuse(
                i,
                format!("expected registers of at least {from_bytes} and {to_bytes} bytes"),
            );
        }
        let (signed, saturate) = (is_signed(from), has(i, "sat"));
        if !saturate && source_bytes == from_bytes && result_bytes == to_bytes {
            match (from_bytes, to_bytes, signed) {
                (2, 4, false) => return Ok(self.op::<ZeroExtend16>(result, &[source])),
                (2, 4, true) => return Ok(self.op::<SignExtend16>(result, &[source])),
                (4, 8, false) => return Ok(self.op::<ZeroExtend32>(result, &[source])),
                (4, 8, true) => return Ok(self.op::<SignExtend32>(result, &[source])),
                (4, 2, _) => return Ok(self.op::<Truncate32>(result, &[source])),
                (8, 4, _) => return Ok(self.op::<Truncate64>(result, &[source])),
                _ => {}
            }
        }
        let mut op = self.op::<Integer>(result, &[source]);
        op.access = Access { bytes: from_bytes, signed, ..Access::default() };
        op.immediate = integer_flags(source_bytes, to_bytes, is_signed(to), result_bytes, saturate);
        Ok(op)
    }
}

pub(super) fn is_integer(ty: Type) -> bool {
    use Type::*;
    matches!(ty, B8 | B16 | B32 | B64 | U8 | U16 | U32 | U64 | S8 | S16 | S32 | S64)
}

pub(super) fn is_signed(ty: Type) -> bool {
    matches!(ty, Type::S8 | Type::S16 | Type::S32 | Type::S64)
}
