//! Arithmetic that a CPU does not have: narrow formats, directed rounding, tensor-core sums,
//! documented approximations.
//!
//! Everything here is a pure function of bits, the same on every host. Scalar functions are free of
//! branches that depend on data, so that a loop over the lanes of a warp vectorises inside the
//! caller's `#[target_feature]` function; nothing here contracts a product and a sum.
//!
//! [`formats`] holds the formats and their roundings, [`convert`] integers to and from floats,
//! [`float`] sums, products, quotients and roots rounded once, [`double`] the same for f64,
//! [`approx`] the approximate functions, [`fragments`] who holds which matrix element, [`mma`] the
//! matrix products.

#![allow(clippy::needless_range_loop, reason = "rows, columns and lanes read best as indices")]

pub mod approx;
pub mod convert;
pub mod double;
pub mod float;
pub mod formats;
pub mod fragments;
pub mod mma;
