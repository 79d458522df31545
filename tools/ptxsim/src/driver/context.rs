//! Contexts: the primary one and others, which is current in a thread, and their end.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{c_int, c_uint, c_ulonglong};
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::thread::ThreadId;

use super::abi::{CUcontext, CUdevice, CUstream, In, Out};
use super::queue::Completion;
use super::state::{Driver, call};
use super::status::{Result, Status};
use super::stream::{Stream, StreamKind};
use crate::finding::Kind;
use crate::memory::Home;

thread_local! {
    /// The thread's stack of contexts; the last is current. Without a destructor, so that a program's exit
    /// handlers, which run after a thread's destructors, may still call.
    static STACK: ManuallyDrop<RefCell<Vec<CUcontext>>> =
        const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

/// A context.
#[derive(Debug, Default)]
pub struct Context {
    pub flags: u32,
    /// The sticky error: the answer to every call until the context is destroyed.
    pub broken: Option<Status>,
    /// Its default stream.
    pub legacy: CUstream,
    /// Default streams of threads that ask for their own.
    pub per_thread: HashMap<ThreadId, CUstream>,
    /// Ends of blocking streams that were destroyed with work pending: the default stream waits for them.
    pub orphans: Vec<Arc<Completion>>,
    limits: BTreeMap<u32, usize>,
    cache_config: u32,
}

/// `CUlimit`s that can be set, with their defaults: stack, printf buffer, heap, L2 granularity and
/// persisting L2.
const LIMITS: [(u32, usize); 5] = [(0, 1024), (1, 1 << 20), (2, 8 << 20), (5, 128), (6, 0)];
const FLAGS: u32 = 0xff;
/// Least and greatest priority of streams.
pub(super) const PRIORITIES: (c_int, c_int) = (0, -5);

impl Driver {
    /// The thread's current context, if it lives and works.
    pub fn current(&self) -> Result<CUcontext> {
        let Some(context) = STACK.with(|s| s.borrow().last().copied()) else {
            return Status::INVALID_CONTEXT
                .because("no context is current in this thread; call cuCtxSetCurrent");
        };
        self.healthy(context)?;
        Ok(context)
    }

    /// Whether a context lives and has no sticky error.
    pub fn healthy(&self, context: CUcontext) -> Result {
        match self.contexts.get(context) {
            Ok(Context { broken: Some(status), .. }) => Err((*status).into()),
            Ok(_) => Ok(()),
            Err(_) => Err(Status::CONTEXT_IS_DESTROYED.into()),
        }
    }

    pub fn check_device(&self, device: CUdevice) -> Result {
        if device == 0 {
            return Ok(());
        }
        Status::INVALID_DEVICE.because(format!("there is device 0 only, found {device}"))
    }

    fn create_context(&mut self, flags: u32) -> Result<CUcontext> {
        if flags & !FLAGS != 0 {
            return Status::INVALID_VALUE.because(format!("unknown context flags {flags:#x}"));
        }
        let context = self.contexts.add(Context { flags, ..Context::default() });
        let legacy = self.streams.add(Stream::new(context, StreamKind::Legacy, 0));
        self.contexts.get_mut(context)?.legacy = legacy;
        Ok(context)
    }

    /// Ends a context: its work is finished, and what it still owns is freed.
    fn destroy_context(&mut self, context: CUcontext) -> Result {
        let worked = self.run_context(context).is_ok();
        let left: Vec<u64> =
            self.owners.iter().filter(|(_, o)| o.context == context).map(|(&a, _)| a).collect();
        for address in left {
            if worked && let Some(allocation) = self.memory.find(address) {
                self.find(
                    Kind::Leak,
                    format!("still allocated when its context ended: {allocation}"),
                );
            }
            let home = self.memory.find(address).map_or(Home::Device, |a| a.home);
            self.release(address, home, "the end of its context");
        }
        let modules: Vec<_> =
            self.modules.iter().filter(|(_, m)| m.context == context).map(|(h, _)| h).collect();
        for module in modules {
            self.drop_module(module)?;
        }
        self.streams.retain(|s| s.context != context);
        self.events.retain(|e| e.context != context);
        self.captures.retain(|c| c.context != context);
        self.contexts.remove(context)?;
        Ok(())
    }

    fn end_primary(&mut self) -> Result {
        self.primary.users = 0;
        match self.primary.context.take() {
            Some(context) => self.destroy_context(context),
            None => Ok(()),
        }
    }

    fn known_context(&self, context: CUcontext) -> Result {
        match self.contexts.get(context) {
            Ok(_) => Ok(()),
            Err(e) => Status::INVALID_CONTEXT.because(e.why),
        }
    }
}

/// The primary context, made by its first user.
#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRetain(out: Out<CUcontext>, device: CUdevice) -> Status {
    call("cuDevicePrimaryCtxRetain", |d| {
        d.check_device(device)?;
        out.required()?;
        let context = match d.primary.context {
            Some(context) => context,
            None => d.create_context(d.primary.flags)?,
        };
        d.primary.context = Some(context);
        d.primary.users += 1;
        out.set(context)
    })
}

/// One user less; the last one's release ends it.
#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(device: CUdevice) -> Status {
    call("cuDevicePrimaryCtxRelease_v2", |d| {
        d.check_device(device)?;
        match d.primary.users {
            0 => Status::INVALID_CONTEXT.because("the primary context has no user left"),
            1 => d.end_primary(),
            _ => {
                d.primary.users -= 1;
                Ok(())
            }
        }
    })
}

/// Ends the primary context, whoever uses it.
#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxReset_v2(device: CUdevice) -> Status {
    call("cuDevicePrimaryCtxReset_v2", |d| {
        d.check_device(device)?;
        d.end_primary()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxSetFlags_v2(device: CUdevice, flags: c_uint) -> Status {
    call("cuDevicePrimaryCtxSetFlags_v2", |d| {
        d.check_device(device)?;
        if flags & !FLAGS != 0 {
            return Status::INVALID_VALUE.because(format!("unknown context flags {flags:#x}"));
        }
        d.primary.flags = flags;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxGetState(
    device: CUdevice,
    flags: Out<c_uint>,
    active: Out<c_int>,
) -> Status {
    call("cuDevicePrimaryCtxGetState", |d| {
        d.check_device(device)?;
        flags.set(d.primary.flags)?;
        active.set(d.primary.context.is_some().into())
    })
}

/// A context besides the primary one, current from now on.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxCreate_v2(out: Out<CUcontext>, flags: c_uint, device: CUdevice) -> Status {
    call("cuCtxCreate_v2", |d| create(d, out, flags, device))
}

/// As `cuCtxCreate_v2`; affinity is not supported.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxCreate_v3(
    out: Out<CUcontext>,
    _affinities: In<u64>,
    count: c_int,
    flags: c_uint,
    device: CUdevice,
) -> Status {
    call("cuCtxCreate_v3", |d| {
        if count != 0 {
            return Status::NOT_SUPPORTED.because("execution affinity is not simulated; pass 0");
        }
        create(d, out, flags, device)
    })
}

/// As `cuCtxCreate_v2`; affinity and graphics sharing are not supported.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxCreate_v4(
    out: Out<CUcontext>,
    params: In<u64>,
    flags: c_uint,
    device: CUdevice,
) -> Status {
    call("cuCtxCreate_v4", |d| {
        if !params.is_null() {
            return Status::NOT_SUPPORTED
                .because("context parameters are not simulated; pass null");
        }
        create(d, out, flags, device)
    })
}

fn create(d: &mut Driver, out: Out<CUcontext>, flags: u32, device: CUdevice) -> Result {
    d.check_device(device)?;
    out.required()?;
    let context = d.create_context(flags)?;
    STACK.with(|s| s.borrow_mut().push(context));
    out.set(context)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxDestroy_v2(context: CUcontext) -> Status {
    call("cuCtxDestroy_v2", |d| {
        d.known_context(context)?;
        if d.primary.context == Some(context) {
            return Status::INVALID_CONTEXT
                .because("the primary context is released with cuDevicePrimaryCtxRelease");
        }
        STACK.with(|s| {
            let mut s = s.borrow_mut();
            if s.last() == Some(&context) {
                s.pop();
            }
        });
        d.destroy_context(context)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxPushCurrent_v2(context: CUcontext) -> Status {
    call("cuCtxPushCurrent_v2", |d| {
        d.known_context(context)?;
        STACK.with(|s| s.borrow_mut().push(context));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxPopCurrent_v2(out: Out<CUcontext>) -> Status {
    call("cuCtxPopCurrent_v2", |_| match STACK.with(|s| s.borrow_mut().pop()) {
        Some(context) => {
            out.set_if_wanted(context);
            Ok(())
        }
        None => Status::INVALID_CONTEXT.because("no context is current in this thread"),
    })
}

/// Replaces the current context; 0 leaves none.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(context: CUcontext) -> Status {
    call("cuCtxSetCurrent", |d| {
        if context != 0 {
            d.known_context(context)?;
        }
        STACK.with(|s| {
            let mut s = s.borrow_mut();
            s.pop();
            s.extend((context != 0).then_some(context));
        });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetCurrent(out: Out<CUcontext>) -> Status {
    call("cuCtxGetCurrent", |_| out.set(STACK.with(|s| s.borrow().last().copied().unwrap_or(0))))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetDevice(out: Out<CUdevice>) -> Status {
    call("cuCtxGetDevice", |d| {
        d.current()?;
        out.set(0)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetFlags(out: Out<c_uint>) -> Status {
    call("cuCtxGetFlags", |d| out.set(d.contexts.get(d.current()?)?.flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetFlags(flags: c_uint) -> Status {
    call("cuCtxSetFlags", |d| {
        let context = d.current()?;
        if flags & !FLAGS != 0 {
            return Status::INVALID_VALUE.because(format!("unknown context flags {flags:#x}"));
        }
        d.contexts.get_mut(context)?.flags = flags;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetId(context: CUcontext, out: Out<c_ulonglong>) -> Status {
    call("cuCtxGetId", |d| {
        let context = if context == 0 { d.current()? } else { context };
        d.known_context(context)?;
        out.set(context as u64)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetApiVersion(context: CUcontext, out: Out<c_uint>) -> Status {
    call("cuCtxGetApiVersion", |d| {
        if context != 0 {
            d.known_context(context)?;
        }
        out.set(3020)
    })
}

/// Waits for all work of the current context.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize() -> Status {
    call("cuCtxSynchronize", |d| {
        let context = d.current()?;
        d.refuse_captures_of(context, "cuCtxSynchronize")?;
        d.run_context(context)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetLimit(out: Out<usize>, limit: c_uint) -> Status {
    call("cuCtxGetLimit", |d| {
        let context = d.contexts.get(d.current()?)?;
        let default = default_limit(limit)?;
        out.set(context.limits.get(&limit).copied().unwrap_or(default))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetLimit(limit: c_uint, value: usize) -> Status {
    call("cuCtxSetLimit", |d| {
        let context = d.current()?;
        default_limit(limit)?;
        d.contexts.get_mut(context)?.limits.insert(limit, value);
        Ok(())
    })
}

fn default_limit(limit: u32) -> Result<usize> {
    match LIMITS.iter().find(|l| l.0 == limit) {
        Some(&(_, value)) => Ok(value),
        None => Status::UNSUPPORTED_LIMIT.because(format!("limit {limit} is not simulated")),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetCacheConfig(out: Out<c_uint>) -> Status {
    call("cuCtxGetCacheConfig", |d| out.set(d.contexts.get(d.current()?)?.cache_config))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCacheConfig(config: c_uint) -> Status {
    call("cuCtxSetCacheConfig", |d| {
        let context = d.current()?;
        if config > 3 {
            return Status::INVALID_VALUE
                .because(format!("expected a cache config, found {config}"));
        }
        d.contexts.get_mut(context)?.cache_config = config;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetStreamPriorityRange(least: Out<c_int>, greatest: Out<c_int>) -> Status {
    call("cuCtxGetStreamPriorityRange", |d| {
        d.current()?;
        least.set_if_wanted(PRIORITIES.0);
        greatest.set_if_wanted(PRIORITIES.1);
        Ok(())
    })
}

/// Nothing is kept in L2 here, so nothing needs resetting.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxResetPersistingL2Cache() -> Status {
    call("cuCtxResetPersistingL2Cache", |d| d.current().map(|_| ()))
}
