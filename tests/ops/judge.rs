//! Shared by all operators: inputs, guarded outputs, devices, and the tolerance rule.

use half::bf16;
use muse::cpu::{Cpu, Simd};
use muse::device::{Device, Element};
use muse::tensor::{DType, Shape, Tensor};
use std::fmt::Debug;
use std::sync::OnceLock;

/// Every SIMD level of this machine with 1, 2 and 3 threads.
pub fn devices() -> &'static [Cpu] {
    static DEVICES: OnceLock<Vec<Cpu>> = OnceLock::new();
    DEVICES.get_or_init(|| {
        let levels = Simd::available().into_iter();
        let pairs = levels.flat_map(|level| [1, 2, 3].map(|threads| (level, threads)));
        pairs.map(|(level, threads)| Cpu::with_simd(Some(threads), level).unwrap()).collect()
    })
}

/// Runs a verb on all CPU devices, which must agree to the bit, and on the CUDA device: both results.
#[macro_export]
macro_rules! everywhere {
    ($case:expr, |$device:ident| $run:expr) => {
        [
            $crate::judge::on_cpus($case, |$device: &muse::cpu::Cpu| $run),
            (|$device: &muse::cuda::Cuda| $run)($crate::gpu::cuda()),
        ]
    };
}

/// Runs a verb on every CPU device; all results must agree to the bit.
pub fn on_cpus<T: PartialEq + Debug>(case: impl Debug, run: impl Fn(&Cpu) -> Vec<T>) -> Vec<T> {
    let first = run(&devices()[0]);
    for device in &devices()[1..] {
        let other = run(device);
        if let Some(i) = (0..first.len()).find(|&i| first[i] != other[i]) {
            panic!(
                "{case:?}: element {i} is {:?} on {}, {:?} on {}",
                first[i],
                devices()[0].describe(),
                other[i],
                device.describe()
            );
        }
    }
    first
}

/// The tolerance rule. An element may be off the f64 judge by twice the largest error of a naive
/// implementation with the same dtypes (f32 sums in index order, one rounding at the store), plus
/// one unit in the last place of the stored type.
pub fn check(case: impl Debug, got: &[f32], judge: &[f64], naive: &[f32], dtype: DType) {
    assert_eq!((got.len(), naive.len()), (judge.len(), judge.len()), "{case:?}");
    let error =
        |x: f32, exact: f64| if f64::from(x) == exact { 0.0 } else { (f64::from(x) - exact).abs() };
    let worst = naive.iter().zip(judge).map(|(&x, &y)| error(x, y)).fold(0.0, f64::max);
    assert!(worst.is_finite(), "{case:?}: the naive implementation overflows");
    for (i, (&x, &exact)) in got.iter().zip(judge).enumerate() {
        let allowed = 2.0 * worst + ulp(exact, dtype);
        assert!(
            error(x, exact) <= allowed,
            "{case:?}: element {i} is {x}, should be {exact} within {allowed:e}"
        );
    }
}

/// [`check`] of the bits that each device gave.
pub fn check_all(
    case: impl Debug + Copy,
    got: &[Vec<u32>],
    judge: &[f64],
    naive: &[f32],
    dtype: DType,
) {
    for (got, device) in got.iter().zip(["cpu", "cuda"]) {
        check((device, case), &floats(got), judge, naive, dtype);
    }
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
    pub tensor: Tensor<B>,
    guard: usize, // elements after it
}

const GUARD: usize = 96;

/// Uploads `data` with a guard after it.
pub fn input<T: Element, D: Device>(
    device: &D,
    data: &[T],
    shape: impl Into<Shape>,
) -> Guarded<D::Buffer> {
    let mut guarded = data.to_vec();
    // All ones: NaN as a float.
    guarded.extend(bytemuck::cast_slice::<u32, T>(&[u32::MAX; GUARD]).iter().take(GUARD));
    let mut tensor = device.upload(&guarded, [guarded.len()]).unwrap();
    tensor.reshape(shape);
    Guarded { tensor, guard: GUARD }
}

/// An output full of NaN, with a guard after it.
pub fn output<T: Element, D: Device>(device: &D, shape: impl Into<Shape>) -> Guarded<D::Buffer> {
    let shape = shape.into();
    let ones = bytemuck::cast_slice::<u32, T>(&[u32::MAX])[0];
    input(device, &vec![ones; shape.elements()], shape)
}

impl<B> Guarded<B> {
    /// The elements; panics if the guard was written to.
    pub fn read<T: Element>(&mut self, device: &impl Device<Buffer = B>) -> Vec<T> {
        let shape = *self.tensor.shape();
        self.tensor.reshape([shape.elements() + self.guard]);
        let mut data: Vec<T> = device.download(&self.tensor).unwrap();
        let guard = data.split_off(shape.elements());
        let bytes: &[u8] = bytemuck::cast_slice(&guard);
        assert!(bytes.iter().all(|&b| b == 0xFF), "a verb wrote past the end of its output");
        self.tensor.reshape(shape);
        data
    }

    /// [`Guarded::read`] of f32 or bf16, as f32.
    pub fn floats(&mut self, device: &impl Device<Buffer = B>) -> Vec<f32> {
        match self.tensor.dtype() {
            DType::BF16 => self.read::<bf16>(device).into_iter().map(f32::from).collect(),
            _ => self.read(device),
        }
    }
}

/// An output of a float dtype.
pub fn float_output<D: Device>(
    device: &D,
    dtype: DType,
    shape: impl Into<Shape>,
) -> Guarded<D::Buffer> {
    match dtype {
        DType::BF16 => output::<bf16, _>(device, shape),
        _ => output::<f32, _>(device, shape),
    }
}

/// What a store to `dtype` makes of `x`.
pub fn stored(x: f32, dtype: DType) -> f32 {
    if dtype == DType::BF16 { bf16::from_f32(x).to_f32() } else { x }
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
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// About normal: the sum of four uniforms, unit variance.
    pub fn normal(&mut self) -> f32 {
        let sum: f64 = (0..4).map(|_| (self.next() >> 11) as f64 / (1u64 << 53) as f64 - 0.5).sum();
        (sum * 3f64.sqrt()) as f32
    }

    pub fn floats(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| self.normal() * scale).collect()
    }

    pub fn halves(&mut self, n: usize, scale: f32) -> Vec<bf16> {
        (0..n).map(|_| bf16::from_f32(self.normal() * scale)).collect()
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
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
