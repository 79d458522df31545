//! The PTX front end: text to a checked [`ast::Module`], with control flow and register slots.

pub mod analysis;
pub mod ast;
mod check;
mod cursor;
mod expression;
pub mod inventory;
mod lexer;
mod names;
mod parser;

/// Why a module is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct Error {
    /// Line of the PTX text, from 1.
    pub line: u32,
    pub message: String,
}

/// Reads and checks a module.
///
/// Which instructions exist is not asked here: the executor refuses those it does not know.
pub fn parse(text: &str) -> Result<ast::Module, Error> {
    let module = parser::parse(text)?;
    check::check(&module)?;
    Ok(module)
}
