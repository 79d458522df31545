//! What the kernels are compiled to: PTX, which every newer GPU can run, and cubins, which spare its driver
//! the compilation at the first start.
//!
//! Results are kept in the target directory by sources, so that the profiles share them.

use crate::nvrtc::Compiler;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, thread};

/// The oldest compute capability, times 10, and the version of its PTX: read by every driver from R525
/// (CUDA 12.0) on. This is the PTX that is committed.
pub const OLDEST: u32 = 80;
const PTX: [(u32, &str); 3] = [(OLDEST, "8.0"), (90, "8.0"), (120, "8.7")];
/// Capabilities with a cubin.
const CUBINS: [u32; 6] = [80, 86, 89, 90, 100, 120];

/// One file for one architecture.
pub struct Image {
    pub unit: String,
    pub capability: u32,
    pub cubin: bool,
    /// PTX ends in a zero byte, as the driver wants it.
    pub bytes: Vec<u8>,
}

impl Image {
    pub fn ptx(unit: &str, capability: u32, mut text: String) -> Self {
        text.push('\0');
        Image { unit: unit.to_owned(), capability, cubin: false, bytes: text.into_bytes() }
    }
}

/// Compiles all units for all architectures, on all cores; and what ptxas says of each kernel, as fields of
/// a Rust struct.
pub fn compile(
    compiler: &Compiler,
    units: &[(&str, &str)],
    folder: &Path,
    out: &Path,
    stamp: &str,
) -> Result<(Vec<Image>, Vec<String>), String> {
    let jobs: Vec<_> = (units.iter())
        .flat_map(|&unit| {
            let ptx = PTX.map(|(capability, _)| (unit, capability, false));
            ptx.into_iter().chain(CUBINS.map(|capability| (unit, capability, true)))
        })
        .collect();
    let cache = cache(out, compiler, stamp)?;
    let results: Vec<_> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let index = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(&(unit, capability, cubin)) = jobs.get(index)
                {
                    let result = one(compiler, unit, capability, cubin, folder, &cache, stamp);
                    *results[index].lock().expect("no panic before") = Some(result);
                }
            });
        }
    });
    let (mut images, mut resources) = (Vec::new(), Vec::new());
    for result in results {
        let result = result.into_inner().map_err(|e| e.to_string())?;
        let (image, log) = result.expect("every job was done")?;
        if image.cubin {
            resources.extend(self::resources(image.capability, &log));
        }
        images.push(image);
    }
    resources.sort();
    Ok((images, resources))
}

/// `target/kernels/SOURCES`, newly made if need be.
fn cache(out: &Path, compiler: &Compiler, stamp: &str) -> Result<PathBuf, String> {
    // out is target/PROFILE/build/muse-HASH/out
    let target = out.ancestors().nth(4).unwrap_or(out);
    let sources = stamp.trim().rsplit(' ').next().unwrap_or_default();
    let cache = target.join("kernels").join(format!("{}-{sources}", compiler.version()));
    fs::create_dir_all(&cache).map_err(|e| format!("{}: {e}", cache.display()))?;
    Ok(cache)
}

fn one(
    compiler: &Compiler,
    (unit, text): (&str, &str),
    capability: u32,
    cubin: bool,
    folder: &Path,
    cache: &Path,
    stamp: &str,
) -> Result<(Image, String), String> {
    let kind = if cubin { "sm" } else { "compute" };
    let arch = format!("{kind}_{capability}");
    let (kept, kept_log) =
        (cache.join(format!("{unit}.{arch}")), cache.join(format!("{unit}.{arch}.log")));
    let (bytes, log) = match (fs::read(&kept), fs::read_to_string(&kept_log)) {
        (Ok(bytes), Ok(log)) => (bytes, log),
        _ => {
            let flag = if cubin { "--ptxas-options=-v" } else { "-lineinfo" };
            let file = format!("{unit}.cu");
            let (bytes, log) = compiler.compile(&file, text, folder, &arch, &[flag])?;
            // Other threads and other builds do the same at the same time: each writes a file whose name is
            // its own, and the last to rename it wins. Both files are read together, so the log comes last.
            for (path, bytes) in [(&kept, &bytes[..]), (&kept_log, log.as_bytes())] {
                let mut own = path.clone().into_os_string();
                own.push(format!(".{}", std::process::id()));
                fs::write(&own, bytes)
                    .and_then(|()| fs::rename(&own, path))
                    .map_err(|e| format!("{}: {e}", path.display()))?;
            }
            (bytes, log)
        }
    };
    let image = match PTX.iter().find(|(c, _)| !cubin && *c == capability) {
        Some((_, version)) => {
            let ptx = portable(&String::from_utf8_lossy(&bytes), version);
            Image::ptx(unit, capability, stamp.to_owned() + &ptx)
        }
        None => Image { unit: unit.to_owned(), capability, cubin, bytes },
    };
    Ok((image, log))
}

/// PTX that older drivers read too, and that does not say where it was compiled.
fn portable(ptx: &str, version: &str) -> String {
    let line = |line: &str| {
        if line.starts_with(".version") {
            return format!(".version {version}");
        }
        let file = line.trim_start().strip_prefix(".file").and_then(|l| l.split_once('"'));
        match file {
            Some((number, path)) => {
                let path = path.split('"').next().unwrap_or("");
                let name = path.rsplit('/').next().unwrap_or("");
                format!("\t.file{number}\"{name}\"")
            }
            None => line.to_owned(),
        }
    };
    let comment = |l: &&str| !l.starts_with("//");
    ptx.lines().filter(comment).map(line).collect::<Vec<_>>().join("\n") + "\n"
}

/// ptxas' words on each kernel: "Compiling entry function 'NAME' …", "0 bytes stack frame, 0 bytes spill
/// stores, 0 bytes spill loads", "Used 40 registers, used 1 barriers, 16 bytes smem, …".
fn resources(capability: u32, log: &str) -> Vec<String> {
    let number = |line: &str, after: &str| -> u32 {
        let words: Vec<&str> = line.split([' ', ',']).filter(|w| !w.is_empty()).collect();
        let after: Vec<&str> = after.split(' ').collect();
        let at = words.windows(after.len()).position(|w| w == after);
        at.and_then(|at| words[at.checked_sub(1)?].parse().ok()).unwrap_or(0)
    };
    let (mut kernel, mut spilled, mut found) = ("", 0, Vec::new());
    for line in log.lines() {
        if line.contains("Compiling entry function") {
            kernel = line.split('\'').nth(1).unwrap_or_default();
        } else if line.contains("spill stores") {
            spilled = number(line, "bytes spill stores") + number(line, "bytes spill loads");
        } else if line.contains(" registers") && !kernel.is_empty() {
            let (registers, shared) = (number(line, "registers"), number(line, "bytes smem"));
            found.push(format!(
                "{{ kernel: {kernel:?}, capability: {capability}, registers: {registers}, shared: {shared}, \
                 spilled: {spilled} }}"
            ));
            kernel = "";
        }
    }
    found
}
