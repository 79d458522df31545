//! The seam: one trait of fused verbs over contiguous tensors, implemented by every backend.
//!
//! A model is one file that calls the checked verbs of [`crate::ops`]; it compiles for every
//! backend. Layouts, storage dtypes and rounding points are part of each verb's contract and equal
//! on all backends: bf16 storage, f32 accumulation, one rounding at the store, an **f32 residual
//! stream**; or f32 throughout. Only the order of a sum may differ.
//!
//! Where a verb's line says *float*, it is one dtype for all operands that it says so of, that of the
//! weights: bf16, or f32 on devices that have it ([`Device::supports`]). Weights of int8
//! ([`Device::pack_int8`]) take bf16 inputs.
//!
//! A fusion enters the trait as a provided method whose body composes existing verbs; a backend
//! overrides it, and the default stays the override's reference.

mod attention;
mod matrix;
mod norm;
mod phases;

use crate::error::{Error, Result};
pub use crate::tensor::Element;
use crate::tensor::{DType, Floats, Matrix, Shape, Tensor};
pub use attention::{Attention, Heads};
pub use matrix::{HostMatrix, Keeper, KeptMatrix, MatrixSizes, MatrixSource, PackedParts, Shared};
pub use norm::{Depthwise, Modulation, Norm, NormKind, Normalize};
pub use phases::{PHASE_TAPS, PHASES};

/// What follows the accumulation and bias of a linear layer, before the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// Exact GELU, `x·Φ(x)` with the error function.
    Gelu,
    /// `x·σ(x)`.
    Silu,
    /// `x·σ(1.702·x)`.
    QuickGelu,
    /// `a·gelu(g)`: half the features are values a, half gates g. The weight's rows, and its bias,
    /// are [`GATE`] values, the [`GATE`] gates of the same outputs, and so on; those beyond the last
    /// output count for nothing.
    Geglu,
}

impl Activation {
    /// Rows of a weight matrix for `outputs` output features.
    pub fn rows(self, outputs: usize) -> usize {
        match self {
            Activation::Geglu => 2 * outputs.next_multiple_of(GATE),
            _ => outputs,
        }
    }
}

/// Values, and then gates, that stand together in the rows of a [`Activation::Geglu`] layer.
pub const GATE: usize = 16;

/// Added to the mean norm in [`Device::global_response_norm`].
pub const RESPONSE_EPSILON: f32 = 1e-6;

/// Geometry of a convolution over NHWC images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conv {
    /// 1×1.
    Point,
    /// 3×3, zero padding 1: same size.
    Same,
    /// 3×3, stride 2, zero padding 1 at the right and bottom only: half size.
    Down,
    /// Nearest-neighbour ×2, then 3×3 with zero padding 1: double size. Only 2×2 different pixels lie below a filter,
    /// which ones depends on whether row and column are even: the weights are [phases](HostMatrix::phases).
    Up,
}

impl Conv {
    /// Taps of the weights.
    pub fn taps(self) -> usize {
        match self {
            Conv::Point => 1,
            Conv::Same | Conv::Down => 9,
            Conv::Up => PHASES * PHASE_TAPS,
        }
    }

    /// Taps that one output pixel takes.
    pub fn taps_of_pixel(self) -> usize {
        if self == Conv::Up { PHASE_TAPS } else { self.taps() }
    }

    /// Output height or width for an input height or width.
    pub fn output(self, size: usize) -> usize {
        match self {
            Conv::Point | Conv::Same => size,
            Conv::Down => size / 2,
            Conv::Up => size * 2,
        }
    }
}

/// Parameters of [`Device::guide_and_sample`].
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// Guidance scale `s`: logits are `u + s·(c − u)`. Exactly 1 means the batch has no
    /// unconditional rows.
    pub guidance: f32,
    /// Temperature of the token distribution; 0 takes the most likely token.
    pub temperature: f32,
    /// Only the `top_k` largest logits can be drawn; 0 means all.
    pub top_k: usize,
    /// Noise key of this step: of the first image, those of the others have the seeds that follow.
    pub noise: crate::rng::NoiseKey,
}

/// Parameters of [`Device::remask`].
#[derive(Clone, Copy, Debug)]
pub struct Remask {
    /// Positions of each image that stay masked.
    pub keep_masked: usize,
    /// Multiplies the Gumbel noise added to each confidence.
    pub temperature: f32,
    /// Token id that stands for "masked".
    pub mask_token: u32,
    /// Noise key of this step: of the first image, those of the others have the seeds that follow.
    pub noise: crate::rng::NoiseKey,
}

/// The tensors a decode loop works on: of one image, or of several with as many masked tokens each. Positions
/// count through the latent grids of all images, ascending; noise is that of a position within its own grid.
#[derive(Debug)]
pub struct Masked<B> {
    /// Images, equal parts of every tensor.
    pub images: usize,
    /// `[images*grid]` u32: token ids, the mask token where masked.
    pub tokens: Tensor<B>,
    /// `[n]` u32: the masked positions before this step.
    pub positions: Tensor<B>,
    /// `[n']` u32: the masked positions after it.
    pub remaining: Tensor<B>,
    /// `[n]` u32: the token drawn for each masked position.
    pub sampled: Tensor<B>,
    /// `[n]` f32: its log-probability.
    pub confidence: Tensor<B>,
}

/// A backend: memory and the fused verbs a model is written in.
///
/// Callers go through [`crate::ops`], which checks every contract stated here; a backend holds no
/// checks and no model names. `out` is always fully overwritten.
pub trait Device: Send + Sync {
    /// Device memory.
    type Buffer: Send + Sync;
    /// A weight matrix in the layout this device's kernels read.
    type Packed: Send + Sync;
    /// A moment in the order of what is queued.
    type Mark;

    /// What this device is, in words, for reports.
    fn describe(&self) -> String;

    /// Whether the verbs take *floats* of this dtype.
    fn supports(dtype: DType) -> bool;

    /// Bytes that can still be allocated, about.
    fn free_memory(&self) -> usize;

    /// Zeroed memory of `bytes` bytes, aligned to 64.
    fn alloc(&self, bytes: usize) -> Result<Self::Buffer>;

    /// Copies host bytes to the start of `dst`.
    fn write(&self, dst: &mut Self::Buffer, bytes: &[u8]) -> Result<()>;

    /// Copies the start of `src` to host bytes, after everything queued before it has finished.
    fn read(&self, src: &Self::Buffer, bytes: &mut [u8]) -> Result<()>;

    /// Runs `work`, verbs that neither allocate nor copy to or from the host. A device may queue them as
    /// one unit, once `work` has returned.
    fn together<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T>
    where
        Self: Sized,
    {
        work()
    }

    /// Waits until everything queued has finished.
    fn finish(&self) -> Result<()> {
        Ok(())
    }

    /// The moment when all that was queued before has finished.
    fn mark(&self) -> Result<Self::Mark>;

    /// The time between two moments, once the later one has come.
    fn elapsed(&self, from: &Self::Mark, to: &Self::Mark) -> Result<std::time::Duration>;

    /// Lays a weight matrix out for [`Device::linear`] and [`Device::conv2d`].
    fn pack(&self, weight: HostMatrix<'_>) -> Result<Self::Packed>;

    /// Rounds a weight matrix (one tap) to int8 and lays it out for products of int8: `linear`, `linear_add` and
    /// what is composed of them, of bf16 inputs. Rows of both operands are *quantised*: of the largest magnitude a
    /// in a row, the scale is `a/127`, and an element x becomes the integer nearest to `x·(127/a)`, ties to even,
    /// both quotients rounded to f32. Where `a < 2⁻¹¹⁹` all are zero; a row of x that is not finite gives NaN. Sums
    /// of integers are exact and rounded to f32; then `·` the scale of x's row, `·` that of the weight's, and the
    /// rest is the verb's, all in f32. So all devices give the same bits before the activation.
    ///
    /// # Errors
    /// [`Error::Device`] on a device without [`DType::I8`] ([`Device::supports`]).
    fn pack_int8(&self, _: HostMatrix<'_>) -> Result<Self::Packed> {
        let problem = "no products of int8 on this device; compute in bf16".into();
        Err(Error::Device { device: self.describe(), problem })
    }

    /// What a packed matrix consists of, to be kept in a file, on a device whose matrices can be kept.
    ///
    /// # Errors
    /// [`Error::Device`] on others.
    fn parts<'a>(&self, _: &'a Self::Packed) -> Result<PackedParts<&'a [u8]>> {
        let problem =
            "weights packed for this device cannot be kept; convert on the processor".into();
        Err(Error::Device { device: self.describe(), problem })
    }

    /// The matrix of these parts, which stay where they lie; `None` where they are not of these sizes.
    ///
    /// # Errors
    /// [`Error::Device`] on a device whose matrices cannot be kept.
    fn adopt(&self, _: MatrixSizes, _: PackedParts<Shared>) -> Result<Option<Self::Packed>> {
        let problem =
            "weights packed for the processor; load the model that they were converted from".into();
        Err(Error::Device { device: self.describe(), problem })
    }

    /// `out[r] = table[ids[r mod n]] + add[r mod n]`, rows repeated for every sequence of a batch.
    /// out f32|bf16 `[b*n, d]`, ids u32 `[n]` (each `< v`), table f32|bf16 `[v, d]`, add f32 `[n, d]`.
    fn embed(
        &self,
        out: &mut Tensor<Self::Buffer>,
        ids: &Tensor<Self::Buffer>,
        table: &Tensor<Self::Buffer>,
        add: Option<&Tensor<Self::Buffer>>,
    ) -> Result<()>;

    /// The same rows of every grid of a batch: `out[i*n + j] = x[i*grid + positions[j]]`. out f32
    /// `[b*n, d]`, x f32 `[b*grid, d]`, positions u32 `[n]` (each `< grid`).
    fn select_rows(
        &self,
        out: &mut Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        positions: &Tensor<Self::Buffer>,
    ) -> Result<()>;

    /// LayerNorm or RMSNorm over the last dimension, and its modulation; f32 throughout, one rounding.
    /// out bf16|f32 `[r, d]`, x f32 `[r, d]`.
    fn layer_norm(
        &self,
        out: &mut Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        norm: Normalize<'_, Self::Buffer>,
    ) -> Result<()>;

    /// `x = x·(1 + s) + t`. x f32 `[r, d]`.
    fn modulate(
        &self,
        x: &mut Tensor<Self::Buffer>,
        by: Modulation<'_, Self::Buffer>,
    ) -> Result<()>;

    /// `out = activation(x)`, one that takes features one by one. Both bf16|f32, of one shape.
    fn activate(
        &self,
        out: &mut Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        activation: Activation,
    ) -> Result<()>;

    /// `out = activation(x·wᵀ + bias)`. out bf16|f32 `[m, n]`, x float `[m, k]`, w float `[n, k]`, where n is
    /// [`Activation::rows`] of out's.
    fn linear(
        &self,
        out: &mut Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        weight: &Matrix<Self::Packed>,
        activation: Activation,
    ) -> Result<()>;

    /// `residual += x·wᵀ + bias`. residual f32 `[m, n]`, x float `[m, k]`, w float `[n, k]`.
    fn linear_add(
        &self,
        residual: &mut Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        weight: &Matrix<Self::Packed>,
    ) -> Result<()>;

    /// `residual += x·wᵀ + bias`, then `out = layer_norm(residual)`: how a block of a transformer ends and the
    /// next one begins. out bf16|f32 `[m, n]`, the rest as of the two verbs.
    fn linear_add_norm(
        &self,
        residual: &mut Tensor<Self::Buffer>,
        out: &mut Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        weight: &Matrix<Self::Packed>,
        norm: Normalize<'_, Self::Buffer>,
    ) -> Result<()> {
        self.linear_add(residual, x, weight)?;
        self.layer_norm(out, residual, norm)
    }

    /// `out = softmax(q·kᵀ/√head_dim)·v` per sequence and head. Scores, sums and output are f32;
    /// probabilities too, or with bf16 operands bf16 for the product with v, and then their sum is of what
    /// they became. out float `[b*queries, …]`, of which only the heads' columns are written; q float
    /// `[b*queries, …]`, k and v float `[b*keys, …]`.
    fn attention(
        &self,
        out: &mut Tensor<Self::Buffer>,
        q: Heads<'_, Self::Buffer>,
        k: Heads<'_, Self::Buffer>,
        v: Heads<'_, Self::Buffer>,
        sizes: Attention,
    ) -> Result<()>;

    /// `q = x·wᵀ + bias`, then `out = attention(q, k, v)`: attention that projects its own queries. q is stored
    /// as by the two verbs, or at least rounded so; `queries` float `[b*queries, heads*head_dim]` is room for it,
    /// of which nothing can be said afterwards. x float `[b*queries, c]`, w float `[heads*head_dim, c]`, the rest
    /// as of attention.
    fn project_and_attend(
        &self,
        out: &mut Tensor<Self::Buffer>,
        queries: &mut Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        weight: &Matrix<Self::Packed>,
        [k, v]: [Heads<'_, Self::Buffer>; 2],
        sizes: Attention,
    ) -> Result<()> {
        self.linear(queries, x, weight, Activation::None)?;
        self.attention(out, Heads { tensor: queries, offset: 0 }, k, v, sizes)
    }

    /// 3×3 with zero padding 1, each channel by itself: `out = filter(x) + bias`. Both bf16|f32 NHWC, of
    /// one shape; sums f32.
    fn depthwise(
        &self,
        out: &mut Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        filter: &Depthwise<Self::Buffer>,
    ) -> Result<()>;

    /// Global response norm (ConvNeXt V2, arXiv 2301.00808, §3.3). Per image and channel, g is the
    /// root of the sum of squares over all pixels; `n = g/(mean of g over the channels + ε)`, and
    /// `out = gain·x·n + shift + x`. out and x bf16|f32 `[images, pixels, d]`, gain and shift f32 `[d]`;
    /// f32 throughout, one rounding.
    fn global_response_norm(
        &self,
        out: &mut Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        gain: &Tensor<Self::Buffer>,
        shift: &Tensor<Self::Buffer>,
    ) -> Result<()>;

    /// `out = conv(x) + bias (+ residual)`. NHWC: out bf16|f32, x of the weights' dtype, residual f32.
    fn conv2d(
        &self,
        out: &mut Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        weight: &Matrix<Self::Packed>,
        geometry: Conv,
        residual: Option<&Tensor<Self::Buffer>>,
    ) -> Result<()>;

    /// `out = silu(group_norm(x))`, NHWC `[b, h, w, c]`; statistics over a group's channels and all pixels of
    /// one image; f32 throughout, one rounding. out bf16|f32, or bf16 in two parts `[b, h, w, 2c]` as of
    /// [`Device::split`]; x f32.
    fn group_norm_silu(
        &self,
        out: &mut Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        norm: &Norm<Self::Buffer>,
        groups: usize,
    ) -> Result<()>;

    /// Guidance, softmax, Gumbel-max draw and log-probability in one pass over each codebook row.
    ///
    /// logits f32 `[2n, v]` (conditional rows, then unconditional ones; `[n, v]` at guidance 1).
    /// Row `j` belongs to position `masked.positions[j]`; writes `masked.sampled[j]` and
    /// `masked.confidence[j]`, the log-probability under the distribution drawn from.
    fn guide_and_sample(
        &self,
        masked: &mut Masked<Self::Buffer>,
        logits: &Tensor<Self::Buffer>,
        sampling: Sampling,
    ) -> Result<()>;

    /// Top-k confidence remasking (MaskGIT), image by image: keeps the most confident draws, remasks the
    /// `keep_masked` least confident ones, ties remasked lower position first.
    ///
    /// Adds `temperature`·Gumbel noise to the confidences (in place, so that callers can read what
    /// was compared), writes `masked.tokens` at every position of `masked.positions`, and
    /// `masked.remaining`, ascending.
    fn remask(&self, masked: &mut Masked<Self::Buffer>, remask: Remask) -> Result<()>;

    /// `ids[r] = argmin_j |z[r] − codebook[j]|²`, first index on ties.
    /// ids u32 `[n]`, z f32 `[n, c]`, codebook f32 `[v, c]`.
    fn nearest_code(
        &self,
        ids: &mut Tensor<Self::Buffer>,
        z: &Tensor<Self::Buffer>,
        codebook: &Tensor<Self::Buffer>,
    ) -> Result<()>;

    /// `out[r] = (x[r], x[r] − bf16(x[r]))`, each rounded to bf16: x *in two parts*, 16 bits of it, for products of
    /// bf16 ([`HostMatrix::of_parts`]). Where x rounds to infinity the second part is that of the other sign.
    /// out bf16 `[…, 2c]`, x f32 `[…, c]`.
    fn split(&self, out: &mut Tensor<Self::Buffer>, x: &Tensor<Self::Buffer>) -> Result<()>;

    /// Pixels to network input: `out = x/255`, channel 3 zero. out float `[1, h, w, 4]`, x u8 `[h, w, 3]`.
    fn load_rgb8(&self, out: &mut Tensor<Self::Buffer>, x: &Tensor<Self::Buffer>) -> Result<()>;

    /// Network output to pixels: round-half-even of `255·clamp(x, 0, 1)`. out u8 `[h, w, 3]`, x f32 `[1, h, w, 3]`.
    fn to_rgb8(&self, out: &mut Tensor<Self::Buffer>, x: &Tensor<Self::Buffer>) -> Result<()>;

    /// `out[out_row + i] = x[x_row + i]` for `i < rows`; same dtype and width.
    fn copy_rows(
        &self,
        out: &mut Tensor<Self::Buffer>,
        out_row: usize,
        x: &Tensor<Self::Buffer>,
        x_row: usize,
        rows: usize,
    ) -> Result<()> {
        let width = x.shape().last() * x.dtype().size();
        let mut from = vec![0; x.bytes()];
        let mut to = vec![0; out.bytes()];
        self.read(&x.buffer, &mut from)?;
        self.read(&out.buffer, &mut to)?;
        to[out_row * width..][..rows * width]
            .copy_from_slice(&from[x_row * width..][..rows * width]);
        self.write(&mut out.buffer, &to)
    }

    /// A zeroed tensor.
    fn zeros(&self, dtype: DType, shape: impl Into<Shape>) -> Result<Tensor<Self::Buffer>>
    where
        Self: Sized,
    {
        let shape = shape.into();
        Ok(Tensor::new(self.alloc(shape.elements() * dtype.size())?, dtype, shape))
    }

    /// A tensor holding `data`.
    fn upload<T: Element>(
        &self,
        data: &[T],
        shape: impl Into<Shape>,
    ) -> Result<Tensor<Self::Buffer>>
    where
        Self: Sized,
    {
        let mut tensor = self.zeros(T::DTYPE, shape)?;
        assert_eq!(tensor.shape().elements(), data.len(), "upload of {}", tensor.shape());
        self.write(&mut tensor.buffer, bytemuck::cast_slice(data))?;
        Ok(tensor)
    }

    /// A tensor holding floats of either dtype.
    fn upload_floats(
        &self,
        data: &Floats<'_>,
        shape: impl Into<Shape>,
    ) -> Result<Tensor<Self::Buffer>>
    where
        Self: Sized,
    {
        match data {
            Floats::F32(data) => self.upload(data, shape),
            Floats::BF16(data) => self.upload(data, shape),
        }
    }

    /// The tensor's elements in host memory.
    fn download<T: Element>(&self, tensor: &Tensor<Self::Buffer>) -> Result<Vec<T>>
    where
        Self: Sized,
    {
        assert_eq!(tensor.dtype(), T::DTYPE, "download of a {} tensor", tensor.dtype());
        let mut data = vec![T::zeroed(); tensor.shape().elements()];
        self.read(&tensor.buffer, bytemuck::cast_slice_mut(&mut data))?;
        Ok(data)
    }
}
