//! The statements of a function.

use std::collections::HashMap;

use super::super::ast::{Function, Guard, Instruction, Location, Operand, Type};
use super::super::expression;
use super::super::lexer::Token;
use super::debug::Lines;
use super::scope::{Found, Place, Scope, Scopes, Target, Use};
use super::{Error, Parser, space};

/// How deep `{ … }` may nest.
const MAX_SCOPES: usize = 256;

/// A function while its body is read.
pub(super) struct Body {
    pub function: Function,
    pub scopes: Scopes,
    /// Names of the function's variables and labels, and how often each came.
    taken: HashMap<String, u32>,
    lines: Lines,
}

impl Parser<'_> {
    /// From behind the opening brace to behind the closing one.
    pub(super) fn body(&mut self, function: Function) -> Result<Function, Error> {
        let mut body = Body {
            function,
            scopes: Scopes { stack: vec![Scope::default()] },
            taken: HashMap::new(),
            lines: Lines::default(),
        };
        let parameters = body.function.params.iter().chain(&body.function.returns);
        let parameters: Vec<String> = parameters.map(|p| p.name.clone()).collect();
        for name in parameters {
            if body.taken.insert(name.clone(), 0).is_some() {
                return Err(self.cursor.error(format!("two parameters are called `{name}`")));
            }
            body.scopes.add_variable(&name, name.clone());
        }
        while !body.scopes.stack.is_empty() {
            self.statement(&mut body)?;
        }
        Ok(body.function)
    }

    fn statement(&mut self, body: &mut Body) -> Result<(), Error> {
        match self.cursor.peek() {
            Token::Mark("{") => {
                if body.scopes.stack.len() == MAX_SCOPES {
                    return Err(self.cursor.error(format!("`{{` nests deeper than {MAX_SCOPES}")));
                }
                self.cursor.advance();
                body.scopes.stack.push(Scope::default());
                Ok(())
            }
            Token::Mark("}") => {
                self.cursor.advance();
                body.close_scope()
            }
            Token::Mark(";") => {
                self.cursor.advance();
                Ok(())
            }
            Token::Dot("reg") => self.registers(body),
            Token::Dot("loc") => self.loc(&mut body.lines),
            Token::Dot("file") => self.file(),
            Token::Dot("pragma") => self.pragma(),
            Token::Dot("section") => self.section(),
            Token::Dot(name) if space(name).is_some() => self.local_variables(body),
            Token::Word(_) if self.cursor.peek_after(1) == Token::Mark(":") => self.label(body),
            Token::Word(_) | Token::Mark("@") => self.instruction(body),
            _ => Err(self.cursor.expected("an instruction, a label, a declaration or `}`")),
        }
    }

    /// `.reg .b32 %r<100>, %x;`
    fn registers(&mut self, body: &mut Body) -> Result<(), Error> {
        self.cursor.advance();
        let ty = match self.cursor.peek() {
            Token::Dot("v2" | "v4") => {
                return Err(self
                    .cursor
                    .error("vector registers are not supported: declare one for each element"));
            }
            Token::Dot(name) => Type::parse(name),
            _ => None,
        };
        let ty = ty.ok_or_else(|| self.cursor.expected("a register's type such as `.b32`"))?;
        self.cursor.advance();
        loop {
            let line = self.cursor.line();
            let name = self.cursor.word("a register's name")?;
            let twice =
                || Error { line, message: format!("`{name}` is declared twice in this scope") };
            if self.cursor.accept("<") {
                // An expression would take the `>` for its own.
                let count = expression::number(&mut self.cursor, "a number of registers")?;
                self.cursor.expect(">")?;
                if !body.scopes.add_range(name, ty, count.into()) {
                    return Err(twice());
                }
            } else if body.scopes.is_taken(name) {
                return Err(twice());
            } else {
                body.scopes.add_register(name, ty, &mut body.function.registers);
            }
            if !self.cursor.accept(",") {
                return self.cursor.expect(";");
            }
        }
    }

    fn local_variables(&mut self, body: &mut Body) -> Result<(), Error> {
        let line = self.cursor.line();
        let Token::Dot(name) = self.cursor.peek() else { return Ok(()) };
        let Some(space) = space(name) else { return Ok(()) };
        for mut variable in self.variables(space, false)? {
            if body.scopes.is_taken(&variable.name) {
                let message = format!("`{}` is declared twice in this scope", variable.name);
                return Err(Error { line, message });
            }
            let is_nested = body.scopes.stack.len() > 1;
            // An inner variable must not hide one of the module from what follows it.
            let unique =
                body.unique(&variable.name, is_nested && self.names.contains(&variable.name));
            body.scopes.add_variable(&variable.name, unique.clone());
            variable.name = unique;
            body.function.variables.push(variable);
        }
        Ok(())
    }

    /// `name:`, and what it names where that is not the next instruction.
    fn label(&mut self, body: &mut Body) -> Result<(), Error> {
        let line = self.cursor.line();
        let name = self.cursor.word("a label")?;
        self.cursor.expect(":")?;
        if body.scopes.is_taken(name) {
            return Err(Error {
                line,
                message: format!("`{name}` is declared twice in this scope"),
            });
        }
        let unique = body.unique(name, false);
        let function = &mut body.function;
        let target = if self.cursor.accept_dot("branchtargets") {
            let names = self.names_to_semicolon("a label")?;
            let table = function.branch_tables.len();
            function.branch_tables.push((unique, vec![0; names.len()]));
            for (entry, name) in names.into_iter().enumerate() {
                let place = Place::BranchTable { table, entry };
                body.note(Use { name, line, place });
            }
            Target::BranchTable(table)
        } else if self.cursor.accept_dot("callprototype") {
            let prototype = self.prototype(unique)?;
            function.prototypes.push(prototype);
            Target::Prototype(function.prototypes.len() - 1)
        } else if self.cursor.accept_dot("calltargets") {
            Target::CallTargets(self.names_to_semicolon("a function's name")?)
        } else {
            function.labels.push((unique, function.body.len()));
            Target::Label(function.labels.len() - 1)
        };
        if let Some(scope) = body.scopes.innermost() {
            scope.targets.insert(name.to_owned(), target);
        }
        Ok(())
    }

    fn names_to_semicolon(&mut self, what: &str) -> Result<Vec<String>, Error> {
        let mut names = vec![self.cursor.word(what)?.to_owned()];
        while self.cursor.accept(",") {
            names.push(self.cursor.word(what)?.to_owned());
        }
        self.cursor.expect(";")?;
        Ok(names)
    }

    /// `@!%p opcode.modifier a, b;`
    fn instruction(&mut self, body: &mut Body) -> Result<(), Error> {
        let line = self.cursor.line();
        let guard = if self.cursor.accept("@") { Some(self.guard(body)?) } else { None };
        let opcode = self.cursor.word("an opcode")?.to_owned();
        let mut modifiers = Vec::new();
        while let Token::Dot(name) = self.cursor.peek() {
            modifiers.push(name.to_owned());
            self.cursor.advance();
        }
        let mut operands = Vec::new();
        if !self.cursor.accept(";") {
            loop {
                let line = self.cursor.line();
                let operand = self.operand(body, opcode == "call")?;
                if let Operand::Symbol(name, 0) = &operand {
                    let place = Place::Operand {
                        instruction: body.function.body.len(),
                        operand: operands.len(),
                    };
                    body.note(Use { name: name.clone(), line, place });
                }
                operands.push(operand);
                if self.cursor.accept(";") {
                    break;
                }
                if !self.cursor.accept(",") {
                    return Err(self.cursor.expected("`,` or `;` after an operand"));
                }
            }
        }
        let at = Location { ptx_line: line, source: body.lines.current.clone() };
        body.function.body.push(Instruction { opcode, modifiers, guard, operands, at });
        Ok(())
    }

    fn guard(&mut self, body: &mut Body) -> Result<Guard, Error> {
        let negated = self.cursor.accept("!");
        let line = self.cursor.line();
        let name = self.cursor.word("a predicate after `@`")?;
        match body.scopes.find(name, &mut body.function.registers) {
            Some(Found::Register(register)) => Ok(Guard { register, negated }),
            _ => Err(Error {
                line,
                message: format!("the guard `{name}` is not a register declared here"),
            }),
        }
    }
}

impl Body {
    /// The name, or a variant of it that nothing in the function has; `@` is in no name of the text.
    fn unique(&mut self, name: &str, is_taken: bool) -> String {
        let count =
            self.taken.entry(name.to_owned()).and_modify(|n| *n += 1).or_insert(is_taken.into());
        if *count == 0 { name.to_owned() } else { format!("{name}@{count}") }
    }

    fn note(&mut self, found: Use) {
        if let Some(scope) = self.scopes.innermost() {
            scope.uses.push(found);
        }
    }

    /// Resolves the labels used in the innermost scope; what it does not have, the next one out may.
    fn close_scope(&mut self) -> Result<(), Error> {
        let Some(scope) = self.scopes.stack.pop() else { return Ok(()) };
        for found in scope.uses {
            match (scope.targets.get(&found.name), found.place, self.scopes.innermost()) {
                (Some(target), Place::Operand { instruction, operand }, _) => {
                    self.function.body[instruction].operands[operand] = target.operand();
                }
                (Some(Target::Label(label)), Place::BranchTable { table, entry }, _) => {
                    self.function.branch_tables[table].1[entry] = *label;
                }
                (None, place, Some(outer)) => outer.uses.push(Use { place, ..found }),
                (_, Place::BranchTable { .. }, _) => {
                    let message =
                        format!("`{}` in .branchtargets is no label of this function", found.name);
                    return Err(Error { line: found.line, message });
                }
                // A symbol of the module, or an error found when symbols are checked.
                (None, Place::Operand { .. }, None) => {}
            }
        }
        Ok(())
    }
}
