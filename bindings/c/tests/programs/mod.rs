//! C programs, compiled with the system's compiler against the library as it is released.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

pub const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(HERE).ancestors().nth(2).unwrap()
}

/// Cargo's folder for what it builds.
pub fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

/// The folder of the library and the program `muse`. Cargo builds neither for this crate's tests, which nothing can
/// link to; a release build is one that the tests of the repository make anyway.
pub fn release() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--release", "--locked", "--package", "muse", "--package", "muse-c"]);
        succeeds(build.arg("--target-dir").arg(target()).current_dir(root()));
        target().join("release")
    })
}

/// Compiles a program of `bindings/c`, with `flags` more.
pub fn compile(source: &str, name: &str, flags: &[&str]) -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut compiler = Command::new("cc");
    compiler.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-g", "-pthread"]);
    compiler.arg(Path::new(HERE).join(source)).arg("-I").arg(HERE).args(flags);
    succeeds(compiler.arg("-o").arg(&program));
    program
}

/// The flags of the shared library.
pub fn shared() -> [String; 3] {
    let folder = release().display();
    [format!("-L{folder}"), "-lmuse".into(), format!("-Wl,-rpath,{folder}")]
}

/// What a command prints.
pub fn succeeds(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| {
        panic!("{command:?} does not start: {error}");
    });
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {status}\n{stderr}");
    String::from_utf8(stdout).unwrap()
}
