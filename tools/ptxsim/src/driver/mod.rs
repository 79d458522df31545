//! The CUDA driver API: functions with C's names and interface, which the cdylib exports.
//!
//! `state` is what there is, behind one lock, and the way in; `abi` and `status` are C's types and result
//! codes; `table` checks handles. Work goes through `queue` and happens in `work`. The other modules are
//! the functions by area. [`engine`] is the seam to the executor, [`options`] is how a run is set up.
#![allow(non_snake_case, reason = "names of the driver API")]

pub mod engine;
pub mod options;

mod abi;
mod capture;
mod context;
mod copy;
mod device;
mod event;
mod graph;
mod graph_nodes;
mod jit;
mod launch;
mod memory;
mod misc;
mod module;
mod occupancy;
mod pending;
mod pool;
mod queue;
mod report;
mod state;
mod status;
mod stream;
mod symbols;
mod table;
mod work;

pub use report::{EXIT_FINDINGS, Summary};
pub use state::{find_leaks, findings, start};
pub use status::Status;
