//! Spans of a run, in both forms that a profiler can have them in.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

fn muse(folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muse"));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.args(["generate", "an apple", "--steps", "2", "--device", "cpu", "-o"]);
    command.arg(folder.path().join("out.png"));
    command
}

#[test]
fn a_trace_has_verbs_within_steps_within_stages() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("spans.json");
    let output = muse(&folder).arg("--spans").arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let trace: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let spans = trace["traceEvents"].as_array().unwrap();
    let of = |kind: &str| -> Vec<(&str, f64, f64)> {
        let of_kind = spans.iter().filter(|span| span["cat"] == kind);
        let number = |span: &Value, key: &str| span[key].as_f64().unwrap();
        let begin_and_end = |span: &Value| {
            let begin = number(span, "ts");
            (begin, begin + number(span, "dur"))
        };
        of_kind
            .map(|span| (span["name"].as_str().unwrap(), begin_and_end(span)))
            .map(|(name, (begin, end))| (name, begin, end))
            .collect()
    };
    let names = |spans: &[(&str, f64, f64)]| -> Vec<String> {
        spans.iter().map(|span| span.0.to_owned()).collect()
    };
    let (stages, steps, verbs) = (of("stage"), of("step"), of("verb"));
    assert_eq!(names(&stages), ["load", "text", "base", "superres", "vq"]);
    let of_base = ["base step 0", "base step 1"]; // and super-res has as many as the model says
    assert!(names(&steps).starts_with(&of_base.map(str::to_owned)) && steps.len() > 2, "{steps:?}");
    for (name, begin, end) in &steps {
        let stage = stages.iter().find(|stage| name.starts_with(stage.0)).unwrap();
        assert!(stage.1 <= *begin && *end <= stage.2, "{name} is not within {stage:?}");
        let within = |verb: &&(&str, f64, f64)| *begin <= verb.1 && verb.2 <= *end;
        let within = names(&verbs.iter().filter(within).copied().collect::<Vec<_>>());
        for verb in ["attention", "linear", "guide_and_sample", "remask"] {
            assert!(within.iter().any(|name| name == verb), "{name} has no {verb}: {within:?}");
        }
    }
}

#[test]
fn nothing_is_written_of_a_run_that_fails() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("spans.json");
    let output =
        muse(&folder).args(["--model", "no/such/model"]).arg("--spans").arg(&path).output();
    assert_eq!(output.unwrap().status.code(), Some(3));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}

/// A tool like Nsight is a library that the process loads at its first range.
#[test]
fn a_profiler_sees_ranges() {
    let folder = TempDir::new().unwrap();
    let (tool, log) = (folder.path().join("tool.so"), folder.path().join("ranges"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spans/tool.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&tool).arg(source).status();
    assert!(built.expect("a C compiler").success());
    let output = muse(&folder)
        .env("NVTX_INJECTION64_PATH", &tool)
        .env("NVTX_TEST_LOG", &log)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let log = std::fs::read_to_string(log).unwrap();
    let (mut open, mut seen) = (Vec::new(), Vec::new());
    for line in log.lines() {
        match line.strip_prefix('+') {
            Some(name) => {
                open.push(name);
                seen.push(open.join("/"));
            }
            None => assert!(open.pop().is_some(), "a range ends that did not begin"),
        }
    }
    assert!(open.is_empty(), "{open:?} did not end");
    for range in
        ["load", "text/embed", "base/base step 1/linear", "superres/superres step 0/remask"]
    {
        assert!(seen.iter().any(|seen| seen == range), "no {range}");
    }
}
