//! The random numbers of `torch.Generator("cpu")`, to the bit: MT19937 (Matsumoto and Nishimura,
//! TOMACS 1998), and PyTorch's `rand` and `exponential_` for f32 from its words.
//!
//! Unlike [the counter-based noise](super), a draw depends on how many were made before it.
//! `torch.multinomial(p, 1)` is the index of the largest `p / exponential` of a row.

const N: usize = 624; // words of state
const M: usize = 397;

/// PyTorch's CPU generator.
#[derive(Clone)]
pub struct TorchGenerator {
    state: [u32; N],
    words: [u32; N], // the state, tempered
    used: usize,     // how many of `words`
}

impl TorchGenerator {
    /// `torch.Generator().manual_seed(seed)`, which looks at the low 32 bits only.
    pub fn new(seed: u64) -> Self {
        let mut state = [seed as u32; N];
        for i in 1..N {
            let last = state[i - 1];
            state[i] = (last ^ (last >> 30)).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        TorchGenerator { state, words: [0; N], used: N }
    }

    /// `torch.rand`: 24 bits in [0, 1), one word each.
    pub fn uniform(&mut self, out: &mut [f32]) {
        for value in out {
            *value = (self.word() & 0x00FF_FFFF) as f32 * (1.0 / 16_777_216.0);
        }
    }

    /// `Tensor.exponential_(1)`: −ln(1−u) with 53 bits of u in [0, 1), two words each.
    pub fn exponential(&mut self, out: &mut [f32]) {
        for value in out {
            let high = u64::from(self.word()) << 32;
            let bits = (high | u64::from(self.word())) & ((1 << 53) - 1);
            let u = bits as f64 * (1.0 / (1u64 << 53) as f64);
            *value = -(-u).ln_1p() as f32;
        }
    }

    /// Passes over `words` words: two for an exponential, one for a uniform number.
    pub fn skip(&mut self, mut words: u64) {
        loop {
            let left = (N - self.used) as u64;
            if words <= left {
                self.used += words as usize;
                return;
            }
            words -= left;
            self.refill();
        }
    }

    #[inline]
    fn word(&mut self) -> u32 {
        if self.used == N {
            self.refill();
        }
        let word = self.words[self.used];
        self.used += 1;
        word
    }

    /// The next 624 words at once. In parts whose reads lie ahead of their writes or far behind
    /// them, so that each loop can be vectorised.
    fn refill(&mut self) {
        let state = &mut self.state;
        for i in 0..N - M {
            state[i] = state[i + M] ^ twist(state[i], state[i + 1]);
        }
        for i in N - M..N - 1 {
            state[i] = state[i + M - N] ^ twist(state[i], state[i + 1]);
        }
        state[N - 1] = state[M - 1] ^ twist(state[N - 1], state[0]);
        for (word, &state) in self.words.iter_mut().zip(state.iter()) {
            *word = temper(state);
        }
        self.used = 0;
    }
}

#[inline(always)]
fn twist(a: u32, b: u32) -> u32 {
    let joined = (a & 0x8000_0000) | (b & 0x7FFF_FFFF);
    (joined >> 1) ^ ((b & 1) * 0x9908_B0DF)
}

#[inline(always)]
fn temper(mut word: u32) -> u32 {
    word ^= word >> 11;
    word ^= (word << 7) & 0x9D2C_5680;
    word ^= (word << 15) & 0xEFC6_0000;
    word ^ (word >> 18)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// `tools/reference/torch_rng.py` made it with PyTorch.
    const GOLDEN: &str = include_str!("../../tests/golden/torch_rng.json");

    #[derive(Deserialize)]
    struct Golden {
        runs: Vec<Run>,
    }

    #[derive(Deserialize)]
    struct Run {
        seed: String,
        draws: Vec<Draws>,
    }

    #[derive(Deserialize)]
    struct Draws {
        kind: String,
        count: usize,
        first: Vec<u32>,
        last: Vec<u32>,
        checksum: String,
    }

    fn draw(generator: &mut TorchGenerator, kind: &str, out: &mut [f32]) {
        match kind {
            "uniform" => generator.uniform(out),
            "exponential" => generator.exponential(out),
            _ => panic!("{kind} is no kind of draw"),
        }
    }

    #[test]
    fn draws_are_pytorchs_to_the_bit() {
        let golden: Golden = serde_json::from_str(GOLDEN).unwrap();
        assert_eq!(golden.runs.len(), 6);
        for run in golden.runs {
            let mut generator = TorchGenerator::new(run.seed.parse().unwrap());
            for Draws { kind, count, first, last, checksum } in run.draws {
                let mut values = vec![0.0; count];
                draw(&mut generator, &kind, &mut values);
                let bits: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
                let place = format!("seed {}, {count} {kind}", run.seed);
                assert_eq!(bits[..4], first, "first of {place}");
                assert_eq!(bits[count - 3..], last, "last of {place}");
                let sum = (1u64..).step_by(2).zip(&bits).fold(0u64, |sum, (weight, &bits)| {
                    sum.wrapping_add(weight.wrapping_mul(u64::from(bits)))
                });
                assert_eq!(sum.to_string(), checksum, "checksum of {place}");
            }
        }
    }

    /// The 10,000th word for the seed 5489, which the C++ standard ([rand.predef]) states.
    #[test]
    fn words_are_those_of_mt19937() {
        let mut generator = TorchGenerator::new(5489);
        generator.skip(9_999);
        assert_eq!(generator.word(), 4_123_659_995);
    }

    #[test]
    fn skipping_is_drawing() {
        for count in [0, 1, 311, 312, 313, 624, 1000, 100_000] {
            let mut drawn = TorchGenerator::new(42);
            let mut skipped = drawn.clone();
            let (mut a, mut b) = ([0.0; 3], [0.0; 3]);
            drawn.uniform(&mut a);
            drawn.exponential(&mut vec![0.0; count]);
            drawn.uniform(&mut a);
            skipped.skip(3 + 2 * count as u64);
            skipped.uniform(&mut b);
            assert_eq!(a, b, "{count} exponentials");
        }
    }
}
