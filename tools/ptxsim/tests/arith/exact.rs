//! Exact numbers and their rounding by definition: slow, and independent of the crate.

use std::cmp::Ordering;

use num_bigint::{BigInt, BigUint, Sign};
use ptxsim::arith::formats::Rounding;

/// `n * 2^e`.
#[derive(Debug, Clone)]
pub struct Exact {
    pub n: BigInt,
    pub e: i32,
}

impl Exact {
    pub fn new(n: impl Into<BigInt>, e: i32) -> Self {
        Exact { n: n.into(), e }
    }

    pub fn is_zero(&self) -> bool {
        self.n.sign() == Sign::NoSign
    }

    pub fn is_negative(&self) -> bool {
        self.n.sign() == Sign::Minus
    }

    pub fn times(&self, other: &Exact) -> Exact {
        Exact { n: &self.n * &other.n, e: self.e + other.e }
    }

    pub fn plus(&self, other: &Exact) -> Exact {
        let e = self.e.min(other.e);
        let n = |x: &Exact| &x.n << (x.e - e) as usize;
        Exact { n: n(self) + n(other), e }
    }

    /// The quotient to 200 bits or more, and one bit for what is left.
    pub fn over(&self, other: &Exact) -> Exact {
        let dividend = self.n.magnitude() << 400usize;
        let (q, r) = (&dividend / other.n.magnitude(), &dividend % other.n.magnitude());
        let n = (q << 1usize) + BigUint::from(u8::from(r != BigUint::ZERO));
        let sign = if self.is_negative() == other.is_negative() { Sign::Plus } else { Sign::Minus };
        Exact { n: BigInt::from_biguint(sign, n), e: self.e - other.e - 401 }
    }

    /// The square root, likewise.
    pub fn root(&self) -> Exact {
        let shift = 400 + self.e.rem_euclid(2);
        let square = self.n.magnitude() << shift as usize;
        let root = square.sqrt();
        let left = u8::from(&root * &root != square);
        Exact { n: ((root << 1usize) + BigUint::from(left)).into(), e: (self.e - shift) / 2 - 1 }
    }

    /// The largest e with 2^e <= |self|.
    pub fn exponent(&self) -> i32 {
        self.n.bits() as i32 - 1 + self.e
    }

    /// |self| in units of 2^e, rounded to a whole number.
    pub fn in_units(&self, e: i32, rounding: Rounding) -> BigUint {
        let shift = self.e - e;
        if shift >= 0 {
            return self.n.magnitude() << shift as usize;
        }
        let unit = BigUint::from(1u8) << -shift as usize;
        let (whole, rest) = (self.n.magnitude() / &unit, self.n.magnitude() % &unit);
        let half = (&rest << 1usize).cmp(&unit);
        let up = match rounding {
            Rounding::NearestEven => {
                half == Ordering::Greater || half == Ordering::Equal && whole.bit(0)
            }
            Rounding::NearestAway => half != Ordering::Less,
            Rounding::Zero => false,
            Rounding::Down => self.is_negative() && rest != BigUint::ZERO,
            Rounding::Up => !self.is_negative() && rest != BigUint::ZERO,
        };
        whole + u8::from(up)
    }
}

/// What bits mean.
#[derive(Debug, Clone)]
pub enum Value {
    Nan,
    Infinity {
        negative: bool,
    },
    /// The sign apart, for zeros.
    Finite {
        negative: bool,
        value: Exact,
    },
}

/// A binary format by its field widths.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    pub exponent_bits: u32,
    pub mantissa_bits: u32,
    /// Whether the highest exponent holds numbers too, but for the last code.
    pub finite_only: bool,
}

const fn spec(exponent_bits: u32, mantissa_bits: u32) -> Spec {
    Spec { exponent_bits, mantissa_bits, finite_only: false }
}

pub const F16: Spec = spec(5, 10);
pub const BF16: Spec = spec(8, 7);
pub const TF32: Spec = spec(8, 10);
pub const E4M3: Spec = Spec { finite_only: true, ..spec(4, 3) };
pub const E5M2: Spec = spec(5, 2);
pub const F32: Spec = spec(8, 23);
pub const F64: Spec = spec(11, 52);

impl Spec {
    pub fn bias(self) -> i32 {
        (1 << (self.exponent_bits - 1)) - 1
    }

    /// The weight of the last place of subnormal numbers, as a power of two.
    pub fn smallest(self) -> i32 {
        1 - self.bias() - self.mantissa_bits as i32
    }

    pub fn sign(self) -> u64 {
        1 << (self.exponent_bits + self.mantissa_bits)
    }

    /// The first code that is not finite.
    pub fn limit(self) -> u64 {
        if self.finite_only {
            self.sign() - 1
        } else {
            ((1 << self.exponent_bits) - 1) << self.mantissa_bits
        }
    }

    pub fn value(self, bits: u64) -> Value {
        let negative = bits & self.sign() != 0;
        let code = bits & (self.sign() - 1);
        if code >= self.limit() {
            let infinite = code == self.limit() && !self.finite_only;
            return if infinite { Value::Infinity { negative } } else { Value::Nan };
        }
        let field = (code >> self.mantissa_bits) as i32;
        let mantissa = (code & ((1 << self.mantissa_bits) - 1)) as i64;
        let (n, e) = if field == 0 {
            (mantissa, self.smallest())
        } else {
            (mantissa | 1 << self.mantissa_bits, self.smallest() + field - 1)
        };
        Value::Finite { negative, value: Exact::new(if negative { -n } else { n }, e) }
    }

    pub fn finite(self, bits: u64) -> Exact {
        match self.value(bits) {
            Value::Finite { value, .. } => value,
            other => panic!("{other:?} is not finite"),
        }
    }

    /// Rounds; `negative_zero` is the sign if the result is zero of a zero.
    pub fn round(self, x: &Exact, negative_zero: bool, rounding: Rounding) -> Rounded {
        let negative = if x.is_zero() { negative_zero } else { x.is_negative() };
        let sign = if negative { self.sign() } else { 0 };
        if x.is_zero() {
            return Rounded { bits: sign, overflow: false };
        }
        let unit = (x.exponent() - self.mantissa_bits as i32).max(self.smallest());
        let whole = x.in_units(unit, rounding);
        // Doubling the unit when the significand has grown by a bit keeps it whole.
        let grown = whole.bits() as u32 > self.mantissa_bits + 1;
        let (whole, unit) = if grown { (whole >> 1usize, unit + 1) } else { (whole, unit) };
        let whole = u64::try_from(whole).expect("it has few bits");
        let hidden = 1u64 << self.mantissa_bits;
        let code = if whole < hidden {
            whole
        } else {
            let field = (unit - self.smallest() + 1) as u64;
            (field << self.mantissa_bits) + (whole - hidden)
        };
        Rounded { bits: sign | code, overflow: code >= self.limit() }
    }

    /// As [`round`](Self::round), with what IEEE 754 says of overflow.
    pub fn round_ieee(self, x: &Exact, negative_zero: bool, rounding: Rounding) -> u64 {
        let rounded = self.round(x, negative_zero, rounding);
        if !rounded.overflow {
            return rounded.bits;
        }
        let infinite = match rounding {
            Rounding::NearestEven | Rounding::NearestAway => true,
            Rounding::Zero => false,
            Rounding::Down => x.is_negative(),
            Rounding::Up => !x.is_negative(),
        };
        let sign = if x.is_negative() { self.sign() } else { 0 };
        sign | if infinite { self.limit() } else { self.limit() - 1 }
    }
}

pub struct Rounded {
    /// The code, which overflow makes meaningless.
    pub bits: u64,
    pub overflow: bool,
}

pub const ROUNDINGS: [Rounding; 5] =
    [Rounding::NearestEven, Rounding::NearestAway, Rounding::Zero, Rounding::Down, Rounding::Up];

/// Those of arithmetic instructions.
pub const DIRECTED: [Rounding; 4] =
    [Rounding::NearestEven, Rounding::Zero, Rounding::Down, Rounding::Up];
