//! Where the parser stands in the tokens.

use super::Error;
use super::lexer::{self, Token};

pub(super) struct Cursor<'a> {
    tokens: Vec<(Token<'a>, u32)>,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Result<Self, Error> {
        Ok(Cursor { tokens: lexer::tokens(text)?, at: 0 })
    }

    pub fn peek(&self) -> Token<'a> {
        self.peek_after(0)
    }

    /// The token `ahead` places on.
    pub fn peek_after(&self, ahead: usize) -> Token<'a> {
        self.tokens.get(self.at + ahead).map_or(Token::End, |t| t.0)
    }

    /// Line of the next token.
    pub fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |t| t.1)
    }

    /// Goes past the next token; the end stays.
    pub fn advance(&mut self) -> Token<'a> {
        let token = self.peek();
        if token != Token::End {
            self.at += 1;
        }
        token
    }

    /// An error at the next token, which is not what it should be.
    pub fn expected(&self, what: &str) -> Error {
        self.error(format!("expected {what}, found {}", self.peek()))
    }

    pub fn error(&self, message: impl Into<String>) -> Error {
        Error { line: self.line(), message: message.into() }
    }

    pub fn at(&self, mark: &str) -> bool {
        matches!(self.peek(), Token::Mark(found) if found == mark)
    }

    pub fn accept(&mut self, mark: &str) -> bool {
        let found = self.at(mark);
        if found {
            self.advance();
        }
        found
    }

    pub fn expect(&mut self, mark: &str) -> Result<(), Error> {
        if self.accept(mark) { Ok(()) } else { Err(self.expected(&format!("`{mark}`"))) }
    }

    /// Whether a directive of this name came; if so it is passed.
    pub fn accept_dot(&mut self, name: &str) -> bool {
        let found = self.peek() == Token::Dot(name);
        if found {
            self.advance();
        }
        found
    }

    pub fn word(&mut self, what: &str) -> Result<&'a str, Error> {
        let Token::Word(word) = self.peek() else { return Err(self.expected(what)) };
        self.advance();
        Ok(word)
    }

    pub fn text(&mut self, what: &str) -> Result<&'a str, Error> {
        let Token::Text(text) = self.peek() else { return Err(self.expected(what)) };
        self.advance();
        Ok(text)
    }
}
