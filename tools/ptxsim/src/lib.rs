//! Runs CUDA programs where there is no GPU.
//!
//! Reading order, from text to result:
//! [`ptx`] reads PTX into instructions, [`exec`] lowers and runs them on warps of 32 lanes,
//! [`arith`] is the arithmetic of tensor cores, conversions and approximations, [`memory`] is device
//! memory and what is known of it, [`finding`] is what went wrong and where, [`terminal`] shows it, [`device`]
//! is the GPUs that can be simulated, [`model`] is what their public figures say of a launch's counters,
//! [`driver`] is the CUDA driver API on top (the cdylib), [`preload()`] brings it into a
//! test.

pub mod arith;
pub mod device;
pub mod driver;
pub mod exec;
pub mod finding;
pub mod memory;
pub mod model;
pub mod profile;
pub mod ptx;

pub mod terminal;

mod preload;

pub use preload::{library, preload};
