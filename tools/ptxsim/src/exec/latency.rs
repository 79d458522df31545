//! How long one warp must wait for its own results, from the text alone: for each instruction, what it
//! adds to the wait of a warp that executes it.
//!
//! A warp issues in order, but the compiler may place the instructions of a basic block as it likes. So
//! a block's wait is taken as the longest chain of results up to its last issue, as if all else were
//! overlapped: a lower bound. What a block leaves pending is carried to the next in the text if that can
//! follow it. Round trips to memory are kept apart from clocks, since only the device, and how much of
//! the data is near, say how long they take.

use super::class::{Class, Kind};
use crate::ptx::analysis::{each_register, results};
use crate::ptx::ast::{Function, Instruction, Operand};

/// Round trips to global memory, and clocks besides.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Time {
    pub trips: f64,
    pub clocks: f64,
}

/// Clocks that a round trip counts for when two waits are compared.
const TRIP: f64 = 400.0;

impl Time {
    fn size(self) -> f64 {
        self.trips * TRIP + self.clocks
    }

    fn max(self, other: Time) -> Time {
        if other.size() > self.size() { other } else { self }
    }

    fn plus(self, other: Time) -> Time {
        Time { trips: self.trips + other.trips, clocks: self.clocks + other.clocks }
    }

    fn minus(self, other: Time) -> Time {
        Time { trips: self.trips - other.trips, clocks: self.clocks - other.clocks }
    }
}

/// Until the result of an instruction is there. Clocks of Ampere by public microbenchmarks; later
/// devices differ by a few.
fn latency(kind: &Kind) -> Time {
    let clocks = match kind.class {
        Class::GlobalLoad | Class::GenericLoad | Class::Atomic => {
            return Time { trips: 1.0, clocks: 0.0 };
        }
        Class::Integer | Class::F32 | Class::Half | Class::Conversion => 4.0,
        Class::F64 => 8.0,
        Class::Special => 18.0,
        Class::SharedLoad | Class::Collective | Class::Matrix => 23.0,
        Class::Local => 30.0,
        Class::Tensor => match &kind.tensor {
            Some(shape) if shape.macs < 2048 => 18.0,
            _ => 24.0,
        },
        _ => 0.0,
    };
    Time { trips: 0.0, clocks }
}

/// Fills in [`Kind::wait`] of a function's instructions.
pub fn analyse(function: &Function, kinds: &mut [Kind]) {
    let mut starts = vec![false; function.body.len() + 1];
    for &(_, at) in &function.labels {
        starts[at] = true;
    }
    // When each register is there, from the start of the block; and the last issue so far.
    let mut ready = vec![Time::default(); function.registers.len()];
    // Of these, what strong reads bring.
    let mut polled = vec![false; function.registers.len()];
    let mut now = Time::default();
    for (index, i) in function.body.iter().enumerate() {
        let before = index.checked_sub(1).map(|b| (&function.body[b], kinds[b].class));
        let ends = before.is_some_and(|(_, c)| matches!(c, Class::Control | Class::Barrier));
        if starts[index] || ends {
            let leaves = before.is_some_and(|(b, c)| c == Class::Control && b.guard.is_none());
            for time in &mut ready {
                let rest = time.minus(now);
                *time = if leaves || rest.size() <= 0.0 { Time::default() } else { rest };
            }
            now = Time::default();
        }
        let results = results(i);
        let mut issue = Time::default();
        let mut polls = false;
        let mut read = |register: usize| {
            issue = issue.max(ready[register]);
            polls |= polled[register];
        };
        if let Some(guard) = i.guard {
            read(guard.register);
        }
        i.operands[results..].iter().for_each(|operand| each_register(operand, &mut read));
        let then = now.max(issue).plus(group_wait(i));
        kinds[index].wait = then.minus(now);
        kinds[index].polls = polls;
        now = then;
        let done = issue.plus(latency(&kinds[index]));
        for operand in &i.operands[..results] {
            each_register(operand, &mut |register| {
                ready[register] = done;
                polled[register] = is_poll(i);
            });
        }
    }
}

/// A strong read of global memory.
fn is_poll(i: &Instruction) -> bool {
    let is = |modifier: &str| i.modifiers.iter().any(|m| m == modifier);
    let strong = is("volatile") || is("relaxed") || is("acquire");
    i.opcode == "ld" && strong && !is("shared") && !is("shared::cta") && !is("local")
}

/// A wait for all but n groups of asynchronous copies: copies are issued that many groups ahead, so
/// that n + 1 waits share a round trip.
fn group_wait(i: &Instruction) -> Time {
    let is = |modifier: &str| i.modifiers.iter().any(|m| m == modifier);
    let trips = match (i.opcode.as_str(), i.operands.first()) {
        ("cp", Some(&Operand::Integer(groups))) if is("wait_group") => 1.0 / (groups as f64 + 1.0),
        ("cp", _) if is("wait_all") => 1.0,
        _ => 0.0,
    };
    Time { trips, clocks: 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::class::classify;

    fn wait(body: &str) -> Time {
        let text = format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.entry k() {{\n\
             .reg .f32 %f<9>; .reg .b64 %d<9>; .reg .pred %p<2>;\n{body}\nret;\n}}"
        );
        let module = crate::ptx::parse(&text).unwrap_or_else(|e| panic!("{e}"));
        let function = &module.functions[0];
        let mut kinds: Vec<Kind> = function.body.iter().map(classify).collect();
        analyse(function, &mut kinds);
        kinds.iter().fold(Time::default(), |sum, kind| sum.plus(kind.wait))
    }

    #[test]
    fn chains_add_up_and_independent_loads_overlap() {
        // Two loads, then their sum: one round trip, whatever the order in the text.
        let both = "ld.global.f32 %f1, [%d1]; ld.global.f32 %f2, [%d2]; add.f32 %f3, %f1, %f2;";
        assert_eq!(wait(both), Time { trips: 1.0, clocks: 0.0 });
        let apart = "ld.global.f32 %f1, [%d1]; add.f32 %f3, %f1, %f1; ld.global.f32 %f2, [%d2];\
                     add.f32 %f4, %f2, %f2;";
        assert_eq!(wait(apart), Time { trips: 1.0, clocks: 0.0 });
        // A pointer is loaded, then what it points to is used: two.
        let chased = "ld.global.u64 %d2, [%d1]; ld.global.f32 %f2, [%d2]; add.f32 %f4, %f2, %f2;";
        assert_eq!(wait(chased), Time { trips: 2.0, clocks: 0.0 });
        // The last issue waits for an addition and a multiplication, four clocks each.
        let sums = "add.f32 %f2, %f1, %f1; mul.f32 %f3, %f2, %f2; st.global.f32 [%d1], %f3;";
        assert_eq!(wait(sums), Time { trips: 0.0, clocks: 8.0 });
        // A result that nothing uses is not waited for.
        assert_eq!(wait("ld.global.f32 %f1, [%d1];"), Time::default());
    }

    #[test]
    fn blocks_wait_one_after_the_other() {
        // The second load may not rise above the barrier; the first is pending across the branch.
        let barrier = "ld.global.f32 %f1, [%d1]; add.f32 %f3, %f1, %f1; bar.sync 0;\
                       ld.global.f32 %f2, [%d2]; add.f32 %f4, %f2, %f2;";
        assert_eq!(wait(barrier), Time { trips: 2.0, clocks: 0.0 });
        let pending = "ld.global.f32 %f1, [%d1]; @%p1 bra end; add.f32 %f3, %f1, %f1; end:";
        assert_eq!(wait(pending), Time { trips: 1.0, clocks: 0.0 });
        // A poll is marked where it is waited for.
        let text = "ld.volatile.global.f32 %f1, [%d1]; add.f32 %f2, %f1, %f1;";
        assert_eq!(wait(text), Time { trips: 1.0, clocks: 0.0 });
        let stages = "cp.async.wait_group 3;";
        assert_eq!(wait(stages), Time { trips: 0.25, clocks: 0.0 });
    }
}
