//! Floating-point formats and the roundings between them.
//!
//! PTX ISA, "Alternate Floating-Point Data Formats" and "Data Movement and Conversion Instructions:
//! cvt". Values travel as their bits.

/// Bits of a register or a part of one.
pub trait Storage: Copy + Default + PartialEq + std::fmt::Debug {
    fn to_u32(self) -> u32;
    /// The low bits.
    fn from_u32(bits: u32) -> Self;
}

impl Storage for u8 {
    #[inline(always)]
    fn to_u32(self) -> u32 {
        u32::from(self)
    }
    #[inline(always)]
    fn from_u32(bits: u32) -> Self {
        bits as u8
    }
}

impl Storage for u16 {
    #[inline(always)]
    fn to_u32(self) -> u32 {
        u32::from(self)
    }
    #[inline(always)]
    fn from_u32(bits: u32) -> Self {
        bits as u16
    }
}

impl Storage for u32 {
    #[inline(always)]
    fn to_u32(self) -> u32 {
        self
    }
    #[inline(always)]
    fn from_u32(bits: u32) -> Self {
        bits
    }
}

/// A binary format of at most 32 bits.
pub trait Format: Copy + Default {
    type Bits: Storage;
    const MANTISSA_BITS: u32;
    const BIAS: i32;
    /// Magnitude of the first code that is not finite.
    const NON_FINITE: u32;
    /// Without one, what overflows becomes NaN.
    const HAS_INFINITY: bool = true;
    /// Weight of the sign bit.
    const SIGN: u32;
    /// Unused low bits of the register.
    const PADDING: u32 = 0;
    /// The NaN that instructions return: every bit of the register but the sign.
    const NAN: u32 = (Self::SIGN << Self::PADDING) - 1;

    /// Whether `bits` is an infinity or a NaN.
    #[inline(always)]
    fn is_special(bits: Self::Bits) -> bool {
        (bits.to_u32() >> Self::PADDING) & (Self::SIGN - 1) >= Self::NON_FINITE
    }

    /// Whether `bits` is an infinity.
    #[inline(always)]
    fn is_infinite(bits: Self::Bits) -> bool {
        Self::HAS_INFINITY
            && (bits.to_u32() >> Self::PADDING) & (Self::SIGN - 1) == Self::NON_FINITE
    }
}

/// IEEE half precision.
#[derive(Debug, Clone, Copy, Default)]
pub struct F16;

impl Format for F16 {
    type Bits = u16;
    const MANTISSA_BITS: u32 = 10;
    const BIAS: i32 = 15;
    const NON_FINITE: u32 = 0x7c00;
    const SIGN: u32 = 0x8000;
}

/// The upper half of an f32.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bf16;

impl Format for Bf16 {
    type Bits = u16;
    const MANTISSA_BITS: u32 = 7;
    const BIAS: i32 = 127;
    const NON_FINITE: u32 = 0x7f80;
    const SIGN: u32 = 0x8000;
}

/// An f32 of which the low 13 bits do not count.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tf32;

impl Format for Tf32 {
    type Bits = u32;
    const MANTISSA_BITS: u32 = 10;
    const BIAS: i32 = 127;
    const NON_FINITE: u32 = 0x3_fc00;
    const SIGN: u32 = 0x4_0000;
    const PADDING: u32 = 13;
}

/// Four exponent bits, three of mantissa, no infinity, one NaN ("fn").
#[derive(Debug, Clone, Copy, Default)]
pub struct E4m3;

impl Format for E4m3 {
    type Bits = u8;
    const MANTISSA_BITS: u32 = 3;
    const BIAS: i32 = 7;
    const NON_FINITE: u32 = 0x7f;
    const HAS_INFINITY: bool = false;
    const SIGN: u32 = 0x80;
}

/// Five exponent bits, two of mantissa, IEEE specials.
#[derive(Debug, Clone, Copy, Default)]
pub struct E5m2;

impl Format for E5m2 {
    type Bits = u8;
    const MANTISSA_BITS: u32 = 2;
    const BIAS: i32 = 15;
    const NON_FINITE: u32 = 0x7c;
    const SIGN: u32 = 0x80;
}

/// IEEE single precision.
#[derive(Debug, Clone, Copy, Default)]
pub struct F32;

impl Format for F32 {
    type Bits = u32;
    const MANTISSA_BITS: u32 = 23;
    const BIAS: i32 = 127;
    const NON_FINITE: u32 = 0x7f80_0000;
    const SIGN: u32 = 0x8000_0000;
}

/// The rounding modifiers of PTX.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// `.rn`, `.rni`: to nearest, ties to even.
    NearestEven,
    /// `.rna`: to nearest, ties away from zero.
    NearestAway,
    /// `.rz`, `.rzi`.
    Zero,
    /// `.rm`, `.rmi`.
    Down,
    /// `.rp`, `.rpi`.
    Up,
}

impl Rounding {
    /// Whether a magnitude that is not representable grows.
    #[inline(always)]
    pub(super) fn away(self, negative: bool) -> bool {
        (self == Rounding::Up && !negative) || (self == Rounding::Down && negative)
    }

    /// What to add to a magnitude before its low `shift` bits go; `odd` is the last bit that stays.
    #[inline(always)]
    fn increment(self, negative: bool, shift: u32, odd: u64) -> u64 {
        let half = 1u64 << (shift - 1);
        match self {
            Rounding::NearestEven => half - 1 + odd,
            Rounding::NearestAway => half,
            _ => u64::from(self.away(negative)) * (2 * half - 1),
        }
    }

    /// Whether a finite value beyond the largest becomes infinite.
    #[inline(always)]
    pub(super) fn overflows(self, negative: bool) -> bool {
        matches!(self, Rounding::NearestEven | Rounding::NearestAway) || self.away(negative)
    }
}

/// What becomes of values beyond the largest finite one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    Infinity,
    /// `.satfinite`: the largest finite value of the same sign.
    Saturate,
}

/// The f32 of the same value; always exact. NaN becomes canonical, but bf16 and tf32 keep their bits
/// as the hardware only shifts them.
#[inline(always)]
pub fn widen<F: Format>(bits: F::Bits) -> f32 {
    let bits = bits.to_u32() >> F::PADDING;
    if F::BIAS == F32::BIAS {
        return f32::from_bits(bits << (F32::MANTISSA_BITS - F::MANTISSA_BITS));
    }
    let magnitude = bits & (F::SIGN - 1);
    let field = (magnitude >> F::MANTISSA_BITS).max(1);
    let hidden = u32::from(magnitude >> F::MANTISSA_BITS != 0) << F::MANTISSA_BITS;
    let significand = (magnitude & ((1 << F::MANTISSA_BITS) - 1)) | hidden;
    let scale = field as i32 - F::BIAS - F::MANTISSA_BITS as i32 + F32::BIAS;
    let value = significand as i32 as f32 * f32::from_bits((scale as u32) << F32::MANTISSA_BITS);
    let finite = value.to_bits() | (u32::from(bits & F::SIGN != 0) << 31);
    let infinite = F32::NON_FINITE | (u32::from(bits & F::SIGN != 0) << 31);
    let nan = magnitude > F::NON_FINITE || (magnitude == F::NON_FINITE && !F::HAS_INFINITY);
    f32::from_bits(if nan {
        F32::NAN
    } else if magnitude == F::NON_FINITE {
        infinite
    } else {
        finite
    })
}

/// Rounds an f32 to a narrower format. `satfinite` turns infinities into the largest finite value
/// and leaves NaN, as cvt does.
#[inline(always)]
pub fn narrow<F: Format>(value: f32, rounding: Rounding, overflow: Overflow) -> F::Bits {
    let bits = value.to_bits();
    let negative = bits >> 31 != 0;
    let magnitude = bits & 0x7fff_ffff;
    let field = (magnitude >> 23).max(1);
    let hidden = u32::from(magnitude >> 23 != 0) << 23;
    let significand = (magnitude & 0x7f_ffff) | hidden;
    // The exponent field that the value has in the target, were its range unlimited.
    let target = field as i32 - F32::BIAS + F::BIAS;
    // Beyond 25 every bit is below half of the last place.
    let shift = (F32::MANTISSA_BITS - F::MANTISSA_BITS + (1 - target).max(0) as u32).min(25);
    let odd = (significand >> shift) & 1;
    let rounded = (significand + rounding.increment(negative, shift, odd.into()) as u32) >> shift;
    // The hidden bit adds one to the field, as does a carry out of the mantissa.
    let code = (((target.max(1) - 1) as u32) << F::MANTISSA_BITS) + rounded;
    finish::<F>(
        code,
        negative,
        magnitude == F32::NON_FINITE,
        magnitude > F32::NON_FINITE,
        rounding,
        overflow,
    )
}

/// Rounds an f64 once to a format.
#[inline(always)]
pub fn narrow_double<F: Format>(value: f64, rounding: Rounding, overflow: Overflow) -> F::Bits {
    let bits = value.to_bits();
    let negative = bits >> 63 != 0;
    let magnitude = bits & (u64::MAX >> 1);
    let infinity = f64::INFINITY.to_bits();
    let field = (magnitude >> 52).max(1);
    let hidden = u64::from(magnitude >> 52 != 0) << 52;
    let significand = (magnitude & ((1 << 52) - 1)) | hidden;
    let target = field as i32 - 1023 + F::BIAS;
    let shift = (52 - F::MANTISSA_BITS + (1 - target).max(0) as u32).min(54);
    let odd = (significand >> shift) & 1;
    let rounded = (significand + rounding.increment(negative, shift, odd)) >> shift;
    // Far beyond every format's range the field must not wrap in 32 bits.
    let field = (target.clamp(1, 512) - 1) as u32;
    let code = (field << F::MANTISSA_BITS).saturating_add(rounded as u32);
    finish::<F>(code, negative, magnitude == infinity, magnitude > infinity, rounding, overflow)
}

#[inline(always)]
fn finish<F: Format>(
    code: u32,
    negative: bool,
    infinite: bool,
    nan: bool,
    rounding: Rounding,
    overflow: Overflow,
) -> F::Bits {
    let infinity = overflow == Overflow::Infinity && (infinite || rounding.overflows(negative));
    let beyond = if infinity { F::NON_FINITE } else { F::NON_FINITE - 1 };
    let code = if code >= F::NON_FINITE { beyond } else { code };
    let signed = code | if negative { F::SIGN } else { 0 };
    F::Bits::from_u32(if nan { F::NAN } else { signed << F::PADDING })
}

/// `.relu`: negative results, and -0, become +0; NaN stays.
#[inline(always)]
pub fn relu<F: Format>(bits: F::Bits) -> F::Bits {
    let negative = (bits.to_u32() >> F::PADDING) & F::SIGN != 0;
    // Results are canonical, and the canonical NaN is positive.
    F::Bits::from_u32(if negative { 0 } else { bits.to_u32() })
}

/// `.ftz`: subnormal numbers become zero of the same sign.
#[inline(always)]
pub fn flush(value: f32) -> f32 {
    let bits = value.to_bits();
    let normal = bits & F32::NON_FINITE != 0;
    f32::from_bits(if normal { bits } else { bits & F32::SIGN })
}

/// `.sat`: to [+0, 1], NaN to +0.
#[inline(always)]
pub fn saturate(value: f32) -> f32 {
    if value >= 1.0 {
        1.0
    } else if value > 0.0 {
        value
    } else {
        0.0
    }
}

/// Every NaN as the one that f32 instructions return. Compares bits, since the compiler may drop a
/// choice between NaNs.
#[inline(always)]
pub fn canonical(value: f32) -> f32 {
    let bits = value.to_bits();
    let nan = bits & (F32::SIGN - 1) > F32::NON_FINITE;
    f32::from_bits(if nan { F32::NAN } else { bits })
}
