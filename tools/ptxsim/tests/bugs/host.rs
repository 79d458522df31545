//! Bugs of the program around the kernels: lifetimes, launches, the order of streams. Each program is
//! this test, started again under `ptxsim run`, and knows nothing of the simulator.

use std::ffi::{CString, c_void};
use std::process::Command;
use std::ptr::{null_mut, without_provenance_mut};
use std::sync::Arc;

use cudarc::driver::CudaContext;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{
    self, CUdeviceptr, CUevent_flags, CUfunction, CUfunction_attribute_enum as Attribute, CUstream,
};
use ptxsim::driver::{EXIT_FINDINGS, Summary};
use ptxsim::finding::{Finding, Kind};

use crate::{Culprits, HERE, guilty_lines, is_at, row};

const ROLE: &str = "PTXSIM_TEST_BUG";
/// Words of each buffer, and threads.
const N: usize = 256;

/// A program, the finding that its bug gives and, where that is in a kernel, the kernel of `memory.cu`.
/// And a part of the message.
type Bug = (&'static str, fn(&Session, bool), Kind, Option<&'static str>, &'static str);

const BUGS: [Bug; 11] = [
    ("freed before", freed_before, Kind::UseAfterFree, Some("copied"), "freed by cuMemFree"),
    ("freed beside", freed_beside, Kind::UseAfterFree, Some("copied"), "freed by cuMemFreeAsync"),
    ("double free", double_free, Kind::DoubleFree, None, "already freed by cuMemFree"),
    ("leak", leak, Kind::Leak, None, "1024 bytes"),
    ("few parameters", few_parameters, Kind::BadLaunch, None, "parameter 2 of 3"),
    ("wrong bytes", wrong_bytes, Kind::BadLaunch, None, "buffer of 16 bytes"),
    ("little shared", little_shared, Kind::OutOfBounds, Some("reversed"), "there are 256 bytes"),
    ("much shared", much_shared, Kind::BadLaunch, None, "49152 are allowed"),
    (
        "no event",
        no_event,
        Kind::UninitialisedRead,
        Some("copied"),
        "; kernel copied, which has a pointer there, was asked for earlier",
    ),
    (
        "early copy",
        early_copy,
        Kind::UninitialisedRead,
        None,
        "; kernel copied, which has a pointer there, was asked for earlier",
    ),
    ("small copy", small_copy, Kind::UninitialisedRead, None, "first byte 256 of allocation"),
];

#[test]
fn each_is_found_and_its_mended_twin_is_silent() {
    for (name, _, kind, kernel, words) in BUGS {
        let (code, findings, shown) = run(name, "bug");
        assert_eq!(code, EXIT_FINDINGS, "{name}: {shown}");
        let [found] = &findings[..] else { panic!("{name}: expected one, found {findings:?}") };
        assert_eq!(found.kind, kind, "{name}: {found}");
        assert!(found.message.contains(words), "{name}: {found}");
        if let Some(kernel) = kernel {
            assert!(is_at(found, &guilty_lines("memory", kernel)), "{name}: {found}");
            let place = found.place.as_ref().unwrap();
            assert!(Culprits { blocks: 0..1, warps: 0..8, lanes: 0..32 }.include(place), "{found}");
            assert_eq!(place.kernel, kernel);
        }
        row(name, found);
        if kernel.is_some() {
            assert!(quotes_the_line(&shown, found), "{name}: {shown}");
        }
        let (code, findings, shown) = run(name, "mended");
        assert_eq!((code, findings), (0, vec![]), "{name}: {shown}");
        assert!(shown.trim_end().ends_with("no findings"), "{shown}");
    }
}

/// What a copy that nothing has waited for shows is no finding, since nobody sees the host read: but it
/// is surely the old bytes.
#[test]
fn pinned_memory_read_too_early_is_surely_old() {
    let outcome = |which| {
        let (code, findings, _) = run("no wait", which);
        (code, findings)
    };
    assert_eq!(outcome("bug"), (9, vec![]));
    assert_eq!(outcome("mended"), (0, vec![]));
}

/// The terminal shows the text of the line, which the test reads for itself.
fn quotes_the_line(shown: &str, found: &Finding) -> bool {
    let source = std::fs::read_to_string(format!("{HERE}/memory.cu")).unwrap();
    let at = found.place.as_ref().unwrap().source[0].as_str();
    let line: usize = at.rsplit_once(':').unwrap().1.parse().unwrap();
    let text = source.lines().nth(line - 1).unwrap();
    shown.contains(&format!("   --> {at}\n{line:>5} | {text}\n"))
}

/// Exit code, findings, and what the terminal shows.
fn run(name: &str, which: &str) -> (i32, Vec<Finding>, String) {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_ptxsim"))
        .args(["run", "--quiet", "--sources", HERE, "--report"])
        .arg(&report)
        .arg("--")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "host::program", "--nocapture"])
        .env(ROLE, format!("{name}:{which}"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    let json = std::fs::read(report).unwrap_or_else(|e| panic!("{name}: {e}: {text}"));
    let summary: Summary = serde_json::from_slice(&json).unwrap();
    let code = output.status.code().unwrap_or_else(|| panic!("{name}: {text}"));
    (code, summary.findings, text.into_owned())
}

/// Not a test of its own: the programs.
#[test]
fn program() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (name, which) = role.split_once(':').unwrap();
    let session = Session::new();
    let is_bug = which == "bug";
    match BUGS.iter().find(|bug| bug.0 == name) {
        Some((_, play, ..)) => play(&session, is_bug),
        None => no_wait(&session, is_bug),
    }
    // A fault leaves nothing that could be destroyed.
    let _ = result::ctx::synchronize();
}

/// Thin covers of the driver's calls, which take what they are given.
struct Session {
    _context: Arc<CudaContext>,
    module: sys::CUmodule,
}

impl Session {
    fn new() -> Self {
        let context = CudaContext::new(0).unwrap();
        let text = CString::new(std::fs::read(format!("{HERE}/memory.ptx")).unwrap()).unwrap();
        // SAFETY: a string with its end.
        let module = unsafe { result::module::load_data(text.as_ptr().cast()) }.unwrap();
        Self { _context: context, module }
    }

    fn kernel(&self, name: &str) -> CUfunction {
        // SAFETY: the module is loaded.
        unsafe { result::module::get_function(self.module, CString::new(name).unwrap()) }.unwrap()
    }

    fn buffer(&self) -> CUdeviceptr {
        // SAFETY: reading it before it is written is what the simulator finds.
        unsafe { result::malloc_sync(4 * N) }.unwrap()
    }

    fn filled(&self) -> CUdeviceptr {
        let to = self.buffer();
        // SAFETY: as many bytes as the buffer has.
        unsafe { result::memcpy_htod_sync(to, &[7i32; N]) }.unwrap();
        // The copy may arrive after its return, and non-blocking streams do not wait for it.
        result::ctx::synchronize().unwrap();
        to
    }

    fn free(&self, address: CUdeviceptr) -> Result<(), DriverError> {
        // SAFETY: freeing the wrong thing is what the simulator finds.
        unsafe { result::free_sync(address) }
    }

    fn stream(&self) -> CUstream {
        result::stream::create(result::stream::StreamKind::NonBlocking).unwrap()
    }

    fn wait(&self, stream: CUstream) -> Result<(), DriverError> {
        // SAFETY: the stream is alive.
        unsafe { result::stream::synchronize(stream) }
    }

    /// One block of `N` threads.
    fn launch(
        &self,
        kernel: &str,
        stream: CUstream,
        shared: usize,
        mut from: CUdeviceptr,
        mut to: CUdeviceptr,
    ) -> Result<(), DriverError> {
        let mut n = N as i32;
        let mut params =
            [(&raw mut from).cast::<c_void>(), (&raw mut to).cast(), (&raw mut n).cast()];
        let block = (N as u32, 1, 1);
        let kernel = self.kernel(kernel);
        // SAFETY: the parameters are of the kernel's types.
        unsafe {
            result::launch_kernel(kernel, (1, 1, 1), block, shared as u32, stream, &mut params)
        }
    }

    /// Makes one stream wait for all that the other was given.
    fn order(&self, first: CUstream, then: CUstream) {
        let event = result::event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING).unwrap();
        // SAFETY: event and streams are alive.
        unsafe {
            result::event::record(event, first).unwrap();
            let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
            result::stream::wait_event(then, event, flags).unwrap();
            result::event::destroy(event).unwrap();
        }
    }
}

fn freed_before(s: &Session, bug: bool) {
    let (a, b, stream) = (s.filled(), s.buffer(), s.stream());
    if bug {
        s.free(a).unwrap();
        s.launch("copied", stream, 0, a, b).unwrap();
        s.wait(stream).unwrap_err();
    } else {
        s.launch("copied", stream, 0, a, b).unwrap();
        s.wait(stream).unwrap();
        s.free(a).unwrap();
        s.free(b).unwrap();
    }
}

/// A stream-ordered free in another stream than that of the work.
fn freed_beside(s: &Session, bug: bool) {
    let (a, b, stream, other) = (s.filled(), s.buffer(), s.stream(), s.stream());
    s.launch("copied", stream, 0, a, b).unwrap();
    // SAFETY: freeing too early is what the simulator finds.
    unsafe { result::free_async(a, if bug { other } else { stream }) }.unwrap();
    s.wait(other).unwrap();
    let end = s.wait(stream);
    assert_eq!(end.is_err(), bug);
    if !bug {
        s.free(b).unwrap();
    }
}

fn double_free(s: &Session, bug: bool) {
    let a = s.buffer();
    s.free(a).unwrap();
    if bug {
        s.free(a).unwrap_err();
    }
}

fn leak(s: &Session, bug: bool) {
    let a = s.filled();
    if !bug {
        s.free(a).unwrap();
    }
}

/// The last of three parameters is missing.
fn few_parameters(s: &Session, bug: bool) {
    let (mut a, mut b, mut n) = (s.filled(), s.buffer(), N as i32);
    let last = if bug { null_mut() } else { (&raw mut n).cast::<c_void>() };
    let mut params = [(&raw mut a).cast(), (&raw mut b).cast(), last];
    let kernel = s.kernel("copied");
    // SAFETY: what is not null is of the kernel's types.
    let done =
        unsafe { result::launch_kernel(kernel, (1, 1, 1), (32, 1, 1), 0, null_mut(), &mut params) };
    assert_eq!(done.is_err(), bug);
    s.free(a).unwrap();
    s.free(b).unwrap();
}

/// A parameter buffer for a kernel that took two pointers.
fn wrong_bytes(s: &Session, bug: bool) {
    let (a, b) = (s.filled(), s.buffer());
    let mut buffer = [a, b, N as u64];
    let mut bytes = if bug { 16_usize } else { 20 };
    let mut extra: [*mut c_void; 5] = [
        without_provenance_mut(1), // CU_LAUNCH_PARAM_BUFFER_POINTER
        buffer.as_mut_ptr().cast(),
        without_provenance_mut(2), // CU_LAUNCH_PARAM_BUFFER_SIZE
        (&raw mut bytes).cast(),
        null_mut(),
    ];
    let kernel = s.kernel("copied");
    // SAFETY: the list of extras is as the interface has it.
    let done = unsafe {
        let extra = extra.as_mut_ptr();
        sys::cuLaunchKernel(kernel, 1, 1, 1, 32, 1, 1, 0, null_mut(), null_mut(), extra).result()
    };
    assert_eq!(done.is_err(), bug);
    s.free(a).unwrap();
    s.free(b).unwrap();
}

/// Bytes where words are needed.
fn little_shared(s: &Session, bug: bool) {
    let (a, b, stream) = (s.filled(), s.buffer(), s.stream());
    s.launch("reversed", stream, if bug { N } else { 4 * N }, a, b).unwrap();
    assert_eq!(s.wait(stream).is_err(), bug);
    if !bug {
        s.free(a).unwrap();
        s.free(b).unwrap();
    }
}

/// More than 48 KiB, with and without having asked for it.
fn much_shared(s: &Session, bug: bool) {
    let (a, b) = (s.filled(), s.buffer());
    if !bug {
        let most = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function is alive.
        unsafe { result::function::set_function_attribute(s.kernel("reversed"), most, 64 << 10) }
            .unwrap();
    }
    assert_eq!(s.launch("reversed", null_mut(), 64 << 10, a, b).is_err(), bug);
    s.free(a).unwrap();
    s.free(b).unwrap();
}

/// A consumer in another stream than its producer.
fn no_event(s: &Session, bug: bool) {
    let (a, b, c) = (s.filled(), s.buffer(), s.buffer());
    let (first, second) = (s.stream(), s.stream());
    s.launch("copied", first, 0, a, b).unwrap();
    if !bug {
        s.order(first, second);
    }
    s.launch("copied", second, 0, b, c).unwrap();
    s.wait(second).unwrap();
    s.wait(first).unwrap();
    for buffer in [a, b, c] {
        s.free(buffer).unwrap();
    }
}

/// A copy to the host in another stream than the kernel that writes what is copied.
fn early_copy(s: &Session, bug: bool) {
    let (a, b) = (s.filled(), s.buffer());
    let (first, second) = (s.stream(), s.stream());
    s.launch("copied", first, 0, a, b).unwrap();
    if !bug {
        s.order(first, second);
    }
    let mut host = [0i32; N];
    // SAFETY: `host` outlives the copy, which is waited for.
    unsafe { result::memcpy_dtoh_async(&mut host, b, second) }.unwrap();
    s.wait(second).unwrap();
    s.wait(first).unwrap();
    assert_eq!(host == [7; N], !bug);
    for buffer in [a, b] {
        s.free(buffer).unwrap();
    }
}

/// A count where bytes are asked for.
fn small_copy(s: &Session, bug: bool) {
    let a = s.buffer();
    let mut host = [0i32; N];
    // SAFETY: both buffers have so many bytes at least.
    unsafe {
        let bytes = if bug { N } else { 4 * N };
        sys::cuMemcpyHtoD_v2(a, [7i32; N].as_ptr().cast(), bytes).result().unwrap();
        result::memcpy_dtoh_sync(&mut host, a).unwrap();
    }
    s.free(a).unwrap();
}

/// Reads pinned memory with and without having waited for the copy to it; exits with 9 on old bytes.
fn no_wait(s: &Session, bug: bool) {
    let (a, stream) = (s.filled(), s.stream());
    // SAFETY: `N` words; the copy is waited for before they are freed.
    let old = unsafe {
        let pinned = result::malloc_host(4 * N, 0).unwrap().cast::<i32>();
        pinned.write_bytes(0, N);
        let words = std::slice::from_raw_parts_mut(pinned, N);
        result::memcpy_dtoh_async(words, a, stream).unwrap();
        if !bug {
            s.wait(stream).unwrap();
        }
        let old = pinned.add(N - 1).read() != 7;
        s.wait(stream).unwrap();
        result::free_host(pinned.cast()).unwrap();
        old
    };
    s.free(a).unwrap();
    if old {
        std::process::exit(9);
    }
}
