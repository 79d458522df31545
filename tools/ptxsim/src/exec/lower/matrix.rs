//! `cp.async`, `ldmatrix`, `stmatrix` and `mma.sync`.

use super::{Lowering, has, types};
use crate::arith::formats::{Bf16, E4m3, E5m2, F16, Tf32};
use crate::arith::mma::{S8, U8};
use crate::exec::copy::{Commit, CopyAsync, WaitGroup};
use crate::exec::matrix::{LoadMatrix, MmaF16, MmaF32, MmaInteger, MoveMatrix, StoreMatrix};
use crate::exec::op::Op;
use crate::exec::special::Fixed;
use crate::ptx::Error;
use crate::ptx::ast::{Instruction, Operand, Type};

impl Lowering<'_> {
    pub(super) fn copy_async(&mut self, i: &Instruction) -> Result<Op, Error> {
        let modifiers: Vec<&str> = i.modifiers.iter().map(String::as_str).collect();
        match modifiers[..] {
            ["async", "commit_group"] => Ok(self.op::<Commit>(self.sink, &[])),
            ["async", "wait_all"] => {
                let mut op = self.op::<WaitGroup>(self.sink, &[]);
                op.immediate = -1;
                Ok(op)
            }
            ["async", "wait_group"] => {
                let &Operand::Integer(groups) = self.operand(i, 0)? else {
                    return self.refuse(i, "expected a number of groups");
                };
                let mut op = self.op::<WaitGroup>(self.sink, &[]);
                op.immediate = groups as i64;
                Ok(op)
            }
            ["async", "ca" | "cg", "shared" | "shared::cta", "global", ..]
                if modifiers[4..].iter().all(|m| m.starts_with("L2::")) =>
            {
                let (to, from) = (self.operand(i, 0)?.clone(), self.operand(i, 1)?.clone());
                let (to, wide, offset) = self.address_of(i, &to)?;
                let (from, from_wide, displacement) = self.address_of(i, &from)?;
                let &Operand::Integer(bytes @ (4 | 8 | 16)) = self.operand(i, 2)? else {
                    return self.refuse(i, "expected 4, 8 or 16 bytes");
                };
                if !from_wide {
                    return self.refuse(i, "expected a global address of 8 bytes");
                }
                let read = match i.operands.get(3) {
                    Some(read) => self.source(i, &read.clone(), 4)?,
                    None => self.fixed(Fixed::Bits(bytes as u64), 4),
                };
                let mut op = self.op::<CopyAsync>(self.sink, &[to, from, read]);
                op.immediate = offset;
                (op.access.bytes, op.access.wide) = (bytes as u8, wide);
                op.list = self.list(vec![displacement as i32 as u32]);
                Ok(op)
            }
            _ => self.unsupported(i),
        }
    }

    pub(super) fn matrix(&mut self, i: &Instruction) -> Result<Op, Error> {
        if i.opcode == "mma" {
            return self.mma(i);
        }
        let loads = i.opcode == "ldmatrix";
        let modifiers: Vec<&str> = i.modifiers.iter().map(String::as_str).collect();
        if i.opcode == "movmatrix" {
            return match modifiers[..] {
                ["sync", "aligned", "m8n8", "trans", "b16"] => self.lanes::<MoveMatrix>(i, 4, &[4]),
                _ => self.unsupported(i),
            };
        }
        // The shape, the count and `trans` come in any order: assemblers take CUTLASS's `x4.trans.m8n8` too.
        let ["sync", "aligned", rest @ .., "b16"] = &modifiers[..] else {
            return self.unsupported(i);
        };
        let counts = ["x1", "x2", "x4"];
        let mut found = rest.iter().filter(|m| counts.contains(m));
        let (Some(count), None, true) = (found.next(), found.next(), rest.contains(&"m8n8")) else {
            return self.unsupported(i);
        };
        let known = |m: &&str| matches!(*m, "m8n8" | "trans" | "shared" | "shared::cta");
        if !rest.iter().all(|m| known(m) || counts.contains(m)) {
            return self.unsupported(i);
        }
        let (registers, address) = if loads { (0, 1) } else { (1, 0) };
        let list = self.words(i, registers, &count[1..])?;
        let address = self.operand(i, address)?.clone();
        let (base, wide, offset) = self.address_of(i, &address)?;
        let (at, source) = (self.sink, &[base][..]);
        let mut op = match (loads, *count, has(i, "trans")) {
            (true, "x1", false) => self.op::<LoadMatrix<1, false>>(at, source),
            (true, "x1", true) => self.op::<LoadMatrix<1, true>>(at, source),
            (true, "x2", false) => self.op::<LoadMatrix<2, false>>(at, source),
            (true, "x2", true) => self.op::<LoadMatrix<2, true>>(at, source),
            (true, _, false) => self.op::<LoadMatrix<4, false>>(at, source),
            (true, _, true) => self.op::<LoadMatrix<4, true>>(at, source),
            (false, "x1", false) => self.op::<StoreMatrix<1, false>>(at, source),
            (false, "x1", true) => self.op::<StoreMatrix<1, true>>(at, source),
            (false, "x2", false) => self.op::<StoreMatrix<2, false>>(at, source),
            (false, "x2", true) => self.op::<StoreMatrix<2, true>>(at, source),
            (false, _, false) => self.op::<StoreMatrix<4, false>>(at, source),
            (false, _, true) => self.op::<StoreMatrix<4, true>>(at, source),
        };
        op.immediate = offset;
        op.access.wide = wide;
        op.list = self.list(list);
        Ok(op)
    }

    /// A vector of `count` 32-bit registers.
    fn words(&mut self, i: &Instruction, n: usize, count: &str) -> Result<Vec<u32>, Error> {
        let parts = match self.operand(i, n)? {
            Operand::Vector(parts) => parts.clone(),
            other => vec![other.clone()],
        };
        if parts.len().to_string() != count {
            return self.refuse(i, format!("expected {count} registers, found {}", parts.len()));
        }
        parts.iter().map(|part| self.source(i, part, 4)).collect()
    }

    fn mma(&mut self, i: &Instruction) -> Result<Op, Error> {
        let (shape, satfinite) = match i.modifiers.get(2).map(String::as_str) {
            Some(shape @ ("m16n8k4" | "m16n8k8" | "m16n8k16" | "m16n8k32")) => {
                (shape, has(i, "satfinite"))
            }
            _ => return self.unsupported(i),
        };
        let known = ["sync", "aligned", "row", "col", "satfinite", "tf32", "e4m3", "e5m2", shape];
        let unknown =
            i.modifiers.iter().find(|m| Type::parse(m).is_none() && !known.contains(&m.as_str()));
        if let Some(unknown) = unknown {
            return self.refuse(i, format!(".{unknown} is not supported"));
        }
        // D, A, B, C: the last four modifiers.
        let names: Vec<&str> =
            i.modifiers[i.modifiers.len() - 4..].iter().map(String::as_str).collect();
        let [d, a, b, c] = names[..] else { return self.unsupported(i) };
        let k: usize = shape.trim_start_matches("m16n8k").parse().unwrap_or(0);
        let element = match a {
            "f16" | "bf16" => 2,
            "tf32" => 4,
            _ => 1,
        };
        let a_words = k * element / 8;
        let (b_words, c_words) = (a_words / 2, if d == "f16" { 2 } else { 4 });
        let mut list = self.words(i, 1, &a_words.to_string())?;
        list.extend(self.words(i, 2, &b_words.to_string())?);
        list.extend(self.words(i, 3, &c_words.to_string())?);
        list.extend(self.words(i, 0, &c_words.to_string())?);
        let at = self.sink;
        let mut op = match (shape, d, a, b, c) {
            ("m16n8k16", "f32", "bf16", "bf16", "f32") => {
                self.op::<MmaF32<Bf16, Bf16, 16>>(at, &[])
            }
            ("m16n8k8", "f32", "bf16", "bf16", "f32") => self.op::<MmaF32<Bf16, Bf16, 8>>(at, &[]),
            ("m16n8k16", "f32", "f16", "f16", "f32") => self.op::<MmaF32<F16, F16, 16>>(at, &[]),
            ("m16n8k8", "f32", "f16", "f16", "f32") => self.op::<MmaF32<F16, F16, 8>>(at, &[]),
            ("m16n8k16", "f16", "f16", "f16", "f16") => self.op::<MmaF16<16>>(at, &[]),
            ("m16n8k8", "f16", "f16", "f16", "f16") => self.op::<MmaF16<8>>(at, &[]),
            ("m16n8k8", "f32", "tf32", "tf32", "f32") => self.op::<MmaF32<Tf32, Tf32, 8>>(at, &[]),
            ("m16n8k4", "f32", "tf32", "tf32", "f32") => self.op::<MmaF32<Tf32, Tf32, 4>>(at, &[]),
            ("m16n8k32", "f32", "e4m3", "e4m3", "f32") => {
                self.op::<MmaF32<E4m3, E4m3, 32>>(at, &[])
            }
            ("m16n8k32", "f32", "e4m3", "e5m2", "f32") => {
                self.op::<MmaF32<E4m3, E5m2, 32>>(at, &[])
            }
            ("m16n8k32", "f32", "e5m2", "e4m3", "f32") => {
                self.op::<MmaF32<E5m2, E4m3, 32>>(at, &[])
            }
            ("m16n8k32", "f32", "e5m2", "e5m2", "f32") => {
                self.op::<MmaF32<E5m2, E5m2, 32>>(at, &[])
            }
            ("m16n8k32", "s32", "s8", "s8", "s32") => self.op::<MmaInteger<S8, S8, 32>>(at, &[]),
            ("m16n8k32", "s32", "s8", "u8", "s32") => self.op::<MmaInteger<S8, U8, 32>>(at, &[]),
            ("m16n8k32", "s32", "u8", "s8", "s32") => self.op::<MmaInteger<U8, S8, 32>>(at, &[]),
            ("m16n8k32", "s32", "u8", "u8", "s32") => self.op::<MmaInteger<U8, U8, 32>>(at, &[]),
            ("m16n8k16", "s32", "s8", "s8", "s32") => self.op::<MmaInteger<S8, S8, 16>>(at, &[]),
            ("m16n8k16", "s32", "s8", "u8", "s32") => self.op::<MmaInteger<S8, U8, 16>>(at, &[]),
            ("m16n8k16", "s32", "u8", "s8", "s32") => self.op::<MmaInteger<U8, S8, 16>>(at, &[]),
            ("m16n8k16", "s32", "u8", "u8", "s32") => self.op::<MmaInteger<U8, U8, 16>>(at, &[]),
            _ => return self.unsupported(i),
        };
        if types(i).contains(&Type::F32) && satfinite {
            return self.unsupported(i);
        }
        op.immediate = satfinite.into();
        op.list = self.list(list);
        Ok(op)
    }
}
