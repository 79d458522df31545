//! `LICENSES.md` is what `cargo metadata` says of every dependency, and every licence is one that
//! this project may be distributed with.
//!
//! When it fails, the expected file lies in Cargo's directory for test output; the message says
//! which command copies it.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))] // the list is that of one platform

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::{env, fs};

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// A dependency must offer terms that all stand here. None asks more than that its text be kept, but for two. MPL-2.0
/// covers its own files only and leaves the work they are part of free: it is that of `option-ext`, 91 lines that come
/// with `muse pull`, and of `cbindgen`, with which a test makes the C header. CDLA-Permissive-2.0 is of data, Mozilla's
/// list of certificates in `webpki-roots`, that comes with `muse pull`.
const ALLOWED: [&str; 14] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Packages of other people, as Cargo resolved them for [`PLATFORM`], by name.
fn dependencies() -> BTreeMap<String, BTreeSet<(String, String)>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--all-features"])
        .args(["--filter-platform", PLATFORM])
        .current_dir(ROOT)
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let used: BTreeSet<String> =
        list(&metadata["resolve"]["nodes"]).iter().map(|node| text(&node["id"])).collect();
    let mut found: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for package in list(&metadata["packages"]) {
        if package["source"].is_null() || !used.contains(&text(&package["id"])) {
            continue; // of this workspace, or for another platform
        }
        let licence = text(&package["license"]).replace(" / ", "/").replace('/', " OR "); // before SPDX
        let of = found.entry(text(&package["name"])).or_default();
        of.insert((licence, text(&package["repository"])));
    }
    found
}

/// Whether some choice within an SPDX expression stands wholly in [`ALLOWED`].
fn allowed(expression: &str) -> bool {
    let expression = expression.trim();
    let (mut depth, mut ors, mut ands) = (0, Vec::new(), Vec::new());
    for (at, c) in expression.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth > 0 => {}
            _ if expression[at..].starts_with(" OR ") => ors.push(at),
            _ if expression[at..].starts_with(" AND ") => ands.push(at),
            _ => {}
        }
    }
    let halves = |at: usize, word: &str| (&expression[..at], &expression[at + word.len()..]);
    if let Some(&at) = ors.first() {
        let (left, right) = halves(at, " OR ");
        allowed(left) || allowed(right)
    } else if let Some(&at) = ands.first() {
        let (left, right) = halves(at, " AND ");
        allowed(left) && allowed(right)
    } else if let Some(inner) = expression.strip_prefix('(').and_then(|e| e.strip_suffix(')')) {
        allowed(inner)
    } else {
        ALLOWED.contains(&expression)
    }
}

fn document() -> String {
    let mut text = String::from(
        "# Licences of the dependencies\n\n\
         muse itself is licensed under MIT or Apache-2.0, at your choice. These are the Rust \
         packages that it is built and tested with on Linux, as `cargo metadata` states them. \
         `tests/licences.rs` keeps the list true and allows only licences that let muse be \
         distributed under its own.\n\n\
         | package | licence | source |\n|---|---|---|\n",
    );
    for (name, kinds) in dependencies() {
        for (licence, repository) in kinds {
            text += &format!("| {name} | {licence} | {repository} |\n");
        }
    }
    text
}

#[test]
fn every_licence_is_allowed() {
    for (name, kinds) in dependencies() {
        for (licence, _) in kinds {
            assert!(allowed(&licence), "{name} is licensed under {licence:?}: do not depend on it");
        }
    }
}

#[test]
fn the_list_is_true() {
    let expected = document();
    let committed = fs::read_to_string(format!("{ROOT}/LICENSES.md")).unwrap_or_default();
    if committed != expected {
        let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/LICENSES.md");
        fs::write(path, expected).expect("writing the expected list");
        panic!(
            "LICENSES.md is not true; look at the difference, then: cp {path} {ROOT}/LICENSES.md"
        );
    }
}

#[test]
fn expressions_are_understood() {
    for good in ["MIT", "MIT OR GPL-3.0", "GPL-3.0 OR (MIT AND Zlib)", "(MIT OR GPL-2.0) AND ISC"] {
        assert!(allowed(good), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "MIT AND (GPL-3.0)"] {
        assert!(!allowed(bad), "{bad}");
    }
}
