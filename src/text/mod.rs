//! One file per text encoder.

pub mod bert;
pub mod clip;

use half::bf16;

use crate::device::Device;
use crate::error::Result;
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

/// The first `rows` rows on the way from one text's to another's, at `part` from 0 to 1; the others are `from`'s.
/// Both float `[n, d]`.
pub(crate) fn blend<D: Device>(
    device: &D,
    from: &Tensor<D::Buffer>,
    to: &Tensor<D::Buffer>,
    rows: usize,
    part: f32,
) -> Result<Tensor<D::Buffer>> {
    let shape = [from.shape().rows(), from.shape().last()];
    let (mut mixed, to) = (read(device, from)?, read(device, to)?);
    for (a, b) in mixed.iter_mut().zip(to).take(rows * shape[1]) {
        *a = *a * (1.0 - part) + b * part;
    }
    write(device, &mixed, from.dtype(), shape)
}
