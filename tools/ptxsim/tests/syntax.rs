//! Every form of the language that the parser reads, one by one.

use ptxsim::ptx::ast::{Base, Function, Instruction, Module, Operand, Space, Special, Type};
use ptxsim::ptx::{inventory, parse};

const HEADER: &str = ".version 8.0\n.target sm_80\n.address_size 64\n";

fn module(text: &str) -> Module {
    parse(&format!("{HEADER}{text}")).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

/// The body of a kernel with some registers.
fn kernel(body: &str) -> Function {
    let registers =
        ".reg .pred %p<4>; .reg .b16 %h<4>; .reg .b32 %r<9>; .reg .f32 %f<9>; .reg .b64 %d<9>;";
    let shared = ".extern .shared .align 16 .b8 tile[];";
    module(&format!(
        "{shared} .visible .entry k(.param .u64 out, .param .u32 n) {{ {registers} {body} }}"
    ))
    .functions
    .remove(0)
}

fn instruction(text: &str) -> (Function, Instruction) {
    let function = kernel(text);
    let instruction = function.body[0].clone();
    (function, instruction)
}

/// Operands of the first instruction.
fn operands(text: &str) -> Vec<Operand> {
    instruction(text).1.operands
}

fn constant(text: &str) -> Operand {
    operands(&format!("mov.b64 %d1, {text};")).remove(1)
}

#[test]
fn literals() {
    use Operand::{F32, F64, Integer};
    let cases = [
        ("0", Integer(0)),
        ("42U", Integer(42)),
        ("-5", Integer(-5)),
        ("0x1F", Integer(31)),
        ("0X1fU", Integer(31)),
        ("0xFFFFFFFFFFFFFFFF", Integer(u64::MAX.into())),
        ("-9223372036854775807", Integer(-i128::from(i64::MAX))),
        ("017", Integer(15)),
        ("0b101", Integer(5)),
        ("WARP_SZ", Integer(32)),
        ("0f3F800000", F32(0x3F80_0000)),
        ("0F7fffffff", F32(0x7FFF_FFFF)),
        ("0d3FF0000000000000", F64(1f64.to_bits())),
        ("1.5", F64(1.5f64.to_bits())),
        ("-2.5e-3", F64((-2.5e-3f64).to_bits())),
        ("1E4", F64(1e4f64.to_bits())),
    ];
    for (text, expected) in cases {
        assert_eq!(constant(text), expected, "{text}");
    }
}

#[test]
fn constant_expressions() {
    let cases: [(&str, i128); 29] = [
        ("1+2*3", 7),
        ("(1+2)*3", 9),
        ("7-2-1", 4),
        ("-7/2", -3),
        ("-7 % 3", -1),
        ("1<<4|1", 17),
        ("0xF0>>4&3", 3),
        ("6^5", 3),
        ("~0", -1),
        ("~0U", u64::MAX as i128),
        ("!3", 0),
        ("!0", 1),
        ("+4", 4),
        ("--4", 4),
        ("3<4", 1),
        ("4<=3", 0),
        ("4>3", 1),
        ("3>=4", 0),
        ("3==3", 1),
        ("3!=3", 0),
        ("1&&0", 0),
        ("1||0", 1),
        ("1 ? 2 : 3", 2),
        ("0 ? 2 : 1 ? 4 : 5", 4),
        ("-1 < 1U", 0),
        ("(.u64)-1", u64::MAX as i128),
        ("(.s64)0xFFFFFFFFFFFFFFFF", -1),
        ("-8>>1", -4),
        ("9223372036854775807+1", i64::MIN as i128),
    ];
    for (text, expected) in cases {
        assert_eq!(constant(text), Operand::Integer(expected), "{text}");
    }
    assert_eq!(constant("1.0/4 + 2"), Operand::F64(2.25f64.to_bits()));
    assert_eq!(constant("1.5 < 2.0"), Operand::Integer(1));
}

#[test]
fn registers_and_predicates() {
    let (function, add) = instruction("@!%p1 add.s32 %r1, %r2, %r1;");
    let guard = add.guard.unwrap();
    assert!(guard.negated && function.registers[guard.register].ty == Type::Pred);
    assert_eq!(add.operands[0], add.operands[2]);
    assert_ne!(add.operands[0], add.operands[1]);
    assert_eq!((add.opcode.as_str(), add.modifiers), ("add", vec!["s32".to_owned()]));
    assert!(!instruction("@%p1 add.s32 %r1, %r2, %r3;").1.guard.unwrap().negated);
    assert!(matches!(
        operands("setp.lt.and.f32 %p1, %f1, %f2, !%p2;")[3],
        Operand::NotPredicate(_)
    ));
    let pair = &operands("setp.lt.f32 %p1|%p2, %f1, %f2;")[0];
    assert!(matches!(pair, Operand::Pair(a, b) if matches!(**a, Operand::Register(_)) && a != b));
    let half = &operands("shfl.sync.idx.b32 _|%p1, %r1, 0, 31, -1;")[0];
    assert!(matches!(half, Operand::Pair(a, _) if **a == Operand::Sink));
    assert_eq!(operands("mbarrier.arrive.shared.b64 _, [%r1];")[0], Operand::Sink);
    assert_eq!(operands("ret;"), []);
}

#[test]
fn only_used_registers_of_a_range_exist() {
    let function =
        kernel(".reg .b32 big<4000000000>; mov.b32 big3999999999, 1; mov.b32 big0, big3999999999;");
    let names: Vec<&str> = function.registers.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["big3999999999", "big0"]);
}

#[test]
fn addresses() {
    let address = |text: &str| match operands(&format!("ld.global.u32 %r1, [{text}];")).remove(1) {
        Operand::Address(base, offset) => (base, offset),
        other => panic!("{text}: {other:?}"),
    };
    assert!(matches!(address("%d1"), (Base::Register(_), 0)));
    assert!(matches!(address("%r2+16"), (Base::Register(_), 16)));
    assert!(matches!(address("%d1+-8"), (Base::Register(_), -8)));
    assert!(matches!(address("%d1-8"), (Base::Register(_), -8)));
    assert!(matches!(address("%d1+4*(2+1)"), (Base::Register(_), 12)));
    assert_eq!(address("tile"), (Base::Symbol("tile".into()), 0));
    assert_eq!(address("n+0x10"), (Base::Symbol("n".into()), 16));
    assert_eq!(address("4096"), (Base::Absolute, 4096));
    assert_eq!(address("0xFFFFFFFFFFFFFFF0"), (Base::Absolute, -16));
    assert_eq!(operands("mov.u64 %d1, tile;")[1], Operand::Symbol("tile".into(), 0));
    assert_eq!(operands("mov.u64 %d1, tile+8;")[1], Operand::Symbol("tile".into(), 8));
    let tensor = operands("cp.async.bulk.tensor.2d.x [%r1], [%d1, {%r2, 5}], [%r3];");
    assert!(
        matches!(&tensor[1], Operand::TensorAddress(Base::Register(_), items) if items.len() == 2)
    );
}

#[test]
fn vectors() {
    let packed = operands("mov.b64 {%r1, _}, %d1;");
    assert!(
        matches!(&packed[0], Operand::Vector(items) if items.len() == 2 && items[1] == Operand::Sink)
    );
    let moved = operands("mov.v2.f32 {%f1, %f2}, {%f2, %f1};");
    assert!(matches!(&moved[1], Operand::Vector(items) if items.len() == 2));
    let store = operands("st.global.v4.f32 [%d1], {%f1, 0f00000000, %f2, 1.0};");
    assert!(matches!(&store[1], Operand::Vector(items) if items[1] == Operand::F32(0)));
}

#[test]
fn special_registers() {
    let special = |name: &str| match operands(&format!("mov.u32 %r1, {name};")).remove(1) {
        Operand::Special(special) => special,
        other => panic!("{name}: {other:?}"),
    };
    let cases = [
        ("%tid.x", Special::Tid(0)),
        ("%ntid.y", Special::Ntid(1)),
        ("%ctaid.z", Special::Ctaid(2)),
        ("%nctaid.x", Special::Nctaid(0)),
        ("%laneid", Special::LaneId),
        ("%lanemask_ge", Special::LaneMaskGe),
        ("%clock", Special::Clock),
        ("%clock64", Special::Clock64),
        ("%globaltimer", Special::GlobalTimer),
        ("%dynamic_smem_size", Special::DynamicSharedBytes),
        ("%clusterid.x", Special::Other("%clusterid.x".into())),
        ("%is_explicit_cluster", Special::Other("%is_explicit_cluster".into())),
        ("%envreg31", Special::Other("%envreg31".into())),
        ("%tid.w", Special::Other("%tid.w".into())),
    ];
    for (name, expected) in cases {
        assert_eq!(special(name), expected, "{name}");
    }
}

#[test]
fn modifiers_of_any_spelling() {
    let text = "ld.global.nc.L1::no_allocate.L2::cache_hint.L2::128B.v4.f32 {%f1, %f2, %f3, %f4}, [%d1], %d2;";
    let load = instruction(text).1;
    assert_eq!(
        load.modifiers,
        ["global", "nc", "L1::no_allocate", "L2::cache_hint", "L2::128B", "v4", "f32"]
    );
    assert_eq!(inventory::spelling(&load), text.split(' ').next().unwrap());
    assert_eq!(instruction("x.16x256b.b4x16_p64 %r1;").1.modifiers, ["16x256b", "b4x16_p64"]);
}

#[test]
fn scopes_have_names_of_their_own() {
    let function = kernel(
        "mov.b32 %r1, 0;
         { .reg .b32 %r1; .reg .pred p; .shared .b32 s; mov.b32 %r1, 1; @p bra DONE; st.shared.b32 [s], %r1; DONE: }
         { .reg .pred p; .shared .b32 s; @p bra DONE; st.shared.b32 [s], %r1; DONE: mov.b32 %r2, 2; bra OUT; }
         OUT: mov.b32 %r1, 3;",
    );
    assert_ne!(function.body[0].operands[0], function.body[1].operands[0]);
    assert_eq!(function.body[0].operands[0], function.body.last().unwrap().operands[0]);
    let labels: Vec<(&str, usize)> = function.labels.iter().map(|l| (l.0.as_str(), l.1)).collect();
    assert_eq!(labels, [("DONE", 4), ("DONE@1", 6), ("OUT", 8)]);
    assert_eq!(function.body[2].operands, [Operand::Label(0)]);
    assert_eq!(function.body[4].operands, [Operand::Label(1)]);
    assert_eq!(function.body[7].operands, [Operand::Label(2)]);
    let names: Vec<&str> = function.variables.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["s", "s@1"]);
    assert!(
        matches!(&function.body[5].operands[0], Operand::Address(Base::Symbol(s), 0) if s == "s@1")
    );
}

#[test]
fn an_inner_variable_hides_one_of_the_module_only_inside() {
    let text = ".global .b32 v; .entry k() { .reg .b64 %d; { .local .b32 v; mov.u64 %d, v; } mov.u64 %d, v; }";
    let function = module(text).functions.remove(0);
    assert_eq!(function.variables[0].name, "v@1");
    let symbols: Vec<&Operand> = function.body.iter().map(|i| &i.operands[1]).collect();
    assert_eq!(symbols, [&Operand::Symbol("v@1".into(), 0), &Operand::Symbol("v".into(), 0)]);
}

#[test]
fn branches_through_tables() {
    let function =
        kernel("T: .branchtargets A, B, A; brx.idx.uni %r1, T; A: mov.b32 %r1, 1; B: ret;");
    assert_eq!(function.branch_tables, [("T".to_owned(), vec![0, 1, 0])]);
    assert_eq!(function.body[0].operands[1], Operand::BranchTable(0));
}

#[test]
fn variables() {
    let module = module(
        ".visible .global .align 16 .b8 bytes[4] = {1, 0xFF, -1};
         .global .f32 f = 1.5;
         .global .f32 bits = 0f3F800000;
         .const .f64 d[2] = {0d3FF0000000000000, 3};
         .global .v2 .u16 pair = {1, 2};
         .global .u16 rows[][2] = {{1, 2}, {3}, 5, 6};
         .weak .global .s32 a = {7}, b = -2;
         .global .u64 address = generic(bytes)+3;
         .global .u64 more[2] = {bytes-1, 0};
         .global .attribute(.managed) .u32 managed;
         .extern .shared .align 8 .f32 dynamic[];
         .extern .global .u32 elsewhere;
         .shared .b32 tile[4][8];",
    );
    let find = |name: &str| module.variables.iter().find(|v| v.name == name).unwrap();
    assert_eq!(
        (find("bytes").bytes, find("bytes").align, &find("bytes").init[..]),
        (4, 16, &[1, 255, 255][..])
    );
    assert_eq!(find("f").init, 1.5f32.to_le_bytes());
    assert_eq!(find("bits").init, 1f32.to_le_bytes());
    assert_eq!(find("d").init[8..], 3f64.to_le_bytes());
    assert_eq!((find("d").space, find("d").ty, find("d").align), (Space::Const, Type::F64, 8));
    assert_eq!(
        (find("pair").bytes, find("pair").align, &find("pair").init[..]),
        (4, 4, &[1, 0, 2, 0][..])
    );
    assert_eq!(find("rows").init, [1, 0, 2, 0, 3, 0, 0, 0, 5, 0, 6, 0]);
    assert_eq!(find("rows").bytes, 12);
    assert_eq!((find("a").init[0], find("b").init[0]), (7, 254));
    assert_eq!(find("address").relocations, [(0, "bytes".to_owned(), 3)]);
    assert_eq!(find("more").relocations, [(0, "bytes".to_owned(), -1)]);
    assert_eq!(
        (find("dynamic").bytes, find("dynamic").is_extern, find("dynamic").align),
        (0, true, 8)
    );
    assert!(find("elsewhere").is_extern);
    assert_eq!(find("tile").bytes, 128);
}

#[test]
fn entries_and_their_limits() {
    let module = module(
        ".visible .entry k(.param .u64 .ptr .global .align 16 p, .param .align 8 .b8 s[24], .param .f32 x)
         .maxntid 256, 2 .reqntid 32 .minnctapersm 3 .maxnreg 128 .reqnctapercluster 2, 1, 1 .maxclusterrank 8
         { .pragma \"nounroll\"; ret; }
         .entry none { ret; }",
    );
    let entry = &module.functions[0];
    let sizes: Vec<(u64, u64)> = entry.params.iter().map(|p| (p.bytes, p.align)).collect();
    assert_eq!(sizes, [(8, 8), (24, 8), (4, 4)]);
    assert_eq!(entry.limits.max_threads, Some([256, 2, 1]));
    assert_eq!(entry.limits.required_threads, Some([32, 1, 1]));
    assert_eq!((entry.limits.min_blocks_per_sm, entry.limits.max_registers), (Some(3), Some(128)));
    assert_eq!(entry.limits.cluster, Some([2, 1, 1]));
    assert!(entry.is_entry && entry.has_body && module.functions[1].params.is_empty());
}

#[test]
fn functions_and_calls() {
    let module = module(
        ".extern .func (.param .b32 status) vprintf (.param .b64 a, .param .b64 b);
         .func (.param .b32 r) f (.param .b32 x, .param .align 4 .b8 s[8]);
         .weak .func (.param .b32 r) f (.param .b32 x, .param .align 4 .b8 s[8]) .noreturn { ret; }
         .func quiet { ret; }
         .entry k() {
           .reg .b64 %d; .reg .b32 %r;
           { .param .b32 p0; .param .align 4 .b8 p1[8]; .param .b32 v0;
             call.uni (v0), f, (p0, p1); ld.param.b32 %r, [v0+0]; }
           call quiet;
           { .param .b32 p0; .param .b32 v0;
             P: .callprototype (.param .b32 _) _ (.param .b32 _);
             call (v0), %d, (p0), P; }
           T: .calltargets f, quiet;
           call %d, T;
         }",
    );
    let names: Vec<(&str, bool)> =
        module.functions.iter().map(|f| (f.name.as_str(), f.has_body)).collect();
    assert_eq!(names, [("vprintf", false), ("f", true), ("quiet", true), ("k", true)]);
    let kernel = &module.functions[3];
    let symbol = |name: &str| Operand::Symbol(name.into(), 0);
    let call = &kernel.body[0].operands;
    assert_eq!(call[0], Operand::Tuple(vec![symbol("v0")]));
    assert_eq!(call[1], symbol("f"));
    assert_eq!(call[2], Operand::Tuple(vec![symbol("p0"), symbol("p1")]));
    assert_eq!(kernel.body[2].operands, [symbol("quiet")]);
    assert_eq!(kernel.body[3].operands[3], Operand::Prototype(0));
    assert_eq!(kernel.prototypes[0].params[0].bytes, 4);
    assert_eq!(kernel.body[4].operands[1], Operand::CallTargets(vec!["f".into(), "quiet".into()]));
}

#[test]
fn lines_and_inlining() {
    let module = module(
        ".entry k() { .reg .b32 %r;
         .loc 1 10 0
         mov.b32 %r, 1;
         .loc 1 20 5, function_name $name, inlined_at 1 10 0
         mov.b32 %r, 2;
         .loc 2 30 7, function_name $name+6, inlined_at 1 20 5
         mov.b32 %r, 3;
         .loc 1 0 5
         mov.b32 %r, 4;
         .loc 2 0 5, function_name $name, inlined_at 1 10 0
         mov.b32 %r, 5;
         }
         .file 1 \"a.cu\"
         .file 2 \"b.cuh\", 123, 456
         .section .debug_abbrev { .b8 1 .b32 .debug_info+3 }
         .section .debug_str {
         $name: .b8 111,117,116,101,114,0
         .b8 105,110,110,101,114,0
         }",
    );
    assert_eq!(module.files, [(1, "a.cu".to_owned()), (2, "b.cuh".to_owned())]);
    let frames = |index: usize| {
        let source = module.functions[0].body[index].at.source.iter();
        source.map(|s| (s.file, s.line, s.function.as_deref())).collect::<Vec<_>>()
    };
    assert_eq!(frames(0), [(1, 10, None)]);
    assert_eq!(frames(1), [(1, 20, Some("outer")), (1, 10, None)]);
    assert_eq!(frames(2), [(2, 30, Some("inner")), (1, 20, Some("outer")), (1, 10, None)]);
    assert_eq!(frames(3), []);
    assert_eq!(frames(4), [(1, 10, None)]);
    assert_eq!(module.functions[0].body[2].at.ptx_line, 10);
}

#[test]
fn blanks_and_comments() {
    let text = "// one\n/* two\n lines */.version 9.1\n# 1 \"x.cu\"\n.target sm_90a, debug .address_size 64\n\
                .entry k(){ret ; ; { } // end\n}// no newline";
    let module = parse(text).unwrap();
    assert_eq!((module.version, module.target.len(), module.functions[0].line), ((9, 1), 2, 6));
    assert_eq!(module.functions[0].body[0].at.ptx_line, 6);
}

#[test]
fn an_inventory_counts_spellings() {
    let module = module(".entry k() { .reg .b32 %r; mov.b32 %r, 1; mov.b32 %r, 2; ret; }");
    let counts: Vec<_> = inventory::opcodes(&module).into_iter().collect();
    assert_eq!(counts, [("mov.b32".to_owned(), 2), ("ret".to_owned(), 1)]);
}
