//! `guide_and_sample` and `remask`.

use super::judge::*;
use crate::device::{Device, Masked, Remask, Sampling};
use crate::ops;
use crate::rng::{NoiseKey, Purpose};
use crate::tensor::DType;
use std::cmp::Ordering;

const NOISE: NoiseKey = NoiseKey { seed: 0xDEAD_BEEF_0123, stage: 1, step: 4 };

fn masked<D: Device>(
    device: &D,
    images: usize,
    grid: usize,
    positions: &[u32],
    keep: usize,
) -> Checked<Masked<D::Buffer>> {
    let n = positions.len();
    Ok(Masked {
        images,
        tokens: device.upload(&vec![9999u32; grid], [grid])?,
        positions: input(device, positions, [n])?.tensor,
        remaining: output::<u32, _>(device, [keep])?.tensor,
        sampled: output::<u32, _>(device, [n])?.tensor,
        confidence: output::<f32, _>(device, [n])?.tensor,
    })
}

#[derive(Clone, Copy, Debug)]
struct Case {
    n: usize,
    v: usize,
    guidance: f32,
    temperature: f32,
    top_k: usize,
    coarse: bool, // logits are multiples of ¼: many ties
    images: usize,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (n, v) in [(1, 1), (3, 15), (2, 33), (5, 64), (40, 257), (17, 1024), (4, 8192), (2, 5003)] {
        for (guidance, temperature) in [(1.0, 1.0), (3.0, 0.0), (7.5, 0.6), (0.0, 2.0)] {
            for top_k in [0, 1, 10, 200] {
                for coarse in [false, true] {
                    cases.push(Case { n, v, guidance, temperature, top_k, coarse, images: 1 });
                }
            }
        }
    }
    // Ties that only their index decides, thousands of them.
    for (guidance, temperature) in [(1.0, 1.0), (7.5, 0.6)] {
        for (v, top_k) in [(8192, 3000), (5003, 5002)] {
            cases.push(Case { n: 2, v, guidance, temperature, top_k, coarse: true, images: 1 });
        }
    }
    // Several images, each with noise of its own.
    for (images, n, v) in [(2, 16, 257), (5, 40, 1024)] {
        cases.push(Case {
            n,
            v,
            guidance: 3.0,
            temperature: 0.6,
            top_k: 10,
            coarse: false,
            images,
        });
        cases.push(Case { n, v, guidance: 1.0, temperature: 1.0, top_k: 0, coarse: false, images });
    }
    cases
}

pub(super) fn guide_and_sample<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    // Confidences are judged together where their sizes are alike: a handful of rows can be lucky
    // enough to make the naive error next to nothing.
    let mut confidences = std::collections::HashMap::new();
    for case in cases() {
        let Case { n, v, guidance, temperature, top_k, coarse, images } = case;
        let mut random = Random((n * v) as u64);
        let mut logits = random.floats(2 * n * v, 3.0);
        if coarse {
            logits.iter_mut().for_each(|l| *l = (*l * 4.0).round() / 4.0);
        }
        if guidance == 1.0 {
            logits.truncate(n * v);
        }
        let positions: Vec<u32> = (0..n as u32).map(|j| 3 * j + 1).collect();

        let results = everywhere!(judge, case, |device| {
            let mut masked = masked(device, images, 4 * n, &positions, 0)?;
            let logits = input(device, &logits, [logits.len() / v, v])?.tensor;
            let sampling = Sampling { guidance, temperature, top_k, noise: NOISE };
            ops::guide_and_sample(device, &mut masked, &logits, sampling)?;
            let tokens: Vec<u32> = device.download(&masked.sampled)?;
            let confidence: Vec<f32> = device.download(&masked.confidence)?;
            tokens.into_iter().zip(bits(&confidence)).collect::<Vec<_>>()
        });
        let [cpu, device] = results.each_ref().map(|got| got.iter().map(|&(token, _)| token));
        let same = cpu.eq(device);
        judge
            .expect(same, || format!("{case:?}: the same noise and comparisons, but other tokens"));
        for got in results {
            let (all, exactly, naive): &mut (Vec<f32>, Vec<f64>, Vec<f32>) =
                confidences.entry([guidance, temperature].map(f32::to_bits)).or_default();
            for (j, &(token, confidence)) in got.iter().enumerate() {
                let token = token as usize;
                let c = &logits[j * v..][..v];
                let guided: Vec<f64> = (0..v)
                    .map(|t| match guidance {
                        1.0 => f64::from(c[t]),
                        _ => {
                            let u = f64::from(logits[(n + j) * v + t]);
                            u + f64::from(guidance) * (f64::from(c[t]) - u)
                        }
                    })
                    .collect();
                let mut order: Vec<usize> = (0..v).collect();
                order.sort_by(|&a, &b| guided[b].total_cmp(&guided[a]).then(a.cmp(&b)));
                order.truncate(if top_k == 0 { v } else { top_k });
                let divisor = if temperature > 0.0 { f64::from(temperature) } else { 1.0 };
                let score = |t: usize| {
                    let noise = match temperature > 0.0 {
                        true => {
                            let (position, cells) = (positions[j] as usize, 4 * n / images);
                            let noise = NOISE.of_image(position / cells);
                            noise.gumbel(Purpose::Token, (position % cells) as u32, t as u32)
                        }
                        false => 0.0,
                    };
                    guided[t] / divisor + f64::from(noise)
                };
                order.sort();
                let best = order
                    .iter()
                    .copied()
                    .fold(order[0], |a, b| if score(b) > score(a) { b } else { a });
                // Another token only where f32 cannot tell them apart.
                let near = order.contains(&token) && score(best) - score(token) < 1e-5;
                let exact = coarse && temperature == 0.0;
                judge.expect(token == best || (near && !exact), || {
                    format!("{case:?}: row {j}: token {token}, should be {best}")
                });

                let most =
                    order.iter().map(|&t| guided[t] / divisor).fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = order.iter().map(|&t| (guided[t] / divisor - most).exp()).sum();
                exactly.push(guided[token] / divisor - most - sum.ln());
                let single = |t: usize| match guidance {
                    1.0 => c[t] / divisor as f32,
                    _ => {
                        let u = logits[(n + j) * v + t];
                        (u + guidance * (c[t] - u)) / divisor as f32
                    }
                };
                let most = order.iter().map(|&t| single(t)).fold(f32::NEG_INFINITY, f32::max);
                let sum: f32 = order.iter().map(|&t| (single(t) - most).exp()).sum();
                naive.push(single(token) - most - sum.ln());
                all.push(f32::from_bits(confidence));
            }
        }
    }
    for (scales, (all, exactly, naive)) in confidences {
        judge.check(scales.map(f32::from_bits), &all, &exactly, &naive, DType::F32);
    }
    Ok(())
}

/// Noise is the same to the bit. A logarithm that is contracted or rounded elsewhere differs in a few draws of a thousand only.
fn noise<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    let n = 40_000;
    let positions: Vec<u32> = (0..n as u32).collect();
    for noise in [NOISE, NoiseKey { seed: u64::MAX - 9, stage: 0, step: u16::MAX }] {
        let expected: Vec<f32> =
            positions.iter().map(|&p| noise.gumbel(Purpose::Confidence, p, 0)).collect();
        let got = everywhere!(judge, noise, |device| {
            let mut masked = masked(device, 1, n, &positions, 0)?;
            masked.sampled = device.upload(&positions, [n])?;
            masked.confidence = device.upload(&vec![0.0f32; n], [n])?;
            let remask = Remask { keep_masked: 0, temperature: 1.0, mask_token: 0, noise };
            ops::remask(device, &mut masked, remask)?;
            bits(&device.download(&masked.confidence)?)
        });
        judge.exactly(noise, &got, &bits(&expected));
    }
    Ok(())
}

pub(super) fn remask<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    noise(judge)?;
    let sizes = [(1, 0), (2, 1), (16, 15), (33, 10), (100, 0), (100, 99), (1024, 300)];
    let sizes = sizes.into_iter().chain([(1025, 1024), (4096, 1), (4096, 2500)]);
    let sizes = sizes.map(|(n, keep)| (1, n, keep));
    for (images, n, keep) in sizes.chain([(2, 1, 0), (3, 16, 15), (5, 100, 33), (2, 1025, 700)]) {
        for temperature in [0.0, 4.5] {
            for ties in [false, true] {
                let case = (images, n, keep, temperature, ties);
                let (all, cells) = (images * n, 2 * n + 2);
                let mut random = Random((all + keep) as u64);
                let within: Vec<u32> = (0..n as u32).map(|j| 2 * j + j % 2).collect();
                let position = |j: usize| within[j % n] + (j / n * cells) as u32;
                let positions: Vec<u32> = (0..all).map(position).collect();
                let sampled: Vec<u32> = (0..all as u32).map(|j| 10 + j).collect();
                let mut confidence = random.floats(all, 2.0);
                if ties {
                    confidence.iter_mut().for_each(|c| *c = c.round());
                }
                let got = everywhere!(judge, case, |device| {
                    let kept = images * keep;
                    let mut masked = masked(device, images, images * cells, &positions, kept)?;
                    let before = vec![9999u32; images * cells];
                    let mut tokens = input(device, &before, [images * cells])?;
                    std::mem::swap(&mut tokens.tensor, &mut masked.tokens);
                    masked.sampled = device.upload(&sampled, [all])?;
                    masked.confidence = device.upload(&confidence, [all])?;
                    let remask =
                        Remask { keep_masked: keep, temperature, mask_token: 7777, noise: NOISE };
                    ops::remask(device, &mut masked, remask)?;
                    std::mem::swap(&mut tokens.tensor, &mut masked.tokens);
                    let mut found = tokens.read::<u32>(device)?;
                    found.extend(device.download::<u32>(&masked.remaining)?);
                    found.extend(bits(&device.download::<f32>(&masked.confidence)?));
                    found
                });
                let noisy: Vec<f32> = (0..all)
                    .map(|j| {
                        let noise = NOISE.of_image(j / n);
                        let noise = noise.gumbel(Purpose::Confidence, within[j % n], 0);
                        confidence[j] + temperature * noise
                    })
                    .collect();
                // Zeros are equal, whatever their sign.
                let ascending = |a: f32, b: f32| a.partial_cmp(&b).unwrap_or(Ordering::Equal);
                let mut lowest = Vec::new();
                for image in 0..images {
                    let mut order: Vec<usize> = (image * n..(image + 1) * n).collect();
                    order.sort_by(|&a, &b| ascending(noisy[a], noisy[b]).then(a.cmp(&b)));
                    lowest.extend_from_slice(&order[..keep]);
                }
                lowest.sort();
                let mut expected = vec![9999u32; images * cells];
                for j in 0..all {
                    expected[positions[j] as usize] =
                        if lowest.contains(&j) { 7777 } else { sampled[j] };
                }
                expected.extend(lowest.iter().map(|&j| positions[j]));
                expected.extend(bits(&noisy));
                judge.exactly(case, &got, &expected);
            }
        }
    }
    Ok(())
}
