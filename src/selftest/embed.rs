//! `embed`, `select_rows` and `copy_rows`.

use super::judge::*;
use crate::device::Device;
use crate::ops;
use crate::tensor::DType;
use half::bf16;

pub(super) fn embed<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    // (batch, rows, channels, entries)
    for case in [(1, 1, 1, 1), (2, 3, 15, 7), (1, 5, 33, 2), (2, 256, 256, 1025), (3, 7, 48, 100)] {
        let (batch, n, d, entries) = case;
        let mut random = Random((n * d) as u64);
        let ids: Vec<u32> = (0..n).map(|_| random.below(entries) as u32).collect();
        let table = random.halves(entries * d, 1.0);
        let wide: Vec<f32> = table.iter().map(|x| x.to_f32()).collect();
        let add = random.floats(n * d, 1.0);
        for out in [DType::BF16, DType::F32] {
            for source in [DType::BF16, DType::F32] {
                for added in [false, true] {
                    let case = (case, out, source, added);
                    let got = everywhere!(judge, case, |device| {
                        let ids = input(device, &ids, [n])?;
                        let table = match source {
                            DType::BF16 => input(device, &table, [entries, d])?,
                            _ => input(device, &wide, [entries, d])?,
                        };
                        let add = input(device, &add, [n, d])?;
                        let add = added.then_some(&add.tensor);
                        let mut y = float_output(device, out, [batch * n, d])?;
                        ops::embed(device, &mut y.tensor, &ids.tensor, &table.tensor, add)?;
                        bits(&y.floats(device)?)
                    });
                    // One f32 addition and one rounding: exact.
                    let expected = (0..batch * n * d).map(|i| {
                        let (row, c) = (i / d % n, i % d);
                        let x = wide[ids[row] as usize * d + c];
                        stored(if added { x + add[row * d + c] } else { x }, out)
                    });
                    judge.exactly(case, &got, &bits(&expected.collect::<Vec<_>>()));
                }
            }
        }
    }
    Ok(())
}

pub(super) fn select_rows<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    // (grids, positions of a grid, channels)
    for (grids, grid, d) in [(1, 1, 1), (2, 3, 15), (2, 64, 256), (3, 10, 33)] {
        let x = Random(grid as u64).floats(grids * grid * d, 1.0);
        let positions: Vec<u32> = (0..grid as u32).step_by(3).collect();
        let got = everywhere!(judge, (grids, grid, d), |device| {
            let x = input(device, &x, [grids * grid, d])?;
            let positions = input(device, &positions, [positions.len()])?;
            let mut out =
                output::<f32, _>(device, [grids * positions.tensor.shape().elements(), d])?;
            ops::select_rows(device, &mut out.tensor, &x.tensor, &positions.tensor)?;
            out.read::<f32>(device)?
        });
        let rows = (0..grids).flat_map(|g| positions.iter().map(move |&p| g * grid + p as usize));
        let expected: Vec<f32> = rows.flat_map(|row| x[row * d..][..d].to_vec()).collect();
        judge.exactly((grids, grid, d), &got, &expected);
    }
    Ok(())
}

pub(super) fn copy_rows<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    let x: Vec<bf16> = Random(1).halves(5 * 3, 1.0);
    let got = everywhere!(judge, "copy_rows", |device| {
        let x = input(device, &x, [5, 3])?;
        let mut out = input(device, &[bf16::ONE; 12], [4, 3])?;
        ops::copy_rows(device, &mut out.tensor, 1, &x.tensor, 3, 2)?;
        out.read::<bf16>(device)?
    });
    // Only the rows copied change.
    let mut expected = [bf16::ONE; 12];
    expected[3..9].copy_from_slice(&x[9..]);
    judge.exactly("copy_rows", &got, &expected);
    Ok(())
}
