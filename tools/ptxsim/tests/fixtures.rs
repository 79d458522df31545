//! The compiler's own PTX, for several architectures: all of it is read, checked and analysed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use ptxsim::ptx::analysis::{Analysis, analyse};
use ptxsim::ptx::ast::{Base, Function, Instruction, Module, Operand};
use ptxsim::ptx::{inventory, parse};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

fn modules() -> Vec<(String, Module)> {
    let folder = Path::new(HERE).join("tests/ptx");
    let entries = std::fs::read_dir(&folder).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 30, "{} has only {} files", folder.display(), paths.len());
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let module = parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, module)
    };
    paths.into_iter().map(read).collect()
}

fn module(name: &str) -> Module {
    let path = Path::new(HERE).join("tests/ptx").join(name);
    parse(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn function<'a>(module: &'a Module, name: &str) -> &'a Function {
    module.functions.iter().find(|f| f.name == name).unwrap()
}

#[test]
fn every_fixture_is_understood() {
    for (name, module) in modules() {
        assert_eq!(module.version, (9, 0), "{name}");
        let architecture = name.split('.').nth(1).unwrap();
        assert_eq!(module.target, [format!("sm_{architecture}")], "{name}");
        for function in module.functions.iter().filter(|f| f.has_body) {
            let analysis = analyse(function).unwrap();
            blocks_tile_the_body(function, &analysis);
            slots_hold_what_is_live(function, &analysis);
            assert!(analysis.register_bytes < 16 << 10, "{name}: {}", analysis.register_bytes);
            let sourced = function.body.iter().filter(|i| !i.at.source.is_empty()).count();
            // The compiler's own library comes without lines.
            assert!(
                !function.is_entry || 2 * sourced >= function.body.len(),
                "{name}: {} lost its lines",
                function.name
            );
        }
    }
}

fn blocks_tile_the_body(function: &Function, analysis: &Analysis) {
    let mut at = 0;
    for block in &analysis.blocks {
        assert!(block.start == at && block.end > at);
        at = block.end;
        let branches =
            function.body[block.start..block.end - 1].iter().filter(|i| i.opcode == "bra").count();
        assert_eq!(branches, 0, "a branch in the middle of a block of {}", function.name);
    }
    assert_eq!(at, function.body.len());
}

/// Liveness once more, by sets at every instruction: registers live together must lie apart, and so must
/// the sources and results of one instruction.
fn slots_hold_what_is_live(function: &Function, analysis: &Analysis) {
    let body = &function.body;
    let mut live: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); body.len() + 1];
    loop {
        let before = live.iter().map(BTreeSet::len).sum::<usize>();
        for block in analysis.blocks.iter().rev() {
            let mut after = BTreeSet::new();
            for next in &block.successors {
                after.extend(&live[analysis.blocks[*next].start]);
            }
            for index in (block.start..block.end).rev() {
                let instruction = &body[index];
                let written = written(instruction);
                lie_apart(function, analysis, index, after.union(&written).copied().collect());
                if instruction.guard.is_none() {
                    after = after.difference(&written).copied().collect();
                }
                after.extend(read(instruction));
                lie_apart(function, analysis, index, after.union(&written).copied().collect());
                live[index] = after.clone();
            }
        }
        if before == live.iter().map(BTreeSet::len).sum::<usize>() {
            return;
        }
    }
}

fn lie_apart(function: &Function, analysis: &Analysis, index: usize, together: BTreeSet<usize>) {
    let bytes = |register: usize| match analysis.slots[register].lane_bytes {
        0 => 64,
        lane => 32 * u32::from(lane),
    };
    let mut places: Vec<(u32, usize)> =
        together.into_iter().map(|register| (analysis.slots[register].offset, register)).collect();
    places.sort_unstable();
    for pair in places.windows(2) {
        let ((first, a), (second, b)) = (pair[0], pair[1]);
        let names = [&function.registers[a].name, &function.registers[b].name];
        assert!(first + bytes(a) <= second, "{names:?} overlap in {} at {index}", function.name);
    }
    if let Some((last, register)) = places.last() {
        assert!(last + bytes(*register) <= analysis.register_bytes && last % 64 == 0);
    }
}

fn registers(operand: &Operand) -> Vec<usize> {
    match operand {
        Operand::Register(index) | Operand::NotPredicate(index) => vec![*index],
        Operand::Address(Base::Register(index), _) => vec![*index],
        Operand::TensorAddress(base, items) => {
            let base = if let Base::Register(index) = base { Some(*index) } else { None };
            base.into_iter().chain(items.iter().flat_map(registers)).collect()
        }
        Operand::Vector(items) | Operand::Tuple(items) => {
            items.iter().flat_map(registers).collect()
        }
        Operand::Pair(a, b) => [a, b].into_iter().flat_map(|o| registers(o)).collect(),
        _ => Vec::new(),
    }
}

fn has_result(instruction: &Instruction) -> bool {
    let none =
        ["st", "bar", "call", "brx", "wgmma", "barrier"].contains(&instruction.opcode.as_str());
    !none && !matches!(instruction.operands.first(), Some(Operand::Address(..)))
}

fn written(instruction: &Instruction) -> BTreeSet<usize> {
    let results = usize::from(has_result(instruction)).min(instruction.operands.len());
    instruction.operands[..results].iter().flat_map(registers).collect()
}

fn read(instruction: &Instruction) -> BTreeSet<usize> {
    let results = usize::from(has_result(instruction)).min(instruction.operands.len());
    let sources = instruction.operands[results..].iter().flat_map(registers);
    sources.chain(instruction.guard.map(|g| g.register)).collect()
}

#[test]
fn the_probes_cover_the_families() {
    let mut families = BTreeSet::new();
    let mut spellings = BTreeSet::new();
    for (_, module) in modules() {
        for spelling in inventory::opcodes(&module).into_keys() {
            families.insert(spelling.split('.').next().unwrap().to_owned());
            spellings.insert(spelling);
        }
    }
    assert!(
        families.len() > 70 && spellings.len() > 350,
        "{} of {}",
        families.len(),
        spellings.len()
    );
    for family in [
        "mma",
        "ldmatrix",
        "cp",
        "shfl",
        "redux",
        "atom",
        "brx",
        "call",
        "vabsdiff4",
        "wgmma",
        "mapa",
    ] {
        assert!(families.contains(family), "{family}");
    }
}

#[test]
fn lines_name_the_inlined_functions() {
    let module = module("gemm.80.ptx");
    let gemm = function(&module, "gemm");
    let mma = gemm.body.iter().find(|i| i.opcode == "mma").unwrap();
    let frames: Vec<(&str, bool)> = mma
        .at
        .source
        .iter()
        .map(|line| {
            let file = module.files.iter().find(|f| f.0 == line.file).unwrap();
            (file.1.as_str(), line.function.is_some())
        })
        .collect();
    assert_eq!(frames, [("tensor.cuh", true), ("gemm.cu", false)]);
    assert!(mma.at.source[0].function.as_ref().unwrap().contains("multiply_add"));
    // A lambda inside the kernel, which calls a function, which calls another.
    let copy = gemm.body.iter().find(|i| i.opcode == "cp" && i.operands.len() > 2).unwrap();
    assert_eq!(copy.at.source.len(), 4, "{:?}", copy.at.source);
}

#[test]
fn module_variables_keep_their_values() {
    let module = module("control.80.ptx");
    let variable = |name: &str| module.variables.iter().find(|v| v.name == name).unwrap();
    let table = variable("table");
    assert_eq!(
        (table.bytes, table.align, &table.init[..8]),
        (64, 4, &[3, 0, 0, 0, 1, 0, 0, 0][..])
    );
    assert_eq!(variable("scale").init, 2.5f32.to_le_bytes());
    let functions = variable("functions");
    let named: Vec<_> = functions.relocations.iter().map(|r| (r.0, r.1.as_str(), r.2)).collect();
    assert_eq!(named, [(0, "_Z5twicef", 0), (8, "_Z4halff", 0)]);
}

#[test]
fn limits_and_demoted_variables_are_kept() {
    let module = module("gemm.120.ptx");
    let gemm = function(&module, "gemm");
    assert_eq!(gemm.limits.max_threads.or(gemm.limits.required_threads), Some([128, 1, 1]));
    let stages = &gemm.variables[0];
    assert_eq!((stages.bytes, stages.align), (32768, 128));
    assert_eq!(gemm.params.iter().map(|p| p.bytes).collect::<Vec<_>>(), [8, 8, 8, 4, 4, 4]);
}

/// Every kernel has its text, so that a machine without any compiler tests it.
#[test]
fn every_source_has_its_committed_text() {
    let names = |folder: &str, extension: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(Path::new(HERE).join(folder)).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        let ours = names.filter(|name| name.ends_with(extension));
        ours.map(|name| name.split('.').next().unwrap().to_owned()).collect()
    };
    for (sources, texts) in [("tests/kernels", "tests/ptx"), ("tests/bugs", "tests/bugs")] {
        let expected = names(sources, ".cu");
        assert!(expected.len() >= 4, "{expected:?}");
        assert_eq!(names(texts, ".ptx"), expected);
    }
}

/// Where NVRTC has been fetched (scripts/nvrtc.py; NVRTC_DIR, or target/nvrtc of the workspace).
#[test]
fn the_committed_text_is_what_the_compiler_makes() {
    let default = Path::new(HERE).join("../../target/nvrtc");
    let folder = std::env::var_os("NVRTC_DIR").map_or(default, PathBuf::from);
    if !folder.join("wheels").is_file() {
        eprintln!("skipped: no compiler in {}; `scripts/nvrtc.py fetch` gets it", folder.display());
        return;
    }
    let script = Path::new(HERE).join("scripts/fixtures.py");
    let output = Command::new("python3")
        .arg(script)
        .args(["--check", "--into"])
        .arg(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
