//! Every verb of a device against its CPU twin and an f64 judge: one case table per verb, with odd sizes,
//! tails, masks and extreme values. The tests run these tables, and `muse selftest` does on a user's device.

mod attention;
mod codebook;
mod conv;
mod embed;
mod image;
mod int8;
pub mod judge;
mod linear;
mod norm;
mod project;
mod response;
mod sample;

use std::time::{Duration, Instant};

use crate::cpu::Cpu;
use crate::device::Device;
use judge::{Checked, Judge};

/// How a device adds products, which decides what error a naive implementation there may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    /// Every sum is rounded to the nearest f32.
    Rounded,
    /// The same, and a denormal sum of products of bf16 counts as zero ([`crate::cpu::Simd::pairs`]).
    Flushed,
    /// `mma` adds 16 products to an f32 sum and truncates.
    TensorCores,
}

impl Sums {
    /// How this CPU adds.
    pub fn of(cpu: &Cpu) -> Sums {
        if cpu.simd().pairs() { Sums::Flushed } else { Sums::Rounded }
    }
}

/// What came of a verb's case table.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Cases run.
    pub cases: usize,
    /// The largest error, as a share of what is allowed: 1 is the limit. 0 where results must be exact.
    pub worst: f64,
    /// Cases that failed, in words.
    pub failures: Vec<String>,
    /// Time for all of it, the judge's work included.
    pub elapsed: Duration,
}

/// One verb and its case table.
pub struct Verb<D: Device> {
    /// The verb of [`Device`].
    pub name: &'static str,
    table: fn(&mut Judge<'_, D>) -> Checked<()>,
}

/// All verbs that compute, in the order in which a picture needs them.
pub fn verbs<D: Device>() -> Vec<Verb<D>> {
    vec![
        Verb { name: "embed", table: embed::embed },
        Verb { name: "select_rows", table: embed::select_rows },
        Verb { name: "copy_rows", table: embed::copy_rows },
        Verb { name: "layer_norm", table: norm::layer_norm },
        Verb { name: "layer_norm_kinds", table: norm::norm_kinds },
        Verb { name: "modulate", table: norm::modulate },
        Verb { name: "linear", table: linear::linear },
        Verb { name: "linear_activations", table: linear::linear_activations },
        Verb { name: "linear_int8", table: int8::linear_int8 },
        Verb { name: "linear_add_norm", table: linear::linear_add_norm },
        Verb { name: "linear_add_norm_kinds", table: linear::linear_add_norm_kinds },
        Verb { name: "attention", table: attention::attention },
        Verb { name: "causal_attention", table: attention::causal_attention },
        Verb { name: "project_and_attend", table: project::project_and_attend },
        Verb { name: "activate", table: response::activations },
        Verb { name: "depthwise", table: response::depthwise },
        Verb { name: "global_response_norm", table: response::global_response_norm },
        Verb { name: "guide_and_sample", table: sample::guide_and_sample },
        Verb { name: "remask", table: sample::remask },
        Verb { name: "conv2d", table: conv::conv2d },
        Verb { name: "group_norm_silu", table: norm::group_norm_silu },
        Verb { name: "split", table: image::split },
        Verb { name: "to_rgb8", table: image::to_rgb8 },
        Verb { name: "load_rgb8", table: image::load_rgb8 },
        Verb { name: "nearest_code", table: codebook::nearest_code },
    ]
}

impl<D: Device> Verb<D> {
    /// Runs the table on `device` and on its twins `cpus`, which must agree with each other to the bit.
    pub fn test(&self, device: &D, sums: Sums, cpus: &[Cpu]) -> Outcome {
        self.run(Judge::new(device, sums, cpus))
    }

    /// The same without cases that take long and those that the device does not support: for running a table many
    /// times.
    pub fn test_small(&self, device: &D, sums: Sums, cpus: &[Cpu]) -> Outcome {
        let mut judge = Judge::new(device, sums, cpus);
        judge.small = true;
        self.run(judge)
    }

    fn run(&self, mut judge: Judge<'_, D>) -> Outcome {
        let start = Instant::now();
        if let Err(error) = (self.table)(&mut judge) {
            judge.fail(error.to_string());
        }
        Outcome { elapsed: start.elapsed(), ..judge.outcome }
    }
}
