//! What each backend draws from the same tokens, and whether a difference is a near tie.

use muse::decode::StepPlan;
use muse::device::{Device, Masked, Remask, Sampling};
use muse::models::MaskedModel;
use muse::ops;
use muse::rng::{NoiseKey, Purpose};

/// What a stage makes of the tokens before a step.
pub struct Draws {
    plan: StepPlan,
    sampled: Vec<u32>,
    /// What it draws from, `[positions, codebook]`, guided and divided by the temperature.
    logits: Vec<f32>,
    /// Of what was drawn, with the noise by which positions are masked again.
    confidence: Vec<f32>,
    /// The tokens after the step.
    pub tokens: Vec<u32>,
}

/// Every step of `plan`, each of the tokens before it in `states`. `key` is of any step.
pub fn draws_of<D: Device>(
    device: &D,
    model: &mut impl MaskedModel<D>,
    plan: &[StepPlan],
    mask_token: u32,
    states: &[Vec<u32>],
    key: NoiseKey,
) -> Vec<Draws> {
    let draw = |(tokens, &plan): (&Vec<u32>, &StepPlan)| {
        let mut masked = Masked::new(device, tokens, mask_token).unwrap();
        masked.remaining.reshape([plan.remaining]);
        let logits = model.logits(device, &masked, plan.batch()).unwrap();
        let noise = NoiseKey { step: plan.number, ..key };
        let StepPlan { guidance, token_temperature: temperature, top_k, .. } = plan;
        let sampling = Sampling { guidance, temperature, top_k, noise };
        ops::guide_and_sample(device, &mut masked, logits, sampling).unwrap();
        let raw: Vec<f32> = device.download(logits).unwrap();
        let (conditional, unconditional) = raw.split_at(raw.len() / plan.batch());
        let guided = conditional.iter().enumerate().map(|(i, c)| match unconditional.get(i) {
            Some(u) => u + guidance * (c - u),
            None => *c,
        });
        let divisor = if temperature > 0.0 { temperature } else { 1.0 };
        let logits = guided.map(|l| l / divisor).collect();
        let remask =
            Remask { keep_masked: plan.remaining, temperature: plan.noise, mask_token, noise };
        ops::remask(device, &mut masked, remask).unwrap();
        Draws {
            plan,
            sampled: device.download(&masked.sampled).unwrap(),
            logits,
            confidence: device.download(&masked.confidence).unwrap(),
            tokens: device.download(&masked.tokens).unwrap(),
        }
    };
    states.iter().zip(plan).map(draw).collect()
}

/// Both backends draw the same token, and mask the same positions again, wherever the difference of their
/// logits cannot decide. How far the logits may be apart is for `models.rs` to judge.
pub fn same_draws(
    name: &str,
    mask_token: u32,
    states: &[Vec<u32>],
    key: NoiseKey,
    [cpu, gpu]: [&[Draws]; 2],
    most: usize, // one choice of so many may be another
) {
    let (mut all, mut differing, mut otherwise) = (0, 0, 0);
    for (step, ((tokens, cpu), gpu)) in states.iter().zip(cpu).zip(gpu).enumerate() {
        let masked = |&p: &usize| tokens[p] == mask_token;
        let positions: Vec<usize> = (0..tokens.len()).filter(masked).collect();
        otherwise += masked_again(name, step, &positions, cpu, gpu);
        let codes = cpu.logits.len() / positions.len();
        let StepPlan { number, token_temperature, top_k, .. } = cpu.plan;
        for (j, position) in positions.into_iter().enumerate() {
            let row = j * codes..(j + 1) * codes;
            let (a, b) = (cpu.sampled[j] as usize, gpu.sampled[j] as usize);
            all += 1;
            if a == b {
                continue;
            }
            differing += 1;
            let (on_cpu, on_gpu) = (&cpu.logits[row.clone()], &gpu.logits[row]);
            let apart = on_cpu.iter().zip(on_gpu).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let allowed = 2.0 * apart + 1e-5;
            // A token that only one of them can draw is about as likely as the last one that both can.
            if let Some(other) = [a, b].into_iter().find(|&token| {
                largest(on_cpu, top_k).contains(&token) != largest(on_gpu, top_k).contains(&token)
            }) {
                let last = on_cpu[*largest(on_cpu, top_k).last().unwrap()];
                let off = (on_cpu[other] - last).abs();
                assert!(
                    off <= allowed,
                    "{name}, step {step}, position {position}: {other} is {off} from the {top_k} likeliest; \
                     logits are {apart} apart"
                );
                continue;
            }
            let noise = |token: usize| match token_temperature > 0.0 {
                true => {
                    let key = NoiseKey { step: number, ..key };
                    key.gumbel(Purpose::Token, position as u32, token as u32)
                }
                false => 0.0,
            };
            let margin = (on_cpu[a] + noise(a)) - (on_cpu[b] + noise(b));
            assert!(
                (0.0..=allowed).contains(&margin),
                "{name}, step {step}, position {position}: {b}, not {a}, by {margin}; logits are {apart} apart"
            );
        }
    }
    println!(
        "{name}: {differing} of {all} draws differ, and {otherwise} positions masked again, each within the \
         difference of the logits"
    );
    assert!(differing + otherwise <= all / most, "{name}: {differing} and {otherwise} of {all}");
}

/// The tokens that can be drawn, likeliest first: `top_k`, or all.
fn largest(logits: &[f32], top_k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    order.truncate(if top_k == 0 { logits.len() } else { top_k });
    order
}

/// How many positions only one backend masks again: those whose confidence is about as high as that of the
/// last one to be masked, by what confidences of the same draw are apart.
fn masked_again(name: &str, step: usize, positions: &[usize], cpu: &Draws, gpu: &Draws) -> usize {
    let remaining = cpu.plan.remaining;
    let same = |&j: &usize| cpu.sampled[j] == gpu.sampled[j];
    let pairs = (0..positions.len()).filter(same).map(|j| (cpu.confidence[j], gpu.confidence[j]));
    let apart = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let mut order = cpu.confidence.clone();
    order.sort_by(f32::total_cmp);
    // Where a draw differs, so does a confidence, and one position more or less lies below the others.
    let drawn = (0..positions.len()).filter(|j| !same(j)).count();
    let last = remaining.saturating_sub(1 + drawn)..(remaining + 1 + drawn).min(order.len());
    let is_masked = |draws: &Draws, j: usize| draws.tokens[positions[j]] != draws.sampled[j];
    let other: Vec<usize> = (0..positions.len())
        .filter(same)
        .filter(|&j| is_masked(cpu, j) != is_masked(gpu, j))
        .collect();
    for &j in &other {
        let c = cpu.confidence[j];
        let near = order[last.clone()].iter().any(|edge| (c - edge).abs() <= 2.0 * apart + 1e-5);
        assert!(
            near,
            "{name}, step {step}, position {}: confidences are {apart} apart",
            positions[j]
        );
    }
    other.len()
}
