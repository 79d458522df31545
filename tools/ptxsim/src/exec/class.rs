//! What kind of work an instruction is: known when it is lowered, so that a launch counts executions per
//! instruction and adds them up by class afterwards.

use serde::{Deserialize, Serialize};

use super::access::Space;
use crate::ptx::ast::{Instruction, Type};

/// Classes of instructions, in the order of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Integer,
    F32,
    F64,
    /// f16 and bf16, packed or not.
    Half,
    Conversion,
    /// Approximations: reciprocals, roots, exponentials, logarithms, sine, tanh, float division.
    Special,
    /// `mov`, `cvta` and `ld.param`: mostly operands of other instructions in machine code.
    Move,
    Control,
    /// Shuffles, votes, matches and reductions of a warp.
    Collective,
    Barrier,
    GlobalLoad,
    GlobalStore,
    SharedLoad,
    SharedStore,
    /// Through generic addresses, whatever they point to.
    GenericLoad,
    GenericStore,
    Local,
    Constant,
    Atomic,
    /// `cp.async`, its commits and waits.
    AsyncCopy,
    /// `ldmatrix` and `stmatrix`.
    Matrix,
    Tensor,
    Other,
}

/// Memory that an instruction touches at addresses that only its execution knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    Nothing,
    Load(Space),
    Store(Space),
    Atomic(Space),
    /// Rows of so many 8×8 matrices, 16 bytes each.
    Matrix(u8),
    /// From global to shared memory.
    Copy,
}

/// A tensor-core instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// `m16n8k16`.
    pub shape: String,
    /// Elements of A (and B, which may differ in sign or exponent only).
    pub operands: String,
    pub accumulator: String,
    /// Multiply-adds of one instruction.
    pub macs: u64,
}

/// What is known of an instruction before it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Kind {
    pub class: Class,
    pub touch: Touch,
    pub tensor: Option<Shape>,
    /// What it adds to the time that a warp waits; see `latency`.
    pub wait: super::latency::Time,
    /// That is for a strong read, as who waits for another block repeats it.
    pub polls: bool,
}

impl Kind {
    /// The return that stands behind every function.
    pub fn control() -> Self {
        let wait = super::latency::Time::default();
        Kind { class: Class::Control, touch: Touch::Nothing, tensor: None, wait, polls: false }
    }
}

/// Class, touched memory and shape of an instruction.
pub fn classify(i: &Instruction) -> Kind {
    let is = |modifier: &str| i.modifiers.iter().any(|m| m == modifier);
    let space = || match () {
        () if is("shared") || is("shared::cta") => Space::Shared,
        () if is("global") => Space::Global,
        () if is("local") => Space::Local,
        () => Space::Generic,
    };
    let (class, touch) = match i.opcode.as_str() {
        "ld" | "ldu" if is("param") || is("param::entry") => (Class::Move, Touch::Nothing),
        "ld" | "ldu" if is("const") => (Class::Constant, Touch::Nothing),
        "st" if is("param") => (Class::Move, Touch::Nothing),
        "ld" | "ldu" => {
            let class = match space() {
                Space::Shared => Class::SharedLoad,
                Space::Global => Class::GlobalLoad,
                Space::Local => Class::Local,
                Space::Generic => Class::GenericLoad,
            };
            (class, Touch::Load(space()))
        }
        "st" => {
            let class = match space() {
                Space::Shared => Class::SharedStore,
                Space::Global => Class::GlobalStore,
                Space::Local => Class::Local,
                Space::Generic => Class::GenericStore,
            };
            (class, Touch::Store(space()))
        }
        "atom" | "red" => (Class::Atomic, Touch::Atomic(space())),
        "cp" if is("async") && is("global") => (Class::AsyncCopy, Touch::Copy),
        "cp" => (Class::AsyncCopy, Touch::Nothing),
        "ldmatrix" | "stmatrix" => {
            let count = [("x4", 4), ("x2", 2)].iter().find(|(m, _)| is(m)).map_or(1, |c| c.1);
            (Class::Matrix, Touch::Matrix(count))
        }
        "mma" => (Class::Tensor, Touch::Nothing),
        "bar" if is("warp") => (Class::Collective, Touch::Nothing),
        "bar" | "barrier" | "mbarrier" => (Class::Barrier, Touch::Nothing),
        "shfl" | "vote" | "match" | "redux" | "activemask" | "elect" => {
            (Class::Collective, Touch::Nothing)
        }
        "bra" | "brx" | "ret" | "exit" | "call" | "trap" => (Class::Control, Touch::Nothing),
        "mov" | "cvta" | "pragma" => (Class::Move, Touch::Nothing),
        "cvt" => (Class::Conversion, Touch::Nothing),
        "membar" | "fence" | "griddepcontrol" | "nanosleep" | "prefetch" | "prefetchu"
        | "createpolicy" | "isspacep" => (Class::Other, Touch::Nothing),
        _ => (arithmetic(i), Touch::Nothing),
    };
    let tensor = (i.opcode == "mma").then(|| shape(i)).flatten();
    Kind { class, touch, tensor, wait: super::latency::Time::default(), polls: false }
}

fn arithmetic(i: &Instruction) -> Class {
    let ty = i.modifiers.iter().find_map(|m| Type::parse(m));
    match (i.opcode.as_str(), ty) {
        (_, Some(Type::F64)) => Class::F64,
        ("ex2" | "lg2" | "sin" | "cos" | "rsqrt" | "rcp" | "sqrt" | "tanh", _) => Class::Special,
        ("div", Some(Type::F32)) => Class::Special,
        ("selp" | "slct", _) => Class::Integer,
        (_, Some(Type::F32)) => Class::F32,
        (_, Some(Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2)) => Class::Half,
        _ => Class::Integer,
    }
}

/// The shape of an `mma`: `m16n8k16` gives its multiply-adds, the last four modifiers are D, A, B, C.
fn shape(i: &Instruction) -> Option<Shape> {
    let shape = i.modifiers.iter().find(|m| m.starts_with('m') && m.contains('k'))?;
    let (m, rest) = shape[1..].split_once('n')?;
    let (n, k) = rest.split_once('k')?;
    let macs = [m, n, k].iter().map(|x| x.parse::<u64>().ok()).product::<Option<u64>>()?;
    let [.., d, a, _, _] = &i.modifiers[..] else { return None };
    Some(Shape { shape: shape.clone(), operands: a.clone(), accumulator: d.clone(), macs })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class_of(text: &str) -> Kind {
        let mut parts = text.split('.').map(str::to_owned);
        let opcode = parts.next().unwrap();
        classify(&Instruction {
            opcode,
            modifiers: parts.collect(),
            guard: None,
            operands: Vec::new(),
            at: Default::default(),
        })
    }

    #[test]
    fn classes_follow_opcode_and_type() {
        for (text, class) in [
            ("add.s32", Class::Integer),
            ("mul.wide.u32", Class::Integer),
            ("setp.lt.f32", Class::F32),
            ("and.pred", Class::Integer),
            ("selp.f32", Class::Integer),
            ("fma.rn.f32", Class::F32),
            ("fma.rn.f64", Class::F64),
            ("rcp.rn.f64", Class::F64),
            ("fma.rn.bf16x2", Class::Half),
            ("ex2.approx.ftz.f32", Class::Special),
            ("div.full.f32", Class::Special),
            ("div.s32", Class::Integer),
            ("cvt.rn.bf16x2.f32", Class::Conversion),
            ("ld.param.u64", Class::Move),
            ("ld.global.nc.v4.u32", Class::GlobalLoad),
            ("st.shared.f32", Class::SharedStore),
            ("ld.u32", Class::GenericLoad),
            ("red.global.add.f32", Class::Atomic),
            ("cp.async.wait_group", Class::AsyncCopy),
            ("bar.warp.sync", Class::Collective),
            ("bar.sync", Class::Barrier),
            ("shfl.sync.bfly.b32", Class::Collective),
            ("bra.uni", Class::Control),
        ] {
            assert_eq!(class_of(text).class, class, "{text}");
        }
    }

    #[test]
    fn shapes_give_multiply_adds() {
        let kind = class_of("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32");
        let expected = Shape {
            shape: "m16n8k16".into(),
            operands: "bf16".into(),
            accumulator: "f32".into(),
            macs: 2048, // 16 · 8 · 16
        };
        assert_eq!(kind.tensor, Some(expected));
        assert_eq!(class_of("ldmatrix.sync.aligned.m8n8.x4.shared.b16").touch, Touch::Matrix(4));
    }
}
