//! The engines of one run side by side.

use muse::bench::{Peer, Ratio, Record, Series, ratio};

use super::contestant::MUSE;

/// One number of one engine.
struct Row<'a> {
    engine: String, // and its dtype
    series: &'a Series,
    /// How many times as long as muse, and muse's dtype.
    to_muse: Option<(Ratio, &'a str)>,
    peer: &'a Peer,
}

fn peer(record: &Record) -> &Peer {
    record.peer.as_ref().expect("a record of an engine")
}

fn dtype(record: &Record) -> &str {
    record.subject.as_ref().map_or("", |subject| &subject.settings.dtype)
}

fn engine(record: &Record) -> String {
    format!("{} {}", peer(record).name, dtype(record))
}

/// Every number that was measured, each with the engines that have it: paired with muse of the same dtype, round by
/// round, and where muse has none, of bf16.
fn numbers<'a>(records: &[&'a Record]) -> Vec<(&'a str, Vec<Row<'a>>)> {
    let order =
        ["text", "base step", "base stage", "superres step", "superres stage", "vq", "image"];
    let place = |name: &str| order.iter().position(|n| *n == name).unwrap_or(order.len());
    let mut names: Vec<&str> = Vec::new();
    for series in records.iter().flat_map(|record| &record.series) {
        if !names.contains(&series.name.as_str()) {
            names.push(&series.name);
        }
    }
    names.sort_by_key(|name| place(name));
    let muse = |dtype: &str| {
        records.iter().find(|r| peer(r).name == MUSE && self::dtype(r) == dtype).copied()
    };
    let rows = |name: &'a str| {
        let row = |record: &&'a Record| {
            let series = record.series(name)?;
            let other = muse(dtype(record)).or_else(|| muse("bf16"));
            let other = other.filter(|_| peer(record).name != MUSE);
            let to_muse = other.and_then(|muse| {
                let ours = &muse.series(name)?.ms;
                let pairs = ours.len().min(series.ms.len()); // fewer of one that failed
                Some((ratio(&ours[..pairs], &series.ms[..pairs], true)?, dtype(muse)))
            });
            Some(Row { engine: engine(record), series, to_muse, peer: peer(record) })
        };
        (name, records.iter().filter_map(row).collect())
    };
    names.into_iter().map(rows).collect()
}

fn error(error: Option<f64>) -> String {
    error.map_or("–".into(), |error| format!("{error:.1e}"))
}

/// For a terminal.
pub fn text(records: &[&Record]) -> String {
    let mut text = String::new();
    for (name, rows) in numbers(records) {
        text += &format!(
            "\n{name:<22} {:>7} {:>10} {:>8} {:>8} {:>15} {:>9} {:>9}\n",
            "samples", "median ms", "± MAD", "× muse", "95 % interval", "logits", "picture"
        );
        for Row { engine, series, to_muse, peer } in rows {
            let s = &series.summary;
            let (times, interval) = match to_muse {
                Some((r, _)) => {
                    (format!("{:.2}", r.ratio), format!("{:.2} to {:.2}", r.low, r.high))
                }
                None => Default::default(),
            };
            let of = to_muse.map_or(String::new(), |(_, dtype)| format!("  (of muse {dtype})"));
            text += &format!(
                "  {engine:<20} {:>7} {:>10.2} {:>8.2} {times:>8} {interval:>15} {:>9} {:>9}{of}\n",
                s.count,
                s.median,
                s.mad,
                error(peer.logits_error),
                error(peer.picture_error),
            );
        }
    }
    text += "\nlogits, picture: relative RMS to torch f32 of the same tokens and texts\n";
    for record in records {
        let Peer { versions, how, not_run, .. } = peer(record);
        text += &match not_run {
            Some(why) => format!("{}: not run: {why}\n", engine(record)),
            None => format!("{}: {versions}; {how}\n", engine(record)),
        };
    }
    text
}

/// For `RESULTS.md`.
pub fn markdown(records: &[&Record]) -> String {
    let mut text = String::from(
        "One image of every engine in turn, round after round. × muse: the median over the rounds of how many times as \
         long an engine took as muse of the dtype in brackets, and the 95 % interval of that.\n\n",
    );
    text += "| | engine | samples | median | MAD | × muse | 95 % interval |\n|---|---|---|---|---|---|---|\n";
    for (name, rows) in numbers(records) {
        for Row { engine, series, to_muse, .. } in rows {
            let s = &series.summary;
            let times = match to_muse {
                Some((r, dtype)) => {
                    format!("{:.2} ({dtype}) | {:.2} to {:.2}", r.ratio, r.low, r.high)
                }
                None => " | ".into(),
            };
            let (median, mad) = (s.median, s.mad);
            text += &format!(
                "| {name} | {engine} | {} | {median:.2} | {mad:.2} | {times} |\n",
                s.count
            );
        }
    }
    text += "\nErrors are relative RMS to torch f32 of the same tokens and texts.\n\n\
             | engine | logits' error | picture's error | versions | how |\n|---|---|---|---|---|\n";
    for record in records {
        let Peer { versions, how, not_run, logits_error, picture_error, .. } = peer(record);
        let how = not_run.as_ref().map_or(how.clone(), |why| format!("**not run**: {why}"));
        let how = how.replace('|', "\\|").replace('\n', " ");
        let (logits, picture) = (error(*logits_error), error(*picture_error));
        text += &format!("| {} | {logits} | {picture} | {versions} | {how} |\n", engine(record));
    }
    text
}
