//! Throughput of the verbs that a decode step and the VQ decoder spend their time in, one thread
//! and all threads: criterion's "elem/s" are FLOP/s.

use std::time::Duration;

use criterion::{Criterion, Throughput};
use half::bf16;
use muse::cpu::Cpu;
use muse::device::{Activation, Attention, Conv, Device, Heads, HostMatrix, Norm, NormKind};
use muse::ops;
use muse::tensor::{DType, Floats, Matrix, Precision, Shape};

fn values(n: usize) -> Vec<bf16> {
    (0..n).map(|i| bf16::from_f32((i * 7919 % 2003) as f32 / 1001.5 - 1.0)).collect()
}

fn matrix(device: &Cpu, rows: usize, cols: usize, taps: usize) -> Matrix<<Cpu as Device>::Packed> {
    packed(device, values(rows * cols * taps).into(), rows, cols, taps)
}

fn packed(
    device: &Cpu,
    weight: Floats<'_>,
    rows: usize,
    cols: usize,
    taps: usize,
) -> Matrix<<Cpu as Device>::Packed> {
    let bias = Some(vec![0.5; rows]);
    ops::pack(device, HostMatrix { weight, bias, rows, cols, taps }).unwrap()
}

fn packed_int8(
    device: &Cpu,
    weight: Floats<'_>,
    rows: usize,
    cols: usize,
) -> Matrix<<Cpu as Device>::Packed> {
    let bias = Some(vec![0.5; rows]);
    ops::pack_int8(device, HostMatrix { weight, bias, rows, cols, taps: 1 }).unwrap()
}

fn linear(criterion: &mut Criterion, device: &Cpu, name: &str) {
    let mut group = criterion.benchmark_group(format!("linear/{name}"));
    for m in [64, 128, 512] {
        for (n, k) in [(768, 256), (1024, 256), (256, 1024), (1024, 1024)] {
            let x = device.upload(&values(m * k), [m, k]).unwrap();
            let weight = matrix(device, n, k, 1);
            let mut y = device.zeros(DType::BF16, [m, n]).unwrap();
            group.throughput(Throughput::Elements(2 * (m * n * k) as u64));
            group.bench_function(format!("{m}x{n}x{k}"), |b| {
                b.iter(|| ops::linear(device, &mut y, &x, &weight, Activation::None).unwrap());
            });
        }
    }
    let (m, n, k) = (512, 1024, 256);
    let x = device.upload(&values(m * k), [m, k]).unwrap();
    let weight = matrix(device, n, k, 1);
    let mut y = device.zeros(DType::BF16, [m, n]).unwrap();
    group.throughput(Throughput::Elements(2 * (m * n * k) as u64));
    group.bench_function(format!("{m}x{n}x{k} gelu"), |b| {
        b.iter(|| ops::linear(device, &mut y, &x, &weight, Activation::Gelu).unwrap());
    });
}

/// aMUSEd's products and its VQ model's convolutions at 256 px, in every precision.
fn large(criterion: &mut Criterion, device: &Cpu, name: &str) {
    let mut group = criterion.benchmark_group(format!("large/{name}"));
    group.sample_size(20);
    for of in [Precision::F32, Precision::Bf16, Precision::Int8] {
        let dtype = of.activations();
        let floats = |n: usize| -> Floats<'static> {
            match of {
                Precision::F32 => values(n).into_iter().map(f32::from).collect::<Vec<_>>().into(),
                Precision::Bf16 | Precision::Int8 => values(n).into(),
            }
        };
        let tensor = |shape: Shape| match floats(shape.elements()) {
            Floats::F32(values) => device.upload(&values, shape).unwrap(),
            Floats::BF16(values) => device.upload(&values, shape).unwrap(),
        };
        let m = 512;
        for (n, k) in [(1024, 1024), (3072, 1024), (5632, 1024), (1024, 2816), (8192, 1024)] {
            let x = tensor([m, k].into());
            let weight = match of {
                Precision::Int8 => packed_int8(device, floats(n * k), n, k),
                _ => packed(device, floats(n * k), n, k, 1),
            };
            let mut y = device.zeros(dtype, [m, n]).unwrap();
            group.throughput(Throughput::Elements(2 * (m * n * k) as u64));
            group.bench_function(format!("{of} {m}x{n}x{k}"), |b| {
                b.iter(|| ops::linear(device, &mut y, &x, &weight, Activation::None).unwrap());
            });
        }
        if of == Precision::Int8 {
            continue; // convolutions are not of int8
        }
        for (side, from, to) in [(32, 512, 512), (64, 256, 256), (128, 128, 128)] {
            let x = tensor([1, side, side, from].into());
            let weight = packed(device, floats(9 * from * to), to, from, 9);
            let mut y = device.zeros(DType::F32, [1, side, side, to]).unwrap();
            group.throughput(Throughput::Elements((2 * side * side * to * from * 9) as u64));
            group.bench_function(format!("{of} conv {side}x{side} {from}-{to}"), |b| {
                b.iter(|| ops::conv2d(device, &mut y, &x, &weight, Conv::Same, None).unwrap());
            });
        }
    }
}

fn attention(criterion: &mut Criterion, device: &Cpu, name: &str) {
    let mut group = criterion.benchmark_group(format!("attention/{name}"));
    for (heads, head_dim, queries, keys) in
        [(8, 32, 256, 256), (4, 64, 256, 64), (16, 64, 1024, 1024)]
    {
        let (batch, width) = (2, heads * head_dim);
        let q = device.upload(&values(batch * queries * width), [batch * queries, width]).unwrap();
        let kv =
            device.upload(&values(2 * batch * keys * width), [batch * keys, 2 * width]).unwrap();
        let mut out = device.zeros(DType::BF16, [batch * queries, width]).unwrap();
        let sizes = Attention::new(batch, [heads, head_dim], [queries, keys]);
        group.throughput(Throughput::Elements((4 * batch * queries * keys * width) as u64));
        group.bench_function(format!("{heads}x{head_dim}x{queries}x{keys}"), |b| {
            b.iter(|| {
                let q = Heads { tensor: &q, offset: 0 };
                let [k, v] = [0, width].map(|offset| Heads { tensor: &kv, offset });
                ops::attention(device, &mut out, q, k, v, sizes).unwrap();
            });
        });
    }
}

fn conv(criterion: &mut Criterion, device: &Cpu, name: &str) {
    let mut group = criterion.benchmark_group(format!("conv2d/{name}"));
    for (geometry, side, from, to) in [
        (Conv::Same, 64, 32, 16),
        (Conv::Same, 64, 16, 16),
        (Conv::Up, 32, 32, 32),
        (Conv::Same, 32, 128, 128),
        (Conv::Down, 64, 32, 32),
    ] {
        let x = device.upload(&values(side * side * from), [1, side, side, from]).unwrap();
        let weight = matrix(device, to, from, geometry.taps());
        let out = geometry.output(side);
        let mut y = device.zeros(DType::F32, [1, out, out, to]).unwrap();
        group.throughput(Throughput::Elements(
            (2 * out * out * to * from * geometry.taps_of_pixel()) as u64,
        ));
        group.bench_function(format!("{geometry:?} {side}x{side} {from}-{to}"), |b| {
            b.iter(|| ops::conv2d(device, &mut y, &x, &weight, geometry, None).unwrap());
        });
    }
}

/// The rest, in elements read.
fn elementwise(criterion: &mut Criterion, device: &Cpu, name: &str) {
    let mut group = criterion.benchmark_group(format!("elements/{name}"));
    let norm = |d: usize| Norm {
        kind: NormKind::Layer,
        weight: device.upload(&vec![1f32; d], [d]).unwrap(),
        bias: Some(device.upload(&vec![0f32; d], [d]).unwrap()),
        epsilon: 1e-6,
    };
    let (rows, d) = (512, 256);
    let x = device.upload(&vec![1f32; rows * d], [rows, d]).unwrap();
    let mut y = device.zeros(DType::BF16, [rows, d]).unwrap();
    let parameters = norm(d);
    group.throughput(Throughput::Elements((rows * d) as u64));
    group.bench_function("layer_norm 512x256", |b| {
        b.iter(|| ops::layer_norm(device, &mut y, &x, &parameters).unwrap());
    });

    let shape = [1, 64, 64, 32];
    let floats: Vec<f32> = values(64 * 64 * 32).into_iter().map(f32::from).collect();
    let x = device.upload(&floats, shape).unwrap();
    let mut y = device.zeros(DType::BF16, shape).unwrap();
    let parameters = norm(32);
    group.bench_function("group_norm_silu 64x64x32", |b| {
        b.iter(|| ops::group_norm_silu(device, &mut y, &x, &parameters, 8).unwrap());
    });
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
        .configure_from_args();
    for threads in [Some(1), None] {
        let device = Cpu::new(threads).unwrap();
        eprintln!("{}", device.describe());
        let name = if threads == Some(1) { "one thread" } else { "all threads" };
        linear(&mut criterion, &device, name);
        large(&mut criterion, &device, name);
        attention(&mut criterion, &device, name);
        conv(&mut criterion, &device, name);
        elementwise(&mut criterion, &device, name);
    }
    criterion.final_summary();
}
