//! Profiles as text, at most 100 columns wide (a long kernel name is cut in the table, not in its
//! paragraph).

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use super::{Counted, Profile, Shape};
use crate::exec::Class;
use crate::exec::counters::{Banked, Detail, Requests};
use crate::model::{Bound, Term};

/// Kernels by name and the run, as a table and a paragraph for each kernel; prints nothing where nothing
/// was counted.
pub struct Kernels<'a>(pub &'a BTreeMap<String, Profile>, pub &'a Profile);

/// Characters of a name in the table.
const NAME: usize = 22;

impl Display for Kernels<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let counted: Vec<(&str, &Profile, &Counted)> = self
            .0
            .iter()
            .filter_map(|(name, p)| p.counted.as_ref().map(|c| (name.as_str(), p, c)))
            .collect();
        if counted.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "{:NAME$} {:>8} {:>6} {:>5} {:>6} {:>8} {:>8} {:>8} {:>9}  bound by",
            "kernel", "launches", "instr.", "lanes", "confl.", "L2", "DRAM in", "out", "bound µs*"
        )?;
        for (name, profile, counted) in &counted {
            row(f, name, profile, counted)?;
        }
        if let Some(all) = &self.1.counted {
            row(f, "run", self.1, all)?;
        }
        writeln!(f, "* modelled bound, by public figures of the device; nothing was measured")?;
        for (name, profile, counted) in &counted {
            writeln!(f, "\n{name}")?;
            paragraph(f, profile, counted)?;
        }
        Ok(())
    }
}

fn row(f: &mut Formatter<'_>, name: &str, profile: &Profile, counted: &Counted) -> fmt::Result {
    let (detail, bound) = (&counted.counters, &counted.modelled_bound);
    let name: String = match name.chars().count() {
        0..=NAME => name.into(),
        _ => name.chars().take(NAME - 1).chain(['…']).collect(),
    };
    writeln!(
        f,
        "{name:NAME$} {:>8} {:>6} {:>5.1} {:>6} {:>8} {:>8} {:>8} {:>9.2}  {}",
        profile.launches,
        count(detail.executed().warps),
        detail.active_lanes(),
        count(detail.shared.total().conflicts),
        bytes(detail.global.l2_bytes() as f64),
        bytes(32.0 * detail.global.dram_reads as f64),
        bytes(32.0 * detail.global.dram_writes as f64),
        bound.microseconds,
        bound.binding().map_or("", term_name),
    )
}

fn paragraph(f: &mut Formatter<'_>, profile: &Profile, counted: &Counted) -> fmt::Result {
    let (detail, bound) = (&counted.counters, &counted.modelled_bound);
    for shape in counted.shapes.iter().take(3) {
        shape_line(f, shape)?;
    }
    if counted.shapes.len() > 3 {
        line(f, "", &format!("and {} more shapes", counted.shapes.len() - 3))?;
    }
    let executed = detail.executed();
    line(
        f,
        "instructions",
        &format!(
            "{} of warps, {} of threads, {:.1} of 32 lanes active",
            count(executed.warps),
            count(executed.threads),
            detail.active_lanes(),
        ),
    )?;
    classes(f, detail)?;
    for (shape, tensor) in &detail.tensor {
        let (n, macs) = (count(tensor.instructions), count(tensor.macs));
        line(f, "tensor", &format!("{shape}: {n} instructions, {macs} multiply-adds"))?;
    }
    shared(f, detail)?;
    global(f, detail)?;
    let barriers = detail.class(Class::Barrier).warps;
    if barriers > 0 {
        let per_warp = barriers as f64 / detail.warps.max(1) as f64;
        line(f, "barriers", &format!("{} of warps, {per_warp:.1} a warp", count(barriers)))?;
    }
    bound_lines(f, profile, bound)
}

fn line(f: &mut Formatter<'_>, title: &str, text: &str) -> fmt::Result {
    writeln!(f, "  {title:14} {text}")
}

fn shape_line(f: &mut Formatter<'_>, shape: &Shape) -> fmt::Result {
    let extent = |e: [u32; 3]| match e {
        [x, 1, 1] => x.to_string(),
        [x, y, 1] => format!("{x}×{y}"),
        [x, y, z] => format!("{x}×{y}×{z}"),
    };
    let (launched, occupancy) = (&shape.launched, &shape.occupancy);
    line(
        f,
        &format!("{}×", shape.launches),
        &format!(
            "{} blocks of {} threads, {} registers, {} shared",
            extent(launched.grid),
            extent(launched.block),
            launched.registers,
            bytes(launched.shared_bytes.into()),
        ),
    )?;
    let text = format!(
        "{} blocks ({} warps, {:.0} %) fit a multiprocessor; {} wave{}",
        occupancy.resident_blocks,
        occupancy.resident_warps,
        100.0 * occupancy.occupancy,
        occupancy.waves,
        if occupancy.waves == 1 { "" } else { "s" },
    );
    line(f, "", &text)
}

/// Four classes to a line, the commonest first.
fn classes(f: &mut Formatter<'_>, detail: &Detail) -> fmt::Result {
    let all = detail.executed().warps.max(1) as f64;
    let mut classes: Vec<(Class, u64)> =
        detail.classes.iter().map(|(&class, executed)| (class, executed.warps)).collect();
    classes.sort_by_key(|&(class, warps)| (std::cmp::Reverse(warps), class));
    for four in classes.chunks(4) {
        let cells: Vec<String> = four
            .iter()
            .map(|&(class, n)| format!("{:13}{:4.1} %", class_name(class), 100.0 * n as f64 / all))
            .collect();
        line(f, "", &cells.join("  "))?;
    }
    Ok(())
}

fn shared(f: &mut Formatter<'_>, detail: &Detail) -> fmt::Result {
    let shared = &detail.shared;
    let kinds: [(&str, &Banked); 5] = [
        ("loads", &shared.loads),
        ("stores", &shared.stores),
        ("ldmatrix", &shared.matrices),
        ("cp.async", &shared.copies),
        ("atomics", &shared.atomics),
    ];
    let mut title = "shared";
    for (name, banked) in kinds.into_iter().filter(|(_, b)| b.requests > 0) {
        let text = format!(
            "{name:9} {:>7} requests  {:>7} wavefronts  {:>7} of them by bank conflicts",
            count(banked.requests),
            count(banked.wavefronts),
            count(banked.conflicts),
        );
        line(f, title, &text)?;
        title = "";
    }
    Ok(())
}

fn global(f: &mut Formatter<'_>, detail: &Detail) -> fmt::Result {
    let global = &detail.global;
    let kinds: [(&str, &Requests); 5] = [
        ("loads", &global.loads),
        ("stores", &global.stores),
        ("cp.async", &global.copies),
        ("atomics", &global.atomics),
        ("local", &detail.local),
    ];
    let mut title = "global";
    for (name, requests) in kinds.into_iter().filter(|(_, r)| r.requests > 0) {
        let text = format!(
            "{name:9} {:>7} requests  {:>7.2} sectors each  {:>9} asked for",
            count(requests.requests),
            requests.sectors_per_request(),
            bytes(requests.bytes as f64),
        );
        line(f, title, &text)?;
        title = "";
    }
    if global.unique_reads + global.unique_writes > 0 {
        let of = |sectors: u64| bytes(32.0 * sectors as f64);
        let (reads, writes) = (of(global.unique_reads), of(global.unique_writes));
        let through = bytes(global.l2_bytes() as f64);
        let text = format!("{through} through L2; distinct: {reads} read, {writes} written");
        line(f, title, &text)?;
        let (reads, writes) = (of(global.dram_reads), of(global.dram_writes));
        let (first_reads, first_writes) = (of(global.first_reads), of(global.first_writes));
        let text = format!(
            "{reads} from DRAM, {writes} back; first in the run: {first_reads} read, {first_writes} written"
        );
        line(f, "", &text)?;
    }
    if let Some(address) = global.most_contended_address {
        let n = count(global.most_contended);
        line(f, "", &format!("most contended: {n} atomic operations on {address:#x}"))?;
    }
    Ok(())
}

fn bound_lines(f: &mut Formatter<'_>, profile: &Profile, bound: &Bound) -> fmt::Result {
    let binding = bound.binding();
    let text = format!(
        "{:.2} µs, of them {:.2} to launch{}; bound by {}",
        bound.microseconds,
        bound.launch,
        if profile.launches > 1 { format!(" {} times", profile.launches) } else { String::new() },
        binding.map_or("nothing", term_name),
    );
    line(f, "modelled bound", &text)?;
    let cells: Vec<String> = bound
        .terms
        .iter()
        .map(|(&term, time)| match (term, bound.fullest_pipe()) {
            (Term::Pipe, Some(class)) => format!("pipe {} {time:.2}", class_name(class)),
            _ => format!("{} {time:.2}", term_name(term)),
        })
        .collect();
    for four in cells.chunks(4) {
        let line_of: String = four.iter().map(|cell| format!("{cell:20}")).collect();
        line(f, "", line_of.trim_end())?;
    }
    if bound.bytes_in_flight > 0.0 {
        let text = format!(
            "in flight {} a multiprocessor while it waits; to fill DRAM {}",
            bytes(bound.bytes_in_flight),
            bytes(bound.bytes_in_flight_needed),
        );
        line(f, "", &text)?;
    }
    Ok(())
}

fn term_name(term: Term) -> &'static str {
    match term {
        Term::Issue => "issue",
        Term::Pipe => "pipe",
        Term::Tensor => "tensor",
        Term::Shared => "shared",
        Term::L2 => "L2",
        Term::Dram => "DRAM",
        Term::Latency => "latency",
    }
}

fn class_name(class: Class) -> &'static str {
    match class {
        Class::Integer => "integer",
        Class::F32 => "f32",
        Class::F64 => "f64",
        Class::Half => "half",
        Class::Conversion => "conversion",
        Class::Special => "special",
        Class::Move => "move",
        Class::Control => "control",
        Class::Collective => "collective",
        Class::Barrier => "barrier",
        Class::GlobalLoad => "global load",
        Class::GlobalStore => "global store",
        Class::SharedLoad => "shared load",
        Class::SharedStore => "shared store",
        Class::GenericLoad => "generic load",
        Class::GenericStore => "generic st.",
        Class::Local => "local",
        Class::Constant => "constant",
        Class::Atomic => "atomic",
        Class::AsyncCopy => "async copy",
        Class::Matrix => "ldmatrix",
        Class::Tensor => "tensor",
        Class::Other => "other",
    }
}

/// Three digits and a power of a thousand.
fn count(n: u64) -> String {
    scaled(n as f64, 1000.0, ["", " K", " M", " G", " T"])
}

fn bytes(n: f64) -> String {
    scaled(n, 1024.0, [" B", " KiB", " MiB", " GiB", " TiB"])
}

fn scaled(n: f64, step: f64, units: [&str; 5]) -> String {
    let (mut n, mut unit) = (n, 0);
    // What would be printed as a thousand is one of the next unit.
    while n >= step.min(999.5) && unit < 4 {
        n /= step;
        unit += 1;
    }
    let digits = match unit {
        0 => 0,
        _ if n < 9.995 => 2,
        _ if n < 99.95 => 1,
        _ => 0,
    };
    format!("{n:.digits$}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (n, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.00 K"),
            (12_345, "12.3 K"),
            (999_400, "999 K"),
            (999_600, "1.00 M"),
            (65_536_000, "65.5 M"),
        ] {
            assert_eq!(count(n), text);
        }
        assert_eq!(bytes(32_768.0), "32.0 KiB");
        assert_eq!(bytes(100.0), "100 B");
        assert_eq!(bytes(1010.0 * 1024.0), "0.99 MiB");
    }
}
