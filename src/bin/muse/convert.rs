//! `muse convert`.

use muse::{Converted, Result, convert};

use crate::options::{ConvertArgs, model_dir};

pub fn run(arguments: ConvertArgs) -> Result<()> {
    let ConvertArgs { model, out, dtype } = arguments;
    let Converted { from, to } = convert(&model_dir(model.model)?, &out, dtype)?;
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    println!("{}", out.display());
    eprintln!("packed for {dtype}: {:.1} MB, of {:.1}", megabytes(to), megabytes(from));
    Ok(())
}
