//! Records as one HTML page that needs nothing else (no script, no font, no network), or as Markdown.

mod charts;
mod markdown;
mod svg;

use muse::bench::{Record, Settings};
use muse::image::write_new;
use muse::{Error, Result};

use crate::options::ReportArgs;
use svg::escape;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1d2228; --faint: #6b7680; --grid: #d8dee4; --page: #fff;
  --c0: #2f6fb3; --c1: #c2572b; --c2: #3a8a57; --c3: #8a5bb0; --c4: #a8861c; --c5: #2a8f9c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e7eb; --faint: #98a3ae; --grid: #3a424b; --page: #15191e;
  --c0: #6ea8e6; --c1: #ec8a5f; --c2: #74c795; --c3: #c39ae6; --c4: #d9ba57; --c5: #67c6d3; } }
@media print { :root { color-scheme: light; --ink: #000; --faint: #444; --grid: #ccc; --page: #fff;
  --c0: #2f6fb3; --c1: #c2572b; --c2: #3a8a57; --c3: #8a5bb0; --c4: #a8861c; --c5: #2a8f9c; }
  figure, table { break-inside: avoid; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .3rem; }
p, figcaption { color: var(--faint); margin: .2rem 0; }
figure { margin: .6rem 0; } svg { width: 100%; height: auto; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--grid); }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; } svg .faint { fill: var(--faint); }
svg .grid { stroke: var(--grid); } svg .ink { stroke: var(--ink); }
";

/// Reads all records and writes the page, whole or not at all.
pub fn run(arguments: &ReportArgs) -> Result<()> {
    let mut records = Vec::new();
    for path in &arguments.records {
        records.extend(Record::read(path)?);
    }
    if arguments.records.contains(&arguments.out) {
        let problem = "is one of the records; choose another file for the page";
        return Err(Error::Model { path: arguments.out.clone(), problem: problem.into() });
    }
    records.sort_by_key(|record| record.time);
    let text = match arguments.out.extension() {
        Some(extension) if extension == "md" => markdown::page(&records),
        _ => page(&records),
    };
    write_new(&arguments.out, text.as_bytes(), true)?;
    println!("{}: {} records", arguments.out.display(), records.len());
    Ok(())
}

fn page(records: &[Record]) -> String {
    let sections = [
        (
            "Decode steps",
            charts::steps(records),
            "Every sample, the median and the 5th to the 95th percentile.",
        ),
        (
            "Where an image's time goes",
            charts::stages(records),
            "Medians of whole images, stage by stage.",
        ),
        (
            "Verbs",
            charts::verbs(records),
            "Milliseconds of one image; the paler part is the least that the measured ceilings allow.",
        ),
        (
            "Roofline",
            charts::rooflines(records),
            "Verbs with matrix products; operands counted once. What lies above the slope had them in caches.",
        ),
        (
            "Against batch, steps and threads",
            charts::against(records),
            "Median milliseconds per decode step.",
        ),
        (
            "Over commits",
            charts::history(records),
            "Median milliseconds per decode step of records that differ in build and time alone.",
        ),
    ];
    let mut body = String::new();
    for (title, figures, caption) in sections {
        if figures.is_empty() {
            continue;
        }
        body += &format!("<h2>{title}</h2><p>{caption}</p>\n");
        for figure in figures {
            body += &format!("<figure>{figure}</figure>\n");
        }
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>muse-bench</title>\
         <style>{STYLE}</style></head>\n<body><h1>muse-bench</h1>\n{}{body}</body></html>\n",
        overview(records)
    )
}

/// What a record is called in the charts.
fn label(record: &Record) -> String {
    match &record.subject {
        Some(subject) => named(record, &subject.settings),
        None => record.machine.device.clone(),
    }
}

/// The engine and the model of a record with these settings.
fn named(record: &Record, settings: &Settings) -> String {
    let number = |n: Option<u32>, what: &str| match n {
        Some(1) => format!(", 1 {what}"),
        Some(n) => format!(", {n} {what}s"),
        None => String::new(),
    };
    let (threads, steps) = (number(settings.threads, "thread"), number(settings.steps, "step"));
    let batch = number(Some(settings.batch).filter(|&images| images > 1), "image");
    let peer = record.peer.as_ref().map_or(String::new(), |peer| format!("{}: ", peer.name));
    let model = record.subject.as_ref().map_or("", |subject| &subject.model);
    format!("{peer}{model} {} {}{threads}{steps}{batch}", settings.dtype, settings.device)
}

fn overview(records: &[Record]) -> String {
    let mut rows = String::new();
    for record in records {
        let (machine, program) = (&record.machine, &record.program);
        let step = record.series.iter().find(|series| series.is_step());
        let step = match (record.simulated, step) {
            (true, _) => "simulated: no times".to_owned(),
            (false, Some(step)) => format!("{:.3} ± {:.3}", step.summary.median, step.summary.mad),
            (false, None) => String::new(),
        };
        let debug = if program.debug { " (debug build)" } else { "" };
        rows += &format!(
            "<tr><td>{}<td>{}<td>{}{debug}<td>{}<td>{:.2}<td class=n>{step}</tr>\n",
            escape(&record.command),
            escape(&label(record)),
            escape(&program.commit),
            escape(&machine.device),
            machine.load,
        );
    }
    format!(
        "<div class=scroll><table><thead><tr><th>command<th>what<th>commit<th>device<th>load<th>ms per step, median ± MAD\
         </tr></thead>\n<tbody>{rows}</tbody></table></div>\n"
    )
}

#[cfg(test)]
mod tests;
