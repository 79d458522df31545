//! Arithmetic that a CPU does not have: narrow formats, tensor-core sums, documented approximations.

pub mod mma;
