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
    dtype: DType,
}

fn case(batch: usize, heads: usize, head_dim: usize, queries: usize, keys: usize) -> Case {
    let sizes = Attention::new(batch, [heads, head_dim], [queries, keys]);
    Case { sizes, together: queries == keys, scale: 1.0, dtype: DType::BF16 }
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
    // Masks: one key, all keys, and a different number for each sequence, or each half of several.
    for (batch, lengths) in
        [(2, [1, 77]), (2, [77, 1]), (2, [16, 64]), (2, [63, 65]), (6, [70, 9]), (3, [5, 66])]
    {
        let mut masked = case(batch, 2, 64, 20, 77);
        masked.sizes.lengths = lengths;
        cases.push(masked);
    }
    // Many sequences, one after another and taking turns: the axes of a grid in blocks.
    for (batch, step, head_dim, rows) in
        [(6, 1, 64, 20), (6, 3, 64, 20), (10, 5, 32, 65), (4, 2, 80, 17), (6, 3, 20, 9)]
    {
        let mut turns = case(batch, 2, head_dim, rows, rows);
        turns.sizes.step = step;
        cases.push(turns);
    }
    // A softmax that is all but a maximum, and one that is all but a mean.
    cases.push(Case { scale: 30.0, ..case(1, 2, 64, 29, 90) });
    cases.push(Case { scale: 1e-3, ..case(1, 2, 64, 29, 90) });
    let f32s = cases.iter().filter(|case| case.sizes.heads < 4);
    let f32s: Vec<Case> = f32s.map(|case| Case { dtype: DType::F32, ..*case }).collect();
    cases.extend(f32s);
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
    let f32s = cases.iter().filter(|case| case.sizes.heads < 4);
    let f32s: Vec<Case> = f32s.map(|case| Case { dtype: DType::F32, ..*case }).collect();
    cases.extend(f32s);
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
        let Case { sizes, together, scale, dtype } = case;
        let Attention { batch, heads, head_dim, queries, keys, .. } = sizes;
        if judge.skips(batch * heads * head_dim * queries * keys, dtype) {
            continue;
        }
        let width = heads * head_dim;
        let mut random = Random((queries * 1009 + keys * 31 + head_dim) as u64);
        let mut q = random.values(batch * queries * width, scale, dtype);
        let mut k = random.values(batch * keys * width, scale, dtype);
        let mut v = random.values(batch * keys * width, 1.0, dtype);
        for x in [&mut k, &mut v] {
            mask(x, sizes);
        }
        if scale == 1.0 {
            // In f32 in every row: one could be lucky enough to make the naive error next to nothing.
            let rows = if dtype == DType::F32 { batch * queries } else { 1 };
            q.iter_mut().step_by(width).take(rows).for_each(|q| *q = 300.0);
        }
        let packed: Vec<_> = q
            .chunks(width)
            .zip(k.chunks(width).zip(v.chunks(width)))
            .flat_map(|(q, (k, v))| [q, k, v].concat())
            .collect();

        let got = everywhere!(judge, case, dtype, |device| {
            // Of more sequences than a guided image has, each half of the columns by itself.
            let columns: &[usize] = if batch > 2 { &[0, width] } else { &[0] };
            let mut out = float_output(device, dtype, [batch * queries, columns.len() * width])?;
            let y = &mut out.tensor;
            for &column in columns {
                let sizes = Attention { column, ..sizes };
                if together {
                    let all = float_input(device, &packed, dtype, [batch * queries, 3 * width])?;
                    let [q, k, v] =
                        [0, width, 2 * width].map(|offset| Heads { tensor: &all.tensor, offset });
                    ops::attention(device, y, q, k, v, sizes)?;
                } else {
                    let q = float_input(device, &q, dtype, [batch * queries, width])?;
                    let k = float_input(device, &k, dtype, [batch * keys, width])?;
                    let v = float_input(device, &v, dtype, [batch * keys, width])?;
                    let [q, k, v] = [&q, &k, &v].map(|x| Heads { tensor: &x.tensor, offset: 0 });
                    ops::attention(device, y, q, k, v, sizes)?;
                }
            }
            bits(&out.floats(device)?)
        });

        let (mut exactly, mut naive) = attended([&q, &q], &k, &v, sizes, dtype);
        if batch > 2 {
            exactly = exactly.chunks(width).flat_map(|row| [row, row].concat()).collect();
            naive = naive.chunks(width).flat_map(|row| [row, row].concat()).collect();
        }
        judge.check_both(case, &got, &exactly, &naive, dtype);
    }
    Ok(())
}

/// What is masked must not be read into anything.
pub(super) fn mask(x: &mut [f32], sizes: Attention) {
    let width = sizes.heads * sizes.head_dim;
    for sequence in 0..sizes.batch {
        let rows = sequence * sizes.keys + sizes.length(sequence)..(sequence + 1) * sizes.keys;
        x[rows.start * width..rows.end * width].fill(f32::NAN);
    }
}

/// The attention of `q[0]` exactly, and of `q[1]` naively, stored as `dtype`.
pub(super) fn attended(
    q: [&[f32]; 2],
    k: &[f32],
    v: &[f32],
    sizes: Attention,
    dtype: DType,
) -> (Vec<f64>, Vec<f32>) {
    let Attention { batch, heads, head_dim, queries, keys, causal, step, .. } = sizes;
    let width = heads * head_dim;
    let (mut exactly, mut naive) = (Vec::new(), Vec::new());
    for row in 0..batch * queries {
        let sequence = row / (queries * step) * step + row % step;
        let seen = if causal { row % (queries * step) / step + 1 } else { keys };
        let length = sizes.length(sequence).min(seen);
        let first = sizes.first_row(sequence, keys);
        for head in 0..heads {
            let [q, q32] = q.map(|q| &q[row * width + head * head_dim..][..head_dim]);
            let key =
                |x: &[f32], j: usize, c: usize| x[(first + j * step) * width + head * head_dim + c];
            let root = (head_dim as f64).sqrt();
            let (mut exact, mut single) = (Vec::new(), Vec::new());
            for j in 0..length {
                let (mut s, mut t) = (0.0f64, 0.0f32);
                for (c, (&q, &q32)) in q.iter().zip(q32).enumerate() {
                    s += f64::from(q) * f64::from(key(k, j, c));
                    t += q32 * key(k, j, c);
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
                let y = (0..length).map(|j| exact[j] * f64::from(key(v, j, c))).sum::<f64>();
                let z = (0..length).map(|j| single[j] * key(v, j, c)).sum::<f32>();
                exactly.push(y / total);
                naive.push(stored(z / total32, dtype));
            }
        }
    }
    (exactly, naive)
}
