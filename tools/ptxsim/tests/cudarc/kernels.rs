//! Launches of the fixture kernels, and their results against the references.

use std::sync::Arc;

use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaSlice, CudaStream, LaunchConfig, PushKernelArg,
};
use cudarc::nvrtc::{CompileOptions, Ptx, compile_ptx_with_opts};

use crate::HERE;
use crate::references::{self, Random, wide};

/// A kernel of a fixture: the committed text for an architecture, or its source compiled now, where
/// `from` is the compiler's headers.
pub fn load(context: &Arc<CudaContext>, from: &str, fixture: &str, kernel: &str) -> CudaFunction {
    module(context, from, fixture).load_function(kernel).unwrap()
}

fn module(context: &Arc<CudaContext>, from: &str, fixture: &str) -> Arc<CudaModule> {
    let ptx = if from.parse::<u32>().is_ok() {
        Ptx::from_file(format!("{HERE}/tests/ptx/{fixture}.{from}.ptx"))
    } else {
        let folder = format!("{HERE}/tests/kernels");
        let source = std::fs::read_to_string(format!("{folder}/{fixture}.cu")).unwrap();
        let options = CompileOptions {
            arch: Some("compute_90"),
            include_paths: vec![from.to_owned(), folder],
            options: vec!["-lineinfo".to_owned(), "-std=c++17".to_owned()],
            ..CompileOptions::default()
        };
        compile_ptx_with_opts(source, options).unwrap()
    };
    context.load_module(ptx).unwrap()
}

pub fn shape(grid: [u32; 2], threads: u32, shared_bytes: u32) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (grid[0], grid[1], 1),
        block_dim: (threads, 1, 1),
        shared_mem_bytes: shared_bytes,
    }
}

/// GEMM with asynchronous copies and tensor cores, ragged in both directions.
pub fn gemm(stream: &Arc<CudaStream>, kernel: &CudaFunction) {
    let (m, n, k) = (100, 72, 160);
    let mut random = Random(5);
    let (a, b) = (random.whole_matrix(m * k), random.whole_matrix(n * k));
    let (a_at, b_at) = (stream.clone_htod(&a).unwrap(), stream.clone_htod(&b).unwrap());
    // SAFETY: the kernel writes all of it.
    let mut c = unsafe { stream.alloc::<u16>(m * n) }.unwrap();
    let sizes = [m, n, k].map(|x| x as i32);
    let mut launch = stream.launch_builder(kernel);
    launch.arg(&a_at).arg(&b_at).arg(&mut c);
    sizes.iter().for_each(|size| _ = launch.arg(size));
    // SAFETY: arguments of the kernel's types.
    unsafe { launch.launch(shape([n.div_ceil(64) as u32, m.div_ceil(64) as u32], 128, 0)) }
        .unwrap();
    assert_eq!(stream.clone_dtoh(&c).unwrap(), references::gemm(&a, &b, n, k));
}

/// The residual step, in place, and LayerNorm.
pub fn layer_norm(stream: &Arc<CudaStream>, kernel: &CudaFunction) {
    let (rows, width) = (3, 600);
    let mut random = Random(11);
    let [x, y] = [0, 0].map(|_| random.matrix(rows * width));
    let weight = random.matrix(width);
    let [mut x_at, y_at, weight_at] = [&x, &y, &weight].map(|v| stream.clone_htod(v).unwrap());
    // SAFETY: the kernel writes all of it.
    let mut out = unsafe { stream.alloc::<u16>(rows * width) }.unwrap();
    let (pairs, epsilon) = (width as i32 / 2, 1e-5f32);
    let mut launch = stream.launch_builder(kernel);
    launch.arg(&mut x_at).arg(&y_at).arg(&weight_at).arg(&mut out).arg(&pairs).arg(&epsilon);
    // SAFETY: arguments of the kernel's types.
    unsafe { launch.launch(shape([rows as u32, 1], 256, 0)) }.unwrap();
    let (sums, normed) = references::add_layer_norm(&x, &y, &weight);
    assert_eq!(stream.clone_dtoh(&x_at).unwrap(), sums);
    for (got, exact) in stream.clone_dtoh(&out).unwrap().into_iter().zip(normed) {
        // Half a unit of bf16, and the f32 arithmetic before it.
        assert!((wide(got) - exact).abs() <= exact.abs() / 256.0 + 1e-5, "{exact}");
    }
}

/// Two heads, with queries and keys that fill no tile.
pub fn attention(stream: &Arc<CudaStream>, kernel: &CudaFunction) {
    let (heads, queries, keys) = (2, 70, 100);
    let mut random = Random(13);
    let q = random.matrix(heads * queries * 64);
    let [k, v] = [0, 0].map(|_| random.matrix(heads * keys * 64));
    let [q_at, k_at, v_at] = [&q, &k, &v].map(|x| stream.clone_htod(x).unwrap());
    // SAFETY: the kernel writes all of it.
    let mut out = unsafe { stream.alloc::<u16>(q.len()) }.unwrap();
    let counts = [queries as i32, keys as i32];
    let mut launch = stream.launch_builder(kernel);
    launch.arg(&q_at).arg(&k_at).arg(&v_at).arg(&mut out).arg(&counts[0]).arg(&counts[1]);
    // SAFETY: arguments of the kernel's types.
    unsafe { launch.launch(shape([queries.div_ceil(64) as u32, heads as u32], 128, 0)) }.unwrap();
    let got = stream.clone_dtoh(&out).unwrap();
    for head in 0..heads {
        let part = |x: &[u16], rows: usize| x[head * rows * 64..][..rows * 64].to_vec();
        let expected = references::attention(&part(&q, queries), &part(&k, keys), &part(&v, keys));
        for (i, (&got, (exact, bound))) in part(&got, queries).iter().zip(expected).enumerate() {
            let error = (wide(got) - exact).abs();
            assert!(error <= bound, "head {head}, {i}: {exact}, off by {error}, at most {bound}");
        }
    }
}

/// Top-k sampling with a seed; and the argmax.
pub fn sampling(stream: &Arc<CudaStream>, kernel: &CudaFunction) {
    let (rows, vocabulary) = (3, 1000);
    let mut random = Random(17);
    let logits: Vec<f32> = (0..rows * vocabulary).map(|_| 6.0 * random.value() as f32).collect();
    let logits_at = stream.clone_htod(&logits).unwrap();
    for (top, temperature, seed) in [(1, 1.0f32, 1u32), (40, 0.7, 2), (vocabulary, 1.5, 3)] {
        // SAFETY: the kernel writes all of both.
        let (mut tokens, mut confidence): (CudaSlice<i32>, CudaSlice<f32>) =
            unsafe { (stream.alloc(rows).unwrap(), stream.alloc(rows).unwrap()) };
        let sizes = [vocabulary as i32, top as i32];
        let mut launch = stream.launch_builder(kernel);
        launch.arg(&logits_at).arg(&mut tokens).arg(&mut confidence);
        launch.arg(&sizes[0]).arg(&sizes[1]).arg(&temperature).arg(&seed);
        // SAFETY: arguments of the kernel's types.
        unsafe { launch.launch(shape([rows as u32, 1], 256, 0)) }.unwrap();
        let (tokens, confidence) =
            (stream.clone_dtoh(&tokens).unwrap(), stream.clone_dtoh(&confidence).unwrap());
        for (index, row) in logits.chunks(vocabulary).enumerate() {
            let expected = references::sampled(row, index as u32, top, temperature, seed);
            let best = expected.iter().flatten().map(|e| e.0).fold(f64::MIN, f64::max);
            let (noisy, probability) = expected[tokens[index] as usize].expect("among the largest");
            // The kernel's logarithms are of single precision.
            assert!(noisy >= best - 1e-4, "row {index}, top {top}: {noisy} and {best}");
            let error = (f64::from(confidence[index]) / probability - 1.0).abs();
            assert!(error < 1e-4, "row {index}, top {top}: {error}");
        }
    }
}
