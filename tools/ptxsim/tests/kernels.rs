//! The fixture kernels against plain references, on every level of vector instructions.

mod support;

use ptxsim::exec::Level;
use support::{Arg, Device, Random};

fn everywhere(name: &str, test: impl Fn(&Device)) {
    for level in Level::available() {
        for target in [80, 120] {
            for seed in 0..3 {
                let mut device = Device::fixture(&format!("{name}.{target}"), level);
                device.machine.seed = seed;
                device.machine.threads = 1 + seed as usize % 2;
                test(&device);
                device.clean();
            }
        }
    }
}

#[test]
fn add_of_a_ragged_length() {
    everywhere("vector", |device| {
        for n in [1, 31, 32, 33, 1000] {
            let mut random = Random(n);
            let (a, b) = (random.floats(n as usize), random.floats(n as usize));
            let sum = device.allocate(4 * n as usize);
            let args = [device.upload(&a), device.upload(&b), sum].map(Arg::Address);
            let [a_at, b_at, sum_at] = args;
            let args = [a_at, b_at, sum_at, Arg::Word(n as u32)];
            device.launch("add", [(n as u32).div_ceil(128), 1, 1], [128, 1, 1], 0, &args).unwrap();
            let got: Vec<f32> = device.download(sum, n as usize);
            let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
            assert_eq!(got, expected);
        }
    });
}

#[test]
fn grid_stride_loops_and_vectors() {
    everywhere("vector", |device| {
        let n = 500;
        let mut random = Random(7);
        let (y, x) = (random.floats(4 * n), random.floats(4 * n));
        let (y_at, x_at) = (device.upload(&y), device.upload(&x));
        let args = [Arg::Address(y_at), Arg::Address(x_at), Arg::Float(1.5), Arg::Word(n as u32)];
        device.launch("scale_add", [3, 1, 1], [64, 1, 1], 0, &args).unwrap();
        let got: Vec<f32> = device.download(y_at, 4 * n);
        let expected: Vec<f32> = x.iter().zip(&y).map(|(&x, &y)| x.mul_add(1.5, y)).collect();
        assert_eq!(got, expected);
    });
}

#[test]
fn sums_in_shared_memory_and_one_atomic_addition() {
    everywhere("vector", |device| {
        let n = 1000;
        let x: Vec<f32> = (0..n).map(|i| (i % 17) as f32).collect(); // exact in any order
        let total = device.upload(&[0.5f32]);
        let args = [Arg::Address(device.upload(&x)), Arg::Address(total), Arg::Word(n)];
        device.launch("sum", [n.div_ceil(256), 1, 1], [256, 1, 1], 1024, &args).unwrap();
        assert_eq!(device.download::<f32>(total, 1), [x.iter().sum::<f32>() + 0.5]);
    });
}

#[test]
fn divergent_loops_gotos_and_early_exits() {
    everywhere("branches", |device| {
        let (threads, n) = (64, 300);
        let mut random = Random(3);
        let x: Vec<i32> = (0..threads).map(|_| random.word() as i32 % 100).collect();
        let out = device.upload(&vec![-7i32; n + threads]);
        let args = [Arg::Address(device.upload(&x)), Arg::Address(out), Arg::Word(n as u32)];
        device.launch("diverge", [1, 1, 1], [threads as u32, 1, 1], 0, &args).unwrap();
        let got: Vec<i32> = device.download(out, n + threads);
        for t in 0..threads {
            let steps = diverge(t as i32, x[t]);
            assert_eq!(got[t], steps.unwrap_or(-7), "thread {t} of {}", x[t]);
            let after = steps.filter(|&s| s < n as i32).map_or(-7, |s| s + 1);
            assert_eq!(got[n + t], after, "thread {t}: the second store");
        }
    });
}

fn diverge(t: i32, mut v: i32) -> Option<i32> {
    if v < 0 {
        return None;
    }
    let mut steps = 0;
    'done: for _ in 0..(v & 7).min(5) {
        for inner in 0..t {
            if (inner ^ v) & 1 == 0 {
                steps += inner;
                if steps > 1000 {
                    break 'done;
                }
            }
        }
    }
    while v != 1 && steps < 5000 {
        v = if v & 1 == 1 { 3 * v + 1 } else { v / 2 };
        steps += 1;
        if v <= 0 {
            break;
        }
    }
    Some(steps)
}

#[test]
fn gemm_with_asynchronous_copies_and_tensor_cores() {
    everywhere("gemm", |device| {
        for (m, n, k) in [(64, 64, 32), (100, 72, 160)] {
            let mut random = Random(5);
            // Small integers: every sum is exact, so any tensor core must agree.
            let mut matrix =
                |len: usize| -> Vec<i32> { (0..len).map(|_| random.word() as i32 % 4).collect() };
            let (a, b) = (matrix(m * k), matrix(n * k));
            let bits = |x: &[i32]| {
                x.iter().map(|&x| ((x as f32).to_bits() >> 16) as u16).collect::<Vec<_>>()
            };
            let c = device.allocate(2 * m * n);
            let [a_at, b_at] = [&a, &b].map(|x| Arg::Address(device.upload(&bits(x))));
            let sizes = [m, n, k].map(|x| Arg::Word(x as u32));
            let [m_arg, n_arg, k_arg] = sizes;
            let args = [a_at, b_at, Arg::Address(c), m_arg, n_arg, k_arg];
            let grid = [n.div_ceil(64) as u32, m.div_ceil(64) as u32, 1];
            device.launch("gemm", grid, [128, 1, 1], 0, &args).unwrap();
            let got: Vec<u16> = device.download(c, m * n);
            for (i, &got) in got.iter().enumerate() {
                let (row, column) = (i / n, i % n);
                let exact: i32 = (0..k).map(|t| a[row * k + t] * b[column * k + t]).sum();
                let expected = (exact as f32).to_bits();
                let rounded = (expected + 0x7FFF + (expected >> 16 & 1)) >> 16;
                assert_eq!(u32::from(got), rounded, "({m}, {n}, {k}): row {row}, column {column}");
            }
        }
    });
}

#[test]
fn arrays_in_local_memory_and_constants() {
    const TABLE: [i32; 16] = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3];
    everywhere("branches", |device| {
        let threads = 40;
        let mut random = Random(9);
        let x: Vec<i32> = (0..16 * threads).map(|_| random.word() as i32 % 1000).collect();
        let out = device.allocate(4 * 16 * threads);
        let args = [Arg::Address(device.upload(&x)), Arg::Address(out)];
        device.launch("sorted", [1, 1, 1], [threads as u32, 1, 1], 0, &args).unwrap();
        let got: Vec<i32> = device.download(out, 16 * threads);
        for t in 0..threads {
            let mut mine: Vec<i32> = (0..16).map(|k| x[16 * t + k] + TABLE[(k + t) & 15]).collect();
            mine.sort_unstable();
            assert_eq!(got[16 * t..][..16], mine, "thread {t}");
        }
    });
}

#[test]
fn tables_of_branches() {
    everywhere("branches", |device| {
        let x: Vec<u32> = (0..32).map(|i| i % 5).collect();
        let out = device.allocate(4 * 32);
        let args = [Arg::Address(device.upload(&x)), Arg::Address(out)];
        device.launch("indexed", [1, 1, 1], [32, 1, 1], 0, &args).unwrap();
        let expected: Vec<i32> =
            x.iter().map(|x| [100, 501, 301, 501][3.min(*x as usize)]).collect();
        assert_eq!(device.download::<i32>(out, 32), expected);
    });
}

#[test]
fn layer_norm_with_shuffles() {
    everywhere("norm", |device| {
        let (rows, width) = (3, 600);
        let mut random = Random(11);
        let mut bf16 = |n: usize| -> Vec<u16> {
            (0..n).map(|_| (random.float().to_bits() >> 16) as u16).collect()
        };
        let (x, y, weight) = (bf16(rows * width), bf16(rows * width), bf16(width));
        let out = device.allocate(2 * rows * width);
        let [x_at, y_at, weight_at] = [&x, &y, &weight].map(|v| Arg::Address(device.upload(v)));
        let args = [
            x_at,
            y_at,
            weight_at,
            Arg::Address(out),
            Arg::Word(width as u32 / 2),
            Arg::Float(1e-5),
        ];
        device.launch("add_layer_norm", [rows as u32, 1, 1], [256, 1, 1], 0, &args).unwrap();
        let got: Vec<u16> = device.download(out, rows * width);
        let float = |bits: u16| f64::from(f32::from_bits(u32::from(bits) << 16));
        for row in 0..rows {
            let sums: Vec<f64> =
                (row * width..(row + 1) * width).map(|i| float(x[i]) + float(y[i])).collect();
            let rounded: Vec<f64> = sums
                .iter()
                .map(|&s| {
                    float(
                        (((s as f32).to_bits() + 0x7FFF + (((s as f32).to_bits() >> 16) & 1)) >> 16)
                            as u16,
                    )
                })
                .collect();
            let mean = sums.iter().sum::<f64>() / width as f64;
            let variance = rounded.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
            for i in 0..width {
                let exact = (rounded[i] - mean) / (variance + 1e-5).sqrt() * float(weight[i]);
                let error = (float(got[row * width + i]) - exact).abs();
                // Half a unit of bf16, and the f32 arithmetic before it.
                assert!(error <= exact.abs() / 256.0 + 1e-5, "row {row}, {i}: {exact} and {error}");
            }
        }
    });
}
