//! How times are taken, summed up, kept and compared: what `muse-bench` and the benches share.
//!
//! A measurement is a [`Record`], its file's schema [`SCHEMA`] (`docs/bench-json.md`).

mod ceilings;
mod measure;
mod record;
mod stats;

pub use ceilings::{Ceilings, Ridge};
pub use measure::{Counts, Measured, measure, trace};
pub use record::{
    Ceiling, Machine, Method, Peer, Program, Record, SCHEMA, Series, Settings, Subject, Verb,
};
pub use stats::{Ratio, Summary, ratio, summary};
