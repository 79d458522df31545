//! Calls, and the functions that they go to.

use super::{CODE_WINDOW, Code, Layout, Lowering};
use crate::exec::call::{Call, Function as Lowered};
use crate::exec::collective::Nothing;
use crate::exec::op::{Flow, Op};
use crate::exec::printf::{AssertFail, Printf};
use crate::exec::special::Fixed;
use crate::ptx::Error;
use crate::ptx::ast::{Function, Instruction, Module, Operand, Space};

/// The functions that a function may call, directly or not: through a register, any.
pub fn reachable<'m>(module: &'m Module, from: &'m Function) -> Vec<&'m Function> {
    let mut found: Vec<&Function> = Vec::new();
    let mut next = vec![from];
    while let Some(function) = next.pop() {
        for call in function.body.iter().filter(|i| i.opcode == "call") {
            let name = target(call);
            let is_meant =
                |f: &&Function| f.has_body && !f.is_entry && name.is_none_or(|n| n == f.name);
            for callee in module.functions.iter().filter(is_meant) {
                if !found.iter().any(|f| f.name == callee.name) {
                    found.push(callee);
                    next.push(callee);
                }
            }
        }
    }
    found
}

/// The name of the function that is called; none through a register.
fn target(call: &Instruction) -> Option<&str> {
    call.operands.iter().find_map(|operand| match operand {
        Operand::Symbol(name, _) => Some(name.as_str()),
        _ => None,
    })
}

/// Makes a function of what was lowered last.
pub fn finish(code: &mut Code, module: &Module, function: &Function, layout: &Layout) {
    let index = module.functions.iter().position(|f| f.name == function.name);
    code.functions.push(Lowered {
        name: function.name.clone(),
        address: CODE_WINDOW + index.unwrap_or_default() as u64,
        entry: (code.ops.len() - function.body.len() - 1) as u32,
        register_bytes: code.register_bytes,
        fixed: std::mem::take(&mut code.fixed),
        local_bytes: layout.local.next_multiple_of(16) as u32,
        params: layout.params.clone(),
        returns: layout.returns.clone(),
    });
}

impl Lowering<'_> {
    /// `call (results), function, (arguments)`.
    pub(super) fn call(&mut self, i: &Instruction) -> Result<Op, Error> {
        let (results, rest) = match &i.operands[..] {
            [Operand::Tuple(results), rest @ ..] => (&results[..], rest),
            rest => (&[][..], rest),
        };
        let (callee, arguments) = match rest {
            [callee, Operand::Tuple(arguments), ..] => (callee, &arguments[..]),
            [callee, ..] => (callee, &[][..]),
            [] => return self.refuse(i, "expected a function"),
        };
        let arguments = self.places(i, arguments)?;
        let results = self.places(i, results)?;
        let number = self.code.calls.len() as u32;
        let mut call = Call { function: None, arguments, results };
        let mut op = match callee {
            Operand::Symbol(name, _) => {
                match self.callees.iter().position(|f| f.name == *name) {
                    Some(function) => call.function = Some(function),
                    None => {
                        self.code.calls.push(call);
                        return self.runtime(i, name, number);
                    }
                }
                self.op::<Nothing>(self.sink, &[])
            }
            callee => {
                let address = self.source(i, callee, 8)?;
                self.op::<Nothing>(self.sink, &[address])
            }
        };
        self.code.calls.push(call);
        op.flow = Flow::Call;
        op.list = number;
        Ok(op)
    }

    /// Functions that the runtime provides.
    fn runtime(&mut self, i: &Instruction, name: &str, number: u32) -> Result<Op, Error> {
        let frame = self.fixed(Fixed::Local(0), 8);
        let mut op = match name {
            "vprintf" => self.op::<Printf>(self.sink, &[frame]),
            "__assertfail" => self.op::<AssertFail>(self.sink, &[frame]),
            _ => return self.refuse(i, format!("the function {name} has no body here")),
        };
        op.immediate = number.into();
        Ok(op)
    }

    /// Places and bytes of parameter variables.
    fn places(&self, i: &Instruction, operands: &[Operand]) -> Result<Vec<(u32, u32)>, Error> {
        let place = |operand: &Operand| match operand {
            Operand::Symbol(name, 0) => match (self.symbols.get(name), self.sizes.get(name)) {
                (Some(symbol), Some(&bytes)) if symbol.space == Space::Local => {
                    Ok((symbol.at as u32, bytes))
                }
                _ => self.refuse(i, format!("expected a parameter variable, found {name}")),
            },
            other => self.refuse(i, format!("expected a parameter variable, found {other:?}")),
        };
        operands.iter().map(place).collect()
    }
}
