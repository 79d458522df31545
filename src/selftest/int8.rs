//! `linear` and `linear_add` with weights of int8 ([`Device::pack_int8`]).

use super::judge::*;
use super::linear::{Call, SIZES, activate, activate_exactly};
use crate::device::{Activation, Device, GATE};
use crate::ops;
use crate::tensor::DType;

#[derive(Clone, Copy, Debug)]
struct Case {
    m: usize,
    n: usize,
    k: usize,
    bias: bool,
    activation: Activation,
    out: DType,
    add: bool,        // linear_add
    scales: [f32; 2], // of x and w
    from: DType,      // of w
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, (m, n, k)) in SIZES.into_iter().enumerate() {
        let case = Case {
            m,
            n,
            k,
            bias: i % 2 == 0,
            activation: Activation::None,
            out: DType::BF16,
            add: false,
            scales: [1.0; 2],
            from: [DType::BF16, DType::F32][i % 2],
        };
        cases.push(case);
        cases.push(Case { out: DType::F32, bias: !case.bias, ..case });
        cases.push(Case { out: DType::F32, add: true, ..case });
        cases.push(Case { activation: Activation::Gelu, ..case });
        // The naive error of one element is luck: here next to nothing.
        let n = n.max(20);
        cases.push(Case { n, activation: Activation::Geglu, out: DType::F32, ..case });
    }
    let case = Case { out: DType::F32, ..cases[5 * 6] };
    for scales in [[1e17, 1e17], [1e-17, 1e-17], [1e-30, 1e30], [1e-37, 1.0], [1.0, 1e-37]] {
        cases.push(Case { scales, ..case });
    }
    cases
}

pub(super) fn linear_int8<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    cases().into_iter().try_for_each(|case| product(judge, case))?;
    not_finite(judge)
}

/// A row as integers, and what one of them stands for.
fn quantise(row: &[f32]) -> (Vec<i32>, f32) {
    let largest = row.iter().fold(0.0f32, |a, x| a.max(x.abs()));
    if largest < 2f32.powi(-119) {
        return (vec![0; row.len()], 0.0);
    }
    let factor = f64::from(127.0 / largest);
    let integer = |&x: &f32| (f64::from(x) * factor).round_ties_even() as i32; // the product is exact
    (row.iter().map(integer).collect(), largest / 127.0)
}

fn product<D: Device>(judge: &mut Judge<'_, D>, case: Case) -> Checked<()> {
    let Case { m, n, k, bias, activation, out, add, scales, from } = case;
    if judge.skips(m * n * k, DType::I8) {
        return Ok(());
    }
    let features = activation.rows(n);
    let mut random = Random((m * 1_000_003 + n * 1009 + k) as u64);
    let mut x = random.values(m * k, scales[0], DType::BF16);
    let mut w = random.values(features * k, scales[1] / (k as f32).sqrt(), from);
    // A row of zeros, one with an outlier, and one that is constant; the largest magnitude is negative, and last.
    x[..k].fill(if m > 1 { 0.0 } else { 1.0 });
    x[k - 1] *= -1.0;
    x[m * k - 1] = stored(-100.0 * scales[0], DType::BF16);
    w[k - 1] = stored(-5.0 * scales[1], from);
    if features > 2 {
        w[k..2 * k].fill(0.0);
    }
    let b = random.floats(features, 1.0);
    let residual = random.floats(m * n, 1.0);

    let call = Call {
        x: (&x, DType::BF16),
        w: (&w, from),
        bias: bias.then_some(&b),
        sizes: [m, n, k],
        activation,
        out,
        residual: add.then_some(&residual),
    };
    let got = everywhere!(judge, case, DType::I8, |device| call
        .on(device, |device, matrix| ops::pack_int8(device, matrix))?);

    let x_rows: Vec<_> = x.chunks_exact(k).map(quantise).collect();
    let w_rows: Vec<_> = w.chunks_exact(k).map(quantise).collect();
    let (mut exactly, mut naive) = (Vec::new(), Vec::new());
    for (i, &residual) in residual.iter().enumerate() {
        let (row, column) = (i / n, i % n);
        // The feature itself, or the value and its gate.
        let rows = match activation {
            Activation::Geglu => {
                [0, GATE].map(|part| column / GATE * 2 * GATE + column % GATE + part)
            }
            _ => [column; 2],
        };
        let bias = rows.map(|feature| if bias { b[feature] } else { 0.0 });
        let sums = rows.map(|feature| {
            let (a, b) = (&x_rows[row].0, &w_rows[feature].0);
            a.iter().zip(b).map(|(a, b)| i64::from(a * b)).sum::<i64>()
        });
        let scales = rows.map(|feature| [x_rows[row].1, w_rows[feature].1]);
        let products = [0, 1].map(|j| {
            let [a, b] = scales[j].map(f64::from);
            sums[j] as f64 * a * b
        });
        for (j, feature) in rows.into_iter().enumerate() {
            let (x, w) = (&x[row * k..][..k], &w[feature * k..][..k]);
            let off = (products[j] - whole_product(x, w)).abs();
            let allowed = rounding(x, w, scales[j]);
            judge.expect(off <= allowed, || {
                format!("{case:?}: integers of row {row}, feature {feature} are off by {off:e}")
            });
        }
        let exact = activate_exactly(activation, [0, 1].map(|j| products[j] + f64::from(bias[j])));
        exactly.push(if add { exact + f64::from(residual) } else { exact });
        let sums = [0, 1].map(|j| sums[j] as f32 * scales[j][0] * scales[j][1] + bias[j]);
        let y = activate(activation, sums);
        naive.push(stored(if add { y + residual } else { y }, out));
    }
    if activation == Activation::None {
        judge.exactly(case, &got, &bits(&naive));
    }
    judge.check_both(case, &got, &exactly, &naive, out);
    Ok(())
}

fn whole_product(x: &[f32], w: &[f32]) -> f64 {
    x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum()
}

/// How far a product may be off when every factor is by half of its scale, and by what counts as zero.
fn rounding(x: &[f32], w: &[f32], scales: [f32; 2]) -> f64 {
    // A little more than half: the factor 127/a, and the scale, are rounded.
    let [s, t] = scales.map(|scale| (0.5001 * f64::from(scale)).max(2f64.powi(-119)));
    let off = |(x, w): (&f32, &f32)| {
        let (x, w) = (f64::from(x.abs()), f64::from(w.abs()));
        x * t + w * s + s * t
    };
    x.iter().zip(w).map(off).sum()
}

/// Of a row of x that is not finite, and of no other, the results are NaN.
fn not_finite<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    let (m, n, k) = (5, 20, 70);
    let mut random = Random(1);
    let mut x = random.values(m * k, 1.0, DType::BF16);
    let w = random.values(n * k, 1.0, DType::BF16);
    (x[k + 3], x[2 * k + 69], x[4 * k]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    let case = "rows that are not finite";
    let call = Call {
        x: (&x, DType::BF16),
        w: (&w, DType::BF16),
        bias: None,
        sizes: [m, n, k],
        activation: Activation::None,
        out: DType::F32,
        residual: None,
    };
    let got = everywhere!(judge, case, DType::I8, |device| {
        let y = floats(&call.on(device, |device, matrix| ops::pack_int8(device, matrix))?);
        y.into_iter().map(|y| u32::from(y.is_nan())).collect::<Vec<_>>()
    });
    let expected: Vec<u32> = (0..m * n).map(|i| u32::from([1, 2, 4].contains(&(i / n)))).collect();
    judge.exactly(case, &got, &expected);
    Ok(())
}
