//! Every verb of the CPU backend against an f64 judge, on every SIMD level and thread count.
//!
//! One file per operator, each with a case table: odd sizes, tails, masks, extreme values.

mod attention;
mod bits;
mod codebook;
mod conv;
mod embed;
mod image;
mod judge;
mod linear;
mod norm;
mod sample;
