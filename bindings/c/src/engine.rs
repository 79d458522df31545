//! Engines, and what they do.

use std::ffi::{CString, c_char};
use std::mem::offset_of;

use muse::decode::OnStep;
use muse::{EngineOptions as Options, Result};

use crate::images::Images;
use crate::numbers::Status;
use crate::request::Request;
use crate::sized::{self, Grows};
use crate::status::{guarded, text, unusable};
use crate::step::{Step, show};

/// A loaded model. Any number of threads may use it, and are served in the order in which they came.
pub struct Engine {
    pub(crate) engine: muse::Engine,
    name: CString,
    device: CString,
    dtype: CString,
}

/// How an engine is set up; zero or NULL is what is usual.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EngineOptions {
    /// sizeof(muse_engine_options).
    pub size: usize,
    /// "cpu" (the default), "cuda", "cuda:N", or "auto", the first GPU or else the processor.
    pub device: *const c_char,
    /// "bf16" (the default); on the processor also "f32" or "int8".
    pub dtype: *const c_char,
    /// Threads on the processor, 0 for all cores. Images do not depend on it.
    pub threads: usize,
}

// SAFETY: its first field is the size, and numbers and pointers have no forbidden values.
unsafe impl Grows for EngineOptions {
    const NAME: &'static str = "options";
    const FIRST: usize = offset_of!(EngineOptions, threads) + size_of::<usize>();
}

impl EngineOptions {
    /// # Safety
    /// Its pointers are NULL or good.
    unsafe fn meant(&self) -> Result<Options> {
        let mut options = Options::default();
        // SAFETY: the caller's word.
        let (device, dtype) =
            unsafe { (sized::text("device", self.device)?, sized::text("dtype", self.dtype)?) };
        if let Some(device) = device {
            options.device = device.parse().map_err(|e: String| unusable("device", device, e))?;
        }
        if let Some(dtype) = dtype {
            options.dtype = dtype.parse().map_err(|e: String| unusable("dtype", dtype, e))?;
        }
        options.threads = (self.threads > 0).then_some(self.threads);
        Ok(options)
    }
}

/// Loads the model directory path. options may be NULL. Free the engine with muse_engine_free; on failure it is NULL.
///
/// Every pointer is NULL or good.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muse_engine_load(
    path: *const c_char,
    options: *const EngineOptions,
    engine: *mut *mut Engine,
) -> Status {
    // SAFETY: the caller's word.
    guarded(|| unsafe {
        let place = sized::place("engine", engine)?;
        let path = sized::text("path", path)?.ok_or_else(|| sized::null("path"))?;
        let nothing = EngineOptions {
            size: 0,
            device: std::ptr::null(),
            dtype: std::ptr::null(),
            threads: 0,
        };
        let options = match options.is_null() {
            true => nothing,
            false => sized::read(options, nothing)?,
        };
        let engine = muse::Engine::load(path, options.meant()?)?;
        *place = Box::into_raw(Box::new(Engine {
            name: text(engine.name()),
            device: text(&engine.device()),
            dtype: text(&engine.dtype().to_string()),
            engine,
        }));
        Ok(())
    })
}

/// Frees an engine; NULL is nothing. No other call may be using it. Images that it made remain.
///
/// engine is NULL or good, and is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muse_engine_free(engine: *mut Engine) {
    if !engine.is_null() {
        // SAFETY: it is ours, and the caller's word.
        guarded(|| unsafe {
            drop(Box::from_raw(engine));
            Ok(())
        });
    }
}

/// What an engine is. Set its size before it is filled; the engine owns the texts.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EngineInfo {
    /// sizeof(muse_engine_info).
    pub size: usize,
    /// What the model is called.
    pub name: *const c_char,
    /// The device, in words.
    pub device: *const c_char,
    /// "bf16", "f32" or "int8".
    pub dtype: *const c_char,
    /// Calls that wait for their turn, at this moment.
    pub waiting: usize,
}

// SAFETY: its first field is the size, and numbers and pointers have no forbidden values.
unsafe impl Grows for EngineInfo {
    const NAME: &'static str = "info";
    const FIRST: usize = offset_of!(EngineInfo, waiting) + size_of::<usize>();
}

/// Fills info.
///
/// engine is NULL or good; info is NULL or as large as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muse_engine_describe(
    engine: *const Engine,
    info: *mut EngineInfo,
) -> Status {
    // SAFETY: the caller's word.
    guarded(|| unsafe {
        let Engine { engine, name, device, dtype } = sized::at("engine", engine)?;
        let (name, device, dtype) = (name.as_ptr(), device.as_ptr(), dtype.as_ptr());
        let size = size_of::<EngineInfo>();
        sized::write(info, &EngineInfo { size, name, device, dtype, waiting: engine.waiting() })
    })
}

/// Makes the images of a request, generated or edited, when its turn has come. Free them with muse_images_free; on
/// failure they are NULL.
///
/// Every pointer is NULL or good.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muse_generate(
    engine: *const Engine,
    request: *const Request,
    images: *mut *mut Images,
) -> Status {
    // SAFETY: the caller's word.
    guarded(|| unsafe {
        let images = sized::place("images", images)?;
        let engine = &sized::at("engine", engine)?.engine;
        let request = Request::read(request)?;
        if request.count == 0 {
            return Err(unusable("count", 0, "at least 1"));
        }
        let meant = request.meant()?;
        let mut shown;
        let on_step: Option<&mut OnStep<'_>> = match request.on_step {
            None => None,
            Some(on_step) => {
                shown = move |step: muse::decode::Step<'_>| show(&step, on_step, request.user);
                Some(&mut shown)
            }
        };
        let results = engine.generate_many(&meant, request.count as usize, on_step)?;
        *images = Box::into_raw(Images::made(&meant, results));
        Ok(())
    })
}

/// The picture of a step's grid, masked cells hatched, while its callback runs; on any thread. Free it with
/// muse_images_free.
///
/// Every pointer is NULL or good, and step that of a callback which has not returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muse_preview(
    engine: *const Engine,
    step: *const Step,
    images: *mut *mut Images,
) -> Status {
    // SAFETY: the caller's word.
    guarded(|| unsafe {
        let images = sized::place("images", images)?;
        let engine = &sized::at("engine", engine)?.engine;
        let origin = sized::at("step", step)?.origin.cast::<muse::decode::Step<'_>>();
        *images = Box::into_raw(Images::one(engine.preview(sized::at("step", origin)?)?));
        Ok(())
    })
}

/// Cancels requests from another thread.
pub struct Cancel(pub(crate) muse::Cancel);

/// A new one, for one request or several. Free it with muse_cancel_free.
#[unsafe(no_mangle)]
pub extern "C" fn muse_cancel_new() -> *mut Cancel {
    let mut new = std::ptr::null_mut();
    guarded(|| {
        new = Box::into_raw(Box::new(Cancel(muse::Cancel::new())));
        Ok(())
    });
    new
}

/// Cancels the requests that have it, those to come too: those that wait at once, one that runs after its step. On any
/// thread; not in a signal handler.
///
/// cancel is NULL or good.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muse_cancel_now(cancel: *const Cancel) -> Status {
    // SAFETY: the caller's word.
    guarded(|| unsafe {
        sized::at("cancel", cancel)?.0.cancel();
        Ok(())
    })
}

/// Frees it; NULL is nothing. Requests that have it go on.
///
/// cancel is NULL or good, and is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muse_cancel_free(cancel: *mut Cancel) {
    if !cancel.is_null() {
        // SAFETY: it is ours, and the caller's word.
        guarded(|| unsafe {
            drop(Box::from_raw(cancel));
            Ok(())
        });
    }
}
