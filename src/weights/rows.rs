//! A table decoded row by row, as it is looked up.

use std::ops::Range;
use std::sync::Arc;

use half::bf16;

use super::convert::{Encoding, Float, Stored};
use super::{File, Weights, scale_of};
use crate::error::{Error, Result};
use crate::tensor::{DType, Floats};

/// An embedding that stays as it is stored, in the map; see [`Weights::rows`].
pub struct Rows {
    name: String,
    file: Arc<File>,
    range: Range<usize>, // of the file
    encoding: Encoding,
    shape: [usize; 2],
    dtype: DType, // of what is looked up
}

impl Weights {
    /// The tensor `name` as a table whose rows are decoded when they are looked up: a prompt needs
    /// a few dozen of the text encoder's tens of thousands.
    pub fn rows(&mut self, name: &str, shape: [usize; 2]) -> Result<Rows> {
        if self.noise {
            self.keep_drawn(name, &shape);
        }
        self.claim(name);
        let stored = self.stored(name, &shape)?;
        if let Encoding::Int8(scales) = &stored.encoding {
            let largest = |scale: &f32| bf16::from_f32(scale * 128.0); // |q| ≤ 128
            let products: Vec<_> = scales.iter().map(largest).collect();
            if let Some(row) = bf16::first_non_finite(&products) {
                return Err(self.not_finite(&scale_of(name), &shape[..1], row));
            }
        } else if !self.noise && self.packed.is_none() {
            self.values(name, &shape)?; // all of them are finite
        }
        if self.writer.is_some() {
            self.values(name, &shape)?;
        }
        Ok(Rows {
            name: name.into(),
            file: self.tensors[name].file.clone(),
            range: self.tensors[name].range.clone(),
            encoding: self.stored(name, &shape)?.encoding,
            shape,
            dtype: self.activations(),
        })
    }
}

impl Rows {
    /// Rows and columns of the table.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The rows `ids`, `[ids, cols]`, in the dtype of the activations.
    pub fn gather(&self, ids: &[u32]) -> Result<Floats<'static>> {
        match self.dtype {
            DType::F32 => Ok(self.gathered::<f32>(ids)?.into()),
            _ => Ok(self.gathered::<bf16>(ids)?.into()),
        }
    }

    fn gathered<T: Float>(&self, ids: &[u32]) -> Result<Vec<T>> {
        let [rows, cols] = self.shape;
        let table = &self.file.bytes[self.range.clone()];
        let row_bytes = table.len() / rows.max(1);
        let mut out = Vec::with_capacity(ids.len() * cols);
        for &id in ids {
            let row = id as usize;
            if row >= rows {
                return Err(Error::Tensor {
                    path: self.file.path.clone(),
                    tensor: self.name.clone(),
                    expected: format!("a row for the tokenizer's id {id}"),
                    found: format!("{rows} rows"),
                });
            }
            let encoding = match &self.encoding {
                Encoding::Int8(scales) => Encoding::Int8(vec![scales[row]]),
                other => other.clone(),
            };
            let bytes = &table[row * row_bytes..][..row_bytes];
            Stored { encoding, bytes }.append(&mut out);
        }
        Ok(out)
    }
}
