//! A warp: its registers, and where its lanes are.
//!
//! Lanes go together as a *path*: a program counter and a mask. A branch that they disagree on makes
//! two paths and a *join* at the branch's immediate post-dominator, where they become one again. Paths
//! run in any order, and one that waits at a barrier lets the others go on, as threads of a warp do
//! since Volta.

use super::call::Frame;
use super::lanes::FULL;

/// Lanes that run together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    pub at: u32,
    pub mask: u32,
    /// Index of the join that it runs towards; `NONE` at top level.
    pub join: u32,
    /// Index of the function call that it is in; [`KERNEL`] outside.
    pub frame: u32,
    pub wait: Wait,
}

impl Path {
    /// Whether both wait at the same instruction, in the same call.
    pub fn together(&self, other: &Path) -> bool {
        (self.at, self.frame, self.wait) == (other.at, other.frame, other.wait)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    Ready,
    /// At an instruction that the lanes of this mask run together.
    Lanes(u32),
    /// At a block-wide barrier.
    Barrier,
}

/// Where paths become one.
#[derive(Debug, Clone, Copy)]
struct Join {
    /// The instruction that is the place; [`NONE`] for a call, which lanes return from instead.
    at: u32,
    arrived: u32,
    expected: u32,
    outer: u32,
    /// Where the lanes go on: the instruction, and the call it is in.
    resume: u32,
    frame: u32,
    /// The call that ends here; or [`NONE`].
    ends: u32,
}

const NONE: u32 = u32::MAX;
/// The frame of the kernel itself.
pub const KERNEL: u32 = u32::MAX;

/// Control state of a warp.
#[derive(Debug)]
pub struct Warp {
    pub paths: Vec<Path>,
    joins: Vec<Join>,
    /// Joins that may be used again.
    free: Vec<u32>,
    frames: Vec<Frame>,
    /// Frames that may be used again.
    free_frames: Vec<u32>,
    /// Lanes that exist and have not exited.
    pub alive: u32,
}

impl Warp {
    /// A warp of the first `lanes` lanes, at the first instruction.
    pub fn new(lanes: u32) -> Self {
        let mask = if lanes >= 32 { FULL } else { (1 << lanes) - 1 };
        let path = Path { at: 0, mask, join: NONE, frame: KERNEL, wait: Wait::Ready };
        Warp {
            paths: vec![path],
            joins: Vec::new(),
            free: Vec::new(),
            frames: Vec::new(),
            free_frames: Vec::new(),
            alive: mask,
        }
    }

    /// Where a path stops to wait for others.
    #[inline(always)]
    pub fn stop(&self, path: &Path) -> u32 {
        if path.join == NONE { u32::MAX } else { self.joins[path.join as usize].at }
    }

    /// Splits path `index`: its lanes of `taken` go to `to`, the others to `otherwise`, until `meet`.
    pub fn split(&mut self, index: usize, taken: u32, to: u32, otherwise: u32, meet: u32) {
        let path = self.paths[index];
        let join = self.join(meet, path);
        let ready = Path { join, wait: Wait::Ready, ..path };
        let rest = Path { at: otherwise, mask: path.mask & !taken, ..ready };
        self.paths[index] = Path { at: to, mask: taken, ..ready };
        self.paths.push(rest);
        // A side that is already there.
        for index in [self.paths.len() - 1, index] {
            if self.paths[index].at == meet {
                self.arrive(index);
            }
        }
    }

    /// Splits path `index` in several that meet at `meet`.
    pub fn scatter(&mut self, index: usize, parts: &[(u32, u32)], meet: u32) {
        let path = self.paths.swap_remove(index);
        let join = self.join(meet, path);
        let first = self.paths.len();
        for &(at, mask) in parts {
            self.paths.push(Path { at, mask, join, wait: Wait::Ready, ..path });
        }
        for index in (first..self.paths.len()).rev() {
            if self.paths[index].at == meet {
                self.arrive(index);
            }
        }
    }

    /// Path `index` goes into a function, from the call at `resume` - 1.
    pub fn call(&mut self, index: usize, frame: Frame, entry: u32, resume: u32) {
        let path = self.paths[index];
        let number = match self.free_frames.pop() {
            Some(number) => {
                self.frames[number as usize] = frame;
                number
            }
            None => {
                self.frames.push(frame);
                self.frames.len() as u32 - 1
            }
        };
        let join = self.new_join(Join {
            at: NONE,
            arrived: 0,
            expected: path.mask,
            outer: path.join,
            resume,
            frame: path.frame,
            ends: number,
        });
        self.frames[number as usize].join = join;
        self.paths[index] = Path { at: entry, mask: path.mask, join, frame: number, ..path };
    }

    /// Lanes of path `index` return from the function that it is in.
    pub fn ret(&mut self, index: usize, lanes: u32) {
        let Path { join, frame, .. } = self.paths[index];
        let call = self.frames[frame as usize].join;
        // They meet nobody on the way.
        let mut inner = join;
        while inner != call {
            self.joins[inner as usize].expected &= !lanes;
            inner = self.joins[inner as usize].outer;
        }
        self.joins[call as usize].arrived |= lanes;
        self.paths[index].mask &= !lanes;
        if self.paths[index].mask == 0 {
            self.paths.swap_remove(index);
            self.settle(join);
        }
    }

    /// A call that is under way.
    pub fn frame(&self, number: u32) -> &Frame {
        &self.frames[number as usize]
    }

    pub fn frame_mut(&mut self, number: u32) -> &mut Frame {
        &mut self.frames[number as usize]
    }

    fn join(&mut self, meet: u32, path: Path) -> u32 {
        self.new_join(Join {
            at: meet,
            arrived: 0,
            expected: path.mask,
            outer: path.join,
            resume: meet,
            frame: path.frame,
            ends: NONE,
        })
    }

    fn new_join(&mut self, join: Join) -> u32 {
        match self.free.pop() {
            Some(index) => {
                self.joins[index as usize] = join;
                index
            }
            None => {
                self.joins.push(join);
                self.joins.len() as u32 - 1
            }
        }
    }

    /// Path `index` has reached its join. It goes away; when it was the last, the lanes go on as one
    /// (and may have reached the next join with that).
    pub fn arrive(&mut self, index: usize) {
        let path = self.paths.swap_remove(index);
        self.joins[path.join as usize].arrived |= path.mask;
        self.settle(path.join);
    }

    fn settle(&mut self, index: u32) {
        let mut index = index;
        while index != NONE {
            let join = self.joins[index as usize];
            if join.arrived & join.expected != join.expected {
                return;
            }
            self.free.push(index);
            if join.ends != NONE {
                self.free_frames.push(join.ends);
            }
            if join.expected == 0 {
                index = join.outer;
                continue;
            }
            let path = Path {
                at: join.resume,
                mask: join.expected,
                join: join.outer,
                frame: join.frame,
                wait: Wait::Ready,
            };
            if self.stop(&path) != path.at {
                self.paths.push(path);
                return;
            }
            self.joins[join.outer as usize].arrived |= path.mask;
            index = join.outer;
        }
    }

    /// Lanes of path `index` exit. Whoever waits for them waits no longer.
    pub fn exit(&mut self, index: usize, lanes: u32) {
        self.alive &= !lanes;
        let path = &mut self.paths[index];
        path.mask &= !lanes;
        let (join, gone) = (path.join, path.mask == 0);
        if gone {
            self.paths.swap_remove(index);
        }
        let mut at = join;
        let mut innermost = NONE;
        while at != NONE {
            self.joins[at as usize].expected &= !lanes;
            let complete = self.joins[at as usize];
            if innermost == NONE && complete.arrived & complete.expected == complete.expected {
                innermost = at;
            }
            at = self.joins[at as usize].outer;
        }
        if gone && innermost == join && join != NONE {
            self.settle(join);
        }
    }

    /// If every lane that `path` waits for (of those alive) is at the same instruction, makes one path
    /// of the lanes there and returns its index, and the paths they came from.
    pub fn gathered(&self, index: usize) -> bool {
        let path = self.paths[index];
        let Wait::Lanes(wanted) = path.wait else { return false };
        let here = self.paths.iter().filter(|p| p.together(&path));
        let present = here.fold(0, |mask, p| mask | p.mask);
        wanted & self.alive & !present == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks(warp: &Warp) -> Vec<(u32, u32)> {
        let mut masks: Vec<_> = warp.paths.iter().map(|p| (p.at, p.mask)).collect();
        masks.sort_unstable();
        masks
    }

    #[test]
    fn sides_meet_again() {
        let mut w = Warp::new(32);
        w.split(0, 0xF, 10, 1, 20);
        assert_eq!(masks(&w), [(1, !0xF), (10, 0xF)]);
        w.paths[0].at = 20;
        w.arrive(0);
        w.paths[0].at = 20;
        w.arrive(0);
        assert_eq!(masks(&w), [(20, FULL)]);
        assert_eq!(w.stop(&w.paths[0]), u32::MAX);
    }

    #[test]
    fn a_side_that_is_there_at_once_waits() {
        let mut w = Warp::new(8);
        w.split(0, 0x0F, 20, 1, 20);
        assert_eq!(masks(&w), [(1, 0xF0)]);
        w.arrive(0);
        assert_eq!(masks(&w), [(20, 0xFF)]);
    }

    #[test]
    fn nested_joins_and_exits() {
        let mut w = Warp::new(8);
        w.split(0, 0x0F, 10, 1, 20); // outer
        let inner = w.paths.iter().position(|p| p.at == 10).unwrap();
        w.split(inner, 0x03, 12, 11, 20); // inner, same place
        let a = w.paths.iter().position(|p| p.at == 12).unwrap();
        w.exit(a, 0x03);
        assert_eq!(masks(&w), [(1, 0xF0), (11, 0x0C)]);
        let b = w.paths.iter().position(|p| p.at == 11).unwrap();
        w.arrive(b);
        assert_eq!(masks(&w), [(1, 0xF0)]);
        w.arrive(0);
        assert_eq!(masks(&w), [(20, 0xFC)]);
        w.exit(0, 0xFC);
        assert!(w.paths.is_empty() && w.alive == 0);
    }
}
