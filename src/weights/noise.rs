//! Weights without a file: each a function of its name and index, so that a model of any size can be timed by
//! whoever has no checkpoint of it. The same numbers as of `tools/fixtures` and of its other half in Python,
//! `tools/reference/fixtures.py` (`tests/noise.rs`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use half::bf16;
use rayon::prelude::*;
use safetensors::Dtype;

use super::convert::Float;
use super::{Bytes, Entry, File, Weights};
use crate::tensor::{DType, Precision};

impl Weights {
    /// Holds every tensor that it is asked for: norms about 1, biases about 0, tables in [−1, 1), everything
    /// else of unit gain. `part`, the model's, is a part of every name.
    pub fn noise(part: &str) -> Self {
        Weights {
            path: PathBuf::from(part),
            tensors: BTreeMap::new(),
            precision: Precision::default(),
            last: None,
            noise: true,
            packed: None,
            writer: None,
        }
    }

    /// A tensor of a model without a file, in the dtype that it is wanted in.
    pub(super) fn drawn<T: Float>(&self, name: &str, shape: &[usize]) -> Vec<T> {
        draw(&format!("{}.{name}", self.path.display()), shape)
    }

    /// Keeps the tensor `name` as if it had been read: one that is looked up row by row.
    pub(super) fn keep_drawn(&mut self, name: &str, shape: &[usize]) {
        let (dtype, bytes) = match self.activations() {
            DType::F32 => {
                (Dtype::F32, bytemuck::cast_slice(&self.drawn::<f32>(name, shape)).to_vec())
            }
            _ => (Dtype::BF16, bytemuck::cast_slice(&self.drawn::<bf16>(name, shape)).to_vec()),
        };
        let range = 0..bytes.len();
        let file = Arc::new(File { path: self.path.clone(), bytes: Bytes::Owned(bytes) });
        let entry = Entry { file, dtype, shape: shape.into(), range, used: true };
        self.tensors.insert(name.into(), entry);
    }
}

/// The values of a weight, by its name with the part's before it.
fn draw<T: Float>(name: &str, shape: &[usize]) -> Vec<T> {
    let (center, scale) = match shape {
        [_] if name.ends_with(".weight") => (1.0, 0.3),
        [_] => (0.0, 0.3),
        [1, ..] => (0.0, 1.0),
        _ if name.contains("embedding") => (0.0, 1.0),
        [_, inputs @ ..] => (0.0, (3.0 / inputs.iter().product::<usize>() as f64).sqrt()),
        [] => panic!("{name}: no weight is a scalar"),
    };
    let (center, scale) = (center as f32, scale as f32);
    let seed = fnv1a(name.as_bytes());
    let value = |index: usize| {
        let word = split_mix(seed, index as u64 + 1);
        let uniform = ((word >> 40) as i32 - (1 << 23)) as f32 / (1 << 23) as f32; // [−1, 1)
        T::round(center + scale * uniform)
    };
    (0..shape.iter().product()).into_par_iter().map(value).collect()
}

/// Word number `index` of SplitMix64.
fn split_mix(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// 64-bit FNV-1a.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}
