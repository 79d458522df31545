//! The PTX front end: text to a checked [`ast::Module`], with control flow and register slots.

pub mod analysis;
pub mod ast;

/// Why a module is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct Error {
    /// Line of the PTX text, from 1.
    pub line: u32,
    pub message: String,
}
