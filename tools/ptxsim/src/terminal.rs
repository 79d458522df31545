//! Findings as a terminal shows them: grouped by kernel, with the text of the source lines.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::finding::{Finding, Place};

/// Of the source lines of inlined calls, the innermost so many are quoted.
const FRAMES: usize = 4;
/// Folders and files looked at in search of a source file.
const SEARCHED: usize = 20_000;

/// Quotes lines of source files. A compiler at run time knows its file by name only, so these are looked
/// for below a folder.
#[derive(Debug)]
pub struct Sources {
    folder: PathBuf,
    files: BTreeMap<String, Option<Vec<String>>>,
}

impl Sources {
    pub fn below(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), files: BTreeMap::new() }
    }

    /// The text at `file.cu:12` or `file.cu:12 in function`, if the file is found and has such a line.
    fn quote(&mut self, place: &str) -> Option<(usize, &str)> {
        let place = place.split_once(" in ").map_or(place, |(place, _)| place);
        let (file, line) = place.rsplit_once(':')?;
        let line: usize = line.parse().ok()?;
        if !self.files.contains_key(file) {
            let lines = self.read(file).map(|text| text.lines().map(str::to_owned).collect());
            self.files.insert(file.to_owned(), lines);
        }
        let text = self.files.get(file)?.as_ref()?.get(line.checked_sub(1)?)?;
        Some((line, text))
    }

    fn read(&self, file: &str) -> Option<String> {
        let path = Path::new(file);
        let here = self.folder.join(path);
        let named = [path, &here].into_iter().find(|p| p.is_file()).map(Path::to_owned);
        let path = named.or_else(|| self.search(path.file_name()?))?;
        std::fs::read_to_string(path).ok()
    }

    /// The only file of that name below the folder, hidden folders and build folders apart.
    fn search(&self, name: &std::ffi::OsStr) -> Option<PathBuf> {
        let (mut folders, mut found, mut seen) = (vec![self.folder.clone()], None, 0);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                seen += 1;
                if seen > SEARCHED {
                    return None;
                }
                let Ok(kind) = entry.file_type() else { continue };
                let file = entry.file_name();
                let skipped = file.to_string_lossy().starts_with('.') || file == "target";
                if kind.is_dir() && !skipped {
                    folders.push(entry.path());
                } else if kind.is_file() && file == name && found.replace(entry.path()).is_some() {
                    return None;
                }
            }
        }
        found
    }
}

/// All findings, those of one kernel together, and a last line that sums them up.
pub fn findings(findings: &[Finding], sources: &mut Sources, colours: bool) -> String {
    let paint = |code: &'static str| if colours { code } else { "" };
    let (red, bold, plain) = (paint("\x1b[1;31m"), paint("\x1b[1m"), paint("\x1b[0m"));
    let mut groups: BTreeMap<Option<&str>, Vec<&Finding>> = BTreeMap::new();
    for finding in findings {
        let kernel = finding.place.as_ref().map(|p| p.kernel.as_str());
        groups.entry(kernel).or_default().push(finding);
    }
    let mut text = String::new();
    for (kernel, group) in &groups {
        let heading = kernel.map_or("calls of the program".into(), |k| format!("kernel {k}"));
        let _ = writeln!(text, "\n{bold}── {heading} ──{plain}");
        for finding in group {
            let Finding { kind, message, count, .. } = finding;
            let times = if *count > 1 { format!(" ({count} times)") } else { String::new() };
            let _ = writeln!(text, "{red}{kind:?}{plain}{bold}: {message}{plain}{times}");
            if let Some(place) = &finding.place {
                show(&mut text, place, sources);
            }
        }
    }
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for finding in findings {
        *kinds.entry(format!("{:?}", finding.kind)).or_default() += 1;
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    let _ = match findings.len() {
        0 => writeln!(text, "{bold}no findings{plain}"),
        1 => writeln!(text, "\n{red}1 finding{plain}: {:?}", findings[0].kind),
        n => writeln!(text, "\n{red}{n} findings{plain}: {}", kinds.join(", ")),
    };
    text
}

/// Where it is, in the manner of compilers.
fn show(text: &mut String, place: &Place, sources: &mut Sources) {
    let Place { source, ptx_line, block: [x, y, z], warp, lane, .. } = place;
    for (depth, at) in source.iter().take(FRAMES).enumerate() {
        let arrow = if depth == 0 { "-->" } else { "called from" };
        let _ = writeln!(text, "   {arrow} {at}");
        if let Some((line, quoted)) = sources.quote(at) {
            let _ = writeln!(text, "{line:>5} | {}", quoted.trim_end().replace('\t', "    "));
        }
    }
    let _ = writeln!(
        text,
        "   block ({x}, {y}, {z}), warp {warp}, lane {lane}; line {ptx_line} of the PTX"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Kind;

    fn found(kernel: &str, source: &[&str]) -> Finding {
        let place = Place {
            kernel: kernel.to_owned(),
            source: source.iter().map(|&s| s.to_owned()).collect(),
            ptx_line: 40,
            block: [1, 0, 2],
            warp: 3,
            lane: 4,
            address: None,
        };
        let message = "a read of 4 bytes".to_owned();
        Finding { kind: Kind::OutOfBounds, message, place: Some(place), count: 2 }
    }

    #[test]
    fn lines_are_quoted_where_the_file_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("kernels");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(inner.join("a.cu"), "one\n\ttwo  \nthree\n").unwrap();
        let shown =
            |finding: Finding| findings(&[finding], &mut Sources::below(folder.path()), false);
        assert_eq!(
            shown(found("k", &["a.cu:2", "/gone/a.cu:3 in f", "a.cu:9"])),
            "\n── kernel k ──\n\
             OutOfBounds: a read of 4 bytes (2 times)\n   \
             --> a.cu:2\n    2 |     two\n   called from /gone/a.cu:3 in f\n    3 | three\n   \
             called from a.cu:9\n   block (1, 0, 2), warp 3, lane 4; line 40 of the PTX\n\n\
             1 finding: OutOfBounds\n"
        );
        // Two files of that name: neither is quoted.
        std::fs::write(folder.path().join("kernels").join("b.cu"), "one").unwrap();
        std::fs::create_dir(folder.path().join("more")).unwrap();
        std::fs::write(folder.path().join("more").join("b.cu"), "one").unwrap();
        assert!(!shown(found("k", &["b.cu:1"])).contains(" | "));
        assert!(shown(found("k", &["kernels/b.cu:1"])).contains("    1 | one\n"));
    }

    #[test]
    fn a_kernels_findings_stay_together() {
        let all = [
            found("b", &[]),
            Finding::of_host(Kind::Leak, "never freed".into()),
            found("a", &[]),
            found("b", &[]),
        ];
        let text = findings(&all, &mut Sources::below("/nowhere"), false);
        let headings: Vec<&str> = text.lines().filter(|l| l.starts_with("──")).collect();
        assert_eq!(headings, ["── calls of the program ──", "── kernel a ──", "── kernel b ──"]);
        assert!(text.ends_with("\n4 findings: 1 Leak, 3 OutOfBounds\n"), "{text}");
        assert_eq!(findings(&[], &mut Sources::below("/nowhere"), false), "no findings\n");
        assert!(findings(&all, &mut Sources::below("/nowhere"), true).contains("\x1b[1;31mLeak"));
    }
}
