//! The bits themselves: the same on every machine, on any number of threads, on every SIMD level, in debug and
//! in release.
//!
//! On AVX512-BF16 that holds where no factor and no sum of a product of bf16 is denormal: it takes those for
//! zero ([`muse::cpu::Simd::pairs`]). The table of `linear` has a case where some are; there each kind of level
//! agrees with itself.
//!
//! A change of one of these hashes is a change of what users get for a seed: say so in the changelog.

use crate::cpus;
use half::bf16;
use muse::device::{
    Activation, Attention, Conv, Heads, HostMatrix, Masked, Norm, NormKind, Sampling,
};
use muse::ops;
use muse::rng::NoiseKey;
use muse::selftest::judge::*;

/// FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01B3))
}

fn pin(name: &str, expected: u64, run: impl Fn(&muse::cpu::Cpu) -> Checked<Vec<u32>>) {
    let got = hash(bytemuck::cast_slice(&on_cpus(cpus(), name, run).unwrap()));
    assert_eq!(
        got, expected,
        "{name}: the result's hash is {got:#018x}, should be {expected:#018x}"
    );
}

#[test]
fn linear_gelu() {
    let (m, n, k) = (33, 70, 600);
    let mut random = Random(1);
    let (x, w) = (random.halves(m * k, 1.0), random.halves(n * k, 0.04));
    let bias = random.floats(n, 1.0);
    pin("linear", 0xf63d_0ad4_7eab_aeb8, |device| {
        let (weight, bias) = ((&w).into(), Some(bias.clone()));
        let weight = ops::pack(device, HostMatrix { weight, bias, rows: n, cols: k, taps: 1 })?;
        let x = input(device, &x, [m, k])?;
        let mut y = output::<f32, _>(device, [m, n])?;
        ops::linear(device, &mut y.tensor, &x.tensor, &weight, Activation::Gelu)?;
        Ok(bits(&y.floats(device)?))
    });
}

#[test]
fn linear_int8() {
    let (m, n, k) = (33, 70, 601);
    let mut random = Random(1);
    let (x, w) = (random.halves(m * k, 1.0), random.halves(n * k, 0.04));
    let bias = random.floats(n, 1.0);
    pin("linear_int8", 0x61b6_dc40_17a9_4d70, |device| {
        let (weight, bias) = ((&w).into(), Some(bias.clone()));
        let matrix = HostMatrix { weight, bias, rows: n, cols: k, taps: 1 };
        let weight = ops::pack_int8(device, matrix)?;
        let x = input(device, &x, [m, k])?;
        let mut y = output::<f32, _>(device, [m, n])?;
        ops::linear(device, &mut y.tensor, &x.tensor, &weight, Activation::Gelu)?;
        Ok(bits(&y.floats(device)?))
    });
}

#[test]
fn attention() {
    let sizes = Attention { lengths: [85, 0], ..Attention::new(1, [2, 64], [50, 90]) };
    let mut random = Random(2);
    let [q, k, v] = [50, 90, 90].map(|rows| random.halves(rows * 128, 1.5));
    pin("attention", 0xd68f_0cd5_9201_9e87, |device| {
        let q = input(device, &q, [50, 128])?;
        let (k, v) = (input(device, &k, [90, 128])?, input(device, &v, [90, 128])?);
        let [q, k, v] = [&q, &k, &v].map(|x| Heads { tensor: &x.tensor, offset: 0 });
        let mut y = output::<bf16, _>(device, [50, 128])?;
        ops::attention(device, &mut y.tensor, q, k, v, sizes)?;
        Ok(bits(&y.floats(device)?))
    });
}

#[test]
fn conv_and_norms() {
    let (h, w, c) = (12, 10, 24);
    let mut random = Random(3);
    let (x, weights) = (random.floats(h * w * c, 1.0), random.halves(9 * c * c, 0.1));
    let (scale, shift) = (random.floats(c, 1.0), random.floats(c, 1.0));
    pin("norms", 0x3910_992d_93f7_0978, |device| {
        let norm = || Norm {
            kind: NormKind::Layer,
            weight: input(device, &scale, [c]).unwrap().tensor,
            bias: Some(input(device, &shift, [c]).unwrap().tensor),
            epsilon: 1e-6,
        };
        let matrix =
            HostMatrix { weight: (&weights).into(), bias: None, rows: c, cols: c, taps: 9 };
        let weight = ops::pack(device, matrix.phases())?;
        let x = input(device, &x, [1, h, w, c])?;
        let mut y = output::<bf16, _>(device, [1, h, w, c])?;
        ops::group_norm_silu(device, &mut y.tensor, &x.tensor, &norm(), 8)?;
        let mut z = output::<f32, _>(device, [1, 2 * h, 2 * w, c])?;
        ops::conv2d(device, &mut z.tensor, &y.tensor, &weight, Conv::Up, None)?;
        let mut out = output::<f32, _>(device, [4 * h * w, c])?;
        ops::layer_norm(device, &mut out.tensor, &z.tensor, &norm())?;
        Ok(bits(&out.floats(device)?))
    });
}

#[test]
fn sampling() {
    let (n, v) = (20, 500);
    let logits = Random(4).floats(2 * n * v, 2.0);
    let positions: Vec<u32> = (0..n as u32).collect();
    pin("sampling", 0x647e_9aae_45b8_169b, |device| {
        let mut masked = Masked {
            images: 1,
            tokens: input(device, &positions, [n])?.tensor,
            positions: input(device, &positions, [n])?.tensor,
            remaining: output::<u32, _>(device, [0])?.tensor,
            sampled: output::<u32, _>(device, [n])?.tensor,
            confidence: output::<f32, _>(device, [n])?.tensor,
        };
        let noise = NoiseKey { seed: 99, stage: 1, step: 2 };
        let sampling = Sampling { guidance: 2.5, temperature: 0.9, top_k: 0, noise };
        let logits = input(device, &logits, [2 * n, v])?;
        ops::guide_and_sample(device, &mut masked, &logits.tensor, sampling)?;
        let mut all: Vec<u32> = muse::device::Device::download(device, &masked.sampled)?;
        let confidence: Vec<f32> = muse::device::Device::download(device, &masked.confidence)?;
        all.extend(bits(&confidence));
        Ok(all)
    });
}
