//! An engine in a process of its own, which is asked and answers line by line (`benches/peers/serve.py`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use muse::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What an engine is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// What the model is; of muse alone.
    Identity,
    /// An image, and how long its parts took.
    Image { seed: u64, steps: Option<u32> },
    /// Text and one decode step.
    FirstStep,
    /// Logits and a picture of fixed tokens, into files.
    Probe { logits: PathBuf, picture: PathBuf },
}

/// What it says once it is loaded.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    pub versions: String,
    pub how: String,
}

/// The model, and the device in words.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub name: String,
    pub hash: String,
    pub device: String,
}

/// What it says of an image: seconds by what they were spent on, a step the mean of its stage.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Times {
    pub seconds: BTreeMap<String, f64>,
}

impl Times {
    /// All of them, of the engine `peer`.
    pub fn durations(self, peer: &str) -> Result<Vec<(String, Duration)>> {
        let duration = |(name, seconds)| match Duration::try_from_secs_f64(seconds) {
            Ok(duration) if !duration.is_zero() => Ok((name, duration)),
            _ => Err(Error::Peer {
                peer: peer.into(),
                problem: format!("answers that {name} took {seconds} s"),
            }),
        };
        self.seconds.into_iter().map(duration).collect()
    }
}

/// What it says once that is done which has no other answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Done {}

/// What it says instead where it fails.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    pub error: String,
}

/// A process, ended when it is dropped.
pub struct Process {
    name: String,
    log: PathBuf,
    patience: Duration,
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
    started: Instant,
}

impl Process {
    /// Starts `command`; what it prints besides answers goes to the file `log`. An answer is waited for as long as
    /// `patience`.
    pub fn start(
        name: &str,
        mut command: Command,
        log: &Path,
        patience: Duration,
    ) -> Result<Process> {
        let stderr = File::create(log).map_err(io(log, "creating the log"))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let started = Instant::now();
        let mut child = command.spawn().map_err(|error| Error::Peer {
            peer: name.into(),
            problem: format!("{} does not start: {error}", command.get_program().display()),
        })?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both are piped")
        };
        let (send, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let (name, log) = (name.into(), log.into());
        Ok(Process { name, log, patience, child, input, answers, started })
    }

    /// Time since the process was started.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Its first answer, once it is loaded.
    pub fn ready(&mut self) -> Result<Ready> {
        self.answer("the start")
    }

    /// Has it do something, and waits for the answer.
    pub fn ask<T: DeserializeOwned>(&mut self, ask: &Ask) -> Result<T> {
        let line = serde_json::to_string(ask).expect("a command is JSON");
        let _ = writeln!(self.input, "{line}"); // of a dead process: its answer is what is missed
        self.answer(&line)
    }

    fn answer<T: DeserializeOwned>(&mut self, to: &str) -> Result<T> {
        let line = match self.answers.recv_timeout(self.patience) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                let seconds = self.patience.as_secs();
                return self.fails(format!("no answer to {to} within {seconds} s (--patience)"));
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait().map_or("unknown".into(), |s| s.to_string());
                return self.fails(format!("ended without an answer to {to}: {status}"));
            }
        };
        if let Ok(Failed { error }) = serde_json::from_str(&line) {
            return self.fails(format!("failed at {to}: {error}"));
        }
        match serde_json::from_str(&line) {
            Ok(answer) => Ok(answer),
            Err(error) => {
                let found: String = line.chars().take(200).collect();
                self.fails(format!("answers {found:?} to {to}: {error}"))
            }
        }
    }

    fn fails<T>(&self, problem: String) -> Result<T> {
        let problem = format!("{problem}; see {}", self.log.display());
        Err(Error::Peer { peer: self.name.clone(), problem })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An error of the system about a file.
pub fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.into();
    move |source| Error::Io { path, action, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a process that runs `script` when it is asked for a first step.
    fn problem(script: &str, patience: Duration) -> String {
        let folder = tempfile::TempDir::new().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let log = folder.path().join("the.log");
        let mut process = Process::start("a peer", command, &log, patience).unwrap();
        let error = process.ready().and_then(|_| process.ask::<Done>(&Ask::FirstStep)).unwrap_err();
        assert_eq!(error.exit_code(), 6);
        let text = error.to_string();
        assert!(text.contains("peer 'a peer'") && text.contains("the.log"), "{text}");
        text
    }

    #[test]
    fn a_peer_that_keeps_to_no_protocol_is_named() {
        const READY: &str = r#"echo '{"versions": "1", "how": "so"}';"#;
        let long = Duration::from_secs(60);
        let finds = |script: &str, patience, words: &[&str]| {
            let text = problem(script, patience);
            words.iter().for_each(|word| assert!(text.contains(word), "no {word:?} in {text}"));
        };
        finds("exit 3", long, &["ended without an answer to the start", "3"]);
        finds("echo hello; read line", long, &["hello", "the start"]);
        finds("echo '{}'; read line", long, &["versions", "the start"]);
        finds(r#"echo '{"error": "no memory"}'"#, long, &["failed at the start: no memory"]);
        finds("sleep 600", Duration::from_millis(50), &["no answer to the start", "--patience"]);
        finds(&format!("{READY} read line"), long, &["ended without an answer", "first_step"]);
        let wrong = format!(r#"{READY} read line; echo '{{"seconds": 1}}'; read line"#);
        finds(&wrong, long, &["seconds", "first_step"]);
    }

    #[test]
    fn a_process_that_keeps_to_it_is_believed_but_for_times_that_cannot_be() {
        let folder = tempfile::TempDir::new().unwrap();
        let script = r#"echo '{"versions": "1", "how": "so"}'; read line; echo "{\"seconds\": {\"vq\": 0.25}}";
            read line; echo "{\"seconds\": {\"vq\": -1}}"; read line"#;
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let log = folder.path().join("the.log");
        let mut process = Process::start("a peer", command, &log, Duration::from_secs(60)).unwrap();
        assert_eq!(process.ready().unwrap().versions, "1");
        let mut image = || {
            process.ask::<Times>(&Ask::Image { seed: 1, steps: None }).unwrap().durations("a peer")
        };
        assert_eq!(image().unwrap(), [("vq".to_owned(), Duration::from_millis(250))]);
        assert!(image().unwrap_err().to_string().contains("vq took -1 s"));
    }
}
