//! Control flow on functions written for it, and post-dominators against their definition.

use proptest::prelude::*;
use ptxsim::ptx::analysis::{Analysis, analyse};
use ptxsim::ptx::ast::Function;
use ptxsim::ptx::parse;

fn function(body: &str) -> Function {
    let text = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k() {{\n\
         .reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<99>; .reg .b64 %d<9>;\n{body}\n}}\n"
    );
    parse(&text).unwrap_or_else(|error| panic!("{error}:\n{text}")).functions.remove(0)
}

fn analysis(body: &str) -> Analysis {
    analyse(&function(body)).unwrap()
}

/// Where the lanes of each diverging instruction meet.
fn meetings(body: &str) -> Vec<(usize, u32)> {
    let found = analysis(body).reconverge;
    found.into_iter().enumerate().filter(|(_, at)| *at != u32::MAX).collect()
}

#[test]
fn branches_meet_at_the_immediate_post_dominator() {
    let if_else = "@%p1 bra A; mov.u32 %r1, 1; bra B; A: mov.u32 %r1, 2; B: mov.u32 %r2, %r1; ret;";
    assert_eq!(meetings(if_else), [(0, 4)]);
    let nested = "@%p1 bra END; @!%p2 bra INNER; mov.u32 %r1, 1; INNER: mov.u32 %r1, 2; END: mov.u32 %r2, 3; ret;";
    assert_eq!(meetings(nested), [(0, 4), (1, 3)]);
    let repeat = "TOP: add.u32 %r1, %r1, 1; @%p1 bra TOP; mov.u32 %r2, %r1; ret;";
    assert_eq!(meetings(repeat), [(1, 2)]);
    let left_early = "TOP: @%p1 bra OUT; add.u32 %r1, %r1, 1; @%p2 bra OUT; bra TOP; OUT: mov.u32 %r2, %r1; ret;";
    assert_eq!(meetings(left_early), [(0, 4), (2, 4)]);
    let table = "T: .branchtargets A, B, A; brx.idx %r1, T; A: mov.u32 %r2, 1; bra C; B: mov.u32 %r2, 2; \
                 C: mov.u32 %r3, 1; ret;";
    assert_eq!(meetings(table), [(0, 4)]);
}

#[test]
fn uniform_flow_meets_nowhere() {
    assert_eq!(
        meetings("bra A; A: mov.u32 %r1, 1; @%p1 ret; @%p1 exit; @%p1 mov.u32 %r1, 2; ret;"),
        []
    );
}

#[test]
fn returning_lanes_keep_nobody_waiting() {
    // The lanes that stay meet at once: those that leave for a lone `ret` never come.
    let guard =
        "@%p1 bra END; mov.u32 %r1, 1; @%p2 bra A; mov.u32 %r1, 2; A: mov.u32 %r2, %r1; END: ret;";
    assert_eq!(meetings(guard), [(0, 1), (2, 4)]);
    let inside = "@%p1 bra B; @%p2 bra END; mov.u32 %r1, 1; B: mov.u32 %r2, 2; END: ret;";
    assert_eq!(meetings(inside), [(0, 3), (1, 2)]);
    // With work to do before the return, it is a path like any other.
    let work = "@%p1 bra END; mov.u32 %r1, 1; ret; END: mov.u32 %r2, 1; ret;";
    assert_eq!(meetings(work), [(0, 5)]);
}

#[test]
fn paths_without_an_end_are_no_obstacle() {
    assert_eq!(meetings("TOP: add.u32 %r1, %r1, 1; bra TOP;"), []);
    let either =
        "@%p1 bra SPIN; mov.u32 %r1, 1; ret; SPIN: @%p2 bra SPIN; nanosleep.u32 20; bra SPIN;";
    assert_eq!(meetings(either), [(0, 6), (3, 4)]);
    let trapped = "@%p1 bra BAD; bra GOOD; BAD: trap; GOOD: mov.u32 %r1, 1; ret;";
    assert_eq!(meetings(trapped), [(0, 3)]);
    assert_eq!(meetings("@%p1 bra END; mov.u32 %r1, 1; END:"), [(0, 1)]);
}

#[test]
fn calls_that_diverge_meet_behind_themselves() {
    let text = ".version 8.0 .target sm_80 .address_size 64 .func f() { ret; } .entry k() { .reg .pred %p; \
                .reg .b64 %d; call f; @%p call f; P: .callprototype _ (); call %d, (), P; ret; }";
    let module = parse(text).unwrap();
    assert_eq!(analyse(&module.functions[1]).unwrap().reconverge, [u32::MAX, 2, 3, u32::MAX]);
}

#[test]
fn registers_share_slots_when_their_lives_do_not_meet() {
    let function = function(
        "mov.u32 %r1, 1; add.u32 %r2, %r1, 1; add.u32 %r3, %r2, 1; add.u32 %r4, %r3, 1; st.global.u32 [%d1], %r4; ret;",
    );
    let analysis = analyse(&function).unwrap();
    let offset = |name: &str| {
        analysis.slots[function.registers.iter().position(|r| r.name == name).unwrap()].offset
    };
    assert_eq!(offset("%r1"), offset("%r3"));
    assert_ne!(offset("%r1"), offset("%r2"), "a result and a source of one instruction");
    assert_ne!(offset("%d1"), offset("%r1"), "read before it is written: alive from the start");
}

#[test]
fn a_guarded_write_ends_no_life() {
    // Lanes without %p1 still need the old %r1 in the last line.
    let function = function(
        "mov.u32 %r1, 1; mov.u32 %r2, 2; st.global.u32 [%d1], %r2; @%p1 mov.u32 %r1, 3; st.global.u32 [%d1], %r1; ret;",
    );
    let analysis = analyse(&function).unwrap();
    let slot = |name: &str| function.registers.iter().position(|r| r.name == name).unwrap();
    assert_ne!(analysis.slots[slot("%r1")].offset, analysis.slots[slot("%r2")].offset);
}

#[test]
fn what_a_loop_carries_lives_through_it() {
    let function = function(
        "mov.u32 %r1, 0; TOP: mov.u32 %r2, 5; add.u32 %r3, %r1, %r2; mov.u32 %r4, %r3; mov.u32 %r5, %r4; \
         mov.u32 %r1, %r3; @%p1 bra TOP; ret;",
    );
    let analysis = analyse(&function).unwrap();
    let of = |name: &str| {
        analysis.slots[function.registers.iter().position(|r| r.name == name).unwrap()].offset
    };
    for other in ["%r2", "%r3", "%r4", "%r5"] {
        assert_ne!(of("%r1"), of(other), "{other}");
    }
    assert_eq!(of("%r2"), of("%r4"));
}

#[test]
fn slots_have_the_size_of_their_type() {
    let function =
        function("mov.b16 %h1, 1; mov.b32 %r1, 1; mov.b64 %d1, 1; setp.eq.u32 %p1, %r1, 1; ret;");
    let analysis = analyse(&function).unwrap();
    let sizes: Vec<u8> = analysis.slots.iter().map(|s| s.lane_bytes).collect();
    assert_eq!(sizes, [2, 4, 8, 0]);
    assert!(analysis.slots.iter().all(|s| s.offset % 64 == 0));
}

/// A function of one block for each entry: how it ends, and where it goes.
fn graph(ends: &[(u8, usize, usize)]) -> String {
    let mut text = String::new();
    for (index, (kind, first, second)) in ends.iter().enumerate() {
        let (a, b) = (first % ends.len(), second % ends.len());
        text += &format!("L{index}: add.u32 %r1, %r1, {index};\n");
        text += &match kind % 6 {
            0 => String::new(),
            1 => format!("bra L{a};\n"),
            2 | 3 => format!("@%p1 bra L{a};\n"),
            4 => format!("T{index}: .branchtargets L{a}, L{b}; brx.idx %r1, T{index};\n"),
            _ => "ret;\n".to_owned(),
        };
    }
    text + "ret;"
}

/// Blocks that every path from `from` to the exit passes, without `from` itself.
fn post_dominators(edges: &[Vec<usize>], from: usize) -> Vec<usize> {
    let exit = edges.len() - 1;
    (0..exit)
        .filter(|without| *without != from && !reachable(edges, from, Some(*without))[exit])
        .collect()
}

fn reachable(edges: &[Vec<usize>], from: usize, without: Option<usize>) -> Vec<bool> {
    let mut seen = vec![false; edges.len()];
    let mut stack = vec![from];
    while let Some(block) = stack.pop() {
        if Some(block) != without && !std::mem::replace(&mut seen[block], true) {
            stack.extend(&edges[block]);
        }
    }
    seen
}

proptest! {
    #[test]
    fn post_dominators_are_those_of_the_definition(
        ends in prop::collection::vec((any::<u8>(), 0usize..12, 0usize..12), 1..12),
    ) {
        let function = function(&graph(&ends));
        let blocks = analyse(&function).unwrap().blocks;
        let lone_return = |b: usize| blocks[b].end == blocks[b].start + 1 && function.body[blocks[b].start].opcode == "ret";
        let mut edges: Vec<Vec<usize>> = blocks.iter().map(|block| {
            let kept: Vec<usize> = block.successors.iter().copied().filter(|b| !lone_return(*b)).collect();
            match (block.successors.is_empty(), kept.is_empty()) {
                (true, _) => vec![blocks.len()],
                (_, true) => block.successors.clone(),
                _ => kept,
            }
        }).collect();
        edges.push(Vec::new());
        for (index, block) in blocks.iter().enumerate() {
            let from_here = reachable(&edges, index, None);
            // Where some path has no end, any choice is as good.
            let all_end = (0..blocks.len()).all(|b| !from_here[b] || reachable(&edges, b, None)[blocks.len()]);
            if !all_end {
                continue;
            }
            let all = post_dominators(&edges, index);
            // The immediate one is post-dominated by all others.
            let immediate = all.iter().copied().find(|b| {
                let beyond = post_dominators(&edges, *b);
                all.iter().all(|other| other == b || beyond.contains(other))
            });
            prop_assert_eq!(block.post_dominator, immediate, "block {} of\n{}", index, graph(&ends));
        }
    }
}
