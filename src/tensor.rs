//! Dtypes, shapes and tensors: contiguous, row-major, owned by one device.

use std::fmt;

/// Element type of a tensor, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float: the residual stream, normalisation parameters, logits.
    F32,
    /// bfloat16: weights and the activations between two verbs.
    BF16,
    /// Token ids and positions in the latent grid.
    U32,
    /// Pixels.
    U8,
}

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 4,
            DType::BF16 => 2,
            DType::U8 => 1,
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
        })
    }
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
    /// Filter taps: 1 for a linear layer, `k*k` for a `k`×`k` convolution.
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
