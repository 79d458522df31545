//! `ptxsim run` around a program that knows nothing of it: this test itself, started again.

use std::process::Command;

use ptxsim::driver::Summary;
use ptxsim::finding::Kind;

const ROLE: &str = "PTXSIM_TEST_ROLE";

/// Not a test of its own: what the others run under the simulator.
#[test]
fn program() {
    use cudarc::driver::{CudaContext, CudaSlice};
    let Ok(role) = std::env::var(ROLE) else { return };
    let context = CudaContext::new(0).unwrap();
    println!("device: {}", context.name().unwrap());
    let stream = context.default_stream();
    let a: CudaSlice<u8> = stream.clone_htod(&[1, 2, 3]).unwrap();
    assert_eq!(stream.clone_dtoh(&a).unwrap(), [1, 2, 3]);
    if role == "leak" {
        std::mem::forget(a);
    }
    if role == "uninitialised" {
        // SAFETY: reading it is what the simulator is to find.
        let b: CudaSlice<u8> = unsafe { stream.alloc(16) }.unwrap();
        stream.clone_dtoh(&b).unwrap();
        println!("still running");
    }
    if role == "fail" {
        std::process::exit(3);
    }
}

fn run(role: &str, options: &[&str]) -> (i32, String, Option<Summary>) {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_ptxsim"))
        .arg("run")
        .args(options)
        .arg("--report")
        .arg(&report)
        .arg("--")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "program", "--nocapture"])
        .env(ROLE, role)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let report = std::fs::read(report).ok().map(|json| serde_json::from_slice(&json).unwrap());
    (output.status.code().unwrap(), text.into_owned(), report)
}

#[test]
fn a_clean_program_exits_as_it_does() {
    let (code, text, report) = run("clean", &["--device", "a100", "--seed", "9"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("device: NVIDIA A100"), "{text}");
    assert!(text.contains("no findings"), "{text}");
    let report = report.unwrap();
    assert_eq!((report.seed, report.findings), (9, vec![]));
}

#[test]
fn findings_change_the_exit_code_of_success_only() {
    let (code, text, report) = run("leak", &[]);
    assert_eq!(code, 70, "{text}");
    let findings = report.unwrap().findings;
    assert_eq!(findings.iter().map(|f| f.kind).collect::<Vec<_>>(), [Kind::Leak]);
    assert!(text.contains("Leak: never freed: allocation 1 (3 bytes"), "{text}");
    let (code, text, _) = run("fail", &[]);
    assert_eq!(code, 3, "{text}");
}

#[test]
fn the_first_finding_ends_a_strict_run() {
    let (code, text, report) = run("uninitialised", &[]);
    assert_eq!(code, 70, "{text}");
    assert!(text.contains("still running"), "{text}");
    assert_eq!(report.unwrap().findings[0].kind, Kind::UninitialisedRead);
    let (code, text, report) = run("uninitialised", &["--strict"]);
    assert_eq!(code, 70, "{text}");
    assert!(!text.contains("still running"), "{text}");
    assert_eq!(report.unwrap().findings.len(), 1);
}

#[test]
fn mistakes_are_named() {
    let bin = env!("CARGO_BIN_EXE_ptxsim");
    let run = |arguments: &[&str]| {
        let output = Command::new(bin).arg("run").args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = run(&["--", "/nowhere/program"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("cannot start /nowhere/program"), "{text}");
    let (code, text) = run(&["--", "true"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("used no CUDA"), "{text}");
    assert_eq!(run(&["--device", "v100", "--", "true"]).0, Some(2));
}
