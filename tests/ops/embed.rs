//! `embed`, `select_rows` and `copy_rows`.

use crate::{everywhere, judge::*};
use half::bf16;
use muse::ops;
use muse::tensor::DType;

#[test]
fn embed_agrees_with_the_judge() {
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
                    for got in everywhere!((case, out, source, added), |device| {
                        let ids = input(device, &ids, [n]);
                        let table = match source {
                            DType::BF16 => input(device, &table, [entries, d]),
                            _ => input(device, &wide, [entries, d]),
                        };
                        let add = input(device, &add, [n, d]);
                        let add = added.then_some(&add.tensor);
                        let mut y = float_output(device, out, [batch * n, d]);
                        ops::embed(device, &mut y.tensor, &ids.tensor, &table.tensor, add).unwrap();
                        bits(&y.floats(device))
                    }) {
                        // One f32 addition and one rounding: exact.
                        for (i, y) in floats(&got).into_iter().enumerate() {
                            let (row, c) = (i / d % n, i % d);
                            let x = wide[ids[row] as usize * d + c];
                            let x = if added { x + add[row * d + c] } else { x };
                            assert_eq!(y, stored(x, out), "{case:?}: element {i}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn select_rows_reads_the_same_positions_of_every_grid() {
    // (grids, positions of a grid, channels)
    for (grids, grid, d) in [(1, 1, 1), (2, 3, 15), (2, 64, 256), (3, 10, 33)] {
        let x = Random(grid as u64).floats(grids * grid * d, 1.0);
        let positions: Vec<u32> = (0..grid as u32).step_by(3).collect();
        for got in everywhere!((grids, grid, d), |device| {
            let x = input(device, &x, [grids * grid, d]);
            let positions = input(device, &positions, [positions.len()]);
            let mut out =
                output::<f32, _>(device, [grids * positions.tensor.shape().elements(), d]);
            ops::select_rows(device, &mut out.tensor, &x.tensor, &positions.tensor).unwrap();
            out.read::<f32>(device)
        }) {
            let rows =
                (0..grids).flat_map(|g| positions.iter().map(move |&p| g * grid + p as usize));
            let expected: Vec<f32> = rows.flat_map(|row| x[row * d..][..d].to_vec()).collect();
            assert_eq!(got, expected);
        }
    }
}

#[test]
fn copy_rows_moves_only_its_rows() {
    let x: Vec<bf16> = Random(1).halves(5 * 3, 1.0);
    for got in everywhere!("copy_rows", |device| {
        let x = input(device, &x, [5, 3]);
        let mut out = input(device, &[bf16::ONE; 12], [4, 3]);
        ops::copy_rows(device, &mut out.tensor, 1, &x.tensor, 3, 2).unwrap();
        out.read::<bf16>(device)
    }) {
        assert_eq!(got[..3], [bf16::ONE; 3]);
        assert_eq!(got[3..9], x[9..]);
        assert_eq!(got[9..], [bf16::ONE; 3]);
    }
}
