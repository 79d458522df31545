//! `.entry` and `.func`: name, parameters and performance directives.

use super::super::ast::{Function, Limits, Prototype};
use super::super::expression;
use super::super::lexer::Token;
use super::{Error, Parser};

impl Parser<'_> {
    /// From behind `.entry` or `.func` on.
    pub(super) fn function(&mut self, is_entry: bool, is_extern: bool) -> Result<(), Error> {
        let mut function = Function { is_entry, line: self.cursor.line(), ..Function::default() };
        if !is_entry && self.cursor.accept("(") {
            function.returns = self.parameters()?;
        }
        self.func_attributes()?;
        function.name = self.cursor.word("a function's name")?.to_owned();
        if self.cursor.accept("(") {
            function.params = self.parameters()?;
        }
        self.limits(&mut function.limits)?;
        if self.cursor.accept(";") {
            return self.add_function(function);
        }
        if is_extern {
            return Err(self.cursor.expected("`;`: an .extern function has no body"));
        }
        if !self.cursor.accept("{") {
            return Err(self.cursor.expected("`{` or `;`"));
        }
        function.has_body = true;
        let function = self.body(function)?;
        self.add_function(function)
    }

    /// `.attribute(.unified(1, 2))` between `.func` and its name.
    fn func_attributes(&mut self) -> Result<(), Error> {
        if !self.cursor.accept_dot("attribute") {
            return Ok(());
        }
        self.cursor.expect("(")?;
        let mut depth = 1;
        while depth > 0 {
            match self.cursor.advance() {
                Token::Mark("(") => depth += 1,
                Token::Mark(")") => depth -= 1,
                Token::End => return Err(self.cursor.expected("`)` after the attributes")),
                _ => {}
            }
        }
        Ok(())
    }

    /// A definition takes the place of its declarations, and these are one.
    fn add_function(&mut self, function: Function) -> Result<(), Error> {
        if let Some(&index) = self.functions.get(&function.name) {
            let known = &mut self.module.functions[index];
            if known.has_body && function.has_body {
                let (name, line) = (&function.name, known.line);
                let message = format!("`{name}` is defined twice, first in line {line}");
                return Err(Error { line: function.line, message });
            }
            if function.has_body {
                *known = function;
            }
            return Ok(());
        }
        if !self.names.insert(function.name.clone()) {
            let message = format!("`{}` is a variable already", function.name);
            return Err(Error { line: function.line, message });
        }
        self.functions.insert(function.name.clone(), self.module.functions.len());
        self.module.functions.push(function);
        Ok(())
    }

    /// `.maxntid 256, 1, 1` and the like, up to the body.
    fn limits(&mut self, limits: &mut Limits) -> Result<(), Error> {
        while let Token::Dot(name) = self.cursor.peek() {
            if name == "pragma" {
                self.pragma()?;
                continue;
            }
            let unknown =
                self.cursor.expected("a performance directive such as `.maxntid`, `{` or `;`");
            self.cursor.advance();
            match name {
                "maxntid" => limits.max_threads = Some(self.extents()?),
                "reqntid" => limits.required_threads = Some(self.extents()?),
                "reqnctapercluster" => limits.cluster = Some(self.extents()?),
                "maxnreg" => limits.max_registers = Some(self.limit()?),
                "minnctapersm" => limits.min_blocks_per_sm = Some(self.limit()?),
                // The first gave way to `.minnctapersm`; nothing here depends on either.
                "maxnctapersm" | "maxclusterrank" => {
                    self.limit()?;
                }
                "noreturn" | "explicitcluster" | "blocksareclusters" | "abi_preserve"
                | "unique" => {}
                _ => return Err(unknown),
            }
        }
        Ok(())
    }

    fn limit(&mut self) -> Result<u32, Error> {
        expression::number(&mut self.cursor, "a count")
    }

    /// One to three numbers; the missing are 1.
    fn extents(&mut self) -> Result<[u32; 3], Error> {
        let mut extents = [1; 3];
        for (axis, extent) in extents.iter_mut().enumerate() {
            if axis == 0 || self.cursor.accept(",") {
                *extent = self.limit()?;
            }
        }
        Ok(extents)
    }

    /// `.callprototype (.param .b32 _) _ (.param .b32 _);` from behind the directive on.
    pub(super) fn prototype(&mut self, name: String) -> Result<Prototype, Error> {
        let mut prototype = Prototype { name, ..Prototype::default() };
        if self.cursor.accept("(") {
            prototype.returns = self.parameters()?;
        }
        self.cursor.word("`_` for the function's name")?;
        if self.cursor.accept("(") {
            prototype.params = self.parameters()?;
        }
        self.cursor.accept_dot("noreturn");
        self.cursor.expect(";")?;
        Ok(prototype)
    }
}
