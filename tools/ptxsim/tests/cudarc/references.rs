//! What the kernels should compute, by plain loops in f64.

/// bf16 of a value, to nearest even; finite values only.
pub fn bf16(x: f64) -> u16 {
    let bits = (x as f32).to_bits();
    ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) as u16
}

pub fn wide(bits: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(bits) << 16))
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn word(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 32) as u32
    }

    /// In −1…1.
    pub fn value(&mut self) -> f64 {
        f64::from(self.word()) / 2f64.powi(31) - 1.0
    }

    pub fn matrix(&mut self, len: usize) -> Vec<u16> {
        (0..len).map(|_| bf16(self.value())).collect()
    }

    /// Small whole numbers, whose products and sums are exact in any order.
    pub fn whole_matrix(&mut self, len: usize) -> Vec<u16> {
        (0..len).map(|_| bf16(f64::from(self.word() % 7) - 3.0)).collect()
    }
}

/// a bᵀ of whole numbers, rounded once.
pub fn gemm(a: &[u16], b: &[u16], n: usize, k: usize) -> Vec<u16> {
    let entry = |row: &[u16], column: &[u16]| {
        bf16(row.iter().zip(column).map(|(&x, &y)| wide(x) * wide(y)).sum())
    };
    let columns: Vec<&[u16]> = b.chunks(k).collect();
    assert_eq!(columns.len(), n);
    a.chunks(k).flat_map(|row| columns.iter().map(move |column| entry(row, column))).collect()
}

/// x + y in bf16, and its LayerNorm with the given weight: exact values.
pub fn add_layer_norm(x: &[u16], y: &[u16], weight: &[u16]) -> (Vec<u16>, Vec<f64>) {
    let width = weight.len();
    let mut sums = Vec::new();
    let mut normed = Vec::new();
    for (x, y) in x.chunks(width).zip(y.chunks(width)) {
        // The kernel takes the mean before it rounds, the variance after.
        let exact: Vec<f64> = x.iter().zip(y).map(|(&x, &y)| wide(x) + wide(y)).collect();
        let rounded: Vec<u16> = exact.iter().map(|&s| bf16(s)).collect();
        let mean = exact.iter().sum::<f64>() / width as f64;
        let squares = rounded.iter().map(|&v| (wide(v) - mean).powi(2)).sum::<f64>();
        let scale = 1.0 / (squares / width as f64 + 1e-5).sqrt();
        normed
            .extend(rounded.iter().zip(weight).map(|(&v, &w)| (wide(v) - mean) * scale * wide(w)));
        sums.extend(rounded);
    }
    (sums, normed)
}

/// softmax(q kᵀ / 8) v for one head of 64 channels; and the bound of the error of weights and results
/// that are rounded to bf16.
pub fn attention(q: &[u16], k: &[u16], v: &[u16]) -> Vec<(f64, f64)> {
    let dot =
        |a: &[u16], b: &[u16]| -> f64 { a.iter().zip(b).map(|(&a, &b)| wide(a) * wide(b)).sum() };
    let mut out = Vec::new();
    for query in q.chunks(64) {
        let weights: Vec<f64> = k.chunks(64).map(|key| (dot(query, key) / 8.0).exp()).collect();
        let total: f64 = weights.iter().sum();
        for channel in 0..64 {
            let values =
                || weights.iter().zip(v.chunks(64)).map(|(w, v)| w / total * wide(v[channel]));
            // Half a unit in the last of 8 bits for each weight, and for the result.
            let size: f64 = values().map(f64::abs).sum();
            out.push((values().sum(), size / 256.0 + 1e-5));
        }
    }
    out
}

/// Of the `top` largest logits, the noisy value of each and its probability among them; none for others.
pub fn sampled(
    row: &[f32],
    index: u32,
    top: usize,
    temperature: f32,
    seed: u32,
) -> Vec<Option<(f64, f64)>> {
    let hash = |x: u32| {
        let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        x ^ (x >> 16)
    };
    let mut sorted = row.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let kept = |logit: f32| logit >= sorted[top - 1];
    let scaled = |logit: f32| f64::from(logit) / f64::from(temperature);
    let total: f64 = row.iter().filter(|&&l| kept(l)).map(|&l| scaled(l).exp()).sum();
    let each = row.iter().enumerate().map(|(token, &logit)| {
        let counter = index.wrapping_mul(0x9e37_79b9).wrapping_add(token as u32);
        let uniform = f64::from(hash(seed ^ hash(counter)) >> 8) * 2f64.powi(-24) + 2f64.powi(-25);
        let noisy = scaled(logit) - (-uniform.ln()).ln();
        kept(logit).then(|| (noisy, scaled(logit).exp() / total))
    });
    each.collect()
}
