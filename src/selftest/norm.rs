//! `layer_norm` and `group_norm_silu`.

use super::judge::*;
use crate::device::{Device, Norm};
use crate::ops;
use crate::tensor::DType;
use half::bf16;

/// (rows, channels, mean, spread)
const ROWS: [(usize, usize, f32, f32); 10] = [
    (1, 1, 0.0, 1.0),
    (3, 3, 1.0, 1.0),
    (2, 15, 0.0, 1e-4),
    (5, 16, -2.0, 3.0),
    (4, 17, 0.0, 1e4),
    (7, 33, 100.0, 1.0),
    (1, 257, 0.0, 1e15),
    (300, 256, 0.5, 1.0),
    (64, 1024, 0.0, 1.0),
    (3, 96, 7.0, 0.0),
];

pub(super) fn layer_norm<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    for (case, (rows, d, mean, spread)) in ROWS.into_iter().enumerate() {
        for out in [DType::BF16, DType::F32] {
            rows_of(judge, case as u64, (rows, d, mean, spread), out)?;
        }
    }
    Ok(())
}

fn rows_of<D: Device>(
    judge: &mut Judge<'_, D>,
    seed: u64,
    (rows, d, mean, spread): (usize, usize, f32, f32),
    out: DType,
) -> Checked<()> {
    let case = (rows, d, mean, spread, out);
    let mut random = Random(seed);
    let x: Vec<f32> = random.floats(rows * d, spread).iter().map(|x| x + mean).collect();
    let (w, b) = (random.floats(d, 1.0), random.floats(d, 1.0));

    let got = everywhere!(judge, case, |device| {
        let x = input(device, &x, [rows, d])?;
        let (w, b) = (input(device, &w, [d])?, input(device, &b, [d])?);
        let norm = Norm { weight: w.tensor, bias: b.tensor, epsilon: 1e-6 };
        let mut y = float_output(device, out, [rows, d])?;
        ops::layer_norm(device, &mut y.tensor, &x.tensor, &norm)?;
        bits(&y.floats(device)?)
    });

    let (mut exactly, mut naive) = (Vec::new(), Vec::new());
    for x in x.chunks_exact(d) {
        let exact: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let (m, m32) = (exact.iter().sum::<f64>() / d as f64, x.iter().sum::<f32>() / d as f32);
        let v = exact.iter().map(|x| (x - m).powi(2)).sum::<f64>() / d as f64;
        let v32 = x.iter().map(|x| (x - m32).powi(2)).sum::<f32>() / d as f32;
        for c in 0..d {
            let epsilon = f64::from(1e-6f32);
            exactly.push((exact[c] - m) / (v + epsilon).sqrt() * f64::from(w[c]) + f64::from(b[c]));
            naive.push(stored((x[c] - m32) / (v32 + 1e-6).sqrt() * w[c] + b[c], out));
        }
    }
    judge.check_both(case, &got, &exactly, &naive, out);
    Ok(())
}

/// (images, height, width, channels, groups, mean, spread)
const IMAGES: [(usize, usize, usize, usize, usize, f32, f32); 13] = [
    (1, 1, 1, 4, 2, 0.0, 1.0),
    (2, 3, 5, 6, 3, 1.0, 1.0),
    (1, 4, 4, 17, 1, 0.0, 5.0),
    (1, 8, 8, 32, 32, 0.0, 1.0),
    (2, 6, 7, 33, 11, -3.0, 1.0),
    (1, 40, 41, 48, 8, 0.0, 20.0),
    (2, 30, 40, 64, 32, 10.0, 1.0),
    (1, 5, 5, 16, 4, 2.0, 0.0),
    // Groups across threads; more channels than threads, one at a time and in eights; many groups.
    (1, 9, 7, 96, 6, 0.5, 1.0),
    (2, 3, 3, 259, 7, 1.0, 1.0),
    (1, 5, 3, 2064, 43, 0.0, 1.0),
    (1, 4, 3, 520, 260, 10.0, 1.0),
    // So many pixels that a block takes its own in several rounds.
    (1, 45, 50, 257, 1, 10.0, 1.0),
];

pub(super) fn group_norm_silu<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    for case in IMAGES {
        let (images, height, width, channels, groups, mean, spread) = case;
        let pixels = height * width;
        let mut random = Random((pixels * channels) as u64);
        let x: Vec<bf16> = random
            .floats(images * pixels * channels, spread)
            .iter()
            .map(|x| bf16::from_f32(x + mean))
            .collect();
        let (w, b) = (random.floats(channels, 1.0), random.floats(channels, 2.0));

        let got = everywhere!(judge, case, |device| {
            let x = input(device, &x, [images, height, width, channels])?;
            let (w, b) = (input(device, &w, [channels])?, input(device, &b, [channels])?);
            let norm = Norm { weight: w.tensor, bias: b.tensor, epsilon: 1e-6 };
            let mut y = output::<bf16, _>(device, [images, height, width, channels])?;
            ops::group_norm_silu(device, &mut y.tensor, &x.tensor, &norm, groups)?;
            bits(&y.floats(device)?)
        });

        let (mut exactly, mut naive) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        let size = channels / groups;
        for (image, group) in (0..images * groups).map(|i| (i / groups, i % groups)) {
            let members: Vec<usize> = (0..pixels * size)
                .map(|i| (image * pixels + i / size) * channels + group * size + i % size)
                .collect();
            let n = members.len();
            let m = members.iter().map(|&i| x[i].to_f64()).sum::<f64>() / n as f64;
            let m32 = members.iter().map(|&i| x[i].to_f32()).sum::<f32>() / n as f32;
            let v = members.iter().map(|&i| (x[i].to_f64() - m).powi(2)).sum::<f64>() / n as f64;
            let v32 =
                members.iter().map(|&i| (x[i].to_f32() - m32).powi(2)).sum::<f32>() / n as f32;
            for &i in &members {
                let (w, b) = (w[i % channels], b[i % channels]);
                let root = (v + f64::from(1e-6f32)).sqrt();
                let y = (x[i].to_f64() - m) / root * f64::from(w) + f64::from(b);
                exactly[i] = y / (1.0 + (-y).exp());
                let y = (x[i].to_f32() - m32) / (v32 + 1e-6).sqrt() * w + b;
                naive[i] = stored(y / (1.0 + (-y).exp()), DType::BF16);
            }
        }
        judge.check_both(case, &got, &exactly, &naive, DType::BF16);
    }
    Ok(())
}
