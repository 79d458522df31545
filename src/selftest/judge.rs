//! What all case tables share: inputs, guarded outputs, the devices, and the tolerance rule.

use half::bf16;
use std::error::Error;
use std::fmt::Debug;

use super::{Outcome, Sums};
use crate::cpu::Cpu;
use crate::device::{Device, Element};
use crate::tensor::{DType, Floats, Shape, Tensor};

/// A result, or why a table cannot go on.
pub type Checked<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Failures that are kept; of a broken kernel all others say the same.
const KEPT: usize = 20;

/// Products of a small case.
const SMALL: usize = 12_000_000;

/// The devices that a table runs on, and what was found so far.
pub struct Judge<'a, D> {
    /// The device in question.
    pub device: &'a D,
    /// How it adds.
    pub sums: Sums,
    /// Those that must agree to the bit.
    pub(super) cpus: Vec<&'a Cpu>,
    /// Only small cases that the device knows.
    pub(super) small: bool,
    pub(super) outcome: Outcome,
}

/// Runs a verb on the CPU twins and on the device in question: both results. With a dtype only where the
/// device supports it: one result or two. `$run` may use `?`.
macro_rules! everywhere {
    ($judge:ident, $case:expr, |$device:ident| $run:expr) => {{
        let cpu = $judge.on_cpus($case, |$device: &$crate::cpu::Cpu| Ok($run))?;
        let device = (|$device: &D| -> Checked<_> { Ok($run) })($judge.device);
        [cpu, device.map_err(|error| format!("{:?}: {error}", $case))?]
    }};
    ($judge:ident, $case:expr, $dtype:expr, |$device:ident| $run:expr) => {
        match D::supports($dtype) {
            true => everywhere!($judge, $case, |$device| $run).to_vec(),
            false => vec![$judge.on_cpus($case, |$device: &$crate::cpu::Cpu| Ok($run))?],
        }
    };
}
pub(super) use everywhere;

impl<'a, D: Device> Judge<'a, D> {
    pub(super) fn new(device: &'a D, sums: Sums, cpus: &'a [Cpu]) -> Self {
        assert!(!cpus.is_empty(), "a judge needs a CPU twin");
        let cpus = cpus.iter().collect();
        Judge { device, sums, cpus, small: false, outcome: Outcome::default() }
    }

    /// Whether to leave out a case of so many products.
    pub fn skips(&self, products: usize, dtype: DType) -> bool {
        self.small && (products > SMALL || !D::supports(dtype))
    }

    /// Something is wrong.
    pub fn fail(&mut self, what: String) {
        if self.outcome.failures.len() < KEPT {
            self.outcome.failures.push(what);
        }
    }

    /// Something that must hold.
    pub fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.fail(otherwise());
        }
    }

    /// Runs a case on every CPU twin; all results must agree to the bit.
    pub fn on_cpus<T: PartialEq + Debug>(
        &mut self,
        case: impl Debug,
        run: impl Fn(&Cpu) -> Checked<Vec<T>>,
    ) -> Checked<Vec<T>> {
        self.outcome.cases += 1;
        on_cpus(self.cpus.iter().copied(), case, run)
    }

    /// The tolerance rule. An element may be off the f64 judge by twice the largest error of a naive
    /// implementation with the same dtypes (f32 sums in index order, one rounding at the store), plus
    /// one unit in the last place of the stored type.
    pub fn check(
        &mut self,
        case: impl Debug,
        got: &[f32],
        judge: &[f64],
        naive: &[f32],
        dtype: DType,
    ) {
        assert_eq!((got.len(), naive.len()), (judge.len(), judge.len()), "{case:?}");
        let error = |x: f32, exact: f64| match f64::from(x) == exact {
            true => 0.0,
            false => (f64::from(x) - exact).abs(),
        };
        let most = naive.iter().zip(judge).map(|(&x, &y)| error(x, y)).fold(0.0, f64::max);
        assert!(most.is_finite(), "{case:?}: the naive implementation overflows");
        let mut wrong = None;
        for (i, (&x, &exact)) in got.iter().zip(judge).enumerate() {
            let allowed = 2.0 * most + ulp(exact, dtype);
            let share = error(x, exact) / allowed;
            if wrong.is_none() && (share > 1.0 || share.is_nan()) {
                wrong = Some(format!("element {i} is {x}, should be {exact} within {allowed:e}"));
            }
            self.outcome.worst = self.outcome.worst.max(share);
        }
        if let Some(wrong) = wrong {
            self.fail(format!("{case:?}: {wrong}"));
        }
    }

    /// What the CPU and the device (if it did) gave must be this, to the bit.
    pub fn exactly<T: PartialEq + Debug>(
        &mut self,
        case: impl Debug,
        got: &[Vec<T>],
        expected: &[T],
    ) {
        for (got, on) in got.iter().zip(NAMES) {
            let wrong = (0..expected.len()).find(|&i| got.get(i) != Some(&expected[i]));
            let i = wrong.unwrap_or(expected.len());
            self.expect(wrong.is_none() && got.len() == i, || {
                let (got, expected) = (got.get(i), expected.get(i));
                format!("{:?}: element {i} is {got:?}, should be {expected:?}", (on, &case))
            });
        }
    }

    /// [`Judge::check`] of the bits that the CPU and the device (if it did) gave.
    pub fn check_both(
        &mut self,
        case: impl Debug + Copy,
        got: &[Vec<u32>],
        judge: &[f64],
        naive: &[f32],
        dtype: DType,
    ) {
        for (got, on) in got.iter().zip(NAMES) {
            self.check((on, case), &floats(got), judge, naive, dtype);
        }
    }
}

/// Which of two results is whose.
pub const NAMES: [&str; 2] = ["CPU", "device"];

/// Runs a case on every CPU; all results must agree to the bit.
pub fn on_cpus<'a, T: PartialEq + Debug>(
    cpus: impl IntoIterator<Item = &'a Cpu>,
    case: impl Debug,
    run: impl Fn(&Cpu) -> Checked<Vec<T>>,
) -> Checked<Vec<T>> {
    let mut cpus = cpus.into_iter();
    let one = cpus.next().expect("a judge needs a CPU twin");
    let first = run(one)?;
    for device in cpus {
        let other = run(device)?;
        if let Some(i) = (0..first.len()).find(|&i| first[i] != other[i]) {
            return Err(format!(
                "{case:?}: element {i} is {:?} on {}, {:?} on {}",
                first[i],
                one.describe(),
                other[i],
                device.describe()
            )
            .into());
        }
    }
    Ok(first)
}

/// Distance of neighbouring values of `dtype` about `x`.
fn ulp(x: f64, dtype: DType) -> f64 {
    let bits = if dtype == DType::BF16 { 8 } else { 24 };
    let exponent = x.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor() as i32;
    2f64.powi(exponent + 1 - bits)
}

/// A tensor whose buffer goes on after it: with NaN, so that a verb that reads there shows it, and
/// that [`Guarded::read`] finds again if a verb wrote there.
pub struct Guarded<B> {
    /// What the verb sees.
    pub tensor: Tensor<B>,
    guard: usize, // elements after it
}

const GUARD: usize = 96;

/// Uploads `data` with a guard after it.
pub fn input<T: Element, D: Device>(
    device: &D,
    data: &[T],
    shape: impl Into<Shape>,
) -> Checked<Guarded<D::Buffer>> {
    let mut guarded = data.to_vec();
    // All ones: NaN as a float.
    guarded.extend(bytemuck::cast_slice::<u32, T>(&[u32::MAX; GUARD]).iter().take(GUARD));
    let mut tensor = device.upload(&guarded, [guarded.len()])?;
    tensor.reshape(shape);
    Ok(Guarded { tensor, guard: GUARD })
}

/// An output full of NaN, with a guard after it.
pub fn output<T: Element, D: Device>(
    device: &D,
    shape: impl Into<Shape>,
) -> Checked<Guarded<D::Buffer>> {
    let shape = shape.into();
    let ones = bytemuck::cast_slice::<u32, T>(&[u32::MAX])[0];
    input(device, &vec![ones; shape.elements()], shape)
}

impl<B> Guarded<B> {
    /// The elements; an error if the guard was written to.
    pub fn read<T: Element>(&mut self, device: &impl Device<Buffer = B>) -> Checked<Vec<T>> {
        let shape = *self.tensor.shape();
        self.tensor.reshape([shape.elements() + self.guard]);
        let mut data: Vec<T> = device.download(&self.tensor)?;
        let guard = data.split_off(shape.elements());
        let bytes: &[u8] = bytemuck::cast_slice(&guard);
        if bytes.iter().any(|&b| b != 0xFF) {
            return Err("the verb wrote past the end of its output".into());
        }
        self.tensor.reshape(shape);
        Ok(data)
    }

    /// [`Guarded::read`] of f32 or bf16, as f32.
    pub fn floats(&mut self, device: &impl Device<Buffer = B>) -> Checked<Vec<f32>> {
        match self.tensor.dtype() {
            DType::BF16 => Ok(self.read::<bf16>(device)?.into_iter().map(f32::from).collect()),
            _ => self.read(device),
        }
    }
}

/// An output of a float dtype.
pub fn float_output<D: Device>(
    device: &D,
    dtype: DType,
    shape: impl Into<Shape>,
) -> Checked<Guarded<D::Buffer>> {
    match dtype {
        DType::BF16 => output::<bf16, _>(device, shape),
        _ => output::<f32, _>(device, shape),
    }
}

/// [`input`] of floats that are values of `dtype`.
pub fn float_input<D: Device>(
    device: &D,
    data: &[f32],
    dtype: DType,
    shape: impl Into<Shape>,
) -> Checked<Guarded<D::Buffer>> {
    match of_dtype(data, dtype) {
        Floats::F32(data) => input(device, &data, shape),
        Floats::BF16(data) => input(device, &data, shape),
    }
}

/// Floats that are values of `dtype`, in it.
pub fn of_dtype(data: &[f32], dtype: DType) -> Floats<'_> {
    match dtype {
        DType::BF16 => data.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>().into(),
        _ => Floats::F32(data.into()),
    }
}

/// What a store to `dtype` makes of `x`.
pub fn stored(x: f32, dtype: DType) -> f32 {
    if dtype == DType::BF16 { bf16::from_f32(x).to_f32() } else { x }
}

/// x in two parts: rounded to bf16, and what that took, rounded.
pub fn in_parts(x: f32) -> [f32; 2] {
    let first = stored(x, DType::BF16);
    [first, stored(x - first, DType::BF16)]
}

/// Rows `[r, 2, c]` of two parts each, added: `[r, c]`, exactly.
pub fn whole(parts: &[f32], channels: usize) -> Vec<f32> {
    let rows = parts.chunks_exact(2 * channels);
    rows.flat_map(|row| (0..channels).map(|c| row[c] + row[c + channels])).collect()
}

/// Bits, so that comparisons see the sign of zero and which NaN.
pub fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Bits back.
pub fn floats(x: &[u32]) -> Vec<f32> {
    x.iter().map(|&x| f32::from_bits(x)).collect()
}

/// Random numbers for inputs (SplitMix64).
pub struct Random(pub u64);

impl Random {
    /// 64 random bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// About normal: the sum of four uniforms, unit variance.
    pub fn normal(&mut self) -> f32 {
        let sum: f64 = (0..4).map(|_| (self.word() >> 11) as f64 / (1u64 << 53) as f64 - 0.5).sum();
        (sum * 3f64.sqrt()) as f32
    }

    /// `n` normal numbers times `scale`.
    pub fn floats(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| self.normal() * scale).collect()
    }

    /// The same, rounded to `dtype`.
    pub fn values(&mut self, n: usize, scale: f32, dtype: DType) -> Vec<f32> {
        (0..n).map(|_| stored(self.normal() * scale, dtype)).collect()
    }

    /// The same, in bf16.
    pub fn halves(&mut self, n: usize, scale: f32) -> Vec<bf16> {
        (0..n).map(|_| bf16::from_f32(self.normal() * scale)).collect()
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.word() % n as u64) as usize
    }
}

/// The error function: `2/√π·e^(−x²)·Σ 2ⁿx^(2n+1)/(2n+1)!!`, all terms of one sign.
pub fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while f64::abs(term) > 1e-18 * f64::abs(sum) {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    sum * (-x * x).exp() * 2.0 / std::f64::consts::PI.sqrt()
}
