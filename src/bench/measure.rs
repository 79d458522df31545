//! Times of an engine's images, stage by stage, step by step, verb by verb.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::record::{Series, Verb};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pipeline::Generated;
use crate::request::Request;
use crate::trace::Event;

/// Milliseconds of all images, by what they were spent on.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// In the order of first appearance.
    names: Vec<String>,
    samples: BTreeMap<String, Vec<f64>>,
}

impl Measured {
    /// Adds one time.
    pub fn add(&mut self, name: impl Into<String>, time: Duration) {
        let name = name.into();
        if !self.samples.contains_key(&name) {
            self.names.push(name.clone());
        }
        self.samples.entry(name).or_default().push(time.as_secs_f64() * 1e3);
    }

    /// All of them.
    pub fn series(mut self) -> Vec<Series> {
        let taken = |name: String| {
            let samples = self.samples.remove(&name).unwrap_or_default();
            Series::new(name, samples)
        };
        self.names.into_iter().filter_map(taken).collect()
    }

    /// The stages and steps of one image, a stage's first step apart: all is masked in it, and an engine may know half of
    /// it. `stopwatch` is what a clock round the call showed.
    fn image(&mut self, stages: &[&str], image: &Generated, stopwatch: Duration) {
        let timings = &image.timings;
        self.add("text", timings.text);
        let decoded =
            [(timings.base, &timings.base_steps), (timings.superres, &timings.superres_steps)];
        for (stage, (time, steps)) in stages.iter().zip(decoded) {
            let Some((&first, others)) = steps.split_first() else { continue };
            self.add(format!("{stage} step, first"), first);
            for &step in others {
                self.add(format!("{stage} step"), step);
            }
            self.add(format!("{stage} stage"), time);
        }
        self.add("vq", timings.vq);
        self.add("first step", timings.first_step());
        self.add("image", stopwatch);
    }
}

/// What is timed, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Batches before those that count.
    pub warm_up: u32,
    /// Batches that count.
    pub iterations: u32,
    /// Images of a batch, which are decoded side by side.
    pub batch: u32,
}

/// Makes one batch, all of it side by side.
fn batch(engine: &Engine, request: &Request, batch: u32) -> Result<Vec<Generated>> {
    let count = batch as usize;
    let fits = engine.batch(request, count)?;
    if fits < count {
        let expected = format!("at most {fits}: what half of the free memory holds, and at most 8");
        return Err(Error::option("--batch", count, expected));
    }
    engine.generate_many(request, count, None)
}

/// Makes `warm_up` batches of images and then `iterations` that count; all times are those of a batch. The very first
/// one's first steps are those of a cold engine, `… step, cold`. `each` sees an image of every batch that counts.
///
/// # Errors
/// As [`Engine::generate`]; [`Error::Option`] for a batch that does not fit.
pub fn measure(
    engine: &Engine,
    request: &Request,
    counts: Counts,
    mut each: impl FnMut(&Generated, &mut Measured) -> Result<()>,
) -> Result<Measured> {
    let Counts { warm_up, iterations, .. } = counts;
    let (mut measured, mut request) = (Measured::default(), request.clone());
    let stages = engine.stages();
    for number in 0..warm_up + iterations {
        request.seed = u64::from(number * counts.batch);
        let start = Instant::now();
        let image = batch(engine, &request, counts.batch)?.swap_remove(0);
        let stopwatch = start.elapsed();
        if number == 0 {
            let steps = [&image.timings.base_steps, &image.timings.superres_steps];
            for (stage, steps) in stages.iter().zip(steps) {
                if let Some(&first) = steps.first() {
                    measured.add(format!("{stage} step, cold"), first);
                }
            }
        }
        if number >= warm_up {
            measured.image(&stages, &image, stopwatch);
            each(&image, &mut measured)?;
        }
    }
    Ok(measured)
}

/// Makes `iterations` batches with their verbs recorded, each after one without: the verbs' times as series
/// (`verb linear`), and all of the table's rows. What recording costs is `… stage, traced` against
/// `… stage`, what the verbs leave out is `… step, traced` against `… step, verbs`: both without the first step of
/// a stage, whose beginning no verb marks.
pub fn trace(engine: &Engine, request: &Request, counts: Counts) -> Result<(Measured, Vec<Verb>)> {
    let stages = engine.stages();
    let (mut verbs, mut names) = (Vec::<Verb>::new(), Vec::new());
    let (mut times, mut number) = (Vec::<Vec<f64>>::new(), counts.warm_up);
    let mut request = request.clone();
    let measured = measure(engine, &request.clone(), counts, |_, measured| {
        request.seed = u64::from(number * counts.batch); // what was just made
        number += 1;
        let (images, events) = engine.trace(false, |engine| batch(engine, &request, counts.batch));
        let timings = images?.swap_remove(0).timings;
        let steps = [timings.base_steps, timings.superres_steps];
        for (stage, (time, steps)) in
            stages.iter().zip([timings.base, timings.superres].into_iter().zip(&steps))
        {
            if steps.len() > 1 {
                measured.add(format!("{stage} stage, traced"), time);
                measured.add(format!("{stage} step, traced"), steps[1..].iter().sum());
            }
        }
        for (stage, time) in stages.iter().zip(in_steps(&events, &steps.map(|s| s.len()))) {
            if let Some(time) = time {
                measured.add(format!("{stage} step, verbs"), time);
            }
        }
        let mut image: BTreeMap<&str, (Duration, u64, u64, u64)> = BTreeMap::new();
        for event in &events {
            let row = image.entry(event.verb).or_default();
            *row = (row.0 + event.elapsed, row.1 + 1, row.2 + event.flops, row.3 + event.bytes);
        }
        for (verb, (time, calls, flops, bytes)) in image {
            let at = names.iter().position(|name| name == verb).unwrap_or_else(|| {
                names.push(verb.to_owned());
                times.push(Vec::new());
                verbs.push(Verb { verb: verb.into(), calls, ms: 0.0, flops, bytes });
                names.len() - 1
            });
            times[at].push(time.as_secs_f64() * 1e3);
            measured.add(format!("verb {verb}"), time);
        }
        Ok(())
    })?;
    for (verb, times) in verbs.iter_mut().zip(&times) {
        verb.ms = super::stats::summary(times).map_or(0.0, |summary| summary.median);
    }
    verbs.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    Ok((measured, verbs))
}

/// Time in verbs of each stage's steps but the first; `None` for a stage that has no other. A step ends with its
/// `remask`.
fn in_steps(events: &[Event], steps: &[usize]) -> Vec<Option<Duration>> {
    let mut ends = events.iter().enumerate().filter(|(_, e)| e.verb == "remask").map(|(i, _)| i);
    let of_stage = |&steps: &usize| {
        let ends: Vec<usize> = ends.by_ref().take(steps).collect();
        let (first, last) = (ends.first()?, ends.last()?);
        let verbs = &events[first + 1..=*last];
        (!verbs.is_empty()).then(|| verbs.iter().map(|event| event.elapsed).sum())
    };
    steps.iter().map(of_stage).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_counted_to_the_step_they_are_in() {
        let event = |verb, ms| Event {
            verb,
            operands: String::new(),
            flops: 0,
            bytes: 0,
            elapsed: Duration::from_millis(ms),
            hash: None,
        };
        // What precedes the steps and the first of them, two more, and the decoder.
        let events = [
            ("linear", 100),
            ("embed", 1),
            ("remask", 2),
            ("embed", 3),
            ("remask", 4),
            ("embed", 5),
            ("remask", 6),
            ("conv2d", 100),
        ];
        let events = events.map(|(verb, ms)| event(verb, ms));
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(in_steps(&events, &[3, 0]), [ms(18), None]);
        let both = [&events[..7], &events[..5]].concat();
        assert_eq!(in_steps(&both, &[3, 2]), [ms(18), ms(7)]);
        let short = [&events[..3], &events[..5]].concat();
        assert_eq!(in_steps(&short, &[1, 2]), [None, ms(7)]);
    }
}
