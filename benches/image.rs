//! Whole images of the demonstration model's shape, of its own steps and of one step a stage: the processor's and,
//! where there is one, a GPU's. Weights are noise.

use std::time::Duration;

use criterion::Criterion;
use muse::shape::Shape;
use muse::{DeviceChoice, Engine, EngineOptions, Request};

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
        .configure_from_args();
    let shape = Shape::named("demo").expect("a shape");
    for device in [DeviceChoice::Cpu, DeviceChoice::Cuda(0)] {
        let options = EngineOptions { device, ..EngineOptions::default() };
        let engine = match Engine::draw(&shape, options) {
            Ok(engine) if !engine.simulated() => engine,
            Ok(_) => {
                eprintln!("{device}: simulated, whose times mean nothing");
                continue;
            }
            Err(error) => {
                eprintln!("{error}");
                continue;
            }
        };
        let mut request = Request::new("anything");
        criterion.bench_function(&format!("image/{device}"), |b| {
            b.iter(|| engine.generate(&request).expect("an image"));
        });
        request.base.steps = Some(1);
        request.superres.steps = Some(1);
        criterion.bench_function(&format!("image of one step a stage/{device}"), |b| {
            b.iter(|| engine.generate(&request).expect("an image"));
        });
    }
    criterion.final_summary();
}
