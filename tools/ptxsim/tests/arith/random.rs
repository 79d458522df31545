//! Numbers for tests (xorshift64*).

use crate::exact::Spec;

pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        high ^ high >> 32
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Any code of a format: uniform, or near the ends of the range, or of few bits.
    pub fn code(&mut self, spec: Spec) -> u64 {
        let sign = self.next() & spec.sign();
        let magnitude = match self.below(8) {
            0 => self.below(4),
            1 => spec.limit() - 3 + self.below(6).min(spec.sign() + 2 - spec.limit()),
            2 => (1 << spec.mantissa_bits) - 2 + self.below(4),
            // Few bits, as ties have.
            3 => self.below(spec.limit()) & !0 << self.below(spec.mantissa_bits.into()),
            _ => self.below(spec.limit()),
        };
        sign | magnitude
    }

    /// A finite code whose exponent lies within `width` of that of one.
    pub fn near_one(&mut self, spec: Spec, width: i32) -> u64 {
        let sign = self.next() & spec.sign();
        let exponent = self.below(2 * width as u64 + 1) as i32 - width;
        let field = (exponent + spec.bias()).clamp(0, 2 * spec.bias()) as u64;
        sign | field << spec.mantissa_bits | self.below(1 << spec.mantissa_bits)
    }
}
