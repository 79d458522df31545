//! The invariants of ARCHITECTURE.md that can be read off the source.

use std::path::{Path, PathBuf};

fn files(directory: &str, extension: &str) -> Vec<(String, String)> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true if path.ends_with("target") || path.ends_with("corpus") => {}
                true => walk(&path, found),
                false => found.push(path),
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(&root.join(directory), &mut found);
    found.sort();
    let name = |p: &PathBuf| p.strip_prefix(root).unwrap().display().to_string();
    let read = |p: PathBuf| (name(&p), std::fs::read_to_string(&p).unwrap());
    found.into_iter().filter(|p| p.extension().is_some_and(|e| e == extension)).map(read).collect()
}

#[test]
fn no_source_file_is_longer_than_500_lines() {
    let mut seen = 0;
    for directory in ["src", "tests", "benches", "bindings", "examples", "fuzz", "tools"] {
        for extension in ["rs", "py", "c"] {
            for (name, text) in files(directory, extension) {
                let lines = text.lines().count();
                assert!(
                    lines <= 500,
                    "{name} has {lines} lines; give its parts rooms of their own"
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 30, "only {seen} source files were found");
}

/// `bin → bench → engine → {muse, amused, shape} → pipeline → {text, decode → models, vq, edit → image} → ops → device ← {cpu, cuda}`;
/// tensor, weights, rng and error are leaves.
#[test]
fn dependencies_point_one_way() {
    let backend: &[&str] =
        &["models", "text", "vq", "decode", "pipeline", "engine", "ops", "weights", "image::"];
    let rules: [(&str, &[&str]); 17] = [
        ("src/cpu", backend),
        ("src/cpu", &["cuda"]),
        ("src/cuda", backend),
        ("src/cuda", &["cpu"]),
        ("src/models", &["cpu", "cuda", "decode", "pipeline", "engine", "vq", "image"]),
        ("src/text", &["cpu", "cuda", "decode", "pipeline", "engine", "vq", "image"]),
        ("src/vq.rs", &["cpu", "cuda", "decode", "pipeline", "engine", "image"]),
        ("src/decode", &["cpu", "cuda", "pipeline", "engine", "vq", "text", "image", "edit"]),
        ("src/edit.rs", &["cpu", "cuda", "pipeline", "engine", "vq", "text", "decode", "models"]),
        (
            "src/pipeline",
            &["cpu", "cuda", "engine", "muse", "amused", "models::muse", "text", "hub"],
        ),
        ("src/muse.rs", &["cpu", "cuda", "engine", "decode", "image"]),
        ("src/amused.rs", &["cpu", "cuda", "engine", "muse"]),
        ("src/shape", &["cpu", "cuda", "engine", "bench", "image"]),
        ("src/ops.rs", &["cpu", "cuda", "models", "decode", "pipeline", "vq", "text"]),
        (
            "src/device.rs",
            &["cpu", "cuda", "models", "decode", "pipeline", "ops", "vq", "text", "weights"],
        ),
        ("src/tensor.rs", &["cpu", "cuda", "models", "device", "ops", "weights", "pipeline"]),
        ("src/rng", &["cpu", "cuda", "models", "device", "ops", "weights", "tensor"]),
    ];
    let sources = files("src", "rs");
    for (place, forbidden) in rules {
        let mut seen = 0;
        for (name, text) in sources.iter().filter(|(name, _)| name.starts_with(place)) {
            seen += 1;
            for module in forbidden {
                let import = format!("crate::{module}");
                let line =
                    text.lines().find(|l| !l.trim_start().starts_with("//") && l.contains(&import));
                assert!(
                    line.is_none(),
                    "{name} must not depend on {module}: {}",
                    line.unwrap_or("")
                );
            }
        }
        assert!(seen > 0, "no file at {place}: mend this rule");
    }
}

#[test]
fn unsafe_code_stays_in_the_backend_and_the_map() {
    for (name, text) in files("src", "rs") {
        let allowed = ["src/cpu", "src/cuda", "src/weights"].iter().any(|p| name.starts_with(p));
        let uses = text.lines().any(|l| !l.trim_start().starts_with("//") && l.contains("unsafe "));
        assert!(allowed || !uses, "{name} uses unsafe code");
    }
}

#[test]
fn bundled_files_fit_their_budget() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let size = |directory: &str| -> u64 {
        std::fs::read_dir(root.join(directory))
            .unwrap()
            .flatten()
            .map(|entry| entry.metadata().unwrap().len())
            .sum()
    };
    assert!(size("models/demo") <= 56_000_000, "models/demo has {} bytes", size("models/demo"));
}
