//! Bugs planted in kernels and in the programs that launch them: each is found, at its line, and its
//! mended twin is silent. `cargo test -p ptxsim --test bugs -- --nocapture` prints the tables.

mod host;
mod kernels;
#[path = "../support/mod.rs"]
mod support;

use std::ops::Range;

use ptxsim::finding::{Finding, Place};

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bugs");

/// The guilty lines of a kernel: those marked `// BUG`, as findings name them.
fn guilty_lines(file: &str, kernel: &str) -> Vec<String> {
    let source = std::fs::read_to_string(format!("{HERE}/{file}.cu")).unwrap();
    let lines: Vec<&str> = source.lines().collect();
    let start = lines.iter().position(|l| l.contains(&format!(" {kernel}("))).expect(kernel);
    let end = start + lines[start..].iter().position(|l| *l == "}").unwrap();
    let marked = (start..end).filter(|&n| lines[n].contains("// BUG"));
    marked.map(|n| format!("{file}.cu:{}", n + 1)).collect()
}

/// Whether a finding is at one of these lines; callers of an inlined function count.
fn is_at(finding: &Finding, lines: &[String]) -> bool {
    let frames = finding.place.iter().flat_map(|p| &p.source);
    frames.into_iter().any(|frame| lines.contains(frame))
}

/// The threads of which one must be named.
struct Culprits {
    blocks: Range<u32>,
    warps: Range<u32>,
    lanes: Range<u32>,
}

impl Culprits {
    fn include(&self, place: &Place) -> bool {
        let [x, y, z] = place.block;
        self.blocks.contains(&x)
            && (y, z) == (0, 0)
            && self.warps.contains(&place.warp)
            && self.lanes.contains(&place.lane)
    }
}

/// A row of the printed table.
fn row(name: &str, finding: &Finding) {
    let kind = format!("{:?}", finding.kind);
    let at = match &finding.place {
        Some(p) => format!(
            "{}, block {}, warp {}, lane {}",
            p.source.join(" < "),
            p.block[0],
            p.warp,
            p.lane
        ),
        None => "a call of the host".into(),
    };
    println!("{name:14} {kind:17} {at}\n{:32} {}", "", finding.message);
}
