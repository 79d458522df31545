//! Variables, parameters and initial values.

use super::super::ast::{Space, Type, Variable};
use super::super::expression::{self, Constant};
use super::super::lexer::Token;
use super::{Error, Parser};

/// Initial values are kept in memory while parsing; no kernel has near as many.
const MAX_INITIAL_BYTES: u64 = 64 << 20;
/// Arrays of arrays may nest this deep.
const MAX_DIMENSIONS: usize = 16;

/// What comes before a variable's name.
struct Declaration {
    ty: Type,
    /// Of a vector such as `.v4`.
    lanes: u64,
    align: Option<u64>,
}

impl Parser<'_> {
    /// `.global .align 4 .b8 name[16] = {1, 2}, other;` from its space on.
    pub(super) fn variables(
        &mut self,
        space: Space,
        is_extern: bool,
    ) -> Result<Vec<Variable>, Error> {
        self.cursor.advance();
        let declaration = self.declaration()?;
        let mut variables = Vec::new();
        loop {
            let (mut variable, dimensions) = self.declarator(space, &declaration)?;
            variable.is_extern = is_extern;
            if self.cursor.accept("=") {
                self.initialise(&mut variable, dimensions)?;
            } else if variable.bytes == 0 && !(is_extern && space == Space::Shared) {
                let name = &variable.name;
                return Err(self.cursor.error(format!(
                    "`{name}` has no size: only an .extern .shared array may leave it to the launch"
                )));
            }
            variables.push(variable);
            if !self.cursor.accept(",") {
                break;
            }
        }
        self.cursor.expect(";")?;
        Ok(variables)
    }

    /// `(.param .b32 a, .param .align 8 .b8 b[16])` after its parenthesis.
    pub(super) fn parameters(&mut self) -> Result<Vec<Variable>, Error> {
        let mut parameters = Vec::new();
        if self.cursor.accept(")") {
            return Ok(parameters);
        }
        loop {
            match self.cursor.peek() {
                Token::Dot("param") => self.cursor.advance(),
                Token::Dot("reg") => {
                    return Err(self
                        .cursor
                        .error("parameters in .reg space are not supported: use .param"));
                }
                _ => return Err(self.cursor.expected("`.param`")),
            };
            let declaration = self.declaration()?;
            let (variable, _) = self.declarator(Space::Param, &declaration)?;
            if variable.bytes == 0 {
                return Err(self
                    .cursor
                    .error(format!("parameter `{}` has no size", variable.name)));
            }
            parameters.push(variable);
            if self.cursor.accept(")") {
                return Ok(parameters);
            }
            self.cursor.expect(",")?;
        }
    }

    fn declaration(&mut self) -> Result<Declaration, Error> {
        let (mut ty, mut lanes, mut align) = (None, 1, None);
        while let Token::Dot(name) = self.cursor.peek() {
            let line = self.cursor.line();
            self.cursor.advance();
            match name {
                "align" => {
                    let bytes = u64::from(expression::number(&mut self.cursor, "an alignment")?);
                    if !bytes.is_power_of_two() {
                        return Err(Error {
                            line,
                            message: format!("alignment {bytes} is not a power of two"),
                        });
                    }
                    align = Some(bytes);
                }
                "v2" => lanes = 2,
                "v4" => lanes = 4,
                "attribute" => {
                    self.cursor.expect("(")?;
                    while !self.cursor.accept(")") {
                        if self.cursor.advance() == Token::End {
                            return Err(self.cursor.expected("`)` after the attributes"));
                        }
                    }
                }
                "ptr" => self.pointer_attributes(),
                _ => match Type::parse(name) {
                    Some(Type::Pred) | None => {
                        let message = format!(
                            "expected a type such as `.b32` for a variable, found `.{name}`"
                        );
                        return Err(Error { line, message });
                    }
                    found => ty = found,
                },
            }
        }
        match ty {
            Some(ty) => Ok(Declaration { ty, lanes, align }),
            None => Err(self.cursor.expected("a type such as `.b32`")),
        }
    }

    /// `.ptr .global .align 16`: where a pointer parameter points; not the alignment of the parameter itself.
    fn pointer_attributes(&mut self) {
        while let Token::Dot("global" | "shared" | "const" | "local") = self.cursor.peek() {
            self.cursor.advance();
        }
        if self.cursor.accept_dot("align") {
            self.cursor.advance();
        }
    }

    /// Name and dimensions; the dimensions too, outermost first, with 0 for `[]`.
    fn declarator(
        &mut self,
        space: Space,
        of: &Declaration,
    ) -> Result<(Variable, Vec<u64>), Error> {
        let line = self.cursor.line();
        let name = self.cursor.word("a variable's name")?.to_owned();
        let mut dimensions = Vec::new();
        while self.cursor.accept("[") {
            let size = if self.cursor.at("]") {
                0
            } else {
                expression::count(&mut self.cursor, "an array size")?
            };
            if dimensions.len() == MAX_DIMENSIONS || (size == 0 && !dimensions.is_empty()) {
                return Err(self
                    .cursor
                    .error(format!("`{name}` has too many or empty dimensions")));
            }
            dimensions.push(size);
            self.cursor.expect("]")?;
        }
        let element = u64::from(of.ty.bytes()) * of.lanes;
        let rows = dimensions.iter().try_fold(element, |bytes, n| bytes.checked_mul((*n).max(1)));
        let rows = rows.filter(|b| i64::try_from(*b).is_ok());
        let rows = rows
            .ok_or_else(|| self.cursor.error(format!("`{name}` is larger than memory can be")))?;
        let bytes = if dimensions.contains(&0) { 0 } else { rows };
        let variable = Variable {
            name,
            space,
            ty: of.ty,
            bytes,
            align: of.align.unwrap_or(element),
            is_extern: false,
            init: Vec::new(),
            relocations: Vec::new(),
            line,
        };
        // A vector is one more dimension to its initial value.
        if of.lanes > 1 {
            dimensions.push(of.lanes);
        }
        Ok((variable, dimensions))
    }

    /// The value after `=`.
    fn initialise(&mut self, variable: &mut Variable, dimensions: Vec<u64>) -> Result<(), Error> {
        if !matches!(variable.space, Space::Global | Space::Const) || variable.is_extern {
            let name = &variable.name;
            return Err(self
                .cursor
                .error(format!("`{name}` has an initial value: only .global and .const may")));
        }
        if !self.cursor.at("{") {
            if !dimensions.is_empty() {
                return Err(self.cursor.expected("`{` before the values of an array"));
            }
            return self.element(variable, 0);
        }
        // A scalar may be in braces too.
        let dimensions = if dimensions.is_empty() { vec![1] } else { dimensions };
        let elements = self.elements(variable, &dimensions, 0)?;
        if variable.bytes == 0 {
            let inner: u64 = dimensions[1..].iter().product();
            variable.bytes =
                elements.div_ceil(inner.max(1)) * inner.max(1) * u64::from(variable.ty.bytes());
        }
        Ok(())
    }

    /// `{1, {2, 3}}` for an array that begins at element `base`; how many elements it spans.
    fn elements(
        &mut self,
        variable: &mut Variable,
        dimensions: &[u64],
        base: u64,
    ) -> Result<u64, Error> {
        self.cursor.expect("{")?;
        let (limit, row) = match dimensions {
            [first, rest @ ..] => {
                let row = rest.iter().product::<u64>().max(1);
                (if *first == 0 { u64::MAX } else { first.saturating_mul(row) }, row)
            }
            [] => (1, 1),
        };
        let mut count: u64 = 0;
        while !self.cursor.accept("}") {
            if base + count > MAX_INITIAL_BYTES {
                return Err(self.too_large(&variable.name));
            }
            if count >= limit {
                let name = &variable.name;
                return Err(self
                    .cursor
                    .error(format!("too many initial values: `{name}` has room for {limit}")));
            }
            if self.cursor.at("{") {
                let (false, [_, rest @ ..]) = (dimensions.len() < 2, dimensions) else {
                    return Err(self.cursor.expected("a number: the array has fewer dimensions"));
                };
                count = count.next_multiple_of(row);
                self.elements(variable, rest, base + count)?;
                count += row;
            } else {
                self.element(variable, base + count)?;
                count += 1;
            }
            if !self.cursor.at("}") {
                self.cursor.expect(",")?;
            }
        }
        Ok(count)
    }

    fn too_large(&self, name: &str) -> Error {
        self.cursor.error(format!("`{name}` has initial values beyond {MAX_INITIAL_BYTES} bytes"))
    }

    /// One initial value: a number or the address of a symbol.
    fn element(&mut self, variable: &mut Variable, index: u64) -> Result<(), Error> {
        let size = u64::from(variable.ty.bytes());
        let end = index.saturating_add(1).saturating_mul(size);
        if end > MAX_INITIAL_BYTES {
            return Err(self.too_large(&variable.name));
        }
        let (start, end) = ((end - size) as usize, end as usize);
        if variable.init.len() < end {
            variable.init.resize(end, 0);
        }
        let line = self.cursor.line();
        if let Token::Word(word) = self.cursor.peek()
            && word != "WARP_SZ"
        {
            let (symbol, addend) = self.address_constant()?;
            if size < 8 {
                let message = format!("the address of `{symbol}` does not fit into {size} bytes");
                return Err(Error { line, message });
            }
            variable.relocations.push((start, symbol, addend));
            return Ok(());
        }
        let value = expression::constant(&mut self.cursor)?;
        let bytes = value_bytes(variable.ty, value).ok_or_else(|| Error {
            line,
            message: format!("`{}` cannot hold this kind of number", variable.name),
        })?;
        variable.init[start..end].copy_from_slice(&bytes[..size as usize]);
        Ok(())
    }

    /// `symbol+4` or `generic(symbol)+4`.
    fn address_constant(&mut self) -> Result<(String, i64), Error> {
        let mut symbol = self.cursor.word("a symbol")?;
        if symbol == "generic" && self.cursor.accept("(") {
            symbol = self.cursor.word("a symbol")?;
            self.cursor.expect(")")?;
        }
        Ok((symbol.to_owned(), self.offset()?))
    }
}

/// The value as the type has it in memory, in the first bytes.
fn value_bytes(ty: Type, value: Constant) -> Option<[u8; 16]> {
    let bits = match (ty, value) {
        (Type::F32, Constant::Single(bits)) => bits.into(),
        (Type::F32, Constant::Double(value)) => (value as f32).to_bits().into(),
        (Type::F32, value) => (value.integer()? as f32).to_bits().into(),
        (Type::F64, Constant::Single(bits)) => f64::from(f32::from_bits(bits)).to_bits().into(),
        (Type::F64, Constant::Double(value)) => value.to_bits().into(),
        (Type::F64, value) => (value.integer()? as f64).to_bits().into(),
        (_, value) => value.integer()? as u128,
    };
    Some(bits.to_le_bytes())
}
