//! Tokens to a module: directives at module scope.

mod body;
mod debug;
mod function;
mod operand;
mod scope;
mod variable;

use std::collections::{HashMap, HashSet};

use super::Error;
use super::ast::{Module, Space};
use super::cursor::Cursor;
use super::expression;
use super::lexer::Token;

/// The newest PTX this parser was written for.
const NEWEST_MAJOR: u32 = 9;

/// Reads a module; names and operand types are not checked yet.
pub(super) fn parse(text: &str) -> Result<Module, Error> {
    let mut parser = Parser {
        cursor: Cursor::new(text)?,
        module: Module::default(),
        names: HashSet::new(),
        functions: HashMap::new(),
        strings: debug::Strings::default(),
    };
    parser.header()?;
    while parser.cursor.peek() != Token::End {
        parser.directive()?;
    }
    parser.name_inlined_functions()?;
    Ok(parser.module)
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    module: Module,
    /// Variables and functions at module scope.
    names: HashSet<String>,
    /// Index of each function in the module.
    functions: HashMap<String, usize>,
    strings: debug::Strings,
}

impl Parser<'_> {
    /// `.version`, `.target` and `.address_size`, which come first.
    fn header(&mut self) -> Result<(), Error> {
        let cursor = &mut self.cursor;
        if !cursor.accept_dot("version") {
            return Err(cursor.expected("`.version`, with which PTX begins"));
        }
        let Token::Number(text) = cursor.peek() else {
            return Err(cursor.expected("a version such as 8.0"));
        };
        let version =
            text.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let version: (u32, u32) =
            version.ok_or_else(|| cursor.expected("a version such as 8.0"))?;
        if version.0 > NEWEST_MAJOR {
            return Err(cursor.error(format!(
                "PTX {text} is newer than {NEWEST_MAJOR}.x, the newest that is understood: compile for an older version"
            )));
        }
        cursor.advance();
        if !cursor.accept_dot("target") {
            return Err(cursor.expected("`.target`"));
        }
        loop {
            let target = cursor.word("a target such as sm_80")?;
            self.module.target.push(target.to_owned());
            if !cursor.accept(",") {
                break;
            }
        }
        self.module.version = version;
        let size = if cursor.accept_dot("address_size") {
            expression::number(cursor, "an address size")?
        } else {
            32
        };
        if size != 64 {
            return Err(cursor.error(
                "32-bit modules are not supported: `.address_size 64` must follow `.target`",
            ));
        }
        self.module.address_size = size;
        Ok(())
    }

    fn directive(&mut self) -> Result<(), Error> {
        let linkage = self.linkage();
        let Token::Dot(name) = self.cursor.peek() else {
            return Err(self.cursor.expected("a directive such as `.global` or `.entry`"));
        };
        match (name, space(name)) {
            (_, Some(space)) => {
                let start = self.module.variables.len();
                let mut found = self.variables(space, linkage == Some("extern"))?;
                self.module.variables.append(&mut found);
                for index in start..self.module.variables.len() {
                    let name = self.module.variables[index].name.clone();
                    self.declare(name)?;
                }
                Ok(())
            }
            ("entry" | "func", _) => {
                self.cursor.advance();
                self.function(name == "entry", linkage == Some("extern"))
            }
            _ if linkage.is_some() => {
                Err(self.cursor.expected("`.entry`, `.func` or a variable after its linkage"))
            }
            ("file", _) => self.file(),
            ("section", _) => self.section(),
            ("pragma", _) => self.pragma(),
            _ => Err(self.cursor.expected(
                "`.entry`, `.func`, `.global`, `.const`, `.shared`, `.file`, `.section` or `.pragma` at module scope",
            )),
        }
    }

    /// Notes a variable's name, the first time only but for `extern` and `.common` ones.
    fn declare(&mut self, name: String) -> Result<(), Error> {
        if self.names.contains(&name) {
            let variables = &mut self.module.variables;
            let earlier = variables.iter().position(|v| v.name == name);
            let later = variables.iter().rposition(|v| v.name == name);
            return match (earlier, later) {
                // A declaration gives way to the definition, or to itself said again.
                (Some(earlier), Some(later)) if earlier != later => {
                    let dropped = if variables[earlier].is_extern { earlier } else { later };
                    if !variables[dropped].is_extern {
                        return Err(self.cursor.error(format!("`{name}` is declared twice")));
                    }
                    variables.remove(dropped);
                    Ok(())
                }
                _ => Err(self.cursor.error(format!("`{name}` is declared twice"))),
            };
        }
        self.names.insert(name);
        Ok(())
    }

    /// `.visible` and the like before a symbol.
    fn linkage(&mut self) -> Option<&'static str> {
        let known = ["extern", "visible", "weak", "common"];
        known.into_iter().find(|name| self.cursor.accept_dot(name))
    }

    /// `.pragma "nounroll";`: advice to the assembler.
    fn pragma(&mut self) -> Result<(), Error> {
        self.cursor.advance();
        loop {
            self.cursor.text("a pragma's string")?;
            if !self.cursor.accept(",") {
                return self.cursor.expect(";");
            }
        }
    }
}

/// State spaces of variables; `.reg` is no such space here.
fn space(directive: &str) -> Option<Space> {
    Some(match directive {
        "global" => Space::Global,
        "const" => Space::Const,
        "shared" => Space::Shared,
        "local" => Space::Local,
        "param" => Space::Param,
        _ => return None,
    })
}
