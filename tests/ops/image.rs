//! `load_rgb8` and `to_rgb8`.

use crate::{everywhere, judge::*};
use half::bf16;
use muse::ops;

#[test]
fn load_rgb8_divides_by_255() {
    let x: Vec<u8> = (0..256 * 3).map(|i| (i * 7 % 256) as u8).collect();
    for got in everywhere!("load_rgb8", |device| {
        let x = input(device, &x, [2, 128, 3]);
        let mut y = output::<bf16, _>(device, [1, 2, 128, 4]);
        ops::load_rgb8(device, &mut y.tensor, &x.tensor).unwrap();
        y.read::<bf16>(device)
    }) {
        for (i, pixel) in got.chunks(4).enumerate() {
            let expected: Vec<bf16> =
                x[i * 3..][..3].iter().map(|&x| bf16::from_f32(f32::from(x) / 255.0)).collect();
            assert_eq!((&pixel[..3], pixel[3].to_bits()), (&expected[..], 0), "pixel {i}");
        }
    }
}

#[test]
fn to_rgb8_rounds_half_to_even_and_clamps() {
    let mut x: Vec<f32> = (-10..800).map(|i| i as f32 / 510.0).collect();
    x.extend([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1e30, -1e30, f32::MIN_POSITIVE]);
    x.resize(x.len().next_multiple_of(3), 0.5);
    x.extend(Random(5).floats(3 * 30_000, 0.7));
    for got in everywhere!("to_rgb8", |device| {
        let y = input(device, &x, [1, 1, x.len() / 3, 3]);
        let mut out = output::<u8, _>(device, [1, x.len() / 3, 3]);
        ops::to_rgb8(device, &mut out.tensor, &y.tensor).unwrap();
        out.read::<u8>(device)
    }) {
        for (&x, &y) in x.iter().zip(&got) {
            let expected =
                (if x.is_nan() { 0.0 } else { x.clamp(0.0, 1.0) } * 255.0).round_ties_even();
            assert_eq!(f32::from(y), expected, "{x}");
        }
    }
}
