//! Launches of `kernels/image.cu`.

use cudarc::driver::sys::CUmodule;

use super::arena::Buffer;
use super::blocks;
use super::driver::Driver;
use super::kernel::{Kernel, Launch};
use super::launch::*;
use crate::error::Result;
use crate::tensor::Tensor;

pub(super) struct Kernels {
    /// out, x, elements, channels
    split: Kernel<(u64, u64, u32, u32)>,
    /// out, x, pixels
    load_rgb8: Kernel<(u64, u64, u32)>,
    /// out, x, elements
    to_rgb8: Kernel<(u64, u64, u32)>,
}

impl Kernels {
    pub fn load(driver: &Driver, module: CUmodule) -> Result<Self> {
        Ok(Kernels {
            split: Kernel::load(driver, module, "split", 0)?,
            load_rgb8: Kernel::load(driver, module, "load_rgb8", 0)?,
            to_rgb8: Kernel::load(driver, module, "to_rgb8", 0)?,
        })
    }

    pub fn split(&self, out: &mut Tensor<Buffer>, x: &Tensor<Buffer>) -> Launch {
        let (elements, channels) = (x.shape().elements(), x.shape().last() as u32);
        let arguments = (out.buffer.address(), x.buffer.address(), elements as u32, channels);
        let grid = [blocks(elements, 4 * ELEMENTWISE_THREADS), 1, 1];
        self.split.on(grid, ELEMENTWISE_THREADS, 0, arguments)
    }

    pub fn load_rgb8(&self, out: &mut Tensor<Buffer>, x: &Tensor<Buffer>) -> Launch {
        let pixels = x.shape().rows();
        let arguments = (out.buffer.address(), x.buffer.address(), pixels as u32);
        let grid = [blocks(pixels, ELEMENTWISE_THREADS), 1, 1];
        self.load_rgb8.on(grid, ELEMENTWISE_THREADS, 0, arguments)
    }

    pub fn to_rgb8(&self, out: &mut Tensor<Buffer>, x: &Tensor<Buffer>) -> Launch {
        let elements = x.shape().elements();
        let arguments = (out.buffer.address(), x.buffer.address(), elements as u32);
        let grid = [blocks(elements, ELEMENTWISE_THREADS), 1, 1];
        self.to_rgb8.on(grid, ELEMENTWISE_THREADS, 0, arguments)
    }
}
