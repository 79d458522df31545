//! What a decode step does with its logits: guidance, top-k, a draw and its confidence for every masked position, and
//! the remasking; at the demonstration model's sizes and aMUSEd's, one thread and all threads. "elem/s" are logits.

use std::time::Duration;

use criterion::{Criterion, Throughput};
use muse::cpu::Cpu;
use muse::device::{Device, Masked, Remask, Sampling};
use muse::ops;
use muse::rng::NoiseKey;

/// Masked positions, codes of the codebook.
const SIZES: [(usize, usize); 3] = [(256, 1024), (256, 8192), (1024, 8192)];
const NOISE: NoiseKey = NoiseKey { seed: 1, stage: 0, step: 0 };

fn sampling(criterion: &mut Criterion, device: &Cpu, name: &str) {
    let mut group = criterion.benchmark_group(format!("sampling/{name}"));
    for (n, codes) in SIZES {
        let logit = |i: usize| (i * 7919 % 2003) as f32 / 200.0 - 5.0;
        let logits: Vec<f32> = (0..2 * n * codes).map(logit).collect();
        let guided = device.upload(&logits, [2 * n, codes]).unwrap();
        let alone = device.upload(&logits[..n * codes], [n, codes]).unwrap();
        let mask_token = codes as u32;
        let mut masked = Masked::new(device, &vec![mask_token; n], mask_token).unwrap();
        for (what, logits, guidance, top_k) in [
            ("guided", &guided, 3.0, 0),
            ("guided, top 50", &guided, 3.0, 50),
            ("no guidance", &alone, 1.0, 0),
        ] {
            group.throughput(Throughput::Elements(logits.shape().elements() as u64));
            let sampling = Sampling { guidance, temperature: 1.0, top_k, noise: NOISE };
            group.bench_function(format!("{n}x{codes} {what}"), |b| {
                b.iter(|| ops::guide_and_sample(device, &mut masked, logits, sampling).unwrap());
            });
        }
        let keep_masked = n / 2;
        masked.remaining.reshape([keep_masked]);
        let remask = Remask { keep_masked, temperature: 1.0, mask_token, noise: NOISE };
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(format!("{n}x{codes} remask"), |b| {
            b.iter(|| ops::remask(device, &mut masked, remask).unwrap());
        });
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
        .configure_from_args();
    for (threads, name) in [(Some(1), "one thread"), (None, "all threads")] {
        let device = Cpu::new(threads).unwrap();
        eprintln!("{}", device.describe());
        sampling(&mut criterion, &device, name);
    }
    criterion.final_summary();
}
