//! What must hold of results beyond the case tables, on the CPU.

use half::bf16;
use muse::device::{Activation, Device, HostMatrix, Masked, Sampling};
use muse::ops;
use muse::rng::NoiseKey;
use muse::selftest::judge::*;

use crate::cpus;

/// A row's result does not depend on the rows beside it.
#[test]
fn rows_do_not_depend_on_the_batch() {
    let (m, n, k) = (37, 49, 95);
    let mut random = Random(3);
    let (x, w) = (random.halves(m * k, 1.0), random.halves(n * k, 1.0));
    for device in cpus() {
        let matrix = HostMatrix { weight: (&w).into(), bias: None, rows: n, cols: k, taps: 1 };
        let weight = ops::pack(device, matrix).unwrap();
        let run = |x: &[bf16]| {
            let rows = x.len() / k;
            let mut y = output::<f32, _>(device, [rows, n]).unwrap();
            let x = input(device, x, [rows, k]).unwrap();
            ops::linear(device, &mut y.tensor, &x.tensor, &weight, Activation::None).unwrap();
            bits(&y.floats(device).unwrap())
        };
        let whole = run(&x);
        for rows in [1, 2, 14, 20] {
            assert_eq!(run(&x[..rows * k]), whole[..rows * n], "{rows} rows");
        }
    }
}

/// The draws follow the softmax: a chi-squared test at four logits.
#[test]
fn draws_follow_the_distribution() {
    let (device, n) = (&cpus()[0], 4000);
    let row = [1.0f32, 0.0, -1.0, 2.0];
    let positions: Vec<u32> = (0..n as u32).collect();
    let mut masked = Masked {
        images: 1,
        tokens: device.upload(&vec![0u32; n], [n]).unwrap(),
        positions: device.upload(&positions, [n]).unwrap(),
        remaining: device.upload::<u32>(&[], [0]).unwrap(),
        sampled: device.upload(&vec![0u32; n], [n]).unwrap(),
        confidence: device.upload(&vec![0f32; n], [n]).unwrap(),
    };
    let noise = NoiseKey { seed: 0xDEAD_BEEF_0123, stage: 1, step: 4 };
    let logits = device.upload(&row.repeat(n), [n, 4]).unwrap();
    let sampling = Sampling { guidance: 1.0, temperature: 1.0, top_k: 0, noise };
    ops::guide_and_sample(device, &mut masked, &logits, sampling).unwrap();
    let tokens: Vec<u32> = device.download(&masked.sampled).unwrap();
    let total: f64 = row.iter().map(|&l| f64::from(l).exp()).sum();
    let chi: f64 = (0..4)
        .map(|t| {
            let expected = n as f64 * f64::from(row[t]).exp() / total;
            let count = tokens.iter().filter(|&&token| token == t as u32).count() as f64;
            (count - expected).powi(2) / expected
        })
        .sum();
    assert!(chi < 16.3, "chi-squared {chi} with 3 degrees of freedom: p < 0.001");
}
