//! Weight matrices on their way to a device: as they lie in host memory, or packed once and kept in a file.

use std::fmt;
use std::ops::{Deref, Range};
use std::path::PathBuf;
use std::sync::Arc;

use super::{PHASE_TAPS, PHASES};
use crate::error::{Error, Result};
use crate::tensor::{DType, Floats};

/// Weights of a linear layer or a convolution as they lie in host memory, before packing.
pub struct HostMatrix<'a> {
    /// `[rows, taps, cols]`, row-major: a linear layer's `[out, in]`, or a convolution's
    /// `[out, ky*kx, in]`.
    pub weight: Floats<'a>,
    /// `[rows]` f32.
    pub bias: Option<Vec<f32>>,
    /// Output features.
    pub rows: usize,
    /// Input features of one tap.
    pub cols: usize,
    /// Filter taps.
    pub taps: usize,
}

impl HostMatrix<'_> {
    /// The bf16 matrix that does with inputs [in two parts](super::Device::split) what this one does with whole ones:
    /// each tap's columns twice.
    pub fn of_parts(self) -> Self {
        let Floats::BF16(weight) = &self.weight else {
            return self; // f32 inputs are whole
        };
        let taps = weight.chunks_exact(self.cols);
        let weight = taps.flat_map(|tap| tap.repeat(2)).collect::<Vec<_>>().into();
        HostMatrix { weight, cols: 2 * self.cols, ..self }
    }
}

/// Bytes of a file in memory, from a multiple of 64 on, with 64 more readable behind them.
#[derive(Clone)]
pub struct Shared {
    file: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl Shared {
    /// Alignment, and what is readable behind the last byte.
    pub const LINE: usize = 64;

    /// That range of a file, where it lies so.
    pub fn new(file: Arc<dyn AsRef<[u8]> + Send + Sync>, range: Range<usize>) -> Option<Shared> {
        let bytes: &[u8] = (*file).as_ref();
        let behind = range.end.checked_add(Self::LINE)? <= bytes.len();
        let aligned = bytes.get(range.clone())?.as_ptr().addr().is_multiple_of(Self::LINE);
        (behind && aligned).then_some(Shared { file, range })
    }
}

impl Deref for Shared {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &(*self.file).as_ref()[self.range.clone()]
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} shared bytes", self.len())
    }
}

/// What a packed matrix consists of, in the words of the device that packed it.
pub struct PackedParts<B> {
    /// The weights.
    pub panels: B,
    /// What is added to the outputs.
    pub bias: Option<B>,
    /// Of products of int8: the scales of the outputs, and what a device computed beside them.
    pub int8: Option<[B; 2]>,
}

/// Sizes of a matrix, and what its terms are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixSizes {
    /// Output features.
    pub rows: usize,
    /// Input features of one tap.
    pub cols: usize,
    /// Filter taps.
    pub taps: usize,
    /// f32, bf16 or int8.
    pub dtype: DType,
}

/// Where packed matrices are kept.
pub trait Keeper: Send + Sync {
    /// Keeps a matrix under a name.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written.
    fn keep(&self, name: &str, parts: &PackedParts<&[u8]>) -> Result<()>;
}

/// A weight matrix of a checkpoint, not yet on the device.
pub enum MatrixSource<'a> {
    /// To be packed; and to be kept so under that name, where somebody wants it.
    Host(HostMatrix<'a>, Option<(String, Arc<dyn Keeper>)>),
    /// Packed already.
    Kept(KeptMatrix),
}

/// A matrix that was packed once, and is read where it lies.
pub struct KeptMatrix {
    /// The file it is in.
    pub path: PathBuf,
    /// Its name there.
    pub name: String,
    /// What it is.
    pub parts: PackedParts<Shared>,
    /// What the model expects it to be.
    pub sizes: MatrixSizes,
}

impl KeptMatrix {
    /// The error of parts that do not have these sizes.
    pub(crate) fn unfit(&self, sizes: MatrixSizes) -> Error {
        let MatrixSizes { rows, cols, taps, dtype } = sizes;
        let bytes = |parts: &Option<Shared>| parts.as_ref().map_or(0, |part| part.len());
        let PackedParts { panels, bias, int8 } = &self.parts;
        let scales = if int8.is_some() { "with" } else { "without" };
        Error::Tensor {
            path: self.path.clone(),
            tensor: self.name.clone(),
            expected: format!("a packed {dtype} matrix of [{rows}, {taps}, {cols}]"),
            found: format!(
                "{} bytes, a bias of {}, {scales} scales; convert the model again",
                panels.len(),
                bytes(bias)
            ),
        }
    }
}

impl<'a> From<HostMatrix<'a>> for MatrixSource<'a> {
    fn from(matrix: HostMatrix<'a>) -> Self {
        MatrixSource::Host(matrix, None)
    }
}

impl<'a> MatrixSource<'a> {
    /// [`HostMatrix::phases`].
    pub fn phases(self) -> Self {
        let taps = PHASES * PHASE_TAPS;
        self.map(|matrix| matrix.phases(), |sizes| MatrixSizes { taps, ..sizes })
    }

    /// [`HostMatrix::of_parts`].
    pub fn of_parts(self) -> Self {
        self.map(
            |matrix| matrix.of_parts(),
            |sizes| match sizes.dtype {
                DType::F32 => sizes,
                _ => MatrixSizes { cols: 2 * sizes.cols, ..sizes },
            },
        )
    }

    /// A convolution whose stride is its size as the linear layer of whole patches.
    pub fn of_patches(self) -> Self {
        self.map(
            |matrix| HostMatrix { cols: matrix.taps * matrix.cols, taps: 1, ..matrix },
            |sizes| MatrixSizes { cols: sizes.taps * sizes.cols, taps: 1, ..sizes },
        )
    }

    fn map(
        self,
        host: impl FnOnce(HostMatrix<'a>) -> HostMatrix<'a>,
        kept: impl FnOnce(MatrixSizes) -> MatrixSizes,
    ) -> Self {
        match self {
            MatrixSource::Host(matrix, keeper) => MatrixSource::Host(host(matrix), keeper),
            MatrixSource::Kept(matrix) => {
                MatrixSource::Kept(KeptMatrix { sizes: kept(matrix.sizes), ..matrix })
            }
        }
    }
}
