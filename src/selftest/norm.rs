//! `layer_norm`, with every kind of norm and modulation, and `group_norm_silu`.

use super::judge::*;
use crate::device::{Device, Modulation, Norm, NormKind, Normalize};
use crate::ops;
use crate::tensor::DType;

const EPSILON: f32 = 1e-6;

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

/// A norm's parameters in host memory.
pub(super) struct Parameters {
    kind: NormKind,
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    modulation: Option<Columns>,
}

/// A modulation `[batch, width]` of which it is the columns from `offset` on that count.
struct Columns {
    batch: usize,
    width: usize,
    offset: usize,
    values: Vec<f32>,
}

/// What norm to take: its kind, whether it has a bias, and for how many sequences it is modulated.
pub(super) type Kind = (NormKind, bool, Option<usize>);

/// LayerNorm as BERT and Muse have it.
pub(super) const PLAIN: Kind = (NormKind::Layer, true, None);

/// Every other one, for `batch` sequences.
pub(super) fn kinds(batch: usize) -> [Kind; 7] {
    [
        (NormKind::Rms, false, None),
        (NormKind::Rms, false, Some(batch)),
        (NormKind::Layer, false, Some(batch)),
        (NormKind::Layer, true, Some(batch)),
        (NormKind::Layer, false, None),
        (NormKind::Rms, true, Some(1)),
        (NormKind::Rms, true, None),
    ]
}

impl Parameters {
    pub(super) fn random(
        random: &mut Random,
        channels: usize,
        (kind, bias, batch): Kind,
    ) -> Parameters {
        let weight = random.floats(channels, 1.0);
        let bias = bias.then(|| random.floats(channels, 1.0));
        let modulation = batch.map(|batch| Columns::random(random, channels, batch));
        Parameters { kind, weight, bias, modulation }
    }

    /// Calls `run` with the norm on `device`.
    pub(super) fn with<D: Device, T>(
        &self,
        device: &D,
        run: impl FnOnce(Normalize<'_, D::Buffer>) -> Checked<T>,
    ) -> Checked<T> {
        let channels = self.weight.len();
        let upload = |values: &Vec<f32>| input(device, values, [channels]);
        let bias = self.bias.as_ref().map(upload).transpose()?.map(|bias| bias.tensor);
        let (kind, weight) = (self.kind, upload(&self.weight)?.tensor);
        let norm = Norm { kind, weight, bias, epsilon: EPSILON };
        let Some(columns) = &self.modulation else {
            return run((&norm).into());
        };
        let tensor = input(device, &columns.values, [columns.batch, columns.width])?.tensor;
        let modulation = Some(Modulation { tensor: &tensor, offset: columns.offset });
        run(Normalize { norm: &norm, modulation })
    }

    /// The norm of the exact rows, exactly, and that of the naive ones, naively.
    pub(super) fn judge(&self, exact: &[f64], naive: &[f32], out: DType) -> (Vec<f64>, Vec<f32>) {
        let d = self.weight.len();
        let rows = exact.len() / d;
        let (mut exactly, mut naively) = (Vec::new(), Vec::new());
        for (row, (exact, naive)) in exact.chunks(d).zip(naive.chunks(d)).enumerate() {
            let centred = f64::from(u8::from(self.kind == NormKind::Layer));
            let m = centred * exact.iter().sum::<f64>() / d as f64;
            let m32 = centred as f32 * naive.iter().sum::<f32>() / d as f32;
            let v = exact.iter().map(|x| (x - m).powi(2)).sum::<f64>() / d as f64;
            let v32 = naive.iter().map(|x| (x - m32).powi(2)).sum::<f32>() / d as f32;
            for c in 0..d {
                let (w, b) = (self.weight[c], self.bias.as_ref().map_or(0.0, |bias| bias[c]));
                let root = (v + f64::from(EPSILON)).sqrt();
                let mut y = (exact[c] - m) / root * f64::from(w) + f64::from(b);
                let mut z = (naive[c] - m32) / (v32 + EPSILON).sqrt() * w + b;
                if let Some(columns) = &self.modulation {
                    let (s, t) = columns.of(row, rows, d, c);
                    y = y * (1.0 + f64::from(s)) + f64::from(t);
                    z = z * (1.0 + s) + t;
                }
                exactly.push(y);
                naively.push(stored(z, out));
            }
        }
        (exactly, naively)
    }
}

impl Columns {
    pub(super) fn random(random: &mut Random, channels: usize, batch: usize) -> Columns {
        let (width, offset) = (2 * channels + 5, 3);
        Columns { batch, width, offset, values: random.floats(batch * width, 1.0) }
    }

    /// Scale and shift of channel `c` of `d` in row `row` of `rows`.
    fn of(&self, row: usize, rows: usize, d: usize, c: usize) -> (f32, f32) {
        let at = row / (rows / self.batch) * self.width + self.offset + c;
        (self.values[at], self.values[at + d])
    }
}

pub(super) fn layer_norm<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    for (case, rows) in ROWS.into_iter().enumerate() {
        for out in [DType::BF16, DType::F32] {
            rows_of(judge, case as u64, rows, PLAIN, out)?;
        }
    }
    Ok(())
}

pub(super) fn norm_kinds<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    for (case, rows) in ROWS.into_iter().enumerate() {
        let most = [3, 2, 1].into_iter().find(|&batch| rows.0 % batch == 0).unwrap_or(1);
        for (i, kind) in kinds(most).into_iter().enumerate() {
            let out = [DType::BF16, DType::F32][(case + i) % 2];
            rows_of(judge, case as u64, rows, kind, out)?;
        }
    }
    Ok(())
}

fn rows_of<D: Device>(
    judge: &mut Judge<'_, D>,
    seed: u64,
    (rows, d, mean, spread): (usize, usize, f32, f32),
    kind: Kind,
    out: DType,
) -> Checked<()> {
    let case = (rows, d, mean, spread, kind, out);
    let mut random = Random(seed);
    let x: Vec<f32> = random.floats(rows * d, spread).iter().map(|x| x + mean).collect();
    let parameters = Parameters::random(&mut random, d, kind);

    let got = everywhere!(judge, case, |device| {
        let x = input(device, &x, [rows, d])?;
        let mut y = float_output(device, out, [rows, d])?;
        parameters
            .with(device, |norm| Ok(ops::layer_norm(device, &mut y.tensor, &x.tensor, norm)?))?;
        bits(&y.floats(device)?)
    });

    let exact: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let (exactly, naive) = parameters.judge(&exact, &x, out);
    judge.check_both(case, &got, &exactly, &naive, out);
    Ok(())
}

pub(super) fn modulate<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    // (rows, channels, sequences)
    for case in [(1, 1, 1), (2, 3, 2), (6, 17, 3), (5, 33, 1), (300, 256, 2), (64, 1000, 2)] {
        let (rows, d, batch) = case;
        let mut random = Random((rows * d) as u64);
        let x = random.floats(rows * d, 3.0);
        let columns = Columns::random(&mut random, d, batch);
        let got = everywhere!(judge, case, |device| {
            let tensor = input(device, &columns.values, [batch, columns.width])?.tensor;
            let mut x = input(device, &x, [rows, d])?;
            let by = Modulation { tensor: &tensor, offset: columns.offset };
            ops::modulate(device, &mut x.tensor, by)?;
            bits(&x.floats(device)?)
        });
        let (mut exactly, mut naive) = (Vec::new(), Vec::new());
        for (i, &x) in x.iter().enumerate() {
            let (s, t) = columns.of(i / d, rows, d, i % d);
            exactly.push(f64::from(x) * (1.0 + f64::from(s)) + f64::from(t));
            naive.push(x * (1.0 + s) + t);
        }
        judge.check_both(case, &got, &exactly, &naive, DType::F32);
    }
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
    // Groups across threads; more channels than threads, one at a time and in fours; many groups.
    (1, 9, 7, 96, 6, 0.5, 1.0),
    (2, 3, 3, 259, 7, 1.0, 1.0),
    (1, 5, 3, 2064, 43, 0.0, 1.0),
    (1, 4, 3, 520, 260, 10.0, 1.0),
    // So many pixels that a block takes its own in several rounds.
    (1, 45, 50, 257, 1, 10.0, 1.0),
];

pub(super) fn group_norm_silu<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    for case in IMAGES {
        for (dtype, parts) in [(DType::BF16, 1), (DType::BF16, 2), (DType::F32, 1)] {
            images_of(judge, case, dtype, parts)?;
        }
    }
    Ok(())
}

fn images_of<D: Device>(
    judge: &mut Judge<'_, D>,
    sizes: (usize, usize, usize, usize, usize, f32, f32),
    dtype: DType,
    parts: usize,
) -> Checked<()> {
    let case = (sizes, dtype, parts);
    let (images, height, width, channels, groups, mean, spread) = sizes;
    let pixels = height * width;
    let mut random = Random((pixels * channels) as u64);
    let mut x = random.floats(images * pixels * channels, spread);
    x.iter_mut().for_each(|x| *x += mean);
    let (w, b) = (random.floats(channels, 1.0), random.floats(channels, 2.0));

    let got = everywhere!(judge, case, dtype, |device| {
        let x = input(device, &x, [images, height, width, channels])?;
        let (w, b) = (input(device, &w, [channels])?, input(device, &b, [channels])?);
        let (weight, bias) = (w.tensor, Some(b.tensor));
        let norm = Norm { kind: NormKind::Layer, weight, bias, epsilon: EPSILON };
        let mut y = float_output(device, dtype, [images, height, width, parts * channels])?;
        ops::group_norm_silu(device, &mut y.tensor, &x.tensor, &norm, groups)?;
        let y = y.floats(device)?;
        bits(&if parts == 2 { whole(&y, channels) } else { y })
    });

    let (mut exactly, mut naive) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    let size = channels / groups;
    for (image, group) in (0..images * groups).map(|i| (i / groups, i % groups)) {
        let members: Vec<usize> = (0..pixels * size)
            .map(|i| (image * pixels + i / size) * channels + group * size + i % size)
            .collect();
        let n = members.len();
        let m = members.iter().map(|&i| f64::from(x[i])).sum::<f64>() / n as f64;
        let m32 = members.iter().map(|&i| x[i]).sum::<f32>() / n as f32;
        let v = members.iter().map(|&i| (f64::from(x[i]) - m).powi(2)).sum::<f64>() / n as f64;
        let v32 = members.iter().map(|&i| (x[i] - m32).powi(2)).sum::<f32>() / n as f32;
        for &i in &members {
            let (w, b) = (w[i % channels], b[i % channels]);
            let root = (v + f64::from(1e-6f32)).sqrt();
            let y = (f64::from(x[i]) - m) / root * f64::from(w) + f64::from(b);
            exactly[i] = y / (1.0 + (-y).exp());
            let y = (x[i] - m32) / (v32 + 1e-6).sqrt() * w + b;
            let y = y / (1.0 + (-y).exp());
            naive[i] = if parts == 2 { in_parts(y).iter().sum() } else { stored(y, dtype) };
        }
    }
    // Two parts are as fine as what is left of f32.
    let dtype = if parts == 2 { DType::F32 } else { dtype };
    judge.check_both(case, &got, &exactly, &naive, dtype);
    Ok(())
}
