//! Names and kinds of operands, as far as they do not depend on the instruction.

mod operands;

use std::collections::{HashMap, HashSet};

use super::Error;
use super::ast::{Base, Function, Instruction, Module, Operand, Type};

/// Refuses unknown symbols, guards that are no predicates, calls that do not fit the function and
/// registers that do not fit the type in the opcode.
pub(super) fn check(module: &Module) -> Result<(), Error> {
    let functions: HashMap<&str, &Function> =
        module.functions.iter().map(|f| (f.name.as_str(), f)).collect();
    let globals: HashSet<&str> = module.variables.iter().map(|v| v.name.as_str()).collect();
    for variable in &module.variables {
        for (_, symbol, _) in &variable.relocations {
            if !globals.contains(symbol.as_str()) && !functions.contains_key(symbol.as_str()) {
                let message = format!(
                    "the value of `{}` names `{symbol}`, which is not declared",
                    variable.name
                );
                return Err(Error { line: variable.line, message });
            }
        }
    }
    for function in &module.functions {
        let variables = function.variables.iter().chain(&function.params).chain(&function.returns);
        let mut symbols: HashSet<&str> = variables.map(|v| v.name.as_str()).collect();
        symbols.extend(&globals);
        let scope = Scope { function, functions: &functions, symbols };
        for instruction in &function.body {
            let fault = scope.instruction(instruction).err();
            if let Some(message) = fault {
                return Err(Error { line: instruction.at.ptx_line, message });
            }
        }
    }
    Ok(())
}

struct Scope<'a> {
    function: &'a Function,
    functions: &'a HashMap<&'a str, &'a Function>,
    /// Variables and parameters.
    symbols: HashSet<&'a str>,
}

impl Scope<'_> {
    fn instruction(&self, instruction: &Instruction) -> Result<(), String> {
        if let Some(guard) = instruction.guard {
            let register = &self.function.registers[guard.register];
            if register.ty != Type::Pred {
                return Err(format!("the guard `{}` is not a predicate register", register.name));
            }
        }
        for operand in &instruction.operands {
            self.symbols_of(operand)?;
        }
        match instruction.opcode.as_str() {
            "call" => self.call(instruction),
            _ => operands::check(self.function, instruction),
        }
    }

    fn symbols_of(&self, operand: &Operand) -> Result<(), String> {
        let known = |name: &str| {
            if self.symbols.contains(name) || self.functions.contains_key(name) {
                return Ok(());
            }
            Err(format!(
                "`{name}` is not declared: no register, variable, label or function has this name"
            ))
        };
        match operand {
            Operand::Symbol(name, _) | Operand::Address(Base::Symbol(name), _) => known(name),
            Operand::CallTargets(names) => names.iter().try_for_each(|name| known(name)),
            Operand::TensorAddress(base, coordinates) => {
                if let Base::Symbol(name) = base {
                    known(name)?;
                }
                coordinates.iter().try_for_each(|c| self.symbols_of(c))
            }
            Operand::Vector(items) | Operand::Tuple(items) => {
                items.iter().try_for_each(|i| self.symbols_of(i))
            }
            Operand::NotPredicate(index) if self.function.registers[*index].ty != Type::Pred => {
                Err(format!(
                    "`!{}` is not a predicate register",
                    self.function.registers[*index].name
                ))
            }
            _ => Ok(()),
        }
    }

    /// `call (returns), function, (arguments), prototype`: every list may be missing.
    fn call(&self, call: &Instruction) -> Result<(), String> {
        let (returns, rest) = match call.operands.as_slice() {
            [Operand::Tuple(returns), rest @ ..] => (returns.len(), rest),
            rest => (0, rest),
        };
        let (callee, rest) = rest.split_first().ok_or("call wants a function")?;
        let (arguments, rest) = match rest {
            [Operand::Tuple(arguments), rest @ ..] => (arguments.len(), rest),
            rest => (0, rest),
        };
        let fits = |name: &str, wanted: (usize, usize)| {
            if (returns, arguments) == wanted {
                return Ok(());
            }
            Err(format!(
                "`{name}` returns {} and takes {} parameters, but the call has {returns} and {arguments}",
                wanted.0, wanted.1
            ))
        };
        match (callee, rest) {
            (Operand::Symbol(name, 0), []) => match self.functions.get(name.as_str()) {
                Some(function) => fits(name, (function.returns.len(), function.params.len())),
                None => Err(format!("call wants a function, and `{name}` is none")),
            },
            (Operand::Register(_), [Operand::Prototype(index)]) => {
                let prototype = &self.function.prototypes[*index];
                fits(&prototype.name, (prototype.returns.len(), prototype.params.len()))
            }
            (Operand::Register(_), [Operand::CallTargets(_)]) => Ok(()),
            (Operand::Register(_), []) => {
                Err("a call through a register wants a .callprototype or .calltargets as its last operand".into())
            }
            _ => Err("expected `call (returns), function, (arguments)`".into()),
        }
    }
}
