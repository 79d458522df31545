//! Which instructions of a module the executor knows: for the table that is printed, and to see at once
//! all that a new kernel lacks.

use super::call::reachable;
use super::{Code, Lowering, Symbol, layout, spelling};
use crate::exec::lanes::Level;
use crate::memory::Memory;
use crate::ptx::{Error, ast::Module};
use std::collections::BTreeMap;

/// Spellings of the instructions of all functions, how often each occurs, and why it is refused,
/// if it is.
pub fn coverage(
    module: &Module,
    memory: &Memory,
) -> Result<BTreeMap<String, (usize, Option<String>)>, Error> {
    let globals: BTreeMap<String, Symbol> = super::globals(module, memory)?.0;
    let mut table = BTreeMap::new();
    for function in module.functions.iter().filter(|f| f.has_body) {
        let callees = reachable(module, function);
        let layouts = layout(module, function, &callees, &globals);
        let mut lowering =
            Lowering::new(function, &callees, &layouts[0], Level::Portable, Code::default())?;
        for (index, instruction) in function.body.iter().enumerate() {
            let refused = lowering.instruction(index, instruction).err().map(|e| e.to_string());
            let entry: &mut (usize, Option<String>) =
                table.entry(spelling(instruction)).or_default();
            entry.0 += 1;
            entry.1 = entry.1.take().or(refused);
        }
    }
    Ok(table)
}
