//! `atom` and `red`.

use super::{Lowering, has, types};
use crate::exec::access::{Generic, Global, In, Shared, Space};
use crate::exec::atomic::*;
use crate::exec::op::{Access, Op};
use crate::ptx::Error;
use crate::ptx::ast::{Instruction, Type};

impl Lowering<'_> {
    pub(super) fn atomic(&mut self, i: &Instruction) -> Result<Op, Error> {
        if has(i, "shared::cluster") {
            return self.unsupported(i);
        }
        match () {
            () if has(i, "global") => self.atomic_in::<Global>(i),
            () if has(i, "shared") || has(i, "shared::cta") => self.atomic_in::<Shared>(i),
            () => self.atomic_in::<Generic>(i),
        }
    }

    fn atomic_in<S: In>(&mut self, i: &Instruction) -> Result<Op, Error> {
        const OPERATIONS: [&str; 10] =
            ["add", "and", "or", "xor", "exch", "cas", "inc", "dec", "min", "max"];
        let passed = [
            "relaxed",
            "acquire",
            "release",
            "acq_rel",
            "cta",
            "cluster",
            "gpu",
            "sys",
            "global",
            "shared",
            "shared::cta",
            "noftz",
        ];
        let [ty] = types(i)[..] else { return self.refuse(i, "expected one type") };
        let mut names = i
            .modifiers
            .iter()
            .filter(|m| Type::parse(m).is_none() && !passed.contains(&m.as_str()));
        let name = match (names.next(), names.next()) {
            (Some(name), None) if OPERATIONS.contains(&name.as_str()) => name.as_str(),
            _ => return self.unsupported(i),
        };
        let first = usize::from(i.opcode == "atom");
        let bytes = ty.bytes() as u8;
        let result =
            if first == 1 { self.result(i, self.operand(i, 0)?, bytes)? } else { self.sink };
        let address = self.operand(i, first)?.clone();
        let (base, wide, offset) = self.address_of(i, &address)?;
        let mut sources = vec![base];
        for operand in &i.operands[first + 1..] {
            sources.push(self.source(i, operand, bytes)?);
        }
        if sources.len() != 2 + usize::from(name == "cas") {
            return self.refuse(
                i,
                format!("expected one value, or two for cas, found {}", sources.len() - 1),
            );
        }
        use Type::*;
        let mut op = match (name, ty) {
            ("add", U32 | S32) => self.op::<Atomic<S, Add32>>(result, &sources),
            ("add", U64) => self.op::<Atomic<S, Add64>>(result, &sources),
            ("add", F32) => match S::SPACE {
                Space::Generic => self.op::<AddGenericF32>(result, &sources),
                Space::Global => self.op::<Atomic<S, AddFlushF32>>(result, &sources),
                _ => self.op::<Atomic<S, AddF32>>(result, &sources),
            },
            ("add", F64) => self.op::<Atomic<S, AddF64>>(result, &sources),
            ("add", F16) if has(i, "noftz") => self.op::<Atomic<S, AddF16>>(result, &sources),
            ("add", F16x2) if has(i, "noftz") => self.op::<Atomic<S, AddF16x2>>(result, &sources),
            ("add", Bf16) if has(i, "noftz") => self.op::<Atomic<S, AddBf16>>(result, &sources),
            ("add", Bf16x2) if has(i, "noftz") => self.op::<Atomic<S, AddBf16x2>>(result, &sources),
            ("cas", B16) => self.op::<Atomic<S, CompareAndSwap16>>(result, &sources),
            ("and", B32) => self.op::<Atomic<S, And32>>(result, &sources),
            ("and", B64) => self.op::<Atomic<S, And64>>(result, &sources),
            ("or", B32) => self.op::<Atomic<S, Or32>>(result, &sources),
            ("or", B64) => self.op::<Atomic<S, Or64>>(result, &sources),
            ("xor", B32) => self.op::<Atomic<S, Xor32>>(result, &sources),
            ("xor", B64) => self.op::<Atomic<S, Xor64>>(result, &sources),
            ("exch", B32) => self.op::<Atomic<S, Exchange32>>(result, &sources),
            ("exch", B64) => self.op::<Atomic<S, Exchange64>>(result, &sources),
            ("cas", B32) => self.op::<Atomic<S, CompareAndSwap32>>(result, &sources),
            ("cas", B64) => self.op::<Atomic<S, CompareAndSwap64>>(result, &sources),
            ("inc", U32) => self.op::<Atomic<S, Increment32>>(result, &sources),
            ("dec", U32) => self.op::<Atomic<S, Decrement32>>(result, &sources),
            ("min", U32) => self.op::<Atomic<S, MinU32>>(result, &sources),
            ("min", S32) => self.op::<Atomic<S, MinS32>>(result, &sources),
            ("min", U64) => self.op::<Atomic<S, MinU64>>(result, &sources),
            ("min", S64) => self.op::<Atomic<S, MinS64>>(result, &sources),
            ("max", U32) => self.op::<Atomic<S, MaxU32>>(result, &sources),
            ("max", S32) => self.op::<Atomic<S, MaxS32>>(result, &sources),
            ("max", U64) => self.op::<Atomic<S, MaxU64>>(result, &sources),
            ("max", S64) => self.op::<Atomic<S, MaxS64>>(result, &sources),
            _ => return self.unsupported(i),
        };
        op.immediate = offset;
        let releases = (has(i, "release") || has(i, "acq_rel")) && !has(i, "cta");
        op.access =
            Access { bytes, count: 1, register_bytes: bytes, wide, releases, ..Access::default() };
        Ok(op)
    }
}
