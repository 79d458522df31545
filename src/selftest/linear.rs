//! `linear` and `linear_add`.

use super::Sums;
use super::judge::*;
use crate::device::{Activation, Device, HostMatrix};
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
