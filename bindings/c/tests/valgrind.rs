//! The walk under valgrind, which scripts/test.sh fetches: it sees every access of the library, too, at hundreds of
//! times the time, so that the model is a tiny one.
#![cfg(unix)]

mod programs;

use std::process::Command;

use programs::{compile, shared, succeeds, target};

#[test]
fn valgrind_finds_nothing() {
    let fetched = target().join("valgrind/usr");
    let mut valgrind = match fetched.join("bin/valgrind").is_file() {
        true => {
            let mut valgrind = Command::new(fetched.join("bin/valgrind"));
            valgrind.env("VALGRIND_LIB", fetched.join("libexec/valgrind"));
            valgrind.arg(format!("--extra-debuginfo-path={}", fetched.join("lib/debug").display()));
            valgrind
        }
        false => Command::new("valgrind"),
    };
    let shared = shared();
    let walk = compile("tests/walk.c", "walk-valgrind", &shared.each_ref().map(String::as_str));
    valgrind.args(["--error-exitcode=1", "--leak-check=full", "--errors-for-leak-kinds=definite"]);
    let model = tempfile::tempdir().unwrap();
    fixtures::write("flat", model.path()).unwrap();
    valgrind.args(["--fair-sched=yes", "--quiet"]).arg(walk).arg(model.path()).args(["8", "any"]);
    assert!(succeeds(&mut valgrind).starts_with("seed 5: "));
}
