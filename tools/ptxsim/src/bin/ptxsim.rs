//! Runs a CUDA program on the simulator and says what it found.

use std::io::IsTerminal;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use clap::{Args, Parser, ValueEnum};
use ptxsim::driver::{EXIT_FINDINGS, Summary};
use ptxsim::terminal::{self, Sources};

/// Runs CUDA programs where there is no GPU, and finds what a GPU would not tell.
#[derive(Debug, Parser)]
#[command(version)]
enum Cli {
    /// Run a program with the simulator in the place of libcuda.so.1.
    ///
    /// The program is the one that a GPU would run, and may start others: `ptxsim run -- cargo test`.
    /// What was found is shown at the end. Exits as the program does, or with 70 where it succeeds and
    /// there are findings.
    Run(Run),
}

#[derive(Debug, Args)]
struct Run {
    /// The GPU to simulate.
    #[arg(long, value_enum, default_value_t = Device::H100)]
    device: Device,
    /// Order of streams, blocks and warps: 0 is plain order, as late as legal, others are random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Host threads that run blocks [default: all cores].
    #[arg(long)]
    threads: Option<usize>,
    /// Sums of tensor cores: as the device's, bit for bit, or plain f32, faster.
    #[arg(long, value_enum, default_value_t = Mma::Exact)]
    mma: Mma,
    /// Approximate functions give other results within their documented error, by this seed
    /// [default: correctly rounded].
    #[arg(long, value_name = "SEED")]
    perturb: Option<u64>,
    /// Instructions of a block, while no block starts, ends or changes memory, after which a launch is held
    /// to hang; 0: never [default: 2^30, half a minute or more].
    #[arg(long, value_name = "INSTRUCTIONS")]
    hang: Option<u64>,
    /// Leave out the checks that only find bugs: faster.
    #[arg(long)]
    no_checks: bool,
    /// Count instructions by class, memory traffic and bank conflicts, and model a bound of the time.
    #[arg(long)]
    counters: bool,
    /// End the program at its first finding.
    #[arg(long)]
    strict: bool,
    /// Do not explain refused calls on standard error.
    #[arg(long)]
    quiet: bool,
    /// Write the report here too, as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Where source files are looked for, to quote their lines; folders below it included.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    sources: PathBuf,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<std::ffi::OsString>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Device {
    A100,
    Rtx4090,
    H100,
    Rtx5090,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mma {
    Exact,
    F32,
}

fn main() -> ExitCode {
    let Cli::Run(run) = Cli::parse();
    match start(&run) {
        Ok(code) => ExitCode::from(code),
        Err(why) => {
            eprintln!("ptxsim: {why}");
            ExitCode::FAILURE
        }
    }
}

fn start(run: &Run) -> Result<u8, String> {
    let folder = tempfile::tempdir().map_err(|e| format!("a folder for the library: {e}"))?;
    let library = ptxsim::library()?;
    let library = library.canonicalize().map_err(|e| format!("{}: {e}", library.display()))?;
    for name in ["libcuda.so", "libcuda.so.1"] {
        symlink(&library, folder.path().join(name)).map_err(|e| format!("a link {name}: {e}"))?;
    }
    // A file per process: test runners start many.
    let status = command(run, folder.path(), &folder.path().join("report-%p.json"))
        .status()
        .map_err(|e| format!("cannot start {}: {e}", run.command[0].to_string_lossy()))?;
    let Some(summary) = read_reports(folder.path())? else {
        eprintln!("ptxsim: the program used no CUDA, or ended without its exit handlers");
        return Ok(exit_code(status));
    };
    if let Some(path) = &run.report {
        let json = serde_json::to_vec_pretty(&summary).map_err(|e| e.to_string())?;
        std::fs::write(path, json).map_err(|e| format!("the report {}: {e}", path.display()))?;
    }
    print(&summary, &run.sources);
    match exit_code(status) {
        0 if !summary.findings.is_empty() => Ok(EXIT_FINDINGS as u8),
        code => Ok(code),
    }
}

/// The reports of all processes as one.
fn read_reports(folder: &Path) -> Result<Option<Summary>, String> {
    let failed = |e: &dyn std::fmt::Display| format!("a report in {}: {e}", folder.display());
    let entries = std::fs::read_dir(folder).map_err(|e| failed(&e))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    let mut all: Option<Summary> = None;
    for path in paths {
        let json = std::fs::read(&path).map_err(|e| failed(&e))?;
        let one: Summary = serde_json::from_slice(&json).map_err(|e| failed(&e))?;
        match &mut all {
            Some(all) => all.join(one),
            None => all = Some(one),
        }
    }
    Ok(all)
}

fn command(run: &Run, folder: &Path, report: &Path) -> Command {
    let flag = |on: bool| if on { "1" } else { "0" };
    let mut path = folder.as_os_str().to_owned();
    if let Some(old) = std::env::var_os("LD_LIBRARY_PATH").filter(|p| !p.is_empty()) {
        path.push(":");
        path.push(old);
    }
    let mut command = Command::new(&run.command[0]);
    command
        .args(&run.command[1..])
        .env("LD_LIBRARY_PATH", path)
        .env("PTXSIM_DEVICE", format!("{:?}", run.device).to_lowercase())
        .env("PTXSIM_SEED", run.seed.to_string())
        .env("PTXSIM_MMA", format!("{:?}", run.mma).to_lowercase())
        .env("PTXSIM_CHECKS", flag(!run.no_checks))
        .env("PTXSIM_COUNTERS", flag(run.counters))
        .env("PTXSIM_STRICT", flag(run.strict))
        .env("PTXSIM_QUIET", flag(run.quiet))
        .env("PTXSIM_REPORT", report);
    if let Some(threads) = run.threads {
        command.env("PTXSIM_THREADS", threads.to_string());
    }
    if let Some(hang) = run.hang {
        command.env("PTXSIM_HANG", hang.to_string());
    }
    if let Some(seed) = run.perturb {
        command.env("PTXSIM_PERTURB", seed.to_string());
    }
    command
}

/// As a shell has it: 128 and the signal's number for a program that a signal ended.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    code as u8
}

fn print(summary: &Summary, sources: &Path) {
    eprintln!("ptxsim: {}, seed {}", summary.device, summary.seed);
    if !summary.kernels.is_empty() && summary.run.counted.is_none() {
        let columns = ["kernel", "launches", "warp instructions", "thread instructions"];
        let width =
            summary.kernels.keys().map(String::len).max().unwrap_or(0).max(columns[0].len());
        let [kernel, launches, warps, threads] = columns;
        eprintln!("{kernel:width$} {launches:>10} {warps:>18} {threads:>20}");
        for (name, k) in &summary.kernels {
            eprintln!(
                "{name:width$} {:>10} {:>18} {:>20}",
                k.launches, k.warp_instructions, k.thread_instructions
            );
        }
    }
    eprint!("{}", ptxsim::profile::Kernels(&summary.kernels, &summary.run));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    eprint!("{}", terminal::findings(&summary.findings, &mut Sources::below(sources), colours));
}
