//! Weights whose rows or columns lie in another order than the checkpoint's.

use std::ops::Range;

use half::bf16;

use super::Weights;
use super::convert::Float;
use crate::device::{Activation, GATE, HostMatrix, MatrixSource};
use crate::error::Result;
use crate::tensor::{DType, Floats};

impl Weights {
    /// The columns `columns` of the linear layer `NAME.weight [rows, cols]`, with `NAME.bias [rows]` when
    /// `bias`: a layer whose input is two vectors side by side is a sum of two such.
    pub fn columns(
        &mut self,
        name: &str,
        [rows, cols]: [usize; 2],
        columns: Range<usize>,
        bias: bool,
    ) -> Result<MatrixSource<'_>> {
        let (length, first) = (columns.len(), columns.start);
        self.matrix(&format!("{name}[{columns:?}]"), [rows, 1, length], bias, |w| {
            let bias = bias.then(|| w.bias(name, rows)).transpose()?;
            let starts = (0..rows).map(|row| Some(row * cols + first));
            let weight = w.regrouped(name, &[rows, cols], length, starts)?;
            Ok(HostMatrix { weight, bias, rows, cols: length, taps: 1 })
        })
    }

    /// A linear layer of gated outputs, `NAME.weight [2*outputs, cols]`, values and then gates, in the order
    /// of [`Activation::Geglu`], with `NAME.bias [2*outputs]` when `bias`.
    pub fn gated(
        &mut self,
        name: &str,
        [outputs, cols]: [usize; 2],
        bias: bool,
    ) -> Result<MatrixSource<'_>> {
        let rows = Activation::Geglu.rows(outputs);
        let starts = |length: usize| {
            (0..rows).map(move |row| {
                let (output, gate) = (row / (2 * GATE) * GATE + row % GATE, row / GATE % 2);
                (output < outputs).then_some((gate * outputs + output) * length)
            })
        };
        self.matrix(name, [rows, 1, cols], bias, |w| {
            let bias = bias.then(|| w.bias(name, 2 * outputs)).transpose()?;
            let bias = bias.map(|bias| regroup(&bias, 1, starts(1)));
            let weight = w.regrouped(name, &[2 * outputs, cols], cols, starts(cols))?;
            Ok(HostMatrix { weight, bias, rows, cols, taps: 1 })
        })
    }

    /// A transposed convolution whose stride is its size, `NAME.weight [in, out, k, k]` in PyTorch's order, as
    /// the linear layer `[k*k*out, in]` that gives a pixel's patch, with `NAME.bias [out]` for every tap
    /// when `bias`.
    pub fn transposed_conv(
        &mut self,
        name: &str,
        shape: [usize; 4],
        bias: bool,
    ) -> Result<MatrixSource<'_>> {
        let [cols, channels, height, width] = shape;
        let taps = height * width;
        let rows = taps * channels;
        self.matrix(name, [rows, 1, cols], bias, |w| {
            let bias = bias.then(|| w.bias(name, channels)).transpose()?;
            let bias = bias.map(|bias| bias.repeat(taps));
            let starts = (0..rows * cols).map(|i| {
                let (row, col) = (i / cols, i % cols);
                Some((col * channels + row % channels) * taps + row / channels)
            });
            let weight = w.regrouped(name, &shape, 1, starts)?;
            Ok(HostMatrix { weight, bias, rows, cols, taps: 1 })
        })
    }

    /// [`regroup`] of `NAME.weight`.
    fn regrouped(
        &mut self,
        name: &str,
        shape: &[usize],
        length: usize,
        starts: impl ExactSizeIterator<Item = Option<usize>>,
    ) -> Result<Floats<'static>> {
        let name = format!("{name}.weight");
        Ok(match self.activations() {
            DType::F32 => regroup::<f32>(&self.decoded(&name, shape)?, length, starts).into(),
            _ => regroup::<bf16>(&self.decoded(&name, shape)?, length, starts).into(),
        })
    }
}

/// The pieces of `length` values from `starts` on, one after another; zeros where there is no start.
fn regroup<T: Float>(
    values: &[T],
    length: usize,
    starts: impl ExactSizeIterator<Item = Option<usize>>,
) -> Vec<T> {
    let mut out = Vec::with_capacity(length * starts.len());
    for start in starts {
        match start {
            Some(start) => out.extend_from_slice(&values[start..start + length]),
            None => out.resize(out.len() + length, T::ZERO),
        }
    }
    out
}
