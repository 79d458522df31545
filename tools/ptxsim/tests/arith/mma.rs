//! Tensor-core products against the documented rule, evaluated exactly, and on every instruction set.

use num_bigint::BigInt;
use ptxsim::arith::formats::{Bf16, E4m3, E5m2, F16, F32, Format, Rounding, Storage, Tf32};
use ptxsim::arith::mma::{
    Accumulator, Instruction, S8, TensorCore, U8, mma, mma_double, mma_integer,
};

use crate::exact::{self, Exact, Spec, Value};
use crate::random::Random;
use crate::sets::{Work, on, sets};

/// The parameters of MMA-Sim's `nv_fused_dot_add`.
#[derive(Debug, Clone, Copy)]
struct Sum {
    fraction_bits: i32,
    /// Fraction bits of the result; `None` for f16, which rounds to nearest.
    truncated_to: Option<i32>,
}

/// A number as significand and exponent, the exponent that of the smallest normal number where it is
/// less, and -126 for zero.
fn exponent(spec: Spec, value: &Exact) -> i32 {
    if value.is_zero() { -126 } else { value.exponent().max(1 - spec.bias()) }
}

/// Towards zero, in units of 2^e.
fn truncated(value: &Exact, e: i32) -> Exact {
    let n = BigInt::from(value.in_units(e, Rounding::Zero));
    Exact::new(if value.is_negative() { -n } else { n }, e)
}

/// Format and code of both factors of a product.
type Factors = ((Spec, u64), (Spec, u64));

/// One fused sum.
fn fused(sum: Sum, factors: &[Factors], acc: Spec, c: u64) -> u64 {
    let nan = acc.sign() - 1;
    let mut infinities = Vec::new();
    let mut terms = Vec::new();
    match acc.value(c) {
        Value::Nan => return nan,
        Value::Infinity { negative } => infinities.push(negative),
        Value::Finite { value, .. } => terms.push((exponent(acc, &value), value)),
    }
    for &((a_spec, a), (b_spec, b)) in factors {
        let sign = (a & a_spec.sign() != 0) != (b & b_spec.sign() != 0);
        match (a_spec.value(a), b_spec.value(b)) {
            (Value::Nan, _) | (_, Value::Nan) => return nan,
            (Value::Infinity { .. }, Value::Finite { value, .. })
            | (Value::Finite { value, .. }, Value::Infinity { .. })
                if value.is_zero() =>
            {
                return nan;
            }
            (Value::Finite { value: a, .. }, Value::Finite { value: b, .. }) => {
                terms.push((exponent(a_spec, &a) + exponent(b_spec, &b), a.times(&b)));
            }
            _ => infinities.push(sign),
        }
    }
    if let Some(&first) = infinities.first() {
        let all = infinities.iter().all(|&negative| negative == first);
        let sign = if first { acc.sign() } else { 0 };
        return if all { sign | acc.limit() } else { nan };
    }
    let largest = terms.iter().map(|term| term.0).max().expect("C is a term");
    let zero = Exact::new(0, 0);
    let total = terms
        .iter()
        .fold(zero, |total, (_, term)| total.plus(&truncated(term, largest - sum.fraction_bits)));
    let (total, mode) = match sum.truncated_to {
        None => (total, Rounding::NearestEven),
        Some(_) if total.is_zero() => (total, Rounding::Zero),
        Some(bits) => {
            let unit = total.exponent().max(1 - acc.bias()) - bits;
            (truncated(&total, unit), Rounding::Zero)
        }
    };
    let rounded = acc.round(&total, false, mode);
    match rounded {
        rounded if rounded.overflow => {
            acc.limit() | if total.is_negative() { acc.sign() } else { 0 }
        }
        rounded if rounded.bits == acc.sign() => 0,
        rounded => rounded.bits,
    }
}

/// D by the table of MMA-Sim, one element.
fn element(
    core: TensorCore,
    instruction: Instruction,
    factors: &[Factors],
    acc: Spec,
    c: u64,
) -> u64 {
    let k = factors.len();
    let width = |spec: Spec| spec.exponent_bits + spec.mantissa_bits + 1;
    let fp8 = width(factors[0].0.0) == 8;
    let wide = if acc.mantissa_bits == 23 { Some(23) } else { None };
    let short = wide.map(|_| 13);
    let exact = |fraction_bits| Sum { fraction_bits, truncated_to: wide };
    let few = Sum { fraction_bits: 13, truncated_to: short };
    let (sum, groups) = match (core, fp8) {
        (TensorCore::Ada, true) => (few, if k == 32 { 2 } else { 1 }),
        (TensorCore::Ampere | TensorCore::Ada, _) => {
            let split = k == if width(factors[0].0.0) == 16 { 16 } else { 8 };
            (exact(24), if split { 2 } else { 1 })
        }
        (TensorCore::Hopper, true) if instruction == Instruction::Wgmma => (few, 1),
        (TensorCore::Hopper, true) => {
            // Two f16 products of the bytes 0 and 1, then 2 and 3 of each register; then the sum.
            let pick = |high| {
                let chosen = factors.iter().enumerate().filter(move |(k, _)| (k % 4 > 1) == high);
                chosen.map(|(_, &factor)| factor).collect::<Vec<_>>()
            };
            let low = fused(exact(25), &pick(false), acc, 0);
            let both = fused(exact(25), &pick(true), acc, low);
            return plain_sum(acc, c, both);
        }
        (TensorCore::Hopper, _) => (exact(25), 1),
        (TensorCore::F32, _) => unreachable!("it has no fused sums"),
    };
    factors.chunks(k / groups).fold(c, |c, group| fused(sum, group, acc, c))
}

/// IEEE addition to nearest.
fn plain_sum(spec: Spec, a: u64, b: u64) -> u64 {
    match (spec.value(a), spec.value(b)) {
        (Value::Nan, _) | (_, Value::Nan) => spec.sign() - 1,
        (Value::Infinity { negative: a }, Value::Infinity { negative: b }) if a != b => {
            spec.sign() - 1
        }
        (Value::Infinity { .. }, _) => a,
        (_, Value::Infinity { .. }) => b,
        (Value::Finite { negative: m, value: x }, Value::Finite { negative: n, value: y }) => {
            spec.round_ieee(&x.plus(&y), m && n, Rounding::NearestEven)
        }
    }
}

struct Case<A: Format, B: Format, Acc: Accumulator, const K: usize> {
    core: TensorCore,
    instruction: Instruction,
    a: [[A::Bits; K]; 16],
    b: [[B::Bits; 8]; K],
    c: [[Acc::Bits; 8]; 16],
}

impl<A: Format, B: Format, Acc: Accumulator, const K: usize> Work for Case<A, B, Acc, K> {
    type Output = [[Acc::Bits; 8]; 16];
    #[inline(always)]
    fn run(&self) -> Self::Output {
        let Case { core, instruction, a, b, c } = self;
        mma::<A, B, Acc, 16, 8, K>(*core, *instruction, a, b, c)
    }
}

/// How the elements of a tile are drawn.
#[derive(Debug, Clone, Copy)]
enum Draw {
    /// Exponents near zero, as in use.
    Usual,
    /// Close exponents, large mantissas and few signs: long carries.
    Full,
    /// All finite codes.
    Finite,
    /// Any code, so that infinities and NaNs abound.
    Any,
    /// Mostly usual, with few others.
    Rare,
}

fn draw(random: &mut Random, spec: Spec, draw: Draw) -> u64 {
    match draw {
        Draw::Usual => random.near_one(spec, 6),
        Draw::Full => {
            let code = random.near_one(spec, 1) | ((1 << spec.mantissa_bits) - 1);
            if random.below(8) == 0 { code } else { code & !spec.sign() }
        }
        Draw::Finite => {
            let code = random.code(spec);
            if code & (spec.sign() - 1) < spec.limit() { code } else { 1 }
        }
        Draw::Any => random.code(spec),
        Draw::Rare if random.below(40) == 0 => random.code(spec),
        Draw::Rare => random.near_one(spec, 9),
    }
}

fn compare<A, B, Acc, const K: usize>(
    (a_spec, b_spec, acc): (Spec, Spec, Spec),
    cores: &[TensorCore],
    instruction: Instruction,
) where
    A: Format,
    B: Format,
    Acc: Accumulator,
{
    let mut random = Random(12 + K as u64);
    let draws = [Draw::Usual, Draw::Full, Draw::Finite, Draw::Any, Draw::Rare];
    for tile in 0..60 {
        let kind = draws[tile % draws.len()];
        let mut code = |spec: Spec| draw(&mut random, spec, kind) as u32;
        let a = [[0; K]; 16].map(|row| row.map(|_| A::Bits::from_u32(code(a_spec) << A::PADDING)));
        let b = [[0; 8]; K].map(|row| row.map(|_| B::Bits::from_u32(code(b_spec) << B::PADDING)));
        let c = [[0; 8]; 16].map(|row| row.map(|_| Acc::Bits::from_u32(code(acc))));
        for &core in cores {
            let case = Case::<A, B, Acc, K> { core, instruction, a, b, c };
            let results: Vec<_> = sets().iter().map(|&set| on(set, &case)).collect();
            assert!(results.iter().all(|result| *result == results[0]), "{core:?} by sets");
            for m in 0..16 {
                for n in 0..8 {
                    let factor = |k: usize| {
                        let a = u64::from(a[m][k].to_u32() >> A::PADDING);
                        ((a_spec, a), (b_spec, u64::from(b[k][n].to_u32() >> B::PADDING)))
                    };
                    let factors: Vec<_> = (0..K).map(factor).collect();
                    let start = u64::from(c[m][n].to_u32());
                    let wanted = element(core, instruction, &factors, acc, start);
                    let got = u64::from(results[0][m][n].to_u32());
                    assert_eq!(got, wanted, "{core:?} {kind:?} {start:#x} {factors:x?}");
                }
            }
        }
    }
}

const ALL: [TensorCore; 3] = [TensorCore::Ampere, TensorCore::Ada, TensorCore::Hopper];
const FP8: [TensorCore; 2] = [TensorCore::Ada, TensorCore::Hopper];

#[test]
fn bf16_products_follow_the_rule() {
    let specs = (exact::BF16, exact::BF16, exact::F32);
    compare::<Bf16, Bf16, F32, 8>(specs, &ALL, Instruction::Mma);
    compare::<Bf16, Bf16, F32, 16>(specs, &ALL, Instruction::Mma);
}

#[test]
fn f16_products_follow_the_rule() {
    let specs = (exact::F16, exact::F16, exact::F32);
    compare::<F16, F16, F32, 8>(specs, &ALL, Instruction::Mma);
    compare::<F16, F16, F32, 16>(specs, &ALL, Instruction::Mma);
    let specs = (exact::F16, exact::F16, exact::F16);
    compare::<F16, F16, F16, 8>(specs, &ALL, Instruction::Mma);
    compare::<F16, F16, F16, 16>(specs, &ALL, Instruction::Mma);
}

#[test]
fn tf32_products_follow_the_rule() {
    let specs = (exact::TF32, exact::TF32, exact::F32);
    compare::<Tf32, Tf32, F32, 4>(specs, &ALL, Instruction::Mma);
    compare::<Tf32, Tf32, F32, 8>(specs, &ALL, Instruction::Mma);
}

#[test]
fn fp8_products_follow_the_rule() {
    let specs = (exact::E4M3, exact::E5M2, exact::F32);
    compare::<E4m3, E5m2, F32, 16>(specs, &FP8, Instruction::Mma);
    compare::<E4m3, E5m2, F32, 32>(specs, &FP8, Instruction::Mma);
    compare::<E4m3, E5m2, F32, 32>(specs, &FP8, Instruction::Wgmma);
    let specs = (exact::E5M2, exact::E4M3, exact::F16);
    compare::<E5m2, E4m3, F16, 16>(specs, &FP8, Instruction::Mma);
    compare::<E5m2, E4m3, F16, 32>(specs, &FP8, Instruction::Mma);
}

/// Low bits of tf32 operands do not count, not even in a NaN.
#[test]
fn tf32_ignores_the_padding() {
    let mut a = [[0x3f80_0000; 8]; 16];
    let b = [[0x3f80_1fff; 8]; 8];
    let c = [[0; 8]; 16];
    let d = mma::<Tf32, Tf32, F32, 16, 8, 8>(TensorCore::Ampere, Instruction::Mma, &a, &b, &c);
    assert_eq!(d[3][5], 8f32.to_bits());
    a[3][2] = 0x7f80_0001;
    let d = mma::<Tf32, Tf32, F32, 16, 8, 8>(TensorCore::Ampere, Instruction::Mma, &a, &b, &c);
    assert_eq!((d[3][5], d[4][5]), (0x7f80_0000, 8f32.to_bits()));
}

/// Values worked out by hand from the published rule.
#[test]
fn alignment_drops_what_is_too_small() {
    let mut a = [[0u16; 16]; 16];
    let mut b = [[0u16; 8]; 16];
    let one = 0x3f80;
    // 2^0 + 2^-24 + 2^-25, products apart, and C = -1.
    for (k, power) in [(0, 0), (1, 24), (2, 25)] {
        a[0][k] = one;
        b[k][0] = one - (power << 7);
    }
    let mut c = [[0; 8]; 16];
    c[0][0] = (-1f32).to_bits();
    let d = |core| {
        let d = mma::<Bf16, Bf16, F32, 16, 8, 16>(core, Instruction::Mma, &a, &b, &c);
        f32::from_bits(d[0][0])
    };
    assert_eq!(d(TensorCore::Ampere), 2f32.powi(-24));
    assert_eq!(d(TensorCore::Hopper), 2f32.powi(-24) + 2f32.powi(-25));
    // C and the first product cancel before the others come.
    assert_eq!(d(TensorCore::F32), 2f32.powi(-24) + 2f32.powi(-25));
}

/// Sixteen products just below four and a C just below two, all of one sign, pass 2^31 units of
/// 2^-25.
#[test]
fn the_largest_sums_keep_their_sign() {
    for sign in [0, 0x8000] {
        let (a, b) = ([[0x3fff | sign; 16]; 16], [[0x3fff; 8]; 16]);
        let c = [[0x3fff_ffff | u32::from(sign) << 16; 8]; 16];
        let d = mma::<Bf16, Bf16, F32, 16, 8, 16>(TensorCore::Hopper, Instruction::Mma, &a, &b, &c);
        let wanted = 16.0 * 1.9921875f64.powi(2) + f64::from(f32::from_bits(0x3fff_ffff));
        // Truncated to the 17 fraction bits that an f32 of this size has.
        let wanted = ((wanted * 2f64.powi(17)).trunc() * 2f64.powi(-17)) as f32;
        assert_eq!(d[7][3], wanted.to_bits() | u32::from(sign) << 16);
    }
}

/// The fast mode: rounded sums in order of k.
#[test]
fn the_fast_mode_adds_in_order() {
    let mut random = Random(13);
    let a = [[0; 16]; 16].map(|row: [u16; 16]| row.map(|_| random.near_one(exact::F16, 5) as u16));
    let b = [[0; 8]; 16].map(|row: [u16; 8]| row.map(|_| random.near_one(exact::F16, 5) as u16));
    let c = [[0; 8]; 16].map(|row: [u32; 8]| row.map(|_| random.near_one(exact::F32, 5) as u32));
    let case =
        Case::<F16, F16, F32, 16> { core: TensorCore::F32, instruction: Instruction::Mma, a, b, c };
    for set in sets() {
        let d = on(set, &case);
        for m in 0..16 {
            for n in 0..8 {
                let wanted = (0..16).fold(exact::F32.finite(c[m][n].into()), |sum, k| {
                    let (a, b) =
                        (exact::F16.finite(a[m][k].into()), exact::F16.finite(b[k][n].into()));
                    let sum = sum.plus(&a.times(&b));
                    exact::F32.finite(exact::F32.round_ieee(&sum, false, Rounding::NearestEven))
                });
                let wanted = exact::F32.round_ieee(&wanted, false, Rounding::NearestEven);
                assert_eq!(u64::from(d[m][n]), wanted, "{set:?}");
            }
        }
    }
}

#[test]
fn bytes_add_exactly_and_wrap_or_clamp() {
    let mut random = Random(14);
    for _ in 0..200 {
        let a = [[0; 32]; 16].map(|row: [u8; 32]| row.map(|_| random.next() as u8));
        let b = [[0; 8]; 32].map(|row: [u8; 8]| row.map(|_| random.next() as u8));
        let near = |random: &mut Random| {
            let offset = random.below(4_000_000) as i32;
            [offset, i32::MAX - offset, i32::MIN + offset][random.below(3) as usize]
        };
        let c = [[0; 8]; 16].map(|row: [i32; 8]| row.map(|_| near(&mut random)));
        let wrapped = mma_integer::<S8, U8, 16, 8, 32>(false, &a, &b, &c);
        let clamped = mma_integer::<S8, U8, 16, 8, 32>(true, &a, &b, &c);
        let swapped = mma_integer::<U8, S8, 16, 8, 32>(true, &a, &b, &c);
        for m in 0..16 {
            for n in 0..8 {
                let signed = |byte: u8| i64::from(byte as i8);
                let dot =
                    |f: &dyn Fn(usize) -> i64| i64::from(c[m][n]) + (0..32).map(f).sum::<i64>();
                let sum = dot(&|k| signed(a[m][k]) * i64::from(b[k][n]));
                assert_eq!(wrapped[m][n], sum as i32);
                assert_eq!(i64::from(clamped[m][n]), sum.clamp(i32::MIN.into(), i32::MAX.into()));
                let sum = dot(&|k| i64::from(a[m][k]) * signed(b[k][n]));
                assert_eq!(i64::from(swapped[m][n]), sum.clamp(i32::MIN.into(), i32::MAX.into()));
            }
        }
    }
}

#[test]
fn doubles_are_fused_in_order() {
    let mut random = Random(15);
    for _ in 0..200 {
        let mut number = |_| f64::from_bits(random.near_one(exact::F64, 40));
        let a = [[0.0; 4]; 8].map(|row: [f64; 4]| row.map(&mut number));
        let b = [[0.0; 8]; 4].map(|row: [f64; 8]| row.map(&mut number));
        let c = [[0.0; 8]; 8].map(|row: [f64; 8]| row.map(&mut number));
        let d = mma_double::<8, 8, 4>(&a, &b, &c);
        for m in 0..8 {
            for n in 0..8 {
                let value = |x: f64| exact::F64.finite(x.to_bits());
                let wanted = (0..4).fold(c[m][n], |sum, k| {
                    let sum = value(sum).plus(&value(a[m][k]).times(&value(b[k][n])));
                    f64::from_bits(exact::F64.round_ieee(&sum, false, Rounding::NearestEven))
                });
                assert_eq!(d[m][n].to_bits(), wanted.to_bits());
            }
        }
    }
}
