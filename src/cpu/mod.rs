//! The CPU backend: one file per operator, the same stems as the CUDA kernels.
//!
//! Results do not depend on the number of threads, on the SIMD level, or on the optimisation level:
//! work is divided over outputs only, and every output is computed by the same sequence of IEEE 754
//! operations (`simd.rs` says how). One exception: in products of bf16, AVX512-BF16 takes denormal factors
//! and sums for zero ([`Simd::pairs`]).

mod attention;
mod codebook;
mod conv;
mod embed;
mod float;
mod gemm;
mod image;
mod int8;
mod linear;
mod math;
mod memory;
mod norm;
mod pack;
mod peak;
mod pool;
mod response;
mod sample;
mod simd;

pub use memory::Buffer;
pub use pack::Packed;
pub use simd::Simd;

use crate::device::*;
use crate::error::{Error, Result};
use crate::tensor::{DType, Matrix, Tensor};

/// The host's cores.
pub struct Cpu {
    pool: pool::Pool,
    level: Simd,
}

impl Cpu {
    /// A device of `threads` threads (by default, of all the machine lets us use), with the best
    /// instructions there are.
    pub fn new(threads: Option<usize>) -> Result<Cpu> {
        let level = *Simd::available().last().expect("portable is always available");
        Cpu::with_simd(threads, level)
    }

    /// A device that uses the given instructions.
    pub fn with_simd(threads: Option<usize>, level: Simd) -> Result<Cpu> {
        let problem = |problem: String| Error::Device { device: "cpu".into(), problem };
        if !Simd::available().contains(&level) {
            return Err(problem(format!(
                "this machine has no {}; choose another level",
                level.name()
            )));
        }
        let threads = match threads {
            Some(0) => return Err(Error::option("threads", 0, "1 or more")),
            Some(threads) => threads,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let pool = pool::Pool::new(threads - 1)
            .map_err(|e| problem(format!("{threads} threads could not be started: {e}")))?;
        Ok(Cpu { pool, level })
    }

    /// The instructions in use.
    pub fn simd(&self) -> Simd {
        self.level
    }

    /// Threads at work, the caller's among them.
    fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// How many tasks to make of `units` units of `work` elements each: none smaller than pays for
    /// handing it over.
    fn tasks(&self, units: usize, work: usize) -> usize {
        const SMALLEST: usize = 1 << 15;
        if self.threads() == 1 {
            return 1;
        }
        (units * work / SMALLEST).min(2 * self.threads()).min(units).max(1)
    }

    /// Runs `task(0..tasks)`, on the calling thread and those of the pool, whoever is free next.
    fn parallel(&self, tasks: usize, task: impl Fn(usize) + Sync) {
        self.pool.run(tasks, &task);
    }
}

impl Device for Cpu {
    type Buffer = Buffer;
    type Packed = Packed;
    type Mark = std::time::Instant;

    fn describe(&self) -> String {
        let model = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
        let model = model.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        let s = if self.threads() == 1 { "" } else { "s" };
        format!("{model}, {} thread{s}, {}", self.threads(), self.level.name())
    }

    fn supports(dtype: DType) -> bool {
        matches!(dtype, DType::F32 | DType::BF16 | DType::I8)
    }

    /// What Linux says, elsewhere 1 GiB.
    fn free_memory(&self) -> usize {
        let information = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = information.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        let number = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
        number.map_or(1 << 30, |kilobytes: usize| kilobytes << 10)
    }

    fn alloc(&self, bytes: usize) -> Result<Buffer> {
        Buffer::zeroed(bytes)
    }

    fn write(&self, dst: &mut Buffer, bytes: &[u8]) -> Result<()> {
        dst.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read(&self, src: &Buffer, bytes: &mut [u8]) -> Result<()> {
        bytes.copy_from_slice(&src.bytes()[..bytes.len()]);
        Ok(())
    }

    fn mark(&self) -> Result<Self::Mark> {
        Ok(Self::Mark::now())
    }

    fn elapsed(&self, from: &Self::Mark, to: &Self::Mark) -> Result<std::time::Duration> {
        Ok(*to - *from)
    }

    fn pack(&self, weight: HostMatrix<'_>) -> Result<Packed> {
        Packed::new(self, &weight)
    }

    fn pack_int8(&self, weight: HostMatrix<'_>) -> Result<Packed> {
        int8::pack(self, &weight)
    }

    fn parts<'a>(&self, packed: &'a Packed) -> Result<PackedParts<&'a [u8]>> {
        Ok(packed.parts())
    }

    fn adopt(&self, sizes: MatrixSizes, parts: PackedParts<Shared>) -> Result<Option<Packed>> {
        Ok(Packed::adopt(sizes, parts))
    }

    fn embed(
        &self,
        out: &mut Tensor<Buffer>,
        ids: &Tensor<Buffer>,
        table: &Tensor<Buffer>,
        add: Option<&Tensor<Buffer>>,
    ) -> Result<()> {
        embed::embed(self, out, ids, table, add);
        Ok(())
    }

    fn select_rows(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        positions: &Tensor<Buffer>,
    ) -> Result<()> {
        embed::select_rows(self, out, x, positions);
        Ok(())
    }

    fn layer_norm(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        norm: Normalize<'_, Buffer>,
    ) -> Result<()> {
        norm::layer_norm(self, out, x, norm);
        Ok(())
    }

    fn modulate(&self, x: &mut Tensor<Buffer>, by: Modulation<'_, Buffer>) -> Result<()> {
        response::modulate(self, x, by);
        Ok(())
    }

    fn activate(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        activation: Activation,
    ) -> Result<()> {
        response::activate(self, out, x, activation);
        Ok(())
    }

    fn linear(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        weight: &Matrix<Packed>,
        activation: Activation,
    ) -> Result<()> {
        linear::linear(self, out, x, weight, activation);
        Ok(())
    }

    fn linear_add(
        &self,
        residual: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        weight: &Matrix<Packed>,
    ) -> Result<()> {
        linear::linear_add(self, residual, x, weight);
        Ok(())
    }

    fn attention(
        &self,
        out: &mut Tensor<Buffer>,
        q: Heads<'_, Buffer>,
        k: Heads<'_, Buffer>,
        v: Heads<'_, Buffer>,
        sizes: Attention,
    ) -> Result<()> {
        attention::attention(self, out, q, k, v, sizes);
        Ok(())
    }

    fn depthwise(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        filter: &Depthwise<Buffer>,
    ) -> Result<()> {
        response::depthwise(self, out, x, filter);
        Ok(())
    }

    fn global_response_norm(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        gain: &Tensor<Buffer>,
        shift: &Tensor<Buffer>,
    ) -> Result<()> {
        response::global_response_norm(self, out, x, gain, shift);
        Ok(())
    }

    fn conv2d(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        weight: &Matrix<Packed>,
        geometry: Conv,
        residual: Option<&Tensor<Buffer>>,
    ) -> Result<()> {
        conv::conv2d(self, out, x, weight, geometry, residual);
        Ok(())
    }

    fn group_norm_silu(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        norm: &Norm<Buffer>,
        groups: usize,
    ) -> Result<()> {
        norm::group_norm_silu(self, out, x, norm, groups);
        Ok(())
    }

    fn guide_and_sample(
        &self,
        masked: &mut Masked<Buffer>,
        logits: &Tensor<Buffer>,
        sampling: Sampling,
    ) -> Result<()> {
        sample::guide_and_sample(self, masked, logits, sampling);
        Ok(())
    }

    fn remask(&self, masked: &mut Masked<Buffer>, remask: Remask) -> Result<()> {
        sample::remask(masked, remask);
        Ok(())
    }

    fn nearest_code(
        &self,
        ids: &mut Tensor<Buffer>,
        z: &Tensor<Buffer>,
        codebook: &Tensor<Buffer>,
    ) -> Result<()> {
        codebook::nearest_code(self, ids, z, codebook);
        Ok(())
    }

    fn split(&self, out: &mut Tensor<Buffer>, x: &Tensor<Buffer>) -> Result<()> {
        image::split(self, out, x);
        Ok(())
    }

    fn load_rgb8(&self, out: &mut Tensor<Buffer>, x: &Tensor<Buffer>) -> Result<()> {
        image::load_rgb8(self, out, x);
        Ok(())
    }

    fn to_rgb8(&self, out: &mut Tensor<Buffer>, x: &Tensor<Buffer>) -> Result<()> {
        image::to_rgb8(self, out, x);
        Ok(())
    }

    fn copy_rows(
        &self,
        out: &mut Tensor<Buffer>,
        out_row: usize,
        x: &Tensor<Buffer>,
        x_row: usize,
        rows: usize,
    ) -> Result<()> {
        let width = x.shape().last() * x.dtype().size();
        let from = &x.buffer.bytes()[x_row * width..][..rows * width];
        out.buffer.bytes_mut()[out_row * width..][..rows * width].copy_from_slice(from);
        Ok(())
    }
}
