//! Types of the C interface, laid out as in cuda.h.
//!
//! Handles are numbers that are looked up, never followed. Pointers from the program arrive as [`Out`],
//! [`In`] and [`Text`], which refuse null; beyond that C leaves nothing to check, and the contract of
//! the CUDA driver API holds: what is not null is valid.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use super::status::{Result, Status};

pub type CUdevice = c_int;
pub type CUdeviceptr = u64;
pub type CUcontext = usize;
pub type CUstream = usize;
pub type CUevent = usize;
pub type CUmodule = usize;
pub type CUfunction = usize;
pub type CUgraph = usize;
pub type CUgraphNode = usize;
pub type CUgraphExec = usize;
pub type CUmemoryPool = usize;
pub type CUhostFn = Option<unsafe extern "C" fn(*mut c_void)>;

/// Where a result goes.
#[repr(transparent)]
#[derive(Debug)]
pub struct Out<T>(*mut T);

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Out<T> {}

impl<T> Out<T> {
    pub fn set(self, value: T) -> Result {
        self.required()?;
        self.set_if_wanted(value);
        Ok(())
    }

    /// For results that may be declined with null.
    pub fn set_if_wanted(self, value: T) {
        if !self.0.is_null() {
            // SAFETY: only C makes an `Out`; not null means writable by the interface's contract.
            unsafe { self.0.write_unaligned(value) };
        }
    }

    /// Refuses null before anything is done.
    pub fn required(self) -> Result {
        if self.0.is_null() {
            Status::INVALID_VALUE.because("a null pointer for a result")
        } else {
            Ok(())
        }
    }

    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Writes as many values as the program has room for.
    pub fn fill(self, values: impl Iterator<Item = T>, room: usize) {
        for (n, value) in values.take(room).enumerate() {
            // SAFETY: an array of `room` values by the interface's contract.
            unsafe { self.0.add(n).write_unaligned(value) };
        }
    }

    pub fn cast<U>(self) -> Out<U> {
        Out(self.0.cast())
    }

    /// # Safety
    /// As if C had passed it: null, or writable.
    pub unsafe fn from_address(address: usize) -> Self {
        Self(address as *mut T)
    }
}

impl<T: Copy> Out<T> {
    /// For values that are read and written.
    pub fn get(self) -> Result<T> {
        In(self.0).get()
    }
}

impl Out<c_char> {
    /// A string cut to `room` bytes with its final 0.
    pub fn set_text(self, text: &str, room: usize) -> Result {
        self.required()?;
        let Some(most) = room.checked_sub(1) else {
            return Status::INVALID_VALUE.because("no room for a string");
        };
        let bytes = text.bytes().take(most).chain([0]).map(|b| b as c_char);
        self.fill(bytes, room);
        Ok(())
    }
}

/// Where an argument lies.
#[repr(transparent)]
#[derive(Debug)]
pub struct In<T>(*const T);

impl<T> Clone for In<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for In<T> {}

impl<T: Copy> In<T> {
    pub fn get(self) -> Result<T> {
        if self.0.is_null() {
            return Status::INVALID_VALUE.because("a null pointer for an argument");
        }
        // SAFETY: only C makes an `In`; not null means readable by the interface's contract.
        Ok(unsafe { self.0.read_unaligned() })
    }

    /// The first `n` values; null is right only for none.
    pub fn list(self, n: usize) -> Result<Vec<T>> {
        (0..n)
            .map(|i| if self.0.is_null() { self.get() } else { In(self.0.wrapping_add(i)).get() })
            .collect()
    }

    pub fn address(self) -> usize {
        self.0 as usize
    }
}

impl In<u8> {
    /// The bytes up to the first 0, as text.
    pub fn text(self) -> Result<String> {
        Text(self.0.cast()).get()
    }
}

impl<T> In<T> {
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    pub fn cast<U>(self) -> In<U> {
        In(self.0.cast())
    }

    /// # Safety
    /// As if C had passed it: null, or readable.
    pub unsafe fn from_address(address: usize) -> Self {
        Self(address as *const T)
    }
}

/// A string.
#[repr(transparent)]
#[derive(Debug, Clone, Copy)]
pub struct Text(*const c_char);

impl Text {
    pub fn get(&self) -> Result<String> {
        if self.0.is_null() {
            return Status::INVALID_VALUE.because("a null pointer for a string");
        }
        // SAFETY: only C makes a `Text`; not null means a string by the interface's contract.
        let text = unsafe { CStr::from_ptr(self.0) };
        Ok(text.to_string_lossy().into_owned())
    }
}

/// Memory of the host that a copy reads or writes: an address until the copy takes place.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPtr(pub usize);

impl HostPtr {
    pub fn as_ptr(self) -> *mut u8 {
        self.0 as *mut u8
    }
}

/// `CUlaunchConfig`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct LaunchConfig {
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
    pub shared_bytes: c_uint,
    pub stream: CUstream,
    pub attributes: In<LaunchAttribute>,
    pub attribute_count: c_uint,
}

/// `CUlaunchAttribute`: the value is a union of 64 bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct LaunchAttribute {
    pub id: c_uint,
    pub pad: [u8; 4],
    pub value: LaunchValue,
}

/// Every member of the union that is looked at starts with 32-bit numbers.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy)]
pub struct LaunchValue(pub [u32; 16]);

/// `CUgraphEdgeData`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Edge {
    pub from_port: u8,
    pub to_port: u8,
    pub kind: u8,
    pub reserved: [u8; 5],
}

impl Edge {
    pub const FULL: Self = Self { from_port: 0, to_port: 0, kind: 0, reserved: [0; 5] };
    pub const PROGRAMMATIC: Self = Self { from_port: 1, kind: 1, ..Self::FULL };
}

/// `CUDA_KERNEL_NODE_PARAMS` (v2).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct KernelNodeParams {
    pub function: CUfunction,
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
    pub shared_bytes: c_uint,
    pub params: usize,
    pub extra: usize,
    pub kernel: usize,
    pub context: CUcontext,
}

/// `CUDA_MEMSET_NODE_PARAMS`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MemsetNodeParams {
    pub to: CUdeviceptr,
    pub pitch: usize,
    pub value: c_uint,
    pub element_bytes: c_uint,
    pub width: usize,
    pub height: usize,
}

/// `CUgraphExecUpdateResultInfo`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct UpdateResult {
    pub result: c_uint,
    pub error_node: CUgraphNode,
    pub error_from_node: CUgraphNode,
}

/// `CUmemPoolProps`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PoolProps {
    pub allocation_type: c_uint,
    pub handle_types: c_uint,
    pub location_type: c_uint,
    pub location_id: c_int,
    pub security: usize,
    pub max_size: usize,
    pub usage: u16,
    pub reserved: [u8; 54],
}

const _: () = {
    assert!(size_of::<LaunchConfig>() == 56);
    assert!(size_of::<LaunchAttribute>() == 72);
    assert!(size_of::<KernelNodeParams>() == 72);
    assert!(size_of::<MemsetNodeParams>() == 40);
    assert!(size_of::<UpdateResult>() == 24);
    assert!(size_of::<PoolProps>() == 88);
};
