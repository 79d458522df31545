//! `Traced<D>`: a device that logs every verb: shapes, floating-point operations, bytes, time.
//!
//! The per-verb table of `muse-bench ops` and the search for the first verb in which two backends
//! differ are both this one decorator. While it is switched off a verb pays one load and branch.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::device::*;
use crate::error::Result;
use crate::spans;
use crate::tensor::{DType, Matrix, Tensor};

/// One call of a verb.
#[derive(Clone, Debug)]
pub struct Event {
    /// Name of the verb, with `int8` after it where its weights are.
    pub verb: &'static str,
    /// Dtype and shape of the output, then of the inputs.
    pub operands: String,
    /// Floating-point operations (2 × multiply-adds) of matrix products; others count as none.
    pub flops: u64,
    /// Bytes that must move: every operand once.
    pub bytes: u64,
    /// Time until the verb returned.
    pub elapsed: Duration,
    /// Hash of the output, when asked for.
    pub hash: Option<String>,
}

/// A device that records what it is asked to do.
pub struct Traced<D> {
    inner: D,
    on: AtomicBool,
    hashing: AtomicBool,
    events: Mutex<Vec<Event>>,
}

impl<D: Device> Traced<D> {
    /// Wraps a device; recording starts switched off.
    pub fn new(inner: D) -> Self {
        Traced {
            inner,
            on: AtomicBool::new(false),
            hashing: AtomicBool::new(false),
            events: Mutex::default(),
        }
    }

    /// Starts recording; with `hashes`, every output is read back and hashed (slow).
    pub fn start(&self, hashes: bool) {
        self.hashing.store(hashes, Ordering::Relaxed);
        self.on.store(true, Ordering::Relaxed);
    }

    /// Stops recording and returns what was recorded.
    pub fn stop(&self) -> Vec<Event> {
        self.on.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.events.lock().unwrap_or_else(|e| e.into_inner()))
    }

    /// Runs `call` on the wrapped device; `out` is the tensor it writes.
    fn run(
        &self,
        verb: &'static str,
        out: &mut Tensor<D::Buffer>,
        inputs: &[&Tensor<D::Buffer>],
        matrix: Work,
        call: impl FnOnce(&D, &mut Tensor<D::Buffer>) -> Result<()>,
    ) -> Result<()> {
        let _span = spans::verb(verb);
        if !self.on.load(Ordering::Relaxed) {
            return call(&self.inner, out);
        }
        let elapsed = self.time(|d| call(d, out))?;
        self.record(verb, out, inputs, matrix, elapsed)
    }

    /// How long `call` took, from an idle device to an idle device.
    fn time(&self, call: impl FnOnce(&D) -> Result<()>) -> Result<Duration> {
        self.inner.finish()?;
        let start = Instant::now();
        call(&self.inner)?;
        self.inner.finish()?;
        Ok(start.elapsed())
    }

    fn record(
        &self,
        verb: &'static str,
        out: &Tensor<D::Buffer>,
        inputs: &[&Tensor<D::Buffer>],
        work: Work,
        elapsed: Duration,
    ) -> Result<()> {
        let operands: Vec<String> = std::iter::once(out)
            .chain(inputs.iter().copied())
            .map(|t| format!("{} {}", t.dtype(), t.shape()))
            .collect();
        let moved = out.bytes() + inputs.iter().map(|t| t.bytes()).sum::<usize>();
        let hash = if self.hashing.load(Ordering::Relaxed) {
            let mut bytes = vec![0; out.bytes()];
            self.inner.read(&out.buffer, &mut bytes)?;
            Some(blake3::hash(&bytes).to_hex()[..16].to_string())
        } else {
            None
        };
        self.events.lock().unwrap_or_else(|e| e.into_inner()).push(Event {
            verb,
            operands: operands.join(", "),
            flops: work.flops,
            bytes: moved as u64 + work.bytes,
            elapsed,
            hash,
        });
        Ok(())
    }
}

/// What a verb does beyond reading and writing its tensors.
#[derive(Clone, Copy, Default)]
struct Work {
    flops: u64,
    bytes: u64, // of packed weights
}

/// The name of a verb by the dtype of its weights: products of int8 have a ceiling of their own.
fn named<M>(weight: &Matrix<M>, [float, int8]: [&'static str; 2]) -> &'static str {
    if weight.dtype == DType::I8 { int8 } else { float }
}

impl Work {
    /// `rows` outputs of a weight matrix of which each takes `taps` taps.
    fn matrix<M>(rows: usize, weight: &Matrix<M>, taps: usize) -> Self {
        let products = rows * weight.rows * weight.cols * taps;
        Work { flops: 2 * products as u64, bytes: weight.bytes() as u64 }
    }

    /// Scores and weighted sums over the keys that exist.
    fn attention(sizes: Attention) -> Self {
        let keys: usize = (0..sizes.batch).map(|sequence| sizes.length(sequence)).sum();
        let flops = 4 * (sizes.queries * keys * sizes.heads * sizes.head_dim) as u64;
        Work { flops: if sizes.causal { flops / 2 } else { flops }, bytes: 0 }
    }
}

impl<D: Device> Device for Traced<D> {
    type Buffer = D::Buffer;
    type Packed = D::Packed;
    type Mark = D::Mark;

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn supports(dtype: DType) -> bool {
        D::supports(dtype)
    }

    fn free_memory(&self) -> usize {
        self.inner.free_memory()
    }

    fn alloc(&self, bytes: usize) -> Result<Self::Buffer> {
        self.inner.alloc(bytes)
    }

    fn write(&self, dst: &mut Self::Buffer, bytes: &[u8]) -> Result<()> {
        self.inner.write(dst, bytes)
    }

    fn read(&self, src: &Self::Buffer, bytes: &mut [u8]) -> Result<()> {
        self.inner.read(src, bytes)
    }

    /// While verbs are recorded each is run, and timed, by itself.
    fn together<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.on.load(Ordering::Relaxed) { work() } else { self.inner.together(work) }
    }

    fn finish(&self) -> Result<()> {
        self.inner.finish()
    }

    fn mark(&self) -> Result<Self::Mark> {
        self.inner.mark()
    }

    fn elapsed(&self, from: &Self::Mark, to: &Self::Mark) -> Result<Duration> {
        self.inner.elapsed(from, to)
    }

    fn pack(&self, weight: HostMatrix<'_>) -> Result<Self::Packed> {
        self.inner.pack(weight)
    }

    fn pack_int8(&self, weight: HostMatrix<'_>) -> Result<Self::Packed> {
        self.inner.pack_int8(weight)
    }

    fn parts<'a>(&self, packed: &'a Self::Packed) -> Result<PackedParts<&'a [u8]>> {
        self.inner.parts(packed)
    }

    fn adopt(
        &self,
        sizes: MatrixSizes,
        parts: PackedParts<Shared>,
    ) -> Result<Option<Self::Packed>> {
        self.inner.adopt(sizes, parts)
    }

    fn embed(
        &self,
        out: &mut Tensor<Self::Buffer>,
        ids: &Tensor<Self::Buffer>,
        table: &Tensor<Self::Buffer>,
        add: Option<&Tensor<Self::Buffer>>,
    ) -> Result<()> {
        let inputs: Vec<_> = std::iter::once(ids).chain(add).collect();
        self.run("embed", out, &inputs, Work::default(), |d, out| d.embed(out, ids, table, add))
    }

    fn select_rows(
        &self,
        out: &mut Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        positions: &Tensor<Self::Buffer>,
    ) -> Result<()> {
        self.run("select_rows", out, &[positions], Work::default(), |d, out| {
            d.select_rows(out, x, positions)
        })
    }

    fn layer_norm(
        &self,
        out: &mut Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        norm: Normalize<'_, Self::Buffer>,
    ) -> Result<()> {
        self.run("layer_norm", out, &[x], Work::default(), |d, out| d.layer_norm(out, x, norm))
    }

    fn modulate(
        &self,
        x: &mut Tensor<Self::Buffer>,
        by: Modulation<'_, Self::Buffer>,
    ) -> Result<()> {
        let work = Work { flops: 0, bytes: x.bytes() as u64 }; // read and written
        self.run("modulate", x, &[], work, |d, x| d.modulate(x, by))
    }

    fn activate(
        &self,
        out: &mut Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        activation: Activation,
    ) -> Result<()> {
        self.run("activate", out, &[x], Work::default(), |d, out| d.activate(out, x, activation))
    }

    fn linear(
        &self,
        out: &mut Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        weight: &Matrix<Self::Packed>,
        activation: Activation,
    ) -> Result<()> {
        let work = Work::matrix(x.shape().rows(), weight, 1);
        let verb = named(weight, ["linear", "linear int8"]);
        self.run(verb, out, &[x], work, |d, out| d.linear(out, x, weight, activation))
    }

    fn linear_add(
        &self,
        residual: &mut Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        weight: &Matrix<Self::Packed>,
    ) -> Result<()> {
        let work = Work::matrix(x.shape().rows(), weight, 1);
        let verb = named(weight, ["linear_add", "linear_add int8"]);
        self.run(verb, residual, &[x], work, |d, out| d.linear_add(out, x, weight))
    }

    fn linear_add_norm(
        &self,
        residual: &mut Tensor<Self::Buffer>,
        out: &mut Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        weight: &Matrix<Self::Packed>,
        norm: Normalize<'_, Self::Buffer>,
    ) -> Result<()> {
        let mut work = Work::matrix(x.shape().rows(), weight, 1);
        work.bytes += 2 * residual.bytes() as u64; // read and written
        let verb = named(weight, ["linear_add_norm", "linear_add_norm int8"]);
        self.run(verb, out, &[x], work, |d, out| d.linear_add_norm(residual, out, x, weight, norm))
    }

    fn attention(
        &self,
        out: &mut Tensor<Self::Buffer>,
        q: Heads<'_, Self::Buffer>,
        k: Heads<'_, Self::Buffer>,
        v: Heads<'_, Self::Buffer>,
        sizes: Attention,
    ) -> Result<()> {
        let inputs = [q.tensor, k.tensor];
        self.run("attention", out, &inputs, Work::attention(sizes), |d, out| {
            d.attention(out, q, k, v, sizes)
        })
    }

    fn project_and_attend(
        &self,
        out: &mut Tensor<Self::Buffer>,
        queries: &mut Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        weight: &Matrix<Self::Packed>,
        [k, v]: [Heads<'_, Self::Buffer>; 2],
        sizes: Attention,
    ) -> Result<()> {
        let mut work = Work::matrix(x.shape().rows(), weight, 1);
        work.flops += Work::attention(sizes).flops;
        let verb = named(weight, ["project_and_attend", "project_and_attend int8"]);
        self.run(verb, out, &[x, k.tensor], work, |d, out| {
            d.project_and_attend(out, queries, x, weight, [k, v], sizes)
        })
    }

    fn depthwise(
        &self,
        out: &mut Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        filter: &Depthwise<Self::Buffer>,
    ) -> Result<()> {
        self.run("depthwise", out, &[x], Work::default(), |d, out| d.depthwise(out, x, filter))
    }

    fn global_response_norm(
        &self,
        out: &mut Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        gain: &Tensor<Self::Buffer>,
        shift: &Tensor<Self::Buffer>,
    ) -> Result<()> {
        self.run("global_response_norm", out, &[x], Work::default(), |d, out| {
            d.global_response_norm(out, x, gain, shift)
        })
    }

    fn conv2d(
        &self,
        out: &mut Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        weight: &Matrix<Self::Packed>,
        geometry: Conv,
        residual: Option<&Tensor<Self::Buffer>>,
    ) -> Result<()> {
        let work = Work::matrix(out.shape().rows(), weight, geometry.taps_of_pixel());
        let inputs: Vec<_> = std::iter::once(x).chain(residual).collect();
        self.run("conv2d", out, &inputs, work, |d, out| {
            d.conv2d(out, x, weight, geometry, residual)
        })
    }

    fn group_norm_silu(
        &self,
        out: &mut Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        norm: &Norm<Self::Buffer>,
        groups: usize,
    ) -> Result<()> {
        self.run("group_norm_silu", out, &[x], Work::default(), |d, out| {
            d.group_norm_silu(out, x, norm, groups)
        })
    }

    fn guide_and_sample(
        &self,
        masked: &mut Masked<Self::Buffer>,
        logits: &Tensor<Self::Buffer>,
        sampling: Sampling,
    ) -> Result<()> {
        let _span = spans::verb("guide_and_sample");
        if !self.on.load(Ordering::Relaxed) {
            return self.inner.guide_and_sample(masked, logits, sampling);
        }
        let elapsed = self.time(|d| d.guide_and_sample(masked, logits, sampling))?;
        self.record("guide_and_sample", &masked.sampled, &[logits], Work::default(), elapsed)
    }

    fn remask(&self, masked: &mut Masked<Self::Buffer>, remask: Remask) -> Result<()> {
        let _span = spans::verb("remask");
        if !self.on.load(Ordering::Relaxed) {
            return self.inner.remask(masked, remask);
        }
        let elapsed = self.time(|d| d.remask(masked, remask))?;
        let inputs = [&masked.sampled, &masked.confidence];
        self.record("remask", &masked.tokens, &inputs, Work::default(), elapsed)
    }

    fn nearest_code(
        &self,
        ids: &mut Tensor<Self::Buffer>,
        z: &Tensor<Self::Buffer>,
        codebook: &Tensor<Self::Buffer>,
    ) -> Result<()> {
        let products = z.shape().rows() * codebook.shape().elements();
        let work = Work { flops: 2 * products as u64, bytes: 0 };
        self.run("nearest_code", ids, &[z, codebook], work, |d, ids| {
            d.nearest_code(ids, z, codebook)
        })
    }

    fn split(&self, out: &mut Tensor<Self::Buffer>, x: &Tensor<Self::Buffer>) -> Result<()> {
        self.run("split", out, &[x], Work::default(), |d, out| d.split(out, x))
    }

    fn load_rgb8(&self, out: &mut Tensor<Self::Buffer>, x: &Tensor<Self::Buffer>) -> Result<()> {
        self.run("load_rgb8", out, &[x], Work::default(), |d, out| d.load_rgb8(out, x))
    }

    fn to_rgb8(&self, out: &mut Tensor<Self::Buffer>, x: &Tensor<Self::Buffer>) -> Result<()> {
        self.run("to_rgb8", out, &[x], Work::default(), |d, out| d.to_rgb8(out, x))
    }

    fn copy_rows(
        &self,
        out: &mut Tensor<Self::Buffer>,
        out_row: usize,
        x: &Tensor<Self::Buffer>,
        x_row: usize,
        rows: usize,
    ) -> Result<()> {
        self.run("copy_rows", out, &[x], Work::default(), |d, out| {
            d.copy_rows(out, out_row, x, x_row, rows)
        })
    }
}
