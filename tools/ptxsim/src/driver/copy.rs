//! Copies and memsets.
//!
//! When they happen follows "API synchronization behavior" of the driver API's documentation, at the
//! latest moment it allows:
//! - to the device from pageable memory: the bytes are taken at the call, the device has them when the
//!   stream comes to it; the call without `Async` waits for the default stream before, not after;
//! - from the device to pageable memory: done when the call returns;
//! - with pinned memory: when the stream comes to it, the call without `Async` waits for that;
//! - within the device, and memsets: when the stream comes to it, `Async` or not.

use std::ffi::{c_uchar, c_uint, c_ushort};

use super::abi::{CUcontext, CUdeviceptr, CUstream, HostPtr};
use super::state::{Driver, call};
use super::status::{Result, Status};
use super::work::{Copy, End, Fill, Work};
use crate::finding::Kind;
use crate::memory::Home;

/// The default stream, for the calls without `Async`.
const DEFAULT: CUstream = 0;

impl Driver {
    /// Whether a range lies in one allocation. One that its stream has not reached yet will do: the copy
    /// itself sees whether it comes too early.
    pub fn check_device_range(&self, address: u64, bytes: u64) -> Result {
        match self.memory.find(address) {
            Some(a) if bytes <= a.address + a.bytes - address => Ok(()),
            _ => {
                let found = self.memory.describe(address, bytes);
                if self.memory.is_freed(address) {
                    self.find(Kind::UseAfterFree, format!("a copy or memset of {found}"));
                }
                Status::INVALID_VALUE
                    .because(format!("expected {bytes} bytes inside one allocation, found {found}"))
            }
        }
    }

    fn device_end(&self, address: u64, bytes: u64) -> Result<End> {
        self.check_device_range(address, bytes)?;
        Ok(End::Device(address))
    }

    fn host_end(&self, at: HostPtr, bytes: u64) -> Result<End> {
        let address = at.0 as u64;
        if address == 0 {
            return Status::INVALID_VALUE.because("a null pointer for host memory");
        }
        if self.memory.contains(address, 1) {
            self.check_device_range(address, bytes)?;
            if !self.is_pinned(at) {
                return Status::INVALID_VALUE.because(format!(
                    "expected host memory, found {}",
                    self.memory.describe(address, bytes)
                ));
            }
        }
        Ok(End::Host(at))
    }

    /// An end of a copy that does not say on which side it is.
    fn any_end(&self, address: u64, bytes: u64) -> Result<End> {
        if self.memory.contains(address, 1) && !self.is_pinned(HostPtr(address as usize)) {
            return self.device_end(address, bytes);
        }
        self.host_end(HostPtr(address as usize), bytes)
    }

    fn is_pinned(&self, at: HostPtr) -> bool {
        self.memory.find(at.0 as u64).is_some_and(|a| a.home == Home::Host)
    }

    /// The host's end of a copy to the device, read at once where it is pageable.
    pub fn stage(&self, from: HostPtr, bytes: u64) -> End {
        if self.memory.contains(from.0 as u64, 1) {
            return End::Host(from);
        }
        // SAFETY: the program says that it can be read for so many bytes.
        let now = unsafe { std::slice::from_raw_parts(from.as_ptr(), bytes as usize) };
        End::Staged(now.into())
    }

    fn copy_async(&mut self, from: End, to: End, bytes: u64, stream: CUstream) -> Result {
        let stream = self.stream(stream)?;
        if bytes == 0 {
            return Ok(());
        }
        if self.streams.get(stream)?.capture.is_some() {
            return self.enqueue(stream, Work::Copy(Copy { from, to, bytes }));
        }
        self.refuse_implicit(stream)?;
        let waits = matches!(to, End::Host(at) if !self.is_pinned(at));
        let from = match (from, &to) {
            (End::Host(at), End::Device(_)) => self.stage(at, bytes),
            (from, _) => from,
        };
        self.enqueue(stream, Work::Copy(Copy { from, to, bytes }))?;
        if waits { self.synchronize(stream) } else { Ok(()) }
    }

    fn copy_sync(&mut self, from: End, to: End, bytes: u64, name: &str) -> Result {
        let stream = self.stream(DEFAULT)?;
        self.refuse_implicit(stream)?;
        self.refuse_unsafe(name)?;
        let with_host = matches!(from, End::Host(_)) || matches!(to, End::Host(_));
        let staged =
            matches!((&from, &to), (&End::Host(at), End::Device(_)) if !self.is_pinned(at));
        if staged {
            self.synchronize(stream)?;
        }
        self.copy_async(from, to, bytes, DEFAULT)?;
        if with_host && !staged { self.synchronize(stream) } else { Ok(()) }
    }

    fn fill(&mut self, fill: Fill, stream: CUstream) -> Result {
        let stream = self.stream(stream)?;
        if fill.width == 0 || fill.height == 0 {
            return Ok(());
        }
        self.enqueue(stream, Work::Fill(self.check_fill(fill)?))
    }

    /// Checks a memset's alignment, pitch and range.
    pub fn check_fill(&self, fill: Fill) -> Result<Fill> {
        let unit = fill.pattern.len() as u64;
        let row = fill.width.saturating_mul(unit);
        if !fill.to.is_multiple_of(unit) || (fill.height > 1 && !fill.pitch.is_multiple_of(unit)) {
            return Status::INVALID_VALUE
                .because(format!("{:#x} is not aligned to the {unit} bytes of a value", fill.to));
        }
        if fill.height > 1 && fill.pitch < row {
            return Status::INVALID_VALUE
                .because(format!("a pitch of {} bytes below the row's {row}", fill.pitch));
        }
        let bytes = fill.pitch.saturating_mul(fill.height - 1).saturating_add(row);
        self.check_device_range(fill.to, bytes)?;
        Ok(fill)
    }

    fn fill_sync(&mut self, fill: Fill, name: &str) -> Result {
        let stream = self.stream(DEFAULT)?;
        self.refuse_implicit(stream)?;
        self.refuse_unsafe(name)?;
        let waits = self.is_pinned(HostPtr(fill.to as usize));
        self.fill(fill, DEFAULT)?;
        if waits { self.synchronize(stream) } else { Ok(()) }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyHtoD_v2(to: CUdeviceptr, from: HostPtr, bytes: usize) -> Status {
    call("cuMemcpyHtoD_v2", |d| {
        d.current()?;
        let bytes = bytes as u64;
        let (from, to) = (d.host_end(from, bytes)?, d.device_end(to, bytes)?);
        d.copy_sync(from, to, bytes, "cuMemcpyHtoD")
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoH_v2(to: HostPtr, from: CUdeviceptr, bytes: usize) -> Status {
    call("cuMemcpyDtoH_v2", |d| {
        d.current()?;
        let bytes = bytes as u64;
        let (from, to) = (d.device_end(from, bytes)?, d.host_end(to, bytes)?);
        d.copy_sync(from, to, bytes, "cuMemcpyDtoH")
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoD_v2(to: CUdeviceptr, from: CUdeviceptr, bytes: usize) -> Status {
    call("cuMemcpyDtoD_v2", |d| {
        d.current()?;
        let bytes = bytes as u64;
        let (from, to) = (d.device_end(from, bytes)?, d.device_end(to, bytes)?);
        d.copy_sync(from, to, bytes, "cuMemcpyDtoD")
    })
}

/// A copy between any two kinds of memory.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy(to: CUdeviceptr, from: CUdeviceptr, bytes: usize) -> Status {
    call("cuMemcpy", |d| {
        d.current()?;
        let bytes = bytes as u64;
        let (from, to) = (d.any_end(from, bytes)?, d.any_end(to, bytes)?);
        d.copy_sync(from, to, bytes, "cuMemcpy")
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyHtoDAsync_v2(
    to: CUdeviceptr,
    from: HostPtr,
    bytes: usize,
    stream: CUstream,
) -> Status {
    call("cuMemcpyHtoDAsync_v2", |d| {
        d.current()?;
        let bytes = bytes as u64;
        let (from, to) = (d.host_end(from, bytes)?, d.device_end(to, bytes)?);
        d.copy_async(from, to, bytes, stream)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoHAsync_v2(
    to: HostPtr,
    from: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> Status {
    call("cuMemcpyDtoHAsync_v2", |d| {
        d.current()?;
        let bytes = bytes as u64;
        let (from, to) = (d.device_end(from, bytes)?, d.host_end(to, bytes)?);
        d.copy_async(from, to, bytes, stream)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoDAsync_v2(
    to: CUdeviceptr,
    from: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> Status {
    call("cuMemcpyDtoDAsync_v2", |d| {
        d.current()?;
        let bytes = bytes as u64;
        let (from, to) = (d.device_end(from, bytes)?, d.device_end(to, bytes)?);
        d.copy_async(from, to, bytes, stream)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyAsync(
    to: CUdeviceptr,
    from: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> Status {
    call("cuMemcpyAsync", |d| {
        d.current()?;
        let bytes = bytes as u64;
        let (from, to) = (d.any_end(from, bytes)?, d.any_end(to, bytes)?);
        d.copy_async(from, to, bytes, stream)
    })
}

/// Contexts share the one device's memory: a copy within it.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyPeerAsync(
    to: CUdeviceptr,
    to_context: CUcontext,
    from: CUdeviceptr,
    from_context: CUcontext,
    bytes: usize,
    stream: CUstream,
) -> Status {
    call("cuMemcpyPeerAsync", |d| {
        d.current()?;
        d.healthy(to_context)?;
        d.healthy(from_context)?;
        let bytes = bytes as u64;
        let (from, to) = (d.device_end(from, bytes)?, d.device_end(to, bytes)?);
        d.copy_async(from, to, bytes, stream)
    })
}

fn row(to: u64, pattern: &[u8], count: usize) -> Fill {
    Fill { to, pattern: pattern.to_vec(), width: count as u64, height: 1, pitch: 0 }
}

fn rows(to: u64, pitch: usize, pattern: &[u8], width: usize, height: usize) -> Fill {
    let (width, height, pitch) = (width as u64, height as u64, pitch as u64);
    Fill { to, pattern: pattern.to_vec(), width, height, pitch }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD8_v2(to: CUdeviceptr, value: c_uchar, count: usize) -> Status {
    call("cuMemsetD8_v2", |d| d.fill_sync(row(to, &[value], count), "cuMemsetD8"))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD16_v2(to: CUdeviceptr, value: c_ushort, count: usize) -> Status {
    call("cuMemsetD16_v2", |d| d.fill_sync(row(to, &value.to_ne_bytes(), count), "cuMemsetD16"))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD32_v2(to: CUdeviceptr, value: c_uint, count: usize) -> Status {
    call("cuMemsetD32_v2", |d| d.fill_sync(row(to, &value.to_ne_bytes(), count), "cuMemsetD32"))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD8Async(
    to: CUdeviceptr,
    value: c_uchar,
    count: usize,
    stream: CUstream,
) -> Status {
    call("cuMemsetD8Async", |d| d.fill(row(to, &[value], count), stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD16Async(
    to: CUdeviceptr,
    value: c_ushort,
    count: usize,
    stream: CUstream,
) -> Status {
    call("cuMemsetD16Async", |d| d.fill(row(to, &value.to_ne_bytes(), count), stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD32Async(
    to: CUdeviceptr,
    value: c_uint,
    count: usize,
    stream: CUstream,
) -> Status {
    call("cuMemsetD32Async", |d| d.fill(row(to, &value.to_ne_bytes(), count), stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD2D8_v2(
    to: CUdeviceptr,
    pitch: usize,
    value: c_uchar,
    width: usize,
    height: usize,
) -> Status {
    call("cuMemsetD2D8_v2", |d| {
        d.fill_sync(rows(to, pitch, &[value], width, height), "cuMemsetD2D8")
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD2D32_v2(
    to: CUdeviceptr,
    pitch: usize,
    value: c_uint,
    width: usize,
    height: usize,
) -> Status {
    call("cuMemsetD2D32_v2", |d| {
        d.fill_sync(rows(to, pitch, &value.to_ne_bytes(), width, height), "cuMemsetD2D32")
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD2D8Async(
    to: CUdeviceptr,
    pitch: usize,
    value: c_uchar,
    width: usize,
    height: usize,
    stream: CUstream,
) -> Status {
    call("cuMemsetD2D8Async", |d| d.fill(rows(to, pitch, &[value], width, height), stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD2D32Async(
    to: CUdeviceptr,
    pitch: usize,
    value: c_uint,
    width: usize,
    height: usize,
    stream: CUstream,
) -> Status {
    call("cuMemsetD2D32Async", |d| {
        d.fill(rows(to, pitch, &value.to_ne_bytes(), width, height), stream)
    })
}
