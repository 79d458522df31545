//! `muse pull`.

use muse::Result;

use crate::options::PullArgs;

#[cfg(feature = "pull")]
pub fn run(arguments: PullArgs) -> Result<()> {
    use indicatif::{ProgressBar, ProgressStyle};
    use muse::hub::{Fetching, Pulled, pull};

    let PullArgs { repository, revision, variant, into } = arguments;
    let bar = ProgressBar::new(0);
    let template = "{bar:24} {bytes}/{total_bytes} {binary_bytes_per_sec} {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    let mut shown = String::new();
    let mut on_progress = |fetching: Fetching<'_>| {
        if shown != fetching.file {
            shown = fetching.file.into();
            bar.set_message(shown.clone());
            bar.reset();
        }
        bar.set_length(fetching.of);
        bar.set_position(fetching.bytes);
    };
    let pulled = pull(&repository, &revision, variant, into.as_deref(), &mut on_progress);
    bar.finish_and_clear();
    let Pulled { folder, commit } = pulled?;
    println!("{}", folder.display());
    eprintln!("{repository}: {revision} is commit {commit}");
    Ok(())
}

#[cfg(not(feature = "pull"))]
pub fn run(arguments: PullArgs) -> Result<()> {
    let problem = "this muse was built without `pull`; build it with `--features pull`, or fetch the repository \
                   with another program and name its folder";
    Err(muse::Error::Hub { repository: arguments.repository, problem: problem.into() })
}
