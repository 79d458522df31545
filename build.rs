//! Puts the CUDA kernels into the library: PTX of `kernels/*.cu`, and the constants of `kernels/launch.h`.
//!
//! With a CUDA compiler (`build/nvrtc.rs` says where it is looked for) the sources are compiled for every
//! architecture of `build/images.rs`; without one, the committed PTX in `kernels/ptx` is used, and must have
//! been made from these very sources. `scripts/ptx.sh` renews it. It is compressed: as text it would weigh ten
//! times as much, and nobody reads it (`gzip -dc` does).

#[path = "build/images.rs"]
mod images;
#[path = "build/nvrtc.rs"]
mod nvrtc;

use flate2::read::GzDecoder;
use images::Image;
use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=kernels");
    for variable in ["CUDA_HOME", "CUDA_PATH", "PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by Cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by Cargo"));
    if let Err(problem) = run(&root, &out) {
        for line in problem.lines() {
            println!("cargo::error={line}");
        }
    }
}

fn run(root: &Path, out: &Path) -> Result<(), String> {
    let kernels = root.join("kernels");
    let sources = sources(&kernels)?;
    let stamp = format!("// sources {:016x}\n", fingerprint(&sources));
    let (origin, images, resources) = match nvrtc::find(root) {
        Some(home) => {
            let compiler = nvrtc::Compiler::open(&home)?;
            let origin = format!("compiled by NVRTC {}", compiler.version());
            let units: Vec<_> = units(&sources).collect();
            let (images, resources) = images::compile(&compiler, &units, &kernels, out, &stamp)?;
            (origin, images, resources)
        }
        None => ("as committed".to_owned(), committed(&kernels, &sources, &stamp)?, Vec::new()),
    };

    let bare = out.join("committed");
    fs::create_dir_all(&bare).map_err(|e| format!("{}: {e}", bare.display()))?;
    let mut list =
        format!("pub const ORIGIN: &str = {origin:?};\npub const IMAGES: &[Image] = &[\n");
    for Image { unit, capability, cubin, bytes } in &images {
        let kind = if *cubin { "cubin" } else { "ptx" };
        let path = out.join(format!("{unit}.{capability}.{kind}"));
        write(&path, bytes)?;
        if !cubin && *capability == images::OLDEST {
            let text = String::from_utf8_lossy(bytes);
            write(
                &bare.join(format!("{unit}.ptx")),
                without_lines(text.trim_end_matches('\0')).as_bytes(),
            )?;
        }
        writeln!(
            list,
            "    Image {{ unit: {unit:?}, capability: {capability}, cubin: {cubin}, bytes: include_bytes!({path:?}) }},"
        )
        .expect("to a string");
    }
    list.push_str("];\npub const RESOURCES: &[Resources] = &[\n");
    for line in &resources {
        writeln!(list, "    Resources {line},").expect("to a string");
    }
    list.push_str("];\n");
    write(&out.join("kernels.rs"), list.as_bytes())?;
    let header = &sources
        .iter()
        .find(|(name, _)| name == "launch.h")
        .ok_or("kernels/launch.h is missing")?
        .1;
    write(&out.join("launch.rs"), constants(header)?.as_bytes())
}

/// Names relative to `kernels` and texts of all `.cu`, `.cuh` and `.h` files there, sorted.
fn sources(kernels: &Path) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    let mut folders = vec![kernels.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))? {
            let path = entry.map_err(|e| format!("{}: {e}", folder.display()))?.path();
            let extension = path.extension().and_then(|e| e.to_str());
            if path.is_dir() {
                folders.push(path);
            } else if let Some("cu" | "cuh" | "h") = extension {
                let name = path.strip_prefix(kernels).map_err(|e| e.to_string())?;
                found.push((name.display().to_string(), read(&path)?));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The files to compile, without their extension.
fn units(sources: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    sources.iter().filter_map(|(name, text)| Some((name.strip_suffix(".cu")?, text.as_str())))
}

/// FNV-1a over names and texts: which sources committed PTX was made from.
fn fingerprint(sources: &[(String, String)]) -> u64 {
    let bytes = sources
        .iter()
        .flat_map(|(name, text)| name.bytes().chain([0]).chain(text.bytes()).chain([0]));
    bytes.fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01B3))
}

/// PTX as it is committed: without the source lines, which are half of it and serve the simulator's
/// findings alone.
fn without_lines(ptx: &str) -> String {
    let debug = |line: &str| line.starts_with("\t.loc") || line.starts_with("\t.file");
    let lines = ptx.lines().take_while(|line| !line.starts_with("\t.section"));
    lines.filter(|line| !debug(line)).collect::<Vec<_>>().join("\n") + "\n"
}

/// The committed PTX of every unit.
fn committed(
    kernels: &Path,
    sources: &[(String, String)],
    stamp: &str,
) -> Result<Vec<Image>, String> {
    let read = |(name, _): (&str, &str)| {
        let path = kernels.join("ptx").join(format!("{name}.ptx.gz"));
        let mut ptx = String::new();
        fs::File::open(&path)
            .and_then(|file| GzDecoder::new(file).read_to_string(&mut ptx))
            .map_err(|e| format!("{}: {e}", path.display()))?;
        if !ptx.starts_with(stamp) {
            return Err(format!(
                "{} was made from other kernel sources than these, and there is no CUDA compiler here to make it \
                 anew: run scripts/ptx.sh, or undo the change below kernels/",
                path.display()
            ));
        }
        Ok(Image::ptx(name, images::OLDEST, ptx))
    };
    units(sources).map(read).collect()
}

/// Rust constants of the `#define NAME number` lines.
fn constants(header: &str) -> Result<String, String> {
    let mut rust = String::new();
    for line in header.lines() {
        let Some(definition) = line.strip_prefix("#define ") else { continue };
        let definition = definition.split("//").next().unwrap_or("").trim();
        let (name, value) =
            definition.split_once(' ').ok_or_else(|| format!("launch.h: {line}: no value"))?;
        let value: u32 = value.trim().parse().map_err(|e| format!("launch.h: {line}: {e}"))?;
        writeln!(rust, "pub const {name}: u32 = {value};").expect("to a string");
    }
    Ok(rust)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|e| format!("{}: {e}", path.display()))
}
