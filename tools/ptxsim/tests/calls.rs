//! Device functions, and what the runtime provides to device code, against the same in Rust.

mod support;

use ptxsim::exec::{Fault, Level};
use ptxsim::finding::Kind;
use support::{Arg, Device, Random};

fn everywhere(test: impl Fn(&Device)) {
    for level in Level::available() {
        for target in [80, 90, 120] {
            for seed in 0..3 {
                let mut device = Device::fixture(&format!("calls.{target}"), level);
                device.machine.seed = seed;
                test(&device);
            }
        }
    }
}

fn one(threads: u32) -> [[u32; 3]; 2] {
    [[1, 1, 1], [threads, 1, 1]]
}

#[test]
fn structures_go_in_and_come_back() {
    everywhere(|device| {
        let n = 45;
        let x = Random(1).floats(n);
        let out = device.allocate(16 * n);
        let args = [Arg::Address(out), Arg::Address(device.upload(&x)), Arg::Word(n as u32)];
        let [grid, block] = one(64);
        device.launch("structures", grid, block, 0, &args).unwrap();
        let words: Vec<u32> = device.download(out, 4 * n);
        for (t, pair) in words.chunks(4).enumerate() {
            let weight = f64::from_bits(u64::from(pair[2]) | u64::from(pair[3]) << 32);
            let expected = match t % 2 {
                0 => (x[t] + x[n - 1 - t], 11, 1.5),
                _ => (x[t], 1, 0.5),
            };
            assert_eq!((f32::from_bits(pair[0]), pair[1], weight), expected, "thread {t}");
        }
        device.clean();
    });
}

fn ackermann(m: i32, n: i32) -> i32 {
    match (m, n) {
        (0, n) => n + 1,
        (m, 0) => ackermann(m - 1, 1),
        (m, n) => ackermann(m - 1, ackermann(m, n - 1)),
    }
}

#[test]
fn lanes_recurse_to_different_depths() {
    everywhere(|device| {
        let out = device.allocate(4 * 40);
        let [grid, block] = one(40);
        device.launch("recursion", grid, block, 0, &[Arg::Address(out)]).unwrap();
        let expected: Vec<i32> = (0..40).map(|t| ackermann(t % 3, t / 3)).collect();
        assert_eq!(device.download::<i32>(out, 40), expected);
        device.clean();
    });
}

#[test]
fn endless_recursion_overflows_the_stack_and_says_where() {
    everywhere(|device| {
        let [grid, block] = one(1);
        let out = device.upload(&[5]);
        let fault = device.launch("overflow", grid, block, 0, &[Arg::Address(out)]).unwrap_err();
        let Fault::LaunchFailure(message) = fault else { panic!("{fault:?}") };
        assert!(message.contains("stack overflow") && message.contains("endless"), "{message}");
        assert!(message.contains("calls.cu:"), "{message}");
    });
}

#[test]
fn a_warp_calls_several_functions_by_address() {
    everywhere(|device| {
        let choice: Vec<i32> = (0..50).map(|t| t * 7 % 3).collect();
        let out = device.allocate(4 * 50);
        let args = [Arg::Address(out), Arg::Address(device.upload(&choice))];
        let [grid, block] = one(50);
        device.launch("pointers", grid, block, 0, &args).unwrap();
        let result = |t: i32| [2 * t, t * t, t - 1][choice[t as usize] as usize];
        assert_eq!(device.download::<i32>(out, 50), (0..50).map(result).collect::<Vec<_>>());
        device.clean();
    });
}

#[test]
fn a_function_has_barriers_and_shared_memory() {
    everywhere(|device| {
        let out = device.allocate(4 * 100);
        let [grid, block] = one(100);
        device.launch("sums", grid, block, 0, &[Arg::Address(out)]).unwrap();
        assert_eq!(device.download::<i32>(out, 100), [99 * 50 + 100; 100]);
        device.clean();
    });
}

#[test]
fn printf_writes_what_c_writes() {
    everywhere(|device| {
        let [grid, block] = one(5);
        device.launch("prints", grid, block, 0, &[Arg::Word(42)]).unwrap();
        let mut lines: Vec<String> =
            device.findings.take_printed().concat().lines().map(str::to_owned).collect();
        lines.sort();
        let expected = [
            "-42 42 4000000000    42|42   |00042 +42 beef BEEF 10 B %",
            "-5000000000 18000000000000000000 ff text [   right] [left    ] cut",
            "1 2 3",
            "1.500000 -2.35 1.234568e+04 0.0001      3.142    7",
        ];
        assert_eq!(lines, expected);
        device.clean();
    });
}

#[test]
fn a_failed_assertion_names_its_line_and_thread() {
    let source = include_str!("kernels/calls.cu");
    let line = 1 + source.lines().position(|l| l.contains("// ASSERT")).unwrap();
    everywhere(|device| {
        let x: Vec<i32> = (0..64).collect();
        let [grid, block] = one(64);
        let args = |limit| [Arg::Address(device.upload(&x)), Arg::Word(limit)];
        device.launch("asserts", grid, block, 0, &args(64)).unwrap();
        device.clean();
        let fault = device.launch("asserts", grid, block, 0, &args(40)).unwrap_err();
        assert!(matches!(fault, Fault::Assert(_)), "{fault:?}");
        let finding = device.findings.take().remove(0);
        assert_eq!(finding.kind, Kind::Trap);
        for part in ["x[t] < limit", "asserts", "thread: [40, 0, 0]", &format!("calls.cu:{line}")] {
            assert!(finding.message.contains(part), "{part} is not in {}", finding.message);
        }
        assert!(finding.place.unwrap().source[0].ends_with(&format!("calls.cu:{line}")));
    });
}
