//! Formats, conversions and roundings, by exact arithmetic.

use ptxsim::arith::convert::{
    Integer, double_from_integer, double_to_integer, from_integer, to_integer,
};
use ptxsim::arith::formats::{
    Bf16, E4m3, E5m2, F16, F32, Format, Overflow, Rounding, Storage, Tf32, narrow, narrow_double,
    relu, widen,
};

use crate::exact::{self, Exact, ROUNDINGS, Spec, Value};
use crate::random::Random;

fn bits<F: Format>(code: u64) -> F::Bits {
    F::Bits::from_u32((code as u32) << F::PADDING)
}

fn code<F: Format>(bits: F::Bits) -> u64 {
    u64::from(bits.to_u32() >> F::PADDING)
}

/// What PTX says of a conversion to a narrow format.
fn expected(spec: Spec, value: Value, rounding: Rounding, overflow: Overflow) -> u64 {
    let nan = spec.sign() - 1;
    let sign = |negative| if negative { spec.sign() } else { 0 };
    let (x, negative) = match value {
        Value::Nan => return nan,
        Value::Infinity { negative } => {
            let beyond = match overflow {
                Overflow::Infinity => spec.limit(),
                Overflow::Saturate => spec.limit() - 1,
            };
            return sign(negative) | beyond;
        }
        Value::Finite { negative, value } => (value, negative),
    };
    let rounded = spec.round(&x, negative, rounding);
    match overflow {
        Overflow::Infinity => spec.round_ieee(&x, negative, rounding),
        Overflow::Saturate if rounded.overflow => sign(negative) | (spec.limit() - 1),
        Overflow::Saturate => rounded.bits,
    }
}

fn widening<F: Format>(spec: Spec) {
    for source in 0..2 * spec.sign() {
        let wide = widen::<F>(bits::<F>(source));
        match (spec.value(source), exact::F32.value(wide.to_bits().into())) {
            (Value::Nan, Value::Nan) => {}
            (Value::Infinity { negative: a }, Value::Infinity { negative: b }) if a == b => {}
            (Value::Finite { negative: a, value: x }, Value::Finite { negative: b, value: y }) => {
                assert!(a == b && x.plus(&Exact { n: -y.n, e: y.e }).is_zero(), "{source:#x}");
            }
            (a, b) => panic!("{source:#x}: {a:?} became {b:?}"),
        }
        assert_eq!(F::is_special(bits::<F>(source)), !wide.is_finite());
        assert_eq!(F::is_infinite(bits::<F>(source)), wide.is_infinite());
    }
}

#[test]
fn every_code_widens_exactly() {
    widening::<F16>(exact::F16);
    widening::<Bf16>(exact::BF16);
    widening::<Tf32>(exact::TF32);
    widening::<E4m3>(exact::E4M3);
    widening::<E5m2>(exact::E5M2);
}

fn narrowing<F: Format>(spec: Spec, source: f32) {
    for rounding in ROUNDINGS {
        for overflow in [Overflow::Infinity, Overflow::Saturate] {
            let value = exact::F32.value(source.to_bits().into());
            let wanted = expected(spec, value, rounding, overflow);
            let got = code::<F>(narrow::<F>(source, rounding, overflow));
            assert_eq!(got, wanted, "{source:e} {rounding:?} {overflow:?}");
            let got = code::<F>(narrow_double::<F>(source.into(), rounding, overflow));
            assert_eq!(got, wanted, "f64 {source:e} {rounding:?} {overflow:?}");
        }
    }
}

/// Every code, the midpoint to the next, and what lies just beside both.
fn boundaries<F: Format>(spec: Spec, step: usize) {
    for lower in (0..=spec.limit()).step_by(step) {
        let here = if lower == spec.limit() { f32::INFINITY } else { widen::<F>(bits::<F>(lower)) };
        let quarter = 1u32 << (exact::F32.mantissa_bits - spec.mantissa_bits - 1);
        for anchor in [here.to_bits(), here.to_bits() | quarter] {
            for source in [anchor.saturating_sub(1), anchor, anchor + 1] {
                narrowing::<F>(spec, f32::from_bits(source));
                narrowing::<F>(spec, -f32::from_bits(source));
            }
        }
    }
}

#[test]
fn narrowing_is_right_at_every_boundary() {
    boundaries::<F16>(exact::F16, 3);
    boundaries::<Bf16>(exact::BF16, 3);
    boundaries::<Tf32>(exact::TF32, 101);
    boundaries::<E4m3>(exact::E4M3, 1);
    boundaries::<E5m2>(exact::E5M2, 1);
}

#[test]
fn narrowing_is_right_on_random_numbers() {
    let mut random = Random(3);
    for _ in 0..20_000 {
        let any = f32::from_bits(random.code(exact::F32) as u32);
        narrowing::<F16>(exact::F16, any);
        narrowing::<Bf16>(exact::BF16, any);
        narrowing::<Tf32>(exact::TF32, any);
        narrowing::<E4m3>(exact::E4M3, any);
        narrowing::<E5m2>(exact::E5M2, any);
        let close = f32::from_bits(random.near_one(exact::F32, 18) as u32);
        narrowing::<F16>(exact::F16, close);
        narrowing::<E4m3>(exact::E4M3, close);
        narrowing::<E5m2>(exact::E5M2, close);
    }
}

fn narrowing_double<F: Format>(spec: Spec, source: u64) {
    for rounding in ROUNDINGS {
        let wanted = expected(spec, exact::F64.value(source), rounding, Overflow::Infinity);
        let got = narrow_double::<F>(f64::from_bits(source), rounding, Overflow::Infinity);
        assert_eq!(code::<F>(got), wanted, "{source:#x} {rounding:?}");
    }
}

#[test]
fn f64_narrows_as_if_rounded_once() {
    let mut random = Random(4);
    for _ in 0..20_000 {
        let any = random.code(exact::F64);
        narrowing_double::<F32>(exact::F32, any);
        narrowing_double::<F16>(exact::F16, any);
        let close = random.near_one(exact::F64, 160);
        narrowing_double::<F32>(exact::F32, close);
        narrowing_double::<Bf16>(exact::BF16, close);
        // At ties and one place beside them.
        let tie = close & !0 << 28 | 1 << 28;
        for source in [tie - 1, tie, tie + 1] {
            narrowing_double::<F32>(exact::F32, source);
        }
    }
}

#[test]
fn relu_keeps_what_is_not_negative() {
    for source in 0..=u16::MAX {
        let value = widen::<F16>(source);
        let wanted = if value.is_nan() || source < 0x8000 { source } else { 0 };
        if !value.is_nan() || source == 0x7fff {
            assert_eq!(relu::<F16>(source), wanted);
        }
    }
    assert_eq!(relu::<Tf32>(0x8000_2000), 0);
    assert_eq!(relu::<Tf32>(0x0000_2000), 0x2000);
}

/// The whole number by definition, clamped.
fn whole(value: Value, rounding: Rounding, low: i128, high: i128) -> Option<i128> {
    match value {
        Value::Nan => None,
        Value::Infinity { negative } => Some(if negative { low } else { high }),
        Value::Finite { value, .. } => {
            let magnitude = value.in_units(0, rounding);
            let magnitude = i128::try_from(magnitude).unwrap_or(i128::MAX);
            Some((if value.is_negative() { -magnitude } else { magnitude }).clamp(low, high))
        }
    }
}

fn integers<I>(low: I, high: I)
where
    I: Integer + Into<i128> + PartialEq + std::fmt::Debug,
{
    let mut random = Random(5);
    let modes = ROUNDINGS.into_iter().filter(|&mode| mode != Rounding::NearestAway);
    for rounding in modes {
        for _ in 0..5_000 {
            let near = random.near_one(exact::F32, I::BITS as i32 + 1);
            for source in [random.code(exact::F32), near, near & !0 << random.below(23)] {
                let got = to_integer::<I>(f32::from_bits(source as u32), rounding);
                let wanted = whole(exact::F32.value(source), rounding, low.into(), high.into());
                let nan = if I::BITS == 64 { I::INDEFINITE.into() } else { 0 };
                assert_eq!(got.into(), wanted.unwrap_or(nan), "{source:#x} {rounding:?}");
            }
            let near = random.near_one(exact::F64, I::BITS as i32 + 1);
            for source in [random.code(exact::F64), near, near & !0 << random.below(52)] {
                let got = double_to_integer::<I>(f64::from_bits(source), rounding);
                let wanted = whole(exact::F64.value(source), rounding, low.into(), high.into());
                let nan = I::INDEFINITE.into();
                assert_eq!(got.into(), wanted.unwrap_or(nan), "{source:#x} {rounding:?}");
            }
        }
    }
}

#[test]
fn floats_round_and_clamp_to_integers() {
    integers(i8::MIN, i8::MAX);
    integers(u8::MIN, u8::MAX);
    integers(i16::MIN, i16::MAX);
    integers(u16::MIN, u16::MAX);
    integers(i32::MIN, i32::MAX);
    integers(u32::MIN, u32::MAX);
    integers(i64::MIN, i64::MAX);
    integers(u64::MIN, u64::MAX);
    assert_eq!(to_integer::<i64>(f32::NAN, Rounding::Zero), i64::MIN);
    assert_eq!(double_to_integer::<u32>(f64::NAN, Rounding::Zero), 0x8000_0000);
    assert_eq!(to_integer::<u32>(f32::NAN, Rounding::Zero), 0);
}

#[test]
fn integers_round_to_floats() {
    let mut random = Random(6);
    for _ in 0..20_000 {
        let magnitude = random.next() >> random.below(64) & !0 << random.below(40);
        for magnitude in [magnitude, magnitude.wrapping_add(1), u64::MAX - random.below(3000)] {
            for negative in [false, true] {
                let n = i128::from(magnitude) * if negative { -1 } else { 1 };
                for rounding in ROUNDINGS {
                    let x = Exact::new(n, 0);
                    let got = from_integer::<F32>(negative && n != 0, magnitude, rounding);
                    assert_eq!(u64::from(got), exact::F32.round_ieee(&x, false, rounding), "{n}");
                    let got = from_integer::<F16>(negative && n != 0, magnitude, rounding);
                    assert_eq!(u64::from(got), exact::F16.round_ieee(&x, false, rounding), "{n}");
                    if rounding != Rounding::NearestAway {
                        let got = double_from_integer(negative, magnitude, rounding);
                        assert_eq!(
                            got.to_bits(),
                            exact::F64.round_ieee(&x, false, rounding),
                            "{n} {rounding:?}"
                        );
                    }
                }
            }
        }
    }
}
