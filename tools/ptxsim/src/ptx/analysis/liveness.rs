//! From where to where each register must keep its value.

use super::super::ast::{Base, Function, Instruction, Operand};
use super::Block;

/// First and last instruction of a register's life, both included. Two registers with disjoint lives never
/// hold a value at the same place in any lane: lanes only change their own part of a slot.
pub(super) type Life = Option<(usize, usize)>;

/// Lives of all registers; none for one that no instruction names.
pub(super) fn lives(function: &Function, blocks: &[Block]) -> Vec<Life> {
    let mut lives: Vec<Life> = vec![None; function.registers.len()];
    // The last block that set a register for good, and that read it before it did.
    let mut set_in: Vec<Option<usize>> = vec![None; lives.len()];
    let mut read_in: Vec<Option<usize>> = vec![None; lives.len()];
    let mut kills: Vec<Vec<usize>> = vec![Vec::new(); lives.len()];
    let mut needs: Vec<Vec<usize>> = vec![Vec::new(); lives.len()];
    for (number, block) in blocks.iter().enumerate() {
        for (index, instruction) in
            function.body.iter().enumerate().take(block.end).skip(block.start)
        {
            // A guarded write leaves some lanes as they were.
            let is_partial = instruction.guard.is_some();
            let results = if is_partial { 0 } else { results(instruction) };
            let mut read = |register: usize| {
                extend(&mut lives[register], index);
                if set_in[register] != Some(number) && read_in[register] != Some(number) {
                    read_in[register] = Some(number);
                    needs[register].push(number);
                }
            };
            if let Some(guard) = instruction.guard {
                read(guard.register);
            }
            // Sources first: an instruction may set a register that it reads.
            for operand in &instruction.operands[results..] {
                each_register(operand, &mut read);
            }
            for operand in &instruction.operands[..results] {
                each_register(operand, &mut |register| {
                    extend(&mut lives[register], index);
                    if set_in[register] != Some(number) {
                        set_in[register] = Some(number);
                        kills[register].push(number);
                    }
                });
            }
        }
    }
    let predecessors = predecessors(blocks);
    let mut visited = vec![usize::MAX; blocks.len()];
    for (register, life) in lives.iter_mut().enumerate() {
        reach(
            register,
            life,
            std::mem::take(&mut needs[register]),
            &kills[register],
            blocks,
            &predecessors,
            &mut visited,
        );
    }
    lives
}

/// How many leading operands are results and nothing else. Those of an unknown instruction are taken for
/// the usual: one, unless it is an address.
pub(crate) fn results(instruction: &Instruction) -> usize {
    let reads_first = matches!(
        instruction.opcode.as_str(),
        "bar"
            | "barrier"
            | "brx"
            | "call"
            | "nanosleep"
            | "setmaxnreg"
            | "stackrestore"
            | "tcgen05"
            | "wgmma"
    );
    match instruction.operands.first() {
        Some(Operand::Register(_) | Operand::Vector(_) | Operand::Pair(..)) if !reads_first => 1,
        _ => 0,
    }
}

fn extend(life: &mut Life, index: usize) {
    let (first, last) = life.unwrap_or((index, index));
    *life = Some((first.min(index), last.max(index)));
}

pub(crate) fn each_register(operand: &Operand, found: &mut impl FnMut(usize)) {
    match operand {
        Operand::Register(index) | Operand::NotPredicate(index) => found(*index),
        Operand::Address(Base::Register(index), _) => found(*index),
        Operand::TensorAddress(base, coordinates) => {
            if let Base::Register(index) = base {
                found(*index);
            }
            coordinates.iter().for_each(|c| flat(c, found));
        }
        // The parser nests no deeper than this.
        Operand::Vector(items) | Operand::Tuple(items) => items.iter().for_each(|i| flat(i, found)),
        Operand::Pair(first, second) => {
            flat(first, found);
            flat(second, found);
        }
        _ => {}
    }
}

fn flat(operand: &Operand, found: &mut impl FnMut(usize)) {
    if let Operand::Register(index) | Operand::NotPredicate(index) = operand {
        found(*index);
    }
}

fn predecessors(blocks: &[Block]) -> Vec<Vec<usize>> {
    let mut predecessors = vec![Vec::new(); blocks.len()];
    for (number, block) in blocks.iter().enumerate() {
        for successor in &block.successors {
            predecessors[*successor].push(number);
        }
    }
    predecessors
}

/// Extends a life over every path from where the register is set to the blocks that need it.
fn reach(
    register: usize,
    life: &mut Life,
    mut needed: Vec<usize>,
    kills: &[usize],
    blocks: &[Block],
    predecessors: &[Vec<usize>],
    visited: &mut [usize],
) {
    needed.iter().for_each(|block| visited[*block] = register);
    while let Some(block) = needed.pop() {
        extend(life, blocks[block].start);
        for &before in &predecessors[block] {
            extend(life, blocks[before].end - 1);
            // Blocks are looked at in order, so `kills` is sorted.
            if kills.binary_search(&before).is_err() && visited[before] != register {
                visited[before] = register;
                needed.push(before);
            }
        }
    }
}
