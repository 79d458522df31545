//! `mov` and `cvt`.

use super::arithmetic::flag;
use super::{Lowering, has, types};
use crate::arith::formats::{self, E4m3, E5m2, Rounding};
use crate::exec::convert::*;
use crate::exec::integer::{Logic, Move16, Move32, Move64, Move128};
use crate::exec::modifiers::Modifiers;
use crate::exec::number::{
    self, Convert, FromInteger, NarrowHalves, NarrowPair, Real, ToInteger, WHOLE, WidenPair,
};
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
        // A list of one is what it lists.
        let alone = |operand: Operand| match operand {
            Operand::Vector(mut parts) if parts.len() == 1 => parts.remove(0),
            operand => operand,
        };
        let (to, from) = (alone(to), alone(from));
        match (&to, &from) {
            (Operand::Vector(parts), _) => {
                let source = self.source(i, &from, bytes)?;
                let width = bytes / parts.len() as u8;
                let mut list = Vec::new();
                for part in parts {
                    list.push(match part {
                        Operand::Sink => u32::MAX,
                        part => self.result(i, part, width.max(2))?,
                    });
                }
                let mut op = match (bytes, width) {
                    (2, 1) => self.op::<Unpack<u16, u16, 1>>(self.sink, &[source]),
                    (4, 1) => self.op::<Unpack<u32, u16, 1>>(self.sink, &[source]),
                    (4, 2) => self.op::<Unpack<u32, u16, 2>>(self.sink, &[source]),
                    (8, 4) => self.op::<Unpack<u64, u32, 4>>(self.sink, &[source]),
                    (8, 2) => self.op::<Unpack<u64, u16, 2>>(self.sink, &[source]),
                    (16, 8) => self.op::<Unpack<u128, u64, 8>>(self.sink, &[source]),
                    (16, 4) => self.op::<Unpack<u128, u32, 4>>(self.sink, &[source]),
                    _ => return self.unsupported(i),
                };
                op.list = self.list(list);
                Ok(op)
            }
            (_, Operand::Vector(parts)) => {
                let width = bytes / parts.len() as u8;
                let sources = parts
                    .iter()
                    .map(|p| self.source(i, p, width.max(2)))
                    .collect::<Result<Vec<_>, _>>()?;
                let result = self.result(i, &to, bytes)?;
                Ok(match (bytes, parts.len()) {
                    (2, 2) => self.op::<Pack8>(result, &sources),
                    (4, 2) => self.op::<Pack16>(result, &sources),
                    (4, 4) => self.op::<Pack8x4>(result, &sources),
                    (8, 2) => self.op::<Pack32>(result, &sources),
                    (8, 4) => self.op::<Pack16x4>(result, &sources),
                    (16, 2) => self.op::<Pack64>(result, &sources),
                    (16, 4) => self.op::<Pack32x4>(result, &sources),
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
                    16 => self.op::<Move128>(result, &[source]),
                    _ => return self.unsupported(i),
                })
            }
        }
    }

    fn cvt(&mut self, i: &Instruction) -> Result<Op, Error> {
        if has(i, "pack") {
            return self.cvt_pack(i);
        }
        let (to, from) = match types(i)[..] {
            [to, from] => (to, from),
            _ => return self.cvt_narrow(i),
        };
        use Type::*;
        match (is_integer(to), is_integer(from)) {
            (true, true) => return self.cvt_integer(i, to, from),
            (true, false) => return self.cvt_to_integer(i, to, from),
            (false, true) => return self.cvt_from_integer(i, to, from),
            (false, false) => {}
        }
        if matches!(to, F16x2 | Bf16x2) {
            return self.cvt_narrow(i);
        }
        let whole = ["rni", "rzi", "rmi", "rpi"].iter().any(|r| has(i, r));
        let rounds = ["rn", "rz", "rm", "rp"].iter().any(|r| has(i, r));
        let m = self.modifiers(
            i,
            match (to, from) {
                (F16 | Bf16, F32) => &["rn", "rz", "rm", "rp", "relu", "satfinite", "ftz", "sat"],
                _ if whole => &["rni", "rzi", "rmi", "rpi", "ftz", "sat"],
                _ => &["rn", "rz", "rm", "rp", "ftz", "sat"],
            },
        )?;
        // What a format cannot hold needs a rounding, anything else has none (but to a whole number).
        let narrows = !matches!((from, to), (F16 | Bf16, F32) | (_, F64)) && from != to;
        if narrows != rounds {
            let expected = if narrows { "a" } else { "no" };
            return self.refuse(i, format!("expected {expected} rounding"));
        }
        if m.flush && from != F32 && to != F32 {
            return self.refuse(i, ".ftz is of f32");
        }
        let (bytes, result_bytes) = (from.bytes() as u8, to.bytes() as u8);
        let plain = Modifiers { rounding: m.rounding, ..Modifiers::default() } == m;
        let mut op = match (to, from) {
            (F32, F32) => self.lanes::<Convert<formats::F32, formats::F32>>(i, 4, &[4])?,
            (F64, F64) => self.lanes::<Convert<number::F64, number::F64>>(i, 8, &[8])?,
            (F32, F64) if plain && m.rounding == Rounding::NearestEven => {
                self.lanes::<Narrow>(i, 4, &[8])?
            }
            (F64, F32) if plain => self.lanes::<Widen>(i, 8, &[4])?,
            (F32, F16) if !m.saturate => self.lanes::<WidenF16>(i, 4, &[2])?,
            (F32, Bf16) if !m.saturate => self.lanes::<WidenBf16>(i, 4, &[2])?,
            (F16, F32) if plain && m.rounding == Rounding::NearestEven => {
                self.lanes::<NarrowF16>(i, 2, &[4])?
            }
            (Bf16, F32) if plain && m.rounding == Rounding::NearestEven => {
                self.lanes::<NarrowBf16>(i, 2, &[4])?
            }
            (F32, _) => self.cvt_from::<formats::F32>(i, from, result_bytes, bytes)?,
            (F64, _) => self.cvt_from::<number::F64>(i, from, result_bytes, bytes)?,
            (F16, _) => self.cvt_from::<formats::F16>(i, from, result_bytes, bytes)?,
            (Bf16, _) => self.cvt_from::<formats::Bf16>(i, from, result_bytes, bytes)?,
            _ => return self.unsupported(i),
        };
        op.immediate = m.bits() | if whole { WHOLE } else { 0 };
        Ok(op)
    }

    /// To `T` from a floating-point type.
    fn cvt_from<T: Real>(
        &mut self,
        i: &Instruction,
        from: Type,
        result: u8,
        source: u8,
    ) -> Result<Op, Error> {
        let source = &[source];
        match from {
            Type::F16 => self.lanes::<Convert<formats::F16, T>>(i, result, source),
            Type::Bf16 => self.lanes::<Convert<formats::Bf16, T>>(i, result, source),
            Type::F32 => self.lanes::<Convert<formats::F32, T>>(i, result, source),
            Type::F64 => self.lanes::<Convert<number::F64, T>>(i, result, source),
            _ => self.unsupported(i),
        }
    }

    fn cvt_from_integer(&mut self, i: &Instruction, to: Type, from: Type) -> Result<Op, Error> {
        let m = self.modifiers(i, &["rn", "rz", "rm", "rp", "sat", "ftz"])?;
        if !["rn", "rz", "rm", "rp"].iter().any(|r| has(i, r)) {
            return self.refuse(i, "expected a rounding: .rn, .rz, .rm or .rp");
        }
        use Type::*;
        let nearest = m == Modifiers { flush: m.flush, ..Modifiers::default() };
        let bytes = from.bytes() as u8;
        let (source, register_bytes) = self.any_source(i, &self.operand(i, 1)?.clone(), bytes)?;
        if register_bytes < bytes {
            return self.refuse(i, format!("expected a register of at least {bytes} bytes"));
        }
        let result = self.result(i, self.operand(i, 0)?, to.bytes() as u8)?;
        let source = &[source];
        let mut op = match (to, from, nearest && register_bytes == bytes) {
            (F32, U32, true) => self.op::<FloatU32>(result, source),
            (F32, S32, true) => self.op::<FloatS32>(result, source),
            (F64, U32, true) => self.op::<DoubleU32>(result, source),
            (F64, S32, true) => self.op::<DoubleS32>(result, source),
            (F32, ..) => self.op::<FromInteger<formats::F32>>(result, source),
            (F64, ..) => self.op::<FromInteger<number::F64>>(result, source),
            (F16, ..) => self.op::<FromInteger<formats::F16>>(result, source),
            (Bf16, ..) => self.op::<FromInteger<formats::Bf16>>(result, source),
            _ => return self.unsupported(i),
        };
        op.immediate = m.bits();
        op.access = Access { bytes, register_bytes, signed: is_signed(from), ..Access::default() };
        Ok(op)
    }

    fn cvt_to_integer(&mut self, i: &Instruction, to: Type, from: Type) -> Result<Op, Error> {
        let m = self.modifiers(i, &["rni", "rzi", "rmi", "rpi", "ftz", "sat"])?;
        if !["rni", "rzi", "rmi", "rpi"].iter().any(|r| has(i, r)) {
            return self.refuse(i, "expected a rounding: .rni, .rzi, .rmi or .rpi");
        }
        if m.flush && from != Type::F32 {
            return self.refuse(i, ".ftz is of f32");
        }
        use Type::*;
        let bytes = to.bytes() as u8;
        let source = &[self.nth(i, 1, from.bytes() as u8)?];
        let (result, register_bytes) = match self.operand(i, 0)? {
            Operand::Register(index) => self.register(*index),
            _ => (self.sink, bytes.max(2)),
        };
        if register_bytes < bytes {
            return self.refuse(i, format!("expected a register of at least {bytes} bytes"));
        }
        let exact = register_bytes == bytes && !m.flush;
        let mut op = match (to, from, m.rounding, exact) {
            (U32, F32, Rounding::Zero, true) => self.op::<TruncateU32>(result, source),
            (S32, F32, Rounding::Zero, true) => self.op::<TruncateS32>(result, source),
            (_, F32, ..) => self.op::<ToInteger<formats::F32>>(result, source),
            (_, F64, ..) => self.op::<ToInteger<number::F64>>(result, source),
            (_, F16, ..) => self.op::<ToInteger<formats::F16>>(result, source),
            (_, Bf16, ..) => self.op::<ToInteger<formats::Bf16>>(result, source),
            _ => return self.unsupported(i),
        };
        op.immediate = m.bits();
        op.access = Access { bytes, register_bytes, signed: is_signed(to), ..Access::default() };
        Ok(op)
    }

    /// Pairs, tf32 and the 8-bit formats: `to` and `from` are the last two modifiers.
    fn cvt_narrow(&mut self, i: &Instruction) -> Result<Op, Error> {
        let [before @ .., to, from] = &i.modifiers[..] else { return self.unsupported(i) };
        let all = ["rn", "rz", "rna", "relu", "satfinite"];
        if let Some(other) = before.iter().find(|m| !all.contains(&m.as_str())) {
            return self.refuse(i, format!(".{other} is not supported"));
        }
        let formats = &[to.as_str(), from.as_str()];
        let known: Vec<&str> = all.iter().chain(formats).copied().collect();
        let m = self.modifiers(i, &known)?;
        let rounds = ["rn", "rz", "rna"].iter().filter(|r| has(i, r)).count() == 1;
        // .rna is of tf32, 8-bit formats have .rn and, where they are the result, .satfinite alone.
        let (away, nearest) = (has(i, "rna"), has(i, "rn"));
        let mut op = match (to.as_str(), from.as_str()) {
            _ if !rounds => return self.refuse(i, "expected a rounding"),
            ("tf32", "f32") => self.lanes::<Convert<formats::F32, formats::Tf32>>(i, 4, &[4])?,
            _ if away => return self.unsupported(i),
            ("f16x2", "f32") => self.lanes::<NarrowPair<formats::F16>>(i, 4, &[4, 4])?,
            ("bf16x2", "f32") => self.lanes::<NarrowPair<formats::Bf16>>(i, 4, &[4, 4])?,
            _ if !nearest => return self.unsupported(i),
            ("f16x2", "e4m3x2") if !m.finite => self.lanes::<WidenPair<E4m3>>(i, 4, &[2])?,
            ("f16x2", "e5m2x2") if !m.finite => self.lanes::<WidenPair<E5m2>>(i, 4, &[2])?,
            _ if !m.finite => return self.unsupported(i),
            ("e4m3x2", "f32") => self.lanes::<NarrowPair<E4m3>>(i, 2, &[4, 4])?,
            ("e5m2x2", "f32") => self.lanes::<NarrowPair<E5m2>>(i, 2, &[4, 4])?,
            ("e4m3x2", "f16x2") => self.lanes::<NarrowHalves<formats::F16, E4m3>>(i, 2, &[4])?,
            ("e5m2x2", "f16x2") => self.lanes::<NarrowHalves<formats::F16, E5m2>>(i, 2, &[4])?,
            _ => return self.unsupported(i),
        };
        op.immediate = m.bits();
        Ok(op)
    }

    /// `cvt.pack.sat`: two numbers, clamped, the first above the second; and below bits of a third.
    fn cvt_pack(&mut self, i: &Instruction) -> Result<Op, Error> {
        let modifiers: Vec<&str> = i.modifiers.iter().map(String::as_str).collect();
        let (name, merges) = match modifiers[..] {
            ["pack", "sat", name @ ("u16" | "s16"), "s32"] => (name, false),
            ["pack", "sat", name @ ("u2" | "s2" | "u4" | "s4" | "u8" | "s8"), "s32", "b32"] => {
                (name, true)
            }
            _ => return self.unsupported(i),
        };
        let mut op = match merges {
            true => self.lanes::<PackSaturated>(i, 4, &[4, 4, 4])?,
            false => self.lanes::<PackSaturated>(i, 4, &[4, 4])?,
        };
        let width: i64 = name[1..].parse().unwrap_or(0);
        op.immediate = width | flag(name.starts_with('s'), PACK_SIGNED) | flag(merges, PACK_MERGES);
        Ok(op)
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
        self.modifiers(i, &["sat"])?;
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
