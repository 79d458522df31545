//! Which PTX the executor knows: `cargo test -p ptxsim --test coverage -- --nocapture` prints the table.

use std::collections::BTreeMap;

/// What is refused by name for now, by the beginning of its spelling.
const REFUSED: [&str; 6] = [
    "barrier.cluster.",
    "cp.async.bulk.",
    "ld.shared::cluster.",
    "mapa.",
    "mov.u32", // from %cluster_ctarank
    "wgmma.",
];

#[test]
fn every_instruction_of_the_fixtures_is_known_or_refused_on_purpose() {
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
    assert!(all.len() > 300, "{} spellings", all.len());
    for (name, (count, refused)) in &all {
        let expected = REFUSED.iter().any(|prefix| name.starts_with(prefix));
        assert!(refused.is_none() || expected, "{name}: {refused:?}");
        println!("{count:6} {name:60} {}", refused.as_deref().unwrap_or(""));
    }
}
