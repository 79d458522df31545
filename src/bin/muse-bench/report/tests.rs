use muse::bench::{Ceiling, Machine, Method, Record, Series, Settings, Subject, Verb};

use super::{markdown, page};

/// A made-up record of `steps` steps.
fn record(command: &str, steps: u32, commit: &str) -> Record {
    let text = |text: &str| text.to_owned();
    let machine = Machine {
        device: text("a <processor> & \"more\""),
        affinity: text("0-1"),
        governor: text("unknown"),
        load: 0.5,
        memory: 1 << 34,
        system: text("linux"),
    };
    let method =
        Method { clock: text("monotonic"), warm_up: 1, iterations: 3, caches: text("not flushed") };
    let settings = Settings {
        dtype: text("bf16"),
        device: text("cpu"),
        threads: Some(2),
        steps: Some(steps),
        guidance: None,
        batch: 1,
    };
    let subject =
        Subject { model: text("demo"), hash: text("0"), weights: text("the model's"), settings };
    let mut record = Record::new(command, machine, method, Some(subject));
    record.program.commit = commit.into();
    for (name, ms) in
        [("base step", vec![5.0, 5.5, 5.2]), ("text", vec![1.0]), ("base stage", vec![60.0])]
    {
        record.series.extend(Series::new(name, ms));
    }
    record
}

#[test]
fn a_page_shows_all_that_records_hold_and_needs_nothing_else() {
    let mut ops = record("ops", 12, "a");
    let verb =
        |verb: &str, ms, flops| Verb { verb: verb.into(), calls: 3, ms, flops, bytes: 1 << 20 };
    ops.verbs = vec![verb("linear", 4.0, 1 << 30), verb("layer_norm", 1.0, 0)];
    let ceiling = |name: &str, rate| Ceiling { name: name.into(), rate, how: String::new() };
    ops.ceilings = vec![ceiling("bf16", 4e11), ceiling("copy", 2e10)];
    let (mut later, steps) = (record("step", 12, "b"), record("step", 24, "a"));
    later.time += 1;
    let mut side_by_side = record("step", 12, "a");
    side_by_side.subject.as_mut().unwrap().settings.batch = 4;
    let page = page(&[record("step", 12, "a"), ops, steps, later, side_by_side]);
    for title in ["Decode steps", "time goes", "Verbs", "Roofline", "Against batch", "Over commits"]
    {
        assert!(page.contains(title), "no {title}");
    }
    for lines in ["against batch", "against steps", "over commits"] {
        assert!(page.contains(lines), "no {lines}");
    }
    assert!(page.contains("a &lt;processor&gt; &amp; &quot;more&quot;"), "device's name as markup");
    for foreign in ["http:", "https:", "<script", "src=", "@import", "url(", "NaN", "inf\""] {
        assert!(!page.contains(foreign), "{foreign} in the page");
    }
}

#[test]
fn a_page_has_no_chart_of_what_is_not_there() {
    let page = page(&[record("step", 12, "a")]);
    let table = markdown::page(&[record("step", 12, "a")]);
    assert!(table.contains("| base step | 3 | 5.200 | 5.020 | 5.470 |"), "{table}");
    assert!(!table.contains("| verb |"), "{table}");
    for title in ["<h2>Verbs", "<h2>Roofline", "<h2>Against", "<h2>Over"] {
        assert!(!page.contains(title), "{title} of nothing");
    }
}
