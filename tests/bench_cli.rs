//! muse-bench as a user starts it: what it writes, what it finds, and what it says of bad input.

use std::path::Path;
use std::process::{Command, Output};

use muse::bench::{Record, SCHEMA, Series};
use tempfile::TempDir;

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_muse-bench"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn works(arguments: &[&str]) -> String {
    let output = bench(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn fails(arguments: &[&str], code: i32, words: &[&str]) {
    let output = bench(arguments);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{arguments:?}: no {word:?} in {stderr}");
    }
}

fn one(path: &Path) -> Record {
    let mut records = Record::read(path).unwrap();
    assert_eq!(records.len(), 1);
    records.remove(0)
}

/// A path as an argument.
fn at(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_owned()
}

const QUICK: [&str; 8] = ["--shape", "demo", "--iterations", "2", "--warm-up", "1", "--steps", "3"];

const LEAST: [&str; 8] = ["--shape", "demo", "--iterations", "1", "--warm-up", "0", "--steps", "1"];

#[test]
fn every_command_keeps_what_it_measures() {
    let folder = TempDir::new().unwrap();
    let [step, image, ops] = ["step", "image", "ops"].map(|command| {
        let file = at(&folder, command);
        let out = works(&[&[command][..], &QUICK, &["--json", &file]].concat());
        for word in ["monotonic clock", "2 iterations", "caches", "demo (noise)", "commit"] {
            assert!(out.contains(word), "{command}: no {word:?} in {out}");
        }
        let record = one(Path::new(&file));
        assert_eq!((record.schema.as_str(), record.command.as_str()), (SCHEMA, command));
        let subject = record.subject.as_ref().unwrap();
        assert_eq!((subject.settings.steps, subject.settings.batch), (Some(3), 1));
        record
    });
    for stage in ["base", "superres"] {
        // Two images of three steps, the first of which is apart; that of the image before them is cold.
        assert_eq!(step.series(&format!("{stage} step")).unwrap().ms.len(), 4);
        assert_eq!(step.series(&format!("{stage} step, first")).unwrap().ms.len(), 2);
        assert_eq!(step.series(&format!("{stage} step, cold")).unwrap().ms.len(), 1);
    }
    for name in ["load", "text", "base stage", "superres stage", "vq", "png", "first step", "image"]
    {
        assert!(image.series(name).is_some_and(|s| s.summary.median > 0.0), "no {name}");
    }
    // The clock round the call holds what the engine says of its parts, and little else.
    let total = |name: &str| image.series(name).unwrap().ms.iter().sum::<f64>();
    let parts: f64 = ["text", "base stage", "superres stage", "vq"].map(total).iter().sum();
    assert!(parts <= total("image"), "{parts} of {}", total("image"));
    let verb = |name: &str| ops.verbs.iter().find(|verb| verb.verb == name).unwrap();
    assert_eq!(verb("remask").calls, 6);
    assert!(verb("conv2d").flops > 0 && verb("layer_norm").flops == 0);
    assert!(ops.verbs.is_sorted_by(|a, b| a.ms >= b.ms));
    for stage in ["base", "superres"] {
        // Verbs are a part of the steps they are in.
        let of = |what: &str| ops.series(&format!("{stage} step, {what}")).unwrap().ms.clone();
        for (verbs, steps) in of("verbs").iter().zip(of("traced")) {
            assert!(0.0 < *verbs && *verbs < steps, "{stage}: {verbs} of {steps}");
        }
    }

    let page = at(&folder, "page.html");
    works(&["report", &at(&folder, "step"), &at(&folder, "ops"), "-o", &page]);
    assert!(std::fs::read_to_string(page).unwrap().contains("</html>"));
}

#[test]
fn a_sweep_is_a_record_for_every_combination() {
    let folder = TempDir::new().unwrap();
    let file = at(&folder, "sweep");
    let over = ["--over-steps", "1,2", "--over-dtypes", "bf16,f32", "--over-batch", "2"];
    let over = [&over[..], &["--json", &file]].concat();
    works(&[&["sweep"][..], &LEAST, &over].concat());
    let settings: Vec<_> = Record::read(&file)
        .unwrap()
        .iter()
        .map(|r| r.subject.as_ref().unwrap().settings.clone())
        .map(|s| (s.dtype, s.steps.unwrap(), s.batch))
        .collect();
    let expected = [("bf16", 1), ("bf16", 2), ("f32", 1), ("f32", 2)];
    assert_eq!(settings, expected.map(|(dtype, steps)| (dtype.to_owned(), steps, 2)));
}

/// A verb that takes 10 % longer is found, and it alone: not one that takes next to no time.
#[test]
fn a_planted_slowdown_is_found_and_named() {
    let folder = TempDir::new().unwrap();
    let file = at(&folder, "a");
    works(&[&["step"][..], &LEAST, &["--json", &file]].concat());
    let mut record = one(Path::new(&file));
    for verb in ["verb linear", "verb linear_add", "verb attention", "verb to_rgb8"] {
        record.series.extend(Series::new(verb, vec![1.0]));
    }
    let write = |record: &Record, name: &str| {
        let path = at(&folder, name);
        Record::write(std::slice::from_ref(record), &path).unwrap();
        path
    };
    // Made-up times: 30 images, spread by 4 %.
    let spread = |i: u32, salt: u32| 0.98 + 0.04 * f64::from(i * salt % 31) / 31.0;
    let times = |series: &mut Series, factor: f64, salt: u32| {
        let ms = (0..30).map(|i| 4.0 * factor * spread(i, salt)).collect();
        *series = Series::new(&*series.name, ms).unwrap();
    };
    for series in &mut record.series {
        times(series, if series.name == "verb to_rgb8" { 1e-3 } else { 1.0 }, 7);
    }
    let a = write(&record, "a");
    for (number, series) in record.series.iter_mut().enumerate() {
        let factor = match series.name.as_str() {
            "verb linear" => 1.1,
            "verb to_rgb8" => 1.3e-3,
            _ => 1.0,
        };
        times(series, factor, 11 + number as u32 % 3);
    }
    let b = write(&record, "b");
    let found = bench(&["compare", &a, &b]);
    let out = text(&found.stdout);
    assert_eq!(found.status.code(), Some(1), "{out}{}", text(&found.stderr));
    assert!(out.contains("slower by more than 5 %: verb linear\n"), "{out}");
    assert!(out.contains("(short)"), "{out}");
    assert!(works(&["compare", &a, &b, "--threshold", "20"]).contains("no regression"));
    assert!(works(&["compare", &b, &a]).contains("no regression"));
    assert!(works(&["compare", "--paired", &a, &a]).contains("no regression"));

    record.subject.as_mut().unwrap().settings.dtype = "f32".into();
    let other = write(&record, "other");
    fails(&["compare", &a, &other], 3, &["nothing that the other record holds", &other]);
    record.simulated = true;
    let simulated = write(&record, "simulated");
    fails(&["compare", &simulated, &simulated], 3, &["simulator"]);
}

#[test]
fn bad_input_is_named() {
    fails(&["step", "--iterations", "0"], 2, &["--iterations", "0"]);
    fails(&["step", "--shape", "muse-9000"], 2, &["shape", "muse-9000", "muse-3b"]);
    fails(&["step", "no/such/model"], 3, &["no/such/model"]);
    fails(&["step", "models/demo", "--shape", "demo"], 2, &["--shape"]);
    fails(&["step", "--batch", "9"], 2, &["--batch", "9"]);
    fails(&["step", "--guidance", "NaN"], 2, &["guidance"]);
    fails(&["step", "--device", "cuda:99"], 5, &["cuda:99"]);
    fails(&["step", "--device", "tpu"], 2, &["tpu", "cuda:N"]);

    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = at(&folder, name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (empty, garbage) = (file("empty", "[]"), file("garbage", "{"));
    let other = file("other", "[{\"schema\": \"muse-bench 0\"}]");
    let part = file("part", &format!("[{{\"schema\": \"{SCHEMA}\"}}]"));
    for (path, word) in [
        (&empty, "no record"),
        (&garbage, "no JSON"),
        (&other, "muse-bench 0"),
        (&part, "missing field"),
    ] {
        fails(&["compare", path, path], 3, &[path, word, SCHEMA]);
        fails(&["report", path, "-o", &at(&folder, "page")], 3, &[path, word]);
    }
    fails(&["report", &at(&folder, "absent")], 4, &["absent"]);
    assert!(!folder.path().join("page").exists(), "a page of nothing");
    let nowhere = at(&folder, "no/such/folder.json");
    fails(&["roofline", "--threads", "1", "--json", &nowhere], 4, &[&nowhere]);
}
