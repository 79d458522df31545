//! `linear` with every activation, `linear_add` and `linear_add_norm`.

use super::Sums;
use super::judge::*;
use super::norm::{Kind, PLAIN, Parameters, kinds};
use crate::device::{Activation, Device, GATE, HostMatrix};
use crate::error::Result;
use crate::ops;
use crate::tensor::{DType, Matrix};

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
    of: DType, // x and w
}

/// A call of `linear`, or of `linear_add` where there is a residual, of m rows, n outputs and k inputs.
pub(super) struct Call<'a> {
    pub x: (&'a [f32], DType),
    pub w: (&'a [f32], DType),
    pub bias: Option<&'a Vec<f32>>,
    pub sizes: [usize; 3],
    pub activation: Activation,
    pub out: DType,
    pub residual: Option<&'a Vec<f32>>,
}

impl Call<'_> {
    /// What it gives on a device, with weights packed by `pack`.
    pub fn on<D: Device>(
        &self,
        device: &D,
        pack: impl Fn(&D, HostMatrix<'_>) -> Result<Matrix<D::Packed>>,
    ) -> Checked<Vec<u32>> {
        let [m, n, k] = self.sizes;
        let x = float_input(device, self.x.0, self.x.1, [m, k])?;
        let matrix = HostMatrix {
            weight: of_dtype(self.w.0, self.w.1),
            bias: self.bias.cloned(),
            rows: self.activation.rows(n),
            cols: k,
            taps: 1,
        };
        let weight = pack(device, matrix)?;
        let mut y = match self.residual {
            Some(residual) => {
                let mut y = input(device, residual, [m, n])?;
                ops::linear_add(device, &mut y.tensor, &x.tensor, &weight)?;
                y
            }
            None => {
                let mut y = float_output(device, self.out, [m, n])?;
                ops::linear(device, &mut y.tensor, &x.tensor, &weight, self.activation)?;
                y
            }
        };
        Ok(bits(&y.floats(device)?))
    }
}

impl Case {
    /// Whether some sums are denormal on their way, which AVX512-BF16 takes for zero.
    fn denormal(&self) -> bool {
        self.of == DType::BF16 && self.scale == DENORMAL
    }
}

/// Scale of factors of which some products, and sums of a few, are below the smallest normal f32, 2⁻¹²⁶.
const DENORMAL: f32 = 1e-18;

/// Sizes: single rows and columns, odd K, column tails either side of a vector, row tails of every
/// register tile, several slices of K, and two that are large enough for threads.
pub(super) const SIZES: [(usize, usize, usize); 15] = [
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
            of: DType::BF16,
        };
        cases.push(Case { bias: i % 2 == 0, ..case });
        cases.push(Case { activation: Activation::Gelu, ..case });
        cases.push(Case { activation: Activation::Gelu, out: DType::F32, ..case });
        cases.push(Case { out: DType::F32, bias: i % 2 == 1, ..case });
        cases.push(Case { out: DType::F32, add: true, ..case });
    }
    let extreme = Case { out: DType::F32, scale: 1e17, ..cases[5 * 6] };
    cases.push(extreme);
    cases.push(Case { scale: 1e-17, ..extreme });
    cases.push(Case { scale: 30.0, activation: Activation::Gelu, ..extreme });
    // No bias, in which the sums would be lost.
    cases.push(Case { scale: DENORMAL, bias: false, ..extreme });
    with_f32(cases)
}

/// The activations of CLIP and aMUSEd; output columns either side of a block of values and gates.
fn activated() -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, (m, n, k)) in SIZES.into_iter().enumerate() {
        let (other, bias) = ([DType::BF16, DType::F32][i % 2], i % 3 != 0);
        let all = [
            (Activation::Silu, other),
            (Activation::QuickGelu, other),
            (Activation::Geglu, DType::BF16),
            (Activation::Geglu, DType::F32),
        ];
        for (activation, out) in all {
            // The naive error of one element is luck: here next to nothing.
            let n = if (n, activation) == (1, Activation::Geglu) { 20 } else { n };
            let (add, scale, of) = (false, 1.0, DType::BF16);
            cases.push(Case { m, n, k, bias, activation, out, add, scale, of });
        }
    }
    for activation in [Activation::Silu, Activation::QuickGelu, Activation::Geglu] {
        let case = Case { activation, out: DType::F32, ..cases[4 * 6] };
        cases.push(Case { scale: 30.0, ..case });
    }
    with_f32(cases)
}

/// Two of three cases in f32 too.
fn with_f32(mut cases: Vec<Case>) -> Vec<Case> {
    let some = cases.iter().enumerate().filter(|(i, _)| i % 3 != 0);
    let f32s: Vec<Case> = some.map(|(_, case)| Case { of: DType::F32, ..*case }).collect();
    cases.extend(f32s);
    cases
}

pub(super) fn linear<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    for case in cases() {
        if !case.denormal() {
            product(judge, case)?;
            continue;
        }
        // Two kinds of CPUs, each judged by its own arithmetic.
        let all = judge.cpus.clone();
        for pairs in [false, true] {
            judge.cpus = all.iter().copied().filter(|cpu| cpu.simd().pairs() == pairs).collect();
            if !judge.cpus.is_empty() {
                product(judge, case)?;
            }
        }
        judge.cpus = all;
    }
    Ok(())
}

pub(super) fn linear_activations<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    activated().into_iter().try_for_each(|case| product(judge, case))
}

fn product<D: Device>(judge: &mut Judge<'_, D>, case: Case) -> Checked<()> {
    let Case { m, n, k, bias, activation, out, add, scale, of } = case;
    if judge.skips(m * n * k, of) {
        return Ok(());
    }
    let features = activation.rows(n);
    let mut random = Random((m * 1_000_003 + n * 1009 + k) as u64);
    let x = random.values(m * k, scale, of);
    let w = random.values(features * k, scale / (k as f32).sqrt(), of);
    let b = random.floats(features, scale);
    let residual = random.floats(m * n, 1.0);

    let call = Call {
        x: (&x, of),
        w: (&w, of),
        bias: bias.then_some(&b),
        sizes: [m, n, k],
        activation,
        out,
        residual: add.then_some(&residual),
    };
    let got = everywhere!(judge, case, of, |device| call
        .on(device, |device, matrix| ops::pack(device, matrix))?);

    let (mut exactly, mut naive, mut truncated) = (Vec::new(), Vec::new(), Vec::new());
    let mut flushing = Vec::new();
    for (i, &residual) in residual.iter().enumerate() {
        let (row, column) = (&x[i / n * k..][..k], i % n);
        // The feature itself, or the value and its gate.
        let rows = match activation {
            Activation::Geglu => {
                [0, GATE].map(|part| column / GATE * 2 * GATE + column % GATE + part)
            }
            _ => [column; 2],
        };
        let bias = rows.map(|row| if bias { b[row] } else { 0.0 });
        let pairs = |j: usize| row.iter().zip(&w[rows[j] * k..][..k]);
        let exact = [0, 1].map(|j| {
            let sum: f64 = pairs(j).map(|(&a, &w)| f64::from(a) * f64::from(w)).sum();
            sum + f64::from(bias[j])
        });
        let sums = [0, 1].map(|j| pairs(j).map(|(a, w)| a * w).sum::<f32>());
        let flushed = rows.map(|j| flushed_sum(row, &w[j * k..][..k]));
        let cores = rows.map(|j| tensor_core_sum(row, &w[j * k..][..k]));
        let finish = |sums: [f32; 2]| {
            let y = activate(activation, [sums[0] + bias[0], sums[1] + bias[1]]);
            stored(if add { y + residual } else { y }, out)
        };
        let exact = activate_exactly(activation, exact);
        exactly.push(if add { exact + f64::from(residual) } else { exact });
        naive.push(finish(sums));
        truncated.push(finish(cores));
        flushing.push(finish(flushed));
    }
    for (i, (got, on)) in got.iter().zip(NAMES).enumerate() {
        let naive = match [Sums::of(judge.cpus[0]), judge.sums][i] {
            Sums::Rounded => &naive,
            Sums::Flushed => &flushing,
            Sums::TensorCores => &truncated,
        };
        judge.check((on, case), &floats(got), &exactly, naive, out);
    }
    Ok(())
}

/// An activation of a value and, where it has one, its gate.
pub(super) fn activate_exactly(activation: Activation, [x, gate]: [f64; 2]) -> f64 {
    let gelu = |x: f64| 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2));
    match activation {
        Activation::None => x,
        Activation::Gelu => gelu(x),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
        Activation::Geglu => x * gelu(gate),
    }
}

/// The same, naively.
pub(super) fn activate(activation: Activation, [x, gate]: [f32; 2]) -> f32 {
    let root = std::f64::consts::FRAC_1_SQRT_2;
    let gelu = |x: f32| 0.5 * x * (1.0 + erf(f64::from(x) * root) as f32);
    match activation {
        Activation::None => x,
        Activation::Gelu => gelu(x),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
        Activation::Geglu => x * gelu(gate),
    }
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
    for (i, size) in NORMED.into_iter().enumerate() {
        if judge.skips(size.0 * size.1 * size.2, DType::BF16) {
            continue;
        }
        add_norm(judge, size, i % 2 == 0, PLAIN, DType::BF16)?;
        if i < 7 && !judge.skips(1, DType::F32) {
            add_norm(judge, size, i % 2 == 1, PLAIN, DType::F32)?;
        }
    }
    Ok(())
}

pub(super) fn linear_add_norm_kinds<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    for (i, size) in NORMED.into_iter().enumerate() {
        let batch = if size.0 % 2 == 0 { 2 } else { 1 };
        // Of large sizes, whose judge takes long, one kind.
        let all = kinds(batch);
        let some =
            if i < 5 { vec![all[0], all[1], all[2], all[3 + i % 4]] } else { vec![all[i % 7]] };
        for kind in some {
            add_norm(judge, size, i % 2 == 1, kind, DType::BF16)?;
        }
    }
    Ok(())
}

fn add_norm<D: Device>(
    judge: &mut Judge<'_, D>,
    (m, n, k): (usize, usize, usize),
    bias: bool,
    kind: Kind,
    of: DType,
) -> Checked<()> {
    let case = (m, n, k, kind, of);
    let mut random = Random((m * 1009 + k) as u64);
    let x = random.values(m * k, 1.0, of);
    let w = random.values(n * k, 1.0 / (k as f32).sqrt(), of);
    let bias = bias.then(|| random.floats(n, 1.0));
    let residual = random.floats(m * n, 1.0);
    let parameters = Parameters::random(&mut random, n, kind);

    let got = everywhere!(judge, case, of, |device| {
        let x = float_input(device, &x, of, [m, k])?;
        let (weight, bias) = (of_dtype(&w, of), bias.clone());
        let weight = ops::pack(device, HostMatrix { weight, bias, rows: n, cols: k, taps: 1 })?;
        let mut y = input(device, &residual, [m, n])?;
        let mut out = float_output(device, of, [m, n])?;
        // Twice: what one launch leaves behind must not disturb the next.
        for _ in 0..2 {
            device.write(&mut y.tensor.buffer, bytemuck::cast_slice(&residual))?;
            let (y, out) = (&mut y.tensor, &mut out.tensor);
            parameters.with(device, |norm| {
                Ok(ops::linear_add_norm(device, y, out, &x.tensor, &weight, norm)?)
            })?;
        }
        [bits(&y.floats(device)?), bits(&out.floats(device)?)].concat()
    });

    let (mut exactly, mut naive, mut truncated) = (Vec::new(), Vec::new(), Vec::new());
    for (i, &residual) in residual.iter().enumerate() {
        let (row, column) = (&x[i / n * k..][..k], &w[i % n * k..][..k]);
        let bias = bias.as_ref().map_or(0.0, |bias| bias[i % n]);
        let pairs = || row.iter().zip(column);
        let exact: f64 = pairs().map(|(&a, &w)| f64::from(a) * f64::from(w)).sum();
        let sum: f32 = pairs().map(|(a, w)| a * w).sum();
        exactly.push(exact + f64::from(bias) + f64::from(residual));
        naive.push(sum + bias + residual);
        truncated.push(tensor_core_sum(row, column) + bias + residual);
    }
    for (got, on) in got.iter().zip(NAMES) {
        let cores = on == NAMES[1] && judge.sums == Sums::TensorCores;
        let naive = if cores { &truncated } else { &naive };
        let got = floats(got);
        judge.check((on, case, "residual"), &got[..m * n], &exactly, naive, DType::F32);
        let (exactly, naive) = parameters.judge(&exactly, naive, of);
        judge.check((on, case, "normed"), &got[m * n..], &exactly, &naive, of);
    }
    Ok(())
}

/// A dot product as the plainest loop over `vdpbf16ps` gives it: a denormal sum counts as zero.
fn flushed_sum(row: &[f32], column: &[f32]) -> f32 {
    row.iter().zip(column).fold(0.0, |sum, (a, w)| {
        let sum = a * w + sum;
        if sum.abs() < f32::MIN_POSITIVE { 0.0 } else { sum }
    })
}

/// A dot product as the plainest loop over `mma` gives it: tensor cores add 16 products at a time to an
/// f32 sum and truncate, where a processor rounds (Fasi et al., PeerJ CS 2021).
pub(super) fn tensor_core_sum(row: &[f32], column: &[f32]) -> f32 {
    let mut sum = 0.0f32;
    for (row, column) in row.chunks(16).zip(column.chunks(16)) {
        let products = row.iter().zip(column).map(|(&a, &w)| f64::from(a) * f64::from(w));
        let exact = f64::from(sum) + products.sum::<f64>();
        let rounded = exact as f32;
        sum = match f64::from(rounded).abs() > exact.abs() {
            true => f32::from_bits(rounded.to_bits() - 1), // the neighbour nearer to zero
            false => rounded,
        };
    }
    sum
}
