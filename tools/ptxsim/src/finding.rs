//! What went wrong, and where: the checks' output, in one form for all of them.

use std::sync::{Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

/// The checks, by the name that options and reports use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    OutOfBounds,
    Misaligned,
    UseAfterFree,
    UninitialisedRead,
    SharedRace,
    AsyncCopyRace,
    GlobalRace,
    DivergentBarrier,
    BarrierMismatch,
    Leak,
    DoubleFree,
    InvalidFree,
    BadLaunch,
    Trap,
}

/// One finding. Repeats of one (kind, kernel, PTX line), or of one message of the host's calls, are
/// counted, not listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub kind: Kind,
    /// One sentence: what was expected, what was found, which allocation was missed by how much.
    pub message: String,
    /// None for findings of the host's calls (leaks, frees).
    pub place: Option<Place>,
    pub count: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    pub kernel: String,
    /// `file.cu:12`, innermost first, callers after it; empty without `-lineinfo`.
    pub source: Vec<String>,
    pub ptx_line: u32,
    pub block: [u32; 3],
    pub warp: u32,
    pub lane: u32,
    pub address: Option<u64>,
}

/// All findings of a run, and what its kernels print.
#[derive(Debug, Default)]
pub struct Findings {
    all: Mutex<Vec<Finding>>,
    printed: Mutex<Vec<String>>,
}

impl Finding {
    /// A finding of one of the host's calls.
    pub fn of_host(kind: Kind, message: String) -> Self {
        Self { kind, message, place: None, count: 1 }
    }

    fn repeats(&self, other: &Self) -> bool {
        self.kind == other.kind
            && match (&self.place, &other.place) {
                (Some(a), Some(b)) => a.kernel == b.kernel && a.ptx_line == b.ptx_line,
                (None, None) => self.message == other.message,
                _ => false,
            }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)?;
        if let Some(Place { kernel, source, ptx_line, block, warp, lane, .. }) = &self.place {
            write!(
                f,
                "\n  in {kernel}, PTX line {ptx_line}, block {block:?}, warp {warp}, lane {lane}"
            )?;
            for line in source {
                write!(f, "\n  at {line}")?;
            }
        }
        if self.count > 1 {
            write!(f, "\n  {} times", self.count)?;
        }
        Ok(())
    }
}

impl Findings {
    pub fn add(&self, finding: Finding) {
        let mut all = self.all();
        match all.iter_mut().find(|known| known.repeats(&finding)) {
            Some(known) => known.count += finding.count,
            None => all.push(finding),
        }
    }

    /// Changes those from the `first` on.
    pub fn amend(&self, first: usize, change: impl FnMut(&mut Finding)) {
        self.all().iter_mut().skip(first).for_each(change);
    }

    /// Takes all that was found so far.
    pub fn take(&self) -> Vec<Finding> {
        std::mem::take(&mut self.all())
    }

    /// A copy of all that was found so far.
    pub fn list(&self) -> Vec<Finding> {
        self.all().clone()
    }

    pub fn len(&self) -> usize {
        self.all().len()
    }

    pub fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// Notes what a call of the device's `printf` writes.
    pub fn print(&self, texts: impl IntoIterator<Item = String>) {
        self.printed.lock().unwrap_or_else(|e| e.into_inner()).extend(texts);
    }

    /// Takes what was printed so far, a text for each call.
    pub fn take_printed(&self) -> Vec<String> {
        std::mem::take(&mut self.printed.lock().unwrap_or_else(|e| e.into_inner()))
    }

    fn all(&self) -> MutexGuard<'_, Vec<Finding>> {
        self.all.lock().unwrap_or_else(|e| e.into_inner())
    }
}
