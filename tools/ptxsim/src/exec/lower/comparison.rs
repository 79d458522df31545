//! Comparisons, selections, and logic of predicates and of three words.

use super::conversion::{is_integer, is_signed};
use super::{Lowering, has, types};
use crate::arith::formats::{Bf16, F16};
use crate::exec::bits::TestZero;
use crate::exec::compare::*;
use crate::exec::half::HalfFormat;
use crate::exec::integer::{Logic, Lop3, Select};
use crate::exec::op::Op;
use crate::ptx::Error;
use crate::ptx::ast::{Instruction, Operand, Type};

impl Lowering<'_> {
    /// `setp` and `set`.
    pub(super) fn comparison(&mut self, i: &Instruction) -> Result<Op, Error> {
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
        let rest = i.modifiers.iter().skip(1).find(|m| {
            Type::parse(m).is_none() && !matches!(m.as_str(), "and" | "or" | "xor" | "ftz")
        });
        if let Some(rest) = rest {
            return self.refuse(i, format!(".{rest} is not supported"));
        }
        let signed = is_signed(ty);
        let unsigned_bits = matches!(ty, Type::B16 | Type::B32 | Type::B64);
        if unsigned_bits && !matches!(comparison, Comparison::Eq | Comparison::Ne) {
            return self.refuse(i, "bits can only be compared for equality");
        }
        if has(i, "ftz") && !matches!(ty, Type::F32 | Type::F16 | Type::F16x2) {
            return self.refuse(i, ".ftz is of f32 and f16");
        }
        match (ty.bytes(), ty, signed) {
            (4, Type::F32, _) if has(i, "ftz") => self.compare::<Flushed>(i, comparison, 4, tables),
            (4, Type::F32, _) => self.compare::<f32>(i, comparison, 4, tables),
            (8, Type::F64, _) => self.compare::<f64>(i, comparison, 8, tables),
            (2, Type::F16, _) => self.compare_half::<F16>(i, comparison, tables),
            (2, Type::Bf16, _) => self.compare_half::<Bf16>(i, comparison, tables),
            (4, Type::F16x2, _) => self.compare_pair::<F16>(i, comparison, tables),
            (4, Type::Bf16x2, _) => self.compare_pair::<Bf16>(i, comparison, tables),
            (2, _, false) if is_integer(ty) => self.compare::<u16>(i, comparison, 2, tables),
            (2, _, true) => self.compare::<i16>(i, comparison, 2, tables),
            (4, _, false) if is_integer(ty) => self.compare::<u32>(i, comparison, 4, tables),
            (4, _, true) => self.compare::<i32>(i, comparison, 4, tables),
            (8, _, false) if is_integer(ty) => self.compare::<u64>(i, comparison, 8, tables),
            (8, _, true) => self.compare::<i64>(i, comparison, 8, tables),
            _ => self.unsupported(i),
        }
    }

    /// The operands of a comparison, the third included, and the truth tables as it is negated or not.
    fn compared(
        &mut self,
        i: &Instruction,
        bytes: u8,
        (table, other): (i64, i64),
    ) -> Result<([u32; 3], (i64, i64)), Error> {
        let (a, b) = (self.nth(i, 1, bytes)?, self.nth(i, 2, bytes)?);
        let joins = ["and", "or", "xor"].iter().any(|join| has(i, join));
        let (third, negated) = match i.operands.get(3) {
            Some(third) if joins => self.predicate(i, &third.clone())?,
            None if !joins => (self.sink, false),
            _ => {
                return self
                    .refuse(i, "expected a predicate with .and, .or or .xor, and only then");
            }
        };
        // A negated third operand: the table's columns change places.
        let turn = |t: i64| if negated { (t & 0b0101) << 1 | (t & 0b1010) >> 1 } else { t };
        Ok(([a, b, third], (turn(table), turn(other))))
    }

    fn compare<T: Compared + PartialOrd>(
        &mut self,
        i: &Instruction,
        comparison: Comparison,
        bytes: u8,
        tables: (i64, i64),
    ) -> Result<Op, Error> {
        let ([a, b, third], (table, other)) = self.compared(i, bytes, tables)?;
        if i.opcode == "set" {
            let (result, one, width) = self.set_result(i)?;
            let mut op = self.op::<Set<T>>(result, &[a, b, third]);
            op.immediate = chosen(comparison, table, false, one);
            op.access.register_bytes = width;
            return Ok(op);
        }
        let (first, second) = self.pair(i, self.operand(i, 0)?, 0)?;
        let mut op = self.set_predicate::<T>(comparison, first, [a, b, third, second]);
        op.immediate = table | other << 8;
        Ok(op)
    }

    /// Where the result of a `set` goes, what true is there, and its bytes.
    fn set_result(&self, i: &Instruction) -> Result<(u32, u32, u8), Error> {
        let ty = types(i)[0];
        let (one, bytes) = match ty {
            Type::F32 => (1.0f32.to_bits(), 4),
            Type::F16 => (0x3C00, 2),
            Type::Bf16 => (0x3F80, 2),
            Type::U32 | Type::S32 => (u32::MAX, 4),
            Type::U16 | Type::S16 => (0xFFFF, 2),
            _ => return self.refuse(i, format!("a result of type {ty:?} is not supported")),
        };
        Ok((self.result(i, self.operand(i, 0)?, bytes)?, one, bytes))
    }

    fn compare_half<F: HalfFormat>(
        &mut self,
        i: &Instruction,
        comparison: Comparison,
        tables: (i64, i64),
    ) -> Result<Op, Error> {
        let ([a, b, third], (table, other)) = self.compared(i, 2, tables)?;
        let flush = has(i, "ftz");
        if i.opcode == "set" {
            let (result, one, width) = self.set_result(i)?;
            let mut op = self.op::<Set<Half<F>>>(result, &[a, b, third]);
            op.immediate = chosen(comparison, table, flush, one);
            op.access.register_bytes = width;
            return Ok(op);
        }
        let (first, second) = self.pair(i, self.operand(i, 0)?, 0)?;
        let mut op = self.op::<SetPredicateHalf<F>>(first, &[a, b, third, second]);
        op.immediate = chosen(comparison, table | other << 8, flush, 0);
        Ok(op)
    }

    fn compare_pair<F: HalfFormat>(
        &mut self,
        i: &Instruction,
        comparison: Comparison,
        tables: (i64, i64),
    ) -> Result<Op, Error> {
        let ([a, b, third], (table, _)) = self.compared(i, 4, tables)?;
        let flush = has(i, "ftz");
        if i.opcode == "set" {
            let one = match types(i)[0] {
                Type::F16x2 => 0x3C00,
                Type::Bf16x2 => 0x3F80,
                Type::U32 | Type::S32 => 0xFFFF,
                _ => return self.unsupported(i),
            };
            let result = self.result(i, self.operand(i, 0)?, 4)?;
            let mut op = self.op::<SetPair<F>>(result, &[a, b, third]);
            op.immediate = chosen(comparison, table, flush, one);
            return Ok(op);
        }
        let (low, high) = self.pair(i, self.operand(i, 0)?, 0)?;
        let mut op = self.op::<SetPredicatePair<F>>(low, &[a, b, third, high]);
        op.immediate = chosen(comparison, table, flush, 0);
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

    pub(super) fn selection(&mut self, i: &Instruction, ty: Type) -> Result<Op, Error> {
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

    pub(super) fn logic(&mut self, i: &Instruction) -> Result<Op, Error> {
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

    pub(super) fn lop3(&mut self, i: &Instruction) -> Result<Op, Error> {
        let Some(&Operand::Integer(table)) = i.operands.get(4) else {
            return self.refuse(i, "expected a truth table");
        };
        let table = (table & 0xFF) as i64;
        let sources = [self.nth(i, 1, 4)?, self.nth(i, 2, 4)?, self.nth(i, 3, 4)?];
        let (result, tests) = self.pair(i, self.operand(i, 0)?, 4)?;
        let join = match (i.modifiers[0].as_str(), i.operands.get(5)) {
            (_, None) if i.modifiers.len() == 1 => {
                let mut op = self.op::<Lop3>(result, &sources);
                op.immediate = table;
                return Ok(op);
            }
            ("or", Some(with)) => (0b1110, with.clone()),
            ("and", Some(with)) => (0b1000, with.clone()),
            _ => return self.unsupported(i),
        };
        let (with, negated) = self.predicate(i, &join.1)?;
        if negated {
            return self.unsupported(i);
        }
        let [a, b, c] = sources;
        let mut op = self.op::<TestZero>(result, &[a, b, c, with]);
        op.immediate = table | join.0 << 8;
        op.list = tests;
        Ok(op)
    }
}
