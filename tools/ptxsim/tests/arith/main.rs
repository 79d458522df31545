//! The arithmetic against exact references.

mod exact;
mod float;
mod formats;
mod fragments;
mod mma;
mod random;
mod sets;
