//! `depthwise`, `global_response_norm` and `activate`.

use half::bf16;

use super::judge::*;
use super::linear::{activate, activate_exactly};
use crate::device::{Activation, Depthwise, Device, RESPONSE_EPSILON};
use crate::ops;
use crate::tensor::{DType, Shape};

/// An input of a float dtype, and its values on both.
fn float_input<D: Device>(
    device: &D,
    values: &[f32],
    dtype: DType,
    shape: impl Into<Shape>,
) -> Checked<Guarded<D::Buffer>> {
    match dtype {
        DType::BF16 => {
            let halves: Vec<bf16> = values.iter().map(|&x| bf16::from_f32(x)).collect();
            input(device, &halves, shape)
        }
        _ => input(device, values, shape),
    }
}

/// Random values that `dtype` holds.
fn values(random: &mut Random, count: usize, scale: f32, dtype: DType) -> Vec<f32> {
    random.floats(count, scale).iter().map(|&x| stored(x, dtype)).collect()
}

const PAIRS: [(DType, DType); 4] = [
    (DType::F32, DType::BF16),
    (DType::BF16, DType::F32),
    (DType::F32, DType::F32),
    (DType::BF16, DType::BF16),
];

/// (images, height, width, channels)
const FILTERED: [(usize, usize, usize, usize); 9] = [
    (1, 1, 1, 1),
    (1, 1, 5, 3),
    (1, 4, 1, 16),
    (2, 2, 2, 17),
    (1, 3, 4, 33),
    (2, 7, 5, 100),
    (1, 16, 16, 48),
    (3, 8, 9, 70),
    (2, 16, 16, 300),
];

pub(super) fn depthwise<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    for (i, (images, height, width, c)) in FILTERED.into_iter().enumerate() {
        let ((from, to), bias) = (PAIRS[i % 4], i % 2 == 0);
        let case = (images, height, width, c, from, to, bias);
        let mut random = Random((height * 1009 + width * 31 + c) as u64);
        let x = values(&mut random, images * height * width * c, 1.0, from);
        let (w, b) = (random.floats(9 * c, 0.5), random.floats(c, 1.0));
        let shape = [images, height, width, c];

        let got = everywhere!(judge, case, |device| {
            let x = float_input(device, &x, from, shape)?;
            let weight = input(device, &w, [9, c])?.tensor;
            let bias = if bias { Some(input(device, &b, [c])?.tensor) } else { None };
            let mut y = float_output(device, to, shape)?;
            ops::depthwise(device, &mut y.tensor, &x.tensor, &Depthwise { weight, bias })?;
            bits(&y.floats(device)?)
        });

        let (mut exactly, mut naive) = (Vec::new(), Vec::new());
        for i in 0..x.len() {
            let (pixel, channel) = (i / c, i % c);
            let (image, y, column) =
                (pixel / width / height, pixel / width % height, pixel % width);
            let start = if bias { b[channel] } else { 0.0 };
            let (mut exact, mut sum) = (f64::from(start), start);
            for tap in 0..9 {
                let (y, column) =
                    ((y + tap / 3).wrapping_sub(1), (column + tap % 3).wrapping_sub(1));
                if y < height && column < width {
                    let x = x[((image * height + y) * width + column) * c + channel];
                    let w = w[tap * c + channel];
                    exact += f64::from(x) * f64::from(w);
                    sum += x * w;
                }
            }
            exactly.push(exact);
            naive.push(stored(sum, to));
        }
        judge.check_both(case, &got, &exactly, &naive, to);
    }
    Ok(())
}

/// (images, pixels, channels, scale): the last two in several chunks, and with a channel of zeros.
const RESPONDING: [(usize, usize, usize, f32); 9] = [
    (1, 1, 1, 1.0),
    (2, 3, 5, 1.0),
    (1, 16, 16, 1e-4),
    (2, 9, 33, 1.0),
    (1, 64, 48, 100.0),
    (3, 20, 130, 1.0),
    (1, 4, 64, 0.0),
    (2, 70, 1000, 1.0),
    (2, 256, 520, 3.0),
];

pub(super) fn global_response_norm<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    for (i, (images, pixels, d, scale)) in RESPONDING.into_iter().enumerate() {
        let (from, to) = PAIRS[i % 4];
        let case = (images, pixels, d, scale, from, to);
        let mut random = Random((pixels * d) as u64);
        let mut x = values(&mut random, images * pixels * d, scale, from);
        x.iter_mut().skip(d / 2).step_by(d).for_each(|x| *x = 0.0);
        let (gain, shift) = (random.floats(d, 1.0), random.floats(d, 1.0));

        let got = everywhere!(judge, case, |device| {
            let x = float_input(device, &x, from, [images, pixels, d])?;
            let (gain, shift) = (input(device, &gain, [d])?, input(device, &shift, [d])?);
            let mut y = float_output(device, to, [images, pixels, d])?;
            let (out, gain, shift) = (&mut y.tensor, &gain.tensor, &shift.tensor);
            ops::global_response_norm(device, out, &x.tensor, gain, shift)?;
            bits(&y.floats(device)?)
        });

        let (mut exactly, mut naive) = (Vec::new(), Vec::new());
        for x in x.chunks_exact(pixels * d) {
            let channel = |c: usize| x.iter().skip(c).step_by(d);
            let norm = |c| channel(c).map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            let norm32 = |c| channel(c).map(|x| x * x).sum::<f32>().sqrt();
            let exact: Vec<f64> = (0..d).map(norm).collect();
            let single: Vec<f32> = (0..d).map(norm32).collect();
            let mean = exact.iter().sum::<f64>() / d as f64 + f64::from(RESPONSE_EPSILON);
            let mean32 = single.iter().sum::<f32>() / d as f32 + RESPONSE_EPSILON;
            for (i, &x) in x.iter().enumerate() {
                let (c, y) = (i % d, f64::from(x));
                let (gain, shift) = (gain[c], shift[c]);
                exactly.push(f64::from(gain) * y * (exact[c] / mean) + f64::from(shift) + y);
                naive.push(stored(gain * (x * (single[c] / mean32)) + shift + x, to));
            }
        }
        judge.check_both(case, &got, &exactly, &naive, to);
    }
    Ok(())
}

pub(super) fn activations<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    let all = [Activation::None, Activation::Gelu, Activation::Silu, Activation::QuickGelu];
    let sizes = [(1, 1, 1.0), (3, 5, 2.0), (2, 16, 100.0), (7, 33, 3.0), (154, 1024, 1.0)];
    for (i, (rows, d, scale)) in sizes.into_iter().enumerate() {
        for (j, activation) in all.into_iter().enumerate() {
            let (from, to) = PAIRS[(i + j) % 4];
            let case = (activation, rows, d, scale, from, to);
            let x = values(&mut Random((i * d + rows) as u64), rows * d, scale, from);
            let got = everywhere!(judge, case, |device| {
                let x = float_input(device, &x, from, [rows, d])?;
                let mut y = float_output(device, to, [rows, d])?;
                ops::activate(device, &mut y.tensor, &x.tensor, activation)?;
                bits(&y.floats(device)?)
            });
            let exactly: Vec<f64> =
                x.iter().map(|&x| activate_exactly(activation, [f64::from(x); 2])).collect();
            let naive: Vec<f32> =
                x.iter().map(|&x| stored(activate(activation, [x; 2]), to)).collect();
            judge.check_both(case, &got, &exactly, &naive, to);
        }
    }
    Ok(())
}
