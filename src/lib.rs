//! muse: a masked-token text-to-image engine.
//!
//! A prompt becomes an image in four steps, each a module:
//!
//! ```text
//! prompt ─ tokenizer, text ─▶ text states ─ decode (base) ─▶ coarse tokens
//!        ─ decode (super-res) ─▶ fine tokens ─ vq ─▶ image
//! ```
//!
//! Read [`pipeline`] first, then [`decode`] (the masked decode loop), [`edit`] (what of an image it draws
//! anew), [`models::muse`] (the transformer), [`ops`] and [`device`] (the seam between models and
//! backends), [`cpu`].
//! Invariants, and the tests that hold them, are in `ARCHITECTURE.md`.
#![deny(missing_docs)]

pub mod amused;
pub mod bench;
pub mod config;
mod convert;
pub mod cpu;
pub mod cuda;
pub mod decode;
pub mod device;
pub mod edit;
mod engine;
mod error;
pub mod hub;
pub mod image;
pub mod models;
mod muse;
pub mod ops;
pub mod pipeline;
pub mod plans;
mod queue;
pub mod request;
pub mod rng;
pub mod selftest;
pub mod shape;
pub mod spans;
pub mod tensor;
pub mod text;
pub mod tokenizer;
pub mod trace;
pub mod vq;
pub mod weights;

pub use convert::{Converted, convert};
pub use edit::{Change, Edit, Margins};
pub use engine::{DeviceChoice, Engine, EngineOptions};
pub use error::{Error, Result};
pub use image::Image;
pub use pipeline::{Generated, Probe, Timings};
pub use queue::Cancel;
pub use request::{Embeddings, Overrides, Request, Rng, Size, Toward};
pub use tensor::Precision;

/// Its Rust program is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
