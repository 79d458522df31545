//! Where instructions come from: `.file`, `.loc` and the names of inlined functions.

use std::collections::HashMap;

use super::super::ast::SourceLine;
use super::super::expression;
use super::super::lexer::Token;
use super::{Error, Parser};

/// Deeper inlining than any compiler does; a `.loc` inlined at itself would grow without end.
const MAX_INLINED: usize = 64;

/// The source lines of a function as its `.loc` directives go by.
#[derive(Default)]
pub(super) struct Lines {
    /// Of the instruction that comes next, innermost first.
    pub current: Vec<SourceLine>,
    /// By file, line and column: an inlined line names the place it was inlined at by these.
    seen: HashMap<[u32; 3], Vec<SourceLine>>,
}

/// What `.debug_str` holds.
#[derive(Default)]
pub(super) struct Strings {
    bytes: Vec<u8>,
    labels: HashMap<String, usize>,
}

impl Strings {
    /// The string at `label` or `label+offset`, up to its zero.
    fn get(&self, place: &str) -> Option<String> {
        let (label, offset) = place.split_once('+').unwrap_or((place, "0"));
        let start = self.labels.get(label)?.checked_add(offset.parse().ok()?)?;
        let text = self.bytes.get(start..)?.split(|b| *b == 0).next()?;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

impl Parser<'_> {
    /// `.file 1 "name" [, time, size]`
    pub(super) fn file(&mut self) -> Result<(), Error> {
        self.cursor.advance();
        let number = expression::number(&mut self.cursor, "a file number")?;
        let name = self.cursor.text("a file name in quotes")?.to_owned();
        while self.cursor.accept(",") {
            if !matches!(self.cursor.advance(), Token::Number(_)) {
                return Err(self.cursor.expected("a file's time and size as numbers"));
            }
        }
        self.module.files.push((number, name));
        Ok(())
    }

    /// `.loc 1 10 18 [, function_name label, inlined_at 1 17 2]`
    pub(super) fn loc(&mut self, lines: &mut Lines) -> Result<(), Error> {
        self.cursor.advance();
        let place = self.place()?;
        let mut name = None;
        let mut outer = Vec::new();
        while self.cursor.accept(",") {
            match self.cursor.word("`function_name` or `inlined_at`")? {
                "function_name" => {
                    let label = self.cursor.word("the label of a string")?;
                    // Resolved when the strings, at the end of the text, are known.
                    name = Some(if self.cursor.accept("+") {
                        let offset = expression::number(&mut self.cursor, "an offset")?;
                        format!("{label}+{offset}")
                    } else {
                        label.to_owned()
                    });
                }
                "inlined_at" => {
                    let at = self.place()?;
                    let [file, line, _] = at;
                    let bare = || vec![SourceLine { file, line, function: None }];
                    outer = lines.seen.get(&at).cloned().unwrap_or_else(bare);
                    outer.truncate(MAX_INLINED);
                }
                other => {
                    let message =
                        format!("expected `function_name` or `inlined_at`, found `{other}`");
                    return Err(self.cursor.error(message));
                }
            }
        }
        let [file, line, _] = place;
        // Line 0 stands for no line in particular.
        if line != 0 {
            outer.insert(0, SourceLine { file, line, function: name });
        }
        lines.seen.insert(place, outer.clone());
        lines.current = outer;
        Ok(())
    }

    /// File, line and column.
    fn place(&mut self) -> Result<[u32; 3], Error> {
        let mut place = [0; 3];
        for (number, what) in place.iter_mut().zip(["a file number", "a line", "a column"]) {
            *number = expression::number(&mut self.cursor, what)?;
        }
        Ok(place)
    }

    /// `.section .debug_str { label: .b8 1, 2, 0 … }`; other sections are passed over.
    pub(super) fn section(&mut self) -> Result<(), Error> {
        self.cursor.advance();
        let Token::Dot(name) = self.cursor.peek() else {
            return Err(self.cursor.expected("a section's name such as `.debug_str`"));
        };
        self.cursor.advance();
        self.cursor.expect("{")?;
        if name == "debug_str" {
            return self.debug_strings();
        }
        while !self.cursor.accept("}") {
            if self.cursor.advance() == Token::End {
                return Err(self.cursor.expected(&format!("`}}` after section .{name}")));
            }
        }
        Ok(())
    }

    fn debug_strings(&mut self) -> Result<(), Error> {
        while !self.cursor.accept("}") {
            match self.cursor.peek() {
                Token::Word(label) => {
                    self.cursor.advance();
                    self.cursor.expect(":")?;
                    self.strings.labels.insert(label.to_owned(), self.strings.bytes.len());
                }
                Token::Dot("b8") => {
                    self.cursor.advance();
                    loop {
                        let byte: i16 = expression::count(&mut self.cursor, "a byte")?;
                        self.strings.bytes.push(byte as u8);
                        if !self.cursor.accept(",") {
                            break;
                        }
                    }
                }
                _ => return Err(self.cursor.expected("a label, `.b8` or `}` in .debug_str")),
            }
        }
        Ok(())
    }

    /// Puts names in place of the labels that `.loc` gave.
    pub(super) fn name_inlined_functions(&mut self) -> Result<(), Error> {
        let instructions = self.module.functions.iter_mut().flat_map(|f| &mut f.body);
        for instruction in instructions {
            for name in instruction.at.source.iter_mut().filter_map(|s| s.function.as_mut()) {
                *name = self.strings.get(name).ok_or_else(|| Error {
                    line: instruction.at.ptx_line,
                    message: format!(
                        "its .loc names the string `{name}`, which no .debug_str section holds"
                    ),
                })?;
            }
        }
        Ok(())
    }
}
