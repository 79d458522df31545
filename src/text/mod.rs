//! One file per text encoder.

pub mod bert;
pub mod clip;

use half::bf16;

use crate::device::Device;
use crate::error::Result;
use crate::ops;
use crate::tensor::{DType, Tensor};

/// The values of a tensor of floats.
pub(crate) fn read<D: Device>(device: &D, tensor: &Tensor<D::Buffer>) -> Result<Vec<f32>> {
    match tensor.dtype() {
        DType::F32 => device.download(tensor),
        _ => {
            let values: Vec<bf16> = device.download(tensor)?;
            Ok(values.into_iter().map(bf16::to_f32).collect())
        }
    }
}

/// A tensor of floats of a dtype, `[rows, columns]`.
pub(crate) fn write<D: Device>(
    device: &D,
    values: &[f32],
    dtype: DType,
    shape: [usize; 2],
) -> Result<Tensor<D::Buffer>> {
    match dtype {
        DType::F32 => device.upload(values, shape),
        _ => {
            let rounded: Vec<bf16> = values.iter().copied().map(bf16::from_f32).collect();
            device.upload(&rounded, shape)
        }
    }
}

/// What lies on the way from one tensor of floats to another of its shape, at `part` from 0 to 1.
pub(crate) fn blend<D: Device>(
    device: &D,
    from: &Tensor<D::Buffer>,
    to: &Tensor<D::Buffer>,
    part: f32,
) -> Result<Tensor<D::Buffer>> {
    let (mut mixed, to) = (read(device, from)?, read(device, to)?);
    for (a, b) in mixed.iter_mut().zip(to) {
        *a = *a * (1.0 - part) + b * part;
    }
    write(device, &mixed, from.dtype(), [from.shape().rows(), from.shape().last()])
}

/// Tensors of floats of one width, at most `rows` rows each, as float `[n*rows, width]`.
pub(crate) fn stacked<D: Device>(
    device: &D,
    parts: &[&Tensor<D::Buffer>],
    rows: usize,
) -> Result<Tensor<D::Buffer>> {
    let (dtype, width) = (parts[0].dtype(), parts[0].shape().last());
    let mut stacked = device.zeros(dtype, [parts.len() * rows, width])?;
    for (i, part) in parts.iter().enumerate() {
        ops::copy_rows(device, &mut stacked, i * rows, part, 0, part.shape().rows())?;
    }
    Ok(stacked)
}

/// Rows of states as text: what was found, or expected.
pub(crate) fn states_of(rows: usize, channels: usize, pooled: usize) -> String {
    format!("{rows} rows of {channels} channels, {pooled} pooled")
}
