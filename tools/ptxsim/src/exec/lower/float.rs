//! Floating-point arithmetic: f32, f64, f16 and bf16.

use super::{Lowering, has};
use crate::arith::formats::{Bf16, F16, Format, Rounding};
use crate::exec::approximate::{self as approx, Approximate};
use crate::exec::float::*;
use crate::exec::half::{self, Half, HalfFormat};
use crate::exec::modifiers::Modifiers;
use crate::exec::op::Op;
use crate::exec::rounded::{self, Double, Single};
use crate::ptx::Error;
use crate::ptx::ast::{Instruction, Type};

/// Roundings of arithmetic, and what may come with them in f32.
const ROUNDED: [&str; 6] = ["rn", "rz", "rm", "rp", "ftz", "sat"];

impl Lowering<'_> {
    pub(super) fn single(&mut self, i: &Instruction) -> Result<Op, Error> {
        let (one, two, three) = (&[4][..], &[4; 2][..], &[4; 3][..]);
        if has(i, "approx") || has(i, "full") {
            return self.approximate(i);
        }
        let m = match i.opcode.as_str() {
            "add" | "sub" | "mul" | "fma" | "mad" => self.modifiers(i, &ROUNDED)?,
            "div" | "sqrt" | "rcp" => {
                self.needs_rounding(i)?;
                self.modifiers(i, &ROUNDED[..5])?
            }
            "min" | "max" => self.modifiers(i, &["ftz", "NaN", "xorsign", "abs"])?,
            "abs" | "neg" => self.modifiers(i, &["ftz"])?,
            _ => self.modifiers(i, &[])?,
        };
        if i.opcode == "fma" {
            self.needs_rounding(i)?;
        }
        if m.xorsign != has(i, "abs") {
            return self.refuse(i, ".xorsign and .abs go together");
        }
        let plain = Modifiers { flush: m.flush, ..Modifiers::default() };
        if m == plain {
            return Ok(match (i.opcode.as_str(), m.flush) {
                ("add", false) => self.lanes::<AddF32>(i, 4, two)?,
                ("add", true) => self.lanes::<AddFlushF32>(i, 4, two)?,
                ("sub", false) => self.lanes::<SubF32>(i, 4, two)?,
                ("sub", true) => self.lanes::<SubFlushF32>(i, 4, two)?,
                ("mul", false) => self.lanes::<MulF32>(i, 4, two)?,
                ("mul", true) => self.lanes::<MulFlushF32>(i, 4, two)?,
                ("fma" | "mad", false) => self.lanes::<FmaF32>(i, 4, three)?,
                ("fma" | "mad", true) => self.lanes::<FmaFlushF32>(i, 4, three)?,
                ("div", false) => self.lanes::<DivF32>(i, 4, two)?,
                ("div", true) => self.lanes::<DivFlushF32>(i, 4, two)?,
                ("sqrt", false) => self.lanes::<SqrtF32>(i, 4, one)?,
                ("sqrt", true) => self.lanes::<SqrtFlushF32>(i, 4, one)?,
                ("rcp", false) => self.lanes::<RcpF32>(i, 4, one)?,
                ("rcp", true) => self.lanes::<RcpFlushF32>(i, 4, one)?,
                ("abs", false) => self.lanes::<AbsF32>(i, 4, one)?,
                ("abs", true) => self.lanes::<AbsFlushF32>(i, 4, one)?,
                ("neg", false) => self.lanes::<NegF32>(i, 4, one)?,
                ("neg", true) => self.lanes::<NegFlushF32>(i, 4, one)?,
                ("min", false) => self.lanes::<MinF32>(i, 4, two)?,
                ("min", true) => self.lanes::<MinFlushF32>(i, 4, two)?,
                ("max", false) => self.lanes::<MaxF32>(i, 4, two)?,
                ("max", true) => self.lanes::<MaxFlushF32>(i, 4, two)?,
                ("copysign", false) => self.lanes::<CopySignF32>(i, 4, two)?,
                _ => return self.unsupported(i),
            });
        }
        let mut op = match i.opcode.as_str() {
            "add" => self.lanes::<Single<rounded::Add>>(i, 4, two)?,
            "sub" => self.lanes::<Single<rounded::Sub>>(i, 4, two)?,
            "mul" => self.lanes::<Single<rounded::Mul>>(i, 4, two)?,
            "fma" | "mad" => self.lanes::<Single<rounded::Fma>>(i, 4, three)?,
            "div" => self.lanes::<Single<rounded::Div>>(i, 4, two)?,
            "sqrt" => self.lanes::<Single<rounded::Sqrt>>(i, 4, one)?,
            "rcp" => self.lanes::<Single<rounded::Rcp>>(i, 4, one)?,
            "min" => self.lanes::<Choose<false>>(i, 4, two)?,
            "max" => self.lanes::<Choose<true>>(i, 4, two)?,
            _ => return self.unsupported(i),
        };
        op.immediate = m.bits();
        Ok(op)
    }

    /// `.approx` and `.full` in f32.
    fn approximate(&mut self, i: &Instruction) -> Result<Op, Error> {
        let (one, two) = (&[4][..], &[4; 2][..]);
        let m = match i.opcode.as_str() {
            "tanh" => self.modifiers(i, &["approx"])?,
            "div" => self.modifiers(i, &["approx", "full", "ftz"])?,
            _ => self.modifiers(i, &["approx", "ftz"])?,
        };
        let mut op = match i.opcode.as_str() {
            "ex2" => self.lanes::<Approximate<approx::Ex2>>(i, 4, one)?,
            "lg2" => self.lanes::<Approximate<approx::Lg2>>(i, 4, one)?,
            "sin" => self.lanes::<Approximate<approx::Sin>>(i, 4, one)?,
            "cos" => self.lanes::<Approximate<approx::Cos>>(i, 4, one)?,
            "tanh" => self.lanes::<Approximate<approx::Tanh>>(i, 4, one)?,
            "rcp" => self.lanes::<Approximate<approx::Rcp>>(i, 4, one)?,
            "sqrt" => self.lanes::<Approximate<approx::Sqrt>>(i, 4, one)?,
            "rsqrt" => self.lanes::<Approximate<approx::Rsqrt>>(i, 4, one)?,
            "div" if has(i, "full") => self.lanes::<Approximate<approx::DivideFull>>(i, 4, two)?,
            "div" => self.lanes::<Approximate<approx::Divide>>(i, 4, two)?,
            _ => return self.unsupported(i),
        };
        op.immediate = m.bits();
        Ok(op)
    }

    fn needs_rounding(&self, i: &Instruction) -> Result<(), Error> {
        if ROUNDED[..4].iter().any(|r| has(i, r)) {
            return Ok(());
        }
        self.refuse(i, "expected a rounding: .rn, .rz, .rm or .rp")
    }

    pub(super) fn double(&mut self, i: &Instruction) -> Result<Op, Error> {
        let (one, two, three) = (&[8][..], &[8; 2][..], &[8; 3][..]);
        if has(i, "approx") {
            let m = self.modifiers(i, &["approx", "ftz"])?;
            return Ok(match (i.opcode.as_str(), m.flush) {
                ("rcp", true) => self.lanes::<approx::RcpF64>(i, 8, one)?,
                ("rsqrt", true) => self.lanes::<approx::RsqrtFlushF64>(i, 8, one)?,
                ("rsqrt", false) => self.lanes::<approx::RsqrtF64>(i, 8, one)?,
                _ => return self.unsupported(i),
            });
        }
        let m = match i.opcode.as_str() {
            "add" | "sub" | "mul" => self.modifiers(i, &ROUNDED[..4])?,
            "fma" | "mad" | "div" | "sqrt" | "rcp" => {
                self.needs_rounding(i)?;
                self.modifiers(i, &ROUNDED[..4])?
            }
            _ => self.modifiers(i, &[])?,
        };
        let nearest = m.rounding == Rounding::NearestEven;
        let mut op = match (i.opcode.as_str(), nearest) {
            ("add", true) => self.lanes::<AddF64>(i, 8, two)?,
            ("sub", true) => self.lanes::<SubF64>(i, 8, two)?,
            ("mul", true) => self.lanes::<MulF64>(i, 8, two)?,
            ("fma" | "mad", true) => self.lanes::<FmaF64>(i, 8, three)?,
            ("div", true) => self.lanes::<DivF64>(i, 8, two)?,
            ("sqrt", true) => self.lanes::<SqrtF64>(i, 8, one)?,
            ("rcp", true) => self.lanes::<RcpF64>(i, 8, one)?,
            ("abs", true) => self.lanes::<AbsF64>(i, 8, one)?,
            ("neg", true) => self.lanes::<NegF64>(i, 8, one)?,
            ("min", true) => self.lanes::<MinF64>(i, 8, two)?,
            ("max", true) => self.lanes::<MaxF64>(i, 8, two)?,
            ("copysign", true) => self.lanes::<CopySignF64>(i, 8, two)?,
            ("add", false) => self.lanes::<Double<rounded::Add>>(i, 8, two)?,
            ("sub", false) => self.lanes::<Double<rounded::Sub>>(i, 8, two)?,
            ("mul", false) => self.lanes::<Double<rounded::Mul>>(i, 8, two)?,
            ("fma" | "mad", false) => self.lanes::<Double<rounded::Fma>>(i, 8, three)?,
            ("div", false) => self.lanes::<Double<rounded::Div>>(i, 8, two)?,
            ("sqrt", false) => self.lanes::<Double<rounded::Sqrt>>(i, 8, one)?,
            ("rcp", false) => self.lanes::<Double<rounded::Rcp>>(i, 8, one)?,
            _ => return self.unsupported(i),
        };
        op.immediate = m.bits();
        Ok(op)
    }

    /// f16, bf16, and pairs of them.
    pub(super) fn half(&mut self, i: &Instruction, ty: Type) -> Result<Op, Error> {
        match ty {
            Type::F16 => self.half_in::<F16, 32>(i, 2),
            Type::F16x2 => self.half_in::<F16, 64>(i, 4),
            Type::Bf16 => self.half_in::<Bf16, 32>(i, 2),
            _ => self.half_in::<Bf16, 64>(i, 4),
        }
    }

    fn half_in<F: HalfFormat, const N: usize>(
        &mut self,
        i: &Instruction,
        bytes: u8,
    ) -> Result<Op, Error> {
        let (one, two, three) = (&[bytes][..], &[bytes; 2][..], &[bytes; 3][..]);
        // bf16 has neither .ftz (but in ex2) nor .sat.
        let ieee = F::MANTISSA_BITS == F16::MANTISSA_BITS;
        let allowed: &[&str] = match (i.opcode.as_str(), ieee) {
            ("add" | "sub" | "mul", true) => &["rn", "ftz", "sat"],
            ("add" | "sub" | "mul", false) => &["rn"],
            ("fma", true) => &["rn", "ftz", "sat", "relu"],
            ("fma", false) => &["rn", "relu"],
            ("neg" | "abs", true) => &["ftz"],
            ("min" | "max", true) => &["ftz", "NaN", "xorsign", "abs"],
            ("min" | "max", false) => &["NaN", "xorsign", "abs"],
            ("ex2", false) => &["approx", "ftz"],
            ("ex2" | "tanh", _) => &["approx"],
            _ => &[],
        };
        let m = self.modifiers(i, allowed)?;
        if m.relu && m.saturate {
            return self.refuse(i, ".relu and .sat exclude each other");
        }
        if m.xorsign != has(i, "abs") {
            return self.refuse(i, ".xorsign and .abs go together");
        }
        if i.opcode == "fma" {
            self.needs_rounding(i)?;
        }
        let mut op = match i.opcode.as_str() {
            "add" => self.lanes::<Half<half::Add, F, N>>(i, bytes, two)?,
            "sub" => self.lanes::<Half<half::Sub, F, N>>(i, bytes, two)?,
            "mul" => self.lanes::<Half<half::Mul, F, N>>(i, bytes, two)?,
            "fma" => self.lanes::<Half<half::Fma, F, N>>(i, bytes, three)?,
            "neg" => self.lanes::<Half<half::Neg, F, N>>(i, bytes, one)?,
            "abs" => self.lanes::<Half<half::Abs, F, N>>(i, bytes, one)?,
            "min" => self.lanes::<Half<half::Min, F, N>>(i, bytes, two)?,
            "max" => self.lanes::<Half<half::Max, F, N>>(i, bytes, two)?,
            "ex2" if has(i, "approx") => self.lanes::<Half<half::Ex2, F, N>>(i, bytes, one)?,
            "tanh" if has(i, "approx") => self.lanes::<Half<half::Tanh, F, N>>(i, bytes, one)?,
            _ => return self.unsupported(i),
        };
        op.immediate = m.bits();
        Ok(op)
    }
}
