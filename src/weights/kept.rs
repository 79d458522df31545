//! Checkpoints whose matrices are packed for the processor already, so that they are used where they lie in the map:
//! what `muse convert` writes, part by part, as a part is loaded.
//!
//! Such a file is a safetensors file. Its metadata names the precision, as in `"muse": "packed bf16"`. A matrix
//! `NAME` (of several stacked layers: their names, joined by `+`) is the tensor `NAME`, words in the layout of the CPU
//! backend, with `NAME/bias` and, in int8, `NAME/scales` and `NAME/surplus`, padded as they are in memory; these come
//! first, each from a multiple of 64 bytes on. All other tensors are there as they are used.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use safetensors::Dtype;

use super::{LENGTH, Weights};
use crate::device::{
    HostMatrix, Keeper, KeptMatrix, MatrixSizes, MatrixSource, PackedParts, Shared,
};
use crate::error::{Error, Result};
use crate::tensor::{Floats, Precision};

/// Key of the metadata, and how its value begins.
const KEY: &str = "muse";
const PACKED: &str = "packed ";

/// The precision that a file's matrices are packed for, if they are.
pub(super) fn packed_for(
    path: &Path,
    metadata: Option<&HashMap<String, String>>,
) -> Result<Option<Precision>> {
    let Some(kind) = metadata.and_then(|metadata| metadata.get(KEY)) else {
        return Ok(None);
    };
    let precision = kind.strip_prefix(PACKED).and_then(|name| name.parse().ok());
    let unknown = || {
        let problem = format!(
            "{KEY}: {kind:?}; expected \"{PACKED}\" and a precision: convert the model again"
        );
        Error::model(path, problem)
    };
    precision.map(Some).ok_or_else(unknown)
}

/// How a model's weights are read.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// What the model computes in.
    pub precision: Precision,
    /// The folder below which packed weights are to be kept.
    pub keep_below: Option<PathBuf>,
}

impl Reading {
    /// Opens a part of a model: one file, or all of its shards. `name` is what its file is called below
    /// [`Reading::keep_below`].
    ///
    /// # Errors
    /// As [`Weights::open_shards`]; [`Error::Model`] where its matrices are packed for another precision.
    pub fn open(&self, paths: &[impl AsRef<Path>], name: &str) -> Result<Weights> {
        let mut weights = Weights::open_shards(paths)?.in_precision(self.precision);
        if let Some(packed) = weights.packed {
            let wanted = self.precision;
            let again = self.keep_below.is_some();
            if again || packed != wanted {
                let wanted = if again { "weights to convert".into() } else { format!("{wanted}") };
                let problem = format!(
                    "packed for {packed}; expected {wanted}: take the model that it was converted from, or compute in {packed}"
                );
                return Err(Error::model(weights.path, problem));
            }
        }
        if let Some(folder) = &self.keep_below {
            weights.writer = Some(Arc::new(Writer::new(folder.join(name), &weights)?));
        }
        Ok(weights)
    }
}

impl Weights {
    /// The matrix `name` of `[rows, taps, cols]`, with a bias when `bias`: the packed one of the file, or else what `read`
    /// makes.
    pub(super) fn matrix<'a>(
        &'a mut self,
        name: &str,
        [rows, taps, cols]: [usize; 3],
        bias: bool,
        read: impl FnOnce(&'a mut Self) -> Result<HostMatrix<'a>>,
    ) -> Result<MatrixSource<'a>> {
        if self.packed.is_some() {
            let sizes = MatrixSizes { rows, cols, taps, dtype: self.activations() };
            return self.kept(name, sizes, bias).map(MatrixSource::Kept);
        }
        let keeper = self.writer.clone().map(|writer| (name.to_owned(), writer as Arc<dyn Keeper>));
        Ok(MatrixSource::Host(read(self)?, keeper))
    }

    fn kept(&mut self, name: &str, sizes: MatrixSizes, bias: bool) -> Result<KeptMatrix> {
        let mut needed = |name: &str, what| match self.part(name)? {
            Some(part) => Ok(part),
            None => Err(self.error(name, what, "no tensor of that name")),
        };
        let panels = needed(name, "a packed matrix")?;
        let bias =
            bias.then(|| needed(&format!("{name}/bias"), "a packed matrix's bias")).transpose()?;
        let [scales, surplus] =
            ["scales", "surplus"].map(|part| self.part(&format!("{name}/{part}")));
        let int8 = scales?.zip(surplus?).map(|(scales, surplus)| [scales, surplus]);
        let path = self.tensors[name].file.path.clone();
        let parts = PackedParts { panels, bias, int8 };
        Ok(KeptMatrix { path, name: name.into(), parts, sizes })
    }

    /// A part of a packed matrix, where there is one.
    fn part(&mut self, name: &str) -> Result<Option<Shared>> {
        let Some(entry) = self.tensors.get_mut(name) else {
            return Ok(None);
        };
        entry.used = true;
        let shared = Shared::new(entry.file.clone(), entry.range.clone());
        let misplaced = || {
            self.error(
                name,
                "a place at a multiple of 64 bytes",
                "another; convert the model again",
            )
        };
        shared.map(Some).ok_or_else(misplaced)
    }
}

impl AsRef<[u8]> for super::File {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A file of packed weights in the making.
pub(super) struct Writer {
    path: PathBuf,
    precision: Precision,
    header: u64, // bytes set aside for it
    state: Mutex<State>,
}

struct State {
    file: BufWriter<File>,
    parts: Vec<Entry>, // in the file, one after another
    tensors: BTreeMap<String, (Entry, Vec<u8>)>,
}

struct Entry {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: usize,
}

const ACTION: &str = "writing packed weights";

impl Writer {
    fn new(path: PathBuf, weights: &Weights) -> Result<Self> {
        let open = || {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            File::create_new(&path)
        };
        let mut file = BufWriter::new(open().map_err(Error::io(&path, ACTION))?);
        // A tensor has up to four parts; of each, its name and some hundred letters more.
        let letters: usize = weights.tensors.keys().map(|name| 4 * (name.len() + 128)).sum();
        let header = (letters as u64 + 1024).next_multiple_of(Shared::LINE as u64) - LENGTH as u64;
        file.seek(SeekFrom::Start(LENGTH as u64 + header)).map_err(Error::io(&path, ACTION))?;
        let state = State { file, parts: Vec::new(), tensors: BTreeMap::new() };
        Ok(Writer { path, precision: weights.precision, header, state: Mutex::new(state) })
    }

    /// Remembers a tensor, in the widest dtype that it is used in.
    pub(super) fn tensor(&self, name: &str, shape: &[usize], values: &Floats<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let dtype = match values {
            Floats::F32(_) => Dtype::F32,
            Floats::BF16(_) => Dtype::BF16,
        };
        if state.tensors.get(name).is_some_and(|(known, _)| known.dtype == Dtype::F32) {
            return;
        }
        let (name, shape, bytes) = (name.to_owned(), shape.to_vec(), values.bytes().to_vec());
        let entry = Entry { name: name.clone(), dtype, shape, bytes: bytes.len() };
        state.tensors.insert(name, (entry, bytes));
    }

    /// Writes what is left, and the header.
    pub(super) fn finish(&self) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { file, parts, tensors, .. } = &mut *state;
        let mut write = || -> io::Result<()> {
            for (entry, bytes) in std::mem::take(tensors).into_values() {
                file.write_all(&bytes)?;
                parts.push(entry);
            }
            // Behind the last matrix a kernel may read on.
            let line = [0; Shared::LINE];
            file.write_all(&line)?;
            let (name, shape) = (END.to_owned(), vec![line.len()]);
            parts.push(Entry { name, dtype: Dtype::U8, shape, bytes: line.len() });
            let mut header = serde_json::Map::new();
            header.insert(
                "__metadata__".into(),
                serde_json::json!({ KEY: format!("{PACKED}{}", self.precision) }),
            );
            let mut at = 0;
            for Entry { name, dtype, shape, bytes } in parts.drain(..) {
                let entry = serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [at, at + bytes] });
                header.insert(name, entry);
                at += bytes;
            }
            let mut header = serde_json::to_vec(&header)?;
            let room = self.header as usize;
            if header.len() > room {
                return Err(io::Error::other(format!(
                    "a header of {} bytes, {room} set aside",
                    header.len()
                )));
            }
            header.resize(room, b' ');
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&self.header.to_le_bytes())?;
            file.write_all(&header)?;
            file.flush()
        };
        write().map_err(Error::io(&self.path, ACTION))
    }
}

/// The last tensor of a file: nothing.
pub(super) const END: &str = "muse/end";

impl Keeper for Writer {
    fn keep(&self, name: &str, parts: &PackedParts<&[u8]>) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let PackedParts { panels, bias, int8 } = parts;
        let [scales, surplus] = int8.map_or([None; 2], |parts| parts.map(Some));
        let all = [
            (name.to_owned(), Dtype::U32, Some(*panels)),
            (format!("{name}/bias"), Dtype::F32, *bias),
            (format!("{name}/scales"), Dtype::F32, scales),
            (format!("{name}/surplus"), Dtype::U32, surplus),
        ];
        for (name, dtype, part) in all {
            let Some(part) = part else { continue };
            assert!(part.len().is_multiple_of(Shared::LINE), "{name}: {} bytes", part.len());
            state.file.write_all(part).map_err(Error::io(&self.path, ACTION))?;
            let (shape, bytes) = (vec![part.len() / size_of::<u32>()], part.len());
            state.parts.push(Entry { name, dtype, shape, bytes });
        }
        Ok(())
    }
}
