//! Operands as offsets into the register file.

use super::Lowering;
use crate::exec::special::{Fixed, is_fixed};
use crate::ptx::Error;
use crate::ptx::ast::{Base, Instruction, Operand, Space};

impl Lowering<'_> {
    /// Operand `n` of an instruction.
    pub(super) fn operand<'i>(&self, i: &'i Instruction, n: usize) -> Result<&'i Operand, Error> {
        match i.operands.get(n) {
            Some(operand) => Ok(operand),
            None => self.refuse(
                i,
                format!("expected at least {} operands, found {}", n + 1, i.operands.len()),
            ),
        }
    }

    /// Where a register lies, and its bytes a lane (0: a predicate).
    pub(super) fn register(&self, index: usize) -> (u32, u8) {
        let slot = self.analysis.slots[index];
        (slot.offset, slot.lane_bytes)
    }

    /// A source of `bytes` a lane.
    pub(super) fn source(
        &mut self,
        i: &Instruction,
        operand: &Operand,
        bytes: u8,
    ) -> Result<u32, Error> {
        let fixed = match operand {
            Operand::Register(index) => {
                let (at, found) = self.register(*index);
                // Narrow operands may lie in wider registers, whose low bytes are not where a narrow
                // register's are; conversions and memory accesses ask for the register's own width.
                return if found == bytes {
                    Ok(at)
                } else {
                    let name = &self.function.registers[*index].name;
                    self.refuse(
                        i,
                        format!("expected a register of {bytes} bytes, found {name} of {found}"),
                    )
                };
            }
            Operand::Integer(value) => Fixed::Bits(*value as u64),
            Operand::F32(bits) => Fixed::Bits(u64::from(*bits)),
            Operand::F64(bits) if bytes == 4 => {
                Fixed::Bits(u64::from((f64::from_bits(*bits) as f32).to_bits()))
            }
            Operand::F64(bits) => Fixed::Bits(*bits),
            Operand::Special(special) if is_fixed(special) => Fixed::Special(special.clone()),
            Operand::Symbol(name, offset) => self.address_constant(i, name, *offset)?,
            other => return self.refuse(i, format!("{other:?} cannot be read here")),
        };
        Ok(self.fixed(fixed, bytes))
    }

    /// A source of whatever width its register has; immediates take `bytes`.
    pub(super) fn any_source(
        &mut self,
        i: &Instruction,
        operand: &Operand,
        bytes: u8,
    ) -> Result<(u32, u8), Error> {
        match operand {
            Operand::Register(index) => Ok(self.register(*index)),
            _ => Ok((self.source(i, operand, bytes)?, bytes.max(2))),
        }
    }

    /// The address of a variable plus an offset; of a local one it depends on the frame.
    fn address_constant(&self, i: &Instruction, name: &str, offset: i64) -> Result<Fixed, Error> {
        let Some(symbol) = self.symbols.get(name) else {
            return self.refuse(i, format!("the address of {name} is not supported here"));
        };
        let at = symbol.at.wrapping_add_signed(offset);
        Ok(if symbol.space == Space::Local { Fixed::Local(at) } else { Fixed::Bits(at) })
    }

    /// A result of `bytes` a lane; `_` goes to the sink.
    pub(super) fn result(
        &self,
        i: &Instruction,
        operand: &Operand,
        bytes: u8,
    ) -> Result<u32, Error> {
        match operand {
            Operand::Sink => Ok(self.sink),
            Operand::Register(index) => {
                let (at, found) = self.register(*index);
                if found == bytes {
                    return Ok(at);
                }
                let name = &self.function.registers[*index].name;
                self.refuse(
                    i,
                    format!("expected a register of {bytes} bytes, found {name} of {found}"),
                )
            }
            other => self.refuse(i, format!("{other:?} cannot be written")),
        }
    }

    /// A result, and the predicate beside it (`d|p`).
    pub(super) fn pair(
        &self,
        i: &Instruction,
        operand: &Operand,
        bytes: u8,
    ) -> Result<(u32, u32), Error> {
        match operand {
            Operand::Pair(d, p) => Ok((self.result(i, d, bytes)?, self.result(i, p, 0)?)),
            _ => Ok((self.result(i, operand, bytes)?, self.sink)),
        }
    }

    /// A predicate source, and whether it is negated.
    pub(super) fn predicate(
        &mut self,
        i: &Instruction,
        operand: &Operand,
    ) -> Result<(u32, bool), Error> {
        match operand {
            Operand::NotPredicate(index) => Ok((self.register(*index).0, true)),
            Operand::Integer(value) => {
                // All lanes, or none: a register that holds just that.
                Ok((self.fixed(Fixed::Bits(if *value == 0 { 0 } else { u64::MAX }), 4), false))
            }
            _ => Ok((self.source(i, operand, 0)?, false)),
        }
    }

    /// `[base + offset]`: the register that holds the base, whether it has 64 bits, and the offset.
    pub(super) fn address_of(
        &mut self,
        i: &Instruction,
        operand: &Operand,
    ) -> Result<(u32, bool, i64), Error> {
        let Operand::Address(base, offset) = operand else {
            return self.refuse(i, format!("expected an address, found {operand:?}"));
        };
        match base {
            Base::Register(index) => match self.register(*index) {
                (at, bytes @ (4 | 8)) => Ok((at, bytes == 8, *offset)),
                (_, bytes) => {
                    self.refuse(i, format!("expected an address of 4 or 8 bytes, found {bytes}"))
                }
            },
            Base::Symbol(name) => {
                let at = self.address_constant(i, name, 0)?;
                Ok((self.fixed(at, 8), true, *offset))
            }
            Base::Absolute => Ok((self.fixed(Fixed::Bits(0), 8), true, *offset)),
        }
    }
}
