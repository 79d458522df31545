//! Weights: memory-mapped safetensors files, their tensors asked for by name and shape where they
//! are used.
//!
//! A missing tensor, a wrong shape or dtype, a NaN or infinity, and ([`Weights::finish`]) a tensor
//! that nobody asked for are errors that name the file and the tensor. Weights come in the dtype that the
//! model computes in: where they are stored so, they are used where they lie in the map; bf16, f32, f16,
//! and int8 whose companion `NAME_scale`, f32 `[rows]`, holds one factor per row (the product rounded to
//! bf16), are converted else.

mod convert;
mod kept;
mod noise;
mod regroup;
mod rows;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use convert::{Encoding, Float, Stored};
use half::bf16;
pub use kept::Reading;
use kept::Writer;
pub use rows::Rows;
use safetensors::{Dtype, SafeTensors};

use crate::device::{Device, HostMatrix, MatrixSource};
use crate::error::{Error, Result};
use crate::tensor::{DType, Floats, Precision, Tensor};

/// Longest header that is read: some 80,000 tensors, and little enough memory to parse.
const MAX_HEADER: u64 = 8 << 20;
const LENGTH: usize = size_of::<u64>(); // the header's length precedes it

/// One safetensors file, or the shards of one.
pub struct Weights {
    path: PathBuf,
    tensors: BTreeMap<String, Entry>,
    precision: Precision,
    last: Option<(Arc<File>, Range<usize>)>, // what was asked for last
    noise: bool,                             // there is no file
    packed: Option<Precision>,               // matrices are kept packed, for it
    writer: Option<Arc<Writer>>,             // keeps what is read
}

enum Bytes {
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

struct File {
    path: PathBuf,
    bytes: Bytes,
}

impl File {
    /// Gives back the memory that holds a part of the map: by now it was read, and most of it is never read again.
    fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = &self.bytes {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: the map is of a file and only read: whoever reads a page again finds what is in the file.
            let _ = unsafe { map.unchecked_advise_range(advice, range.start, range.len()) };
        }
    }
}

struct Entry {
    file: Arc<File>,
    dtype: Dtype,
    shape: Vec<usize>,
    range: Range<usize>, // of the file
    used: bool,
}

impl Entry {
    fn describe(&self) -> String {
        format!("{} of shape {:?}", name_of(self.dtype), self.shape)
    }
}

fn name_of(dtype: Dtype) -> String {
    dtype.to_string().to_lowercase()
}

/// A tensor of a checkpoint, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// safetensors' name of the dtype, in lower case.
    pub dtype: String,
    /// Dimensions, outermost first.
    pub shape: &'a [usize],
    /// Bytes in the file.
    pub bytes: usize,
}

impl Weights {
    /// Maps a file. Its header is checked here, a tensor's values when it is asked for.
    ///
    /// The file must not be changed or shortened while it is in use.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let metadata = std::fs::metadata(path).map_err(Error::io(path, "opening the weights"))?;
        if !metadata.is_file() {
            let kind = if metadata.is_dir() { "a directory" } else { "not a regular file" };
            return Err(Error::model(path, format!("{kind}; expected a safetensors file")));
        }
        if metadata.len() < LENGTH as u64 {
            return Err(malformed(path, format!("{} bytes long", metadata.len())));
        }
        let file = std::fs::File::open(path).map_err(Error::io(path, "opening the weights"))?;
        // SAFETY: the map is only read. Another process that changes the file meanwhile changes
        // weights, which are plain numbers; one that shortens it kills this process (documented).
        let map =
            unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io(path, "mapping the weights"))?;
        Self::new(path, Bytes::Mapped(map))
    }

    /// Maps the shards of a checkpoint, files of one folder, as if they were one. No two may hold
    /// tensors of the same name.
    pub fn open_shards(paths: &[impl AsRef<Path>]) -> Result<Self> {
        let (first, rest) = paths.split_first().expect("a checkpoint of at least one file");
        let mut weights = Self::open(first)?;
        for path in rest {
            for (name, entry) in Self::open(path)?.tensors {
                if let Some(other) = weights.tensors.get(&name) {
                    let found = format!("one in {} too", other.file.path.display());
                    return Err(tensor_error(&entry.file.path, &name, "one of that name", found));
                }
                weights.tensors.insert(name, entry);
            }
        }
        if let (false, Some(folder)) = (rest.is_empty(), first.as_ref().parent()) {
            weights.path = folder.into();
        }
        Ok(weights)
    }

    /// Reads a checkpoint that is already in memory; `name` stands for its path in errors.
    pub fn from_bytes(name: impl AsRef<Path>, bytes: Vec<u8>) -> Result<Self> {
        Self::new(name.as_ref(), Bytes::Owned(bytes))
    }

    fn new(path: &Path, bytes: Bytes) -> Result<Self> {
        let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else {
            return Err(malformed(path, format!("{} bytes long", bytes.len())));
        };
        let header = u64::from_le_bytes(*length);
        if header > MAX_HEADER.min(rest.len() as u64) {
            let found = format!("a header of {header} bytes in a file of {}", bytes.len());
            return Err(malformed(path, found));
        }
        let (header, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|e| malformed(path, e.to_string()))?;
        let data = LENGTH + header;
        let file = Arc::new(File { path: path.into(), bytes });
        let tensors = metadata.tensors().into_iter().map(|(name, info)| {
            let (start, end) = info.data_offsets; // validated: in order, without gaps, to the end
            let shape = info.shape.clone();
            let range = data + start..data + end;
            (name, Entry { file: file.clone(), dtype: info.dtype, shape, range, used: false })
        });
        let mut tensors: BTreeMap<_, _> = tensors.collect();
        let packed = kept::packed_for(path, metadata.metadata().as_ref())?;
        if packed.is_some() {
            tensors.remove(kept::END);
        }
        Ok(Weights {
            path: path.into(),
            tensors,
            precision: Precision::default(),
            last: None,
            noise: false,
            packed,
            writer: None,
        })
    }

    /// The same weights, to be read for a model that computes in `precision`.
    pub fn in_precision(self, precision: Precision) -> Self {
        Weights { precision, ..self }
    }

    /// Dtype of the activations of the model, of its tables and convolutions.
    pub fn activations(&self) -> DType {
        self.precision.activations()
    }

    /// Dtype of the transformers' products in every decode step.
    pub fn products(&self) -> DType {
        self.precision.products()
    }

    /// The file, or the folder of the shards.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every tensor, by name.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorInfo<'_>> {
        self.tensors.iter().map(|(name, entry)| TensorInfo {
            name,
            dtype: name_of(entry.dtype),
            shape: &entry.shape,
            bytes: entry.range.len(),
        })
    }

    /// The tensor `name` in the dtype of the activations: the map itself where it is stored so.
    pub fn values(&mut self, name: &str, shape: &[usize]) -> Result<Floats<'_>> {
        let writer = self.writer.clone();
        let values: Floats = match self.activations() {
            DType::F32 => self.decoded::<f32>(name, shape)?.into(),
            _ => self.decoded::<bf16>(name, shape)?.into(),
        };
        if let Some(writer) = writer {
            writer.tensor(name, shape, &values);
        }
        Ok(values)
    }

    /// The tensor `name` in f32.
    pub fn floats(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let writer = self.writer.clone();
        let values = self.decoded::<f32>(name, shape)?;
        if let Some(writer) = writer {
            writer.tensor(name, shape, &Cow::Borrowed(&*values).into());
        }
        Ok(values.into_owned())
    }

    fn decoded<T: Float>(&mut self, name: &str, shape: &[usize]) -> Result<Cow<'_, [T]>> {
        if self.noise {
            return Ok(Cow::Owned(self.drawn(name, shape)));
        }
        self.claim(name);
        let stored = self.stored(name, shape)?;
        let values = match stored.borrowed() {
            Some(values) => Cow::Borrowed(values),
            None => {
                let mut values = Vec::with_capacity(shape.iter().product());
                stored.append(&mut values);
                Cow::Owned(values)
            }
        };
        match T::first_non_finite(&values) {
            Some(at) => Err(self.not_finite(name, shape, at)),
            None => Ok(values),
        }
    }

    /// The tensor `name` as a table on `device`, in the dtype of the activations: an embedding.
    pub fn table<D: Device>(
        &mut self,
        device: &D,
        name: &str,
        shape: [usize; 2],
    ) -> Result<Tensor<D::Buffer>> {
        device.upload_floats(&self.values(name, &shape)?, shape)
    }

    /// Linear layers `NAME.weight [rows, cols]` of equal size, stacked along their rows (a fused
    /// q, k, v), with every `NAME.bias [rows]` when `bias`.
    pub fn matrices(
        &mut self,
        names: &[&str],
        [rows, cols]: [usize; 2],
        bias: bool,
    ) -> Result<MatrixSource<'_>> {
        let (key, all) = (names.join("+"), rows * names.len());
        self.matrix(&key, [all, 1, cols], bias, |w| {
            let biases = names.iter().filter(|_| bias);
            let biases = biases.map(|name| w.bias(name, rows)).collect::<Result<Vec<_>>>()?;
            let weight = match w.activations() {
                DType::F32 => w.stacked::<f32>(names, [rows, cols])?.into(),
                _ => w.stacked::<bf16>(names, [rows, cols])?.into(),
            };
            let bias = bias.then(|| biases.concat());
            Ok(HostMatrix { weight, bias, rows: all, cols, taps: 1 })
        })
    }

    /// `NAME.weight` of all names, their rows one after another.
    fn stacked<T: Float>(&mut self, names: &[&str], shape: [usize; 2]) -> Result<Cow<'_, [T]>> {
        if let [name] = names {
            return self.decoded(&format!("{name}.weight"), &shape);
        }
        let mut stacked = Vec::new();
        for name in names {
            stacked.extend_from_slice(&self.decoded::<T>(&format!("{name}.weight"), &shape)?);
        }
        Ok(stacked.into())
    }

    /// A convolution `NAME.weight [out, in, k, k]` in PyTorch's order, as `[out, k*k, in]`, with
    /// `NAME.bias [out]` when `bias`; `pad_in` ≥ `in` input channels, the further ones zero.
    pub fn conv(
        &mut self,
        name: &str,
        shape: [usize; 4],
        pad_in: usize,
        bias: bool,
    ) -> Result<MatrixSource<'_>> {
        let [rows, channels, height, width] = shape;
        let (taps, cols) = (height * width, pad_in.max(channels));
        self.matrix(name, [rows, taps, cols], bias, |w| {
            let bias = bias.then(|| w.bias(name, rows)).transpose()?;
            let weight = match w.activations() {
                DType::F32 => w.filters::<f32>(name, shape, cols)?.into(),
                _ => w.filters::<bf16>(name, shape, cols)?.into(),
            };
            Ok(HostMatrix { weight, bias, rows, cols, taps })
        })
    }

    /// `NAME.bias [rows]`.
    fn bias(&mut self, name: &str, rows: usize) -> Result<Vec<f32>> {
        Ok(self.decoded(&format!("{name}.bias"), &[rows])?.into_owned())
    }

    /// Takes the tensor `name`, if it is there, as one that holds nothing a model needs.
    pub fn ignore(&mut self, name: &str) {
        self.claim(name);
    }

    /// `NAME.weight [out, in, k, k]` as `[out, k*k, cols]`.
    fn filters<T: Float>(
        &mut self,
        name: &str,
        shape: [usize; 4],
        cols: usize,
    ) -> Result<Cow<'_, [T]>> {
        let [rows, channels, height, width] = shape;
        let taps = height * width;
        let weight = self.decoded::<T>(&format!("{name}.weight"), &shape)?;
        if taps == 1 && cols == channels {
            return Ok(weight);
        }
        let mut moved = vec![T::ZERO; rows * taps * cols];
        let filters = weight.chunks_exact((channels * taps).max(1));
        for (filter, out) in filters.zip(moved.chunks_exact_mut((taps * cols).max(1))) {
            for (channel, source) in filter.chunks_exact(taps.max(1)).enumerate() {
                for (tap, &value) in source.iter().enumerate() {
                    out[tap * cols + channel] = value;
                }
            }
        }
        Ok(moved.into())
    }

    /// Ends the reading of a model: a tensor that was never asked for is an error.
    pub fn finish(mut self) -> Result<()> {
        if let Some((file, range)) = self.last.take() {
            file.release(range);
        }
        let mut left = self.tensors.iter().filter(|(_, entry)| !entry.used);
        let Some((name, entry)) = left.next() else {
            return self.writer.take().map_or(Ok(()), |writer| writer.finish());
        };
        let others = match left.count() {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let expected = format!("no tensors but the {} of the config", self.used());
        Err(self.error(name, expected, format!("{}{others}", entry.describe())))
    }

    fn used(&self) -> usize {
        self.tensors.values().filter(|entry| entry.used).count()
    }

    /// Marks a tensor, and the scales that belong to it, as asked for.
    fn claim(&mut self, name: &str) {
        let Some(entry) = self.tensors.get_mut(name) else {
            return;
        };
        entry.used = true;
        let asked = (entry.file.clone(), entry.range.clone());
        if let Some((file, range)) = self.last.replace(asked) {
            file.release(range);
        }
        if entry.dtype == Dtype::I8
            && let Some(scale) = self.tensors.get_mut(&scale_of(name))
        {
            scale.used = true;
        }
    }

    /// A tensor's bytes and encoding, once its dtype and shape are known to be right.
    fn stored(&self, name: &str, shape: &[usize]) -> Result<Stored<'_>> {
        let wanted = || format!("bf16, f16, f32 or scaled int8 of shape {shape:?}");
        let Some(entry) = self.tensors.get(name) else {
            return Err(self.error(name, wanted(), "no tensor of that name"));
        };
        let encoding = match entry.dtype {
            _ if entry.shape != shape => Err(self.error(name, wanted(), entry.describe())),
            Dtype::BF16 => Ok(Encoding::Bf16),
            Dtype::F16 => Ok(Encoding::F16),
            Dtype::F32 => Ok(Encoding::F32),
            Dtype::I8 => Ok(Encoding::Int8(self.scales(name, shape)?)),
            _ => Err(self.error(name, wanted(), entry.describe())),
        };
        Ok(Stored { encoding: encoding?, bytes: &entry.file.bytes[entry.range.clone()] })
    }

    /// The factors of an int8 tensor's rows.
    fn scales(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let (name, rows) = (scale_of(name), shape.first().copied().unwrap_or(1));
        let wanted = || format!("f32 of shape [{rows}], the scales of an int8 tensor's rows");
        match self.tensors.get(&name) {
            None => Err(self.error(&name, wanted(), "no tensor of that name")),
            Some(entry) if entry.dtype != Dtype::F32 || entry.shape != [rows] => {
                Err(self.error(&name, wanted(), entry.describe()))
            }
            Some(entry) => {
                let bytes = &entry.file.bytes[entry.range.clone()];
                let mut scales = Vec::with_capacity(rows);
                Stored { encoding: Encoding::F32, bytes }.append(&mut scales);
                match f32::first_non_finite(&scales) {
                    Some(at) => Err(self.not_finite(&name, &[rows], at)),
                    None => Ok(scales),
                }
            }
        }
    }

    fn not_finite(&self, name: &str, shape: &[usize], flat: usize) -> Error {
        let mut index = vec![0; shape.len()];
        let mut rest = flat;
        for (i, &size) in index.iter_mut().zip(shape).rev() {
            *i = rest % size.max(1);
            rest /= size.max(1);
        }
        self.error(name, "finite values", format!("NaN, infinity or an overflow at {index:?}"))
    }

    fn error(&self, name: &str, expected: impl Into<String>, found: impl Into<String>) -> Error {
        let path = self.tensors.get(name).map_or(&self.path, |entry| &entry.file.path);
        tensor_error(path, name, expected, found)
    }
}

fn tensor_error(
    path: &Path,
    name: &str,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> Error {
    Error::Tensor {
        path: path.into(),
        tensor: name.into(),
        expected: expected.into(),
        found: found.into(),
    }
}

fn scale_of(name: &str) -> String {
    format!("{name}_scale")
}

fn malformed(path: &Path, found: String) -> Error {
    let problem = format!(
        "not a whole safetensors file ({found}); fetch it again, or export the model again"
    );
    Error::model(path, problem)
}
