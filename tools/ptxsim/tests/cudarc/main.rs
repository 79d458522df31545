//! An unmodified cudarc program with real kernels, end to end: `program` knows nothing of the simulator
//! and is run by `ptxsim run`, on every device, in several schedules, and with the kernels compiled at
//! run time where there is a compiler.

mod kernels;
mod program;
mod references;

use std::path::{Path, PathBuf};
use std::process::Command;

use ptxsim::driver::{EXIT_FINDINGS, Summary};
use ptxsim::finding::Kind;

/// Set in the program's process: where its kernels come from.
const KERNELS: &str = "PTXSIM_TEST_KERNELS";
const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// What every run must have launched.
const LAUNCHED: [&str; 8] =
    ["add", "add_layer_norm", "attention", "gemm", "rounds", "sample", "scale_add", "sum"];

fn run(kernels: &str, options: &[&str], libraries: Option<&Path>) -> Summary {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ptxsim"));
    command.arg("run").args(options).arg("--report").arg(&report).arg("--");
    command.arg(std::env::current_exe().unwrap()).args(["--exact", "program::program"]);
    command.env(KERNELS, kernels);
    if let Some(folder) = libraries {
        command.env("LD_LIBRARY_PATH", folder);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(EXIT_FINDINGS), "{options:?}:\n{text}");
    let report: Summary = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    // The two launches that the program knows will be refused, and nothing else.
    let refused = ["of dynamic shared memory; 49152 are allowed", "blocks in a cooperative launch"];
    assert_eq!(report.findings.len(), refused.len(), "{options:?}: {:#?}", report.findings);
    for (finding, why) in report.findings.iter().zip(refused) {
        assert!(finding.kind == Kind::BadLaunch && finding.message.contains(why), "{finding}");
    }
    for kernel in LAUNCHED {
        assert!(report.kernels.contains_key(kernel), "{kernel} never ran");
    }
    report
}

#[test]
fn every_device_runs_the_committed_kernels() {
    for (device, kernels) in [("a100", "80"), ("rtx4090", "80"), ("h100", "90")] {
        let report = run(kernels, &["--device", device], None);
        assert_eq!(report.notes.len(), 2, "each refusal is explained: {:?}", report.notes);
    }
}

#[test]
fn schedules_change_nothing() {
    let mut plain = run("80", &["--threads", "1"], None);
    plain.kernels.remove("rounds");
    for seed in ["1", "2", "3"] {
        let mut report = run("80", &["--seed", seed, "--threads", "2"], None);
        // How often a block looks before its turn comes is the schedule's.
        report.kernels.remove("rounds");
        assert_eq!(report.kernels, plain.kernels, "seed {seed}");
    }
}

/// Where NVRTC has been fetched (scripts/nvrtc.py; NVRTC_DIR, or target/nvrtc of the workspace).
#[test]
fn kernels_compiled_at_run_time() {
    let default = Path::new(HERE).join("../../target/nvrtc");
    let folder = std::env::var_os("NVRTC_DIR").map_or(default, PathBuf::from);
    let include = folder.join("include");
    if !include.is_dir() {
        eprintln!(
            "no compiler in {}: the committed PTX runs instead; `scripts/nvrtc.py fetch` gets it",
            folder.display()
        );
        run("90", &[], None);
        return;
    }
    run(include.to_str().unwrap(), &[], Some(&folder.join("lib")));
}
