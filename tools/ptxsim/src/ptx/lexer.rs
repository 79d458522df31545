//! Text to tokens.

use std::fmt;

use super::Error;

/// A token borrows the text it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// Names of registers, variables, labels and opcodes: `%r1`, `$L__BB0_2`, `ld`.
    Word(&'a str),
    /// A directive or modifier, without its dot: `reg`, `L2::128B`.
    Dot(&'a str),
    /// A literal, not yet evaluated.
    Number(&'a str),
    /// Without its quotes.
    Text(&'a str),
    /// Punctuation.
    Mark(&'static str),
    End,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Word(text) | Token::Number(text) => write!(f, "`{text}`"),
            Token::Mark(text) => write!(f, "`{text}`"),
            Token::Dot(text) => write!(f, "`.{text}`"),
            Token::Text(text) => write!(f, "\"{text}\""),
            Token::End => f.write_str("the end of the text"),
        }
    }
}

/// Longest first, as a lexer must try them.
const MARKS: [&str; 32] = [
    "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "{", "}", "[", "]", "(", ")", "<", ">", ",",
    ";", ":", "@", "!", "|", "+", "-", "*", "/", "%", "&", "^", "~", "?", "=",
];

/// All tokens with their lines; the last is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<(Token<'_>, u32)>, Error> {
    let mut lexer = Lexer { text, at: 0, line: 1 };
    let mut found = Vec::new();
    loop {
        lexer.skip_blanks()?;
        let line = lexer.line;
        let token = lexer.token()?;
        found.push((token, line));
        if token == Token::End {
            return Ok(found);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    /// Byte offset, always between characters.
    at: usize,
    line: u32,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn error(&self, message: impl Into<String>) -> Error {
        Error { line: self.line, message: message.into() }
    }

    /// Takes `bytes` bytes and counts the lines in them.
    fn take(&mut self, bytes: usize) -> &'a str {
        let taken = &self.rest()[..bytes];
        self.line += taken.bytes().filter(|&b| b == b'\n').count() as u32;
        self.at += bytes;
        taken
    }

    /// Spaces, comments and the `# line` marks of a preprocessor.
    fn skip_blanks(&mut self) -> Result<(), Error> {
        loop {
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start().len();
            if blanks > 0 {
                self.take(blanks);
            } else if rest.starts_with("//") || rest.starts_with('#') {
                self.take(rest.find('\n').unwrap_or(rest.len()));
            } else if rest.starts_with("/*") {
                let end = rest.find("*/").ok_or_else(|| self.error("this comment has no `*/`"))?;
                self.take(end + 2);
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self) -> Result<Token<'a>, Error> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let Some(&first) = bytes.first() else { return Ok(Token::End) };
        let second = bytes.get(1).copied().unwrap_or(b' ');
        match first {
            b'"' => {
                let end = rest[1..].find(['"', '\n']).filter(|&end| bytes[1 + end] == b'"');
                let end =
                    end.ok_or_else(|| self.error("this string has no closing `\"` on its line"))?;
                Ok(Token::Text(&self.take(end + 2)[1..=end]))
            }
            b'.' if is_name(second) => {
                let length = dotted_name(&bytes[1..]);
                Ok(Token::Dot(&self.take(1 + length)[1..]))
            }
            b'0'..=b'9' => Ok(Token::Number(self.take(number(bytes)))),
            // `%` is the remainder operator unless a name follows.
            b'%' if !is_name(second) => Ok(Token::Mark({
                self.take(1);
                "%"
            })),
            b'%' => Ok(Token::Word(self.take(1 + name(&bytes[1..])))),
            _ if is_name(first) => Ok(Token::Word(self.take(name(bytes)))),
            _ => match MARKS.iter().find(|mark| rest.starts_with(**mark)) {
                Some(mark) => {
                    self.take(mark.len());
                    Ok(Token::Mark(mark))
                }
                None => {
                    let character = rest.chars().next().unwrap_or_default();
                    Err(self.error(format!("no PTX token begins with {character:?}")))
                }
            },
        }
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$'
}

/// Length of the name at the start.
fn name(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|&&b| is_name(b)).count()
}

/// As [`name`], with `::` between parts: `shared::cluster`.
fn dotted_name(bytes: &[u8]) -> usize {
    let mut length = name(bytes);
    while bytes[length..].starts_with(b"::") && bytes.get(length + 2).is_some_and(|&b| is_name(b)) {
        length += 2;
        length += name(&bytes[length..]);
    }
    length
}

/// Length of the literal at the start: `0x1F`, `0f3F800000`, `12U`, `1.5e-3`.
fn number(bytes: &[u8]) -> usize {
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut length = digits(0);
    if bytes.get(length) == Some(&b'.') && bytes.get(length + 1).is_some_and(u8::is_ascii_digit) {
        length += 1 + digits(length + 1);
    }
    if matches!(bytes.get(length), Some(b'e' | b'E')) && !matches!(bytes, [b'0', b'x' | b'X', ..]) {
        let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
        if digits(length + 1 + sign) > 0 {
            length += 1 + sign + digits(length + 1 + sign);
        }
    }
    // Hexadecimal digits, a suffix, or what the evaluation will refuse.
    length + name(&bytes[length..])
}
