//! Registers against the type in the opcode, for the families of instructions where one rule holds.

use super::super::ast::{Function, Instruction, Operand, Type};

/// What an operand must be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Want {
    Predicate,
    /// Registers of just this many bytes.
    Bytes(u32),
    /// As wide or wider: conversions, loads and stores use the low part.
    AtLeast(u32),
    Address,
    Label,
    BranchTable,
    Anything,
}

/// Every operand has the type of the opcode.
const UNIFORM: [&str; 27] = [
    "abs", "add", "and", "cos", "cvta", "div", "ex2", "fma", "lg2", "mad", "max", "min", "mov",
    "mul", "neg", "not", "or", "rcp", "rem", "rsqrt", "sin", "sqrt", "sub", "tanh", "xor",
    "copysign", "brev",
];

/// The error says which operand is wrong; an instruction of no family below passes.
pub(super) fn check(function: &Function, instruction: &Instruction) -> Result<(), String> {
    let types: Vec<Want> = instruction.modifiers.iter().filter_map(|m| of_type(m)).collect();
    let is = |modifier: &str| instruction.modifiers.iter().any(|m| m == modifier);
    let at_least = |want: Want| match want {
        Want::Bytes(bytes) => Want::AtLeast(bytes),
        other => other,
    };
    let wanted = |index: usize| match (instruction.opcode.as_str(), types.as_slice(), index) {
        ("bra", _, 0) => Want::Label,
        ("brx", _, 1) => Want::BranchTable,
        ("mul" | "mad", [Want::Bytes(bytes)], 0 | 3) if is("wide") => Want::Bytes(2 * bytes),
        // `mov.b64` packs what is in braces into one, `mov.v4.f32` moves each on its own.
        ("mov", [want], _) if ["v2", "v4", "v8"].into_iter().any(is) => at_least(*want),
        (opcode, [want], _) if UNIFORM.contains(&opcode) => *want,
        ("setp", [_], 0 | 3) | ("selp", [_], 3) => Want::Predicate,
        ("setp", [want], 1 | 2) | ("selp" | "shl" | "shr", [want], 0 | 1) => *want,
        ("selp", [want], 2) => *want,
        ("shl" | "shr", [_], 2) => Want::Bytes(4),
        ("cvt", [to, _], 0) => at_least(*to),
        ("cvt", [_, from], _) => at_least(*from),
        ("ld" | "ldu", [want], 0) | ("st", [want], 1) => at_least(*want),
        ("ld" | "ldu", _, 1) | ("st", _, 0) => Want::Address,
        _ => Want::Anything,
    };
    let packs = instruction.opcode == "mov";
    for (index, operand) in instruction.operands.iter().enumerate() {
        let fault = fault(function, operand, wanted(index), packs);
        if let Some(fault) = fault {
            let spelling = super::super::inventory::spelling(instruction);
            return Err(format!("{spelling}: operand {} {fault}", index + 1));
        }
    }
    Ok(())
}

/// What a modifier says of registers, if it is a type.
fn of_type(modifier: &str) -> Option<Want> {
    let bytes = match modifier {
        "tf32" | "u16x2" | "s16x2" | "u8x4" | "s8x4" | "e4m3x4" | "e5m2x4" | "e2m3x4"
        | "e3m2x4" => 4,
        "e4m3x2" | "e5m2x2" | "e2m3x2" | "e3m2x2" | "ue8m0x2" | "e2m1x4" => 2,
        "e2m1x2" => 1,
        "f32x2" => 8,
        _ => match Type::parse(modifier)? {
            Type::Pred => return Some(Want::Predicate),
            ty => ty.bytes(),
        },
    };
    Some(Want::Bytes(bytes))
}

/// What is wrong with the operand, or nothing.
fn fault(function: &Function, operand: &Operand, want: Want, packs: bool) -> Option<String> {
    let fits = match (operand, want) {
        (_, Want::Anything) => true,
        (Operand::Register(index) | Operand::NotPredicate(index), _) => {
            let register = &function.registers[*index];
            if fits(register.ty, want) {
                return None;
            }
            let (name, is) = (&register.name, describe(register.ty));
            return Some(format!("is `{name}`, {is}; expected {}", expectation(want)));
        }
        (Operand::Pair(first, second), Want::Predicate) => {
            let faults = [first, second].into_iter().find_map(|o| fault(function, o, want, packs));
            return faults;
        }
        (Operand::Vector(items), Want::Bytes(bytes)) if packs => {
            return packed(function, items, bytes);
        }
        (Operand::Vector(items), Want::AtLeast(_)) => {
            return items.iter().find_map(|item| fault(function, item, want, packs));
        }
        (Operand::Address(..) | Operand::TensorAddress(..), want) => want == Want::Address,
        (Operand::Label(_), want) => want == Want::Label,
        (Operand::BranchTable(_), want) => want == Want::BranchTable,
        (Operand::Integer(_) | Operand::Sink, _) => {
            matches!(want, Want::Bytes(_) | Want::AtLeast(_) | Want::Predicate)
        }
        (Operand::F32(_) | Operand::F64(_) | Operand::Special(_) | Operand::Symbol(..), _) => {
            matches!(want, Want::Bytes(_) | Want::AtLeast(_))
        }
        _ => false,
    };
    (!fits).then(|| format!("is {}; expected {}", kind(operand), expectation(want)))
}

/// `mov.b64 {%r1, %r2}, %rd1`: the parts make up the whole.
fn packed(function: &Function, items: &[Operand], bytes: u32) -> Option<String> {
    let part =
        bytes.checked_div(items.len() as u32).filter(|part| part * items.len() as u32 == bytes);
    let Some(part) = part else {
        return Some(format!("has {} parts, which cannot make {} bits", items.len(), 8 * bytes));
    };
    items.iter().find_map(|item| fault(function, item, Want::Bytes(part), false))
}

fn fits(ty: Type, want: Want) -> bool {
    match want {
        Want::Predicate => ty == Type::Pred,
        Want::Bytes(bytes) => ty.bytes() == bytes,
        Want::AtLeast(bytes) => ty.bytes() >= bytes,
        Want::Anything => true,
        Want::Address | Want::Label | Want::BranchTable => false,
    }
}

fn describe(ty: Type) -> String {
    match ty {
        Type::Pred => "a predicate".into(),
        ty => format!("a {}-bit register", 8 * ty.bytes()),
    }
}

fn expectation(want: Want) -> String {
    match want {
        Want::Predicate => "a predicate".into(),
        Want::Bytes(bytes) => format!("{} bits", 8 * bytes),
        Want::AtLeast(bytes) => format!("{} bits or more", 8 * bytes),
        Want::Address => "an address in brackets".into(),
        Want::Label => "a label".into(),
        Want::BranchTable => "the label of a .branchtargets list".into(),
        Want::Anything => "any operand".into(),
    }
}

fn kind(operand: &Operand) -> &'static str {
    match operand {
        Operand::Register(_) => "a register",
        Operand::NotPredicate(_) => "a negated predicate",
        Operand::Integer(_) => "an integer",
        Operand::F32(_) | Operand::F64(_) => "a floating-point number",
        Operand::Special(_) => "a special register",
        Operand::Symbol(..) => "a symbol",
        Operand::Address(..) | Operand::TensorAddress(..) => "an address",
        Operand::Vector(_) => "a list in braces",
        Operand::Pair(..) => "a pair",
        Operand::Sink => "`_`",
        Operand::Label(_) => "a label",
        Operand::BranchTable(_) => "a .branchtargets list",
        Operand::Tuple(_) => "a list in parentheses",
        Operand::Prototype(_) => "a .callprototype",
        Operand::CallTargets(_) => "a .calltargets list",
    }
}
