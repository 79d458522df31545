//! The choice of tiles and splits: results do not depend on it, and tables of it are what they seem.

mod gpu;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use muse::cpu::{Cpu, Simd};
use muse::cuda::{Choosing, Cuda, Problem};
use muse::plans::{Entry, PlanSource, PlansUsed, Table};
use muse::selftest::{Sums, Verb, verbs};
use muse::{DeviceChoice, Engine, EngineOptions, Overrides, Request, Size};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo");

fn device() -> Cuda {
    gpu::ready();
    Cuda::new(0).unwrap()
}

/// The case table of a verb with every plan that is allowed, each problem's by turns.
fn every_plan_agrees(name: &str) {
    let twin = [Cpu::with_simd(None, *Simd::available().last().unwrap()).unwrap()];
    let all: Vec<Verb<Cuda>> = verbs();
    let verb = all.iter().find(|verb| verb.name == name).unwrap();
    let mut asked = device();
    let tuner = asked.tune().unwrap();
    verb.test_small(&asked, Sums::TensorCores, &twin); // nothing is computed, but every problem is met
    let mut device = device();
    let plans: BTreeMap<Problem, _> =
        tuner.problems().into_iter().map(|problem| (problem, device.allowed(&problem))).collect();
    let rounds = plans.values().map(Vec::len).max().unwrap();
    assert!(rounds >= 3, "{name} has {rounds} plans");
    for round in 0..rounds {
        let chosen = plans.iter().map(|(problem, plans)| (*problem, plans[round % plans.len()]));
        assert_eq!(device.use_plans(chosen.collect()), None);
        let outcome = verb.test_small(&device, Sums::TensorCores, &twin);
        assert!(outcome.failures.is_empty(), "{name}, round {round}: {:#?}", outcome.failures);
    }
    let all: usize = plans.values().map(Vec::len).sum();
    println!("{name}: {} problems, {all} plans in {rounds} rounds", plans.len());
}

#[test]
fn linear_gives_the_same_with_every_plan() {
    every_plan_agrees("linear");
}

#[test]
fn linear_add_norm_gives_the_same_with_every_plan() {
    every_plan_agrees("linear_add_norm");
}

#[test]
fn conv2d_gives_the_same_with_every_plan() {
    every_plan_agrees("conv2d");
}

#[test]
fn attention_gives_the_same_with_every_plan() {
    every_plan_agrees("attention");
}

/// One decode step of the demonstration model: every problem that it poses is timed once with every plan.
#[test]
fn tuning_makes_a_table_that_an_engine_uses() {
    let mut request = Request::new("a cat");
    request.size = Size::Base;
    request.base = Overrides { steps: Some(1), ..Overrides::default() };
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (gpu, hears) = (device(), heard.clone());
    let identity = gpu.identity();
    let timed = Engine::tune(MODEL, gpu, &request, move |timed, all| {
        hears.lock().unwrap().push((timed.problem, all));
    })
    .unwrap();
    let heard = heard.lock().unwrap();
    assert!(heard.len() == timed.len() && heard.iter().all(|(_, all)| *all == timed.len()));
    let device = gpu::cuda();
    for verb in [Choosing::Linear, Choosing::LinearAddNorm, Choosing::Conv2d, Choosing::Attention] {
        assert!(timed.iter().any(|timed| timed.problem.verb == verb), "{verb:?}");
    }
    for timed in &timed {
        assert_eq!(timed.plans, device.allowed(&timed.problem).len(), "{}", timed.problem);
        assert!(timed.best.1 <= timed.rule.1, "{}", timed.problem);
    }

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/plans.json");
    let mut table = Table { made_for: identity.clone(), plans: Vec::new() };
    table.merge(timed.iter().map(Entry::from));
    table.write(&path).unwrap();
    assert_eq!(Table::read(&path, &identity).unwrap(), table);
    let load = |plans: PlanSource| {
        let device = DeviceChoice::Cuda(0);
        Engine::load(MODEL, EngineOptions { device, plans, ..EngineOptions::default() })
    };
    let engine = load(PlanSource::File(path.clone())).unwrap();
    let simulated = identity.simulated;
    let expected = PlansUsed::Table { path: path.clone(), plans: timed.len(), simulated };
    assert_eq!(engine.plans(), Some(&expected));
    assert_eq!(engine.plans().unwrap().to_string().contains("simulator"), simulated);

    // Plans of another problem, or of the same, join those that are there.
    let other = Entry { nanoseconds: 1000, ..table.plans[0].clone() };
    table.merge([other.clone()]);
    assert!(table.plans.len() == timed.len() && table.plans.contains(&other));
}

/// A table that cannot be used is named, with what is wrong with it.
#[test]
fn damaged_and_foreign_tables_are_refused() {
    let mut device = device();
    let identity = device.identity();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plans.json");
    let refused = |text: &str, words: &[&str], device: &mut Cuda| {
        std::fs::write(&path, text).unwrap();
        let error = PlanSource::File(path.clone()).apply(device).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        let error = error.to_string();
        for word in [&path.display().to_string()[..]].iter().chain(words) {
            assert!(error.contains(word), "no {word:?} in {error}");
        }
    };
    refused("", &["not a table of plans", "muse tune"], &mut device);
    refused("{\"made_for\": 3}", &["not a table of plans"], &mut device);

    let problem = Problem {
        verb: Choosing::Linear,
        batch: 1,
        m: 64,
        n: 64,
        k: 64,
        out: muse::tensor::DType::F32,
    };
    let plan = device.allowed(&problem)[0];
    let entry = Entry { problem, plan, nanoseconds: 1000, by_rule: 2000 };
    let table = Table { made_for: identity.clone(), plans: vec![entry.clone()] };
    let text = |table: &Table| serde_json::to_string(table).unwrap();
    let mut foreign = table.clone();
    foreign.made_for.device = "NVIDIA Other".into();
    refused(&text(&foreign), &["NVIDIA Other", &identity.device, "muse tune"], &mut device);
    let mut impossible = table.clone();
    impossible.plans[0].plan.splits = 2; // of one step in k
    refused(&text(&impossible), &["linear 64×64×64 f32", "damaged"], &mut device);
    let tile = text(&table).replace(&format!("[{},", plan.tile[0]), "[33,");
    refused(&tile, &["33×", "damaged"], &mut device);
    let missing = Path::new("/nowhere/plans.json").to_path_buf();
    assert!(PlanSource::File(missing).apply(&mut device).is_err());

    std::fs::write(&path, text(&table)).unwrap();
    let used = PlanSource::File(path.clone()).apply(&mut device).unwrap();
    assert!(matches!(used, PlansUsed::Table { plans: 1, .. }), "{used}");
    let processor = EngineOptions { plans: PlanSource::File(path), ..EngineOptions::default() };
    let error = Engine::load(MODEL, processor).err().unwrap().to_string();
    assert!(error.contains("plans.json") && error.contains("GPU"), "{error}");
}
