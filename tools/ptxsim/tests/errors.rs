//! What is refused, in which line, and what the message says of it.

use ptxsim::ptx::parse;

/// The error of a text whose last line is wrong.
fn refusal(text: &str) -> String {
    let error = parse(text).err().unwrap_or_else(|| panic!("accepted:\n{text}"));
    let last = text.lines().count().max(1) as u32;
    assert_eq!(error.line, last, "{error}:\n{text}");
    error.message
}

fn check(cases: &[(&str, &str)], wrap: impl Fn(&str) -> String) {
    for (text, expected) in cases {
        let message = refusal(&wrap(text));
        assert!(message.contains(expected), "{text}: `{message}` does not say `{expected}`");
    }
}

#[test]
fn headers() {
    check(
        &[
            ("", "`.version`"),
            ("\u{1F600}", "no PTX token begins with"),
            (".entry k() {}", "expected `.version`"),
            (".version 8", "a version such as 8.0"),
            (".version x", "a version such as 8.0, found `x`"),
            (".version 10.0", "newer than 9.x"),
            (".version 8.0 .entry", "expected `.target`, found `.entry`"),
            (".version 8.0 .target 80", "a target such as sm_80"),
            (".version 8.0 .target sm_80", "32-bit modules are not supported"),
            (".version 8.0 .target sm_80 .address_size 32", "32-bit modules are not supported"),
            (".version 8.0 .target sm_80 .address_size 64 /* open", "no `*/`"),
            (".version 8.0 .target sm_80 .address_size 64 .file 1 \"open", "no closing"),
        ],
        |text| text.to_owned(),
    );
}

#[test]
fn module_scope() {
    check(
        &[
            ("mov.b32 a, b;", "expected a directive such as `.global` or `.entry`, found `mov`"),
            (".unheard", "found `.unheard`"),
            (".visible .file", "after its linkage"),
            (".global x;", "a type such as `.b32`"),
            (".global .pred x;", "a type such as `.b32` for a variable, found `.pred`"),
            (".global .align 3 .b8 x;", "alignment 3 is not a power of two"),
            (".global .b32 x", "expected `;`"),
            (".global .b32 x[];", "`x` has no size"),
            (".global .b32 x[2][];", "too many or empty dimensions"),
            (".global .b32 x[0x7fffffff][0x7fffffff][8];", "larger than memory"),
            (".global .b32 x[][0x7fffffff][0x7fffffff][8];", "larger than memory"),
            (".global .b32 x[-1];", "expected an array size, found -1"),
            (".global .b32 x[1.5];", "expected an array size, found a floating-point number"),
            (".global .b32 x[2] = {1, 2, 3};", "`x` has room for 2"),
            (".global .b32 x[2] = 1;", "expected `{`"),
            (".global .b32 x[2] = {{1}};", "fewer dimensions"),
            (".global .b8 x[][0x40000000] = {{1}, {2}};", "initial values beyond"),
            (".global .b8 x[0x70000000][4] = {{}, {}, {}", "`,`, found the end"),
            (".global .b32 x = 1.5;", "cannot hold this kind of number"),
            (".global .b32 x = x;", "does not fit into 4 bytes"),
            (".global .u64 x = nowhere;", "names `nowhere`, which is not declared"),
            (".global .u64 x = generic(x;", "expected `)`"),
            (".shared .b32 x = 1;", "only .global and .const may"),
            (".global .b32 x; .global .b32 x;", "`x` is declared twice"),
            (".global .b32 f; .func f { ret; }", "`f` is a variable already"),
            (".func f { ret; } .func f { ret; }", "`f` is defined twice"),
            (".extern .func f { ret; }", "an .extern function has no body"),
            (".func (.reg .b32 r) f { ret; }", ".reg space are not supported"),
            (".entry k(.param .b32 a .param .b32 b) { ret; }", "expected `,`"),
            (".entry k(.b32 a) { ret; }", "expected `.param`"),
            (".entry k(.param .b8 a[]) { ret; }", "parameter `a` has no size"),
            (".entry k(.param .b32 a, .param .b32 a) { ret; }", "two parameters are called `a`"),
            (".entry k() .maxthreads 5 { ret; }", "a performance directive such as `.maxntid`"),
            (".entry k() .maxnreg x { ret; }", "expected a count, found `x`"),
            (".entry k() { ret;", "or `}`, found the end of the text"),
            (".section debug_str {}", "a section's name"),
            (".section .debug_str { .b8 300000 }", "expected a byte, found 300000"),
            (".section .debug_info { .b8 1", "expected `}` after section .debug_info"),
            (".pragma nounroll;", "a pragma's string"),
        ],
        |text| format!(".version 8.0\n.target sm_80\n.address_size 64\n{text}"),
    );
}

#[test]
fn statements() {
    check(
        &[
            ("mov.b32 %r1 %r2;", "expected `,` or `;` after an operand, found `%r2`"),
            (
                "mov.b32 %r1, %r9;",
                "`%r9` is neither a register declared here nor a special register",
            ),
            ("mov.b32 %r1, %r01;", "`%r01` is neither"),
            ("mov.b32 %r1, %tid.q%;", "or `;`"),
            ("mov.b32 %r1, %bogus.x;", "`%bogus` is neither"),
            ("mov.b32 %r1, nowhere;", "`nowhere` is not declared"),
            ("ld.global.b32 %r1, [nowhere];", "`nowhere` is not declared"),
            ("mov.b32 %r1, ;", "a number or a constant expression, found `;`"),
            ("mov.b32 %r1, 0x;", "`0x` is not a number"),
            ("mov.b32 %r1, 0f12;", "`0f12` is not a number"),
            ("mov.b32 %r1, 0d12;", "`0d12` is not a number"),
            ("mov.b32 %r1, 12abc;", "`12abc` is not a number"),
            ("mov.b32 %r1, 99999999999999999999;", "is not a number"),
            ("mov.b32 %r1, 1/0;", "division by zero"),
            ("mov.b32 %r1, 1<<64;", "cannot shift by 64"),
            ("mov.b32 %r1, 1.0 & 2;", "`&` does not take floating-point numbers"),
            ("mov.b32 %r1, -0f3F800000;", "does not take this kind of number"),
            ("mov.b32 %r1, 0f3F800000+1;", "does not take a 0f literal"),
            ("mov.b32 %r1, 1.5 ? 1 : 2;", "must be an integer"),
            ("mov.b32 %r1, (.u64)1.5;", "takes an integer"),
            ("mov.b32 %r1, {%r2, %r3;", "expected `,` or `}`"),
            ("ld.global.b32 %r1, [%d1;", "or `]` in an address"),
            ("ld.global.b32 %r1, [%p1|2];", "or `]` in an address"),
            ("ld.global.b32 %r1, [%tid.x];", "begins with a register or variable"),
            ("ld.global.b32 %r1, [1.5];", "expected an address, found a floating-point number"),
            ("ld.global.b32 %r1, [%d1+99999999999999999999];", "is not a number"),
            ("ld.global.b32 %r1, [%d1+0xFFFFFFFFFFFFFFFF];", "an offset of 64 bits"),
            ("tex.2d %r1, [%d1+4, {%r1}];", "has no offset"),
            ("setp.eq.b32 %p1|5, %r1, %r2;", "after `|`"),
            ("and.pred %p1, %p2, !tid;", "`!` wants a register"),
            ("add.s32 %r1, %r2, !%r3;", "`!%r3` is not a predicate register"),
            ("@;", "a predicate after `@`"),
            ("@%p7 ret;", "the guard `%p7` is not a register"),
            ("@%r1 ret;", "the guard `%r1` is not a predicate"),
            (".reg .b32 %r<5>;", "`%r` is declared twice"),
            (".reg .b32 a, a;", "`a` is declared twice"),
            (".reg .b32 %r3;", "`%r3` is declared twice"),
            (".reg .b32 %q3; .reg .b32 %q<4>;", "`%q` is declared twice"),
            (".reg .v4 .f32 v;", "vector registers are not supported"),
            (".reg x;", "a register's type"),
            (".reg .b32 %z<x>;", "a number of registers"),
            ("L: L: ret;", "`L` is declared twice"),
            (".shared .b32 s; .shared .b32 s;", "`s` is declared twice"),
            ("T: .branchtargets L;", "`L` in .branchtargets is no label"),
            (".loc 1 2;", "expected a column"),
            (".loc 1 2 3, elsewhere", "`function_name` or `inlined_at`, found `elsewhere`"),
            ("bra nowhere;", "`nowhere` is not declared"),
            ("{ INNER: } bra INNER;", "`INNER` is not declared"),
            (".global", "a type such as `.b32`"),
            ("5;", "an instruction, a label"),
            ("P: .callprototype 5;", "`_` for the function's name"),
        ],
        kernel,
    );
}

#[test]
fn operands_that_do_not_fit() {
    check(
        &[
            (
                "add.s32 %r1, %r2, %d1;",
                "add.s32: operand 3 is `%d1`, a 64-bit register; expected 32 bits",
            ),
            ("add.s64 %r1, %d2, %d1;", "operand 1 is `%r1`, a 32-bit register; expected 64 bits"),
            ("add.f32 %f1, %f2, %p1;", "operand 3 is `%p1`, a predicate; expected 32 bits"),
            ("and.pred %p1, %p2, %r1;", "expected a predicate"),
            (
                "mul.wide.u32 %r1, %r2, %r3;",
                "operand 1 is `%r1`, a 32-bit register; expected 64 bits",
            ),
            ("mad.wide.u16 %r1, %h1, %h2, %h3;", "operand 4"),
            (
                "setp.lt.f32 %r1, %f1, %f2;",
                "operand 1 is `%r1`, a 32-bit register; expected a predicate",
            ),
            ("setp.lt.f64 %p1, %f1, %f2;", "operand 2 is `%f1`"),
            ("setp.lt.f32 %p1|%r1, %f1, %f2;", "expected a predicate"),
            ("selp.b32 %r1, %r2, %r3, %r1;", "operand 4"),
            ("shl.b64 %d1, %d2, %d3;", "operand 3 is `%d3`, a 64-bit register; expected 32 bits"),
            ("cvt.u64.u32 %r1, %r2;", "expected 64 bits or more"),
            (
                "ld.global.b64 %r1, [%d1];",
                "operand 1 is `%r1`, a 32-bit register; expected 64 bits or more",
            ),
            ("ld.global.v2.b32 {%r1, %h1}, [%d1];", "operand 1 is `%h1`"),
            (
                "ld.global.b32 %r1, %d1;",
                "operand 2 is `%d1`, a 64-bit register; expected an address in brackets",
            ),
            ("st.global.b32 %d1, %r1;", "expected an address in brackets"),
            ("st.global.b32 [%d1], [%d2];", "operand 2 is an address; expected 32 bits or more"),
            ("mov.b64 %d1, {%r1, %d2};", "operand 2 is `%d2`"),
            ("mov.b64 %d1, {%r1, %r2, %r3};", "has 3 parts, which cannot make 64 bits"),
            ("add.s32 %r1, {%r2, %r3}, 1;", "operand 2 is a list in braces"),
            ("bra 5;", "operand 1 is an integer; expected a label"),
            (
                "L: brx.idx %r1, L;",
                "operand 2 is a label; expected the label of a .branchtargets list",
            ),
            ("mov.pred %p1, 1.5;", "a floating-point number; expected a predicate"),
            ("call;", "call wants a function"),
            ("call n;", "`n` is none"),
            ("call k;", "returns 0 and takes 1 parameters, but the call has 0 and 0"),
            ("call k, (%r1, %r2);", "the call has 0 and 2"),
            ("call %d1, (%r1);", "wants a .callprototype or .calltargets"),
            ("call 5, (%r1);", "expected `call (returns), function, (arguments)`"),
            ("P: .callprototype _ (); call %d1, (%r1), P;", "`P` returns 0 and takes 0 parameters"),
        ],
        kernel,
    );
}

#[test]
fn nesting_is_bounded() {
    for (open, close) in [("(", ")"), ("-", ""), ("!", ""), ("1?", ":1"), ("(.s64)", "")] {
        let text =
            kernel(&format!("mov.b32 %r1, {}1{};", open.repeat(100_000), close.repeat(100_000)));
        assert!(refusal(&text).contains("nests deeper than"), "{open}");
    }
    assert!(refusal(&kernel(&"{".repeat(100_000))).contains("nests deeper than"));
    let braces =
        format!("{}.global .b32 x[1] = {}", kernel("}").trim_end_matches('}'), "{".repeat(100_000));
    assert!(parse(&braces).is_err());
}

#[test]
fn labels_of_strings_must_exist() {
    let text = ".version 8.0 .target sm_80 .address_size 64 .entry k() { .loc 1 2 3, function_name $s, inlined_at 1 1 1\nret; }";
    let error = parse(text).unwrap_err();
    assert_eq!((error.line, error.message.contains("the string `$s`")), (2, true), "{error}");
    assert_eq!(error.to_string(), format!("line 2: {}", error.message));
}

fn kernel(body: &str) -> String {
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.entry k(.param .b32 n) {{\n\
         .reg .pred %p<4>; .reg .b16 %h<4>; .reg .b32 %r<9>; .reg .f32 %f<9>; .reg .b64 %d<9>;\n{body} }}"
    )
}
