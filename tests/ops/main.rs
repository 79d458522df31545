//! Every verb of both backends against an f64 judge: the CPU on every SIMD level and thread count, CUDA on
//! the GPU or its simulator.
//!
//! One file per operator, each with a case table: odd sizes, tails, masks, extreme values.

mod attention;
mod bits;
mod codebook;
mod conv;
mod embed;
#[path = "../gpu/mod.rs"]
mod gpu;
mod image;
mod judge;
mod linear;
mod norm;
mod sample;
