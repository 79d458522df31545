//! The decode loop against a straightforward f64 implementation given the same noise words: the
//! same tokens and the same remasked sets after every step.

use std::ops::ControlFlow;

use muse::Result;
use muse::cpu::Cpu;
use muse::decode::{DecodeOptions, GuidanceSchedule, Order, Stage, Step, decode, plan};
use muse::device::{Device, Masked};
use muse::models::MaskedModel;
use muse::rng::{NoiseKey, Purpose, philox};
use muse::tensor::{DType, Tensor};

type Buffer = <Cpu as Device>::Buffer;

const CODES: usize = 173;
const MASK: u32 = CODES as u32;

/// Logits that depend on everything a transformer's would: row, position, tokens so far, code.
fn logit(row: usize, position: u32, tokens: &[u32], code: usize) -> f32 {
    let seen = tokens.iter().fold(0u32, |h, &t| h.wrapping_mul(31).wrapping_add(t));
    let words = philox([code as u32, position, row as u32, seen], [1, 2]);
    (words[0] >> 8) as f32 / 2f32.powi(24) * 8.0 - 4.0
}

struct FakeModel {
    logits: Tensor<Buffer>,
}

impl MaskedModel<Cpu> for FakeModel {
    fn logits(
        &mut self,
        device: &Cpu,
        masked: &Masked<Buffer>,
        batch: usize,
    ) -> Result<&mut Tensor<Buffer>> {
        let tokens: Vec<u32> = device.download(&masked.tokens)?;
        let positions: Vec<u32> = device.download(&masked.positions)?;
        let row = |b, p| (0..CODES).map(|c| logit(b, p, &tokens, c)).collect::<Vec<_>>();
        let all: Vec<f32> = (0..batch)
            .flat_map(|b| positions.iter().flat_map(|&p| row(b, p)).collect::<Vec<_>>())
            .collect();
        self.logits = device.upload(&all, [batch * positions.len(), CODES])?;
        Ok(&mut self.logits)
    }
}

fn gumbel(key: NoiseKey, purpose: Purpose, position: u32, index: u32) -> f64 {
    let word = key.words(purpose, position, index / 4)[(index % 4) as usize];
    let u = (f64::from(word >> 9) + 0.5) / 8_388_608.0;
    -(-u.ln()).ln()
}

/// Largest and second largest of `values`: index of the largest, distance between them.
fn winner(values: &[f64]) -> (usize, f64) {
    let best = (0..values.len()).rev().max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap();
    let second = values.iter().enumerate().filter(|(i, _)| *i != best).map(|(_, v)| *v);
    (best, values[best] - second.fold(f64::NEG_INFINITY, f64::max))
}

/// How many cells of a grid of one row the van der Corput sequence of base 3 visits before `cell`: the
/// points that grid's columns are given by (those of its one row do not matter).
fn halton_rank(cell: u32, columns: u32) -> usize {
    let point = |mut n: u32| {
        let (mut x, mut digit) = (0.0, 1.0 / 3.0);
        while n > 0 {
            x += f64::from(n % 3) * digit;
            (n, digit) = (n / 3, digit / 3.0);
        }
        (x * f64::from(columns) + 1e-9) as u32
    };
    let before = (1..).map(point).take_while(|&other| other != cell);
    before.collect::<std::collections::BTreeSet<u32>>().len()
}

/// All grids after each step, in f64, and the closest decision of the whole loop.
fn reference(start: &[u32], options: &DecodeOptions, seed: u64) -> (Vec<Vec<u32>>, f64) {
    let mut tokens = start.to_vec();
    let mut closest = f64::INFINITY;
    let mut grids = Vec::new();
    let unknown = start.iter().filter(|&&t| t == MASK).count();
    for (i, step) in plan(unknown, options).unwrap().iter().enumerate() {
        let key = NoiseKey { seed, stage: 1, step: i as u16 };
        let masked: Vec<u32> =
            (0..tokens.len() as u32).filter(|&p| tokens[p as usize] == MASK).collect();
        assert_eq!(masked.len(), step.masked);
        let mut drawn = Vec::new();
        for &p in &masked {
            let s = f64::from(step.guidance);
            let guided: Vec<f64> = (0..CODES)
                .map(|c| {
                    let conditional = f64::from(logit(0, p, &tokens, c));
                    let unconditional = f64::from(logit(1, p, &tokens, c));
                    if step.batch() == 1 {
                        conditional
                    } else {
                        unconditional + s * (conditional - unconditional)
                    }
                })
                .collect();
            let mut order: Vec<usize> = (0..CODES).collect();
            order.sort_by(|&a, &b| guided[b].total_cmp(&guided[a]).then(a.cmp(&b)));
            let allowed = if options.top_k == 0 { CODES } else { options.top_k };
            let excluded = &order[allowed..];
            let t = if options.token_temperature == 0.0 {
                1.0
            } else {
                f64::from(options.token_temperature)
            };
            let scaled: Vec<f64> = guided.iter().map(|l| l / t).collect();
            let noise = |c: usize| match options.token_temperature {
                0.0 => 0.0,
                _ => gumbel(key, Purpose::Token, p, c as u32),
            };
            let scores: Vec<f64> =
                (0..CODES)
                    .map(|c| {
                        if excluded.contains(&c) { f64::NEG_INFINITY } else { scaled[c] + noise(c) }
                    })
                    .collect();
            let (token, margin) = winner(&scores);
            closest = closest.min(margin);
            let largest = scaled[order[0]];
            let total: f64 = order[..allowed].iter().map(|&c| (scaled[c] - largest).exp()).sum();
            let confidence = match options.order {
                Order::Confidence => scaled[token] - largest - total.ln(),
                Order::Halton => -(halton_rank(p, tokens.len() as u32) as f64),
                Order::Random => 0.0,
                other => unreachable!("{other:?} is not of this test"),
            };
            let noise = f64::from(step.noise) * gumbel(key, Purpose::Confidence, p, 0);
            drawn.push((confidence + noise, p, token as u32));
        }
        drawn.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        if step.remaining > 0 {
            closest = closest.min(drawn[step.remaining].0 - drawn[step.remaining - 1].0);
        }
        for (rank, &(_, p, token)) in drawn.iter().enumerate() {
            tokens[p as usize] = if rank < step.remaining { MASK } else { token };
        }
        grids.push(tokens.clone());
    }
    (grids, closest)
}

#[test]
fn every_step_makes_the_choices_of_the_f64_implementation() {
    let device = Cpu::new(None).unwrap();
    let all = vec![MASK; 64];
    let mut partly = vec![MASK; 100];
    partly.iter_mut().enumerate().filter(|(i, _)| i % 3 == 1).for_each(|(i, t)| *t = i as u32);
    let options = |steps, start, guidance, temperature, token_temperature, top_k| DecodeOptions {
        steps,
        guidance_start: start,
        guidance,
        guidance_schedule: GuidanceSchedule::Linear,
        order: Order::Confidence,
        temperature,
        last_temperature: None,
        token_temperature,
        top_k,
    };
    let halton = DecodeOptions { order: Order::Halton, ..options(9, 1.0, 2.0, 1.5, 1.0, 0) };
    let random = DecodeOptions {
        order: Order::Random,
        guidance_schedule: GuidanceSchedule::Interval([0.3, 0.8]),
        ..halton
    };
    let cases = [
        (&all, options(12, 1.0, 3.0, 1.5, 1.0, 0)),
        (&all, options(1, 2.0, 2.0, 1.5, 1.0, 0)),
        (&all, options(64, 1.0, 1.0, 4.5, 0.7, 3)),
        (&all, options(8, 0.0, 5.0, 0.0, 0.0, 0)),
        (&partly, options(10, 1.0, 2.0, 1.0, 1.3, 40)),
        (&partly, options(67, 3.0, 1.0, 0.5, 1.0, 1)),
        (&all, halton),
        (&partly, halton),
        (&partly, random),
    ];
    let mut steps = 0;
    for (case, (start, options)) in cases.iter().enumerate() {
        for seed in [0, 1, u64::MAX] {
            let (expected, closest) = reference(start, options, seed);
            // Rounding can only matter where two candidates are closer than f32 resolves them.
            assert!(
                closest > 1e-6,
                "case {case}, seed {seed}: closest decision {closest}; choose another seed"
            );
            let mut model = FakeModel { logits: device.zeros(DType::F32, [1, CODES]).unwrap() };
            let mut masked = Masked::new(&device, start, MASK).unwrap();
            let stage = Stage {
                name: "test",
                index: 1,
                grid: [1, start.len()],
                mask_token: MASK,
                seed,
                order: options.order,
            };
            let mut on_step = |step: Step<'_>| {
                assert_eq!(
                    step.tokens, expected[step.step],
                    "case {case}, seed {seed}, step {}",
                    step.step
                );
                steps += 1;
                ControlFlow::Continue(())
            };
            let steps = plan(masked.positions.shape().elements(), options).unwrap();
            decode(&device, &mut model, &mut masked, &steps, stage, Some(&mut on_step)).unwrap();
        }
    }
    assert_eq!(steps, 3 * (12 + 1 + 64 + 8 + 10 + 67 + 9 + 9 + 9));
}

#[test]
fn a_callback_can_cancel() {
    let device = Cpu::new(Some(1)).unwrap();
    let mut model = FakeModel { logits: device.zeros(DType::F32, [1, CODES]).unwrap() };
    let mut masked = Masked::new(&device, &[MASK; 16], MASK).unwrap();
    let options = DecodeOptions {
        steps: 8,
        guidance_start: 1.0,
        guidance: 1.0,
        guidance_schedule: GuidanceSchedule::Linear,
        order: Order::Confidence,
        temperature: 1.0,
        last_temperature: None,
        token_temperature: 1.0,
        top_k: 0,
    };
    let stage = Stage {
        name: "base",
        index: 0,
        grid: [4, 4],
        mask_token: MASK,
        seed: 0,
        order: Order::Confidence,
    };
    let mut on_step = |step: Step<'_>| match step.step {
        2 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let plan = plan(16, &options).unwrap();
    let error =
        decode(&device, &mut model, &mut masked, &plan, stage, Some(&mut on_step)).unwrap_err();
    assert!(matches!(error, muse::Error::Cancelled { stage: "base", step: 2 }), "{error}");
}
