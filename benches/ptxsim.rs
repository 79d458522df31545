//! How long the simulator takes over the kernels of a decode step, all checks on: what the CUDA tests' time is made of.
//! "elem/s" are multiply-adds, of `layer_norm` and `guide_and_sample` the elements read. On a machine with a GPU, whose
//! driver would be asked instead, nothing runs. Of the simulator alone: `cargo bench -p ptxsim`.

use std::time::Duration;

use criterion::{Criterion, Throughput};
use half::bf16;
use muse::cuda::Cuda;
use muse::device::{
    Activation, Attention, Device, Heads, HostMatrix, Masked, Norm, NormKind, Sampling,
};
use muse::ops;
use muse::rng::NoiseKey;
use muse::tensor::DType;

const ROWS: usize = 64;
const CHANNELS: usize = 256;

fn values(n: usize) -> Vec<bf16> {
    (0..n).map(|i| bf16::from_f32((i * 7919 % 2003) as f32 / 1001.5 - 1.0)).collect()
}

fn step(criterion: &mut Criterion, device: &Cuda) {
    let mut group = criterion.benchmark_group("ptxsim");
    group.sample_size(10);
    let x = device.upload(&values(ROWS * CHANNELS), [ROWS, CHANNELS]).unwrap();
    let mut y = device.zeros(DType::BF16, [ROWS, CHANNELS]).unwrap();

    let (weight, bias) = (values(CHANNELS * CHANNELS).into(), Some(vec![0.5; CHANNELS]));
    let matrix = HostMatrix { weight, bias, rows: CHANNELS, cols: CHANNELS, taps: 1 };
    let matrix = ops::pack(device, matrix).unwrap();
    group.throughput(Throughput::Elements((ROWS * CHANNELS * CHANNELS) as u64));
    group.bench_function("linear 64x256x256", |b| {
        b.iter(|| {
            ops::linear(device, &mut y, &x, &matrix, Activation::None).unwrap();
            device.finish().unwrap();
        });
    });

    let heads = || Heads { tensor: &x, offset: 0 };
    let sizes = Attention::new(1, [4, 64], [ROWS, ROWS]);
    group.throughput(Throughput::Elements((2 * ROWS * ROWS * CHANNELS) as u64));
    group.bench_function("attention 4x64x64x64", |b| {
        b.iter(|| {
            ops::attention(device, &mut y, heads(), heads(), heads(), sizes).unwrap();
            device.finish().unwrap();
        });
    });

    let residual = device.upload(&vec![1f32; ROWS * CHANNELS], [ROWS, CHANNELS]).unwrap();
    let norm = Norm {
        kind: NormKind::Layer,
        weight: device.upload(&vec![1f32; CHANNELS], [CHANNELS]).unwrap(),
        bias: Some(device.upload(&vec![0f32; CHANNELS], [CHANNELS]).unwrap()),
        epsilon: 1e-6,
    };
    group.throughput(Throughput::Elements((ROWS * CHANNELS) as u64));
    group.bench_function("layer_norm 64x256", |b| {
        b.iter(|| {
            ops::layer_norm(device, &mut y, &residual, &norm).unwrap();
            device.finish().unwrap();
        });
    });

    let codes = 1024;
    let logits: Vec<f32> = values(2 * ROWS * codes).into_iter().map(f32::from).collect();
    let logits = device.upload(&logits, [2 * ROWS, codes]).unwrap();
    let mut masked = Masked::new(device, &[codes as u32; ROWS], codes as u32).unwrap();
    let noise = NoiseKey { seed: 1, stage: 0, step: 0 };
    let sampling = Sampling { guidance: 3.0, temperature: 1.0, top_k: 0, noise };
    group.throughput(Throughput::Elements(logits.shape().elements() as u64));
    group.bench_function("guide_and_sample 64x1024", |b| {
        b.iter(|| {
            ops::guide_and_sample(device, &mut masked, &logits, sampling).unwrap();
            device.finish().unwrap();
        });
    });
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
        .configure_from_args();
    if Cuda::is_present() {
        eprintln!("a CUDA driver is there: the simulator was not run");
        return;
    }
    ptxsim::preload().expect("the simulator");
    let device = Cuda::new(0).expect("its device");
    eprintln!("{}", device.describe());
    step(&mut criterion, &device);
    criterion.final_summary();
}
