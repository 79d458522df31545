//! The driver: finding it, opening a device, and saying what went wrong.

use std::ffi::CString;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use cudarc::driver::sys::{self, CUdevice_attribute, CUresult};
use cudarc::driver::{CudaContext, CudaStream, DriverError, result};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The oldest GPU generation that the kernels run on: Ampere, for `cp.async` and bf16 `mma`.
const OLDEST: (i32, i32) = (8, 0);

/// The first generation whose launches can overlap: Hopper.
pub(super) const OVERLAPS: u32 = 90;

/// One device with the stream that all work goes through.
pub(super) struct Driver {
    pub context: Arc<CudaContext>,
    pub stream: Arc<CudaStream>,
    /// Name, memory and compute capability, for reports.
    pub description: String,
    pub ordinal: usize,
    pub multiprocessors: u32,
    /// Compute capability times 10.
    capability: u32,
    /// Which code the kernels were loaded from.
    pub target: Mutex<Target>,
    /// Every kernel with its most dynamic shared memory in bytes.
    pub loaded: Mutex<Vec<(&'static str, u32)>>,
    /// Over the kernels' images, in the order of loading.
    hash: Mutex<blake3::Hasher>,
    identity: Identity,
    /// Some kernels were compiled for GPUs on which launches cannot overlap, or elsewhere: they do not wait
    /// for those before.
    no_turns: AtomicBool,
}

/// One compiled kernel file.
pub(super) struct Image {
    pub unit: &'static str,
    /// Compute capability, times 10, that it was compiled for.
    pub capability: u32,
    /// Machine code for that capability, or PTX, which newer ones run too.
    pub cubin: bool,
    /// PTX ends in a zero byte.
    pub bytes: &'static [u8],
}

/// What the speed of a kernel depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The device's name.
    pub device: String,
    /// The CUDA version of the driver, 13000 for 13.0.
    pub driver: i32,
    /// Hash of the kernels' code, 16 hexadecimal digits.
    pub kernels: String,
    /// It is no device but ptxsim: its times are made up.
    pub simulated: bool,
}

/// What a kernel file was compiled for.
#[derive(Clone, Copy, Default)]
pub(super) struct Target {
    cubin: bool,
    capability: u32,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", if self.cubin { "sm" } else { "compute" }, self.capability)
    }
}

impl Driver {
    /// Opens device `ordinal`; the error says what is missing and what to do.
    pub fn open(ordinal: usize) -> Result<Self> {
        let fail = |problem: String| Err(Error::Device { device: name(ordinal), problem });
        if !is_present() {
            return fail(
                "there is no CUDA driver (libcuda.so.1) on this machine; install NVIDIA's driver, or use \
                 --device cpu"
                    .into(),
            );
        }
        let call = |what, e: DriverError| failed(ordinal, what, e);
        result::init().map_err(|e| call("starting the driver", e))?;
        let count = CudaContext::device_count().map_err(|e| call("counting devices", e))?;
        if ordinal >= count.max(0) as usize {
            return fail(format!(
                "the driver has {count} CUDA devices, numbered from 0; choose another"
            ));
        }
        let context = CudaContext::new(ordinal).map_err(|e| call("opening the device", e))?;
        // SAFETY: all work goes through one stream, so no event has to order anything.
        unsafe { context.disable_event_tracking() };
        let title = context.name().map_err(|e| call("asking for its name", e))?;
        let capability =
            context.compute_capability().map_err(|e| call("asking for its capability", e))?;
        if capability < OLDEST {
            let (major, minor) = capability;
            return fail(format!(
                "{title} has compute capability {major}.{minor}; the kernels need {}.{} (Ampere) or newer; use \
                 --device cpu",
                OLDEST.0, OLDEST.1
            ));
        }
        let uuid = context.uuid().map_err(|e| call("asking for its identity", e))?;
        let simulated = uuid.bytes.iter().zip(b"ptxsim").all(|(a, b)| *a as u8 == *b);
        let mut version = 0;
        // SAFETY: the driver is started; `version` is written.
        unsafe { sys::cuDriverGetVersion(&mut version) }
            .result()
            .map_err(|e| call("asking for the driver's version", e))?;
        let identity =
            Identity { device: title.clone(), driver: version, kernels: String::new(), simulated };
        let multiprocessors = context
            .attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
            .map_err(|e| call("asking for its multiprocessors", e))?;
        let memory = context.total_mem().map_err(|e| call("asking for its memory", e))?;
        let stream = context.new_stream().map_err(|e| call("making a stream", e))?;
        let (major, minor) = capability;
        let description = format!(
            "{title}, {multiprocessors} SMs, {:.0} GiB, compute {major}.{minor}",
            memory as f64 / f64::from(1 << 30)
        );
        Ok(Driver {
            context,
            stream,
            description,
            ordinal,
            multiprocessors: multiprocessors as u32,
            capability: (capability.0 * 10 + capability.1) as u32,
            target: Mutex::default(),
            loaded: Mutex::default(),
            hash: Mutex::new(blake3::Hasher::new()),
            identity,
            no_turns: AtomicBool::new(false),
        })
    }

    /// Makes the device current for the calling thread.
    pub fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(|e| self.failed("making the device current", e))
    }

    /// Loads a kernel file: machine code of this generation where there is some and the driver takes it,
    /// else the newest PTX that the device runs.
    pub fn load(&self, unit: &str, images: &[Image]) -> Result<sys::CUmodule> {
        self.bind()?;
        let fits = |image: &&Image| {
            let generation = !image.cubin || image.capability / 10 == self.capability / 10;
            image.unit == unit && generation && image.capability <= self.capability
        };
        let newest = |cubin| {
            let images = images.iter().filter(fits).filter(|image| image.cubin == cubin);
            images.max_by_key(|image| image.capability)
        };
        let ptx = newest(false).expect("every kernels/NAME.cu has PTX for the oldest device");
        // A driver that is older than the compiler takes its PTX, which is of a low version, but no cubin.
        for image in newest(true).into_iter().chain([ptx]) {
            // SAFETY: PTX ends in a zero byte and a cubin holds its length; the module is never unloaded.
            match unsafe { result::module::load_data(image.bytes.as_ptr().cast()) } {
                Ok(module) => {
                    self.loaded_code(unit, image.bytes);
                    self.no_turns.fetch_or(image.capability < OVERLAPS, Ordering::Relaxed);
                    let target = Target { cubin: image.cubin, capability: image.capability };
                    *self.target.lock().unwrap_or_else(|e| e.into_inner()) = target;
                    return Ok(module);
                }
                Err(DriverError(
                    CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU | CUresult::CUDA_ERROR_INVALID_IMAGE,
                )) if image.cubin => {}
                Err(e) => return Err(self.failed(&format!("loading kernels/{unit}.cu"), e)),
            }
        }
        unreachable!("PTX is loaded, or is an error")
    }

    /// Loads a kernel file from PTX text of the user's.
    pub fn load_text(&self, path: &Path, text: &str) -> Result<sys::CUmodule> {
        self.bind()?;
        self.no_turns.store(true, Ordering::Relaxed);
        let what = || format!("loading {}", path.display());
        self.loaded_code("", text.as_bytes());
        let text =
            CString::new(text).map_err(|_| Error::model(path, "not PTX: it holds a zero byte"))?;
        // SAFETY: the text ends in a zero byte; the module is never unloaded.
        let module = unsafe { result::module::load_data(text.as_ptr().cast()) };
        module.map_err(|e| self.failed(&what(), e))
    }

    /// Whether every kernel waits for the launches before it by itself (`take_turn`), so that the next may
    /// start while one runs.
    pub fn overlaps(&self) -> bool {
        !self.no_turns.load(Ordering::Relaxed)
    }

    fn loaded_code(&self, unit: &str, code: &[u8]) {
        let mut hash = self.hash.lock().unwrap_or_else(|e| e.into_inner());
        hash.update(unit.as_bytes()).update(code);
    }

    /// This device with its driver and the kernels loaded so far.
    pub fn identity(&self) -> Identity {
        let hash = self.hash.lock().unwrap_or_else(|e| e.into_inner());
        let kernels = hash.finalize().to_hex()[..16].to_string();
        Identity { kernels, ..self.identity.clone() }
    }

    /// A kernel of a module.
    pub fn function(&self, module: sys::CUmodule, name: &str) -> Result<sys::CUfunction> {
        let c_name = CString::new(name).expect("kernel names hold no zero byte");
        // SAFETY: the module is loaded.
        let function = unsafe { result::module::get_function(module, c_name) };
        function.map_err(|e| self.failed(&format!("finding kernel {name}"), e))
    }

    /// A function of the driver's library.
    ///
    /// # Safety
    /// `F` is the function's type.
    pub unsafe fn symbol<F: Copy>(&self, name: &str) -> Result<F> {
        // SAFETY: the library is loaded, as this device is open; the type is the caller's.
        let symbol = unsafe { sys::culib().get::<F>(name.as_bytes()) };
        symbol.map(|f| *f).map_err(|_| Error::Device {
            device: self::name(self.ordinal),
            problem: format!(
                "the driver has no {name}; version 525 (CUDA 12.0) or newer is needed"
            ),
        })
    }

    /// An error of this device.
    pub fn failed(&self, what: &str, error: DriverError) -> Error {
        failed(self.ordinal, what, error)
    }
}

/// Whether the driver's library can be loaded.
pub(super) fn is_present() -> bool {
    // SAFETY: loading NVIDIA's library runs its initialisers only.
    unsafe { sys::is_culib_present() }
}

/// How users name a device.
fn name(ordinal: usize) -> String {
    if ordinal == 0 { "cuda".into() } else { format!("cuda:{ordinal}") }
}

fn failed(ordinal: usize, what: &str, error: DriverError) -> Error {
    let code = error.error_name().map(|n| n.to_string_lossy().into_owned());
    let words = error.error_string().map(|s| s.to_string_lossy().into_owned());
    let advice = match error.0 {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => "; free some, or use --device cpu",
        CUresult::CUDA_ERROR_NO_DEVICE => {
            "; no GPU is visible (CUDA_VISIBLE_DEVICES?); use --device cpu"
        }
        CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION | CUresult::CUDA_ERROR_INVALID_PTX => {
            "; the driver is too old for these kernels: version 525 (CUDA 12.0) or newer is needed"
        }
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
        | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
        | CUresult::CUDA_ERROR_LAUNCH_FAILED => "; this is a mistake in muse: please report it",
        _ => "",
    };
    let problem = format!(
        "{what} failed: {} ({}){advice}",
        words.unwrap_or_else(|_| "unknown error".into()),
        code.unwrap_or_else(|_| format!("{:?}", error.0)),
    );
    Error::Device { device: name(ordinal), problem }
}
