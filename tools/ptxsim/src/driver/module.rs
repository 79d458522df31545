//! Modules and functions: loading PTX, finding kernels and variables.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::sync::Arc;

use super::abi::{CUcontext, CUdeviceptr, CUfunction, CUmodule, In, Out, Text};
use super::engine::{KernelInfo, Program};
use super::jit::{JitLog, read_image, read_options};
use super::state::{Driver, call};
use super::status::{Failure, Result, Status};
use crate::device::SHARED_PER_BLOCK;
use crate::memory::Home;

/// A loaded module.
#[derive(Debug)]
pub struct Module {
    pub context: CUcontext,
    program: Arc<dyn Program>,
    /// Handles given out, by index of the kernel.
    functions: BTreeMap<usize, CUfunction>,
    /// `.version` of its text, as 90 for 9.0.
    ptx_version: u32,
}

/// A kernel of a module, with its settings.
#[derive(Debug)]
pub struct Function {
    pub context: CUcontext,
    pub module: CUmodule,
    pub program: Arc<dyn Program>,
    pub kernel: usize,
    /// Dynamic shared memory that a launch may ask for.
    pub max_dynamic_shared: u32,
    carveout: c_int,
    name: CString,
}

impl Function {
    pub fn info(&self) -> &KernelInfo {
        &self.program.kernels()[self.kernel]
    }
}

impl Driver {
    fn load(&mut self, image: In<u8>, log: &mut JitLog) -> Result<CUmodule> {
        let context = self.current()?;
        self.refuse_unsafe("cuModuleLoadData")?;
        let text = read_image(image)?;
        let result = self.load_text(context, &text);
        if let Err(Failure { why, .. }) = &result {
            log.error(why);
        }
        result
    }

    fn load_text(&mut self, context: CUcontext, text: &str) -> Result<CUmodule> {
        let version = self.check_header(text)?;
        let program = match self.engine.load(text, &self.memory) {
            Ok(program) => program,
            Err(e) => return Status::INVALID_PTX.because(e.to_string()),
        };
        let ptx_version = version.0 * 10 + version.1;
        let module = Module { context, program, functions: BTreeMap::new(), ptx_version };
        Ok(self.modules.add(module))
    }

    /// What the driver refuses before it reads the rest: PTX newer than itself, or for another GPU.
    fn check_header(&self, text: &str) -> Result<(u32, u32)> {
        let directive = |name: &str| {
            text.lines()
                .map(str::trim_start)
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        let version = directive(".version").and_then(|v| {
            let (major, minor) = v.split_whitespace().next()?.split_once('.')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        });
        let Some(version) = version else {
            return Status::INVALID_PTX.because("expected PTX with a .version directive");
        };
        let newest = self.options.ptx_version();
        if version > newest {
            return Status::UNSUPPORTED_PTX_VERSION.because(format!(
                "PTX {}.{} is newer than {}.{}, the newest of driver {}; compile with an older \
                 toolkit or lower .version",
                version.0, version.1, newest.0, newest.1, self.options.driver_version
            ));
        }
        let target = directive(".target").unwrap_or("").split([',', ' ']).next().unwrap_or("");
        let digits: String =
            target.trim_start_matches("sm_").chars().take_while(char::is_ascii_digit).collect();
        let (major, minor) = self.options.device.capability;
        let here = major * 10 + minor;
        let sm: u32 = digits.parse().unwrap_or(u32::MAX);
        let specific = target.ends_with('a') && sm != here;
        let family = target.ends_with('f') && sm / 10 != major;
        if sm > here || specific || family {
            return Status::INVALID_PTX
                .because(format!("PTX for {target:?} does not run on sm_{here}"));
        }
        Ok(version)
    }

    /// Ends a module: its functions, and its variables' memory.
    pub fn drop_module(&mut self, module: CUmodule) -> Result {
        let gone = self.modules.remove(module)?;
        self.functions.retain(|f| f.module != module);
        for (_, address, _) in gone.program.globals() {
            if self.memory.find(*address).is_some_and(|a| a.home == Home::Module) {
                self.release(*address, Home::Module, "cuModuleUnload");
            }
        }
        Ok(())
    }

    fn get_function(&mut self, module: CUmodule, name: &str) -> Result<CUfunction> {
        let handle = module;
        let module = self.modules.get_mut(handle)?;
        let kernels = module.program.kernels();
        let Some(kernel) = kernels.iter().position(|k| k.name == name) else {
            let names: Vec<_> = kernels.iter().map(|k| k.name.as_str()).collect();
            return Status::NOT_FOUND
                .because(format!("no kernel {name}; the module has: {}", names.join(", ")));
        };
        if let Some(&function) = module.functions.get(&kernel) {
            return Ok(function);
        }
        let max_dynamic_shared =
            SHARED_PER_BLOCK.saturating_sub(kernels[kernel].static_shared_bytes);
        let function = self.functions.add(Function {
            context: module.context,
            module: handle,
            program: module.program.clone(),
            kernel,
            max_dynamic_shared,
            carveout: -1,
            name: CString::new(name).unwrap_or_default(),
        });
        module.functions.insert(kernel, function);
        Ok(function)
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadData(out: Out<CUmodule>, image: In<u8>) -> Status {
    call("cuModuleLoadData", |d| {
        out.required()?;
        out.set(d.load(image, &mut JitLog::default())?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadDataEx(
    out: Out<CUmodule>,
    image: In<u8>,
    count: c_uint,
    options: In<c_uint>,
    values: In<usize>,
) -> Status {
    call("cuModuleLoadDataEx", |d| {
        out.required()?;
        let mut log = read_options(count as usize, options, values)?;
        let result = d.load(image, &mut log);
        log.write(count as usize, options, values)?;
        out.set(result?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoad(out: Out<CUmodule>, path: Text) -> Status {
    call("cuModuleLoad", |d| {
        out.required()?;
        let path = path.get()?;
        let mut image = match std::fs::read(&path) {
            Ok(image) => image,
            Err(e) => return Status::FILE_NOT_FOUND.because(format!("{path}: {e}")),
        };
        image.push(0);
        // SAFETY: the bytes live until the end of this call, and end with a 0.
        let image = unsafe { In::from_address(image.as_ptr() as usize) };
        out.set(d.load(image, &mut JitLog::default())?)
    })
}

/// Waits for the context's work, which may still use the module.
#[unsafe(no_mangle)]
pub extern "C" fn cuModuleUnload(module: CUmodule) -> Status {
    call("cuModuleUnload", |d| {
        let context = d.modules.get(module)?.context;
        d.current()?;
        d.refuse_unsafe("cuModuleUnload")?;
        d.run_context(context)?;
        d.drop_module(module)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetFunction(
    out: Out<CUfunction>,
    module: CUmodule,
    name: Text,
) -> Status {
    call("cuModuleGetFunction", |d| {
        out.required()?;
        d.current()?;
        out.set(d.get_function(module, &name.get()?)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetFunctionCount(out: Out<c_uint>, module: CUmodule) -> Status {
    call("cuModuleGetFunctionCount", |d| {
        out.set(d.modules.get(module)?.program.kernels().len() as c_uint)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetGlobal_v2(
    address: Out<CUdeviceptr>,
    bytes: Out<usize>,
    module: CUmodule,
    name: Text,
) -> Status {
    call("cuModuleGetGlobal_v2", |d| {
        d.current()?;
        let name = name.get()?;
        let globals = d.modules.get(module)?.program.globals();
        let Some((_, at, len)) = globals.iter().find(|g| g.0 == name) else {
            return Status::NOT_FOUND.because(format!("no variable {name} in the module"));
        };
        address.set_if_wanted(*at);
        bytes.set_if_wanted(*len as usize);
        Ok(())
    })
}

/// `CU_MODULE_EAGER_LOADING`.
const EAGER: c_uint = 1;

/// `CUfunction_attribute`.
const MAX_DYNAMIC_SHARED: c_uint = 8;
const CARVEOUT: c_uint = 9;

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetAttribute(
    out: Out<c_int>,
    attribute: c_uint,
    function: CUfunction,
) -> Status {
    call("cuFuncGetAttribute", |d| {
        let f = d.functions.get(function)?;
        d.healthy(f.context)?;
        let info = f.info();
        let (major, minor) = d.options.device.capability;
        let value = match attribute {
            0 => d.most_threads(info),
            1 => info.static_shared_bytes,
            2 => info.const_bytes,
            3 => info.local_bytes,
            4 => info.registers,
            5 => d.modules.get(f.module)?.ptx_version,
            6 => major * 10 + minor,
            MAX_DYNAMIC_SHARED => f.max_dynamic_shared,
            CARVEOUT => f.carveout as u32,
            // Cluster settings: none is needed, and none can be had.
            7 | 10..=15 => 0,
            _ => {
                return Status::INVALID_VALUE
                    .because(format!("there is no function attribute {attribute}"));
            }
        };
        out.set(value as c_int)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetAttribute(
    function: CUfunction,
    attribute: c_uint,
    value: c_int,
) -> Status {
    call("cuFuncSetAttribute", |d| {
        let optin = d.options.device.shared_per_block_optin;
        let f = d.functions.get(function)?;
        d.healthy(f.context)?;
        let most = optin.saturating_sub(f.info().static_shared_bytes);
        match attribute {
            MAX_DYNAMIC_SHARED if u32::try_from(value).is_ok_and(|v| v <= most) => {
                d.functions.get_mut(function)?.max_dynamic_shared = value as u32;
                Ok(())
            }
            MAX_DYNAMIC_SHARED => Status::INVALID_VALUE.because(format!(
                "{value} bytes of dynamic shared memory: a block may have 0 to {most} here besides its \
                 static part"
            )),
            CARVEOUT if (-1..=100).contains(&value) => {
                d.functions.get_mut(function)?.carveout = value;
                Ok(())
            }
            11..=15 => Status::NOT_SUPPORTED.because("clusters are not simulated"),
            _ => Status::INVALID_VALUE
                .because(format!("function attribute {attribute} cannot be set to {value}")),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetCacheConfig(function: CUfunction, config: c_uint) -> Status {
    call("cuFuncSetCacheConfig", |d| {
        d.healthy(d.functions.get(function)?.context)?;
        if config > 3 {
            return Status::INVALID_VALUE
                .because(format!("expected a cache config, found {config}"));
        }
        Ok(())
    })
}

/// Where a parameter lies in the parameter block; an index past the last is how programs count them.
#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetParamInfo(
    function: CUfunction,
    index: usize,
    offset: Out<usize>,
    bytes: Out<usize>,
) -> Status {
    call("cuFuncGetParamInfo", |d| {
        offset.required()?;
        let Some(&(at, len)) = d.functions.get(function)?.info().params.get(index) else {
            return Err(Status::INVALID_VALUE.into());
        };
        bytes.set_if_wanted(len);
        offset.set(at)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetModule(out: Out<CUmodule>, function: CUfunction) -> Status {
    call("cuFuncGetModule", |d| out.set(d.functions.get(function)?.module))
}

/// Valid as long as the module.
#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetName(out: Out<*const c_char>, function: CUfunction) -> Status {
    call("cuFuncGetName", |d| out.set(d.functions.get(function)?.name.as_ptr()))
}

/// Functions are loaded with their module.
#[unsafe(no_mangle)]
pub extern "C" fn cuFuncLoad(function: CUfunction) -> Status {
    call("cuFuncLoad", |d| d.functions.get(function).map(|_| ()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncIsLoaded(out: Out<c_uint>, function: CUfunction) -> Status {
    call("cuFuncIsLoaded", |d| {
        d.functions.get(function)?;
        out.set(1)
    })
}

/// Modules are loaded whole, at once.
#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetLoadingMode(out: Out<c_uint>) -> Status {
    call("cuModuleGetLoadingMode", |_| out.set(EAGER))
}

/// Fat binaries hold machine code, which is not executed.
#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadFatBinary(_out: Out<CUmodule>, _image: In<c_void>) -> Status {
    call("cuModuleLoadFatBinary", |_| {
        Status::NO_BINARY_FOR_GPU.because("fat binaries are not read; load the PTX itself")
    })
}
