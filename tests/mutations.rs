//! Defects planted in the kernels, one at a time: the case tables must catch every one of them.
//!
//! Each is compiled and run by `muse selftest --kernels` on the simulator, as on a GPU most races would go
//! unseen. The same kernels without a defect must pass. `cargo test --test mutations NAME` runs those whose
//! description holds NAME.

#[path = "../build/nvrtc.rs"]
#[allow(dead_code, reason = "the build script's")]
mod nvrtc;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use nvrtc::Compiler;

/// One defect: in `file`, `right` becomes `wrong`; `unit` includes the file and `verb` must notice.
struct Mutation {
    what: &'static str,
    file: &'static str,
    right: &'static str,
    wrong: &'static str,
    unit: &'static str,
    verb: &'static str,
}

const fn mutation(
    what: &'static str,
    [file, unit, verb]: [&'static str; 3],
    right: &'static str,
    wrong: &'static str,
) -> Mutation {
    Mutation { what, file, right, wrong, unit, verb }
}

const ATTENTION: [&str; 3] = ["attention.cu", "attention", "attention"];
const PROJECT: [&str; 3] = ["attention.cu", "attention", "project_and_attend"];
const PRODUCTS: [&str; 3] = ["prim/products.cuh", "linear", "linear"];
const SELECT: [&str; 3] = ["prim/select.cuh", "sample", "remask"];
const SAMPLE: [&str; 3] = ["sample.cu", "sample", "guide_and_sample"];
const REMASK: [&str; 3] = ["sample.cu", "sample", "remask"];
const NORM: [&str; 3] = ["prim/layer_norm.cuh", "norm", "layer_norm"];

const MUTATIONS: &[Mutation] = &[
    mutation(
        "attention: barrier dropped before keys replace the queries",
        ATTENTION,
        "lane / 16 * 16);\n    __syncthreads();\n",
        "lane / 16 * 16);\n",
    ),
    mutation(
        "attention: no wait for the next stage's copies",
        ATTENTION,
        "        cp_async_wait<0>();\n        __syncthreads();\n    }\n",
        "        __syncthreads();\n    }\n",
    ),
    mutation(
        "attention: one masked key counts",
        ATTENTION,
        "lane % 4 * 2 + e % 2 >= length",
        "lane % 4 * 2 + e % 2 > length",
    ),
    mutation(
        "attention: warp barrier dropped before the store",
        ATTENTION,
        "    __syncwarp();\n",
        "",
    ),
    mutation(
        "project_and_attend: queries are truncated",
        PROJECT,
        "query[0][c][i] = pack2(s[0], s[1])",
        "query[0][c][i] = __byte_perm(__float_as_uint(s[0]), __float_as_uint(s[1]), 0x7632)",
    ),
    mutation(
        "project_and_attend: sums in the wrong places of an operand",
        PROJECT,
        "sums[0][2 * c + i / 2][i % 2 * 2]",
        "sums[0][2 * c + i % 2][i / 2 * 2]",
    ),
    mutation(
        "gemm: one wait too few",
        PRODUCTS,
        "cp_async_wait<STAGES - 2>();",
        "cp_async_wait<STAGES - 1>();",
    ),
    mutation(
        "gemm: weights read from the wrong place of the swizzle",
        PRODUCTS,
        "(b_piece ^ k << 5)",
        "(b_piece + (k << 5))",
    ),
    mutation(
        "gemm: one row past the last is stored",
        ["prim/gemm.cuh", "linear", "linear"],
        "i * DOWN < m) epilogue.store(",
        "i * DOWN <= m) epilogue.store(",
    ),
    mutation(
        "gemm: barrier dropped before sums replace the stages",
        PRODUCTS,
        "    __syncthreads();  // the last stage is read\n",
        "",
    ),
    mutation(
        "splits: no fence after a part",
        ["prim/splits.cuh", "linear", "linear"],
        "    __threadfence();\n    __syncthreads();\n    if (threadIdx.x == 0) last",
        "    __syncthreads();\n    if (threadIdx.x == 0) last",
    ),
    mutation(
        "linear_add_norm: rows are not waited for",
        ["linear.cu", "linear", "linear_add_norm"],
        "    join_row();\n",
        "",
    ),
    mutation(
        "bf16: truncated instead of rounded",
        ["prim/pack.cuh", "embed", "embed"],
        "__floats2bfloat162_rn(low, high)",
        "__halves2bfloat162(__float2bfloat16_rz(low), __float2bfloat16_rz(high))",
    ),
    mutation(
        "layer_norm: scale and shift swapped",
        NORM,
        "w = load4(weight + c);\n                const float4 s = bias ? load4(bias + c)",
        "w = load4(bias + c);\n                const float4 s = bias ? load4(weight + c)",
    ),
    mutation(
        "layer_norm: unbiased variance",
        NORM,
        "warp_sum(square) / d + norm.epsilon",
        "warp_sum(square) / (d - 1) + norm.epsilon",
    ),
    mutation(
        "guide_and_sample: the last of equal scores is drawn",
        SAMPLE,
        "other.score == score && other.token < token",
        "other.score == score && other.token > token",
    ),
    mutation(
        "remask: noise and confidence in one fused multiply-add",
        REMASK,
        "__fadd_rn(confidence[j], __fmul_rn(temperature, noise))",
        "__fmaf_rn(temperature, noise, confidence[j])",
    ),
    mutation(
        "remask: barrier dropped before the next round's counts",
        REMASK,
        "        }\n        __syncthreads();\n        if (j < n)",
        "        }\n        if (j < n)",
    ),
    mutation(
        "select: barrier dropped before other warps' counts are added",
        SELECT,
        "shared.warps[warp] = through;\n        __syncthreads();\n",
        "shared.warps[warp] = through;\n",
    ),
    mutation("select: rank off by one", SELECT, "rank <= through)", "rank < through)"),
    mutation(
        "conv2d: odd rows of an upsampled image read what even ones do",
        ["conv.cu", "conv", "conv2d"],
        "tap / 2 + blockIdx.z / 2",
        "tap / 2",
    ),
    mutation(
        "group_norm_silu: the count of arrived blocks is not reset",
        ["norm.cu", "norm", "group_norm_silu"],
        "atomicInc(&group_arrived, blocks - 1)",
        "atomicAdd(&group_arrived, 1)",
    ),
    mutation(
        "split: what rounding took has the wrong sign",
        ["prim/pack.cuh", "image", "split"],
        "return x - widen(rounded<bf16>(x));",
        "return widen(rounded<bf16>(x)) - x;",
    ),
    mutation(
        "nearest_code: barrier dropped before a stage is read",
        ["codebook.cu", "codebook", "nearest_code"],
        "begin, channels);\n            __syncthreads();\n",
        "begin, channels);\n",
    ),
    mutation(
        "causal_attention: a query sees the key after its own",
        ["attention.cu", "attention", "causal_attention"],
        "e % 2 > first + mine",
        "e % 2 > 1 + first + mine",
    ),
    mutation(
        "depthwise: the row below an image is not zero",
        ["response.cu", "response", "depthwise"],
        "y + ky > height)",
        "y + ky > height + 1)",
    ),
    mutation(
        "global_response_norm: barrier dropped before the warps' sums are added",
        ["response.cu", "response", "global_response_norm"],
        "sums[threadIdx.x / 32] = sum;\n    __syncthreads();\n",
        "sums[threadIdx.x / 32] = sum;\n",
    ),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Copies `kernels/` without the compiled files.
fn copy_sources(to: &Path) {
    for folder in ["", "prim"] {
        fs::create_dir_all(to.join(folder)).unwrap();
        for entry in fs::read_dir(root().join("kernels").join(folder)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), to.join(folder).join(entry.file_name())).unwrap();
            }
        }
    }
}

/// Compiles a unit of `sources` into `folder`.
fn compile(compiler: &Compiler, sources: &Path, unit: &str, folder: &Path) {
    let text = fs::read_to_string(sources.join(format!("{unit}.cu"))).unwrap();
    let name = format!("{unit}.cu");
    let (ptx, _) = compiler.compile(&name, &text, sources, "compute_80", &["-lineinfo"]).unwrap();
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(format!("{unit}.ptx")), ptx).unwrap();
}

/// `muse selftest` with the kernels of a folder, on the simulator.
fn selftest(kernels: &Path, libraries: &Path, verbs: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muse"));
    command.args(["selftest", "--device", "cuda", "--kernels"]).arg(kernels);
    for verb in verbs {
        command.args(["--verb", verb]);
    }
    command.env("LD_LIBRARY_PATH", libraries).env("PTXSIM_STRICT", "1").output().unwrap()
}

/// What was wrong: the simulator's finding and the kernel's line, or the judge's words.
fn reason(output: &Output) -> String {
    let text = [&output.stderr[..], &output.stdout].map(String::from_utf8_lossy).join("\n");
    let mut lines = text.lines().map(str::trim).filter(|line| !line.starts_with("ptxsim:"));
    let finding = |line: &&str| {
        line.split_once(':').is_some_and(|(kind, _)| {
            serde_json::from_value::<ptxsim::finding::Kind>(kind.into()).is_ok()
        })
    };
    if let Some(line) = lines.clone().find(finding) {
        let place = text.lines().map(str::trim).find(|line| line.starts_with("--> "));
        return format!("{} {}", line.split(':').next().unwrap_or(line), place.unwrap_or(""));
    }
    let judged =
        |line: &&str| ["should be", "differ", "wrote past"].iter().any(|w| line.contains(w));
    lines.find(judged).unwrap_or("nothing said").chars().take(120).collect()
}

/// Whether the defect is caught, and how.
fn caught(
    mutation: &Mutation,
    compiler: &Mutex<Compiler>,
    libraries: &Path,
) -> Result<String, String> {
    let Mutation { file, right, wrong, unit, verb, .. } = mutation;
    let folder = tempfile::tempdir().unwrap();
    let (sources, kernels) = (folder.path().join("kernels"), folder.path().join("ptx"));
    copy_sources(&sources);
    let path = sources.join(file);
    let text = fs::read_to_string(&path).unwrap();
    if !text.contains(right) {
        return Err(format!("kernels/{file} no longer holds {right:?}: plant the defect anew"));
    }
    fs::write(&path, text.replace(right, wrong)).unwrap();
    compile(&compiler.lock().unwrap(), &sources, unit, &kernels);
    let output = selftest(&kernels, libraries, &[verb]);
    match output.status.code() {
        Some(0) => Err("NOT CAUGHT".into()),
        // 5: wrong results; 70: a finding of the simulator.
        Some(5 | 70) => Ok(reason(&output)),
        code => Err(format!("ended with {code:?}: {}", reason(&output))),
    }
}

fn main() -> ExitCode {
    let only: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let home = nvrtc::find(root()).unwrap_or_else(|| {
        panic!("no CUDA compiler: scripts/test.sh fetches one into target/nvrtc")
    });
    let compiler = Mutex::new(Compiler::open(&home).unwrap());
    let libraries = tempfile::tempdir().unwrap();
    let library = ptxsim::library().unwrap();
    for name in ["libcuda.so", "libcuda.so.1"] {
        std::os::unix::fs::symlink(&library, libraries.path().join(name)).unwrap();
    }

    let sound = tempfile::tempdir().unwrap();
    let units = ["attention", "codebook", "conv", "embed", "linear", "norm", "response", "sample"];
    for unit in units {
        compile(&compiler.lock().unwrap(), &root().join("kernels"), unit, sound.path());
    }
    let mut verbs: Vec<&str> = MUTATIONS.iter().map(|mutation| mutation.verb).collect();
    verbs.sort_unstable();
    verbs.dedup();
    let output = selftest(sound.path(), libraries.path(), &verbs);
    assert!(output.status.success(), "without a defect: {}", reason(&output));

    let chosen: Vec<&Mutation> = MUTATIONS
        .iter()
        .filter(|mutation| only.iter().all(|name| mutation.what.contains(name.as_str())))
        .collect();
    let (next, missed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(mutation) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = Instant::now();
                    let found = caught(mutation, &compiler, libraries.path());
                    let seconds = start.elapsed().as_secs_f64();
                    let (mark, words) = match &found {
                        Ok(words) => ("caught", words),
                        Err(words) => ("MISSED", words),
                    };
                    println!("{mark} {:<62} {seconds:5.1} s  {words}", mutation.what);
                    missed.fetch_add(usize::from(found.is_err()), Ordering::Relaxed);
                }
            });
        }
    });
    let missed = missed.into_inner();
    println!("{} of {} defects caught", chosen.len() - missed, chosen.len());
    if missed == 0 && !chosen.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
