//! Launches of `kernels/response.cu`.

use cudarc::driver::sys::CUmodule;

use super::arena::Buffer;
use super::blocks;
use super::driver::Driver;
use super::kernel::{Kernel, Launch};
use super::launch::*;
use super::linear::Mode;
use super::norm::Columns;
use crate::device::{Activation, Depthwise, Modulation, RESPONSE_EPSILON};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// out, x, elements, mode
type Activate = Kernel<(u64, u64, u32, u32)>;
/// out, x, weight, bias, lines, height, width, channels
type Filter = Kernel<(u64, u64, u64, u64, u32, u32, u32, u32)>;
/// x, pixels, channels
type Measure = Kernel<(u64, u32, u32)>;
/// out, x, gain, shift, pixels, channels, epsilon
type Apply = Kernel<(u64, u64, u64, u64, u32, u32, f32)>;

/// By output, then input: f32, bf16.
type ByTypes<K> = [[K; 2]; 2];

pub(super) struct Kernels {
    /// x, modulation, d, stride, sequence
    modulate: Kernel<(u64, u64, u32, u32, u32)>,
    activate: ByTypes<Activate>,
    depthwise: ByTypes<Filter>,
    /// By input: f32, bf16.
    measure: [Measure; 2],
    apply: ByTypes<Apply>,
}

fn half(t: &Tensor<Buffer>) -> usize {
    usize::from(t.dtype() == DType::BF16)
}

impl Kernels {
    pub fn load(driver: &Driver, module: CUmodule) -> Result<Self> {
        let activate = |name| Kernel::load(driver, module, name, 0);
        let depthwise = |name| Kernel::load(driver, module, name, 0);
        let measure = |name| Kernel::load(driver, module, name, 0);
        let apply = |name| Kernel::load(driver, module, name, 0);
        Ok(Kernels {
            modulate: Kernel::load(driver, module, "modulate", 0)?,
            activate: [
                [activate("activate_f32_f32")?, activate("activate_f32_bf16")?],
                [activate("activate_bf16_f32")?, activate("activate_bf16_bf16")?],
            ],
            depthwise: [
                [depthwise("depthwise_f32_f32")?, depthwise("depthwise_f32_bf16")?],
                [depthwise("depthwise_bf16_f32")?, depthwise("depthwise_bf16_bf16")?],
            ],
            measure: [measure("response_measure_f32")?, measure("response_measure_bf16")?],
            apply: [
                [apply("response_apply_f32_f32")?, apply("response_apply_f32_bf16")?],
                [apply("response_apply_bf16_f32")?, apply("response_apply_bf16_bf16")?],
            ],
        })
    }

    pub fn modulate(&self, x: &mut Tensor<Buffer>, by: Modulation<'_, Buffer>) -> Launch {
        let rows = x.shape().rows();
        let Columns { first, stride, sequence } = Columns::new(by, rows);
        let arguments = (x.buffer.address(), first, x.shape().last() as u32, stride, sequence);
        self.modulate.on([rows as u32, 1, 1], ROW_THREADS, 0, arguments)
    }

    pub fn activate(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        activation: Activation,
    ) -> Launch {
        let elements = x.shape().elements();
        let mode = Mode::of(activation) as u32;
        let arguments = (out.buffer.address(), x.buffer.address(), elements as u32, mode);
        let grid = blocks(elements, 4 * ELEMENTWISE_THREADS);
        self.activate[half(out)][half(x)].on([grid, 1, 1], ELEMENTWISE_THREADS, 0, arguments)
    }

    pub fn depthwise(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        Depthwise { weight, bias }: &Depthwise<Buffer>,
    ) -> Launch {
        let (height, width, channels) = (x.dim(1), x.dim(2), x.dim(3));
        let lines = x.dim(0) * height;
        let arguments = (
            out.buffer.address(),
            x.buffer.address(),
            weight.buffer.address(),
            bias.as_ref().map_or(0, |bias| bias.buffer.address()),
            lines as u32,
            height as u32,
            width as u32,
            channels as u32,
        );
        let strips = channels.div_ceil(4) * width.div_ceil(DEPTHWISE_COLUMNS as usize) * lines;
        let grid = blocks(strips, DEPTHWISE_THREADS);
        self.depthwise[half(out)][half(x)].on([grid, 1, 1], DEPTHWISE_THREADS, 0, arguments)
    }

    /// The norms of as many images as can be kept at a time, and the response to them.
    pub fn global_response_norm(
        &self,
        out: &mut Tensor<Buffer>,
        x: &Tensor<Buffer>,
        gain: &Tensor<Buffer>,
        shift: &Tensor<Buffer>,
    ) -> Result<Vec<Launch>> {
        let (images, pixels, channels) = (x.dim(0), x.dim(1), x.dim(2));
        let (measure, apply) = (&self.measure[half(x)], &self.apply[half(out)][half(x)]);
        let most = RESPONSE_SLOTS as usize / channels;
        if most == 0 {
            let problem = format!(
                "kernel response_measure keeps the norms of {RESPONSE_SLOTS} channels, not of {channels}; use \
                 another device"
            );
            return Err(Error::Device { device: "cuda".into(), problem });
        }
        let mut launches = Vec::new();
        for first in (0..images).step_by(most) {
            let count = most.min(images - first) as u32;
            let at = |t: &Tensor<Buffer>| {
                t.buffer.address() + (first * pixels * channels * t.dtype().size()) as u64
            };
            let (pixels, c) = (pixels as u32, channels as u32);
            let grid = [blocks(channels, RESPONSE_CHANNELS), count, 1];
            launches.push(measure.on(grid, RESPONSE_THREADS, 0, (at(x), pixels, c)));
            let (gain, shift) = (gain.buffer.address(), shift.buffer.address());
            let arguments = (at(out), at(x), gain, shift, pixels, c, RESPONSE_EPSILON);
            let grid = [pixels.div_ceil(RESPONSE_PIXELS), count, 1];
            launches.push(apply.on(grid, RESPONSE_THREADS, 0, arguments));
        }
        Ok(launches)
    }
}
