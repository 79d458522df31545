//! Counter-based noise: Philox4x32-10 (Salmon et al., SC 2011) and Gumbel noise from it.
//!
//! A draw depends only on (seed, stage, step, purpose, position, token), never on the order in
//! which draws are made, so any backend, thread count or batch makes the same ones. The logarithm
//! is our own sequence of correctly rounded operations: bit-identical wherever IEEE 754 holds.
//! [`torch`] is PyTorch's generator, for its tokens from its seeds.

pub mod torch;

/// What a draw is for, so that no two uses share a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// Choosing a token: one draw per (position, token).
    Token = 0,
    /// Noise on the confidence: one draw per position.
    Confidence = 1,
    /// Choosing positions: one draw per position.
    Order = 2,
}

/// Key of all draws of one decode step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoiseKey {
    /// The image's seed.
    pub seed: u64,
    /// Which decode loop of the pipeline: 0 base, 1 super-res.
    pub stage: u16,
    /// Step of the loop.
    pub step: u16,
}

/// One Philox4x32-10 block: four random words for a 128-bit counter and a 64-bit key.
#[inline(always)]
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

impl NoiseKey {
    /// Words of draws `4*block .. 4*block + 4` at `position`.
    #[inline(always)]
    pub fn words(self, purpose: Purpose, position: u32, block: u32) -> [u32; 4] {
        let step = u32::from(self.step) | (u32::from(self.stage) << 16);
        philox(
            [block, position, step, purpose as u32],
            [self.seed as u32, (self.seed >> 32) as u32],
        )
    }

    /// That of another image of a batch, whose seed is larger by `image`.
    #[inline(always)]
    pub fn of_image(self, image: usize) -> Self {
        NoiseKey { seed: self.seed.wrapping_add(image as u64), ..self }
    }

    /// One Gumbel draw.
    #[inline(always)]
    pub fn gumbel(self, purpose: Purpose, position: u32, index: u32) -> f32 {
        gumbel(self.words(purpose, position, index / 4)[(index % 4) as usize])
    }
}

/// Standard Gumbel noise `−ln(−ln u)`, u the midpoint of one of 2²³ equal parts of (0, 1).
#[inline(always)]
pub fn gumbel(word: u32) -> f32 {
    // The odd multiples of 2⁻²⁴: exact in f32, never 0 or 1.
    let u = ((word >> 9) as f32 + 0.5) * (1.0 / 8_388_608.0);
    -ln(-ln(u))
}

/// Natural logarithm of a positive normal f32, to about 1 ulp.
///
/// `ln x = e·ln2 + 2·atanh(s)`, s = (m−1)/(m+1), m in [√½, √2): after Tang (ACM TOMS 1990). Every
/// operation is a correctly rounded f32 one and none is contracted, so all backends agree to the bit.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    const SQRT_HALF: u32 = 0x3F35_04F3;
    let offset = x.to_bits().wrapping_sub(SQRT_HALF);
    let exponent = (offset as i32) >> 23;
    let m = f32::from_bits((offset & 0x007F_FFFF).wrapping_add(SQRT_HALF));
    let f = m - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let odd = z * (0.666_666_6 + w * 0.284_987_87);
    let even = w * (0.400_009_72 + w * 0.242_790_79);
    let half_square = 0.5 * f * f;
    let e = exponent as f32;
    // ln2 in two parts: the high one has trailing zeros, so e·HIGH is exact.
    const HIGH: f32 = 0.693_138_1;
    const LOW: f32 = 9.058_001e-6;
    s * (half_square + (even + odd)) + e * LOW - half_square + f + e * HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution (kat_vectors, philox4x32 10 rounds).
    #[test]
    fn philox_matches_random123() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]
        );
        assert_eq!(
            philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
        );
    }

    #[test]
    fn ln_is_within_two_ulp_of_f64() {
        let mut worst = 0.0f64;
        let mut x = f32::MIN_POSITIVE;
        while x < 1e30 {
            let exact = f64::from(x).ln();
            let ulp = f64::from((exact.abs() as f32).next_up() - exact.abs() as f32);
            worst = worst.max((f64::from(ln(x)) - exact).abs() / ulp);
            x *= 1.000_37;
        }
        assert!(worst < 2.0, "worst error {worst} ulp");
    }

    #[test]
    fn gumbel_has_the_right_mean_and_variance() {
        let key = NoiseKey { seed: 7, stage: 0, step: 3 };
        let n = 1 << 16;
        let draws: Vec<f64> =
            (0..n).map(|i| f64::from(key.gumbel(Purpose::Token, i / 256, i % 256))).collect();
        let mean = draws.iter().sum::<f64>() / f64::from(n);
        let variance = draws.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / f64::from(n);
        assert!((mean - 0.577_215_7).abs() < 0.02, "mean {mean}");
        assert!(
            (variance - std::f64::consts::PI.powi(2) / 6.0).abs() < 0.05,
            "variance {variance}"
        );
    }

    #[test]
    fn extreme_words_stay_finite() {
        assert!(gumbel(0).is_finite() && gumbel(u32::MAX).is_finite());
        assert!(gumbel(0) < -2.7 && gumbel(u32::MAX) > 16.0);
    }
}
