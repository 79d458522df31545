//! Weights of a convolution that doubles its image.

use half::bf16;

use super::HostMatrix;
use crate::tensor::Floats;

/// Phases of [`Conv::Up`](super::Conv::Up), and source pixels that each of them reads.
pub const PHASES: usize = 4;
/// See [`PHASES`].
pub const PHASE_TAPS: usize = 4;

/// [`HostMatrix::phases`] of `[rows, 9, cols]`.
fn phases<T: Copy>(
    weight: &[T],
    cols: usize,
    widen: impl Fn(T) -> f32,
    round: impl Fn(f32) -> T,
) -> Vec<T> {
    /// Filter rows that fall on the first and on the second source row, of even and of odd output rows.
    const FALL: [[&[usize]; 2]; 2] = [[&[0], &[1, 2]], [&[0, 1], &[2]]];
    let mut out = Vec::with_capacity(weight.len() / 9 * PHASES * PHASE_TAPS);
    for filter in weight.chunks_exact((9 * cols).max(1)) {
        for (phase, tap) in
            (0..PHASES).flat_map(|phase| (0..PHASE_TAPS).map(move |tap| (phase, tap)))
        {
            let (rows, columns) = (FALL[phase / 2][tap / 2], FALL[phase % 2][tap % 2]);
            out.extend((0..cols).map(|channel| {
                let taps = rows.iter().flat_map(|y| columns.iter().map(move |x| 3 * y + x));
                round(taps.map(|tap| widen(filter[tap * cols + channel])).sum())
            }));
        }
    }
    out
}

impl HostMatrix<'_> {
    /// Of a 3×3 convolution the weights for [`Conv::Up`](super::Conv::Up): `[rows, 4 phases, 2×2, cols]`, phase
    /// `2·(y % 2) + x % 2` for output pixel (y, x). Of the filter's rows (columns) an even output row sees the first
    /// above and the two others on one source row, an odd one the first two on one and the third below. Sums in f32,
    /// rounded once.
    pub fn phases(self) -> Self {
        let weight = match &self.weight {
            Floats::F32(weight) => phases(weight, self.cols, |x| x, |x| x).into(),
            Floats::BF16(weight) => phases(weight, self.cols, f32::from, bf16::from_f32).into(),
        };
        HostMatrix { weight, taps: PHASES * PHASE_TAPS, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of whole numbers every sum is exact: the phases give what the filter gives over the doubled image.
    #[test]
    fn phases_are_the_filter_over_a_doubled_image() {
        let (height, width, channels) = (3usize, 4usize, 2usize);
        let number = |i: usize| ((i * 37 + 11) % 17) as f32 - 8.0;
        let image: Vec<f32> = (0..height * width * channels).map(number).collect();
        let filter: Vec<f32> = (0..9 * channels).map(|i| number(i + 5)).collect();
        let at = |y: isize, x: isize, channel: usize| {
            let inside = (0..height as isize).contains(&y) && (0..width as isize).contains(&x);
            let pixel = || (y as usize * width + x as usize) * channels + channel;
            if inside { image[pixel()] } else { 0.0 }
        };
        let matrix = HostMatrix {
            weight: filter.clone().into(),
            bias: None,
            rows: 1,
            cols: channels,
            taps: 9,
        };
        let matrix = matrix.phases();
        assert_eq!((matrix.rows, matrix.taps, matrix.cols), (1, 16, channels));
        let Floats::F32(weight) = &matrix.weight else { panic!("another dtype") };
        for (y, x) in
            (0..2 * height as isize).flat_map(|y| (0..2 * width as isize).map(move |x| (y, x)))
        {
            let (mut expected, mut found) = (0.0, 0.0);
            for channel in 0..channels {
                for (tap, weight) in filter.chunks_exact(channels).enumerate() {
                    let (ky, kx) = ((tap / 3) as isize, (tap % 3) as isize);
                    // Rounded down: the row above the first one is outside.
                    expected += at((y + ky - 1) >> 1, (x + kx - 1) >> 1, channel) * weight[channel];
                }
                let phase = (2 * (y % 2) + x % 2) as usize;
                for tap in 0..PHASE_TAPS {
                    let (ky, kx) = ((tap / 2) as isize, (tap % 2) as isize);
                    let pixel = at(y / 2 + y % 2 + ky - 1, x / 2 + x % 2 + kx - 1, channel);
                    found += pixel * weight[(phase * PHASE_TAPS + tap) * channels + channel];
                }
            }
            assert_eq!(found, expected, "pixel {y}, {x}");
        }
    }
}
