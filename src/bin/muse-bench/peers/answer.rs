//! muse's own side of `peers`: answers as the other engines do, in a process of its own as they are.

use std::collections::BTreeMap;
use std::io::{BufRead, Write, stdin, stdout};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use muse::{Engine, EngineOptions, Error, Request, Result};
use serde::Serialize;

use super::process::{Ask, Done, Failed, Identity, Ready, Times, io};
use crate::options::AnswerArgs;

/// Loads the model and answers until standard input ends.
pub fn run(arguments: &AnswerArgs) -> Result<()> {
    let options = EngineOptions {
        device: arguments.device,
        dtype: arguments.dtype,
        threads: Some(arguments.threads as usize),
        ..EngineOptions::default()
    };
    let engine = Engine::load(&arguments.model, options)?;
    let versions = format!("muse {}", env!("CARGO_PKG_VERSION"));
    // The other engines' pipelines encode both texts for every image.
    let how =
        format!("{}; keeps the negative text and its half of the first step", engine.device());
    say(&Ok(Ready { versions, how }))?;
    for line in stdin().lock().lines() {
        let line = line.map_err(io(Path::new("standard input"), "reading"))?;
        let mut request = Request::new(&arguments.prompt);
        match serde_json::from_str(&line) {
            Ok(Ask::Image { seed, steps }) => {
                request.seed = seed;
                let stages = [&mut request.base, &mut request.superres];
                for stage in stages.into_iter().take(engine.stages().len()) {
                    stage.steps = steps.map(|n| n as usize);
                }
                say(&image(&engine, &request))?;
            }
            Ok(Ask::Identity) => say(&identity(&engine))?,
            Ok(Ask::FirstStep) => say(&first_step(&engine, &request))?,
            Ok(Ask::Probe { logits, picture }) => {
                say(&probe(&engine, &request, [&logits, &picture]))?
            }
            Err(error) => say::<Done>(&Err(Error::Peer {
                peer: "muse".into(),
                problem: format!("{line:?} is no command: {error}"),
            }))?,
        }
    }
    Ok(())
}

fn say<T: Serialize>(answer: &Result<T>) -> Result<()> {
    let json = match answer {
        Ok(answer) => serde_json::to_string(answer),
        Err(error) => serde_json::to_string(&Failed { error: error.to_string() }),
    };
    let mut out = stdout().lock();
    let written = writeln!(out, "{}", json.expect("an answer is JSON"));
    written.and_then(|()| out.flush()).map_err(io(Path::new("standard output"), "writing"))
}

fn identity(engine: &Engine) -> Result<Identity> {
    let hash = engine.model_hash()?.into();
    Ok(Identity { name: engine.name().into(), hash, device: engine.device() })
}

fn image(engine: &Engine, request: &Request) -> Result<Times> {
    let start = Instant::now();
    let image = engine.generate(request)?;
    let whole = start.elapsed();
    let timings = &image.timings;
    let mut seconds: BTreeMap<String, f64> =
        [("text", timings.text), ("vq", timings.vq), ("image", whole)]
            .map(|(name, time)| (name.to_owned(), time.as_secs_f64()))
            .into();
    let stages = [(timings.base, &timings.base_steps), (timings.superres, &timings.superres_steps)];
    for (stage, (time, steps)) in engine.stages().into_iter().zip(stages) {
        let steps: Vec<f64> = steps.iter().map(|step| step.as_secs_f64()).collect();
        seconds.insert(format!("{stage} stage"), time.as_secs_f64());
        // Half of the first one may be known: it stands for all only where it is the only one.
        let whole = if steps.len() > 1 { &steps[1..] } else { &steps[..] };
        seconds.insert(format!("{stage} step"), whole.iter().sum::<f64>() / whole.len() as f64);
    }
    Ok(Times { seconds })
}

fn first_step(engine: &Engine, request: &Request) -> Result<Done> {
    match engine.generate_with(request, &mut |_| ControlFlow::Break(())) {
        Ok(_) | Err(Error::Cancelled { .. }) => Ok(Done {}),
        Err(error) => Err(error),
    }
}

fn probe(engine: &Engine, request: &Request, [logits, picture]: [&Path; 2]) -> Result<Done> {
    let probe = engine.probe(request)?;
    let bytes: Vec<u8> = probe.logits.iter().flat_map(|logit| logit.to_le_bytes()).collect();
    std::fs::write(logits, bytes).map_err(io(logits, "writing"))?;
    std::fs::write(picture, probe.picture.rgb).map_err(io(picture, "writing"))?;
    Ok(Done {})
}
