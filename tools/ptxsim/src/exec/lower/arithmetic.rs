//! Arithmetic and logic: opcode, type and modifiers choose the operation.

use super::conversion::{is_integer, is_signed};
use super::{Lowering, has, types};
use crate::arith::formats::Rounding;
use crate::exec::bits::*;
use crate::exec::float::{PROPERTIES, TestProperty};
use crate::exec::integer::{Dp4aSS, Dp4aSU, Dp4aUS, Dp4aUU};
use crate::exec::modifiers::Modifiers;
use crate::exec::op::Op;
use crate::ptx::Error;
use crate::ptx::ast::{Instruction, Operand, Type};

impl Lowering<'_> {
    pub(super) fn arithmetic(&mut self, i: &Instruction) -> Result<Op, Error> {
        use Type::*;
        match (i.opcode.as_str(), &types(i)[..]) {
            ("setp" | "set", _) => self.comparison(i),
            ("selp", &[ty]) => self.selection(i, ty),
            ("slct", &[ty, by]) => self.selection_by_sign(i, ty, by),
            ("and" | "or" | "xor" | "not", [Pred]) => self.logic(i),
            ("lop3", [B32]) => self.lop3(i),
            ("add" | "addc" | "sub" | "subc", &[ty]) if has(i, "cc") || i.opcode.ends_with('c') => {
                self.carry(i, ty)
            }
            ("mad" | "madc", &[ty]) if has(i, "cc") || i.opcode == "madc" => self.mad_carry(i, ty),
            ("testp", &[ty]) => self.property(i, ty),
            ("bmsk" | "szext" | "fns", &[ty]) => self.field(i, ty),
            (_, &[F32]) => self.single(i),
            (_, &[F64]) => self.double(i),
            (_, &[ty @ (F16 | F16x2 | Bf16 | Bf16x2)]) => self.half(i, ty),
            (_, &[ty]) if is_integer(ty) => self.integer(i, ty),
            ("dp4a", &[a @ (U32 | S32), b @ (U32 | S32)]) if i.modifiers.len() == 2 => {
                let all = [4, 4, 4];
                Ok(match (is_signed(a), is_signed(b)) {
                    (false, false) => self.lanes::<Dp4aUU>(i, 4, &all)?,
                    (true, true) => self.lanes::<Dp4aSS>(i, 4, &all)?,
                    (true, false) => self.lanes::<Dp4aSU>(i, 4, &all)?,
                    (false, true) => self.lanes::<Dp4aUS>(i, 4, &all)?,
                })
            }
            ("dp2a", &[a @ (U32 | S32), b @ (U32 | S32)]) => {
                let upper = match i.modifiers[0].as_str() {
                    "lo" => 0,
                    "hi" => UPPER,
                    _ => return self.unsupported(i),
                };
                let mut op = self.lanes::<DotProduct2>(i, 4, &[4, 4, 4])?;
                op.immediate = flag(is_signed(a), A_SIGNED) | flag(is_signed(b), B_SIGNED) | upper;
                Ok(op)
            }
            ("add" | "min" | "max", []) => self.halfwords(i),
            (name, &[d, a, b]) if name.starts_with('v') => self.video(i, d, a, b),
            _ => self.unsupported(i),
        }
    }

    /// An operation on every lane: bytes of the result, bytes of the sources.
    pub(super) fn lanes<O: crate::exec::lanes::Operation>(
        &mut self,
        i: &Instruction,
        result: u8,
        sources: &[u8],
    ) -> Result<Op, Error> {
        if i.operands.len() != sources.len() + 1 {
            return self.refuse(
                i,
                format!("expected {} operands, found {}", sources.len() + 1, i.operands.len()),
            );
        }
        let result = self.result(i, &i.operands[0], result)?;
        let mut offsets = Vec::new();
        for (operand, &bytes) in i.operands[1..].iter().zip(sources) {
            offsets.push(self.source(i, operand, bytes)?);
        }
        Ok(self.op::<O>(result, &offsets))
    }

    /// What the modifiers of a floating-point instruction say; one that is neither a type nor `allowed`
    /// is refused.
    pub(super) fn modifiers(&self, i: &Instruction, allowed: &[&str]) -> Result<Modifiers, Error> {
        let mut found = Modifiers::default();
        for modifier in i.modifiers.iter().filter(|m| Type::parse(m).is_none()) {
            if !allowed.contains(&modifier.as_str()) {
                return self.refuse(i, format!(".{modifier} is not supported"));
            }
            match modifier.as_str() {
                "rn" | "rni" => found.rounding = Rounding::NearestEven,
                "rna" => found.rounding = Rounding::NearestAway,
                "rz" | "rzi" => found.rounding = Rounding::Zero,
                "rm" | "rmi" => found.rounding = Rounding::Down,
                "rp" | "rpi" => found.rounding = Rounding::Up,
                "ftz" => found.flush = true,
                "sat" => found.saturate = true,
                "relu" => found.relu = true,
                "satfinite" => found.finite = true,
                "NaN" => found.nan = true,
                "xorsign" => found.xorsign = true,
                _ => {}
            }
        }
        Ok(found)
    }

    /// `add`, `min` and `max` of two integers a word, whose types are no others'.
    fn halfwords(&mut self, i: &Instruction) -> Result<Op, Error> {
        let (opcode, words) = (i.opcode.as_str(), &[4, 4]);
        let modifiers: Vec<&str> = i.modifiers.iter().map(String::as_str).collect();
        Ok(match (opcode, &modifiers[..]) {
            ("add", ["u16x2" | "s16x2"]) => self.lanes::<Add16x2>(i, 4, words)?,
            ("min", ["u16x2"]) => self.lanes::<MinU16x2>(i, 4, words)?,
            ("max", ["u16x2"]) => self.lanes::<MaxU16x2>(i, 4, words)?,
            ("min", ["s16x2"]) => self.lanes::<MinS16x2>(i, 4, words)?,
            ("max", ["s16x2"]) => self.lanes::<MaxS16x2>(i, 4, words)?,
            ("min", ["relu", "s16x2"] | ["s16x2", "relu"]) => {
                self.lanes::<MinReluS16x2>(i, 4, words)?
            }
            ("max", ["relu", "s16x2"] | ["s16x2", "relu"]) => {
                self.lanes::<MaxReluS16x2>(i, 4, words)?
            }
            _ => return self.unsupported(i),
        })
    }

    /// SIMD video instructions on all parts of a word: `vabsdiff4.u32.u32.u32{.sat|.add} d, a, b, c`.
    fn video(&mut self, i: &Instruction, d: Type, a: Type, b: Type) -> Result<Op, Error> {
        let words = [d, a, b].iter().all(|t| matches!(t, Type::U32 | Type::S32));
        let (name, four) = match i.opcode.split_at(i.opcode.len() - 1) {
            (name, "4") => (name, true),
            (name, "2") => (name, false),
            _ => return self.unsupported(i),
        };
        let Some(number) = VIDEO.iter().position(|&v| v == name).filter(|_| words) else {
            return self.unsupported(i);
        };
        let extra: Vec<&str> = i.modifiers[3..].iter().map(String::as_str).collect();
        let (saturate, add) = match extra[..] {
            [] => (false, false),
            ["sat"] => (true, false),
            ["add"] => (false, true),
            _ => return self.unsupported(i),
        };
        let mut op = self.lanes::<Video>(i, 4, &[4, 4, 4])?;
        op.immediate = flag(is_signed(a), A_SIGNED)
            | flag(is_signed(b), B_SIGNED)
            | flag(is_signed(d), RESULT_SIGNED)
            | flag(saturate, SATURATE)
            | flag(add, ACCUMULATE)
            | flag(four, FOUR)
            | (number as i64) << 8;
        Ok(op)
    }

    fn property(&mut self, i: &Instruction, ty: Type) -> Result<Op, Error> {
        let number = PROPERTIES.iter().position(|p| *p == i.modifiers[0]);
        let (Some(number), 2) = (number, i.modifiers.len()) else { return self.unsupported(i) };
        let mut op = match ty {
            Type::F32 => self.lanes::<TestProperty<f32>>(i, 0, &[4])?,
            Type::F64 => self.lanes::<TestProperty<f64>>(i, 0, &[8])?,
            _ => return self.unsupported(i),
        };
        op.immediate = number as i64;
        Ok(op)
    }

    /// `bmsk`, `szext` and `fns`.
    fn field(&mut self, i: &Instruction, ty: Type) -> Result<Op, Error> {
        let modifiers: Vec<&str> = i.modifiers.iter().map(String::as_str).collect();
        let two = &[4, 4];
        Ok(match (i.opcode.as_str(), &modifiers[..], ty) {
            ("bmsk", ["clamp", _], Type::B32) => self.lanes::<MaskClamp>(i, 4, two)?,
            ("bmsk", ["wrap", _], Type::B32) => self.lanes::<MaskWrap>(i, 4, two)?,
            ("szext", ["clamp", _], Type::U32) => self.lanes::<SignExtendClampU>(i, 4, two)?,
            ("szext", ["wrap", _], Type::U32) => self.lanes::<SignExtendWrapU>(i, 4, two)?,
            ("szext", ["clamp", _], Type::S32) => self.lanes::<SignExtendClampS>(i, 4, two)?,
            ("szext", ["wrap", _], Type::S32) => self.lanes::<SignExtendWrapS>(i, 4, two)?,
            ("fns", [_], Type::B32) => self.lanes::<FindNth>(i, 4, &[4, 4, 4])?,
            _ => return self.unsupported(i),
        })
    }

    fn selection_by_sign(&mut self, i: &Instruction, ty: Type, by: Type) -> Result<Op, Error> {
        let kind = match (by, &i.modifiers[..]) {
            (Type::S32, [_, _]) => 0,
            (Type::F32, [_, _]) => 1,
            (Type::F32, [flush, _, _]) if flush == "ftz" => 2,
            _ => return self.unsupported(i),
        };
        let bytes = ty.bytes() as u8;
        let sources = &[bytes, bytes, 4];
        let mut op = match bytes {
            2 => self.lanes::<SelectBySign<u16>>(i, bytes, sources)?,
            4 => self.lanes::<SelectBySign<u32>>(i, bytes, sources)?,
            8 => self.lanes::<SelectBySign<u64>>(i, bytes, sources)?,
            _ => return self.unsupported(i),
        };
        op.immediate = kind;
        Ok(op)
    }

    /// A source by its number; one operand fewer than there should be is refused.
    pub(super) fn nth(&mut self, i: &Instruction, n: usize, bytes: u8) -> Result<u32, Error> {
        let operand: Operand = self.operand(i, n)?.clone();
        self.source(i, &operand, bytes)
    }
}

/// The flag, if it is on.
pub(super) fn flag(on: bool, flag: i64) -> i64 {
    if on { flag } else { 0 }
}
