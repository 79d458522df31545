//! One file per text encoder.

pub mod bert;
pub mod clip;
