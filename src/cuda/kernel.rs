//! Kernels as typed values: argument types are checked against the loaded kernel once, and every
//! launch is [`Launch`], whether it goes to the stream or into a graph.

use std::ffi::c_void;
use std::marker::PhantomData;

use cudarc::driver::sys;

use super::driver::Driver;
use crate::error::{Error, Result};

/// Most arguments of a kernel.
const ARGUMENTS: usize = 24;
/// Dynamic shared memory that a kernel may have without asking: 48 KiB, less some for its static variables.
const SHARED: u32 = 32 << 10;

/// A loaded kernel that takes arguments `A`, a tuple.
pub(super) struct Kernel<A> {
    function: sys::CUfunction,
    name: &'static str,
    arguments: PhantomData<fn(A)>,
}

// SAFETY: a handle that the driver lets any thread use.
unsafe impl<A> Send for Kernel<A> {}
// SAFETY: likewise.
unsafe impl<A> Sync for Kernel<A> {}

/// One launch, ready for the driver. Two are equal when they do the same.
#[derive(Clone, PartialEq)]
pub(super) struct Launch {
    pub function: sys::CUfunction,
    pub name: &'static str,
    pub grid: [u32; 3],
    pub threads: u32,
    /// Dynamic shared memory in bytes.
    pub shared: u32,
    slots: [u64; ARGUMENTS],
    count: usize,
}

// SAFETY: as `Kernel`.
unsafe impl Send for Launch {}

impl Launch {
    /// Where the driver finds the arguments; valid while `self` stays where it is.
    pub fn pointers(&self) -> [*mut c_void; ARGUMENTS] {
        let mut pointers = [std::ptr::null_mut(); ARGUMENTS];
        for (pointer, slot) in pointers.iter_mut().zip(&self.slots[..self.count]) {
            *pointer = std::ptr::from_ref(slot).cast_mut().cast();
        }
        pointers
    }

    /// Queues it on the driver's stream.
    pub fn queue(&self, driver: &Driver) -> Result<()> {
        driver.bind()?;
        let mut pointers = self.pointers();
        let ([x, y, z], stream) = (self.grid, driver.stream.cu_stream());
        // SAFETY: the arguments have the kernel's types, as `Kernel::load` found; that addresses and sizes
        // belong together was checked in `ops`.
        let launched = unsafe {
            sys::cuLaunchKernel(
                self.function,
                x,
                y,
                z,
                self.threads,
                1,
                1,
                self.shared,
                stream,
                pointers.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        let what = || format!("launching {}", self.describe());
        launched.result().map_err(|e| driver.failed(&what(), e))
    }

    /// "kernel `name`, grid [4, 1, 1], 128 threads".
    pub fn describe(&self) -> String {
        format!(
            "kernel {}, grid {:?}, {} threads, {} bytes of shared memory",
            self.name, self.grid, self.threads, self.shared
        )
    }
}

impl<A: Arguments> Kernel<A> {
    /// Finds `name` and checks that it takes `A`; `shared` is the most dynamic shared memory, in bytes,
    /// that it will be launched with.
    pub fn load(
        driver: &Driver,
        module: sys::CUmodule,
        name: &'static str,
        shared: u32,
    ) -> Result<Self> {
        let function = driver.function(module, name)?;
        let found = parameters(driver, function);
        if found.as_ref().is_some_and(|found| found != A::BYTES) {
            let problem = format!(
                "kernel {name} has parameters of {:?} bytes, the runtime passes {:?}: kernels and runtime \
                 are not of one build",
                found.unwrap_or_default(),
                A::BYTES
            );
            return Err(Error::Device { device: "cuda".into(), problem });
        }
        if shared > SHARED {
            let attribute =
                sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is loaded.
            let set =
                unsafe { sys::cuFuncSetAttribute(function, attribute, shared as i32) }.result();
            let what = || format!("giving kernel {name} {shared} bytes of shared memory");
            set.map_err(|e| driver.failed(&what(), e))?;
        }
        driver.loaded.lock().unwrap_or_else(|e| e.into_inner()).push((name, shared));
        Ok(Kernel { function, name, arguments: PhantomData })
    }

    /// Blocks of `threads` threads and `shared` bytes of dynamic shared memory that the device holds at once.
    pub fn resident(&self, driver: &Driver, threads: u32, shared: u32) -> Result<u32> {
        let mut blocks = 0;
        // SAFETY: the function is loaded; `blocks` is written.
        let asked = unsafe {
            sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(
                &mut blocks,
                self.function,
                threads as i32,
                shared as usize,
            )
        };
        let what = || format!("asking how many blocks of kernel {} fit", self.name);
        asked.result().map_err(|e| driver.failed(&what(), e))?;
        Ok(blocks.max(0) as u32 * driver.multiprocessors)
    }

    /// A launch over `grid` blocks of `threads` threads with `shared` bytes of dynamic shared memory.
    pub fn on(&self, grid: [u32; 3], threads: u32, shared: u32, arguments: A) -> Launch {
        let Kernel { function, name, .. } = *self;
        let (slots, count) = (arguments.slots(), A::BYTES.len());
        Launch { function, name, grid, threads, shared, slots, count }
    }
}

/// Bytes of each of a kernel's parameters; drivers before CUDA 12.4 cannot say.
fn parameters(driver: &Driver, function: sys::CUfunction) -> Option<Vec<usize>> {
    type Info =
        unsafe extern "C" fn(sys::CUfunction, usize, *mut usize, *mut usize) -> sys::CUresult;
    let mut found = Vec::new();
    let (mut offset, mut bytes) = (0, 0);
    // SAFETY: the function is loaded; a parameter too many is an error that ends the loop.
    unsafe {
        let info = driver.symbol::<Info>("cuFuncGetParamInfo").ok()?;
        while info(function, found.len(), &mut offset, &mut bytes) == sys::CUresult::CUDA_SUCCESS {
            found.push(bytes);
        }
    }
    Some(found)
}

/// A kernel's argument.
pub(super) trait Argument: Copy {
    const BYTES: usize = size_of::<Self>();
    fn slot(self) -> u64;
}

impl Argument for u32 {
    fn slot(self) -> u64 {
        self.into()
    }
}
impl Argument for f32 {
    fn slot(self) -> u64 {
        self.to_bits().into()
    }
}
/// An address on the device, or 64 bits of a seed.
impl Argument for u64 {
    fn slot(self) -> u64 {
        self
    }
}

/// The arguments of a kernel, in order.
pub(super) trait Arguments: Copy {
    const BYTES: &'static [usize];
    fn slots(self) -> [u64; ARGUMENTS];
}

macro_rules! arguments {
    ($($name:ident)+) => {
        impl<$($name: Argument),+> Arguments for ($($name,)+) {
            const BYTES: &'static [usize] = &[$($name::BYTES),+];
            #[allow(non_snake_case, reason = "a variable per type")]
            fn slots(self) -> [u64; ARGUMENTS] {
                let ($($name,)+) = self;
                let mut slots = [0; ARGUMENTS];
                let values = [$($name.slot()),+];
                slots[..values.len()].copy_from_slice(&values);
                slots
            }
        }
    };
}

arguments!(A B);
arguments!(A B C);
arguments!(A B C D);
arguments!(A B C D E);
arguments!(A B C D E F);
arguments!(A B C D E F G);
arguments!(A B C D E F G H);
arguments!(A B C D E F G H I);
arguments!(A B C D E F G H I J);
arguments!(A B C D E F G H I J K);
arguments!(A B C D E F G H I J K L);
arguments!(A B C D E F G H I J K L M);
arguments!(A B C D E F G H I J K L M N);
arguments!(A B C D E F G H I J K L M N O);
arguments!(A B C D E F G H I J K L M N O P);
arguments!(A B C D E F G H I J K L M N O P Q);
