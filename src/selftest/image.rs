//! `split`, `load_rgb8` and `to_rgb8`.

use super::judge::*;
use crate::device::Device;
use crate::ops;
use crate::tensor::DType;
use half::bf16;

pub(super) fn split<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    // Ties either way, the largest, what overflows, the smallest, and zeros of both signs.
    let special =
        [0x3F80_8000, 0x3F81_8000, 0x7F7F_7FFF, 0x7F7F_FFFF, 1, 0x8000_0001, 0, 0x8000_0000];
    for (rows, channels) in [(1, 1), (3, 1), (1, 4), (31, 33), (103, 10), (1000, 70), (700, 100)] {
        let (case, elements) = ((rows, channels), rows * channels);
        let mut x: Vec<f32> = special.map(f32::from_bits).to_vec();
        x.extend(Random(9).floats(70_000, 3.0));
        x.truncate(elements);
        let got = everywhere!(judge, case, |device| {
            let x = input(device, &x, [rows, channels])?;
            let mut y = output::<bf16, _>(device, [rows, 2 * channels])?;
            ops::split(device, &mut y.tensor, &x.tensor)?;
            y.read::<bf16>(device)?.into_iter().map(bf16::to_bits).collect()
        });
        let expected = x.chunks(channels).flat_map(|row| {
            let lost = row.iter().map(|x| x - stored(*x, DType::BF16));
            row.iter().copied().chain(lost)
        });
        let expected: Vec<u16> = expected.map(|x| bf16::from_f32(x).to_bits()).collect();
        judge.exactly(case, &got, &expected);
    }
    Ok(())
}

pub(super) fn load_rgb8<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    let x: Vec<u8> = (0..256 * 3).map(|i| (i * 7 % 256) as u8).collect();
    for dtype in [DType::BF16, DType::F32] {
        let got = everywhere!(judge, dtype, dtype, |device| {
            let x = input(device, &x, [2, 128, 3])?;
            let mut y = float_output(device, dtype, [1, 2, 128, 4])?;
            ops::load_rgb8(device, &mut y.tensor, &x.tensor)?;
            bits(&y.floats(device)?)
        });
        let expected: Vec<f32> = x
            .chunks(3)
            .flat_map(|x| [x[0], x[1], x[2], 0])
            .map(|x| stored(f32::from(x) / 255.0, dtype))
            .collect();
        judge.exactly(dtype, &got, &bits(&expected));
    }
    Ok(())
}

pub(super) fn to_rgb8<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    let mut x: Vec<f32> = (-10..800).map(|i| i as f32 / 510.0).collect();
    x.extend([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1e30, -1e30, f32::MIN_POSITIVE]);
    x.resize(x.len().next_multiple_of(3), 0.5);
    x.extend(Random(5).floats(3 * 30_000, 0.7));
    let got = everywhere!(judge, "to_rgb8", |device| {
        let y = input(device, &x, [1, 1, x.len() / 3, 3])?;
        let mut out = output::<u8, _>(device, [1, x.len() / 3, 3])?;
        ops::to_rgb8(device, &mut out.tensor, &y.tensor)?;
        out.read::<u8>(device)?
    });
    // Half to even, what is outside clamped, 0 for what is no number.
    let expected = x.iter().map(|x| match x.is_nan() {
        true => 0,
        false => (x.clamp(0.0, 1.0) * 255.0).round_ties_even() as u8,
    });
    judge.exactly("to_rgb8", &got, &expected.collect::<Vec<_>>());
    Ok(())
}
