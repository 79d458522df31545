//! Arithmetic in every rounding, by exact arithmetic.

use ptxsim::arith::formats::{Bf16, F16, Format, Rounding, Storage, widen};
use ptxsim::arith::{double, float};

use crate::exact::{self, DIRECTED, Exact, Spec, Value};
use crate::ieee::{fused, quotient, root};
use crate::random::Random;

fn same(got: u64, wanted: u64, spec: Spec, what: &dyn Fn() -> String) {
    let both_nan =
        matches!(spec.value(got), Value::Nan) && matches!(spec.value(wanted), Value::Nan);
    // f64 leaves the payload of a NaN open.
    assert!(
        got == wanted || both_nan && spec.mantissa_bits == 52,
        "{}: {got:#x} {wanted:#x}",
        what()
    );
}

/// Operands of all sorts: any codes, close exponents, and sums that cancel.
fn operands(random: &mut Random, spec: Spec) -> [u64; 3] {
    match random.below(3) {
        0 => [random.code(spec), random.code(spec), random.code(spec)],
        1 => [0; 3].map(|_| random.near_one(spec, 30)),
        _ => {
            let a = random.near_one(spec, 3);
            let one = (spec.bias() as u64) << spec.mantissa_bits;
            let b = if random.below(2) == 0 { one } else { random.near_one(spec, 1) };
            let near = a ^ spec.sign() ^ random.below(4);
            [a, b, near]
        }
    }
}

const ONE: f32 = 1.0;

#[test]
fn f32_sums_and_products_round_once() {
    let mut random = Random(7);
    let spec = exact::F32;
    for _ in 0..60_000 {
        let [a, b, c] = operands(&mut random, spec);
        let value = |bits| spec.value(bits);
        let [x, y, z] = [a, b, c].map(|bits| f32::from_bits(bits as u32));
        for mode in DIRECTED {
            let one = spec.value(ONE.to_bits().into());
            let what = || format!("{x:e} {y:e} {z:e} {mode:?}");
            let wanted = fused(spec, value(a), one, Some(value(c)), mode);
            same(float::add(x, z, mode).to_bits().into(), wanted, spec, &what);
            let wanted = fused(spec, value(a), value(b), None, mode);
            same(float::multiply(x, y, mode).to_bits().into(), wanted, spec, &what);
            let wanted = fused(spec, value(a), value(b), Some(value(c)), mode);
            let got = float::fused_multiply_add(x, y, z, mode);
            same(got.to_bits().into(), wanted, spec, &what);
        }
    }
}

fn narrow_fused<F: Format>(spec: Spec) {
    let mut random = Random(8);
    for _ in 0..30_000 {
        let codes = operands(&mut random, spec);
        let [x, y, z] = codes.map(|code| widen::<F>(F::Bits::from_u32(code as u32)));
        let [a, b, c] = codes.map(|code| spec.value(code));
        for mode in DIRECTED {
            let got = float::fused_multiply_add_to::<F>(x, y, z, mode);
            let wanted = fused(spec, a.clone(), b.clone(), Some(c.clone()), mode);
            same(got.to_u32().into(), wanted, spec, &|| format!("{x:e} {y:e} {z:e} {mode:?}"));
        }
    }
}

#[test]
fn half_precision_sums_round_once() {
    narrow_fused::<F16>(exact::F16);
    narrow_fused::<Bf16>(exact::BF16);
}

#[test]
fn f32_quotients_and_roots_round_once() {
    let mut random = Random(9);
    let spec = exact::F32;
    for round in 0..60_000 {
        let [a, b, c] = operands(&mut random, spec);
        let [x, y, z] = [a, b, c].map(|bits| f32::from_bits(bits as u32));
        // A quotient with few bits, or one place beside it.
        let near = (y * z).to_bits().wrapping_add(round % 3).wrapping_sub(1);
        // The square of a number of twelve bits, likewise.
        let head = f32::from_bits(x.to_bits() & !0 << 12);
        let square = (head * head).to_bits().wrapping_add(round % 3).wrapping_sub(1);
        for mode in DIRECTED {
            for (a, b) in [(a, b), (near.into(), b)] {
                let got = float::divide(f32::from_bits(a as u32), f32::from_bits(b as u32), mode);
                let what = || format!("{a:#x} / {b:#x} {mode:?}");
                same(got.to_bits().into(), quotient(spec, a, b, mode), spec, &what);
            }
            for a in [a, square.into()] {
                let got = float::square_root(f32::from_bits(a as u32), mode);
                let what = || format!("sqrt {a:#x} {mode:?}");
                same(got.to_bits().into(), root(spec, a, mode), spec, &what);
            }
        }
    }
}

#[test]
fn f64_rounds_once() {
    let mut random = Random(10);
    let spec = exact::F64;
    let one = 1f64.to_bits();
    for round in 0..40_000 {
        let [a, b, c] = operands(&mut random, spec);
        let [x, y, z] = [a, b, c].map(f64::from_bits);
        let near = (y * z).to_bits().wrapping_add(round % 3).wrapping_sub(1);
        let head = f64::from_bits(a & !0 << 27);
        let square = (head * head).to_bits().wrapping_add(round % 3).wrapping_sub(1);
        for mode in DIRECTED {
            let what = || format!("{x:e} {y:e} {z:e} {mode:?}");
            let value = |bits| spec.value(bits);
            let wanted = fused(spec, value(a), value(b), Some(value(c)), mode);
            same(double::fused_multiply_add(x, y, z, mode).to_bits(), wanted, spec, &what);
            let wanted = fused(spec, value(a), value(one), Some(value(c)), mode);
            same(double::add(x, z, mode).to_bits(), wanted, spec, &what);
            let wanted = fused(spec, value(a), value(b), None, mode);
            same(double::multiply(x, y, mode).to_bits(), wanted, spec, &what);
            for a in [a, near] {
                let got = double::divide(f64::from_bits(a), y, mode).to_bits();
                same(got, quotient(spec, a, b, mode), spec, &what);
            }
            for a in [a, square] {
                let got = double::square_root(f64::from_bits(a), mode).to_bits();
                same(got, root(spec, a, mode), spec, &what);
            }
        }
    }
}

/// The reference itself, on numbers that can be checked by hand.
#[test]
fn the_reference_rounds_as_the_host_does() {
    let mut random = Random(11);
    for _ in 0..20_000 {
        let [a, b] = [0; 2].map(|_| random.near_one(exact::F32, 60) as u32);
        let (x, y) = (f32::from_bits(a), f32::from_bits(b));
        let (p, q) = (exact::F32.finite(a.into()), exact::F32.finite(b.into()));
        let rounded = |value: &Exact| exact::F32.round_ieee(value, false, Rounding::NearestEven);
        assert_eq!(rounded(&p.plus(&q)), u64::from((x + y).to_bits()));
        assert_eq!(rounded(&p.times(&q)), u64::from((x * y).to_bits()));
        assert_eq!(rounded(&p.over(&q)), u64::from((x / y).to_bits()));
        if a >> 31 == 0 {
            assert_eq!(rounded(&p.root()), u64::from(x.sqrt().to_bits()));
        }
    }
}
