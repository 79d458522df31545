//! `muse-bench peers` as a user starts it, with a Python that only pretends: what is set up, measured, and said where
//! a peer fails.

#![cfg(unix)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use muse::bench::Record;
use tempfile::TempDir;

/// Answers as `benches/peers/serve.py` has it, with times and results that are made up.
const PEER: &str = r#"
import os, sys
sys.path.insert(0, "PROGRAMS")
from serve import serve

bf16 = "bf16" in sys.argv

class Values:
    def __init__(self, data): self.data = data
    def astype(self, dtype): return self
    def tofile(self, path): open(path, "wb").write(self.data)

class Engine:
    versions, how = "pretence 1", "not at all"
    def image(self, seed, steps):
        if bf16 and seed == 1: os._exit(3)
        return {"text": 0.5, "base step": 1.0 + seed, "image": 4.0}
    def first_step(self): pass
    def probe(self):
        return Values(b"\0\0\x80\x3f" * (2 * 32 * 1024)), Values(b"\x64" * (128 * 128 * 3))

serve(Engine)
"#;

/// A Python whose environments are copies of itself; `pip` is what it does when it installs.
fn python(folder: &TempDir, pip: &str) -> String {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
    let peer = folder.path().join("peer.py");
    std::fs::write(&peer, PEER.replace("PROGRAMS", programs.to_str().unwrap())).unwrap();
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\n\
         '-m venv '*) mkdir -p \"$3/bin\" && cp \"$0\" \"$3/bin/python\" ;;\n\
         '-m pip '*) {pip} ;;\n\
         *torch_demo.py*) shift; exec python3 '{}' \"$@\" ;;\nesac\n",
        peer.display()
    );
    let path = folder.path().join("python");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn peers(folder: &TempDir, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_muse-bench"))
        .arg("peers")
        .args(arguments)
        .args(["--folder", folder.path().join("made").to_str().unwrap()])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the program starts")
}

fn fails(folder: &TempDir, arguments: &[&str], code: i32, words: &[&str]) {
    let output = peers(folder, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{arguments:?}: no {word:?} in {stderr}");
    }
}

/// The peer in bf16 dies in the second round: what was measured is shown and kept, and the error is named.
#[test]
fn engines_are_measured_round_by_round_and_a_failure_is_in_its_row() {
    let folder = TempDir::new().unwrap();
    let (python, json) = (python(&folder, "exit 0"), folder.path().join("peers.json"));
    let output = peers(
        &folder,
        &["--python", &python, "--rounds", "2", "--starts", "1", "--steps", "1", "--threads", "1"]
            .into_iter()
            .chain(["--json", json.to_str().unwrap()])
            .collect::<Vec<_>>(),
    );
    let (out, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(6), "{stderr}");
    assert!(stderr.contains("peer 'torch bf16': ended without an answer"), "{stderr}");

    let records = Record::read(&json).unwrap();
    let of = |name: &str, dtype: &str| {
        let is = |record: &&Record| {
            record.peer.as_ref().unwrap().name == name
                && record.subject.as_ref().unwrap().settings.dtype == dtype
        };
        records.iter().find(is).unwrap_or_else(|| panic!("no {name} {dtype}"))
    };
    let ms = |record: &Record, name: &str| record.series(name).map_or(vec![], |s| s.ms.clone());
    assert_eq!(ms(of("torch", "f32"), "base step"), [1000.0, 2000.0]);
    assert_eq!(ms(of("torch", "bf16"), "base step"), [1000.0]);
    for dtype in ["f32", "bf16"] {
        let muse = of("muse", dtype);
        for name in ["text", "base step", "superres step", "vq", "image"] {
            assert_eq!(ms(muse, name).len(), 2, "{name} in {dtype}");
        }
        assert_eq!(ms(muse, "process to first step").len(), 1);
        assert_eq!(ms(muse, "process to first step, packed").len(), 1);
        let errors = muse.peer.as_ref().unwrap();
        assert!(errors.logits_error.unwrap() > 0.1 && errors.picture_error.unwrap() > 0.1);
    }
    assert_eq!(of("torch", "f32").peer.as_ref().unwrap().logits_error, Some(0.0));
    assert_eq!(ms(of("torch", "f32"), "process to first step").len(), 1);
    assert_eq!(ms(of("torch", "bf16"), "process to first step").len(), 0);
    let why = of("torch", "bf16").peer.as_ref().unwrap().not_run.clone().unwrap();
    assert!(why.contains("ended without an answer"), "{why}");
    for word in ["torch bf16: not run: peer", "pretence 1; not at all", "× muse"] {
        assert!(out.contains(word), "no {word:?} in {out}");
    }

    let page = folder.path().join("RESULTS.md");
    let report = Command::new(env!("CARGO_BIN_EXE_muse-bench"))
        .args(["report", json.to_str().unwrap(), "-o", page.to_str().unwrap()])
        .status()
        .unwrap();
    assert!(report.success());
    let page = std::fs::read_to_string(page).unwrap();
    for word in [
        "## peers: demo",
        "| base step | torch f32 | 2 | 1500.00 |",
        "**not run**: peer 'torch bf16'",
    ] {
        assert!(page.contains(word), "no {word:?} in {page}");
    }
    assert_eq!(page.matches("## ").count(), 1, "one section for the engines of one run");
}

#[test]
fn what_cannot_be_set_up_is_named_and_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    fails(
        &folder,
        &["--python", "no-such-python"],
        6,
        &["no-such-python", "does not start", "--python"],
    );
    let broken = python(&folder, "echo no index; exit 1");
    fails(
        &folder,
        &["--python", &broken],
        6,
        &["pip", "exit status: 1", "no index", "package index"],
    );
    let left: Vec<String> = std::fs::read_dir(folder.path().join("made"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("environment-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn bad_options_are_named() {
    let folder = TempDir::new().unwrap();
    let python = python(&folder, "exit 0");
    let fails = |arguments: &[&str], code, words: &[&str]| {
        fails(&folder, &[&["--python", &python][..], arguments].concat(), code, words);
    };
    fails(&["--rounds", "0"], 2, &["--rounds"]);
    fails(&["--shape", "muse-3b"], 2, &["amused-256"]);
    fails(&["--peers", "openvino"], 2, &["peers", "openvino", "torch"]);
    fails(&["--dtypes", "int4"], 2, &["dtypes", "int4", "torch f32"]);
    fails(&["no/such/model"], 3, &["no/such/model"]);
    assert!(!folder.path().join("made").exists(), "set up for nothing");
    fails(&["--device", "cuda:99"], 5, &["cuda:99"]);
}
