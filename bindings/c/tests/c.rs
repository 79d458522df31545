//! C programs use the library: the example, and one that walks every function, with AddressSanitizer too.
#![cfg(unix)]

mod programs;

use std::process::Command;

use programs::{compile, release, root, shared, succeeds};

fn model() -> String {
    root().join("models/demo").display().to_string()
}

/// The lines of a program that walked: the hash of each seed's tokens.
fn hashes(printed: &str) -> Vec<(u64, String)> {
    let of_line = |line: &str| {
        let (seed, tokens) = line.strip_prefix("seed ").unwrap().split_once(':').unwrap();
        let mut hasher = blake3::Hasher::new();
        for token in tokens.split_whitespace() {
            hasher.update(&token.parse::<u32>().unwrap().to_le_bytes());
        }
        (seed.parse().unwrap(), hasher.finalize().to_hex()[..16].to_owned())
    };
    printed.lines().map(of_line).collect()
}

/// The same, of the program `muse` for the same request.
fn hashes_of_muse() -> Vec<(u64, String)> {
    let folder = tempfile::tempdir().unwrap();
    let mut muse = Command::new(release().join("muse"));
    muse.args(["generate", "a frog above a banana", "--seed", "5", "--count", "2", "--steps", "2"]);
    muse.args(["--size", "base", "--device", "cpu", "--json", "--model", &model(), "-o"]);
    let printed = succeeds(muse.arg(folder.path().join("images")));
    let of_line = |line: &str| {
        let report: serde_json::Value = serde_json::from_str(line).unwrap();
        let seed = report["request"]["seed"].as_u64().unwrap();
        (seed, report["tokens"].as_str().unwrap().to_owned())
    };
    printed.lines().map(of_line).collect()
}

#[test]
fn every_function_does_what_the_header_says_and_tokens_are_those_of_muse() {
    let expected = hashes_of_muse();
    assert_eq!(expected.len(), 2);
    let shared = shared();
    let shared = shared.each_ref().map(String::as_str);
    let walk = compile("tests/walk.c", "walk", &shared);
    let printed = succeeds(Command::new(walk).args([&model(), "64"]));
    assert_eq!(hashes(&printed), expected);

    // Leaks, and what a C program does to memory that is not its own.
    let [folder, library, path] = shared;
    let sanitized =
        ["-fsanitize=address,undefined", "-fno-sanitize-recover", folder, library, path];
    let walk = compile("tests/walk.c", "walk-sanitized", &sanitized);
    let printed = succeeds(Command::new(walk).args([&model(), "64"]));
    assert_eq!(hashes(&printed), expected);
}

/// With the static library, whose user also links what Rust's standard library needs.
#[test]
fn the_example_writes_a_picture() {
    let library = release().join("libmuse.a").display().to_string();
    let example = compile("examples/generate.c", "generate", &[&library, "-lm", "-ldl"]);
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("out.png");
    let run = |prompt: &str| {
        Command::new(&example).args([&model(), prompt]).arg(&picture).output().unwrap()
    };
    let prompt = "two apples and a cat on a blue background";
    let output = run(prompt);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("superres") && stderr.contains(" 0 tokens still masked"), "{stderr}");

    // The same bytes as the program's.
    let reference = folder.path().join("reference.png");
    let mut muse = Command::new(release().join("muse"));
    muse.args(["generate", prompt, "--device", "cpu", "--model", &model(), "-o"]);
    succeeds(muse.arg(&reference).current_dir(root()));
    assert!(std::fs::read(&picture).unwrap() == std::fs::read(&reference).unwrap());

    let existing = run(prompt);
    assert_eq!(existing.status.code(), Some(4), "it does not write over a picture");
    let empty = run("");
    assert_eq!(empty.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&empty.stderr).contains("prompt: an empty text"));
}
