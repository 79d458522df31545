//! Loads, stores, address conversions and fences.

use super::{Lowering, has, types};
use crate::exec::access::{
    Generic, Global, LOCAL_WINDOW, Load, LoadParam, Local, SHARED_WINDOW, Shared, Space as Where,
    Store,
};
use crate::exec::address::{InSpace, SPACES};
use crate::exec::collective::Nothing;
use crate::exec::integer::{Add64, Move64, Sub64};
use crate::exec::op::{Access, Op};
use crate::exec::order::Fence;
use crate::exec::special::Fixed;
use crate::exec::words::{LoadHalves, LoadWords, StoreHalves, StoreWords};
use crate::ptx::Error;
use crate::ptx::ast::{Base, Instruction, Operand, Space, Type};

/// Modifiers of loads and stores that change nothing here: caching, eviction, ordering (memory is
/// sequentially consistent), scopes.
fn is_hint(modifier: &str) -> bool {
    let exact = [
        "weak",
        "volatile",
        "relaxed",
        "acquire",
        "release",
        "mmio",
        "cta",
        "cluster",
        "gpu",
        "sys",
        "nc",
        "ca",
        "cg",
        "cs",
        "lu",
        "cv",
        "wb",
        "wt",
        "unified",
        "param::entry",
        "shared::cta",
    ];
    exact.contains(&modifier) || modifier.starts_with("L1::") || modifier.starts_with("L2::")
}

/// Elements by modifier.
fn count(modifier: &str) -> Option<u8> {
    match modifier {
        "v2" => Some(2),
        "v4" => Some(4),
        "v8" => Some(8),
        _ => None,
    }
}

impl Lowering<'_> {
    /// `ld` and `st`.
    pub(super) fn load_or_store(&mut self, i: &Instruction) -> Result<Op, Error> {
        let is_load = i.opcode != "st";
        let (mut space, mut elements) = (None, 1);
        for modifier in &i.modifiers {
            match modifier.as_str() {
                "global" => space = Some(Space::Global),
                "shared" | "shared::cta" => space = Some(Space::Shared),
                "local" => space = Some(Space::Local),
                "const" => space = Some(Space::Const),
                "param" | "param::entry" => space = Some(Space::Param),
                m if Type::parse(m).is_some() || is_hint(m) => {}
                m => match count(m) {
                    Some(n) => elements = n,
                    None => return self.refuse(i, format!(".{m} is not supported")),
                },
            }
        }
        let [ty] = types(i)[..] else { return self.refuse(i, "expected one type") };
        if ty == Type::Pred {
            return self.unsupported(i);
        }
        let (data, address) = if is_load { (0, 1) } else { (1, 0) };
        let data = match self.operand(i, data)? {
            Operand::Vector(parts) => parts.clone(),
            other => vec![other.clone()],
        };
        if data.len() != usize::from(elements) {
            return self.refuse(i, format!("expected {elements} elements, found {}", data.len()));
        }
        let address = self.operand(i, address)?.clone();
        let (base, wide, offset) = self.address_of(i, &address)?;
        let bytes = ty.bytes() as u8;
        let mut registers = Vec::new();
        let mut register_bytes = None;
        for part in &data {
            let (at, found) = match part {
                Operand::Sink => (self.sink, register_bytes.unwrap_or(bytes.max(2))),
                Operand::Register(index) => self.register(*index),
                other if !is_load => self.any_source(i, other, bytes)?,
                other => return self.refuse(i, format!("{other:?} cannot be written")),
            };
            if found < bytes.max(2) || *register_bytes.get_or_insert(found) != found {
                return self
                    .refuse(i, format!("expected registers of one width, at least {bytes} bytes"));
            }
            registers.push(at);
        }
        let signed = matches!(ty, Type::S8 | Type::S16 | Type::S32 | Type::S64);
        let register_bytes = register_bytes.unwrap_or(4);
        let strong = ["volatile", "relaxed", "acquire", "release", "mmio"];
        let strong = strong.iter().any(|order| has(i, order));
        let releases = has(i, "release") && !has(i, "cta");
        let access =
            Access { bytes, count: elements, register_bytes, signed, wide, strong, releases };
        let words = (bytes, register_bytes) == (4, 4) && !strong;
        let halves = (bytes, register_bytes) == (2, 2) && !strong;
        let place = match space {
            Some(Space::Const) if !is_load => return self.unsupported(i),
            Some(Space::Shared | Space::Local | Space::Const | Space::Param)
                if i.opcode == "ldu" =>
            {
                return self.unsupported(i);
            }
            Some(Space::Shared) => Where::Shared,
            Some(Space::Global | Space::Const) => Where::Global,
            Some(Space::Local) => Where::Local,
            None => Where::Generic,
            Some(Space::Param) => match self.parameter(&address) {
                // The kernel's own are the same for all threads; those of calls are local variables.
                true if is_load => {
                    let mut op = self.op::<LoadParam>(self.sink, &[base]);
                    (op.immediate, op.access) = (offset, access);
                    op.list = self.list(registers);
                    return Ok(op);
                }
                true => return self.refuse(i, "a kernel's parameters cannot be written"),
                false => Where::Local,
            },
        };
        let source = &[base][..];
        let at = self.sink;
        let mut op = match (is_load, place, words, elements) {
            (true, Where::Global, true, 1) => self.op::<LoadWords<Global, 1>>(at, source),
            (true, Where::Global, true, 2) => self.op::<LoadWords<Global, 2>>(at, source),
            (true, Where::Global, true, 4) => self.op::<LoadWords<Global, 4>>(at, source),
            (true, Where::Shared, true, 1) => self.op::<LoadWords<Shared, 1>>(at, source),
            (true, Where::Shared, true, 2) => self.op::<LoadWords<Shared, 2>>(at, source),
            (true, Where::Shared, true, 4) => self.op::<LoadWords<Shared, 4>>(at, source),
            (true, Where::Global, _, 1) if halves => self.op::<LoadHalves<Global, 1>>(at, source),
            (true, Where::Global, _, 2) if halves => self.op::<LoadHalves<Global, 2>>(at, source),
            (true, Where::Global, _, 4) if halves => self.op::<LoadHalves<Global, 4>>(at, source),
            (true, Where::Global, ..) => self.op::<Load<Global>>(at, source),
            (true, Where::Shared, ..) => self.op::<Load<Shared>>(at, source),
            (true, Where::Local, ..) => self.op::<Load<Local>>(at, source),
            (true, Where::Generic, ..) => self.op::<Load<Generic>>(at, source),
            (false, Where::Global, true, 1) => self.op::<StoreWords<Global, 1>>(at, source),
            (false, Where::Global, true, 2) => self.op::<StoreWords<Global, 2>>(at, source),
            (false, Where::Global, true, 4) => self.op::<StoreWords<Global, 4>>(at, source),
            (false, Where::Shared, true, 1) => self.op::<StoreWords<Shared, 1>>(at, source),
            (false, Where::Shared, true, 2) => self.op::<StoreWords<Shared, 2>>(at, source),
            (false, Where::Shared, true, 4) => self.op::<StoreWords<Shared, 4>>(at, source),
            (false, Where::Global, _, 1) if halves => self.op::<StoreHalves<Global, 1>>(at, source),
            (false, Where::Global, _, 2) if halves => self.op::<StoreHalves<Global, 2>>(at, source),
            (false, Where::Global, _, 4) if halves => self.op::<StoreHalves<Global, 4>>(at, source),
            (false, Where::Global, ..) => self.op::<Store<Global>>(at, source),
            (false, Where::Shared, ..) => self.op::<Store<Shared>>(at, source),
            (false, Where::Local, ..) => self.op::<Store<Local>>(at, source),
            (false, Where::Generic, ..) => self.op::<Store<Generic>>(at, source),
        };
        (op.immediate, op.access) = (offset, access);
        op.list = self.list(registers);
        Ok(op)
    }

    /// Whether an address is within the kernel's own parameters.
    fn parameter(&self, address: &Operand) -> bool {
        match address {
            Operand::Address(Base::Symbol(name), _) => {
                self.symbols.get(name).is_some_and(|s| s.space == Space::Param)
            }
            _ => self.function.is_entry,
        }
    }

    /// What deals with addresses but accesses nothing.
    pub(super) fn address(&mut self, i: &Instruction) -> Result<Op, Error> {
        match i.opcode.as_str() {
            "cvta" => {
                let window = match () {
                    () if has(i, "shared") || has(i, "shared::cta") => SHARED_WINDOW,
                    () if has(i, "local") => LOCAL_WINDOW,
                    () if has(i, "global") || has(i, "const") || has(i, "param") => 0,
                    () => return self.unsupported(i),
                };
                let operand = self.operand(i, 1)?.clone();
                let (source, bytes) = self.any_source(i, &operand, 8)?;
                let result = self.result(i, self.operand(i, 0)?, bytes)?;
                if bytes != 8 {
                    return self.unsupported(i);
                }
                let window = self.fixed(Fixed::Bits(window), 8);
                Ok(if has(i, "to") {
                    self.op::<Sub64>(result, &[source, window])
                } else {
                    self.op::<Add64>(result, &[source, window])
                })
            }
            "isspacep" => {
                let number = match &i.modifiers[..] {
                    [space] => SPACES.iter().position(|s| s == space),
                    _ => None,
                };
                let Some(number) = number else { return self.unsupported(i) };
                let mut op = self.lanes::<InSpace>(i, 0, &[8])?;
                op.immediate = number as i64;
                Ok(op)
            }
            "membar" | "fence" if has(i, "gl") || has(i, "gpu") || has(i, "sys") => {
                Ok(self.op::<Fence>(self.sink, &[]))
            }
            "prefetch" | "prefetchu" | "membar" | "fence" => Ok(self.op::<Nothing>(self.sink, &[])),
            "createpolicy" => {
                let result = self.result(i, self.operand(i, 0)?, 8)?;
                let policy = self.fixed(Fixed::Bits(0), 8);
                Ok(self.op::<Move64>(result, &[policy]))
            }
            _ => self.unsupported(i),
        }
    }
}
