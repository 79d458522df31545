//! Tables of plans: which tiles and splits were fastest on a GPU, in a file that `muse tune` makes.
//!
//! A table is good for one device with one driver and one build of the kernels. Without one the choices follow
//! rules that come from a modelled bound. Results do not depend on a table beyond the order of sums.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cuda::{Cuda, Identity, Plan, Problem, Timed};
use crate::error::{Error, Result};
use crate::image::write_new;

/// Where an engine takes the plans of its GPU from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanSource {
    /// The table of the user's cache folder, where there is one.
    #[default]
    Cached,
    /// No table.
    Rule,
    /// This file.
    File(PathBuf),
}

/// What an engine took.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlansUsed {
    /// A table.
    Table {
        /// Its file.
        path: PathBuf,
        /// How many plans it holds.
        plans: usize,
        /// It was made, as it is used, on a simulator: its times were no measurements.
        simulated: bool,
    },
    /// The rules: no table was asked for, or there is none.
    Rule,
    /// The rules, as the table cannot be used for the reason given, which names its file.
    Unusable(String),
}

impl fmt::Display for PlansUsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlansUsed::Table { path, plans, simulated } => {
                let from = if *simulated { " of a simulator" } else { "" };
                write!(f, "table{from}, {plans} plans: {}", path.display())
            }
            PlansUsed::Rule => write!(f, "by rule"),
            PlansUsed::Unusable(problem) => write!(f, "by rule: {problem}"),
        }
    }
}

/// One choice, and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// For what.
    pub problem: Problem,
    /// The fastest plan.
    pub plan: Plan,
    /// Its median time.
    pub nanoseconds: u64,
    /// That of the plan by rule.
    pub by_rule: u64,
}

impl From<&Timed> for Entry {
    fn from(timed: &Timed) -> Self {
        Entry {
            problem: timed.problem,
            plan: timed.best.0,
            nanoseconds: timed.best.1.as_nanos() as u64,
            by_rule: timed.rule.1.as_nanos() as u64,
        }
    }
}

/// The plans of one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// What they are good for.
    pub made_for: Identity,
    /// A plan a problem.
    pub plans: Vec<Entry>,
}

impl Table {
    /// `muse/plans-HASH.json` in the user's cache folder: `XDG_CACHE_HOME`, or else `.cache` in the home folder.
    pub fn cached(identity: &Identity) -> Option<PathBuf> {
        let set = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = set.filter(|path| path.is_absolute());
        let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache")))?;
        let Identity { device, driver, kernels, simulated } = identity;
        let hash = blake3::hash(format!("{device}\n{driver}\n{kernels}\n{simulated}").as_bytes());
        Some(cache.join("muse").join(format!("plans-{}.json", &hash.to_hex()[..16])))
    }

    /// Reads a table that was made for `identity`.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read, is no table, or is one of another device.
    pub fn read(path: &Path, identity: &Identity) -> Result<Table> {
        let fail = |problem: String| Err(invalid(path, problem));
        let text = std::fs::read_to_string(path).map_err(Error::io(path, READING))?;
        let table: Table = match serde_json::from_str(&text) {
            Ok(table) => table,
            Err(error) => {
                return fail(format!(
                    "not a table of plans ({error}); make it anew with muse tune"
                ));
            }
        };
        let of = |i: &Identity| {
            let simulated = if i.simulated { "simulated " } else { "" };
            format!("{simulated}{}, driver {}, kernels {}", i.device, i.driver, i.kernels)
        };
        if table.made_for != *identity {
            return fail(format!(
                "made for {}; this is {}: make one here with muse tune",
                of(&table.made_for),
                of(identity)
            ));
        }
        Ok(table)
    }

    /// Adds plans, in the place of older ones for the same problems.
    pub fn merge(&mut self, entries: impl IntoIterator<Item = Entry>) {
        let old = std::mem::take(&mut self.plans).into_iter().map(|entry| (entry.problem, entry));
        let mut all: BTreeMap<Problem, Entry> = old.collect();
        all.extend(entries.into_iter().map(|entry| (entry.problem, entry)));
        self.plans = all.into_values().collect();
    }

    /// Writes the table, in the place of an older one.
    ///
    /// # Errors
    /// [`Error::Io`]; an older table is then as it was.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(Error::io(folder, "making the folder"))?;
        }
        let mut text = serde_json::to_string_pretty(self).expect("a table of plain values");
        text.push('\n');
        write_new(path, text.as_bytes(), true)
    }

    /// Makes a device choose by this table, which was read from `path`.
    ///
    /// # Errors
    /// [`Error::Io`] for a plan that the device does not allow.
    pub fn apply(&self, path: &Path, device: &mut Cuda) -> Result<()> {
        let plans = self.plans.iter().map(|entry| (entry.problem, entry.plan)).collect();
        match device.use_plans(plans) {
            None => Ok(()),
            Some((problem, plan)) => {
                let problem = format!(
                    "{problem} cannot be done with {plan}: the table is damaged; make it anew with muse tune"
                );
                Err(invalid(path, problem))
            }
        }
    }
}

impl PlanSource {
    /// Makes a device choose by the table that is meant.
    ///
    /// # Errors
    /// [`Error::Io`] where a file was named and cannot be used.
    pub fn apply(&self, device: &mut Cuda) -> Result<PlansUsed> {
        let identity = device.identity();
        let mut read = |path: PathBuf| {
            let table = Table::read(&path, &identity)?;
            table.apply(&path, device)?;
            let (plans, simulated) = (table.plans.len(), identity.simulated);
            Ok(PlansUsed::Table { path, plans, simulated })
        };
        match self {
            PlanSource::Rule => Ok(PlansUsed::Rule),
            PlanSource::File(path) => read(path.clone()),
            PlanSource::Cached => Ok(match Table::cached(&identity).map(read) {
                None => PlansUsed::Rule,
                Some(Ok(used)) => used,
                Some(Err(Error::Io { source, .. })) if source.kind() == ErrorKind::NotFound => {
                    PlansUsed::Rule
                }
                Some(Err(error)) => PlansUsed::Unusable(error.to_string()),
            }),
        }
    }
}

const READING: &str = "reading plans";

fn invalid(path: &Path, problem: String) -> Error {
    Error::io(path, READING)(std::io::Error::new(ErrorKind::InvalidData, problem))
}
