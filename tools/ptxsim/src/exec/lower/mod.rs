//! From checked instructions to [`Op`]s: operands become offsets, modifiers choose the operation.
//!
//! What is not known here is refused, with its spelling and line: nothing is skipped.

mod arithmetic;
mod atomic;
mod comparison;
mod control;
mod conversion;
mod coverage;
mod float;
mod forms;
mod integer;
mod matrix;
mod memory;
mod operands;

use std::collections::BTreeMap;

pub use coverage::coverage;

use super::lanes::{Level, Operation};
use super::op::{Access, Flow, Op, UNGUARDED};
use super::special::Fixed;
use super::{Code, Kernel, LoadedModule};
use crate::memory::{Home, Memory};
use crate::ptx::Error;
use crate::ptx::analysis::{Analysis, analyse};
use crate::ptx::ast::{Function, Instruction, Module, Space, Type, Variable};

/// Most registers a lane of a real kernel can have; beyond, a compiler would spill.
const MOST_REGISTERS: u32 = 255;

/// Addresses of functions begin here, and are numbers of functions: no access is allowed there.
const CODE_WINDOW: u64 = 1 << 58;

/// Lowers every entry function and places the module's variables in device memory.
pub fn module(module: &Module, memory: &Memory, level: Level) -> Result<LoadedModule, Error> {
    let (symbols, globals) = globals(module, memory)?;
    let kernels = module.functions.iter().filter(|f| f.is_entry && f.has_body);
    let kernels = kernels.map(|f| kernel(module, f, &symbols, level)).collect::<Result<_, _>>()?;
    Ok(LoadedModule { kernels, globals })
}

/// Module variables: their addresses by name, and as the module lists them.
type Globals = (BTreeMap<String, Symbol>, Vec<(String, u64, u64)>);

fn globals(module: &Module, memory: &Memory) -> Result<Globals, Error> {
    let mut globals = Vec::new();
    let mut symbols = BTreeMap::new();
    for (index, function) in module.functions.iter().enumerate() {
        let at = CODE_WINDOW + index as u64;
        symbols.insert(function.name.clone(), Symbol { space: Space::Const, at });
    }
    for variable in &module.variables {
        if matches!(variable.space, Space::Global | Space::Const) {
            let bytes = variable.bytes.max(1);
            let address = memory
                .allocate_in(Home::Module, bytes, format!("module variable {}", variable.name))
                .map_err(|e| Error {
                    line: variable.line,
                    message: format!("{}: {e}", variable.name),
                })?;
            symbols.insert(variable.name.clone(), Symbol { space: variable.space, at: address });
            globals.push((variable.name.clone(), address, variable.bytes));
        }
    }
    for variable in &module.variables {
        if matches!(variable.space, Space::Global | Space::Const) {
            let at = symbols[&variable.name].at;
            initialise(variable, at, &symbols, memory)?;
        }
    }
    Ok((symbols, globals))
}

/// Where a variable lies: an address, or an offset within its space.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    space: Space,
    at: u64,
}

fn initialise(
    variable: &Variable,
    address: u64,
    symbols: &BTreeMap<String, Symbol>,
    memory: &Memory,
) -> Result<(), Error> {
    let error = |message: String| Error { line: variable.line, message };
    // Module variables without an initialiser are zero.
    let mut bytes = variable.init.clone();
    bytes.resize(variable.bytes as usize, 0);
    for (offset, symbol, addend) in &variable.relocations {
        let Some(target) = symbols.get(symbol) else {
            return Err(error(format!(
                "{}: the address of {symbol} is not known here",
                variable.name
            )));
        };
        let value = target.at.wrapping_add_signed(*addend).to_le_bytes();
        bytes
            .get_mut(*offset..offset + 8)
            .ok_or_else(|| error(format!("{}: an address beyond its end", variable.name)))?
            .copy_from_slice(&value);
    }
    if bytes.is_empty() {
        return Ok(());
    }
    memory.write(address, &bytes).map_err(|e| error(format!("{}: {e}", variable.name)))
}

/// What lowering a function builds up.
struct Lowering<'a> {
    function: &'a Function,
    analysis: Analysis,
    level: Level,
    symbols: BTreeMap<String, Symbol>,
    code: Code,
    /// A register that nothing reads: what has no destination goes there.
    sink: u32,
    /// The carry of `add.cc`.
    carry: u32,
}

/// Bytes and places of what a kernel is given.
#[derive(Default)]
struct Layout {
    params: Vec<(usize, usize)>,
    shared: u64,
    local: u64,
}

fn kernel(
    module: &Module,
    function: &Function,
    globals: &BTreeMap<String, Symbol>,
    level: Level,
) -> Result<Kernel, Error> {
    let (mut lowering, layout) = Lowering::new(module, function, globals, level)?;
    let registers = (lowering.analysis.register_bytes / 128).clamp(16, MOST_REGISTERS);
    for (index, instruction) in function.body.iter().enumerate() {
        let op = lowering.instruction(index, instruction)?;
        lowering.code.ops.push(op);
        lowering.code.lines.push(lines(module, instruction));
    }
    let limits = function.limits;
    let max_threads =
        limits.max_threads.or(limits.required_threads).map_or(1024, |t| t.iter().product());
    let constants = module.variables.iter().filter(|v| v.space == Space::Const);
    Ok(Kernel {
        name: function.name.clone(),
        params: layout.params,
        static_shared_bytes: layout.shared as u32,
        local_bytes: layout.local.next_multiple_of(16) as u32,
        const_bytes: constants.map(|v| v.bytes as u32).sum(),
        registers,
        max_threads,
        limits,
        code: lowering.code,
    })
}

/// Shared variables of the module and of the function one after another, dynamic ones at the end;
/// local variables and parameters likewise.
fn layout(module: &Module, function: &Function, symbols: &mut BTreeMap<String, Symbol>) -> Layout {
    let mut layout = Layout::default();
    let (mut dynamic, mut dynamic_align) = (Vec::new(), 16);
    for variable in module.variables.iter().chain(&function.variables) {
        let end = match variable.space {
            Space::Shared => &mut layout.shared,
            Space::Local | Space::Param => &mut layout.local,
            _ => continue,
        };
        if variable.is_extern && variable.space == Space::Shared {
            dynamic.push(variable.name.clone());
            dynamic_align = dynamic_align.max(variable.align);
            continue;
        }
        let at = end.next_multiple_of(variable.align.max(1));
        symbols.insert(variable.name.clone(), Symbol { space: variable.space, at });
        *end = at + variable.bytes;
    }
    if !dynamic.is_empty() {
        layout.shared = layout.shared.next_multiple_of(dynamic_align);
    }
    for name in dynamic {
        symbols.insert(name, Symbol { space: Space::Shared, at: layout.shared });
    }
    let mut end = 0u64;
    for param in &function.params {
        let at = end.next_multiple_of(param.align.max(1));
        symbols.insert(param.name.clone(), Symbol { space: Space::Param, at });
        layout.params.push((at as usize, param.bytes as usize));
        end = at + param.bytes;
    }
    layout
}

/// The PTX line, and `file:line` of the source, innermost first.
fn lines(module: &Module, instruction: &Instruction) -> (u32, Vec<String>) {
    let name = |file| module.files.iter().find(|f| f.0 == file).map_or("?", |f| &f.1);
    let source = instruction.at.source.iter();
    let source = source.map(|s| match &s.function {
        Some(function) => format!("{}:{} in {function}", name(s.file), s.line),
        None => format!("{}:{}", name(s.file), s.line),
    });
    (instruction.at.ptx_line, source.collect())
}

impl<'a> Lowering<'a> {
    fn new(
        module: &Module,
        function: &'a Function,
        globals: &BTreeMap<String, Symbol>,
        level: Level,
    ) -> Result<(Self, Layout), Error> {
        let analysis = analyse(function)?;
        let mut symbols = globals.clone();
        let layout = layout(module, function, &mut symbols);
        let register_bytes = analysis.register_bytes.next_multiple_of(64);
        let code = Code { register_bytes, ..Code::default() };
        let mut lowering = Lowering { function, analysis, level, symbols, code, sink: 0, carry: 0 };
        lowering.sink = lowering.reserve(256);
        lowering.carry = lowering.reserve(64);
        Ok((lowering, layout))
    }

    fn instruction(&mut self, index: usize, i: &Instruction) -> Result<Op, Error> {
        if let Some(modifier) = forms::unknown(i) {
            return self.refuse(i, format!("there is no .{modifier}"));
        }
        let mut op = self.operation(index, i)?;
        if let Some(guard) = i.guard {
            op.guard = self.analysis.slots[guard.register].offset;
            op.guard_negated = guard.negated;
        }
        Ok(op)
    }

    fn operation(&mut self, index: usize, i: &Instruction) -> Result<Op, Error> {
        match i.opcode.as_str() {
            "ld" | "ldu" | "st" => self.load_or_store(i),
            "cvta" | "isspacep" | "prefetch" | "prefetchu" | "membar" | "fence"
            | "createpolicy" => self.address(i),
            "mov" | "cvt" => self.conversion(i),
            "bra" | "brx" | "ret" | "exit" | "bar" | "barrier" | "trap" | "shfl" | "vote"
            | "match" | "redux" | "activemask" | "elect" | "griddepcontrol" | "nanosleep"
            | "pragma" => self.control(index, i),
            "atom" | "red" => self.atomic(i),
            "cp" => self.copy_async(i),
            "ldmatrix" | "stmatrix" | "movmatrix" | "mma" => self.matrix(i),
            _ => self.arithmetic(i),
        }
    }

    /// An operation with a result and sources, all of them offsets.
    fn op<O: Operation>(&self, result: u32, sources: &[u32]) -> Op {
        let mut all = [self.sink; 4];
        all[..sources.len()].copy_from_slice(sources);
        Op {
            run: self.level.of::<O>(),
            flow: Flow::Next,
            guard: UNGUARDED,
            guard_negated: false,
            result,
            sources: all,
            immediate: 0,
            list: self.sink,
            access: Access::default(),
        }
    }

    /// Bytes of the register file for a register of the lowering's own.
    fn reserve(&mut self, bytes: u32) -> u32 {
        let at = self.code.register_bytes;
        self.code.register_bytes += bytes.next_multiple_of(64);
        at
    }

    /// The register that holds the same bits in every lane.
    fn fixed(&mut self, fixed: Fixed, bytes: u8) -> u32 {
        let bytes = bytes.max(2);
        let known = self.code.fixed.iter().find(|(f, _, b)| *f == fixed && *b == bytes);
        if let Some(&(_, at, _)) = known {
            return at;
        }
        let at = self.reserve(32 * u32::from(bytes));
        self.code.fixed.push((fixed, at, bytes));
        at
    }

    fn list(&mut self, list: Vec<u32>) -> u32 {
        self.code.lists.push(list);
        self.code.lists.len() as u32 - 1
    }

    /// "line 12: `mma.sync…`: what is wrong".
    fn refuse<T>(&self, i: &Instruction, why: impl std::fmt::Display) -> Result<T, Error> {
        let name = spelling(i);
        Err(Error {
            line: i.at.ptx_line,
            message: format!("{name} in {}: {why}", self.function.name),
        })
    }

    fn unsupported<T>(&self, i: &Instruction) -> Result<T, Error> {
        self.refuse(i, "this instruction is not supported")
    }
}

/// The instruction's opcode as it was written.
fn spelling(i: &Instruction) -> String {
    i.modifiers.iter().fold(i.opcode.clone(), |name, modifier| name + "." + modifier)
}

/// The modifiers that are types, in order.
fn types(i: &Instruction) -> Vec<Type> {
    i.modifiers.iter().filter_map(|m| Type::parse(m)).collect()
}

fn has(i: &Instruction, modifier: &str) -> bool {
    i.modifiers.iter().any(|m| m == modifier)
}
