//! `ptxsim run --counters` around a program that launches kernels: this test itself, started again.

use std::ffi::{CString, c_void};
use std::process::Command;

use ptxsim::driver::Summary;
use ptxsim::model::Term;
use ptxsim::profile::Profile;

const ROLE: &str = "PTXSIM_TEST_ROLE";
const N: usize = 4096;

/// Not a test of its own: what the others run under the simulator.
#[test]
fn program() {
    use cudarc::driver::{CudaContext, DevicePtr, DevicePtrMut, result};
    if std::env::var(ROLE).is_err() {
        return;
    }
    let context = CudaContext::new(0).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ptx/vector.80.ptx");
    let ptx = CString::new(std::fs::read(path).unwrap()).unwrap();
    // SAFETY: PTX that ends with a 0, and names of its kernels.
    let module = unsafe { result::module::load_data(ptx.as_ptr().cast()) }.unwrap();
    let [add, reduce] = [c"add", c"sum"]
        .map(|name| unsafe { result::module::get_function(module, name.into()) }.unwrap());
    let stream = context.default_stream();
    let a = stream.clone_htod(&vec![1f32; N]).unwrap();
    let b = stream.clone_htod(&vec![2f32; N]).unwrap();
    let mut sum = stream.alloc_zeros::<f32>(N).unwrap();
    let mut total = stream.alloc_zeros::<f32>(1).unwrap();
    let launch = |kernel, threads: u32, shared, addresses: &mut [u64]| {
        let mut n = N as i32;
        let mut args: Vec<*mut c_void> =
            addresses.iter_mut().map(|address| (&raw mut *address).cast()).collect();
        args.push((&raw mut n).cast());
        let (grid, block) = ((N as u32 / threads, 1, 1), (threads, 1, 1));
        // SAFETY: the kernel's own arguments, on memory that outlives it.
        let launched = unsafe {
            result::launch_kernel(kernel, grid, block, shared, stream.cu_stream(), &mut args)
        };
        launched.unwrap();
    };
    let (a, b) = (a.device_ptr(&stream).0, b.device_ptr(&stream).0);
    let sum_at = sum.device_ptr_mut(&stream).0;
    for threads in [128, 128, 256] {
        launch(add, threads, 0, &mut [a, b, sum_at]);
    }
    let total_at = total.device_ptr_mut(&stream).0;
    launch(reduce, 256, 1024, &mut [sum_at, total_at]);
    assert_eq!(stream.clone_dtoh(&total).unwrap(), [3.0 * N as f32]);
}

fn run(options: &[&str]) -> (String, Summary) {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_ptxsim"))
        .arg("run")
        .args(options)
        .arg("--report")
        .arg(&report)
        .arg("--")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "program", "--nocapture"])
        .env(ROLE, "launches")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    (text, serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap())
}

#[test]
fn counters_reach_the_report_and_the_terminal() {
    let (text, summary) = run(&["--counters", "--device", "a100"]);
    let add = &summary.kernels["add"];
    let counted = add.counted.as_ref().unwrap();
    assert_eq!(add.launches, 3);
    // Of 4096 words each: two arrays read and one written, three times.
    assert_eq!(counted.counters.global.unique_reads, 3 * 2 * 4096 * 4 / 32);
    assert_eq!(counted.counters.global.unique_writes, 3 * 4096 * 4 / 32);
    // Read from DRAM once, and written back only when the program ends: with the sum's word.
    let of = |profile: &Profile| {
        let global = &profile.counted.as_ref().unwrap().counters.global;
        [global.dram_reads, global.dram_writes, global.first_reads, global.first_writes]
    };
    assert_eq!(of(add), [1024, 0, 1024, 512]);
    assert_eq!(of(&summary.kernels["sum"]), [1, 0, 1, 1]);
    assert_eq!(of(&summary.run), [1025, 513, 1025, 513]);
    let shapes: Vec<_> = counted.shapes.iter().map(|s| (s.launches, s.launched.block[0])).collect();
    assert_eq!(shapes, [(2, 128), (1, 256)]);
    let bound = &counted.modelled_bound;
    assert_eq!(bound.launch, 3.0 * 2.1);
    assert!(bound.microseconds > bound.launch + bound.term(Term::Dram), "{bound:?}");
    let all = summary.run.counted.as_ref().unwrap();
    assert_eq!((summary.run.launches, all.counters.global.atomics.requests), (4, 16));
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    for part in [
        "DRAM in",
        "32.0 KiB from DRAM, 0 B back",
        "modelled bound",
        "bound by",
        "add",
        "sum",
        "most contended: 16",
        "no findings",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[test]
fn without_the_option_instructions_alone_are_counted() {
    let (text, summary) = run(&[]);
    assert!(summary.kernels["add"].warp_instructions > 0);
    assert_eq!(summary.kernels["add"].counted, None);
    assert!(!text.contains("bound"), "{text}");
}
