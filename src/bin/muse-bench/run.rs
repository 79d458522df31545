//! The commands that measure.

use std::path::Path;
use std::time::Instant;

use muse::bench::{
    Ceilings, Machine, Measured, Method, Record, Series, Settings, Subject, measure, trace,
};
use muse::cpu::Cpu;
use muse::device::Device;
use muse::shape::Shape;
use muse::{Engine, EngineOptions, Generated, Request, Result};

use crate::options::{Arguments, RooflineArgs, SweepArgs};
use crate::tables;

/// What a measurement needs.
struct Run {
    engine: Engine,
    request: Request,
    note: String, // of a shape
    record: Record,
}

/// Loads the model, or draws the shape.
fn start(command: &str, arguments: &Arguments) -> Result<Run> {
    let machine = Machine::read(String::new()); // before the load that we are ourselves
    let options = EngineOptions {
        device: arguments.device,
        dtype: arguments.dtype,
        threads: arguments.threads.map(|n| n as usize),
        ..EngineOptions::default()
    };
    let shape = arguments.shape.as_deref().map(Shape::named).transpose()?;
    let engine = match &shape {
        Some(shape) => Engine::draw(shape, options)?,
        None => Engine::load(&arguments.model, options)?,
    };
    let mut request = Request::new(&arguments.prompt);
    let stages = [&mut request.base, &mut request.superres];
    for stage in stages.into_iter().take(engine.stages().len()) {
        stage.steps = arguments.steps.map(|n| n as usize);
        stage.guidance = arguments.guidance;
    }
    request.validate()?;
    let note = shape.as_ref().map_or_else(String::new, |shape| match shape.reference() {
        Some(reference) => format!("{}\n{reference}", shape.describe()),
        None => shape.describe(),
    });
    let gpu = engine.plans().is_some();
    let method = Method {
        clock: if gpu { "the driver's events" } else { "monotonic" }.into(),
        warm_up: arguments.warm_up,
        iterations: arguments.iterations,
        caches: "not flushed: as the image before left them".into(),
    };
    let subject = Subject {
        model: engine.name().into(),
        hash: engine.model_hash()?.into(),
        weights: shape.map_or("the model's", |_| "noise").into(),
        settings: Settings {
            dtype: engine.dtype().to_string(),
            device: if gpu { "cuda" } else { "cpu" }.into(),
            threads: arguments.threads,
            steps: arguments.steps,
            guidance: arguments.guidance,
            batch: arguments.batch,
        },
    };
    let machine = Machine { device: engine.device(), ..machine };
    let mut record = Record::new(command, machine, method, Some(subject));
    record.simulated = engine.simulated();
    Ok(Run { engine, request, note, record })
}

/// Measures images. On a simulator one is made to be counted, and none is timed: its times mean nothing.
fn images(
    command: &str,
    arguments: &Arguments,
    each: impl FnMut(&Generated, &mut Measured) -> Result<()>,
) -> Result<Run> {
    let mut run = start(command, arguments)?;
    tables::head(&run.record, &run.note);
    if run.record.simulated {
        run.engine.generate(&run.request)?;
        tables::simulated(command);
    } else {
        let mut measured = measure(&run.engine, &run.request, arguments.counts(), each)?;
        measured.add("load", run.engine.load_time());
        run.record.series = measured.series();
    }
    Ok(run)
}

pub fn step(arguments: &Arguments) -> Result<()> {
    let record = steps(arguments)?;
    keep(&[record], arguments.json.as_deref())
}

fn steps(arguments: &Arguments) -> Result<Record> {
    let Run { record, .. } = images("step", arguments, |_, _| Ok(()))?;
    tables::series(&record, Series::of_steps);
    Ok(record)
}

pub fn image(arguments: &Arguments) -> Result<()> {
    let Run { record, .. } = images("image", arguments, |generated, measured| {
        let start = Instant::now();
        generated.image.to_png(&[("prompt", &arguments.prompt)])?;
        measured.add("png", start.elapsed());
        Ok(())
    })?;
    tables::series(&record, |series| !series.of_steps());
    keep(&[record], arguments.json.as_deref())
}

pub fn ops(arguments: &Arguments) -> Result<()> {
    let mut run = start("ops", arguments)?;
    tables::head(&run.record, &run.note);
    if run.record.simulated {
        run.engine.generate(&run.request)?;
        tables::simulated("ops");
        return keep(&[run.record], arguments.json.as_deref());
    }
    let (measured, verbs) = trace(&run.engine, &run.request, arguments.counts())?;
    run.record.series = measured.series();
    run.record.verbs = verbs;
    let threads = arguments.threads.map(|n| n as usize);
    run.record.ceilings = match arguments.device.gpu()?.0 {
        Some(gpu) => Ceilings::verbs(&gpu)?,
        None => Ceilings::cpu(&Cpu::new(threads)?),
    };
    tables::verbs(&run.record);
    keep(&[run.record], arguments.json.as_deref())
}

pub fn roofline(arguments: &RooflineArgs) -> Result<()> {
    let threads = arguments.threads.map(|n| n as usize);
    let machine = Machine::read(String::new());
    let (gpu, _) = arguments.device.gpu()?;
    let simulated = gpu.as_ref().is_some_and(|gpu| gpu.identity().simulated);
    let (device, ceilings) = match &gpu {
        Some(gpu) if simulated => (gpu.describe(), Vec::new()),
        Some(gpu) => (gpu.describe(), Ceilings::verbs(gpu)?),
        None => {
            let cpu = Cpu::new(threads)?;
            (cpu.describe(), Ceilings::cpu(&cpu))
        }
    };
    let method = Method {
        clock: if gpu.is_some() { "the driver's events" } else { "monotonic" }.into(),
        warm_up: 1,
        iterations: if gpu.is_some() { 10 } else { 30 },
        caches: "not flushed".into(),
    };
    let mut record = Record::new("roofline", Machine { device, ..machine }, method, None);
    record.simulated = simulated;
    record.ceilings = ceilings;
    tables::head(&record, "");
    match simulated {
        true => println!(
            "SIMULATED: ptxsim has no ceilings to measure; see tools/ptxsim for its model's"
        ),
        false => tables::ceilings(&record),
    }
    keep(&[record], arguments.json.as_deref())
}

pub fn sweep(arguments: &SweepArgs) -> Result<()> {
    let each = &arguments.each;
    let some = |given: &[u32], one: Option<u32>| match given {
        [] => vec![one],
        given => given.iter().copied().map(Some).collect(),
    };
    let dtypes = match &arguments.over_dtypes[..] {
        [] => vec![each.dtype],
        given => given.to_vec(),
    };
    let batches = match &arguments.over_batch[..] {
        [] => vec![each.batch],
        given => given.to_vec(),
    };
    let mut records = Vec::new();
    for &dtype in &dtypes {
        for &threads in &some(&arguments.over_threads, each.threads) {
            for &steps in &some(&arguments.over_steps, each.steps) {
                for &batch in &batches {
                    let each = Arguments { dtype, threads, steps, batch, ..each.clone() };
                    records.push(self::steps(&each)?);
                    println!();
                }
            }
        }
    }
    tables::sweep(&records);
    keep(&records, each.json.as_deref())
}

fn keep(records: &[Record], path: Option<&Path>) -> Result<()> {
    path.map_or(Ok(()), |path| Record::write(records, path))
}
