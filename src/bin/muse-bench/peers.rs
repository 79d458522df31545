//! The same weights and inputs through muse and through other engines: who is faster, and do they agree?
//!
//! Every engine is a process of its own. Each round takes one image of each engine in turn, so that what slows the
//! machine down slows all of them; afterwards fresh processes are timed to their first step, in turn as well.

pub mod answer;
mod contestant;
mod environment;
mod process;
pub mod table;

use std::path::PathBuf;
use std::time::Duration;

use muse::bench::{Machine, Method, Record, Settings, Subject};
use muse::{DeviceChoice, Error, Result, hub};

use crate::options::PeersArgs;
use contestant::{Contestant, Entry};
use environment::Environment;

/// Between two engines, for the threads of the one before to come to rest.
const PAUSE: Duration = Duration::from_millis(300);

/// Measures, prints and keeps. What one peer fails at is in its row, and the error once all else is done.
pub fn run(arguments: &PeersArgs) -> Result<()> {
    let machine = Machine::read(String::new()); // before the load that we are ourselves
    let device = match arguments.device.gpu()? {
        (Some(gpu), _) if gpu.identity().simulated => {
            let expected = "a device with times: this one is simulated";
            return Err(option("device", arguments.device.to_string(), expected));
        }
        (Some(_), _) if arguments.device == DeviceChoice::Auto => DeviceChoice::Cuda(0),
        (Some(_), _) => arguments.device,
        (None, _) => DeviceChoice::Cpu,
    };
    if arguments.shape.is_none() && !arguments.model.is_dir() {
        let problem = "no such directory; expected a model's";
        return Err(Error::Model { path: arguments.model.clone(), problem: problem.into() });
    }
    let amused = hub::is_folder(&arguments.model) || arguments.shape.is_some();
    let entries = chosen(arguments, Entry::all(amused, device))?;
    let environment = Environment::new(arguments.folder.as_deref(), &arguments.python)?;
    let model = model(arguments, &environment)?;
    let threads = match arguments.threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
    };
    let field = contestant::Field { arguments, environment: &environment, model, device, threads };
    let mut contestants: Vec<Contestant> = entries.into_iter().map(Contestant::new).collect();

    let identity = field.start(&mut contestants)?;
    for round in 0..arguments.rounds {
        eprintln!("round {} of {}", round + 1, arguments.rounds);
        for contestant in &mut contestants {
            std::thread::sleep(PAUSE);
            contestant.image(u64::from(round), arguments.steps);
        }
    }
    contestants.iter_mut().for_each(Contestant::stop);
    for number in 0..arguments.starts {
        eprintln!("start {} of {}", number + 1, arguments.starts);
        for contestant in &mut contestants {
            if number == 0 {
                contestant.pack(&field, &identity.hash)?;
            }
            contestant.fresh(&field);
        }
    }

    let subject = |dtype: &str| Subject {
        model: identity.name.clone(),
        hash: identity.hash.clone(),
        weights: if arguments.shape.is_some() { "noise" } else { "the model's" }.into(),
        settings: Settings {
            dtype: dtype.into(),
            device: if device == DeviceChoice::Cpu { "cpu" } else { "cuda" }.into(),
            threads: Some(threads),
            steps: arguments.steps,
            guidance: None,
            batch: 1,
        },
    };
    let method = Method {
        clock: "monotonic, each engine's own; of fresh processes muse-bench's".into(),
        warm_up: 0,
        iterations: arguments.rounds,
        caches: "not flushed: as the engine before left them, files in the page cache".into(),
    };
    let machine = Machine { device: identity.device, ..machine };
    let base = Record::new("peers", machine, method, None);
    let (mut records, mut failures) = (Vec::new(), Vec::new());
    for contestant in contestants {
        let Contestant { entry, peer, measured, failure, .. } = contestant;
        records.push(Record {
            subject: Some(subject(&entry.dtype)),
            peer: Some(peer),
            series: measured.series(),
            ..base.clone()
        });
        failures.extend(failure);
    }
    crate::tables::head(&records[0], "");
    print!("{}", table::text(&records.iter().collect::<Vec<_>>()));
    if let Some(path) = &arguments.json {
        Record::write(&records, path)?;
    }
    failures.into_iter().next().map_or(Ok(()), Err)
}

/// The model's folder: where its files are, of a hub's cache too.
fn model(arguments: &PeersArgs, environment: &Environment) -> Result<PathBuf> {
    let folder = match &arguments.shape {
        Some(shape) => environment.model(shape.name())?,
        None => arguments.model.clone(),
    };
    let folder = match hub::is_folder(&folder) {
        true => {
            let tokenizer = hub::Folder::open(&folder, None)?.tokenizer;
            tokenizer.parent().map_or(folder, Into::into)
        }
        false => folder,
    };
    folder.canonicalize().map_err(process::io(&folder, "finding the model"))
}

/// muse, and what was asked for of the others.
fn chosen(arguments: &PeersArgs, entries: Vec<Entry>) -> Result<Vec<Entry>> {
    let known = |name: &str| entries.iter().any(|entry| entry.peer == name);
    if let Some(name) = arguments.peers.iter().find(|name| !known(name)) {
        let mut names: Vec<&str> = entries.iter().map(|entry| entry.peer).collect();
        names.dedup();
        let expected = format!("{} for this model and device", names.join(", "));
        return Err(option("peers", name.clone(), &expected));
    }
    let asked = |entry: &Entry| {
        let peer = arguments.peers.is_empty() || arguments.peers.iter().any(|p| p == entry.peer);
        let dtype = arguments.dtypes.is_empty() || arguments.dtypes.contains(&entry.dtype);
        dtype && (peer || entry.peer == contestant::MUSE)
    };
    let (chosen, others): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(asked);
    if chosen.iter().all(|entry| entry.peer == contestant::MUSE) {
        let has = |entry: &Entry| format!("{} {}", entry.peer, entry.dtype);
        let expected: Vec<String> = others.iter().map(has).collect();
        return Err(option(
            "dtypes",
            arguments.dtypes.join(","),
            &format!("those of a peer: {}", expected.join(", ")),
        ));
    }
    Ok(chosen)
}

fn option(name: &'static str, found: String, expected: &str) -> Error {
    Error::Option { name, found, expected: expected.into() }
}
