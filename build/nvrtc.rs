//! NVIDIA's run-time compiler, loaded where there is one: `CUDA_HOME`, `CUDA_PATH`, the toolkit of the
//! `nvcc` in `PATH`, or what `tools/ptxsim/scripts/nvrtc.py fetch` has put into `target/nvrtc`.

use libloading::Library;
use std::env;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;

type Program = *mut c_void;

/// The directory of a toolkit with NVRTC.
pub fn find(root: &Path) -> Option<PathBuf> {
    let variables = ["CUDA_HOME", "CUDA_PATH"].map(|name| env::var_os(name).map(PathBuf::from));
    let paths = env::var_os("PATH").unwrap_or_default();
    let nvcc =
        env::split_paths(&paths).map(|folder| folder.join("nvcc")).find(|nvcc| nvcc.is_file());
    let nvcc = nvcc.and_then(|nvcc| Some(nvcc.canonicalize().ok()?.parent()?.parent()?.to_owned()));
    let fetched = root.join("target/nvrtc");
    // A path that does not exist would make Cargo run the script again and again.
    if fetched.join("wheels").is_file() {
        println!("cargo::rerun-if-changed={}", fetched.join("wheels").display());
    }
    let homes = variables.into_iter().flatten().chain(nvcc).chain([fetched]);
    homes.into_iter().find(|home| library(home, "libnvrtc.so").is_some())
}

/// The newest library of that name below a toolkit.
fn library(home: &Path, name: &str) -> Option<PathBuf> {
    let folders = ["lib64", "lib", "targets/x86_64-linux/lib"].map(|folder| home.join(folder));
    let files = folders.iter().filter_map(|folder| folder.read_dir().ok()).flatten().flatten();
    let named = files.map(|file| file.path()).filter(|path| {
        let file = path.file_name().and_then(|f| f.to_str()).unwrap_or("");
        file.starts_with(name) && !file.contains(".alt.")
    });
    named.max()
}

pub struct Compiler {
    nvrtc: Library,
    include: PathBuf,
    version: (c_int, c_int),
    /// Loaded before NVRTC looks for it by name only.
    _builtins: Option<Library>,
}

impl Compiler {
    pub fn open(home: &Path) -> Result<Self, String> {
        let open = |path: &Path| {
            // SAFETY: NVIDIA's libraries do nothing unusual when loaded.
            unsafe { Library::new(path) }.map_err(|e| format!("{}: {e}", path.display()))
        };
        let builtins = library(home, "libnvrtc-builtins.so").map(|path| open(&path)).transpose()?;
        let path = library(home, "libnvrtc.so")
            .ok_or_else(|| format!("no NVRTC in {}", home.display()))?;
        let nvrtc = open(&path)?;
        let folders = ["include", "targets/x86_64-linux/include"].map(|folder| home.join(folder));
        let include = folders.into_iter().find(|folder| folder.join("cuda_bf16.h").is_file());
        let include =
            include.ok_or_else(|| format!("{}: no include/cuda_bf16.h", home.display()))?;
        let mut compiler = Compiler { nvrtc, include, version: (0, 0), _builtins: builtins };
        let (mut major, mut minor) = (0, 0);
        type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;
        // SAFETY: as declared in nvrtc.h.
        unsafe {
            let version = compiler.function::<Version>("nvrtcVersion")?;
            compiler.check(version(&mut major, &mut minor))?;
        }
        compiler.version = (major, minor);
        Ok(compiler)
    }

    pub fn version(&self) -> String {
        format!("{}.{}", self.version.0, self.version.1)
    }

    /// Compiles one file for `arch`, "compute_80" for PTX or "sm_80" for a cubin, with further `flags`: the
    /// result and the compiler's log. An error holds the log.
    pub fn compile(
        &self,
        name: &str,
        text: &str,
        folder: &Path,
        arch: &str,
        flags: &[&str],
    ) -> Result<(Vec<u8>, String), String> {
        type Create = unsafe extern "C" fn(
            *mut Program,
            *const c_char,
            *const c_char,
            c_int,
            *const *const c_char,
            *const *const c_char,
        ) -> c_int;
        type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
        type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;
        let string = |text: &str| CString::new(text).map_err(|_| format!("{name}: a zero byte"));
        let (source, file) = (string(text)?, string(name)?);
        let options = [
            format!("-arch={arch}"),
            "-std=c++17".into(),
            format!("-I{}", self.include.display()),
            format!("-I{}", folder.display()),
        ];
        let options = options.iter().map(String::as_str).chain(flags.iter().copied());
        let options = options.map(string).collect::<Result<Vec<_>, _>>()?;
        let pointers: Vec<_> = options.iter().map(|o| o.as_ptr()).collect();
        // SAFETY: as declared in nvrtc.h; every pointer outlives its call.
        unsafe {
            let mut program = ptr::null_mut();
            let create = self.function::<Create>("nvrtcCreateProgram")?;
            self.check(create(
                &mut program,
                source.as_ptr(),
                file.as_ptr(),
                0,
                ptr::null(),
                ptr::null(),
            ))?;
            let compile = self.function::<Compile>("nvrtcCompileProgram")?;
            let compiled = self.check(compile(program, pointers.len() as c_int, pointers.as_ptr()));
            let log = self.text(program, "ProgramLog")?;
            let log = String::from_utf8_lossy(&log).into_owned();
            let kind = if arch.starts_with("sm_") { "CUBIN" } else { "PTX" };
            let result = match compiled {
                Ok(()) => self.text(program, kind).map(|result| (result, log)),
                Err(error) => Err(format!("kernels/{name}, {arch}: {error}\n{log}")),
            };
            let destroy = self.function::<Destroy>("nvrtcDestroyProgram")?;
            self.check(destroy(&mut program))?;
            result
        }
    }

    unsafe fn text(&self, program: Program, what: &str) -> Result<Vec<u8>, String> {
        type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
        type Get = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
        // SAFETY: as declared in nvrtc.h; the buffer has the size asked for.
        unsafe {
            let mut bytes = 0;
            self.check(self.function::<Size>(&format!("nvrtcGet{what}Size"))?(
                program, &mut bytes,
            ))?;
            let mut buffer = vec![0u8; bytes.max(1)];
            self.check(self.function::<Get>(&format!("nvrtcGet{what}"))?(
                program,
                buffer.as_mut_ptr().cast(),
            ))?;
            if what != "CUBIN" {
                buffer.pop(); // texts end in a zero byte
            }
            Ok(buffer)
        }
    }

    unsafe fn function<F: Copy>(&self, name: &str) -> Result<F, String> {
        // SAFETY: the caller names a function of that type.
        unsafe { self.nvrtc.get::<F>(name.as_bytes()) }.map(|f| *f).map_err(|e| e.to_string())
    }

    fn check(&self, status: c_int) -> Result<(), String> {
        type Describe = unsafe extern "C" fn(c_int) -> *const c_char;
        if status == 0 {
            return Ok(());
        }
        // SAFETY: as declared in nvrtc.h: a string that is never freed.
        Err(unsafe {
            let describe = self.function::<Describe>("nvrtcGetErrorString")?;
            CStr::from_ptr(describe(status)).to_string_lossy().into_owned()
        })
    }
}
