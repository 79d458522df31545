//! What surrounds the loading of PTX: the image's kind, the options of the JIT and its logs.

use std::ffi::c_uint;

use super::abi::{In, Out};
use super::status::{Result, Status};

/// `CUjit_option`s for the logs: a buffer, then its bytes, which come back as the bytes filled.
const INFO_BUFFER: c_uint = 3;
const INFO_BYTES: c_uint = 4;
const ERROR_BUFFER: c_uint = 5;
const ERROR_BYTES: c_uint = 6;
/// First option that CUDA 13.0 does not know.
const END: c_uint = 37;

/// The logs of one load.
#[derive(Debug, Default)]
pub struct JitLog {
    error: String,
    /// Address and bytes of the buffers for information and errors.
    buffers: [(usize, usize); 2],
}

impl JitLog {
    pub fn error(&mut self, why: &str) {
        self.error = format!("ptxas application ptx input, {why}\n");
    }

    /// Fills the program's buffers and tells their fill.
    pub fn write(&self, count: usize, options: In<c_uint>, values: In<usize>) -> Result {
        let mut filled = [0; 2];
        let texts = ["", self.error.as_str()];
        for (n, ((address, room), text)) in self.buffers.iter().zip(texts).enumerate() {
            if *address != 0 && *room != 0 {
                // SAFETY: the program says that the buffer has that room.
                unsafe { Out::from_address(*address) }.set_text(text, *room)?;
                filled[n] = (text.len() + 1).min(*room);
            }
        }
        for (n, option) in options.list(count)?.into_iter().enumerate() {
            let fill = match option {
                INFO_BYTES => filled[0],
                ERROR_BYTES => filled[1],
                _ => continue,
            };
            // SAFETY: the array of values is the program's, and documented as written to.
            unsafe { Out::from_address(values.address() + n * size_of::<usize>()) }.set(fill)?;
        }
        Ok(())
    }
}

/// Finds the logs among the options. The others are accepted: they change speed, not results.
pub fn read_options(count: usize, options: In<c_uint>, values: In<usize>) -> Result<JitLog> {
    let mut log = JitLog::default();
    for (option, value) in options.list(count)?.into_iter().zip(values.list(count)?) {
        match option {
            INFO_BUFFER => log.buffers[0].0 = value,
            // Sizes are 32-bit numbers in the place of a pointer.
            INFO_BYTES => log.buffers[0].1 = value as u32 as usize,
            ERROR_BUFFER => log.buffers[1].0 = value,
            ERROR_BYTES => log.buffers[1].1 = value as u32 as usize,
            _ if option < END => {}
            _ => {
                return Status::INVALID_VALUE.because(format!("there is no JIT option {option}"));
            }
        }
    }
    Ok(log)
}

/// The PTX of an image. Machine code is told apart by its first bytes.
pub fn read_image(image: In<u8>) -> Result<String> {
    let first = image.get()?;
    let head = || image.list(4);
    if first == 0x7f && head()? == *b"\x7fELF" {
        return Status::NO_BINARY_FOR_GPU
            .because("a cubin is machine code, which is not executed; load PTX");
    }
    if first == 0x50 && head()? == [0x50, 0xed, 0x55, 0xba] {
        return Status::NO_BINARY_FOR_GPU.because("fat binaries are not read; load the PTX itself");
    }
    image.text()
}
