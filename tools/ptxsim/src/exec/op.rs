//! A lowered instruction, and what it may touch when it runs.

use super::copy::Copies;
use super::lanes::Run;
use super::order::{Order, Presence};
use super::shared::Shared;
use super::{Fault, Kernel, Launch, Machine};
use crate::finding::{Finding, Findings, Kind, Place};
use crate::memory::Memory;

/// No guard.
pub const UNGUARDED: u32 = u32::MAX;

/// One instruction, ready to run. Operands are byte offsets into the warp's register file; immediates,
/// addresses of variables and special registers lie there too, as registers that nothing writes.
#[derive(Debug, Clone, Copy)]
pub struct Op {
    pub run: Run,
    pub flow: Flow,
    /// Offset of a predicate, or [`UNGUARDED`].
    pub guard: u32,
    pub guard_negated: bool,
    pub result: u32,
    pub sources: [u32; 4],
    /// Displacement of an address, comparison flags, shape: by operation.
    pub immediate: i64,
    /// Index of this instruction's further operands in [`Kernel::lists`].
    pub list: u32,
    pub access: Access,
}

/// What an instruction does to the order of execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Runs and goes on.
    Next,
    /// Jumps to the instruction; lanes that do not meet the others at `meet`.
    Branch {
        to: u32,
        meet: u32,
    },
    /// Jumps by an index to one of a list of targets.
    Table {
        meet: u32,
    },
    Exit,
    /// Goes to a function, whose number among the kernel's calls is the operation's list.
    Call,
    /// Goes back to the caller.
    Return,
    /// Waits for all lanes of a mask (an operand) to be here, then runs for them together.
    Together,
    /// A block-wide barrier.
    Barrier(Barrier),
}

/// `bar` and `barrier`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barrier {
    pub waits: bool,
    pub aligned: bool,
    /// Whether there is a thread count (the second source).
    pub counted: bool,
    pub reduction: Option<Reduction>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    And,
    Or,
    Population,
}

/// Memory that an instruction reads or writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Access {
    /// Bytes of an element, 1 to 16.
    pub bytes: u8,
    /// Elements of a vector.
    pub count: u8,
    /// Bytes of the register that an element is extended to.
    pub register_bytes: u8,
    pub signed: bool,
    /// The address register has 64 bits.
    pub wide: bool,
    /// Volatile, relaxed or acquiring or releasing: races with nothing.
    pub strong: bool,
    /// Orders what the thread wrote before it.
    pub releases: bool,
}

/// Everything an operation may touch.
pub struct Ctx<'a> {
    /// The warp's register file.
    pub registers: *mut u8,
    pub memory: &'a Memory,
    pub shared: &'a mut Shared,
    /// This warp's asynchronous copies.
    pub copies: &'a mut Copies,
    /// `[lane][bytes]`, local variables.
    pub local: &'a mut [u8],
    /// What `printf` writes, and the number of the block that does.
    pub printed: &'a mut Vec<(u64, String)>,
    /// 1 for each byte of them that was written.
    pub local_written: &'a mut [u8],
    pub order: &'a Order,
    /// This block among the launch's.
    pub presence: &'a mut Presence,
    pub launch: &'a Launch<'a>,
    pub kernel: &'a Kernel,
    pub machine: &'a Machine,
    pub findings: &'a Findings,
    pub block: [u32; 3],
    pub warp: u32,
    /// Warp-instructions of the block when this path began to run.
    pub clock: u64,
    /// Why this launch must end.
    pub fault: Option<Fault>,
}

impl Ctx<'_> {
    /// Notes a finding at this instruction and returns its message.
    #[cold]
    pub fn find(
        &mut self,
        kind: Kind,
        op: &Op,
        lane: usize,
        address: Option<u64>,
        message: String,
    ) {
        let index = self.kernel.index_of(op);
        let place = self.kernel.place(index);
        let place =
            Place { block: self.block, warp: self.warp, lane: lane as u32, address, ..place };
        self.findings.add(Finding { kind, message, place: Some(place), count: 1 });
    }

    /// Ends the launch; the first reason counts.
    #[cold]
    pub fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }
}
