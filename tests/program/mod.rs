//! The program as a user starts it.

use std::path::Path;
use std::process::{Command, Output};

pub fn muse(arguments: &[&str]) -> Output {
    muse_in(Path::new(env!("CARGO_MANIFEST_DIR")), arguments)
}

pub fn muse_in(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_muse"))
        .args(arguments)
        .current_dir(directory)
        .output()
        .expect("the program starts")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs and expects failure with `code`, every one of `words` in stderr, no panic, nothing on
/// stdout.
pub fn fails(arguments: &[&str], code: i32, words: &[&str]) {
    let output = muse(arguments);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{arguments:?}: no {word:?} in {stderr}");
    }
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
}
