//! What a function's text implies: control flow, reconvergence, and where its registers live.

mod flow;
mod liveness;
mod slots;

pub(crate) use liveness::{each_register, results};

use super::Error;
use super::ast::Function;

/// Made once per function by [`analyse`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Analysis {
    pub blocks: Vec<Block>,
    /// Per instruction: for one that may diverge (a guarded branch, `brx.idx`), the instruction where its
    /// lanes meet again (the immediate post-dominator's first; `body.len()` is the exit), else `u32::MAX`.
    /// A guarded or indirect `call` diverges too, and its lanes meet behind it.
    ///
    /// Lanes that return meet nobody: a conditional branch to a lone `ret` or `exit` counts as a guarded
    /// return, so that the others do not wait for the end of the function to be together again.
    pub reconverge: Vec<u32>,
    /// Per virtual register.
    pub slots: Vec<Slot>,
    /// Bytes of a warp's register file.
    pub register_bytes: u32,
}

/// A basic block: instructions `start..end`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block {
    pub start: usize,
    pub end: usize,
    pub successors: Vec<usize>,
    /// Where every path from here passes next, returning lanes aside; none for the virtual exit.
    pub post_dominator: Option<usize>,
}

/// Where a virtual register lives in a warp's register file: 32 lanes side by side. A predicate is one
/// `u32`, a bit per lane (padded to 64 bytes); 8- and 16-bit registers take 2 bytes a lane, then 4, 8, 16.
/// Registers whose lives do not overlap share a slot; a result never shares one with a source of the same
/// instruction. `offset` is a multiple of 64.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slot {
    pub offset: u32,
    /// Bytes a lane: 2, 4, 8, 16; 0 for a predicate.
    pub lane_bytes: u8,
}

/// Control flow, reconvergence and register slots of a function.
pub fn analyse(function: &Function) -> Result<Analysis, Error> {
    let blocks = flow::blocks(function)?;
    let reconverge = flow::reconvergence(function, &blocks);
    let lives = liveness::lives(function, &blocks);
    let (slots, register_bytes) = slots::assign(&function.registers, &lives);
    Ok(Analysis { blocks, reconverge, slots, register_bytes })
}
