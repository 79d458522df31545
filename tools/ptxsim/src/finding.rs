//! What went wrong, and where: the checks' output, in one form for all of them.

use std::sync::Mutex;

/// The checks, by the name that options and reports use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

/// One finding. Repeats of one (kind, kernel, PTX line) are counted, not listed.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub kind: Kind,
    /// One sentence: what was expected, what was found, which allocation was missed by how much.
    pub message: String,
    /// None for findings of the host's calls (leaks, frees).
    pub place: Option<Place>,
    pub count: u64,
}

#[derive(Debug, Clone, PartialEq)]
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

/// All findings of a run.
#[derive(Debug, Default)]
pub struct Findings(Mutex<Vec<Finding>>);

impl Findings {
    pub fn add(&self, finding: Finding) {
        let mut all = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let key = |f: &Finding| (f.kind, f.place.as_ref().map(|p| (p.kernel.clone(), p.ptx_line)));
        match all.iter_mut().find(|f| f.place.is_some() && key(f) == key(&finding)) {
            Some(known) => known.count += finding.count,
            None => all.push(finding),
        }
    }

    /// Takes all that was found so far.
    pub fn take(&self) -> Vec<Finding> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(|e| e.into_inner()))
    }
}
