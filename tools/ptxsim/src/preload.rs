//! Brings the simulator into a process that has started already: a test.

use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};

/// The built library: where `PTXSIM_LIBRARY` says, or near the running program, where Cargo and an
/// installation put it. The error says what to do.
pub fn library() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("PTXSIM_LIBRARY").map(PathBuf::from) {
        if path.is_file() {
            return Ok(path);
        }
        return Err(format!("PTXSIM_LIBRARY: there is no file {}", path.display()));
    }
    let program = std::env::current_exe().map_err(|e| format!("where this program is: {e}"))?;
    let folder = program.parent().unwrap_or(Path::new("/"));
    // Cargo leaves the library of `cargo test` in `deps` alone: the newest is the one just built.
    let candidates = ["", "deps", ".."].map(|f| folder.join(f).join("libptxsim.so"));
    let built = |path: &PathBuf| path.metadata().and_then(|m| m.modified()).ok();
    candidates.into_iter().filter(|c| c.is_file()).max_by_key(built).ok_or_else(|| {
        format!(
            "libptxsim.so is not beside {}, in `deps` there or one folder up; run `cargo build -p ptxsim \
             --lib` in the same profile, or set PTXSIM_LIBRARY to its path",
            program.display()
        )
    })
}

/// Loads the library for good, so that this process's next `dlopen("libcuda.so")`, cudarc's first, finds
/// it. Call it before the first use of CUDA; a second call does nothing more. Options are read from the
/// environment (see [`crate::driver::options`]) at `cuInit`.
pub fn preload() -> Result<(), String> {
    load(&library()?)
}

fn load(path: &Path) -> Result<(), String> {
    let name = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|e| e.to_string())?;
    // SAFETY: loading runs the library's initialisers, which do nothing unusual.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if handle.is_null() {
        return Err(format!("cannot load {}: {}", path.display(), last_error()));
    }
    // SAFETY: looks up a name; nothing is loaded.
    let found = unsafe { libc::dlopen(c"libcuda.so".as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
    if found != handle {
        return Err(format!(
            "another libcuda.so is loaded already, or {} was built without ptxsim's build.rs; call \
             preload() before CUDA is used",
            path.display()
        ));
    }
    Ok(())
}

fn last_error() -> String {
    // SAFETY: the result is null or a string that lives until the next call in this thread.
    unsafe {
        let text = libc::dlerror();
        if text.is_null() {
            "?".into()
        } else {
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    }
}
