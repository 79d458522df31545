//! From checked instructions to [`Op`]s: operands become offsets, modifiers choose the operation.
//!
//! What is not known here is refused, with its spelling and line: nothing is skipped.

mod arithmetic;
mod atomic;
mod call;
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

use super::call::STACK_BYTES;
use super::collective::Nothing;
use super::lanes::{Level, Operation};
use super::op::{Access, Flow, Op, UNGUARDED};
use super::special::Fixed;
use super::{Code, Kernel, LoadedModule, class, latency};
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
    /// The functions that the kernel may call.
    callees: &'a [&'a Function],
    analysis: Analysis,
    level: Level,
    symbols: BTreeMap<String, Symbol>,
    /// Bytes of the function's variables.
    sizes: BTreeMap<String, u32>,
    /// Number of the function's first instruction.
    start: u32,
    code: Code,
    /// A register that nothing reads: what has no destination goes there.
    sink: u32,
    /// The carry of `add.cc`.
    carry: u32,
}

/// Where the variables of a function lie.
#[derive(Default)]
struct Layout {
    symbols: BTreeMap<String, Symbol>,
    /// Offset and bytes; of a kernel in its parameter block, else among the local variables.
    params: Vec<(u32, u32)>,
    returns: Vec<(u32, u32)>,
    /// Of a kernel, with the functions that it calls.
    shared: u64,
    local: u64,
}

fn kernel(
    module: &Module,
    function: &Function,
    globals: &BTreeMap<String, Symbol>,
    level: Level,
) -> Result<Kernel, Error> {
    let callees = call::reachable(module, function);
    let layouts = layout(module, function, &callees, globals);
    let mut code = Code::default();
    let mut entry = (Vec::new(), 0);
    let mut registers = 0;
    for (index, (layout, function)) in
        layouts.iter().zip(std::iter::once(&function).chain(&callees)).enumerate()
    {
        let mut lowering = Lowering::new(function, &callees, layout, level, code)?;
        // A function is called with what its caller keeps in registers; the most that any needs counts.
        registers = registers.max(lowering.analysis.register_bytes / 128);
        for (index, instruction) in function.body.iter().enumerate() {
            let op = lowering.instruction(index, instruction)?;
            lowering.code.ops.push(op);
            lowering.code.lines.push(lines(module, instruction));
            lowering.code.kinds.push(class::classify(instruction));
        }
        let first = lowering.start as usize;
        latency::analyse(function, &mut lowering.code.kinds[first..]);
        let end = lowering.end();
        lowering.code.ops.push(end);
        lowering.code.kinds.push(class::Kind::control());
        let last = function.body.last().map(|i| lines(module, i)).unwrap_or_default();
        lowering.code.lines.push(last);
        code = lowering.code;
        if index > 0 {
            call::finish(&mut code, module, function, layout);
        } else {
            entry = (std::mem::take(&mut code.fixed), code.register_bytes);
        }
    }
    (code.fixed, code.register_bytes) = entry;
    if !code.calls.is_empty() {
        code.stack_bytes = STACK_BYTES;
    }
    let registers = registers.clamp(16, MOST_REGISTERS);
    let layout = &layouts[0];
    let limits = function.limits;
    let max_threads =
        limits.max_threads.or(limits.required_threads).map_or(1024, |t| t.iter().product());
    let constants = module.variables.iter().filter(|v| v.space == Space::Const);
    Ok(Kernel {
        name: function.name.clone(),
        params: layout.params.iter().map(|&(at, bytes)| (at as usize, bytes as usize)).collect(),
        static_shared_bytes: layout.shared as u32,
        local_bytes: layout.local.next_multiple_of(16) as u32,
        const_bytes: constants.map(|v| v.bytes as u32).sum(),
        registers,
        max_threads,
        limits,
        code,
    })
}

/// Shared variables of the module, the kernel and the functions that it calls one after another, dynamic
/// ones at the end. Local variables, and parameters of calls and functions, each function's by
/// themselves. The first layout is the kernel's.
fn layout(
    module: &Module,
    kernel: &Function,
    callees: &[&Function],
    globals: &BTreeMap<String, Symbol>,
) -> Vec<Layout> {
    let mut shared = 0u64;
    let mut place = |variable: &Variable| {
        let at = shared.next_multiple_of(variable.align.max(1));
        shared = at + variable.bytes;
        (variable.name.clone(), Symbol { space: Space::Shared, at })
    };
    let is_dynamic = |v: &&Variable| v.is_extern && v.space == Space::Shared;
    let is_static = |v: &&Variable| !v.is_extern && v.space == Space::Shared;
    let mut symbols = globals.clone();
    symbols.extend(module.variables.iter().filter(is_static).map(&mut place));
    let functions: Vec<&Function> =
        std::iter::once(kernel).chain(callees.iter().copied()).collect();
    let mut layouts = Vec::new();
    for function in &functions {
        let mut layout = Layout { symbols: symbols.clone(), ..Layout::default() };
        layout.symbols.extend(function.variables.iter().filter(is_static).map(&mut place));
        let mut end = 0u64;
        for param in &function.params {
            let at = end.next_multiple_of(param.align.max(1));
            let space = if function.is_entry { Space::Param } else { Space::Local };
            layout.symbols.insert(param.name.clone(), Symbol { space, at });
            layout.params.push((at as u32, param.bytes as u32));
            end = at + param.bytes;
        }
        layout.local = if function.is_entry { 0 } else { end };
        let mut local = |variable: &Variable| {
            let at = layout.local.next_multiple_of(variable.align.max(1));
            let symbol = Symbol { space: Space::Local, at };
            layout.symbols.insert(variable.name.clone(), symbol);
            layout.local = at + variable.bytes;
            (at as u32, variable.bytes as u32)
        };
        layout.returns = function.returns.iter().map(&mut local).collect();
        let own = function.variables.iter();
        own.filter(|v| matches!(v.space, Space::Local | Space::Param)).for_each(|v| {
            local(v);
        });
        layouts.push(layout);
    }
    let all = functions.iter().flat_map(|f| &f.variables).chain(&module.variables);
    let all = all.filter(is_dynamic);
    if let Some(align) = all.map(|v| v.align.max(16)).max() {
        shared = shared.next_multiple_of(align);
    }
    for (layout, function) in layouts.iter_mut().zip(&functions) {
        layout.shared = shared;
        for variable in module.variables.iter().chain(&function.variables).filter(is_dynamic) {
            let symbol = Symbol { space: Space::Shared, at: shared };
            layout.symbols.insert(variable.name.clone(), symbol);
        }
    }
    layouts
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
    /// Lowers `function` behind what `code` has.
    fn new(
        function: &'a Function,
        callees: &'a [&'a Function],
        layout: &Layout,
        level: Level,
        code: Code,
    ) -> Result<Self, Error> {
        let analysis = analyse(function)?;
        let symbols = layout.symbols.clone();
        let sizes = function.params.iter().chain(&function.returns).chain(&function.variables);
        let sizes = sizes.map(|v| (v.name.clone(), v.bytes as u32)).collect();
        let start = code.ops.len() as u32;
        let mut lowering = Lowering {
            function,
            callees,
            analysis,
            level,
            symbols,
            sizes,
            start,
            code,
            sink: 0,
            carry: 0,
        };
        lowering.code.fixed = Vec::new();
        lowering.code.register_bytes = lowering.analysis.register_bytes.next_multiple_of(64);
        lowering.sink = lowering.reserve(512);
        lowering.carry = lowering.reserve(64);
        Ok(lowering)
    }

    /// What stands behind the last instruction.
    fn end(&self) -> Op {
        let flow = if self.function.is_entry { Flow::Exit } else { Flow::Return };
        Op { flow, ..self.op::<Nothing>(self.sink, &[]) }
    }

    /// The number, among the kernel's, of an instruction of this function.
    fn number(&self, index: usize) -> u32 {
        self.start + index as u32
    }

    /// Where the lanes of an instruction meet again.
    fn meet(&self, index: usize) -> u32 {
        match self.analysis.reconverge[index] {
            u32::MAX => u32::MAX,
            meet => self.start + meet,
        }
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
            "call" => self.call(i),
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
