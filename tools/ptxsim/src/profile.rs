//! Counters and modelled bounds of a run, per kernel and in all: what a report holds. [`Kernels`] prints it.

mod table;

use serde::{Deserialize, Serialize};
pub use table::Kernels;

use crate::device::Device;
use crate::exec::{Counters, Detail};
use crate::model::{Bound, Launched, Occupancy};

/// Sums over launches: of a kernel, or of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    pub launches: u64,
    pub warp_instructions: u64,
    pub thread_instructions: u64,
    /// Only where counters were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Counted>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    pub counters: Detail,
    /// By public figures of the device; nothing is measured.
    pub modelled_bound: Bound,
    /// The different ways that the kernel was launched, the first [`MOST_SHAPES`].
    pub shapes: Vec<Shape>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    pub launches: u64,
    #[serde(flatten)]
    pub launched: Launched,
    #[serde(flatten)]
    pub occupancy: Occupancy,
}

/// Shapes that are kept of a kernel.
pub const MOST_SHAPES: usize = 16;

impl Profile {
    /// A launch has ended.
    pub fn count(&mut self, device: &Device, launched: Launched, counters: &Counters) {
        self.launches += 1;
        self.warp_instructions += counters.warp_instructions;
        self.thread_instructions += counters.thread_instructions;
        let Some(detail) = &counters.detail else { return };
        let counted = self.counted.get_or_insert_default();
        counted.counters.add(detail);
        counted.modelled_bound.add(&Bound::of(device, &launched, detail));
        let shapes = &mut counted.shapes;
        if let Some(shape) = shapes.iter_mut().find(|s| s.launched == launched) {
            shape.launches += 1;
        } else if shapes.len() < MOST_SHAPES {
            shapes.push(Shape { launches: 1, launched, occupancy: launched.occupancy(device) });
        }
    }

    /// Another kernel of the same run; its shapes stay its own.
    pub fn add(&mut self, other: &Profile) {
        self.launches += other.launches;
        self.warp_instructions += other.warp_instructions;
        self.thread_instructions += other.thread_instructions;
        if let Some(theirs) = &other.counted {
            let mine = self.counted.get_or_insert_default();
            mine.counters.add(&theirs.counters);
            mine.modelled_bound.add(&theirs.modelled_bound);
        }
    }

    /// The same kernel in another process.
    pub fn join(&mut self, other: &Profile) {
        self.add(other);
        let (Some(mine), Some(theirs)) = (&mut self.counted, &other.counted) else { return };
        for shape in &theirs.shapes {
            let known = mine.shapes.iter_mut().find(|s| s.launched == shape.launched);
            if let Some(known) = known {
                known.launches += shape.launches;
            } else if mine.shapes.len() < MOST_SHAPES {
                mine.shapes.push(shape.clone());
            }
        }
    }
}
