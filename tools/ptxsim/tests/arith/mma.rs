//! Tensor-core products against the documented rule, evaluated exactly, and on every instruction set.

use ptxsim::arith::formats::{Bf16, E4m3, E5m2, F16, F32, Format, Rounding, Storage, Tf32};
use ptxsim::arith::mma::{
    Accumulator, Instruction, S8, TensorCore, U8, mma, mma_double, mma_integer,
};

use crate::exact::{self, Spec};
use crate::random::Random;
use crate::rule::{DRAWS, draw, element};
use crate::sets::{Work, on, sets};

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
    for tile in 0..60 {
        let kind = DRAWS[tile % DRAWS.len()];
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
