//! An engine with a handful of kernels, whatever the text says.

use std::ffi::CStr;
use std::sync::Arc;

use ptxsim::driver::engine::{Engine, KernelInfo, Program, Request};
use ptxsim::exec::{Counters, Fault, Machine};
use ptxsim::finding::Findings;
use ptxsim::memory::{Home, Memory};
use ptxsim::ptx;

/// A text that it loads.
pub const TEXT: &CStr = c".version 8.0\n.target sm_80\n.address_size 64\n";

pub struct Toy;

#[derive(Debug)]
struct Kernels {
    kernels: Vec<KernelInfo>,
    globals: Vec<(String, u64, u64)>,
}

impl Engine for Toy {
    fn load(&self, text: &str, memory: &Memory) -> Result<Arc<dyn Program>, ptx::Error> {
        if let Some(line) = text.lines().position(|l| l.contains("nonsense")) {
            let message = "unknown instruction nonsense".to_owned();
            return Err(ptx::Error { line: line as u32 + 1, message });
        }
        let table = memory.allocate_in(Home::Module, 16, "module variable").unwrap();
        memory.write(table, &[5; 16]).unwrap();
        Ok(Arc::new(Kernels { kernels: kernels(), globals: vec![("table".to_owned(), table, 16)] }))
    }
}

fn kernels() -> Vec<KernelInfo> {
    let kernel = |name: &str, params: usize| KernelInfo {
        name: name.to_owned(),
        params: (0..params).map(|n| (8 * n, 8)).collect(),
        registers: 32,
        max_threads: 1024,
        ..KernelInfo::default()
    };
    vec![
        // Adds 1 to each of n bytes.
        kernel("add_one", 2),
        kernel("nothing", 0),
        kernel("illegal", 0),
        kernel("misaligned", 0),
        kernel("trap", 0),
        KernelInfo { registers: 128, ..kernel("hungry", 0) },
        KernelInfo { static_shared_bytes: 16 << 10, ..kernel("shared", 0) },
        KernelInfo { max_threads: 64, ..kernel("bounded", 0) },
        KernelInfo {
            limits: ptx::ast::Limits { required_threads: Some([8, 4, 1]), ..Default::default() },
            ..kernel("required", 0)
        },
        // A 32-bit and a 64-bit parameter.
        KernelInfo { params: vec![(0, 4), (8, 8)], ..kernel("mixed", 0) },
    ]
}

impl Program for Kernels {
    fn kernels(&self) -> &[KernelInfo] {
        &self.kernels
    }

    fn globals(&self) -> &[(String, u64, u64)] {
        &self.globals
    }

    fn launch(
        &self,
        _: &Machine,
        memory: &Memory,
        _: &Findings,
        request: &Request<'_>,
    ) -> Result<Counters, Fault> {
        let param = |n: usize| {
            u64::from_le_bytes(request.params[8 * n..8 * n + 8].try_into().expect("8 bytes"))
        };
        match self.kernels[request.kernel].name.as_str() {
            "add_one" => {
                let mut bytes = vec![0; param(1) as usize];
                let bad = |e: ptxsim::memory::BadRange| Fault::IllegalAddress(e.to_string());
                memory.read(param(0), &mut bytes).map_err(bad)?;
                bytes.iter_mut().for_each(|b| *b = b.wrapping_add(1));
                memory.write(param(0), &bytes).map_err(bad)?;
            }
            "illegal" => return Err(Fault::IllegalAddress("planted".into())),
            "misaligned" => return Err(Fault::MisalignedAddress("planted".into())),
            "trap" => return Err(Fault::Trap("planted".into())),
            _ => {}
        }
        #[allow(clippy::needless_update, reason = "the executor may count more")]
        let counters = Counters {
            warp_instructions: 1000,
            thread_instructions: 32_000,
            ..Counters::default()
        };
        Ok(counters)
    }
}
