//! Functions that kernels call, and what the runtime provides: `printf` and `assert`.

mod support;

use ptxsim::exec::{Fault, Level};
use ptxsim::finding::Kind;
use support::{Arg, Device};

/// The fixture for every level, target and some schedules.
fn devices() -> impl Iterator<Item = Device> {
    let seeded = |(level, target, seed)| {
        let mut device = Device::fixture(&format!("calls.{target}"), level);
        device.machine.seed = seed;
        device.machine.threads = 1 + seed as usize % 2;
        device
    };
    let all = Level::available().into_iter().flat_map(|level| {
        [80, 90, 120].into_iter().flat_map(move |target| (0..3).map(move |s| (level, target, s)))
    });
    all.map(seeded)
}

fn chain(n: i32) -> i32 {
    match n {
        ..=0 => 1,
        _ => {
            let below = chain(n - 1);
            below.wrapping_mul(31) ^ [n, n + 5, n + 7, n + 11][(below & 3) as usize]
        }
    }
}

#[test]
fn recursion_functions_by_address_and_structures() {
    for device in devices() {
        let n = 150;
        // Lanes of a warp return from different depths.
        let depth: Vec<i32> = (0..n).map(|i| i * 7 % 40).collect();
        let out = device.upload(&vec![-1i32; 3 * n as usize]);
        let args = [Arg::Address(device.upload(&depth)), Arg::Address(out), Arg::Word(n as u32)];
        device.launch("calls", [2, 1, 1], [96, 1, 1], 0, &args).unwrap();
        let got: Vec<i32> = device.download(out, 3 * n as usize);
        for i in 0..n {
            let at = |row: i32| got[(row * n + i) as usize];
            assert_eq!(at(0), chain(depth[i as usize]), "thread {i}: recursion");
            let expected = [i + 1000, i - 1000, i + i][i as usize % 3];
            assert_eq!(at(1), expected, "thread {i}: a function by address");
            let expected = 2 * i + 7 + 10 * i + 100 * 5 * i + 1000 * 3 * i;
            assert_eq!(at(2), expected, "thread {i}: a structure");
        }
        device.clean();
    }
}

#[test]
fn recursion_without_end_names_the_function() {
    let device = Device::fixture("calls.80", Level::Portable);
    let out = device.allocate(12);
    let args = [Arg::Address(device.upload(&[5000])), Arg::Address(out), Arg::Word(1)];
    let fault = device.launch("calls", [1, 1, 1], [32, 1, 1], 0, &args).unwrap_err();
    let Fault::LaunchFailure(message) = &fault else { panic!("{fault}") };
    assert!(message.contains("stack overflow") && message.contains("chain"), "{message}");
    assert!(message.contains("calls.cu:"), "{message}");
}

/// What C's `printf` writes of these arguments, by the C standard.
#[test]
fn printf_has_every_conversion() {
    for device in devices() {
        let text = device.upload(b"some text\0");
        device.launch("prints", [1, 1, 1], [3, 1, 1], 0, &[Arg::Address(text)]).unwrap();
        let mut expected = Vec::new();
        for i in 0..3 {
            expected.push(format!("{}|{i:5}|{i:<5}|{i:+}|{i:05}|{i}\n", -i));
        }
        for _ in 0..3 {
            expected.push("4000000000 beef BEEF 010 -5000000000 9223372036854775808\n".into());
        }
        for letter in ["A", "B", "C"] {
            expected.push(format!("1.500000 0.667   1.23e+04 1e-07 {letter} some text 0x1234 %\n"));
        }
        expected.extend(["    42 8.25\n"; 3].map(String::from));
        expected.extend(["7 9\n"; 3].map(String::from));
        assert_eq!(device.findings.take_printed(), expected);
        device.clean();
    }
}

#[test]
fn what_blocks_print_is_in_the_order_of_the_blocks() {
    let mut outputs = Vec::new();
    for (seed, threads) in [(0, 1), (3, 2), (9, 4)] {
        let mut device = Device::fixture("calls.80", Level::Portable);
        (device.machine.seed, device.machine.threads) = (seed, threads);
        device.launch("announces", [40, 1, 1], [1, 1, 1], 0, &[]).unwrap();
        outputs.push(device.findings.take_printed());
    }
    let expected: Vec<String> = (0..40).map(|block| format!("block {block}\n")).collect();
    assert!(outputs.iter().all(|o| *o == expected), "{outputs:?}");
}

#[test]
fn an_assertion_that_fails_says_where() {
    for device in devices() {
        let mut x = [1; 40];
        let args = [Arg::Address(device.upload(&x))];
        device.launch("asserts", [1, 1, 1], [40, 1, 1], 0, &args).unwrap();
        device.clean();
        x[35] = -1;
        let args = [Arg::Address(device.upload(&x))];
        let fault = device.launch("asserts", [1, 1, 1], [40, 1, 1], 0, &args).unwrap_err();
        let Fault::Assert(message) = &fault else { panic!("{fault}") };
        for part in ["calls.cu:123: asserts", "thread: [35, 0, 0]", "`x >= 0` failed"] {
            assert!(message.contains(part), "{message}");
        }
        let findings = device.findings.take();
        let place = findings[0].place.as_ref().unwrap();
        assert_eq!((findings[0].kind, place.warp, place.lane), (Kind::Trap, 1, 3));
        assert!(place.source[0].starts_with("calls.cu:"), "{:?}", place.source);
    }
}

const GUARDED: &str = "
.version 8.0 .target sm_80 .address_size 64
.func (.param .b32 result) early(.param .b32 given) {
    .reg .pred %p<2>; .reg .b32 %r<3>;
    ld.param.u32 %r1, [given];
    st.param.b32 [result], %r1;
    setp.ge.u32 %p1, %r1, 20;
    @%p1 exit;
    setp.lt.u32 %p1, %r1, 10;
    @%p1 ret;
    add.u32 %r2, %r1, 100;
    st.param.b32 [result], %r2;
    ret;
}
.visible .entry guarded(.param .u64 out) {
    .reg .pred %p<2>; .reg .b32 %r<4>; .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [out];
    mov.u32 %r1, %tid.x;
    and.b32 %r2, %r1, 1;
    setp.eq.u32 %p1, %r2, 1;
    mov.u32 %r3, 7;
    { .param .b32 argument; .param .b32 answer;
      st.param.b32 [argument], %r1;
      @%p1 call (answer), early, (argument);
      @%p1 ld.param.b32 %r3, [answer]; }
    mul.wide.u32 %rd2, %r1, 4;
    add.u64 %rd3, %rd1, %rd2;
    st.global.u32 [%rd3], %r3;
    ret;
}
.visible .entry lost(.param .u64 target) {
    .reg .b64 %rd<2>;
    ld.param.u64 %rd1, [target];
    { prototype: .callprototype _ ();
      call %rd1, (), prototype; }
    ret;
}";

#[test]
fn guards_keep_lanes_back_and_functions_end_early() {
    for level in Level::available() {
        let device = Device::new(GUARDED, level);
        let out = device.upload(&[0u32; 32]);
        device.launch("guarded", [1, 1, 1], [32, 1, 1], 0, &[Arg::Address(out)]).unwrap();
        let expected: Vec<u32> = (0..32)
            .map(|lane| match lane {
                _ if lane % 2 == 0 => 7,
                ..10 => lane,
                10..20 => lane + 100,
                _ => 0, // has exited
            })
            .collect();
        assert_eq!(device.download::<u32>(out, 32), expected);
        device.clean();
    }
}

#[test]
fn a_call_of_what_is_no_function_is_a_fault() {
    let device = Device::new(GUARDED, Level::Portable);
    let target = [Arg::Address(0x1234)];
    let fault = device.launch("lost", [1, 1, 1], [32, 1, 1], 0, &target).unwrap_err();
    assert!(fault.to_string().contains("0x1234 is no function's address in lost"), "{fault}");
}
