//! What is simulated, and how. The `PTXSIM_*` variables below are the only channel from `ptxsim run`, or
//! from a test, to the library in the program's process:
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `PTXSIM_DEVICE` | `a100`, `rtx4090`, `h100` or `rtx5090` | `h100` |
//! | `PTXSIM_SEED` | order of streams, blocks and warps; 0 is plain order, as late as legal | `0` |
//! | `PTXSIM_THREADS` | host threads that run blocks | all cores |
//! | `PTXSIM_CHECKS` | `0` leaves only what protects the host | `1` |
//! | `PTXSIM_COUNTERS` | `1` counts memory traffic and instruction classes, for the report | `0` |
//! | `PTXSIM_MMA` | `exact` sums as the device's tensor cores, `f32` plainly and faster | `exact` |
//! | `PTXSIM_PERTURB` | a number: approximate functions give other results within their documented error, which it seeds | none |
//! | `PTXSIM_HANG` | instructions of a block without progress after which a launch is held to hang (`exec::grid`); `0` never | 2^30 |
//! | `PTXSIM_DRIVER` | version of the driver, as `cuDriverGetVersion` gives it | `13000` |
//! | `PTXSIM_STRICT` | `1` ends the program at the call with the first finding, exit code 70 | `0` |
//! | `PTXSIM_REPORT` | file for the report at exit, `%p` being the process; without it findings go to standard error | none |
//! | `PTXSIM_QUIET` | `1` prints no explanations of refused calls | `0` |
//!
//! `PTXSIM_LIBRARY` is read by [`crate::preload`] and `ptxsim run`: the library's path, if it is not
//! beside the program.

use std::path::PathBuf;

use crate::arith::mma::TensorCore;
use crate::device::{self, Device};
use crate::exec::{HANG, Machine};

/// The emulated driver's version unless told otherwise: CUDA 13.0, PTX up to 9.0.
const DRIVER_VERSION: i32 = 13000;

/// The options of one run.
#[derive(Debug, Clone)]
pub struct Options {
    pub device: &'static Device,
    pub seed: u64,
    pub threads: usize,
    pub checks: bool,
    pub counters: bool,
    pub tensor_core: TensorCore,
    /// Seed of other results of approximate functions; None: correctly rounded.
    pub perturb: Option<u64>,
    /// Instructions of a block without progress that are a hang; 0: none.
    pub hang: u64,
    pub driver_version: i32,
    pub strict: bool,
    pub report: Option<PathBuf>,
    pub quiet: bool,
    /// Bytes of device memory; the device's own unless a test wants less.
    pub memory_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self::of(&device::H100)
    }
}

impl Options {
    /// The defaults for a device.
    pub fn of(device: &'static Device) -> Self {
        Self {
            device,
            seed: 0,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            checks: true,
            counters: false,
            tensor_core: device.tensor_core,
            perturb: None,
            hang: HANG,
            driver_version: DRIVER_VERSION,
            strict: false,
            report: None,
            quiet: false,
            memory_bytes: device.memory_bytes,
        }
    }

    /// The options in the environment; an error names the variable.
    pub fn from_environment() -> Result<Self, String> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let device = match get("PTXSIM_DEVICE") {
            Some(name) => device::by_name(&name).ok_or_else(|| {
                format!("PTXSIM_DEVICE: expected a100, rtx4090, h100 or rtx5090, found {name}")
            })?,
            None => &device::H100,
        };
        let defaults = Self::of(device);
        let number = |name: &str, default: u64| match get(name) {
            Some(text) => {
                text.parse().map_err(|_| format!("{name}: expected a number, found {text}"))
            }
            None => Ok(default),
        };
        let flag = |name: &str, default: bool| match get(name).as_deref() {
            Some("0") => Ok(false),
            Some("1") => Ok(true),
            Some(text) => Err(format!("{name}: expected 0 or 1, found {text}")),
            None => Ok(default),
        };
        let tensor_core = match get("PTXSIM_MMA").as_deref() {
            Some("exact") | None => device.tensor_core,
            Some("f32") => TensorCore::F32,
            Some(text) => return Err(format!("PTXSIM_MMA: expected exact or f32, found {text}")),
        };
        Ok(Self {
            seed: number("PTXSIM_SEED", defaults.seed)?,
            threads: number("PTXSIM_THREADS", defaults.threads as u64)?.max(1) as usize,
            checks: flag("PTXSIM_CHECKS", defaults.checks)?,
            counters: flag("PTXSIM_COUNTERS", defaults.counters)?,
            tensor_core,
            perturb: match get("PTXSIM_PERTURB") {
                Some(_) => Some(number("PTXSIM_PERTURB", 0)?),
                None => None,
            },
            hang: number("PTXSIM_HANG", defaults.hang)?,
            driver_version: number("PTXSIM_DRIVER", DRIVER_VERSION as u64)? as i32,
            strict: flag("PTXSIM_STRICT", defaults.strict)?,
            report: get("PTXSIM_REPORT").map(PathBuf::from),
            quiet: flag("PTXSIM_QUIET", defaults.quiet)?,
            ..defaults
        })
    }

    /// What the executor is told.
    pub(super) fn machine(&self) -> Machine {
        Machine {
            tensor_core: self.tensor_core,
            threads: self.threads,
            seed: self.seed,
            checks: self.checks,
            counters: self.counters,
            l2_bytes: self.device.l2_bytes,
            perturb: self.perturb,
            hang: self.hang,
        }
    }

    /// Newest PTX that the driver's JIT reads: 9.0 for CUDA 13.0, 8.x for 12.x (x one less from 12.7 on,
    /// where no PTX version came with the release).
    pub(super) fn ptx_version(&self) -> (u32, u32) {
        let (major, minor) = (self.driver_version / 1000, self.driver_version % 1000 / 10);
        match (major, minor) {
            (13.., minor) => (major as u32 - 4, minor as u32),
            (12, 7..) => (8, minor as u32 - 1),
            (12, 6) => (8, 5),
            (12, minor) => (8, minor as u32),
            (_, minor) => (7, minor as u32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_and_mistakes_named() {
        let read = |name: &'static str, value: &'static str| {
            Options::from_variables(move |n| (n == name).then(|| value.to_owned()))
        };
        assert_eq!(read("PTXSIM_DEVICE", "a100").unwrap().device.name, device::A100.name);
        assert_eq!(read("PTXSIM_SEED", "7").unwrap().seed, 7);
        assert!(!read("PTXSIM_CHECKS", "0").unwrap().checks);
        assert_eq!(read("PTXSIM_PERTURB", "3").unwrap().machine().perturb, Some(3));
        assert_eq!(read("PTXSIM_SEED", "3").unwrap().machine().perturb, None);
        assert_eq!(read("PTXSIM_HANG", "0").unwrap().machine().hang, 0);
        for (name, value) in [
            ("PTXSIM_DEVICE", "v100"),
            ("PTXSIM_SEED", "-1"),
            ("PTXSIM_PERTURB", "on"),
            ("PTXSIM_HANG", "soon"),
            ("PTXSIM_STRICT", "yes"),
            ("PTXSIM_MMA", "tf32"),
        ] {
            assert!(read(name, value).unwrap_err().starts_with(name));
        }
    }

    #[test]
    fn ptx_versions_follow_the_driver() {
        let ptx = |driver_version| Options { driver_version, ..Options::default() }.ptx_version();
        assert_eq!(ptx(13000), (9, 0));
        assert_eq!(ptx(12090), (8, 8));
        assert_eq!(ptx(12080), (8, 7));
        assert_eq!(ptx(12060), (8, 5));
        assert_eq!(ptx(12040), (8, 4));
        assert_eq!(ptx(11080), (7, 8));
    }
}
