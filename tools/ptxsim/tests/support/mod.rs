//! A device for tests: loads a fixture, launches its kernels, collects findings.
#![allow(dead_code, reason = "each test crate uses a part")]

use ptxsim::arith::mma::TensorCore;
use ptxsim::exec::{Counters, Fault, HANG, Launch, Level, LoadedModule, Machine, launch, load_for};
use ptxsim::finding::{Finding, Findings};
use ptxsim::memory::Memory;

pub struct Device {
    pub memory: Memory,
    pub machine: Machine,
    pub findings: Findings,
    pub module: LoadedModule,
    /// Blocks that it holds at once.
    pub resident: u64,
}

/// A kernel argument.
pub enum Arg {
    Word(u32),
    Float(f32),
    Address(u64),
}

impl Device {
    /// The fixture `tests/ptx/NAME.ptx`.
    pub fn fixture(name: &str, level: Level) -> Device {
        let path = format!("{}/tests/ptx/{name}.ptx", env!("CARGO_MANIFEST_DIR"));
        Device::new(&std::fs::read_to_string(path).expect("fixture"), level)
    }

    pub fn new(ptx: &str, level: Level) -> Device {
        let memory = Memory::new(1 << 30).expect("address space");
        let module = load_for(ptx, &memory, level).unwrap_or_else(|e| panic!("{e}"));
        let machine = Machine {
            tensor_core: TensorCore::Ampere,
            threads: 1,
            seed: 0,
            checks: true,
            counters: false,
            l2_bytes: 50 << 20,
            perturb: None,
            hang: HANG,
        };
        Device { memory, machine, findings: Findings::default(), module, resident: 256 }
    }

    /// A buffer with this content.
    pub fn upload<T: Copy>(&self, values: &[T]) -> u64 {
        let bytes = size_of_val(values);
        let address = self.memory.allocate(bytes as u64, "test").expect("memory");
        // SAFETY: plain numbers.
        let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), bytes) };
        self.memory.write(address, bytes).expect("own buffer");
        address
    }

    /// A buffer that nothing has written.
    pub fn allocate(&self, bytes: usize) -> u64 {
        self.memory.allocate(bytes as u64, "test").expect("memory")
    }

    pub fn download<T: Copy + Default>(&self, address: u64, count: usize) -> Vec<T> {
        let mut values = vec![T::default(); count];
        let bytes = count * size_of::<T>();
        // SAFETY: plain numbers.
        let to = unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), bytes) };
        self.memory.read(address, to).expect("own buffer");
        values
    }

    pub fn launch(
        &self,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: u32,
        args: &[Arg],
    ) -> Result<Counters, Fault> {
        let kernel = self.module.kernels.iter().find(|k| k.name == kernel).expect("kernel");
        let size = kernel.params.iter().map(|&(at, bytes)| at + bytes).max().unwrap_or(0);
        let mut params = vec![0; size];
        assert_eq!(args.len(), kernel.params.len(), "arguments");
        for (arg, &(at, bytes)) in args.iter().zip(&kernel.params) {
            let value = match *arg {
                Arg::Word(x) => u64::from(x),
                Arg::Float(x) => u64::from(x.to_bits()),
                Arg::Address(x) => x,
            };
            params[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
        }
        let request = Launch {
            kernel,
            grid,
            block,
            shared_bytes,
            params: &params,
            cooperative: false,
            since: None,
            resident: self.resident,
        };
        launch(&self.machine, &self.memory, &self.findings, &request)
    }

    /// Fails the test if there are findings.
    pub fn clean(&self) {
        let findings = self.findings.take();
        assert!(findings.is_empty(), "{}", report(&findings));
    }
}

pub fn report(findings: &[Finding]) -> String {
    findings.iter().map(|f| format!("{f}\n")).collect()
}

/// SplitMix64, as floats in −1…1 and as words.
pub struct Random(pub u64);

impl Random {
    pub fn word(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 32) as u32
    }

    pub fn float(&mut self) -> f32 {
        self.word() as f32 / 2f32.powi(31) - 1.0
    }

    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }
}
