//! Dtypes, shapes and tensors: contiguous, row-major, owned by one device.

use half::bf16;
use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Element type of a tensor, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// 32-bit float: the residual stream, normalisation parameters, logits; in [`Precision::F32`] all else.
    F32,
    /// bfloat16: in [`Precision::Bf16`] the weights and the activations between two verbs.
    BF16,
    /// Token ids and positions in the latent grid.
    U32,
    /// Pixels.
    U8,
    /// Weights of products in [`Precision::Int8`], with a scale per row.
    #[serde(rename = "int8")]
    I8,
}

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 4,
            DType::BF16 => 2,
            DType::U8 | DType::I8 => 1,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::BF16 => "bf16",
            DType::U32 => "u32",
            DType::U8 => "u8",
            DType::I8 => "int8",
        })
    }
}

/// What a model computes in: the weights of its products, and the activations between two verbs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32 throughout.
    F32,
    /// bf16 weights and activations, f32 sums.
    #[default]
    Bf16,
    /// As bf16, but the transformers' layers that every decode step runs multiply int8: their weights are stored
    /// so, and their inputs are quantised row by row ([`crate::device::Device::pack_int8`]).
    Int8,
}

impl Precision {
    /// Dtype of activations, tables and the weights of convolutions.
    pub fn activations(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::Bf16 | Precision::Int8 => DType::BF16,
        }
    }

    /// Dtype of the weights of the transformers' products in every decode step.
    pub fn products(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::BF16,
            Precision::Int8 => DType::I8,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
        })
    }
}

impl std::str::FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Precision::F32),
            "bf16" => Ok(Precision::Bf16),
            "int8" => Ok(Precision::Int8),
            _ => Err("expected bf16, f32 or int8".into()),
        }
    }
}

/// Floats in host memory, of the dtype that a model computes in.
#[derive(Clone, Debug, PartialEq)]
pub enum Floats<'a> {
    /// f32.
    F32(Cow<'a, [f32]>),
    /// bf16.
    BF16(Cow<'a, [bf16]>),
}

impl Floats<'_> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Floats::F32(values) => values.len(),
            Floats::BF16(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their dtype.
    pub fn dtype(&self) -> DType {
        match self {
            Floats::F32(_) => DType::F32,
            Floats::BF16(_) => DType::BF16,
        }
    }

    /// Their bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Floats::F32(values) => bytemuck::cast_slice(values),
            Floats::BF16(values) => bytemuck::cast_slice(values),
        }
    }
}

impl<'a> From<Cow<'a, [f32]>> for Floats<'a> {
    fn from(values: Cow<'a, [f32]>) -> Self {
        Floats::F32(values)
    }
}

impl<'a> From<Cow<'a, [bf16]>> for Floats<'a> {
    fn from(values: Cow<'a, [bf16]>) -> Self {
        Floats::BF16(values)
    }
}

impl From<Vec<f32>> for Floats<'_> {
    fn from(values: Vec<f32>) -> Self {
        Floats::F32(values.into())
    }
}

impl From<Vec<bf16>> for Floats<'_> {
    fn from(values: Vec<bf16>) -> Self {
        Floats::BF16(values.into())
    }
}

impl<'a> From<&'a Vec<bf16>> for Floats<'a> {
    fn from(values: &'a Vec<bf16>) -> Self {
        Floats::BF16(values.into())
    }
}

/// Host types that tensors hold.
pub trait Element: bytemuck::Pod {
    /// The matching dtype.
    const DTYPE: DType;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
}
impl Element for half::bf16 {
    const DTYPE: DType = DType::BF16;
}
impl Element for u32 {
    const DTYPE: DType = DType::U32;
}
impl Element for u8 {
    const DTYPE: DType = DType::U8;
}

/// Up to four dimensions, the last one contiguous.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; 4],
    rank: usize,
}

impl Shape {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.dims().iter().product()
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    /// The innermost dimension: channels, features or codebook entries.
    pub fn last(&self) -> usize {
        self.dims().last().copied().unwrap_or(1)
    }

    /// All dimensions but the innermost, multiplied: how many rows a verb over rows sees.
    pub fn rows(&self) -> usize {
        self.dims()[..self.rank.saturating_sub(1)].iter().product()
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        const { assert!(N <= 4, "a shape has at most four dimensions") };
        let mut all = [1; 4];
        all[..N].copy_from_slice(&dims);
        Shape { dims: all, rank: N }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A contiguous tensor in the memory `B` of one device.
///
/// The memory is laid out once; [`Tensor::reshape`] lets one buffer serve the shrinking shapes of a
/// decode loop, so a step allocates nothing and addresses repeat.
#[derive(Debug)]
pub struct Tensor<B> {
    pub(crate) buffer: B,
    dtype: DType,
    shape: Shape,
    capacity: usize, // elements the buffer holds
}

impl<B> Tensor<B> {
    pub(crate) fn new(buffer: B, dtype: DType, shape: Shape) -> Self {
        Tensor { buffer, dtype, shape, capacity: shape.elements() }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Current shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Size of dimension `i` of the current shape.
    pub fn dim(&self, i: usize) -> usize {
        self.shape.dims()[i]
    }

    /// Bytes of the current shape.
    pub fn bytes(&self) -> usize {
        self.shape.elements() * self.dtype.size()
    }

    /// Gives the tensor another shape over the start of its buffer; the contents are then whatever was there.
    ///
    /// # Panics
    /// If the shape holds more elements than were allocated: a model asked for too small a buffer.
    pub fn reshape(&mut self, shape: impl Into<Shape>) -> &mut Self {
        let shape = shape.into();
        assert!(
            shape.elements() <= self.capacity,
            "reshape to {shape} needs {} elements, {} are allocated",
            shape.elements(),
            self.capacity
        );
        self.shape = shape;
        self
    }
}

/// A weight matrix (or convolution) in the layout a device's kernels read, with its optional bias.
#[derive(Debug)]
pub struct Matrix<M> {
    pub(crate) packed: M,
    /// Output features (output channels).
    pub rows: usize,
    /// Input features (input channels of one tap).
    pub cols: usize,
    /// Filter taps: 1 for a linear layer, `k*k` for a `k`×`k` convolution, those of all phases for one that doubles.
    pub taps: usize,
    /// Stored element type.
    pub dtype: DType,
    /// Whether a bias is added before the activation.
    pub has_bias: bool,
}

impl<M> Matrix<M> {
    /// Bytes of the stored weights, without padding.
    pub fn bytes(&self) -> usize {
        self.rows * self.cols * self.taps * self.dtype.size()
    }
}
