//! `attention`.

use super::judge::*;
use crate::device::{Attention, Device, Heads};
use crate::ops;
use crate::tensor::DType;

#[derive(Clone, Copy, Debug)]
struct Case {
    sizes: Attention,
    together: bool, // q, k and v are columns of one tensor, as self-attention packs them
    scale: f32,     // of queries and keys
}

fn case(batch: usize, heads: usize, head_dim: usize, queries: usize, keys: usize) -> Case {
    let sizes =
        Attention { batch, heads, head_dim, queries, keys, lengths: [keys; 2], causal: false };
    Case { sizes, together: queries == keys, scale: 1.0 }
}

fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(1, 1, 64, 1, 1),
        case(1, 2, 32, 3, 5),
        case(2, 1, 80, 17, 17),
        case(2, 3, 64, 33, 65),
        case(1, 2, 96, 64, 64),
        case(1, 1, 128, 70, 129),
        case(2, 2, 64, 100, 100),
        case(1, 1, 32, 300, 64),
        // Heads that fill no tile, or have no 16-byte rows.
        case(1, 3, 8, 20, 66),
        case(1, 2, 72, 17, 33),
        case(2, 1, 120, 16, 128),
        case(1, 3, 5, 9, 70),
        case(2, 1, 20, 33, 33),
        case(1, 1, 136, 5, 65),
        // Enough heads for blocks of two and of four warps.
        case(2, 12, 32, 100, 70),
        case(2, 12, 32, 200, 130),
        // Enough for twice the rows a warp.
        case(2, 66, 32, 129, 66),
        case(2, 66, 64, 129, 9),
    ];
    // Masks: one key, all keys, and a different number for each sequence.
    for lengths in [[1, 77], [77, 1], [16, 64], [63, 65]] {
        let mut masked = case(2, 2, 64, 20, 77);
        masked.sizes.lengths = lengths;
        cases.push(masked);
    }
    // A softmax that is all but a maximum, and one that is all but a mean.
    cases.push(Case { scale: 30.0, ..case(1, 2, 64, 29, 90) });
    cases.push(Case { scale: 1e-3, ..case(1, 2, 64, 29, 90) });
    cases
}

/// Fewer queries than a block, tails of both blocks, several blocks, and CLIP's 77.
fn causal() -> Vec<Case> {
    let sizes = [(1, 2, 32, 1), (1, 1, 64, 5), (2, 2, 20, 33), (1, 3, 64, 64), (2, 12, 64, 77)];
    let more = [(1, 1, 32, 65), (1, 2, 8, 130), (2, 1, 64, 200)];
    let of = |(batch, heads, head_dim, rows)| {
        let mut case = case(batch, heads, head_dim, rows, rows);
        case.sizes.causal = true;
        case
    };
    let mut cases: Vec<Case> = sizes.into_iter().chain(more).map(of).collect();
    // Keys that do not exist beside those that come later.
    let mut masked = of((2, 2, 64, 77));
    masked.sizes.lengths = [3, 70];
    cases.push(masked);
    cases.push(Case { scale: 30.0, ..of((1, 2, 64, 90)) });
    cases
}

pub(super) fn attention<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    run(judge, cases())
}

pub(super) fn causal_attention<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    run(judge, causal())
}

fn run<D: Device>(judge: &mut Judge<'_, D>, cases: Vec<Case>) -> Checked<()> {
    for case in cases {
        let Case { sizes, together, scale } = case;
        let Attention { batch, heads, head_dim, queries, keys, lengths, causal } = sizes;
        let width = heads * head_dim;
        let mut random = Random((queries * 1009 + keys * 31 + head_dim) as u64);
        let mut q = random.halves(batch * queries * width, scale);
        let mut k = random.halves(batch * keys * width, scale);
        let mut v = random.halves(batch * keys * width, 1.0);
        for (sequence, &length) in lengths[..batch].iter().enumerate() {
            // What is masked must not be read into anything.
            for row in length..keys {
                let at = (sequence * keys + row) * width;
                k[at..at + width].fill(half::bf16::NAN);
                v[at..at + width].fill(half::bf16::NAN);
            }
        }
        if scale == 1.0 {
            q[0] = half::bf16::from_f32(300.0);
        }
        let packed: Vec<_> = q
            .chunks(width)
            .zip(k.chunks(width).zip(v.chunks(width)))
            .flat_map(|(q, (k, v))| [q, k, v].concat())
            .collect();

        let got = everywhere!(judge, case, |device| {
            let mut out = output::<half::bf16, _>(device, [batch * queries, width])?;
            let y = &mut out.tensor;
            if together {
                let all = input(device, &packed, [batch * queries, 3 * width])?;
                let [q, k, v] =
                    [0, width, 2 * width].map(|offset| Heads { tensor: &all.tensor, offset });
                ops::attention(device, y, q, k, v, sizes)?;
            } else {
                let q = input(device, &q, [batch * queries, width])?;
                let k = input(device, &k, [batch * keys, width])?;
                let v = input(device, &v, [batch * keys, width])?;
                let [q, k, v] = [&q, &k, &v].map(|x| Heads { tensor: &x.tensor, offset: 0 });
                ops::attention(device, y, q, k, v, sizes)?;
            }
            bits(&out.floats(device)?)
        });

        let (mut exactly, mut naive) = (Vec::new(), Vec::new());
        for row in 0..batch * queries {
            let sequence = row / queries;
            let seen = if causal { row % queries + 1 } else { keys };
            let length = lengths[sequence].min(seen);
            for head in 0..heads {
                let q = &q[row * width + head * head_dim..][..head_dim];
                let key = |x: &[half::bf16], j: usize, c: usize| {
                    x[(sequence * keys + j) * width + head * head_dim + c]
                };
                let root = (head_dim as f64).sqrt();
                let (mut exact, mut single) = (Vec::new(), Vec::new());
                for j in 0..length {
                    let (mut s, mut t) = (0.0f64, 0.0f32);
                    for (c, q) in q.iter().enumerate() {
                        s += q.to_f64() * key(&k, j, c).to_f64();
                        t += q.to_f32() * key(&k, j, c).to_f32();
                    }
                    exact.push(s / root);
                    single.push(t * (1.0 / root as f32));
                }
                let most = exact.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let exact: Vec<f64> = exact.iter().map(|s| (s - most).exp()).collect();
                let most = single.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let single: Vec<f32> = single.iter().map(|s| (s - most).exp()).collect();
                let (total, total32) = (exact.iter().sum::<f64>(), single.iter().sum::<f32>());
                for c in 0..head_dim {
                    let y = (0..length).map(|j| exact[j] * key(&v, j, c).to_f64()).sum::<f64>();
                    let z = (0..length).map(|j| single[j] * key(&v, j, c).to_f32()).sum::<f32>();
                    exactly.push(y / total);
                    naive.push(stored(z / total32, DType::BF16));
                }
            }
        }
        judge.check_both(case, &got, &exactly, &naive, DType::BF16);
    }
    Ok(())
}
