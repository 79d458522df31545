//! `muse generate`.

use muse::{Error, Request, Result};

use crate::images::{Batch, make};
use crate::options::GenerateArgs;

pub fn run(arguments: Box<GenerateArgs>) -> Result<()> {
    let GenerateArgs { prompt, prompts, count, sampling, run } = *arguments;
    let directory = prompts.is_some();
    let prompts = match prompts {
        Some(path) => {
            let read = |source| Error::Io { path: path.clone(), action: "reading prompts", source };
            let text = std::fs::read_to_string(&path).map_err(read)?;
            text.lines().map(str::to_owned).collect()
        }
        None => vec![prompt.unwrap_or_default()],
    };
    let step = u64::from(count.count);
    let request = |(prompt, index): (String, u64)| Request {
        seed: sampling.seed.wrapping_add(index * step),
        ..sampling.request(prompt)
    };
    let requests = prompts.into_iter().zip(0..).map(request).collect();
    make(&run, Batch { requests, count: count.count, directory })
}
