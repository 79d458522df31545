//! Integer arithmetic on one value a lane.

use super::arithmetic::flag;
use super::conversion::is_signed;
use super::{Lowering, has};
use crate::exec::bits::*;
use crate::exec::integer::*;
use crate::exec::op::Op;
use crate::ptx::Error;
use crate::ptx::ast::{Instruction, Type};

impl Lowering<'_> {
    pub(super) fn integer(&mut self, i: &Instruction, ty: Type) -> Result<Op, Error> {
        let (bytes, signed) = (ty.bytes() as u8, is_signed(ty));
        let (one, two, three) = (&[bytes][..], &[bytes; 2][..], &[bytes; 3][..]);
        let shift = &[bytes, 4][..];
        let form = match () {
            () if has(i, "hi") => "hi",
            () if has(i, "wide") => "wide",
            () if has(i, "lo") => "lo",
            () => "",
        };
        let known = ["hi", "lo", "wide", "sat", "wrap", "clamp", "l", "r", "shiftamt", "relu"];
        if i.opcode == "prmt" {
            return self.permutation(i, ty);
        }
        self.only(i, &known)?;
        if has(i, "sat") {
            return Ok(match (i.opcode.as_str(), form, ty) {
                ("add", "", Type::S32) => self.lanes::<AddSaturated>(i, 4, two)?,
                ("sub", "", Type::S32) => self.lanes::<SubSaturated>(i, 4, two)?,
                ("mad", "hi", Type::S32) => self.lanes::<MadHighSaturated>(i, 4, three)?,
                ("mad24", "hi", Type::S32) => self.lanes::<Mad24HighSaturated>(i, 4, three)?,
                _ => return self.unsupported(i),
            });
        }
        if has(i, "relu") {
            return Ok(match (i.opcode.as_str(), ty) {
                ("min", Type::S32) => self.lanes::<MinReluS32>(i, 4, two)?,
                ("max", Type::S32) => self.lanes::<MaxReluS32>(i, 4, two)?,
                _ => return self.unsupported(i),
            });
        }
        Ok(match (i.opcode.as_str(), form, bytes, signed) {
            ("add", _, 2, _) => self.lanes::<Add16>(i, 2, two)?,
            ("add", _, 4, _) => self.lanes::<Add32>(i, 4, two)?,
            ("add", _, 8, _) => self.lanes::<Add64>(i, 8, two)?,
            ("sub", _, 2, _) => self.lanes::<Sub16>(i, 2, two)?,
            ("sub", _, 4, _) => self.lanes::<Sub32>(i, 4, two)?,
            ("sub", _, 8, _) => self.lanes::<Sub64>(i, 8, two)?,
            ("mul", "lo", 2, _) => self.lanes::<Mul16>(i, 2, two)?,
            ("mul", "lo", 4, _) => self.lanes::<Mul32>(i, 4, two)?,
            ("mul", "lo", 8, _) => self.lanes::<Mul64>(i, 8, two)?,
            ("mul", "hi", 2, false) => self.lanes::<MulHighU16>(i, 2, two)?,
            ("mul", "hi", 2, true) => self.lanes::<MulHighS16>(i, 2, two)?,
            ("mul", "hi", 4, false) => self.lanes::<MulHighU32>(i, 4, two)?,
            ("mul", "hi", 4, true) => self.lanes::<MulHighS32>(i, 4, two)?,
            ("mul", "hi", 8, false) => self.lanes::<MulHighU64>(i, 8, two)?,
            ("mul", "hi", 8, true) => self.lanes::<MulHighS64>(i, 8, two)?,
            ("mul", "wide", 2, false) => self.lanes::<MulWideU16>(i, 4, two)?,
            ("mul", "wide", 2, true) => self.lanes::<MulWideS16>(i, 4, two)?,
            ("mul", "wide", 4, false) => self.lanes::<MulWideU32>(i, 8, two)?,
            ("mul", "wide", 4, true) => self.lanes::<MulWideS32>(i, 8, two)?,
            ("mul24", "hi", 4, false) => self.lanes::<Mul24HighU>(i, 4, two)?,
            ("mul24", "hi", 4, true) => self.lanes::<Mul24HighS>(i, 4, two)?,
            ("mul24", "lo", 4, false) => self.lanes::<Mul24U>(i, 4, two)?,
            ("mul24", "lo", 4, true) => self.lanes::<Mul24S>(i, 4, two)?,
            ("mad24", "lo", 4, false) => self.lanes::<Mad24U>(i, 4, three)?,
            ("mad24", "lo", 4, true) => self.lanes::<Mad24S>(i, 4, three)?,
            ("mad24", "hi", 4, false) => self.lanes::<Mad24HighU>(i, 4, three)?,
            ("mad24", "hi", 4, true) => self.lanes::<Mad24HighS>(i, 4, three)?,
            ("mad", "lo", 2, _) => self.lanes::<Mad16>(i, 2, three)?,
            ("mad", "lo", 4, _) => self.lanes::<Mad32>(i, 4, three)?,
            ("mad", "lo", 8, _) => self.lanes::<Mad64>(i, 8, three)?,
            ("mad", "hi", 2, false) => self.lanes::<MadHighU16>(i, 2, three)?,
            ("mad", "hi", 2, true) => self.lanes::<MadHighS16>(i, 2, three)?,
            ("mad", "hi", 4, false) => self.lanes::<MadHighU32>(i, 4, three)?,
            ("mad", "hi", 4, true) => self.lanes::<MadHighS32>(i, 4, three)?,
            ("mad", "hi", 8, false) => self.lanes::<MadHighU64>(i, 8, three)?,
            ("mad", "hi", 8, true) => self.lanes::<MadHighS64>(i, 8, three)?,
            ("mad", "wide", 2, false) => self.lanes::<MadWideU16>(i, 4, &[2, 2, 4])?,
            ("mad", "wide", 2, true) => self.lanes::<MadWideS16>(i, 4, &[2, 2, 4])?,
            ("mad", "wide", 4, false) => self.lanes::<MadWideU32>(i, 8, &[4, 4, 8])?,
            ("mad", "wide", 4, true) => self.lanes::<MadWideS32>(i, 8, &[4, 4, 8])?,
            ("div", _, 2, false) => self.lanes::<DivU16>(i, 2, two)?,
            ("div", _, 2, true) => self.lanes::<DivS16>(i, 2, two)?,
            ("div", _, 4, false) => self.lanes::<DivU32>(i, 4, two)?,
            ("div", _, 4, true) => self.lanes::<DivS32>(i, 4, two)?,
            ("div", _, 8, false) => self.lanes::<DivU64>(i, 8, two)?,
            ("div", _, 8, true) => self.lanes::<DivS64>(i, 8, two)?,
            ("rem", _, 2, false) => self.lanes::<RemU16>(i, 2, two)?,
            ("rem", _, 2, true) => self.lanes::<RemS16>(i, 2, two)?,
            ("rem", _, 4, false) => self.lanes::<RemU32>(i, 4, two)?,
            ("rem", _, 4, true) => self.lanes::<RemS32>(i, 4, two)?,
            ("rem", _, 8, false) => self.lanes::<RemU64>(i, 8, two)?,
            ("rem", _, 8, true) => self.lanes::<RemS64>(i, 8, two)?,
            ("abs", _, 2, _) => self.lanes::<Abs16>(i, 2, one)?,
            ("abs", _, 4, _) => self.lanes::<Abs32>(i, 4, one)?,
            ("abs", _, 8, _) => self.lanes::<Abs64>(i, 8, one)?,
            ("neg", _, 2, _) => self.lanes::<Neg16>(i, 2, one)?,
            ("neg", _, 4, _) => self.lanes::<Neg32>(i, 4, one)?,
            ("neg", _, 8, _) => self.lanes::<Neg64>(i, 8, one)?,
            ("min", _, 2, false) => self.lanes::<MinU16>(i, 2, two)?,
            ("min", _, 2, true) => self.lanes::<MinS16>(i, 2, two)?,
            ("min", _, 4, false) => self.lanes::<MinU32>(i, 4, two)?,
            ("min", _, 4, true) => self.lanes::<MinS32>(i, 4, two)?,
            ("min", _, 8, false) => self.lanes::<MinU64>(i, 8, two)?,
            ("min", _, 8, true) => self.lanes::<MinS64>(i, 8, two)?,
            ("max", _, 2, false) => self.lanes::<MaxU16>(i, 2, two)?,
            ("max", _, 2, true) => self.lanes::<MaxS16>(i, 2, two)?,
            ("max", _, 4, false) => self.lanes::<MaxU32>(i, 4, two)?,
            ("max", _, 4, true) => self.lanes::<MaxS32>(i, 4, two)?,
            ("max", _, 8, false) => self.lanes::<MaxU64>(i, 8, two)?,
            ("max", _, 8, true) => self.lanes::<MaxS64>(i, 8, two)?,
            ("and", _, 2, _) => self.lanes::<And16>(i, 2, two)?,
            ("and", _, 4, _) => self.lanes::<And32>(i, 4, two)?,
            ("and", _, 8, _) => self.lanes::<And64>(i, 8, two)?,
            ("or", _, 2, _) => self.lanes::<Or16>(i, 2, two)?,
            ("or", _, 4, _) => self.lanes::<Or32>(i, 4, two)?,
            ("or", _, 8, _) => self.lanes::<Or64>(i, 8, two)?,
            ("xor", _, 2, _) => self.lanes::<Xor16>(i, 2, two)?,
            ("xor", _, 4, _) => self.lanes::<Xor32>(i, 4, two)?,
            ("xor", _, 8, _) => self.lanes::<Xor64>(i, 8, two)?,
            ("not", _, 2, _) => self.lanes::<Not16>(i, 2, one)?,
            ("not", _, 4, _) => self.lanes::<Not32>(i, 4, one)?,
            ("not", _, 8, _) => self.lanes::<Not64>(i, 8, one)?,
            ("cnot", _, 2, _) => self.lanes::<Cnot16>(i, 2, one)?,
            ("cnot", _, 4, _) => self.lanes::<Cnot32>(i, 4, one)?,
            ("cnot", _, 8, _) => self.lanes::<Cnot64>(i, 8, one)?,
            ("shl", _, 2, _) => self.lanes::<ShiftLeft16>(i, 2, shift)?,
            ("shl", _, 4, _) => self.lanes::<ShiftLeft32>(i, 4, shift)?,
            ("shl", _, 8, _) => self.lanes::<ShiftLeft64>(i, 8, shift)?,
            ("shr", _, 2, false) => self.lanes::<ShiftRightU16>(i, 2, shift)?,
            ("shr", _, 2, true) => self.lanes::<ShiftRightS16>(i, 2, shift)?,
            ("shr", _, 4, false) => self.lanes::<ShiftRightU32>(i, 4, shift)?,
            ("shr", _, 4, true) => self.lanes::<ShiftRightS32>(i, 4, shift)?,
            ("shr", _, 8, false) => self.lanes::<ShiftRightU64>(i, 8, shift)?,
            ("shr", _, 8, true) => self.lanes::<ShiftRightS64>(i, 8, shift)?,
            ("shf", _, 4, _) if i.modifiers.len() == 3 => match (has(i, "l"), has(i, "wrap")) {
                (true, true) => self.lanes::<FunnelLeftWrap>(i, 4, three)?,
                (true, false) => self.lanes::<FunnelLeftClamp>(i, 4, three)?,
                (false, true) => self.lanes::<FunnelRightWrap>(i, 4, three)?,
                (false, false) => self.lanes::<FunnelRightClamp>(i, 4, three)?,
            },
            ("brev", _, 4, _) => self.lanes::<Reverse32>(i, 4, one)?,
            ("brev", _, 8, _) => self.lanes::<Reverse64>(i, 8, one)?,
            ("clz", _, 4, _) => self.lanes::<LeadingZeros32>(i, 4, one)?,
            ("clz", _, 8, _) => self.lanes::<LeadingZeros64>(i, 4, one)?,
            ("popc", _, 4, _) => self.lanes::<Population32>(i, 4, one)?,
            ("popc", _, 8, _) => self.lanes::<Population64>(i, 4, one)?,
            ("bfind", _, 4, false) if has(i, "shiftamt") => {
                self.lanes::<FindShiftU32>(i, 4, one)?
            }
            ("bfind", _, 4, true) if has(i, "shiftamt") => self.lanes::<FindShiftS32>(i, 4, one)?,
            ("bfind", _, 8, false) if has(i, "shiftamt") => {
                self.lanes::<FindShiftU64>(i, 4, one)?
            }
            ("bfind", _, 8, true) if has(i, "shiftamt") => self.lanes::<FindShiftS64>(i, 4, one)?,
            ("bfind", _, 4, false) => self.lanes::<FindU32>(i, 4, one)?,
            ("bfind", _, 4, true) => self.lanes::<FindS32>(i, 4, one)?,
            ("bfind", _, 8, false) => self.lanes::<FindU64>(i, 4, one)?,
            ("bfind", _, 8, true) => self.lanes::<FindS64>(i, 4, one)?,
            ("bfe", _, 4, false) => self.lanes::<ExtractU32>(i, 4, &[4, 4, 4])?,
            ("bfe", _, 4, true) => self.lanes::<ExtractS32>(i, 4, &[4, 4, 4])?,
            ("bfe", _, 8, false) => self.lanes::<ExtractU64>(i, 8, &[8, 4, 4])?,
            ("bfe", _, 8, true) => self.lanes::<ExtractS64>(i, 8, &[8, 4, 4])?,
            ("bfi", _, 4, _) => self.lanes::<Insert32>(i, 4, &[4, 4, 4, 4])?,
            ("bfi", _, 8, _) => self.lanes::<Insert64>(i, 8, &[8, 8, 4, 4])?,
            ("sad", _, 2, false) => self.lanes::<SadU16>(i, 2, three)?,
            ("sad", _, 2, true) => self.lanes::<SadS16>(i, 2, three)?,
            ("sad", _, 8, false) => self.lanes::<SadU64>(i, 8, three)?,
            ("sad", _, 8, true) => self.lanes::<SadS64>(i, 8, three)?,
            ("sad", _, 4, false) => self.lanes::<SadU32>(i, 4, three)?,
            ("sad", _, 4, true) => self.lanes::<SadS32>(i, 4, three)?,
            _ => return self.unsupported(i),
        })
    }

    fn permutation(&mut self, i: &Instruction, ty: Type) -> Result<Op, Error> {
        let modifiers: Vec<&str> = i.modifiers.iter().map(String::as_str).collect();
        let words = &[4; 3];
        Ok(match (ty, &modifiers[1..]) {
            (Type::B32, []) => self.lanes::<Permute>(i, 4, words)?,
            (Type::B32, ["f4e"]) => self.lanes::<PermuteForward>(i, 4, words)?,
            (Type::B32, ["b4e"]) => self.lanes::<PermuteBackward>(i, 4, words)?,
            (Type::B32, ["rc8"]) => self.lanes::<PermuteReplicate8>(i, 4, words)?,
            (Type::B32, ["rc16"]) => self.lanes::<PermuteReplicate16>(i, 4, words)?,
            (Type::B32, ["ecl"]) => self.lanes::<PermuteClampLeft>(i, 4, words)?,
            (Type::B32, ["ecr"]) => self.lanes::<PermuteClampRight>(i, 4, words)?,
            _ => return self.unsupported(i),
        })
    }

    /// `add.cc`, `addc`, `sub.cc` and `subc`.
    pub(super) fn carry(&mut self, i: &Instruction, ty: Type) -> Result<Op, Error> {
        let bytes = ty.bytes() as u8;
        self.only(i, &["cc"])?;
        let mut op = match bytes {
            4 => self.lanes::<Carry<u32>>(i, 4, &[4, 4])?,
            8 => self.lanes::<Carry<u64>>(i, 8, &[8, 8])?,
            _ => return self.unsupported(i),
        };
        op.sources[3] = self.carry;
        op.immediate = flag(i.opcode.ends_with('c'), CARRY_IN)
            | flag(has(i, "cc"), CARRY_OUT)
            | flag(i.opcode.starts_with("sub"), BORROW);
        Ok(op)
    }

    /// `mad.cc` and `madc`.
    pub(super) fn mad_carry(&mut self, i: &Instruction, ty: Type) -> Result<Op, Error> {
        self.only(i, &["cc", "lo", "hi"])?;
        let mut op = match ty {
            Type::U32 | Type::S32 => self.lanes::<MadCarry<u32>>(i, 4, &[4; 3])?,
            Type::U64 | Type::S64 => self.lanes::<MadCarry<u64>>(i, 8, &[8; 3])?,
            _ => return self.unsupported(i),
        };
        op.sources[3] = self.carry;
        op.immediate = flag(i.opcode == "madc", CARRY_IN)
            | flag(has(i, "cc"), CARRY_OUT)
            | flag(has(i, "hi"), HIGH)
            | flag(is_signed(ty), SIGNED);
        Ok(op)
    }

    /// Refuses modifiers that are neither types nor among these.
    fn only(&self, i: &Instruction, known: &[&str]) -> Result<(), Error> {
        let rest =
            i.modifiers.iter().find(|m| Type::parse(m).is_none() && !known.contains(&m.as_str()));
        match rest {
            Some(rest) => self.refuse(i, format!(".{rest} is not supported")),
            None => Ok(()),
        }
    }
}
