//! Files appear whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, Result};

const ACTION: &str = "writing the file";

/// Checks, before any work is done, that [`write_new`] will be able to write `path`.
pub fn check_new(path: &Path, force: bool) -> Result<()> {
    let check = || match usable(path, force)? {
        Target::Stream => Ok(()),
        Target::File(file) => Temporary::new(&file).map(drop),
    };
    check().map_err(Error::io(path, ACTION))
}

/// Writes `bytes` to the file `path`, which must not exist unless `force`.
///
/// The bytes go to another file of the same directory, which then takes the name: whatever fails,
/// a full disk included, `path` is as it was and nothing else is left behind. A device or pipe is
/// written to directly.
pub fn write_new(path: &Path, bytes: &[u8], force: bool) -> Result<()> {
    write_with(path, force, |file| file.write_all(bytes)).map_err(Error::io(path, ACTION))
}

pub(super) fn write_with(
    path: &Path,
    force: bool,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    match usable(path, force)? {
        Target::Stream => write(&mut OpenOptions::new().write(true).open(path)?),
        Target::File(target) => {
            let mut temporary = Temporary::new(&target)?;
            write(&mut temporary.file)?;
            temporary.rename(&target)
        }
    }
}

enum Target {
    /// A file to be made or replaced; where `path` is a link, what it leads to.
    File(PathBuf),
    /// A device or pipe.
    Stream,
}

fn usable(path: &Path, force: bool) -> io::Result<Target> {
    let refuse = |kind, reason: &str| Err(io::Error::new(kind, reason.to_owned()));
    if path.file_name().is_none() || path.as_os_str().to_string_lossy().ends_with('/') {
        return refuse(ErrorKind::InvalidInput, "it names no file; give a file name");
    }
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            refuse(ErrorKind::IsADirectory, "it is a directory; give a file name")
        }
        Ok(found) if !found.is_file() => Ok(Target::Stream),
        Ok(_) if !force => refuse(
            ErrorKind::AlreadyExists,
            "it exists already; choose another name, or overwrite it with --force",
        ),
        Ok(found) if found.permissions().readonly() => {
            refuse(ErrorKind::PermissionDenied, "it is read-only; choose another name")
        }
        Ok(_) => path.canonicalize().map(Target::File),
        Err(error) if error.kind() == ErrorKind::NotFound => match directory(path).is_dir() {
            true => Ok(Target::File(path.into())),
            false => refuse(ErrorKind::NotFound, "its directory does not exist; create it first"),
        },
        Err(error) => Err(error),
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A file beside the target, removed unless it takes the target's name.
struct Temporary {
    file: File,
    path: PathBuf,
}

impl Temporary {
    fn new(target: &Path) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!(".muse-{}-{count}.tmp", std::process::id());
            let path = directory(target).join(name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Temporary { file, path }),
                // Left by a killed process of the same number: take the next name.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn rename(mut self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        self.path = PathBuf::new(); // nothing is left to remove
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = fs::remove_file(&self.path); // the first error is the one to report
        }
    }
}
