//! `embed`: rows of a table, plus an optional row per position. `select_rows`: some of its own rows.

use super::Cpu;
use super::gemm::part;
use super::memory::{Buffer, Parts, View, ViewMut};
use super::simd::{Kernel, LANES, Lanes};
use crate::tensor::Tensor;
use std::ops::Range;

/// [`crate::device::Device::embed`].
pub(super) fn embed(
    cpu: &Cpu,
    out: &mut Tensor<Buffer>,
    ids: &Tensor<Buffer>,
    table: &Tensor<Buffer>,
    add: Option<&Tensor<Buffer>>,
) {
    let (rows, d) = (out.shape().rows(), out.shape().last());
    let tasks = cpu.tasks(rows, d);
    let (out, ids) = (out.view_mut(), ids.slice());
    let (table, add) = ((table.view(), table.shape().rows()), add.map(Tensor::view));
    cpu.parallel(tasks, |task| {
        cpu.level.run(Rows { out, ids, table, add, d, rows: part(rows, tasks, task) });
    });
}

/// [`crate::device::Device::select_rows`].
pub(super) fn select_rows(
    cpu: &Cpu,
    out: &mut Tensor<Buffer>,
    x: &Tensor<Buffer>,
    positions: &Tensor<Buffer>,
) {
    let (rows, d) = (out.shape().rows(), out.shape().last());
    let positions = positions.slice::<u32>();
    let grid = x.shape().rows() / (rows / positions.len());
    let (x, out) = (x.slice::<f32>(), out.slice_mut::<f32>());
    let tasks = cpu.tasks(rows, d);
    let out = Parts::new(out);
    cpu.parallel(tasks, |task| {
        for row in part(rows, tasks, task) {
            let position = positions[row % positions.len()] as usize;
            assert!(position < grid, "select_rows: position {position} is beyond the {grid}");
            let source = row / positions.len() * grid + position;
            // SAFETY: tasks share no row.
            unsafe { out.part(row * d..(row + 1) * d) }.copy_from_slice(&x[source * d..][..d]);
        }
    });
}

struct Rows<'a> {
    out: ViewMut<'a>,         // [b*n, d]
    ids: &'a [u32],           // [n]
    table: (View<'a>, usize), // [v, d], v
    add: Option<View<'a>>,    // [n, d]
    d: usize,
    rows: Range<usize>,
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Rows { out, ids, table: (table, entries), add, d, rows } = self;
        for row in rows {
            let id = ids[row % ids.len()] as usize;
            assert!(id < entries, "embed: id {id} is beyond the table's {entries} rows");
            for c in (0..d).step_by(LANES) {
                // SAFETY: rows of the tensors; tasks share no output row.
                unsafe {
                    let mut y = table.load(l, id * d + c, d - c);
                    if let Some(add) = add {
                        y = l.add(y, add.load(l, row % ids.len() * d + c, d - c));
                    }
                    out.store(l, row * d + c, d - c, y);
                }
            }
        }
    }
}
