//! Which PTX the executor knows: `cargo test -p ptxsim --test coverage -- --nocapture` prints the table.

use std::collections::BTreeMap;

#[test]
fn table() {
    let memory = ptxsim::memory::Memory::new(1 << 30).unwrap();
    let mut all: BTreeMap<String, (usize, Option<String>)> = BTreeMap::new();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ptx")).unwrap() {
        let path = entry.unwrap().path();
        let module = ptxsim::ptx::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for (name, (count, refused)) in ptxsim::exec::coverage(&module, &memory).unwrap() {
            let entry = all.entry(name).or_default();
            entry.0 += count;
            entry.1 = entry.1.take().or(refused);
        }
    }
    for (name, (count, refused)) in &all {
        println!("{count:6} {name:60} {}", refused.as_deref().unwrap_or(""));
    }
}
