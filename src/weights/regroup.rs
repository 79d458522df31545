//! Weights whose rows or columns lie in another order than the checkpoint's.

use std::ops::Range;

use super::Weights;
use crate::device::{Activation, GATE, HostMatrix};
use crate::error::Result;

impl Weights {
    /// The columns `columns` of the linear layer `NAME.weight [rows, cols]`, with `NAME.bias [rows]` when
    /// `bias`: a layer whose input is two vectors side by side is a sum of two such.
    pub fn columns(
        &mut self,
        name: &str,
        [rows, cols]: [usize; 2],
        columns: Range<usize>,
        bias: bool,
    ) -> Result<HostMatrix<'_>> {
        let bias = self.bias(name, rows, bias)?;
        let weight = self.bf16(&format!("{name}.weight"), &[rows, cols])?;
        let starts = (0..rows).map(|row| Some(row * cols + columns.start));
        let weight = regroup(&weight, columns.len(), starts).into();
        Ok(HostMatrix { weight, bias, rows, cols: columns.len(), taps: 1 })
    }

    /// A linear layer of gated outputs, `NAME.weight [2*outputs, cols]`, values and then gates, in the order
    /// of [`Activation::Geglu`], with `NAME.bias [2*outputs]` when `bias`.
    pub fn gated(
        &mut self,
        name: &str,
        [outputs, cols]: [usize; 2],
        bias: bool,
    ) -> Result<HostMatrix<'_>> {
        let bias = self.bias(name, 2 * outputs, bias)?;
        let weight = self.bf16(&format!("{name}.weight"), &[2 * outputs, cols])?;
        let rows = Activation::Geglu.rows(outputs);
        let starts = |length: usize| {
            (0..rows).map(move |row| {
                let (output, gate) = (row / (2 * GATE) * GATE + row % GATE, row / GATE % 2);
                (output < outputs).then_some((gate * outputs + output) * length)
            })
        };
        let bias = bias.map(|bias| regroup(&bias, 1, starts(1)));
        let weight = regroup(&weight, cols, starts(cols)).into();
        Ok(HostMatrix { weight, bias, rows, cols, taps: 1 })
    }

    /// A transposed convolution whose stride is its size, `NAME.weight [in, out, k, k]` in PyTorch's order, as
    /// the linear layer `[k*k*out, in]` that gives a pixel's patch, with `NAME.bias [out]` for every tap
    /// when `bias`.
    pub fn transposed_conv(
        &mut self,
        name: &str,
        shape: [usize; 4],
        bias: bool,
    ) -> Result<HostMatrix<'_>> {
        let [cols, channels, height, width] = shape;
        let taps = height * width;
        let bias = self.bias(name, channels, bias)?.map(|bias| bias.repeat(taps));
        let weight = self.bf16(&format!("{name}.weight"), &shape)?;
        let rows = taps * channels;
        let starts = (0..rows * cols).map(|i| {
            let (row, col) = (i / cols, i % cols);
            Some((col * channels + row % channels) * taps + row / channels)
        });
        let weight = regroup(&weight, 1, starts).into();
        Ok(HostMatrix { weight, bias, rows, cols, taps: 1 })
    }
}

/// The pieces of `length` values from `starts` on, one after another; zeros where there is no start.
fn regroup<T: Copy + Default>(
    values: &[T],
    length: usize,
    starts: impl ExactSizeIterator<Item = Option<usize>>,
) -> Vec<T> {
    let mut out = Vec::with_capacity(length * starts.len());
    for start in starts {
        match start {
            Some(start) => out.extend_from_slice(&values[start..start + length]),
            None => out.resize(out.len() + length, T::default()),
        }
    }
    out
}
