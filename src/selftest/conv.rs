//! `conv2d`, every geometry.

use super::Sums;
use super::judge::*;
use super::linear::tensor_core_sum;
use crate::device::{Conv, Device, HostMatrix, PHASE_TAPS};
use crate::ops;
use crate::tensor::DType;
use half::bf16;

#[derive(Clone, Copy, Debug)]
struct Case {
    geometry: Conv,
    size: (usize, usize, usize, usize), // batch, height, width, channels
    out: usize,                         // channels
    dtype: DType,                       // of the output
    of: DType,                          // of all else
    residual: bool,
    bias: bool,
    parts: bool, // the input in two
}

fn cases() -> Vec<Case> {
    let sizes = [
        ((1, 2, 2, 1), 1),
        ((1, 4, 6, 3), 5),
        ((2, 6, 4, 4), 33),
        ((1, 2, 32, 16), 16),
        ((2, 10, 18, 8), 17),
        ((1, 16, 16, 32), 48),
        ((1, 2, 4, 300), 20),
    ];
    let plain = Case {
        geometry: Conv::Point,
        size: (1, 1, 1, 1),
        out: 1,
        dtype: DType::BF16,
        of: DType::BF16,
        residual: false,
        bias: true,
        parts: false,
    };
    let mut cases = Vec::new();
    for geometry in [Conv::Point, Conv::Same, Conv::Down, Conv::Up] {
        for (i, (size, out)) in sizes.into_iter().enumerate() {
            let (dtype, residual) =
                [(DType::BF16, false), (DType::F32, true), (DType::F32, false)][i % 3];
            cases.push(Case { geometry, size, out, dtype, residual, bias: i % 2 == 0, ..plain });
        }
    }
    // Odd heights and widths, where the geometry allows them; and one pixel.
    for geometry in [Conv::Point, Conv::Same, Conv::Up] {
        for size in [(1, 1, 1, 7), (2, 5, 3, 2), (1, 3, 29, 15)] {
            cases.push(Case { geometry, size, out: 9, residual: true, ..plain });
        }
    }
    let f32s = cases.iter().map(|case| Case { of: DType::F32, dtype: DType::F32, ..*case });
    let f32s: Vec<Case> = f32s.collect();
    cases.extend(f32s);
    for geometry in [Conv::Point, Conv::Same, Conv::Down, Conv::Up] {
        for (size, out) in [((1, 4, 6, 3), 5), ((2, 10, 18, 8), 17), ((1, 2, 4, 300), 20)] {
            cases.push(Case { geometry, size, out, dtype: DType::F32, parts: true, ..plain });
        }
    }
    cases
}

pub(super) fn conv2d<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    for case in cases() {
        let Case { geometry, size, out: n, dtype, of, residual, bias, parts } = case;
        let (batch, height, width, c) = size;
        if judge.skips(1, of) {
            continue;
        }
        let (rows, columns) = (geometry.output(height), geometry.output(width));
        let taps = geometry.taps();
        let mut random = Random((height * 997 + width * 31 + c) as u64);
        let x = random.values(batch * height * width * c, 1.0, if parts { DType::F32 } else { of });
        let w = random.values(n * taps * c, 1.0 / ((taps * c) as f32).sqrt(), of);
        let b = random.floats(n, 1.0);
        let add = random.floats(batch * rows * columns * n, 1.0);

        let got = everywhere!(judge, case, of, |device| {
            let x = match parts {
                true => {
                    let x = input(device, &x, [batch, height, width, c])?;
                    let mut parts = output::<bf16, _>(device, [batch, height, width, 2 * c])?;
                    ops::split(device, &mut parts.tensor, &x.tensor)?;
                    parts
                }
                false => float_input(device, &x, of, [batch, height, width, c])?,
            };
            let add = input(device, &add, [batch, rows, columns, n])?;
            let matrix = HostMatrix {
                weight: of_dtype(&w, of),
                bias: bias.then(|| b.clone()),
                rows: n,
                cols: c,
                taps,
            };
            let matrix = if parts { matrix.of_parts() } else { matrix };
            let weight = ops::pack(device, matrix)?;
            let mut y = float_output(device, dtype, [batch, rows, columns, n])?;
            let residual = residual.then_some(&add.tensor);
            ops::conv2d(device, &mut y.tensor, &x.tensor, &weight, geometry, residual)?;
            bits(&y.floats(device)?)
        });

        let (mut exactly, mut naive, mut truncated) = (Vec::new(), Vec::new(), Vec::new());
        for (i, &add) in add.iter().enumerate() {
            let (pixel, j) = (i / n, i % n);
            let (image, oy, ox) = (pixel / columns / rows, pixel / columns % rows, pixel % columns);
            let (mut exact, mut row, mut column) = (0.0f64, Vec::new(), Vec::new());
            let (oy, ox) = (oy as isize, ox as isize);
            let (h, w_) = (height as isize, width as isize);
            let first = match geometry {
                Conv::Up => PHASE_TAPS as isize * (2 * (oy % 2) + ox % 2),
                _ => 0,
            };
            for tap in first..first + geometry.taps_of_pixel() as isize {
                let (ky, kx) = (tap / 3, tap % 3);
                let (y, x_) = match geometry {
                    Conv::Point => (oy, ox),
                    Conv::Same => (oy + ky - 1, ox + kx - 1),
                    Conv::Down => (2 * oy + ky, 2 * ox + kx),
                    // Of the two source rows one is the pixel's own.
                    Conv::Up => {
                        let (ky, kx) = (tap / 2 % 2, tap % 2);
                        (oy / 2 + oy % 2 + ky - 1, ox / 2 + ox % 2 + kx - 1)
                    }
                };
                let tap = tap as usize;
                if y < 0 || x_ < 0 || y >= h || x_ >= w_ {
                    continue;
                }
                let at = ((image * height + y as usize) * width + x_ as usize) * c;
                for channel in 0..c {
                    let (a, w) = (x[at + channel], w[(j * taps + tap) * c + channel]);
                    exact += f64::from(a) * f64::from(w);
                    if parts {
                        row.extend(in_parts(a));
                        column.extend([w; 2]);
                    } else {
                        row.push(a);
                        column.push(w);
                    }
                }
            }
            let products = row.iter().zip(&column).map(|(a, w)| a * w);
            let bias = if bias { b[j] } else { 0.0 };
            let add = if residual { add } else { 0.0 };
            exactly.push(exact + f64::from(bias) + f64::from(add));
            naive.push(stored(products.sum::<f32>() + bias + add, dtype));
            truncated.push(stored(tensor_core_sum(&row, &column) + bias + add, dtype));
        }
        for (got, on) in got.iter().zip(NAMES) {
            let cores = on == NAMES[1] && judge.sums == Sums::TensorCores;
            let naive = if cores { &truncated } else { &naive };
            judge.check((on, case), &floats(got), &exactly, naive, dtype);
        }
    }
    Ok(())
}
