//! Approximate functions of f32.

use super::{Lowering, has};
use crate::exec::approx::*;
use crate::exec::op::Op;
use crate::ptx::Error;
use crate::ptx::ast::Instruction;

impl Lowering<'_> {
    /// `.approx` and `.full` of f32.
    pub(super) fn approximate(&mut self, i: &Instruction) -> Result<Op, Error> {
        let known = ["approx", "full", "ftz", "f32"];
        if i.modifiers.iter().any(|m| !known.contains(&m.as_str())) {
            return self.unsupported(i);
        }
        let (one, two) = (&[4][..], &[4; 2][..]);
        Ok(match (i.opcode.as_str(), has(i, "ftz"), has(i, "full")) {
            ("ex2", false, false) => self.lanes::<Ex2>(i, 4, one)?,
            ("ex2", true, false) => self.lanes::<Ex2Flush>(i, 4, one)?,
            ("lg2", false, false) => self.lanes::<Lg2>(i, 4, one)?,
            ("lg2", true, false) => self.lanes::<Lg2Flush>(i, 4, one)?,
            ("rcp", false, false) => self.lanes::<Rcp>(i, 4, one)?,
            ("rcp", true, false) => self.lanes::<RcpFlush>(i, 4, one)?,
            ("sqrt", false, false) => self.lanes::<Sqrt>(i, 4, one)?,
            ("sqrt", true, false) => self.lanes::<SqrtFlush>(i, 4, one)?,
            ("rsqrt", false, false) => self.lanes::<Rsqrt>(i, 4, one)?,
            ("rsqrt", true, false) => self.lanes::<RsqrtFlush>(i, 4, one)?,
            ("sin", false, false) => self.lanes::<Sin>(i, 4, one)?,
            ("sin", true, false) => self.lanes::<SinFlush>(i, 4, one)?,
            ("cos", false, false) => self.lanes::<Cos>(i, 4, one)?,
            ("cos", true, false) => self.lanes::<CosFlush>(i, 4, one)?,
            ("tanh", false, false) => self.lanes::<Tanh>(i, 4, one)?,
            ("div", false, false) => self.lanes::<Divide>(i, 4, two)?,
            ("div", true, false) => self.lanes::<DivideFlush>(i, 4, two)?,
            ("div", false, true) => self.lanes::<DivideFull>(i, 4, two)?,
            ("div", true, true) => self.lanes::<DivideFullFlush>(i, 4, two)?,
            _ => return self.unsupported(i),
        })
    }
}
