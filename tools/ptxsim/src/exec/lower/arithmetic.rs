//! Arithmetic, logic and comparisons: opcode, type and modifiers choose the operation.

use super::conversion::{is_integer, is_signed};
use super::{Lowering, has, types};
use crate::exec::compare::{Compared, Comparison, Flushed, Set, SetPredicate};
use crate::exec::float::*;
use crate::exec::integer::*;
use crate::exec::op::Op;
use crate::ptx::Error;
use crate::ptx::ast::{Instruction, Operand, Type};

impl Lowering<'_> {
    pub(super) fn arithmetic(&mut self, i: &Instruction) -> Result<Op, Error> {
        match (i.opcode.as_str(), &types(i)[..]) {
            ("setp" | "set", _) => self.comparison(i),
            ("selp", &[ty]) => self.selection(i, ty),
            ("and" | "or" | "xor" | "not", [Type::Pred]) => self.logic(i),
            ("lop3", [Type::B32]) => self.lop3(i),
            ("add" | "addc" | "sub" | "subc", &[ty]) if has(i, "cc") || i.opcode.ends_with('c') => {
                self.carry(i, ty)
            }
            (_, &[Type::F32]) if has(i, "approx") || has(i, "full") => self.approximate(i),
            (_, &[Type::F32]) => self.single(i),
            (_, &[Type::F64]) => self.double(i),
            (_, &[ty]) if is_integer(ty) => self.integer(i, ty),
            ("dp4a", &[a, b]) => {
                let all = [4, 4, 4];
                Ok(match (is_signed(a), is_signed(b)) {
                    (false, false) => self.lanes::<Dp4aUU>(i, 4, &all)?,
                    (true, true) => self.lanes::<Dp4aSS>(i, 4, &all)?,
                    (true, false) => self.lanes::<Dp4aSU>(i, 4, &all)?,
                    (false, true) => self.lanes::<Dp4aUS>(i, 4, &all)?,
                })
            }
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

    fn integer(&mut self, i: &Instruction, ty: Type) -> Result<Op, Error> {
        let (bytes, signed) = (ty.bytes() as u8, is_signed(ty));
        let (one, two, three) = (&[bytes][..], &[bytes; 2][..], &[bytes; 3][..]);
        let shift = &[bytes, 4][..];
        let form = match () {
            () if has(i, "hi") => "hi",
            () if has(i, "wide") => "wide",
            () if has(i, "lo") => "lo",
            () => "",
        };
        let known = ["hi", "lo", "wide", "sat", "wrap", "clamp", "l", "r", "shiftamt"];
        let rest =
            i.modifiers.iter().find(|m| Type::parse(m).is_none() && !known.contains(&m.as_str()));
        if let Some(rest) = rest {
            return self.refuse(i, format!(".{rest} is not supported"));
        }
        if has(i, "sat") && !matches!(i.opcode.as_str(), "add" | "sub") {
            return self.unsupported(i);
        }
        Ok(match (i.opcode.as_str(), form, bytes, signed) {
            ("add", _, 4, true) if has(i, "sat") => self.lanes::<AddSaturated>(i, 4, two)?,
            ("sub", _, 4, true) if has(i, "sat") => self.lanes::<SubSaturated>(i, 4, two)?,
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
            ("mul24", "lo", 4, false) => self.lanes::<Mul24U>(i, 4, two)?,
            ("mul24", "lo", 4, true) => self.lanes::<Mul24S>(i, 4, two)?,
            ("mad", "lo", 2, _) => self.lanes::<Mad16>(i, 2, three)?,
            ("mad", "lo", 4, _) => self.lanes::<Mad32>(i, 4, three)?,
            ("mad", "lo", 8, _) => self.lanes::<Mad64>(i, 8, three)?,
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
            ("shf", _, 4, _) => match (has(i, "l"), has(i, "wrap")) {
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
            ("bfind", ..) if has(i, "shiftamt") => return self.unsupported(i),
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
            ("sad", _, 4, false) => self.lanes::<SadU32>(i, 4, three)?,
            ("sad", _, 4, true) => self.lanes::<SadS32>(i, 4, three)?,
            ("prmt", "", 4, _) => self.lanes::<Permute>(i, 4, three)?,
            _ => return self.unsupported(i),
        })
    }

    fn single(&mut self, i: &Instruction) -> Result<Op, Error> {
        let (one, two, three) = (&[4][..], &[4; 2][..], &[4; 3][..]);
        let ok = ["rn", "ftz", "f32", "NaN"];
        if i.modifiers.iter().any(|m| !ok.contains(&m.as_str())) {
            return self.unsupported(i);
        }
        Ok(match (i.opcode.as_str(), has(i, "ftz"), has(i, "NaN")) {
            ("add", false, false) => self.lanes::<AddF32>(i, 4, two)?,
            ("add", true, false) => self.lanes::<AddFlushF32>(i, 4, two)?,
            ("sub", false, false) => self.lanes::<SubF32>(i, 4, two)?,
            ("sub", true, false) => self.lanes::<SubFlushF32>(i, 4, two)?,
            ("mul", false, false) => self.lanes::<MulF32>(i, 4, two)?,
            ("mul", true, false) => self.lanes::<MulFlushF32>(i, 4, two)?,
            ("fma" | "mad", false, false) => self.lanes::<FmaF32>(i, 4, three)?,
            ("fma" | "mad", true, false) => self.lanes::<FmaFlushF32>(i, 4, three)?,
            ("div", false, false) => self.lanes::<DivF32>(i, 4, two)?,
            ("div", true, false) => self.lanes::<DivFlushF32>(i, 4, two)?,
            ("sqrt", false, false) => self.lanes::<SqrtF32>(i, 4, one)?,
            ("sqrt", true, false) => self.lanes::<SqrtFlushF32>(i, 4, one)?,
            ("rcp", false, false) => self.lanes::<RcpF32>(i, 4, one)?,
            ("rcp", true, false) => self.lanes::<RcpFlushF32>(i, 4, one)?,
            ("abs", false, false) => self.lanes::<AbsF32>(i, 4, one)?,
            ("abs", true, false) => self.lanes::<AbsFlushF32>(i, 4, one)?,
            ("neg", false, false) => self.lanes::<NegF32>(i, 4, one)?,
            ("neg", true, false) => self.lanes::<NegFlushF32>(i, 4, one)?,
            ("min", false, false) => self.lanes::<MinF32>(i, 4, two)?,
            ("min", true, false) => self.lanes::<MinFlushF32>(i, 4, two)?,
            ("min", false, true) => self.lanes::<MinNanF32>(i, 4, two)?,
            ("max", false, false) => self.lanes::<MaxF32>(i, 4, two)?,
            ("max", true, false) => self.lanes::<MaxFlushF32>(i, 4, two)?,
            ("max", false, true) => self.lanes::<MaxNanF32>(i, 4, two)?,
            ("copysign", false, false) => self.lanes::<CopySignF32>(i, 4, two)?,
            _ => return self.unsupported(i),
        })
    }

    fn double(&mut self, i: &Instruction) -> Result<Op, Error> {
        let (one, two, three) = (&[8][..], &[8; 2][..], &[8; 3][..]);
        if i.modifiers.iter().any(|m| m != "rn" && m != "f64") {
            return self.unsupported(i);
        }
        Ok(match i.opcode.as_str() {
            "add" => self.lanes::<AddF64>(i, 8, two)?,
            "sub" => self.lanes::<SubF64>(i, 8, two)?,
            "mul" => self.lanes::<MulF64>(i, 8, two)?,
            "fma" | "mad" => self.lanes::<FmaF64>(i, 8, three)?,
            "div" => self.lanes::<DivF64>(i, 8, two)?,
            "sqrt" => self.lanes::<SqrtF64>(i, 8, one)?,
            "rcp" => self.lanes::<RcpF64>(i, 8, one)?,
            "abs" => self.lanes::<AbsF64>(i, 8, one)?,
            "neg" => self.lanes::<NegF64>(i, 8, one)?,
            "min" => self.lanes::<MinF64>(i, 8, two)?,
            "max" => self.lanes::<MaxF64>(i, 8, two)?,
            "copysign" => self.lanes::<CopySignF64>(i, 8, two)?,
            _ => return self.unsupported(i),
        })
    }

    /// `setp` and `set`.
    fn comparison(&mut self, i: &Instruction) -> Result<Op, Error> {
        let Some(comparison) = i.modifiers.first().and_then(|m| Comparison::parse(m)) else {
            return self.unsupported(i);
        };
        let ty = match types(i)[..] {
            [ty] if i.opcode == "setp" => ty,
            [_, ty] if i.opcode == "set" => ty,
            _ => return self.unsupported(i),
        };
        // With a third operand c, the results are (comparison op c) and (not comparison op c).
        let tables: (i64, i64) = match () {
            () if has(i, "and") => (0b1000, 0b0010),
            () if has(i, "or") => (0b1110, 0b1011),
            () if has(i, "xor") => (0b0110, 0b1001),
            () => (0b1100, 0b0011),
        };
        let signed = is_signed(ty);
        let unsigned_bits = matches!(ty, Type::B16 | Type::B32 | Type::B64);
        if unsigned_bits && !matches!(comparison, Comparison::Eq | Comparison::Ne) {
            return self.refuse(i, "bits can only be compared for equality");
        }
        match (ty.bytes(), ty, signed) {
            (4, Type::F32, _) if has(i, "ftz") => self.compare::<Flushed>(i, comparison, 4, tables),
            (4, Type::F32, _) => self.compare::<f32>(i, comparison, 4, tables),
            (8, Type::F64, _) => self.compare::<f64>(i, comparison, 8, tables),
            (2, _, false) if is_integer(ty) => self.compare::<u16>(i, comparison, 2, tables),
            (2, _, true) => self.compare::<i16>(i, comparison, 2, tables),
            (4, _, false) if is_integer(ty) => self.compare::<u32>(i, comparison, 4, tables),
            (4, _, true) => self.compare::<i32>(i, comparison, 4, tables),
            (8, _, false) if is_integer(ty) => self.compare::<u64>(i, comparison, 8, tables),
            (8, _, true) => self.compare::<i64>(i, comparison, 8, tables),
            _ => self.unsupported(i),
        }
    }

    fn compare<T: Compared + PartialOrd>(
        &mut self,
        i: &Instruction,
        comparison: Comparison,
        bytes: u8,
        (table, other): (i64, i64),
    ) -> Result<Op, Error> {
        let (a, b) = (self.operand(i, 1)?.clone(), self.operand(i, 2)?.clone());
        let (a, b) = (self.source(i, &a, bytes)?, self.source(i, &b, bytes)?);
        let (third, negated) = match i.operands.get(3) {
            Some(third) => self.predicate(i, &third.clone())?,
            None => (self.sink, false),
        };
        // A negated third operand: the table's columns change places.
        let turn = |t: i64| if negated { (t & 0b0101) << 1 | (t & 0b1010) >> 1 } else { t };
        let (table, other) = (turn(table), turn(other));
        if i.opcode == "set" {
            let ty = types(i)[0];
            let one = if ty == Type::F32 { 1.0f32.to_bits() } else { u32::MAX };
            if ty.bytes() != 4 {
                return self.unsupported(i);
            }
            let result = self.result(i, self.operand(i, 0)?, 4)?;
            let mut op = self.set::<T>(comparison, result, [a, b, third]);
            op.immediate = table | i64::from(one) << 32;
            return Ok(op);
        }
        let (first, second) = self.pair(i, self.operand(i, 0)?, 0)?;
        let mut op = self.set_predicate::<T>(comparison, first, [a, b, third, second]);
        op.immediate = table | other << 8;
        Ok(op)
    }

    fn set_predicate<T: Compared + PartialOrd>(
        &self,
        comparison: Comparison,
        d: u32,
        s: [u32; 4],
    ) -> Op {
        use Comparison::*;
        match comparison {
            Eq => self.op::<SetPredicate<T, { Eq as u8 }>>(d, &s),
            Ne => self.op::<SetPredicate<T, { Ne as u8 }>>(d, &s),
            Lt => self.op::<SetPredicate<T, { Lt as u8 }>>(d, &s),
            Le => self.op::<SetPredicate<T, { Le as u8 }>>(d, &s),
            Gt => self.op::<SetPredicate<T, { Gt as u8 }>>(d, &s),
            Ge => self.op::<SetPredicate<T, { Ge as u8 }>>(d, &s),
            Equ => self.op::<SetPredicate<T, { Equ as u8 }>>(d, &s),
            Neu => self.op::<SetPredicate<T, { Neu as u8 }>>(d, &s),
            Ltu => self.op::<SetPredicate<T, { Ltu as u8 }>>(d, &s),
            Leu => self.op::<SetPredicate<T, { Leu as u8 }>>(d, &s),
            Gtu => self.op::<SetPredicate<T, { Gtu as u8 }>>(d, &s),
            Geu => self.op::<SetPredicate<T, { Geu as u8 }>>(d, &s),
            Num => self.op::<SetPredicate<T, { Num as u8 }>>(d, &s),
            Nan => self.op::<SetPredicate<T, { Nan as u8 }>>(d, &s),
        }
    }

    /// `set` is rare: its comparison is looked up as it runs, by an operation of its own.
    fn set<T: Compared + PartialOrd>(&self, comparison: Comparison, d: u32, s: [u32; 3]) -> Op {
        use Comparison::*;
        match comparison {
            Eq => self.op::<Set<T, { Eq as u8 }>>(d, &s),
            Ne => self.op::<Set<T, { Ne as u8 }>>(d, &s),
            Lt => self.op::<Set<T, { Lt as u8 }>>(d, &s),
            Le => self.op::<Set<T, { Le as u8 }>>(d, &s),
            Gt => self.op::<Set<T, { Gt as u8 }>>(d, &s),
            Ge => self.op::<Set<T, { Ge as u8 }>>(d, &s),
            Equ => self.op::<Set<T, { Equ as u8 }>>(d, &s),
            Neu => self.op::<Set<T, { Neu as u8 }>>(d, &s),
            Ltu => self.op::<Set<T, { Ltu as u8 }>>(d, &s),
            Leu => self.op::<Set<T, { Leu as u8 }>>(d, &s),
            Gtu => self.op::<Set<T, { Gtu as u8 }>>(d, &s),
            Geu => self.op::<Set<T, { Geu as u8 }>>(d, &s),
            Num => self.op::<Set<T, { Num as u8 }>>(d, &s),
            Nan => self.op::<Set<T, { Nan as u8 }>>(d, &s),
        }
    }

    fn selection(&mut self, i: &Instruction, ty: Type) -> Result<Op, Error> {
        let bytes = ty.bytes() as u8;
        let result = self.result(i, self.operand(i, 0)?, bytes)?;
        let (a, b, p) =
            (self.operand(i, 1)?.clone(), self.operand(i, 2)?.clone(), self.operand(i, 3)?.clone());
        let (a, b) = (self.source(i, &a, bytes)?, self.source(i, &b, bytes)?);
        let (p, negated) = self.predicate(i, &p)?;
        let mut op = match bytes {
            2 => self.op::<Select<u16>>(result, &[a, b, p]),
            4 => self.op::<Select<u32>>(result, &[a, b, p]),
            8 => self.op::<Select<u64>>(result, &[a, b, p]),
            _ => return self.unsupported(i),
        };
        op.immediate = if negated { u32::MAX.into() } else { 0 };
        Ok(op)
    }

    fn logic(&mut self, i: &Instruction) -> Result<Op, Error> {
        let result = self.result(i, self.operand(i, 0)?, 0)?;
        let a = self.operand(i, 1)?.clone();
        let b = i.operands.get(2).unwrap_or(&a).clone();
        let ((a, not_a), (b, not_b)) = (self.predicate(i, &a)?, self.predicate(i, &b)?);
        let truth = |x: bool, y: bool| {
            let (x, y) = (x ^ not_a, y ^ not_b);
            match i.opcode.as_str() {
                "and" => x && y,
                "or" => x || y,
                "xor" => x != y,
                _ => !x,
            }
        };
        let mut op = self.op::<Logic>(result, &[a, b]);
        op.immediate = (0..4).map(|t| i64::from(truth(t & 2 != 0, t & 1 != 0)) << t).sum();
        Ok(op)
    }

    fn lop3(&mut self, i: &Instruction) -> Result<Op, Error> {
        let Some(&Operand::Integer(table)) = i.operands.get(4) else {
            return self.refuse(i, "expected a truth table");
        };
        let result = self.result(i, self.operand(i, 0)?, 4)?;
        let mut sources = [0; 3];
        for (n, source) in sources.iter_mut().enumerate() {
            let operand = self.operand(i, n + 1)?.clone();
            *source = self.source(i, &operand, 4)?;
        }
        if i.operands.len() != 5 || i.modifiers.len() != 1 {
            return self.unsupported(i);
        }
        let mut op = self.op::<Lop3>(result, &sources);
        op.immediate = (table & 0xFF) as i64;
        Ok(op)
    }

    fn carry(&mut self, i: &Instruction, ty: Type) -> Result<Op, Error> {
        let bytes = ty.bytes() as u8;
        let result = self.result(i, self.operand(i, 0)?, bytes)?;
        let (a, b) = (self.operand(i, 1)?.clone(), self.operand(i, 2)?.clone());
        let (a, b) = (self.source(i, &a, bytes)?, self.source(i, &b, bytes)?);
        let sources = [a, b, self.sink, self.carry];
        let mut op = match bytes {
            4 => self.op::<Carry<u32>>(result, &sources),
            8 => self.op::<Carry<u64>>(result, &sources),
            _ => return self.unsupported(i),
        };
        let flag = |on: bool, flag: i64| if on { flag } else { 0 };
        op.immediate = flag(i.opcode.ends_with('c'), CARRY_IN)
            | flag(has(i, "cc"), CARRY_OUT)
            | flag(i.opcode.starts_with("sub"), BORROW);
        Ok(op)
    }
}
