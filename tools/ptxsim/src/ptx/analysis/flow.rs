//! Basic blocks and where diverged lanes meet again.

use super::super::Error;
use super::super::ast::{Function, Instruction, Operand};
use super::Block;

/// The blocks in the order of the text, with successors and post-dominators.
pub(super) fn blocks(function: &Function) -> Result<Vec<Block>, Error> {
    let body = &function.body;
    let mut starts = vec![false; body.len() + 1];
    starts[0] = true;
    for (_, at) in &function.labels {
        starts[*at] = true;
    }
    for (index, instruction) in body.iter().enumerate() {
        starts[index + 1] |= is_branch(instruction) || leaves(instruction);
    }
    let starts: Vec<usize> = (0..body.len()).filter(|index| starts[*index]).collect();
    let ends = starts.iter().skip(1).copied().chain([body.len()]);
    let mut blocks: Vec<Block> = starts
        .iter()
        .zip(ends)
        .map(|(&start, end)| Block { start, end, successors: Vec::new(), post_dominator: None })
        .collect();
    let block_at = |index: usize| starts.partition_point(|start| *start <= index) - 1;
    for block in &mut blocks {
        let last = &body[block.end - 1];
        let mut targets = targets(function, last)?;
        let goes_on = !leaves(last) && (!is_branch(last) || last.guard.is_some());
        if goes_on {
            targets.push(block.end);
        }
        // A label may stand at the very end: falling off it is leaving.
        targets.retain(|target| *target < body.len());
        block.successors = targets.into_iter().map(block_at).collect();
        block.successors.sort_unstable();
        block.successors.dedup();
    }
    let immediate = post_dominators(body, &blocks);
    for (block, post_dominator) in blocks.iter_mut().zip(immediate) {
        block.post_dominator = post_dominator;
    }
    Ok(blocks)
}

/// Per instruction as [`super::Analysis::reconverge`] has it.
pub(super) fn reconvergence(function: &Function, blocks: &[Block]) -> Vec<u32> {
    let body = &function.body;
    let mut points = vec![u32::MAX; body.len()];
    for (index, call) in body.iter().enumerate().filter(|(_, i)| i.opcode == "call") {
        if call.guard.is_some() || call.operands.iter().any(|o| matches!(o, Operand::Register(_))) {
            points[index] = index as u32 + 1;
        }
    }
    for block in blocks {
        let last = &body[block.end - 1];
        if last.opcode == "brx" || (last.opcode == "bra" && last.guard.is_some()) {
            let meet = block.post_dominator.map_or(body.len(), |b| blocks[b].start);
            points[block.end - 1] = meet as u32;
        }
    }
    points
}

fn is_branch(instruction: &Instruction) -> bool {
    matches!(instruction.opcode.as_str(), "bra" | "brx")
}

/// Whether every lane that comes here is done. `trap` is not meant: it ends the launch, and taking it for
/// an exit would tear other lanes apart until then.
fn leaves(instruction: &Instruction) -> bool {
    matches!(instruction.opcode.as_str(), "ret" | "exit") && instruction.guard.is_none()
}

/// Instructions that a branch may go to.
fn targets(function: &Function, branch: &Instruction) -> Result<Vec<usize>, Error> {
    if !is_branch(branch) {
        return Ok(Vec::new());
    }
    let labels: &[usize] = match branch.operands.as_slice() {
        [Operand::Label(label)] if branch.opcode == "bra" => std::slice::from_ref(label),
        [_, Operand::BranchTable(table)] if branch.opcode == "brx" => {
            &function.branch_tables[*table].1
        }
        _ => {
            let message = format!(
                "expected `bra label` or `brx.idx register, table`, found `{}` with \
                                   {} operands",
                branch.opcode,
                branch.operands.len()
            );
            return Err(Error { line: branch.at.ptx_line, message });
        }
    };
    Ok(labels.iter().map(|label| function.labels[*label].1).collect())
}

/// The immediate post-dominator of each block, by Cooper, Harvey and Kennedy's iteration on the reversed
/// graph; none stands for the exit.
fn post_dominators(body: &[Instruction], blocks: &[Block]) -> Vec<Option<usize>> {
    let exit = blocks.len();
    let next = lasting_successors(body, blocks);
    let (order, previous) = toward_entry(&next);
    let mut position = vec![0; exit + 1];
    for (place, block) in order.iter().enumerate() {
        position[*block] = place;
    }
    // Indexed by block; the exit is its own.
    let mut immediate: Vec<Option<usize>> = vec![None; exit + 1];
    immediate[exit] = Some(exit);
    let mut changed = true;
    while changed {
        changed = false;
        for &block in order.iter().skip(1) {
            let known = previous[block].iter().filter(|n| immediate[**n].is_some()).copied();
            let found = known.reduce(|a, b| meet(a, b, &immediate, &position));
            if found.is_some() && found != immediate[block] {
                immediate[block] = found;
                changed = true;
            }
        }
    }
    immediate.into_iter().take(exit).map(|found| found.filter(|block| *block != exit)).collect()
}

/// The nearest block on the chains of both.
fn meet(mut a: usize, mut b: usize, immediate: &[Option<usize>], position: &[usize]) -> usize {
    while a != b {
        // The one farther from the exit climbs; the exit has position 0 and is on every chain.
        let farther = if position[a] > position[b] { &mut a } else { &mut b };
        *farther = immediate[*farther].unwrap_or(immediate.len() - 1);
    }
    a
}

/// Successors with `blocks.len()` for the exit. A conditional branch to a lone return loses that edge:
/// those lanes meet nobody.
fn lasting_successors(body: &[Instruction], blocks: &[Block]) -> Vec<Vec<usize>> {
    let is_return = |block: &Block| block.end == block.start + 1 && leaves(&body[block.start]);
    let kept = blocks.iter().map(|block| {
        let lasting: Vec<usize> =
            block.successors.iter().copied().filter(|next| !is_return(&blocks[*next])).collect();
        match (block.successors.is_empty(), lasting.is_empty()) {
            (true, _) => vec![blocks.len()],
            (false, true) => block.successors.clone(),
            (false, false) => lasting,
        }
    });
    kept.collect()
}

/// The exit and all blocks in reverse postorder of the reversed graph, and the edges forward from each
/// block as that order needs them. Blocks that never reach the exit, such as an endless loop, get an edge
/// to it from the last of them, as often as it takes.
fn toward_entry(next: &[Vec<usize>]) -> (Vec<usize>, Vec<Vec<usize>>) {
    let exit = next.len();
    let mut forward = next.to_vec();
    forward.push(Vec::new());
    let mut backward: Vec<Vec<usize>> = vec![Vec::new(); exit + 1];
    for (block, successors) in next.iter().enumerate() {
        for successor in successors {
            backward[*successor].push(block);
        }
    }
    let mut seen = vec![false; exit + 1];
    let mut postorder = Vec::with_capacity(exit + 1);
    seen[exit] = true;
    walk(exit, &backward, &mut seen, &mut postorder);
    // The exit itself finishes last, behind what the added edges bring.
    postorder.pop();
    for block in (0..exit).rev() {
        if !seen[block] {
            seen[block] = true;
            forward[block].push(exit);
            walk(block, &backward, &mut seen, &mut postorder);
        }
    }
    postorder.push(exit);
    postorder.reverse();
    (postorder, forward)
}

/// Depth first without recursion: a block is put down when all before it are.
fn walk(start: usize, edges: &[Vec<usize>], seen: &mut [bool], postorder: &mut Vec<usize>) {
    let mut stack = vec![(start, 0)];
    while let Some((block, edge)) = stack.last_mut() {
        match edges[*block].get(*edge) {
            Some(&next) => {
                *edge += 1;
                if !seen[next] {
                    seen[next] = true;
                    stack.push((next, 0));
                }
            }
            None => {
                postorder.push(*block);
                stack.pop();
            }
        }
    }
}
