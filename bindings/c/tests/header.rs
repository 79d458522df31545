//! `muse.h` is what cbindgen makes of the sources.
//!
//! When it fails, the expected header lies in Cargo's directory for test output; the message says which command
//! copies it.

use std::path::Path;

#[test]
fn the_header_is_that_of_the_sources() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(here.join("cbindgen.toml")).unwrap();
    let builder = cbindgen::Builder::new().with_config(config).with_src(here.join("src/lib.rs"));
    let mut expected = Vec::new();
    builder.generate().unwrap().write(&mut expected);
    let committed = std::fs::read(here.join("muse.h")).unwrap_or_default();
    if committed != expected {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("muse.h");
        std::fs::write(&path, expected).unwrap();
        let to = here.join("muse.h");
        panic!(
            "muse.h has drifted; look at the difference, then: cp {} {}",
            path.display(),
            to.display()
        );
    }
}
