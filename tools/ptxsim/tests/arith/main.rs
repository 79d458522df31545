//! The arithmetic against exact references.

#![allow(clippy::needless_range_loop, reason = "rows, columns and lanes read best as indices")]

mod approx;
mod exact;
mod float;
mod formats;
mod fragments;
mod ieee;
mod mma;
mod random;
mod rule;
mod sets;
