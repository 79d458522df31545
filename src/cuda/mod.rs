//! The CUDA backend: one file per operator, the same stems as `kernels/` and [`crate::cpu`].
//!
//! These files hold launch geometry and arguments only: contracts are checked in [`crate::ops`], and
//! what a kernel computes stands in its `.cu`. The driver is loaded at run time; nothing of CUDA is
//! needed to build or to start. Errors of a kernel show at the next [`Device::read`].

mod arena;
mod attention;
mod codebook;
mod conv;
mod driver;
mod embed;
mod event;
mod graph;
mod image;
mod images;
mod kernel;
mod linear;
mod norm;
mod pack;
mod plan;
mod response;
mod sample;
mod staging;
mod tune;

/// The constants of `kernels/launch.h`.
mod launch {
    #![allow(dead_code, reason = "some are the kernels' alone")]
    include!(concat!(env!("OUT_DIR"), "/launch.rs"));
}

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use cudarc::driver::sys;

use crate::device::*;
use crate::error::Result;
use crate::tensor::{DType, Matrix, Tensor};
use arena::Arena;
pub use arena::Buffer;
use driver::Driver;
pub use driver::Identity;
use event::Events;
pub use event::Mark;
use graph::{Graphs, Queued};
pub use images::Resources;
use kernel::Launch;
pub use pack::Packed;
use plan::Plans;
pub use plan::{Choosing, Plan, Problem};
use staging::Staging;
pub use tune::{Timed, Tuner};

thread_local! {
    /// What the loop is made of that this thread is recording.
    static RECORDING: RefCell<Option<Vec<Queued>>> = const { RefCell::new(None) };
}

/// One NVIDIA GPU.
pub struct Cuda {
    driver: Arc<Driver>,
    /// Units whose kernels are the user's.
    own: Vec<String>,
    arena: Arc<Arena>,
    events: Arc<Events>,
    graphs: Mutex<Graphs>,
    staging: Staging,
    plans: Plans,
    tuner: Option<Arc<Tuner>>,
    attention: attention::Kernels,
    codebook: codebook::Kernels,
    conv: conv::Kernels,
    embed: embed::Kernels,
    norm: norm::Kernels,
    image: image::Kernels,
    linear: linear::Kernels,
    response: response::Kernels,
    sample: sample::Kernels,
}

impl Cuda {
    /// Opens device `ordinal` and loads all kernels.
    ///
    /// # Errors
    /// [`crate::Error::Device`] says which of driver, device and kernels does not fit, and what to do.
    pub fn new(ordinal: usize) -> Result<Cuda> {
        let driver = Driver::open(ordinal)?;
        Cuda::load(driver, |driver, unit| driver.load(unit, images::IMAGES))
    }

    /// The same with kernels of your own: each `UNIT.ptx` in `folder` takes the place of the one that was
    /// built in from `kernels/UNIT.cu`, for trying a change of a kernel without building anew.
    ///
    /// # Errors
    /// As [`Cuda::new`]; [`crate::Error::Io`] where the folder cannot be read, and [`crate::Error::Model`]
    /// where a file in it is of no unit.
    pub fn with_kernels(ordinal: usize, folder: &Path) -> Result<Cuda> {
        let own = images::own_kernels(folder)?;
        let driver = Driver::open(ordinal)?;
        let cuda = Cuda::load(driver, |driver, unit| match own.get(unit) {
            Some((path, text)) => driver.load_text(path, text),
            None => driver.load(unit, images::IMAGES),
        })?;
        Ok(Cuda { own: own.into_keys().collect(), ..cuda })
    }

    fn load(driver: Driver, load: impl Fn(&Driver, &str) -> Result<sys::CUmodule>) -> Result<Cuda> {
        let driver = Arc::new(driver);
        let load = |unit: &str| load(&driver, unit);
        let d = &*driver;
        let events = Events::new(driver.clone());
        let linear = linear::Kernels::load(d, load("linear")?)?;
        let plans = Plans {
            multiprocessors: driver.multiprocessors,
            resident: linear.resident(),
            table: BTreeMap::new(),
        };
        Ok(Cuda {
            plans,
            tuner: None,
            linear,
            attention: attention::Kernels::load(d, load("attention")?)?,
            codebook: codebook::Kernels::load(d, load("codebook")?)?,
            conv: conv::Kernels::load(d, load("conv")?)?,
            embed: embed::Kernels::load(d, load("embed")?)?,
            norm: norm::Kernels::load(d, load("norm")?)?,
            image: image::Kernels::load(d, load("image")?)?,
            response: response::Kernels::load(d, load("response")?)?,
            sample: sample::Kernels::load(d, load("sample")?)?,
            arena: Arena::new(driver.clone()),
            staging: Staging::new(&driver, &events)?,
            events,
            graphs: Mutex::default(),
            own: Vec::new(),
            driver: driver.clone(),
        })
    }

    /// Whether there is a CUDA driver to open a device with.
    pub fn is_present() -> bool {
        driver::is_present()
    }

    /// Queues a launch, or notes it in the loop being recorded.
    fn submit(&self, launch: Launch) -> Result<()> {
        if launch.grid.contains(&0) {
            return Ok(()); // nothing to do, which the driver takes for a mistake
        }
        if self.tuner.as_ref().is_some_and(|tuner| !tuner.is_running()) {
            return Ok(());
        }
        if record(|| Queued::Kernel(launch.clone())) {
            return Ok(());
        }
        launch.queue(&self.driver)
    }

    /// Queues launches that hand results on in memory of their kernels': no other thread's may come between.
    fn submit_all(&self, launches: impl IntoIterator<Item = Launch>) -> Result<()> {
        let _no_other = self.graphs.lock().unwrap_or_else(|e| e.into_inner());
        launches.into_iter().try_for_each(|launch| self.submit(launch))
    }

    /// Copies of host memory cannot be part of a recorded loop.
    fn host_work(&self, what: &str) {
        let recording = RECORDING.with_borrow(|recording| recording.is_some());
        assert!(!recording, "{what} inside of Device::together");
    }
}

/// Notes work in the loop being recorded, if there is one.
fn record(queued: impl FnOnce() -> Queued) -> bool {
    RECORDING.with_borrow_mut(|recording| {
        if let Some(work) = recording {
            work.push(queued());
        }
        recording.is_some()
    })
}

/// Blocks of `size` that cover `count`.
fn blocks(count: usize, size: u32) -> u32 {
    count.div_ceil(size as usize) as u32
}

impl Device for Cuda {
    type Buffer = Buffer;
    type Packed = Packed;
    type Mark = Mark;

    fn describe(&self) -> String {
        let target = *self.driver.target.lock().unwrap_or_else(|e| e.into_inner());
        let built_in =
            format!("{}, kernels {} for {target}", self.driver.description, images::ORIGIN);
        if self.own.is_empty() {
            built_in
        } else {
            format!("{built_in}, but your {}", self.own.join(", "))
        }
    }

    fn supports(dtype: DType) -> bool {
        dtype == DType::BF16
    }

    fn free_memory(&self) -> usize {
        self.arena.free()
    }

    fn alloc(&self, bytes: usize) -> Result<Buffer> {
        self.host_work("an allocation");
        self.arena.alloc(bytes)
    }

    fn write(&self, dst: &mut Buffer, bytes: &[u8]) -> Result<()> {
        self.host_work("a copy to the device");
        assert!(bytes.len() <= dst.bytes(), "write of {} bytes into {}", bytes.len(), dst.bytes());
        // SAFETY: the range lies in the buffer.
        unsafe { self.staging.write(dst.address(), bytes) }
    }

    fn read(&self, src: &Buffer, bytes: &mut [u8]) -> Result<()> {
        self.host_work("a copy from the device");
        assert!(bytes.len() <= src.bytes(), "read of {} bytes from {}", bytes.len(), src.bytes());
        // SAFETY: the range lies in the buffer.
        unsafe { self.staging.read(src.address(), bytes) }
    }

    fn together<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.host_work("Device::together");
        if self.tuner.is_some() {
            return work();
        }
        RECORDING.set(Some(Vec::new()));
        let result = work();
        let recorded = RECORDING.take().unwrap_or_default();
        let result = result?;
        self.graphs.lock().unwrap_or_else(|e| e.into_inner()).play(&self.driver, recorded)?;
        Ok(result)
    }

    fn finish(&self) -> Result<()> {
        self.driver.bind()?;
        let finished = self.driver.stream.synchronize();
        finished.map_err(|e| self.driver.failed("what was queued on the device", e))
    }

    fn mark(&self) -> Result<Mark> {
        let mark = self.events.take()?;
        if !record(|| Queued::Event(mark.event())) {
            self.events.record(&mark)?;
        }
        Ok(mark)
    }

    fn elapsed(&self, from: &Mark, to: &Mark) -> Result<std::time::Duration> {
        self.events.elapsed(from, to)
    }

    fn pack(&self, weight: HostMatrix<'_>) -> Result<Packed> {
        let rows = pack::rows(&weight)?;
        let upload = |bytes: &[u8]| {
            let mut buffer = self.arena.alloc(bytes.len())?;
            self.write(&mut buffer, bytes)?;
            Ok(buffer)
        };
        let bias = weight.bias.as_deref().map(|bias| upload(bytemuck::cast_slice(bias)));
        Ok(Packed { weight: upload(bytemuck::cast_slice(&rows))?, bias: bias.transpose()? })
    }

    fn embed(
        &self,
        out: &mut Tensor<Buffer>,
        ids: &Tensor<Buffer>,
        table: &Tensor<Buffer>,
        add: Option<&Tensor<Buffer>>,
    ) -> Result<()> {
        self.submit(self.embed.embed(out, ids, table, add))
    }

    fn select_rows(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        positions: &Tensor<Buffer>,
    ) -> Result<()> {
        self.submit(self.embed.select_rows(out, x, positions))
    }

    fn layer_norm(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        norm: Normalize<'_, Buffer>,
    ) -> Result<()> {
        self.submit(self.norm.layer_norm(out, x, norm))
    }

    fn modulate(&self, x: &mut Tensor<Buffer>, by: Modulation<'_, Buffer>) -> Result<()> {
        self.submit(self.response.modulate(x, by))
    }

    fn activate(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        activation: Activation,
    ) -> Result<()> {
        self.submit(self.response.activate(out, x, activation))
    }

    fn linear(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        weight: &Matrix<Packed>,
        activation: Activation,
    ) -> Result<()> {
        let problem = Problem::product(Choosing::Linear, linear::product(x, weight), out.dtype());
        let mode = linear::Mode::of(activation);
        self.planned(problem, |plan| self.submit(self.linear.linear(plan, out, x, weight, mode)))
    }

    fn linear_add(
        &self,
        residual: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        weight: &Matrix<Packed>,
    ) -> Result<()> {
        let problem = Problem::product(Choosing::LinearAdd, linear::product(x, weight), DType::F32);
        self.planned(problem, |plan| {
            self.submit(self.linear.linear(plan, residual, x, weight, linear::Mode::Add))
        })
    }

    fn linear_add_norm(
        &self,
        residual: &mut Tensor<Buffer>,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        weight: &Matrix<Packed>,
        norm: Normalize<'_, Buffer>,
    ) -> Result<()> {
        let problem =
            Problem::product(Choosing::LinearAddNorm, linear::product(x, weight), out.dtype());
        self.planned(problem, |plan| {
            match self.linear.linear_add_norm(plan, residual, out, x, weight, norm) {
                Some(launch) => self.submit(launch),
                None => {
                    self.linear_add(residual, x, weight)?;
                    self.layer_norm(out, residual, norm)
                }
            }
        })
    }

    fn attention(
        &self,
        out: &mut Tensor<Buffer>,
        q: Heads<'_, Buffer>,
        k: Heads<'_, Buffer>,
        v: Heads<'_, Buffer>,
        sizes: Attention,
    ) -> Result<()> {
        self.planned(Problem::attention(sizes), |plan| {
            self.submit(self.attention.attention(plan, out, q, k, v, sizes))
        })
    }

    fn project_and_attend(
        &self,
        out: &mut Tensor<Buffer>,
        queries: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        weight: &Matrix<Packed>,
        [k, v]: [Heads<'_, Buffer>; 2],
        sizes: Attention,
    ) -> Result<()> {
        match self.attention.project_and_attend(out, x, weight, [k, v], sizes) {
            Some(launch) => self.submit(launch),
            None => {
                self.linear(queries, x, weight, Activation::None)?;
                self.attention(out, Heads { tensor: queries, offset: 0 }, k, v, sizes)
            }
        }
    }

    fn depthwise(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        filter: &Depthwise<Buffer>,
    ) -> Result<()> {
        self.submit(self.response.depthwise(out, x, filter))
    }

    fn global_response_norm(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        gain: &Tensor<Buffer>,
        shift: &Tensor<Buffer>,
    ) -> Result<()> {
        self.submit_all(self.response.global_response_norm(out, x, gain, shift)?)
    }

    fn conv2d(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        weight: &Matrix<Packed>,
        geometry: Conv,
        residual: Option<&Tensor<Buffer>>,
    ) -> Result<()> {
        let terms = geometry.taps_of_pixel() * weight.cols;
        let sizes = [out.shape().rows(), weight.rows, terms];
        self.planned(Problem::product(Choosing::Conv2d, sizes, out.dtype()), |plan| {
            self.submit(self.conv.conv2d(plan, out, x, weight, geometry, residual))
        })
    }

    fn group_norm_silu(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        norm: &Norm<Buffer>,
        groups: usize,
    ) -> Result<()> {
        self.submit_all(self.norm.group_norm_silu(out, x, norm, groups))
    }

    fn guide_and_sample(
        &self,
        masked: &mut Masked<Buffer>,
        logits: &Tensor<Buffer>,
        sampling: Sampling,
    ) -> Result<()> {
        self.submit(self.sample.guide_and_sample(masked, logits, sampling))
    }

    fn remask(&self, masked: &mut Masked<Buffer>, remask: Remask) -> Result<()> {
        self.submit(self.sample.remask(masked, remask))
    }

    fn nearest_code(
        &self,
        ids: &mut Tensor<Buffer>,
        z: &Tensor<Buffer>,
        codebook: &Tensor<Buffer>,
    ) -> Result<()> {
        self.submit_all(self.codebook.nearest_code(ids, z, codebook))
    }

    fn split(&self, out: &mut Tensor<Buffer>, x: &Tensor<Buffer>) -> Result<()> {
        self.submit(self.image.split(out, x))
    }

    fn load_rgb8(&self, out: &mut Tensor<Buffer>, x: &Tensor<Buffer>) -> Result<()> {
        self.submit(self.image.load_rgb8(out, x))
    }

    fn to_rgb8(&self, out: &mut Tensor<Buffer>, x: &Tensor<Buffer>) -> Result<()> {
        self.submit(self.image.to_rgb8(out, x))
    }

    fn copy_rows(
        &self,
        out: &mut Tensor<Buffer>,
        out_row: usize,
        x: &Tensor<Buffer>,
        x_row: usize,
        rows: usize,
    ) -> Result<()> {
        self.submit(self.embed.copy_rows(out, out_row, x, x_row, rows))
    }
}

#[cfg(test)]
mod tests;
