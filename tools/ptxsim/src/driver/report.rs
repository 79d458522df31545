//! The report at the end of the process, read by `ptxsim run`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::state::{Driver, GraphUse, try_driver};
use crate::finding::{Finding, Findings, Kind};
use crate::profile::Profile;
use crate::terminal::{self, Sources};

/// Exit code for findings in a program that would have succeeded.
pub const EXIT_FINDINGS: i32 = 70;

/// What is gathered during the run.
#[derive(Debug, Default)]
pub struct Report {
    pub notes: Vec<String>,
    pub kernels: BTreeMap<String, Profile>,
}

/// The report file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub device: String,
    pub seed: u64,
    pub findings: Vec<Finding>,
    /// Explanations of refused calls.
    pub notes: Vec<String>,
    pub kernels: BTreeMap<String, Profile>,
    /// Over all kernels, and what L2 has to write back at the end.
    pub run: Profile,
}

impl Summary {
    /// Adds the report of another process of the same run.
    pub fn join(&mut self, other: Summary) {
        let all = Findings::default();
        self.findings.drain(..).chain(other.findings).for_each(|finding| all.add(finding));
        self.findings = all.take();
        for note in other.notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        for (kernel, profile) in &other.kernels {
            self.kernels.entry(kernel.clone()).or_default().join(profile);
        }
        self.run.add(&other.run);
    }
}

/// What is still allocated, and not on its way to be freed, becomes findings.
pub(super) fn find_leaks(d: &Driver) {
    for (address, owner) in &d.owners {
        // What a fault took the chance to free is no leak; a graph's idle memory is the graph's.
        let excused =
            owner.freeing || owner.graph == GraphUse::Idle || d.healthy(owner.context).is_err();
        if !excused && let Some(allocation) = d.memory.find(*address) {
            d.find(Kind::Leak, format!("never freed: {allocation}"));
        }
    }
}

/// Has the report written when the process exits.
pub(super) fn at_exit() {
    // SAFETY: the function is part of this library, which is never unloaded.
    unsafe { libc::atexit(write_at_exit) };
}

extern "C" fn write_at_exit() {
    let _ = std::panic::catch_unwind(|| {
        // A thread that was stopped within a call holds the state for ever: then there is no report.
        if let Some(driver) = try_driver().as_deref().and_then(Option::as_ref) {
            find_leaks(driver);
            write(driver);
        }
    });
}

/// Ends the process at its first finding.
pub(super) fn end_process(d: &Driver) -> ! {
    write(d);
    eprintln!("ptxsim: stopped at the first finding (PTXSIM_STRICT)");
    // SAFETY: ends the process at once, as `abort` would, without running the program's handlers.
    unsafe { libc::_exit(EXIT_FINDINGS) }
}

/// The file of this process: `%p` in a name stands for its number, so that a program's children do not
/// overwrite its report.
fn own_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(name.replace("%p", &std::process::id().to_string()))
}

fn write(d: &Driver) {
    let mut run = Profile::default();
    d.report.kernels.values().for_each(|kernel| run.add(kernel));
    if let Some(counted) = &mut run.counted {
        counted.counters.global.dram_writes += d.memory.l2().dirty();
    }
    let summary = Summary {
        device: d.options.device.name.to_owned(),
        seed: d.options.seed,
        findings: d.findings.list(),
        notes: d.report.notes.clone(),
        kernels: d.report.kernels.clone(),
        run,
    };
    let Some(path) = d.options.report.as_deref().map(own_path) else {
        if !summary.findings.is_empty() {
            let shown = terminal::findings(&summary.findings, &mut Sources::below("."), false);
            eprint!("ptxsim:{shown}");
        }
        return;
    };
    let json = serde_json::to_vec_pretty(&summary).expect("a report is plain data");
    if let Err(e) = std::fs::write(&path, json) {
        eprintln!("ptxsim: cannot write the report to {}: {e}", path.display());
    }
}
