//! The engines of one run: which there are, how each is started, and what was measured of it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use muse::bench::{Measured, Peer};
use muse::cpu::Cpu;
use muse::device::Device;
use muse::{DeviceChoice, Error, Precision, Result};

use super::environment::Environment;
use super::process::{Ask, Done, Identity, Process, Ready, Times, io};
use crate::options::PeersArgs;

/// What muse is called in the table.
pub const MUSE: &str = "muse";
/// The engine, in f32, that all others are held to.
const REFERENCE: &str = "torch";

/// One engine in one dtype.
#[derive(Clone, Debug)]
pub struct Entry {
    pub peer: &'static str,
    pub dtype: String,
    program: &'static str, // of benches/peers
}

impl Entry {
    /// Those that run models of this family on this device, muse first, each in the dtypes that it has.
    pub fn all(amused: bool, device: DeviceChoice) -> Vec<Entry> {
        let peers: &[(&'static str, &[&str], &'static str)] = match (amused, device) {
            (false, DeviceChoice::Cpu) => &[(REFERENCE, &["f32", "bf16"], "torch_demo.py")],
            (false, _) => &[],
            (true, DeviceChoice::Cpu) => &[
                (REFERENCE, &["f32", "bf16", "int8"], "torch_amused.py"),
                ("openvino", &["f32", "bf16"], "openvino_amused.py"),
                ("onnxruntime", &["f32"], "onnxruntime_amused.py"),
            ],
            (true, _) => &[
                (REFERENCE, &["bf16"], "torch_amused.py"),
                ("torch.compile", &["bf16"], "torch_amused.py"),
            ],
        };
        let muse = |dtype: &&str| {
            dtype.parse::<Precision>().is_ok() && (device == DeviceChoice::Cpu || *dtype == "bf16")
        };
        let muse: Vec<&str> = ["f32", "bf16", "int8"].into_iter().filter(muse).collect();
        let entry =
            |peer, program| move |&dtype: &&str| Entry { peer, dtype: dtype.into(), program };
        let others = peers
            .iter()
            .flat_map(|(peer, dtypes, program)| dtypes.iter().map(entry(peer, program)));
        muse.iter().map(entry(MUSE, "")).chain(others).collect()
    }

    fn name(&self) -> String {
        format!("{} {}", self.peer, self.dtype)
    }

    /// Bytes of memory that it takes, about, of a model that has so many in f32.
    fn bytes(&self, model: u64) -> u64 {
        match (self.peer, self.dtype.as_str()) {
            (MUSE, "f32") => model,
            (MUSE, _) => model / 2,
            ("onnxruntime", _) => 2 * model,
            (_, "f32") => model + model / 2,
            _ => model, // loaded in f32 first
        }
    }
}

/// What all of them are measured on.
pub struct Field<'a> {
    pub arguments: &'a PeersArgs,
    pub environment: &'a Environment,
    pub model: PathBuf,
    pub device: DeviceChoice,
    pub threads: u32,
}

/// One engine, and what was measured of it.
pub struct Contestant {
    pub entry: Entry,
    pub peer: Peer,
    pub measured: Measured,
    /// Why there is no more of it.
    pub failure: Option<Error>,
    process: Option<Process>,
    converted: Option<PathBuf>, // the model in the engine's own format, where it runs nothing else
    packed: Option<PathBuf>,    // by `muse convert`
}

/// Logits and picture of fixed tokens.
struct Probed {
    logits: Vec<f32>,
    picture: Vec<u8>,
}

impl Field<'_> {
    /// Starts all engines and has each make the same logits and picture, of which their errors are taken.
    ///
    /// # Errors
    /// Those of muse, and of the reference where no row of the table is of it.
    pub fn start(&self, contestants: &mut [Contestant]) -> Result<Identity> {
        let bytes = bytes_of(&self.model)?;
        let mut identity = None;
        for contestant in contestants.iter_mut() {
            let hash = identity.as_ref().map_or("", |identity: &Identity| &identity.hash);
            let started = self.room(&contestant.entry, bytes).and_then(|()| {
                contestant.converted = self.converted(&contestant.entry, hash)?;
                eprintln!("starting {}", contestant.entry.name());
                self.process(&contestant.entry, &self.model, contestant.converted.as_deref())
            });
            match started {
                Ok((mut process, ready)) => {
                    if identity.is_none() {
                        let Identity { name, hash, device } = process.ask(&Ask::Identity)?;
                        identity = Some(Identity { name, hash, device });
                    }
                    (contestant.peer.versions, contestant.peer.how) = (ready.versions, ready.how);
                    contestant.process = Some(process);
                }
                Err(error) if contestant.entry.peer == MUSE => return Err(error),
                Err(error) => contestant.fails(error),
            }
        }
        self.probe(contestants)?;
        Ok(identity.expect("muse is always there, and first"))
    }

    /// Refuses what does not fit in the memory that is free.
    fn room(&self, entry: &Entry, model: u64) -> Result<()> {
        let (needed, free) = (entry.bytes(model), Cpu::new(Some(1))?.free_memory() as u64);
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        match needed <= free || self.device != DeviceChoice::Cpu {
            true => Ok(()),
            false => Err(Error::Peer {
                peer: entry.name(),
                problem: format!(
                    "needs about {:.1} GiB of memory beside the others and {:.1} are free; take fewer --dtypes or --peers \
                     at once",
                    gib(needed),
                    gib(free)
                ),
            }),
        }
    }

    fn converted(&self, entry: &Entry, hash: &str) -> Result<Option<PathBuf>> {
        let own = matches!(entry.peer, "openvino" | "onnxruntime");
        own.then(|| self.environment.converted(entry.peer, &self.model, hash)).transpose()
    }

    /// Starts a process of an engine and waits until it is loaded.
    fn process(
        &self,
        entry: &Entry,
        model: &Path,
        converted: Option<&Path>,
    ) -> Result<(Process, Ready)> {
        let mut arguments: Vec<OsString> = Vec::new();
        let program = match entry.peer {
            MUSE => {
                arguments.push("answer".into());
                std::env::current_exe()
                    .map_err(io(Path::new("muse-bench"), "finding the program"))?
            }
            _ => {
                let [python, program] = self.environment.program(entry.program);
                arguments.push(program.into());
                python
            }
        };
        arguments.extend([model.into(), self.arguments.prompt.clone().into()]);
        let options = [
            ("--dtype", entry.dtype.clone()),
            ("--threads", self.threads.to_string()),
            ("--device", self.device.to_string()),
        ];
        for (name, value) in options {
            arguments.extend([name.into(), value.into()]);
        }
        if let Some(converted) = converted {
            arguments.extend(["--converted".into(), converted.into()]);
        }
        if entry.peer == "torch.compile" {
            arguments.push("--compile".into());
        }
        let mut command = Command::new(program);
        command.args(arguments);
        let patience = Duration::from_secs(u64::from(self.arguments.patience));
        let name = entry.name();
        let mut process = Process::start(&name, command, &self.environment.log(&name), patience)?;
        let ready = process.ready()?;
        Ok((process, ready))
    }

    /// Takes every engine's errors against the reference.
    fn probe(&self, contestants: &mut [Contestant]) -> Result<()> {
        let is_reference = |entry: &Entry| entry.peer == REFERENCE && entry.dtype == "f32";
        let place = contestants.iter().position(|c| is_reference(&c.entry) && c.process.is_some());
        let exact = match place {
            Some(place) => self.probed(contestants[place].process.as_mut().expect("it runs"))?,
            None => {
                let all = Entry::all(muse::hub::is_folder(&self.model), DeviceChoice::Cpu);
                let entry = all.into_iter().find(is_reference).expect("every family has it");
                eprintln!("starting {}, which the others are held to", entry.name());
                let on_cpu =
                    Field { device: DeviceChoice::Cpu, model: self.model.clone(), ..*self };
                self.probed(&mut on_cpu.process(&entry, &self.model, None)?.0)?
            }
        };
        for contestant in contestants {
            let Some(process) = &mut contestant.process else { continue };
            let errors = self.probed(process).and_then(|probed| {
                let name = contestant.entry.name();
                let bytes = |bytes: &[u8]| bytes.iter().map(|&b| f32::from(b)).collect::<Vec<_>>();
                let logits = relative_rms(&name, "logits", &probed.logits, &exact.logits)?;
                let (found, exact) = (bytes(&probed.picture), bytes(&exact.picture));
                Ok((logits, relative_rms(&name, "bytes of the picture", &found, &exact)?))
            });
            match errors {
                Ok((logits, picture)) => {
                    contestant.peer.logits_error = Some(logits);
                    contestant.peer.picture_error = Some(picture);
                }
                Err(error) => contestant.fails(error),
            }
        }
        Ok(())
    }

    fn probed(&self, process: &mut Process) -> Result<Probed> {
        let [logits, picture] = self.environment.probe();
        let ask = Ask::Probe { logits: logits.clone(), picture: picture.clone() };
        process.ask::<Done>(&ask)?;
        let read = |path: &Path| {
            let bytes = std::fs::read(path).map_err(io(path, "reading a peer's result"))?;
            std::fs::remove_file(path).map_err(io(path, "removing"))?;
            Ok(bytes)
        };
        let floats = read(&logits)?;
        let floats = floats.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        Ok(Probed { logits: floats.collect(), picture: read(&picture)? })
    }
}

impl Contestant {
    pub fn new(entry: Entry) -> Self {
        let peer = Peer {
            name: entry.peer.into(),
            versions: String::new(),
            how: String::new(),
            logits_error: None,
            picture_error: None,
            not_run: None,
        };
        let measured = Measured::default();
        Contestant {
            entry,
            peer,
            measured,
            failure: None,
            process: None,
            converted: None,
            packed: None,
        }
    }

    /// Has it make an image, where it still runs.
    pub fn image(&mut self, seed: u64, steps: Option<u32>) {
        let Some(process) = &mut self.process else { return };
        let times = process.ask::<Times>(&Ask::Image { seed, steps });
        let times = times.and_then(|times| times.durations(&self.entry.name()));
        match times {
            Ok(times) => {
                times.into_iter().for_each(|(name, time)| self.measured.add(name, time));
            }
            Err(error) => self.fails(error),
        }
    }

    /// Has muse's model packed ([`muse::convert`]): its starts are timed with that too.
    pub fn pack(&mut self, field: &Field<'_>, hash: &str) -> Result<()> {
        if (self.entry.peer, field.device) == (MUSE, DeviceChoice::Cpu) {
            let dtype = self.entry.dtype.parse().expect("muse's dtypes are precisions");
            self.packed = Some(field.environment.packed(&field.model, hash, dtype)?);
        }
        Ok(())
    }

    /// Times fresh processes from their start to the end of their first step, unless the engine has failed.
    pub fn fresh(&mut self, field: &Field<'_>) {
        let own = Some(("process to first step", &field.model));
        let packed = self.packed.as_ref().map(|model| ("process to first step, packed", model));
        for (name, model) in own.into_iter().chain(packed) {
            if self.failure.is_some() {
                return;
            }
            std::thread::sleep(super::PAUSE);
            let started = field.process(&self.entry, model, self.converted.as_deref());
            let done = started.and_then(|(mut process, _)| {
                process.ask::<Done>(&Ask::FirstStep)?;
                Ok(process.age())
            });
            match done {
                Ok(age) => self.measured.add(name, age),
                Err(error) => return self.fails(error),
            }
        }
    }

    /// Ends its process.
    pub fn stop(&mut self) {
        self.process = None;
    }

    fn fails(&mut self, error: Error) {
        eprintln!("{error}");
        self.peer.not_run = Some(error.to_string());
        self.failure = Some(error);
        self.process = None;
    }
}

/// √(Σ (found − exact)² / Σ exact²).
fn relative_rms(peer: &str, what: &str, found: &[f32], exact: &[f32]) -> Result<f64> {
    let problem = match found.iter().chain(exact).all(|x| x.is_finite()) {
        false => format!("its {what}, or the reference's, are not all numbers"),
        true if found.len() != exact.len() || exact.is_empty() => {
            format!("{} {what}; the reference has {}", found.len(), exact.len())
        }
        true => {
            let square = |x: f32| f64::from(x) * f64::from(x);
            let error: f64 = found.iter().zip(exact).map(|(a, b)| square(a - b)).sum();
            let exact: f64 = exact.iter().map(|&b| square(b)).sum();
            return Ok((error / exact).sqrt());
        }
    };
    Err(Error::Peer { peer: peer.into(), problem })
}

/// Bytes of all files of a model, two levels deep.
fn bytes_of(model: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(model).map_err(io(model, "listing"))?.flatten() {
        let path = entry.path();
        bytes += match path.is_dir() {
            true => std::fs::read_dir(&path)
                .map_err(io(&path, "listing"))?
                .flatten()
                .filter_map(|file| std::fs::metadata(file.path()).ok())
                .map(|file| file.len())
                .sum(),
            false => std::fs::metadata(&path).map_or(0, |file| file.len()),
        };
    }
    Ok(bytes)
}
