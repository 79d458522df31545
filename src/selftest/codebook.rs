//! `nearest_code`.

use super::judge::*;
use crate::device::Device;
use crate::ops;

pub(super) fn nearest_code<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    // (rows, channels, codes)
    let cases = [
        (1, 1, 1),
        (3, 4, 15),
        (5, 3, 33),
        (70, 8, 257),
        (256, 64, 1024),
        (130, 17, 48),
        (33, 20, 129),
        // More rows than partial results are kept for.
        (65_600, 2, 3),
    ];
    for case in cases {
        let (n, c, codes) = case;
        let mut random = Random((n * codes) as u64);
        let mut codebook = random.floats(codes * c, 1.0);
        let mut z = random.floats(n * c, 1.0);
        // The last code repeats the first: a tie, to be won by the first.
        codebook.copy_within(..c, (codes - 1) * c);
        z[..c].copy_from_slice(&codebook[..c]);

        let results = everywhere!(judge, case, |device| {
            let z = input(device, &z, [n, c])?;
            let codebook = input(device, &codebook, [codes, c])?;
            let mut ids = output::<u32, _>(device, [n])?;
            ops::nearest_code(device, &mut ids.tensor, &z.tensor, &codebook.tensor)?;
            ids.read::<u32>(device)?
        });
        // Both sum in channel order with fused multiply-adds.
        judge.expect(results[0] == results[1], || format!("{case:?}: CPU and device differ"));
        for got in results {
            judge.expect(got[0] == 0, || format!("{case:?}: code {} won a tie with 0", got[0]));
            for (row, &id) in got.iter().enumerate() {
                let distances: Vec<f64> = codebook
                    .chunks(c)
                    .map(|code| {
                        let pairs = code.iter().zip(&z[row * c..]);
                        pairs.map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum()
                    })
                    .collect();
                let smallest = distances.iter().copied().fold(f64::INFINITY, f64::min);
                let best = distances.iter().position(|&d| d == smallest);
                // Where two codes are equally near within f32, either will do.
                let close = distances
                    .get(id as usize)
                    .is_some_and(|&d| d <= smallest * (1.0 + c as f64 * 1e-7));
                judge.expect(Some(id as usize) == best || close, || {
                    format!("{case:?}: row {row}: code {id}, should be {best:?}")
                });
            }
        }
    }
    Ok(())
}
