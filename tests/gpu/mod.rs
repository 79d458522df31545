//! The CUDA device of the tests: the machine's first GPU; where there is none, the simulator, which ends the
//! test program at its first finding (an access out of bounds, a race, a read of what nothing wrote …).

use muse::cuda::Cuda;
use std::sync::OnceLock;

/// Makes a driver available; before anything asks for one.
pub fn ready() {
    static READY: OnceLock<()> = OnceLock::new();
    READY.get_or_init(|| {
        if !Cuda::is_present() {
            // SAFETY: before the simulator is loaded, which alone reads it.
            unsafe { std::env::set_var("PTXSIM_STRICT", "1") };
            ptxsim::preload().unwrap();
        }
    });
}

/// The device, one for all tests of a program.
pub fn cuda() -> &'static Cuda {
    static DEVICE: OnceLock<Cuda> = OnceLock::new();
    DEVICE.get_or_init(|| {
        ready();
        Cuda::new(0).unwrap()
    })
}
