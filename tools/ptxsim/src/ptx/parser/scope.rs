//! Names inside a function: each `{ … }` has its own.

use std::collections::HashMap;

use super::super::ast::{Operand, Register, Type};

/// What a label-like name stands for.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Label(usize),
    BranchTable(usize),
    Prototype(usize),
    CallTargets(Vec<String>),
}

impl Target {
    pub fn operand(&self) -> Operand {
        match self {
            Target::Label(index) => Operand::Label(*index),
            Target::BranchTable(index) => Operand::BranchTable(*index),
            Target::Prototype(index) => Operand::Prototype(*index),
            Target::CallTargets(names) => Operand::CallTargets(names.clone()),
        }
    }
}

/// A use of a name that may be a label further on.
pub(super) struct Use {
    pub name: String,
    pub line: u32,
    pub place: Place,
}

pub(super) enum Place {
    Operand { instruction: usize, operand: usize },
    BranchTable { table: usize, entry: usize },
}

/// `.reg .b32 %r<100>`: registers come into being when they are used.
struct Range {
    ty: Type,
    count: u64,
}

/// The names that one pair of braces declares.
#[derive(Default)]
pub(super) struct Scope {
    registers: HashMap<String, usize>,
    /// Registers of ranges, as far as they are used.
    used: HashMap<String, usize>,
    ranges: HashMap<String, Range>,
    /// The name in the text and the one made unique in the function.
    variables: HashMap<String, String>,
    pub targets: HashMap<String, Target>,
    pub uses: Vec<Use>,
}

impl Scope {
    /// Whether the name is taken here, as any kind of thing.
    fn holds(&self, name: &str) -> bool {
        self.registers.contains_key(name)
            || self.variables.contains_key(name)
            || self.targets.contains_key(name)
            || self.range(name).is_some()
    }

    fn range(&self, name: &str) -> Option<Type> {
        // A count has ten digits at most.
        let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count().min(10);
        (1..=digits).find_map(|n| {
            let (prefix, number) = name.split_at(name.len() - n);
            let range = self.ranges.get(prefix)?;
            let canonical = n == 1 || !number.starts_with('0');
            (canonical && number.parse::<u64>().is_ok_and(|i| i < range.count)).then_some(range.ty)
        })
    }
}

/// The scopes around a place, the outermost first.
pub(super) struct Scopes {
    pub stack: Vec<Scope>,
}

impl Scopes {
    pub fn innermost(&mut self) -> Option<&mut Scope> {
        self.stack.last_mut()
    }

    /// Whether the innermost scope declares the name already.
    pub fn is_taken(&self, name: &str) -> bool {
        self.stack.last().is_some_and(|scope| scope.holds(name))
    }

    /// `name<count>`; false when one of its registers is declared already.
    pub fn add_range(&mut self, prefix: &str, ty: Type, count: u64) -> bool {
        let Some(scope) = self.stack.last_mut() else { return false };
        let in_range = |name: &String| {
            let number = name.strip_prefix(prefix).and_then(|n| n.parse::<u64>().ok());
            number.is_some_and(|n| n < count)
        };
        let is_free = !scope.registers.keys().any(in_range);
        is_free && scope.ranges.insert(prefix.to_owned(), Range { ty, count }).is_none()
    }

    pub fn add_register(&mut self, name: &str, ty: Type, registers: &mut Vec<Register>) {
        if let Some(scope) = self.stack.last_mut() {
            scope.registers.insert(name.to_owned(), registers.len());
            registers.push(Register { name: name.to_owned(), ty });
        }
    }

    pub fn add_variable(&mut self, name: &str, unique: String) {
        if let Some(scope) = self.stack.last_mut() {
            scope.variables.insert(name.to_owned(), unique);
        }
    }

    /// The register or variable of this name, of the innermost scope that has one.
    pub fn find(&mut self, name: &str, registers: &mut Vec<Register>) -> Option<Found> {
        for scope in self.stack.iter_mut().rev() {
            if let Some(&index) = scope.registers.get(name).or(scope.used.get(name)) {
                return Some(Found::Register(index));
            }
            if let Some(unique) = scope.variables.get(name) {
                return Some(Found::Variable(unique.clone()));
            }
            if let Some(target) = scope.targets.get(name) {
                return Some(Found::Target(target.clone()));
            }
            if let Some(ty) = scope.range(name) {
                let index = registers.len();
                scope.used.insert(name.to_owned(), index);
                registers.push(Register { name: name.to_owned(), ty });
                return Some(Found::Register(index));
            }
        }
        None
    }
}

pub(super) enum Found {
    Register(usize),
    /// Its unique name.
    Variable(String),
    Target(Target),
}
