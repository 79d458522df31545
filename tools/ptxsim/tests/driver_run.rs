//! `ptxsim run` around a program that knows nothing of it: this test itself, started again.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

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
    if role == "late" {
        LATE.store(a.leak(), Ordering::Relaxed);
        // SAFETY: the function neither panics nor returns anything.
        assert_eq!(unsafe { libc::atexit(free_late) }, 0);
        std::process::exit(0);
    }
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

/// What the exit handler frees.
static LATE: AtomicU64 = AtomicU64::new(0);

extern "C" fn free_late() {
    // SAFETY: nothing else uses the allocation.
    let status = unsafe { cudarc::driver::sys::cuMemFree_v2(LATE.load(Ordering::Relaxed)) };
    println!("freed at exit: {status:?}");
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
    for (device, name) in [("rtx4090", "GeForce RTX 4090"), ("h100", "H100")] {
        let (code, text, _) = run("clean", &["--device", device]);
        assert!(code == 0 && text.contains(&format!("device: NVIDIA {name}")), "{text}");
    }
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
fn exit_handlers_may_call() {
    let (code, text, report) = run("late", &[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("freed at exit: CUDA_SUCCESS"), "{text}");
    assert_eq!(report.unwrap().findings, []);
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

/// A test runner starts many programs: their findings end in one report.
#[test]
fn the_reports_of_several_processes_are_joined() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let program = std::env::current_exe().unwrap();
    let script = format!("{0} --exact program && {0} --exact program", program.display());
    let output = Command::new(env!("CARGO_BIN_EXE_ptxsim"))
        .args(["run", "--report"])
        .arg(&report)
        .args(["--", "sh", "-c", &script])
        .env(ROLE, "leak")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(70), "{text}");
    let report: Summary = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let leaks: u64 = report.findings.iter().map(|finding| finding.count).sum();
    assert_eq!(leaks, 2, "{report:?}");
    assert!(report.findings.iter().all(|finding| finding.kind == Kind::Leak));
}

#[test]
fn every_option_is_explained() {
    let help = Command::new(env!("CARGO_BIN_EXE_ptxsim")).args(["run", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for option in
        ["--device", "--seed", "--threads", "--mma", "--no-checks", "--strict", "--report", "70"]
    {
        assert!(help.contains(option), "{option}: {help}");
    }
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
