//! What a PTX module says, as data. The parser makes it, `exec::lower` reads it.
//!
//! Opcodes are a name and a list of modifiers, never one name per spelling: new compilers spell the
//! same instruction in new ways.

/// A loaded module.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Module {
    /// `.version`, e.g. (9, 0).
    pub version: (u32, u32),
    /// `.target`: the first is `sm_80` or such.
    pub target: Vec<String>,
    /// 64; 32-bit modules are refused.
    pub address_size: u32,
    /// Module-scope `.global`, `.const` and `.shared` variables.
    pub variables: Vec<Variable>,
    pub functions: Vec<Function>,
    /// `.file` table: index, name.
    pub files: Vec<(u32, String)>,
}

/// `.entry` or `.func`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Function {
    pub name: String,
    pub is_entry: bool,
    pub params: Vec<Variable>,
    /// Return parameters of a `.func`.
    pub returns: Vec<Variable>,
    /// `.shared` and `.local` variables (and call parameters) of the body; names are unique in the
    /// function: the parser renames those of nested scopes.
    pub variables: Vec<Variable>,
    /// Virtual registers, nested scopes made unique; `Operand::Register` indexes this.
    pub registers: Vec<Register>,
    pub body: Vec<Instruction>,
    /// Label name and the index of the instruction it stands before (may equal `body.len()`).
    pub labels: Vec<(String, usize)>,
    /// `.branchtargets` of `brx.idx`: name and label indices.
    pub branch_tables: Vec<(String, Vec<usize>)>,
    /// `.callprototype` of indirect calls.
    pub prototypes: Vec<Prototype>,
    /// False for a function only declared here, such as `vprintf`.
    pub has_body: bool,
    pub limits: Limits,
    /// Line of the PTX text.
    pub line: u32,
}

/// What a function called through a register takes and returns; the names in it mean nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prototype {
    pub name: String,
    pub returns: Vec<Variable>,
    pub params: Vec<Variable>,
}

/// Performance directives that the driver checks or reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub max_threads: Option<[u32; 3]>,
    pub required_threads: Option<[u32; 3]>,
    pub max_registers: Option<u32>,
    pub min_blocks_per_sm: Option<u32>,
    pub cluster: Option<[u32; 3]>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Register {
    pub name: String,
    pub ty: Type,
}

/// Fundamental types. `Pred` is one bit per lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    B8,
    B16,
    B32,
    B64,
    B128,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    F32,
    F64,
    Pred,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Space {
    Global,
    Shared,
    Local,
    Const,
    Param,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    pub name: String,
    pub space: Space,
    pub ty: Type,
    /// Bytes in all; 0 for `extern .shared x[]`, whose size comes with the launch.
    pub bytes: u64,
    pub align: u64,
    pub is_extern: bool,
    /// Initial bytes, shorter than `bytes` when the rest is zero.
    pub init: Vec<u8>,
    /// Addresses to be written into `init`: offset, symbol, addend.
    pub relocations: Vec<(usize, String, i64)>,
    /// Line of the PTX text.
    pub line: u32,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    /// First part of the opcode: `ld`, `mma`, `cp`, `bar`.
    pub opcode: String,
    /// The rest in order, types included: `["sync", "aligned", "m16n8k16", …, "f32"]`.
    pub modifiers: Vec<String>,
    pub guard: Option<Guard>,
    /// In the order of the text, results first.
    pub operands: Vec<Operand>,
    pub at: Location,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    /// Index of a `Pred` register.
    pub register: usize,
    pub negated: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// Index into [`Function::registers`].
    Register(usize),
    /// `!p` as a source.
    NotPredicate(usize),
    Integer(i128),
    /// `0f…`: bits of an f32.
    F32(u32),
    /// `0d…` and decimal floats: bits of an f64.
    F64(u64),
    Special(Special),
    /// A variable's or function's address, plus an offset.
    Symbol(String, i64),
    /// `[base + offset]`.
    Address(Base, i64),
    /// `{a, b, …}`.
    Vector(Vec<Operand>),
    /// `d|p`: a result and a predicate result. `_` is `Sink`.
    Pair(Box<Operand>, Box<Operand>),
    /// `_`.
    Sink,
    /// Index into [`Function::labels`].
    Label(usize),
    /// Index into [`Function::branch_tables`].
    BranchTable(usize),
    /// `(a, b)` of a call: return or argument list.
    Tuple(Vec<Operand>),
    /// Index into [`Function::prototypes`].
    Prototype(usize),
    /// The functions of a `.calltargets` list.
    CallTargets(Vec<String>),
    /// `[base, {x, y}]`: a tensor map or texture and coordinates in it.
    TensorAddress(Base, Vec<Operand>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Base {
    Register(usize),
    Symbol(String),
    Absolute,
}

/// Special registers; the digit is x = 0, y = 1, z = 2.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    LaneId,
    WarpId,
    NWarpId,
    SmId,
    NSmId,
    GridId,
    LaneMaskEq,
    LaneMaskLe,
    LaneMaskLt,
    LaneMaskGe,
    LaneMaskGt,
    Clock,
    ClockHi,
    Clock64,
    GlobalTimer,
    GlobalTimerLo,
    GlobalTimerHi,
    DynamicSharedBytes,
    TotalSharedBytes,
    /// `%clusterid` and the like: not executed, refused by name when lowered.
    Other(String),
}

/// Where an instruction comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Location {
    /// Line of the PTX text, from 1.
    pub ptx_line: u32,
    /// Source lines by `.loc`, innermost first: file number (the first half of an entry of
    /// [`Module::files`]), line, and for an inlined function its name. Empty where the compiler names none.
    pub source: Vec<SourceLine>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceLine {
    pub file: u32,
    pub line: u32,
    pub function: Option<String>,
}
