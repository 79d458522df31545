//! Operands of instructions.

use super::super::ast::{Base, Operand, Special};
use super::super::expression::{self, Constant};
use super::super::lexer::Token;
use super::body::Body;
use super::scope::Found;
use super::{Error, Parser};

impl Parser<'_> {
    /// Any operand; `(…)` is a list for a call and an expression for others.
    pub(super) fn operand(&mut self, body: &mut Body, is_call: bool) -> Result<Operand, Error> {
        match self.cursor.peek() {
            Token::Mark("[") => self.address(body),
            Token::Mark("{") => Ok(Operand::Vector(self.vector(body)?)),
            Token::Mark("(") if is_call => {
                self.cursor.advance();
                let mut items = Vec::new();
                if self.cursor.accept(")") {
                    return Ok(Operand::Tuple(items));
                }
                loop {
                    items.push(self.scalar(body)?);
                    if self.cursor.accept(")") {
                        return Ok(Operand::Tuple(items));
                    }
                    if !self.cursor.accept(",") {
                        return Err(self.cursor.expected("`,` or `)`"));
                    }
                }
            }
            _ => {
                let first = self.scalar(body)?;
                if !matches!(first, Operand::Register(_) | Operand::Sink)
                    || !self.cursor.accept("|")
                {
                    return Ok(first);
                }
                let second = self.scalar(body)?;
                if !matches!(second, Operand::Register(_) | Operand::Sink) {
                    return Err(self
                        .cursor
                        .error("expected a predicate register or `_` after `|`"));
                }
                Ok(Operand::Pair(Box::new(first), Box::new(second)))
            }
        }
    }

    /// `{a, b, _}`
    fn vector(&mut self, body: &mut Body) -> Result<Vec<Operand>, Error> {
        self.cursor.expect("{")?;
        let mut elements = Vec::new();
        loop {
            elements.push(self.scalar(body)?);
            if self.cursor.accept("}") {
                return Ok(elements);
            }
            if !self.cursor.accept(",") {
                return Err(self.cursor.expected("`,` or `}`"));
            }
        }
    }

    /// A register, a constant, a special register, `!p`, `_` or a symbol with an offset.
    fn scalar(&mut self, body: &mut Body) -> Result<Operand, Error> {
        let line = self.cursor.line();
        match (self.cursor.peek(), self.cursor.peek_after(1)) {
            (Token::Word("_"), _) => {
                self.cursor.advance();
                Ok(Operand::Sink)
            }
            (Token::Mark("!"), Token::Word(name)) if name != "WARP_SZ" => {
                self.cursor.advance();
                match self.name(body)? {
                    Operand::Register(index) => Ok(Operand::NotPredicate(index)),
                    _ => Err(Error {
                        line,
                        message: format!("`!` wants a register, and `{name}` is none"),
                    }),
                }
            }
            (Token::Word(name), _) if name != "WARP_SZ" => match self.name(body)? {
                Operand::Symbol(name, _) => Ok(Operand::Symbol(name, self.offset()?)),
                other => Ok(other),
            },
            _ => Ok(match expression::constant(&mut self.cursor)? {
                Constant::Signed(value) => Operand::Integer(value.into()),
                Constant::Unsigned(value) => Operand::Integer(value.into()),
                Constant::Single(bits) => Operand::F32(bits),
                Constant::Double(value) => Operand::F64(value.to_bits()),
            }),
        }
    }

    /// What a name stands for; an unknown one may be a label further on or a symbol of the module.
    fn name(&mut self, body: &mut Body) -> Result<Operand, Error> {
        let line = self.cursor.line();
        let name = self.cursor.word("an operand")?;
        if let Some(found) = body.scopes.find(name, &mut body.function.registers) {
            return Ok(match found {
                Found::Register(index) => Operand::Register(index),
                Found::Variable(unique) => Operand::Symbol(unique, 0),
                Found::Target(target) => target.operand(),
            });
        }
        let Some(special) = name.strip_prefix('%') else {
            return Ok(Operand::Symbol(name.to_owned(), 0));
        };
        let component = match self.cursor.peek() {
            Token::Dot(component) => {
                self.cursor.advance();
                Some(component)
            }
            _ => None,
        };
        match Special::parse(special, component) {
            Some(special) => Ok(Operand::Special(special)),
            None => Err(Error {
                line,
                message: format!(
                    "`{name}` is neither a register declared here nor a special register"
                ),
            }),
        }
    }

    /// `[base+offset]` or `[base, {x, y}]`
    fn address(&mut self, body: &mut Body) -> Result<Operand, Error> {
        self.cursor.expect("[")?;
        let (base, offset) = match self.cursor.peek() {
            Token::Word(name) if name != "WARP_SZ" => {
                let line = self.cursor.line();
                let base = match self.name(body)? {
                    Operand::Register(index) => Base::Register(index),
                    Operand::Symbol(name, _) => Base::Symbol(name),
                    _ => {
                        let message =
                            format!("an address begins with a register or variable, not `{name}`");
                        return Err(Error { line, message });
                    }
                };
                (base, self.offset()?)
            }
            _ => {
                let line = self.cursor.line();
                let value = expression::integer(&mut self.cursor, "an address")?;
                let value = i64::try_from(value).or(u64::try_from(value).map(|v| v as i64));
                let value = value
                    .map_err(|_| Error { line, message: "this address exceeds 64 bits".into() })?;
                (Base::Absolute, value)
            }
        };
        if self.cursor.accept(",") {
            if offset != 0 {
                return Err(self.cursor.error("an address with coordinates has no offset"));
            }
            let coordinates = self.vector(body)?;
            self.cursor.expect("]")?;
            return Ok(Operand::TensorAddress(base, coordinates));
        }
        if !self.cursor.accept("]") {
            return Err(self.cursor.expected("`+`, `-`, `,` or `]` in an address"));
        }
        Ok(Operand::Address(base, offset))
    }

    /// `+8`, `-8` or `+-8` behind a symbol or register, else 0.
    pub(super) fn offset(&mut self) -> Result<i64, Error> {
        if !self.cursor.accept("+") && !self.cursor.at("-") {
            return Ok(0);
        }
        expression::count(&mut self.cursor, "an offset of 64 bits")
    }
}
