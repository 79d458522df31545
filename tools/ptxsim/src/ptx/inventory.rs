//! Which instructions a module has.

use std::collections::BTreeMap;

use super::ast::{Instruction, Module};

/// The opcode as the text spells it: `mad.lo.s32`.
pub fn spelling(instruction: &Instruction) -> String {
    let mut text = instruction.opcode.clone();
    for modifier in &instruction.modifiers {
        text.push('.');
        text.push_str(modifier);
    }
    text
}

/// Every spelling in the module and how often it occurs in its text.
pub fn opcodes(module: &Module) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for instruction in module.functions.iter().flat_map(|f| &f.body) {
        *counts.entry(spelling(instruction)).or_insert(0) += 1;
    }
    counts
}
