//! Files that are there whole or not at all.

use std::path::Path;

use crate::error::{Error, Result};

/// Writes a file beside its place and moves it there.
pub fn write_whole(path: &Path, text: &str) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let written = std::fs::write(partial, text).and_then(|()| std::fs::rename(partial, path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(partial);
        Error::io(path, "writing")(error)
    })
}
