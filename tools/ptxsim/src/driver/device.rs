//! Initialisation, version and the one device.

use std::ffi::{c_char, c_int, c_uint};

use super::abi::{CUdevice, CUmemoryPool, Out, Text};
use super::state::{call, driver_version, free_call, initialise};
use super::status::Status;

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(flags: c_uint) -> Status {
    free_call("cuInit", || {
        if flags != 0 {
            return Status::INVALID_VALUE.because("the flags of cuInit are 0");
        }
        initialise()
    })
}

/// The emulated driver's version; may be asked before `cuInit`.
#[unsafe(no_mangle)]
pub extern "C" fn cuDriverGetVersion(out: Out<c_int>) -> Status {
    free_call("cuDriverGetVersion", || out.set(driver_version()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGet(out: Out<CUdevice>, ordinal: c_int) -> Status {
    call("cuDeviceGet", |d| {
        d.check_device(ordinal)?;
        out.set(ordinal)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetCount(out: Out<c_int>) -> Status {
    call("cuDeviceGetCount", |_| out.set(1))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetName(out: Out<c_char>, room: c_int, device: CUdevice) -> Status {
    call("cuDeviceGetName", |d| {
        d.check_device(device)?;
        out.set_text(d.options.device.name, room.max(0) as usize)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetUuid(out: Out<[u8; 16]>, device: CUdevice) -> Status {
    call("cuDeviceGetUuid", |d| {
        d.check_device(device)?;
        out.set(uuid(d.options.device.id))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetUuid_v2(out: Out<[u8; 16]>, device: CUdevice) -> Status {
    cuDeviceGetUuid(out, device)
}

/// The model's name, filled up: the same in every process.
fn uuid(id: &str) -> [u8; 16] {
    let mut uuid = *b"ptxsim----------";
    uuid[7..7 + id.len()].copy_from_slice(id.as_bytes());
    uuid
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceTotalMem_v2(out: Out<usize>, device: CUdevice) -> Status {
    call("cuDeviceTotalMem_v2", |d| {
        d.check_device(device)?;
        out.set(d.memory.info().1 as usize)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetAttribute(
    out: Out<c_int>,
    attribute: c_uint,
    device: CUdevice,
) -> Status {
    call("cuDeviceGetAttribute", |d| {
        d.check_device(device)?;
        match d.options.device.attribute(attribute) {
            Some(value) => out.set(value),
            None => Status::INVALID_VALUE.because(format!("there is no attribute {attribute}")),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceComputeCapability(
    major: Out<c_int>,
    minor: Out<c_int>,
    device: CUdevice,
) -> Status {
    call("cuDeviceComputeCapability", |d| {
        d.check_device(device)?;
        let capability = d.options.device.capability;
        major.set(capability.0 as c_int)?;
        minor.set(capability.1 as c_int)
    })
}

const PCI_BUS_ID: &str = "0000:01:00.0";

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetPCIBusId(out: Out<c_char>, room: c_int, device: CUdevice) -> Status {
    call("cuDeviceGetPCIBusId", |d| {
        d.check_device(device)?;
        out.set_text(PCI_BUS_ID, room.max(0) as usize)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetByPCIBusId(out: Out<CUdevice>, id: Text) -> Status {
    call("cuDeviceGetByPCIBusId", |_| {
        let id = id.get()?;
        if id != PCI_BUS_ID {
            return Status::INVALID_DEVICE.because(format!("no device is at {id}"));
        }
        out.set(0)
    })
}

/// There is one device, which does not reach itself as a peer.
#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceCanAccessPeer(
    out: Out<c_int>,
    device: CUdevice,
    peer: CUdevice,
) -> Status {
    call("cuDeviceCanAccessPeer", |d| {
        d.check_device(device)?;
        d.check_device(peer)?;
        out.set(0)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetDefaultMemPool(out: Out<CUmemoryPool>, device: CUdevice) -> Status {
    call("cuDeviceGetDefaultMemPool", |d| {
        d.check_device(device)?;
        out.set(d.default_pool)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetMemPool(out: Out<CUmemoryPool>, device: CUdevice) -> Status {
    call("cuDeviceGetMemPool", |d| {
        d.check_device(device)?;
        out.set(d.current_pool)
    })
}

/// The pool that `cuMemAllocAsync` allocates from.
#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceSetMemPool(device: CUdevice, pool: CUmemoryPool) -> Status {
    call("cuDeviceSetMemPool", |d| {
        d.check_device(device)?;
        d.pools.get(pool)?;
        d.current_pool = pool;
        Ok(())
    })
}
