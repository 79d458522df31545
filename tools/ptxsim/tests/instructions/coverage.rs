//! The table of the PTX that these tests ran, and what the executor knows beside it.

use std::collections::BTreeMap;

use crate::harness;

/// Opcodes of the PTX ISA that are not for textures or surfaces; of the SIMD video instructions the
/// beginning of their names.
const OPCODES: &str = "abs activemask add addc alloca and applypriority atom bar barrier bfe bfi bfind
    bmsk bra brev brkpt brx call clusterlaunchcontrol clz cnot copysign cos cp createpolicy cvt cvta
    discard div dp2a dp4a elect ex2 exit fence fma fns getctarank griddepcontrol isspacep istypep ld
    ldmatrix ldu lg2 lop3 mad mad24 madc mapa match max mbarrier membar min mma mov movmatrix mul mul24
    multimem nanosleep neg not or pmevent popc prefetch prefetchu prmt rcp red redux rem ret rsqrt sad
    selp set setmaxnreg setp shf shfl shl shr sin slct sqrt st stackrestore stacksave stmatrix sub subc
    szext tanh tcgen05 tensormap testp trap vabsdiff vadd vavrg vmax vmin vote vsub wgmma wmma xor";

/// Opcodes that other tests of this crate run, and where.
const ELSEWHERE: [(&str, &str); 1] = [("call", "tests/calls.rs")];

/// Prints the table, and every form if asked to; returns the opcodes that the lowering has in its text but no test ran.
pub fn report(verbose: bool) -> Vec<String> {
    let ran = harness::table();
    let mut opcodes: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for (spelling, cases) in &ran {
        if verbose {
            println!("{cases:8} {spelling}");
        }
        let entry = opcodes.entry(spelling.split('.').next().unwrap_or(spelling)).or_default();
        *entry = (entry.0 + 1, entry.1 + cases);
    }
    println!("\nopcode           forms    cases");
    for (opcode, (forms, cases)) in &opcodes {
        println!("{opcode:16} {forms:5} {cases:8}");
    }
    let known = known();
    println!(
        "{} forms of {} opcodes; the executor knows {}",
        ran.len(),
        opcodes.len(),
        known.len()
    );
    let tested = |opcode: &str| {
        opcodes
            .keys()
            .any(|&ran| ran == opcode || opcode.starts_with('v') && ran.starts_with(opcode))
            || ELSEWHERE.iter().any(|(other, _)| *other == opcode)
    };
    known.into_iter().filter(|opcode| !tested(opcode)).collect()
}

/// Opcodes that occur as literals in the lowering.
fn known() -> Vec<String> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/exec");
    let mut literals = Vec::new();
    let files = [directory.to_string(), format!("{directory}/lower")];
    let files = files.iter().flat_map(|d| std::fs::read_dir(d).expect("sources"));
    for file in files.map(|file| file.expect("a file").path()).filter(|path| path.is_file()) {
        let text = std::fs::read_to_string(file).expect("sources are text");
        literals.extend(text.split('"').map(str::to_string));
    }
    let opcodes = OPCODES.split_whitespace().map(str::to_string);
    opcodes.filter(|opcode| literals.contains(opcode)).collect()
}
