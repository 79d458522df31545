//! What the peers need: a Python environment of their own, a model, and that model in their formats. Each is made
//! once, whole or not at all.

use std::fs::{File, create_dir_all, remove_dir_all, rename};
use std::path::{Path, PathBuf};
use std::process::Command;

use muse::{Error, Precision, Result};

use super::process::io;

/// The checkout that muse-bench was built in: the peers' programs are in it.
const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");

/// Where it all is.
pub struct Environment {
    folder: PathBuf,
    programs: PathBuf,
    python: PathBuf,
}

impl Environment {
    /// The environment in `folder` (else `target/peers` of the checkout), set up by the interpreter `python` unless it
    /// is there.
    pub fn new(folder: Option<&Path>, python: &str) -> Result<Self> {
        let folder =
            folder.map_or_else(|| Path::new(CHECKOUT).join("target/peers"), Path::to_path_buf);
        let programs = Path::new(CHECKOUT).join("benches/peers");
        let requirements = programs.join("requirements.txt");
        let pinned = std::fs::read(&requirements).map_err(io(&requirements, "reading"))?;
        create_dir_all(&folder).map_err(io(&folder, "creating"))?;
        // Programs run elsewhere than here.
        let folder = folder.canonicalize().map_err(io(&folder, "finding"))?;
        let name = format!("environment-{}", &blake3::hash(&pinned).to_hex()[..8]);
        let environment = folder.join(name);
        let log = folder.join("environment.log");
        whole(&environment, |partial| {
            eprintln!("setting up {} (minutes, gigabytes)", environment.display());
            let mut venv = Command::new(python);
            venv.args(["-m", "venv"]).arg(partial);
            run(
                "environment",
                venv,
                &log,
                "install Python 3 with its venv, or name one: --python",
            )?;
            let mut pip = Command::new(interpreter(partial));
            pip.args(["-m", "pip", "install", "--only-binary", ":all:", "-r"]).arg(&requirements);
            run("environment", pip, &log, "pip needs a package index, or a mirror in its settings")
        })?;
        Ok(Environment { python: interpreter(&environment), folder, programs })
    }

    /// Where the log of the peer `name` is.
    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{}.log", name.replace(' ', "-")))
    }

    /// The interpreter, and one of the peers' programs.
    pub fn program(&self, name: &str) -> [PathBuf; 2] {
        [self.python.clone(), self.programs.join(name)]
    }

    /// The made-up model `name` of `tools/fixtures`.
    pub fn model(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        whole(&path, |partial| {
            eprintln!("making {}", path.display());
            let mut cargo = Command::new("cargo");
            cargo.args(["run", "--release", "--locked", "-p", "fixtures", "--", name]).arg(partial);
            cargo.current_dir(CHECKOUT);
            run("environment", cargo, &self.folder.join("model.log"), "is Rust's cargo installed?")
        })?;
        Ok(path)
    }

    /// `model`, whose hash is `hash`, in the format of the peer `name`.
    pub fn converted(&self, name: &str, model: &Path, hash: &str) -> Result<PathBuf> {
        let path = self.folder.join(format!("{name}-{hash}"));
        whole(&path, |partial| {
            eprintln!("converting {} for {name}", model.display());
            let [python, program] = self.program("convert.py");
            let mut command = Command::new(python);
            command.arg(program).arg(name).arg(model).arg(partial);
            let log = self.folder.join(format!("{name}-convert.log"));
            run(name, command, &log, "the model could not be converted")
        })?;
        Ok(path)
    }

    /// `model`, whose hash is `hash`, packed for muse in a precision.
    pub fn packed(&self, model: &Path, hash: &str, dtype: Precision) -> Result<PathBuf> {
        let path = self.folder.join(format!("muse-{dtype}-{hash}"));
        if !path.is_dir() {
            eprintln!("converting {} for muse in {dtype}", model.display());
            muse::convert(model, &path, dtype)?;
        }
        Ok(path)
    }

    /// Files of a probe.
    pub fn probe(&self) -> [PathBuf; 2] {
        ["probe.logits", "probe.picture"].map(|name| self.folder.join(name))
    }
}

fn interpreter(environment: &Path) -> PathBuf {
    environment.join("bin/python")
}

/// Has `make` fill the folder `path`, unless that is there: under another name until it is whole.
fn whole(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let partial = path.with_extension("partial");
    let clear = || match partial.exists() {
        true => remove_dir_all(&partial).map_err(io(&partial, "removing")),
        false => Ok(()),
    };
    clear()?;
    create_dir_all(&partial).map_err(io(&partial, "creating"))?;
    let made = make(&partial)
        .and_then(|()| rename(&partial, path).map_err(io(&partial, "moving it to its place")));
    if made.is_err() {
        clear()?;
    }
    made
}

/// Runs a command of `peer` to its end, its output in `log`; `advice` is for when it fails.
fn run(peer: &str, mut command: Command, log: &Path, advice: &str) -> Result<()> {
    let create = || File::create(log).map_err(io(log, "creating the log"));
    let out = create()?;
    let err = out.try_clone().map_err(io(log, "writing"))?;
    let what = format!("{command:?}");
    let failed = |problem: String| {
        Err(Error::Peer { peer: peer.into(), problem: format!("{what} {problem}; {advice}") })
    };
    match command.stdout(out).stderr(err).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let last = text.trim_end().lines().last().unwrap_or("nothing was printed");
            failed(format!("failed ({status}): {last} (all of it: {})", log.display()))
        }
        Err(error) => failed(format!("does not start: {error}")),
    }
}
