//! `linear`, `linear_add` and `linear_add_norm`.

use super::Sums;
use super::judge::*;
use crate::device::{Activation, Device, HostMatrix, Norm};
use crate::ops;
use crate::tensor::DType;
use half::bf16;

#[derive(Clone, Copy, Debug)]
struct Case {
    m: usize,
    n: usize,
    k: usize,
    bias: bool,
    activation: Activation,
    out: DType,
    add: bool, // linear_add
    scale: f32,
}

/// Sizes: single rows and columns, odd K, column tails either side of a vector, row tails of every
/// register tile, several slices of K, and two that are large enough for threads.
const SIZES: [(usize, usize, usize); 15] = [
    (1, 1, 1),
    (1, 33, 3),
    (2, 48, 257),
    (3, 16, 15),
    (5, 17, 2),
    (8, 32, 1),
    (13, 33, 64),
    (14, 31, 31),
    (15, 64, 40),
    (29, 15, 33),
    (43, 100, 18),
    (1, 520, 1024),
    (27, 50, 777),
    (65, 97, 257),
    (130, 130, 66),
];

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, (m, n, k)) in SIZES.into_iter().enumerate() {
        let case = Case {
            m,
            n,
            k,
            bias: true,
            activation: Activation::None,
            out: DType::BF16,
            add: false,
            scale: 1.0,
        };
        cases.push(Case { bias: i % 2 == 0, ..case });
        cases.push(Case { activation: Activation::Gelu, ..case });
        cases.push(Case { out: DType::F32, bias: i % 2 == 1, ..case });
        cases.push(Case { out: DType::F32, add: true, ..case });
    }
    let extreme = Case { out: DType::F32, scale: 1e17, ..cases[4 * 6] };
    cases.push(extreme);
    cases.push(Case { scale: 1e-17, ..extreme });
    cases.push(Case { scale: 30.0, activation: Activation::Gelu, ..extreme });
    cases
}

pub(super) fn linear<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    for case in cases() {
        let Case { m, n, k, bias, activation, out, add, scale } = case;
        let mut random = Random((m * 1_000_003 + n * 1009 + k) as u64);
        let x = random.halves(m * k, scale);
        let w = random.halves(n * k, scale / (k as f32).sqrt());
        let b = random.floats(n, scale);
        let residual = random.floats(m * n, 1.0);

        let got = everywhere!(judge, case, |device| {
            let x = input(device, &x, [m, k])?;
            let matrix = HostMatrix {
                weight: (&w).into(),
                bias: bias.then(|| b.clone()),
                rows: n,
                cols: k,
                taps: 1,
            };
            let weight = ops::pack(device, matrix)?;
            let mut y = float_output(device, out, [m, n])?;
            if add {
                y = input(device, &residual, [m, n])?;
                ops::linear_add(device, &mut y.tensor, &x.tensor, &weight)?;
            } else {
                ops::linear(device, &mut y.tensor, &x.tensor, &weight, activation)?;
            }
            bits(&y.floats(device)?)
        });

        let (mut exactly, mut naive, mut truncated) = (Vec::new(), Vec::new(), Vec::new());
        for (i, &residual) in residual.iter().enumerate() {
            let (row, column) = (&x[i / n * k..][..k], &w[i % n * k..][..k]);
            let half = std::f64::consts::FRAC_1_SQRT_2;
            let (mut exact, mut sum) = (0.0f64, 0.0f32);
            for (&a, &w) in row.iter().zip(column) {
                exact += a.to_f64() * w.to_f64();
                sum += a.to_f32() * w.to_f32();
            }
            if bias {
                exact += f64::from(b[i % n]);
            }
            if activation == Activation::Gelu {
                exact = 0.5 * exact * (1.0 + erf(exact * half));
            }
            if add {
                exact += f64::from(residual);
            }
            let finish = |mut sum: f32| {
                if bias {
                    sum += b[i % n];
                }
                if activation == Activation::Gelu {
                    sum = 0.5 * sum * (1.0 + erf(f64::from(sum) * half) as f32);
                }
                stored(if add { sum + residual } else { sum }, out)
            };
            exactly.push(exact);
            naive.push(finish(sum));
            truncated.push(finish(tensor_core_sum(row, column)));
        }
        let on_device = if judge.sums == Sums::TensorCores { &truncated } else { &naive };
        judge.check((NAMES[0], case), &floats(&got[0]), &exactly, &naive, out);
        judge.check((NAMES[1], case), &floats(&got[1]), &exactly, on_device, out);
    }
    Ok(())
}

/// (m, n, k): rows of one block and of several, tails, sums that one block takes and that several share.
const NORMED: [(usize, usize, usize); 9] = [
    (1, 33, 3),
    (5, 17, 2),
    (29, 16, 33),
    (64, 64, 64),
    (33, 130, 257),
    (70, 260, 600),
    (3, 1100, 66),
    (100, 96, 2100),
    (129, 1024, 1024),
];

pub(super) fn linear_add_norm<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    for (i, (m, n, k)) in NORMED.into_iter().enumerate() {
        let case = (m, n, k);
        let mut random = Random((m * 1009 + k) as u64);
        let x = random.halves(m * k, 1.0);
        let w = random.halves(n * k, 1.0 / (k as f32).sqrt());
        let bias = (i % 2 == 0).then(|| random.floats(n, 1.0));
        let residual = random.floats(m * n, 1.0);
        let (scale, shift) = (random.floats(n, 1.0), random.floats(n, 1.0));

        let got = everywhere!(judge, case, |device| {
            let x = input(device, &x, [m, k])?;
            let (weight, bias) = ((&w).into(), bias.clone());
            let weight = ops::pack(device, HostMatrix { weight, bias, rows: n, cols: k, taps: 1 })?;
            let (scale, shift) = (input(device, &scale, [n])?, input(device, &shift, [n])?);
            let norm = Norm { weight: scale.tensor, bias: shift.tensor, epsilon: 1e-6 };
            let mut y = input(device, &residual, [m, n])?;
            let mut out = output::<bf16, _>(device, [m, n])?;
            // Twice: what one launch leaves behind must not disturb the next.
            for _ in 0..2 {
                device.write(&mut y.tensor.buffer, bytemuck::cast_slice(&residual))?;
                let (y, out) = (&mut y.tensor, &mut out.tensor);
                ops::linear_add_norm(device, y, out, &x.tensor, &weight, &norm)?;
            }
            [bits(&y.floats(device)?), bits(&out.floats(device)?)].concat()
        });

        let (mut exactly, mut naive, mut truncated) = (Vec::new(), Vec::new(), Vec::new());
        for (i, &residual) in residual.iter().enumerate() {
            let (row, column) = (&x[i / n * k..][..k], &w[i % n * k..][..k]);
            let bias = bias.as_ref().map_or(0.0, |bias| bias[i % n]);
            let pairs = || row.iter().zip(column);
            let exact: f64 = pairs().map(|(a, w)| a.to_f64() * w.to_f64()).sum();
            let sum: f32 = pairs().map(|(a, w)| a.to_f32() * w.to_f32()).sum();
            exactly.push(exact + f64::from(bias) + f64::from(residual));
            naive.push(sum + bias + residual);
            truncated.push(tensor_core_sum(row, column) + bias + residual);
        }
        for (got, on) in got.iter().zip(NAMES) {
            let cores = on == NAMES[1] && judge.sums == Sums::TensorCores;
            let naive = if cores { &truncated } else { &naive };
            let got = floats(got);
            judge.check((on, case, "residual"), &got[..m * n], &exactly, naive, DType::F32);
            let (exactly, naive) = layer_norm(&exactly, naive, &scale, &shift);
            judge.check((on, case, "normed"), &got[m * n..], &exactly, &naive, DType::BF16);
        }
    }
    Ok(())
}

/// The norm of the exact rows, exactly, and that of the naive ones, naively.
fn layer_norm(exact: &[f64], naive: &[f32], scale: &[f32], shift: &[f32]) -> (Vec<f64>, Vec<f32>) {
    let n = scale.len();
    let (mut exactly, mut naively) = (Vec::new(), Vec::new());
    for (exact, naive) in exact.chunks(n).zip(naive.chunks(n)) {
        let (m, m32) = (exact.iter().sum::<f64>() / n as f64, naive.iter().sum::<f32>() / n as f32);
        let v = exact.iter().map(|x| (x - m).powi(2)).sum::<f64>() / n as f64;
        let v32 = naive.iter().map(|x| (x - m32).powi(2)).sum::<f32>() / n as f32;
        for c in 0..n {
            let y = (exact[c] - m) / (v + f64::from(1e-6f32)).sqrt();
            exactly.push(y * f64::from(scale[c]) + f64::from(shift[c]));
            let y = (naive[c] - m32) / (v32 + 1e-6).sqrt() * scale[c] + shift[c];
            naively.push(stored(y, DType::BF16));
        }
    }
    (exactly, naively)
}

/// A dot product as the plainest loop over `mma` gives it: tensor cores add 16 products at a time to an
/// f32 sum and truncate, where a processor rounds (Fasi et al., PeerJ CS 2021).
fn tensor_core_sum(row: &[bf16], column: &[bf16]) -> f32 {
    let mut sum = 0.0f32;
    for (row, column) in row.chunks(16).zip(column.chunks(16)) {
        let products = row.iter().zip(column).map(|(a, w)| a.to_f64() * w.to_f64());
        let exact = f64::from(sum) + products.sum::<f64>();
        let rounded = exact as f32;
        sum = match f64::from(rounded).abs() > exact.abs() {
            true => f32::from_bits(rounded.to_bits() - 1), // the neighbour nearer to zero
            false => rounded,
        };
    }
    sum
}
