//! One measurement as it is kept: what was measured, where, how, and every sample.

use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::stats::{Summary, summary};
use crate::error::{Error, Result};
use crate::image::write_new;

/// The schema of the files, and its version.
pub const SCHEMA: &str = "muse-bench 1";

/// Longest file that is read.
const MAX_BYTES: u64 = 64 << 20;

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: String,
    /// The command that took it: `step`, `image`, `ops`, `roofline` or `peers`.
    pub command: String,
    /// When, in seconds since 1970.
    pub time: u64,
    /// Where.
    pub machine: Machine,
    /// With which build.
    pub program: Program,
    /// How.
    pub method: Method,
    /// What; a machine's ceilings are of no model.
    pub subject: Option<Subject>,
    /// Which engine was measured; of `peers`.
    pub peer: Option<Peer>,
    /// The device is a simulator, of which no time was kept.
    pub simulated: bool,
    /// Times.
    pub series: Vec<Series>,
    /// Verbs of one image, the longest first; of `ops`.
    pub verbs: Vec<Verb>,
    /// What the machine can do at most; of `ops` and `roofline`.
    pub ceilings: Vec<Ceiling>,
}

/// Where a measurement was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The device in words: the model, threads and instructions of a processor, or the GPU and its driver.
    pub device: String,
    /// Logical processors that the program may use, as the system lists them.
    pub affinity: String,
    /// What governs the processors' clock.
    pub governor: String,
    /// Processes that ran or waited on average over the last minute, as the measurement began.
    pub load: f64,
    /// Bytes of memory.
    pub memory: u64,
    /// The operating system and its version.
    pub system: String,
}

/// Which build took a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// muse's version.
    pub version: String,
    /// The commit of the checkout that it was built in, `-dirty` after it where that has changes; "unknown" where
    /// the checkout is gone.
    pub commit: String,
    /// Hash of the program's file, 16 hexadecimal digits.
    pub hash: String,
    /// Optimised or not: a debug build's times say little.
    pub debug: bool,
}

/// How times were taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// The clock.
    pub clock: String,
    /// Images before the first one that counts.
    pub warm_up: u32,
    /// Images that count.
    pub iterations: u32,
    /// What was done to the caches between them.
    pub caches: String,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// The model's or the shape's name.
    pub model: String,
    /// Hash of the model's files, or of the shape's sizes.
    pub hash: String,
    /// What the weights are, where they are no file's.
    pub weights: String,
    /// How.
    pub settings: Settings,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `bf16`, `f32` or `int8`.
    pub dtype: String,
    /// `cpu` or `cuda`.
    pub device: String,
    /// Threads of the processor; `None` is all.
    pub threads: Option<u32>,
    /// Steps of each stage; `None` is the model's own.
    pub steps: Option<u32>,
    /// Guidance scale; `None` is the model's own.
    pub guidance: Option<f32>,
    /// Images decoded at once.
    pub batch: u32,
}

/// An engine of `muse-bench peers`, muse's own among them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// `muse`, `torch`, ….
    pub name: String,
    /// Of the engine and what it needs.
    pub versions: String,
    /// How it was used.
    pub how: String,
    /// Relative RMS of its logits to PyTorch's in f32, of the same tokens and prompts.
    pub logits_error: Option<f64>,
    /// Relative RMS of its picture, in bytes, likewise.
    pub picture_error: Option<f64>,
    /// Why there are no times, or no more of them.
    pub not_run: Option<String>,
}

/// Times of one thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// What: `base step`, `vq`, `verb linear`, ….
    pub name: String,
    /// Milliseconds, in the order they were taken.
    pub ms: Vec<f64>,
    /// The same in a few numbers.
    pub summary: Summary,
}

impl Series {
    /// `None` without samples.
    pub fn new(name: impl Into<String>, ms: Vec<f64>) -> Option<Self> {
        Some(Series { name: name.into(), summary: summary(&ms)?, ms })
    }

    /// Whether its samples are decode steps of a warm engine, but for those that begin a stage.
    pub fn is_step(&self) -> bool {
        self.name.ends_with(" step") && !self.name.ends_with("first step")
    }

    /// Whether it is about decode steps: warm, cold, or with verbs recorded.
    pub fn of_steps(&self) -> bool {
        self.is_step() || self.name.contains(" step,")
    }
}

/// All calls of one verb while one image is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verb {
    /// Its name.
    pub verb: String,
    /// Calls.
    pub calls: u64,
    /// Milliseconds, the median of all images.
    pub ms: f64,
    /// Floating-point operations of matrix products.
    pub flops: u64,
    /// Bytes that must move: every operand once.
    pub bytes: u64,
}

/// What a machine can do at most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceiling {
    /// `copy`, or the dtype of the products.
    pub name: String,
    /// Bytes or floating-point operations a second.
    pub rate: f64,
    /// How it was measured.
    pub how: String,
}

impl Machine {
    /// This machine, of which `device` is in use.
    pub fn read(device: String) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |path: &str, key: &str| {
            let text = read(path);
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.map(|line| line.trim_matches([':', ' ', '\t']).to_owned())
        };
        let known = |text: String| match text.trim() {
            "" => "unknown".to_owned(),
            text => text.to_owned(),
        };
        let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
        let memory = memory.split(' ').next().and_then(|kib| kib.parse::<u64>().ok());
        Machine {
            device,
            affinity: known(field("/proc/self/status", "Cpus_allowed_list").unwrap_or_default()),
            governor: known(read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|l| l.parse().ok())
                .unwrap_or(0.0),
            memory: memory.unwrap_or(0) << 10,
            system: known(format!(
                "{} {}",
                std::env::consts::OS,
                read("/proc/sys/kernel/osrelease")
            )),
        }
    }
}

impl Program {
    /// This build.
    pub fn read() -> Self {
        let git = |arguments: &[&str]| {
            let git = std::process::Command::new("git")
                .args(["-C", env!("CARGO_MANIFEST_DIR")])
                .args(arguments)
                .output();
            let output = git.ok().filter(|output| output.status.success())?;
            Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let commit = git(&["describe", "--always", "--exclude=*", "--abbrev=12", "--dirty"]);
        let program = std::env::current_exe().ok().and_then(|path| std::fs::read(path).ok());
        let hash = program.map(|bytes| blake3::hash(&bytes).to_hex()[..16].to_string());
        Program {
            version: env!("CARGO_PKG_VERSION").into(),
            commit: commit.unwrap_or_else(|| "unknown".into()),
            hash: hash.unwrap_or_else(|| "unknown".into()),
            debug: cfg!(debug_assertions),
        }
    }
}

impl Record {
    /// A record without times, taken now.
    pub fn new(command: &str, machine: Machine, method: Method, subject: Option<Subject>) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Record {
            schema: SCHEMA.into(),
            command: command.into(),
            time: now.map_or(0, |now| now.as_secs()),
            machine,
            program: Program::read(),
            method,
            subject,
            peer: None,
            simulated: false,
            series: Vec::new(),
            verbs: Vec::new(),
            ceilings: Vec::new(),
        }
    }

    /// The times of that name.
    pub fn series(&self, name: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.name == name)
    }

    /// The records of a file: a JSON array of them.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Model`] for a file of another schema, which names both.
    pub fn read(path: impl AsRef<Path>) -> Result<Vec<Record>> {
        let path = path.as_ref();
        let metadata = std::fs::metadata(path).map_err(Error::io(path, "reading the record"))?;
        if !metadata.is_file() || metadata.len() > MAX_BYTES {
            return Err(Error::model(path, "not a JSON file of at most 64 MiB"));
        }
        let json = std::fs::read(path).map_err(Error::io(path, "reading the record"))?;
        Self::parse(&json, path)
    }

    /// The records of a file's bytes; `path` is named in errors.
    pub fn parse(json: &[u8], path: &Path) -> Result<Vec<Record>> {
        let refuse = |problem: String| {
            Error::model(path, format!("{problem}; expected an array of records, {SCHEMA:?}"))
        };
        let value: serde_json::Value =
            serde_json::from_slice(json).map_err(|error| refuse(format!("no JSON: {error}")))?;
        let Some(records) = value.as_array().filter(|records| !records.is_empty()) else {
            return Err(refuse("no record".into()));
        };
        for record in records {
            match record["schema"].as_str() {
                Some(SCHEMA) => {}
                Some(other) => return Err(refuse(format!("of the schema {other:?}"))),
                None => return Err(refuse("names no schema".into())),
            }
        }
        serde_path_to_error::deserialize(value).map_err(|error| refuse(error.to_string()))
    }

    /// Writes a file of records, all of it or nothing.
    pub fn write(records: &[Record], path: impl AsRef<Path>) -> Result<()> {
        let json = serde_json::to_string_pretty(records).expect("records are JSON");
        write_new(path.as_ref(), (json + "\n").as_bytes(), true)
    }
}
