//! The charts: of the records that hold what one shows, each gives its pictures.

use muse::bench::{Record, Ridge, Series, Settings, Verb};

use super::svg::{Anchor, Svg, WIDTH, number, ticks};
use super::{label, named};

const LEFT: f64 = 190.0;
const RIGHT: f64 = 60.0; // half of a median's words
const ROW: f64 = 26.0;

/// A horizontal axis from 0, at the foot of a chart.
struct Axis {
    most: f64,
}

impl Axis {
    fn new(svg: &mut Svg, most: f64, [top, foot]: [f64; 2], unit: &str) -> Self {
        let ticks = ticks(most);
        let axis = Axis { most: ticks[ticks.len() - 1] };
        for &tick in &ticks {
            svg.line([[axis.at(tick), top], [axis.at(tick), foot]], "grid");
            svg.faint([axis.at(tick), foot + 16.0], Anchor::Middle, &number(tick));
        }
        svg.faint([WIDTH - 4.0, foot + 32.0], Anchor::End, unit);
        axis
    }

    fn at(&self, value: f64) -> f64 {
        LEFT + value / self.most * (WIDTH - LEFT - RIGHT)
    }
}

fn steps_of(record: &Record) -> impl Iterator<Item = &Series> {
    record.series.iter().filter(|series| series.is_step())
}

/// Distribution of step times, a picture per record.
pub fn steps(records: &[Record]) -> Vec<String> {
    let records = records.iter().filter(|record| steps_of(record).next().is_some());
    let picture = |record: &Record| {
        let series: Vec<&Series> = steps_of(record).collect();
        let most = series.iter().flat_map(|s| &s.ms).copied().fold(0.0, f64::max);
        let foot = 30.0 + series.len() as f64 * 2.0 * ROW;
        let mut svg = Svg::new(foot + 40.0);
        let title = format!("{} ({})", label(record), record.command);
        svg.text([0.0, 16.0], Anchor::Start, &title);
        let axis = Axis::new(&mut svg, most, [26.0, foot], "ms");
        for (row, s) in series.iter().enumerate() {
            let y = 30.0 + (row as f64 + 0.5) * 2.0 * ROW;
            svg.text([LEFT - 10.0, y + 4.0], Anchor::End, &s.name);
            for (i, &ms) in s.ms.iter().enumerate() {
                let jitter = ((i * 7) % 11) as f64 - 5.0; // so that equal times can be told apart
                svg.dot([axis.at(ms), y + 1.6 * jitter], 2.0, 0.35, row, &format!("{ms:.3} ms"));
            }
            let median = axis.at(s.summary.median);
            svg.line([[axis.at(s.summary.p5), y], [axis.at(s.summary.p95), y]], "ink");
            svg.line([[median, y - 14.0], [median, y + 14.0]], "ink");
            let text = format!("median {:.3}", s.summary.median);
            svg.faint([median, y - 16.0], Anchor::Middle, &text);
        }
        svg.end("step times")
    };
    records.map(picture).collect()
}

/// Stages side by side, a bar per record.
pub fn stages(records: &[Record]) -> Vec<String> {
    let parts = |record: &Record| -> Vec<(String, f64)> {
        let stage = |name: &str| matches!(name, "text" | "vq" | "png") || name.ends_with(" stage");
        let series = record.series.iter().filter(|s| stage(&s.name));
        series.map(|s| (s.name.replace(" stage", ""), s.summary.median)).collect()
    };
    let shown: Vec<_> =
        records.iter().map(|r| (r, parts(r))).filter(|(_, p)| !p.is_empty()).collect();
    if shown.is_empty() {
        return Vec::new();
    }
    let total = |parts: &[(String, f64)]| parts.iter().map(|part| part.1).sum::<f64>();
    let most = shown.iter().map(|(_, parts)| total(parts)).fold(0.0, f64::max);
    let foot = 10.0 + shown.len() as f64 * 2.2 * ROW;
    let mut svg = Svg::new(foot + 66.0);
    let axis = Axis::new(&mut svg, most, [10.0, foot], "ms");
    let mut names: Vec<String> = Vec::new();
    for (row, (record, parts)) in shown.iter().enumerate() {
        let y = 10.0 + row as f64 * 2.2 * ROW;
        let title = format!("{} ({})", label(record), record.command);
        svg.text([4.0, y + 14.0], Anchor::Start, &title);
        let mut x = 0.0;
        for (name, ms) in parts {
            let colour = names.iter().position(|n| n == name).unwrap_or_else(|| {
                names.push(name.clone());
                names.len() - 1
            });
            let size = [axis.at(ms + x) - axis.at(x), ROW - 4.0];
            svg.bar([axis.at(x), y + 20.0], size, colour, &format!("{name} {ms:.3} ms"));
            x += ms;
        }
    }
    for (colour, name) in names.iter().enumerate() {
        let x = LEFT + 100.0 * colour as f64;
        svg.bar([x, foot + 44.0], [12.0, 12.0], colour, name);
        svg.text([x + 18.0, foot + 54.0], Anchor::Start, name);
    }
    vec![svg.end("time per stage")]
}

fn dtype(record: &Record) -> &str {
    record.subject.as_ref().map_or("bf16", |subject| &subject.settings.dtype)
}

/// A bar per verb, a picture per record.
pub fn verbs(records: &[Record]) -> Vec<String> {
    let picture = |record: &Record| {
        let most = record.verbs.iter().map(|verb| verb.ms).fold(0.0, f64::max);
        let foot = 30.0 + record.verbs.len() as f64 * ROW;
        let mut svg = Svg::new(foot + 40.0);
        svg.text([0.0, 16.0], Anchor::Start, &label(record));
        let axis = Axis::new(&mut svg, 1.5 * most, [26.0, foot], "ms of one batch");
        for (row, verb) in record.verbs.iter().enumerate() {
            let y = 30.0 + row as f64 * ROW;
            svg.text([LEFT - 10.0, y + 16.0], Anchor::End, &verb.verb);
            let width = axis.at(verb.ms) - LEFT;
            let tip = format!("{}: {:.3} ms, {} calls", verb.verb, verb.ms, verb.calls);
            svg.bar([LEFT, y + 3.0], [width, ROW - 6.0], 0, &tip);
            let mut text = number(verb.ms);
            if let Some(ridge) = Ridge::of(verb, &record.ceilings, dtype(record)) {
                let floor = ridge.floor.min(verb.ms);
                svg.veil([LEFT, y + 3.0], [axis.at(floor) - LEFT, ROW - 6.0]);
                let bound = if ridge.products { "products" } else { "bytes" };
                text += &format!(", {:.0} % of {bound}", 100.0 * ridge.share);
            }
            svg.faint([LEFT + width + 6.0, y + 16.0], Anchor::Start, &text);
        }
        svg.end("verbs")
    };
    records.iter().filter(|r| !r.verbs.is_empty()).map(picture).collect()
}

/// Rate against intensity, a picture per record.
pub fn rooflines(records: &[Record]) -> Vec<String> {
    records.iter().filter_map(roofline).collect()
}

fn roofline(record: &Record) -> Option<String> {
    const TOP: f64 = 40.0;
    const FOOT: f64 = 400.0;
    let rate = |name: &str| record.ceilings.iter().find(|c| c.name == name).map(|c| c.rate);
    let (peak, copy) = (rate(dtype(record))?, rate("copy")?);
    let mut verbs: Vec<&Verb> = record.verbs.iter().filter(|verb| verb.flops > 0).collect();
    let intensity = |verb: &Verb| verb.flops as f64 / verb.bytes as f64;
    let achieved = |verb: &Verb| verb.flops as f64 / verb.ms * 1e3;
    verbs.sort_by(|a, b| intensity(a).total_cmp(&intensity(b)));
    let least = |f: &dyn Fn(&Verb) -> f64, a: f64| verbs.iter().map(|v| f(v)).fold(a, f64::min);
    let most = |f: &dyn Fn(&Verb) -> f64, a: f64| verbs.iter().map(|v| f(v)).fold(a, f64::max);
    if verbs.is_empty() {
        return None;
    }
    let ridge = peak / copy;
    let [left, right] = [
        least(&intensity, ridge / 4.0).log10().floor(),
        most(&intensity, ridge * 4.0).log10().ceil(),
    ];
    let [low, high] =
        [least(&achieved, peak / 50.0).log10().floor(), most(&achieved, peak).log10().ceil()];
    let x = |value: f64| 80.0 + (value.log10() - left) / (right - left) * (WIDTH - 110.0);
    let y = |value: f64| FOOT - (value.log10() - low) / (high - low) * (FOOT - TOP);
    let mut svg = Svg::new(FOOT + 50.0);
    svg.text([0.0, 16.0], Anchor::Start, &label(record));
    for power in left as i32..=right as i32 {
        let at = x(10f64.powi(power));
        svg.line([[at, TOP], [at, FOOT]], "grid");
        svg.faint([at, FOOT + 16.0], Anchor::Middle, &number(10f64.powi(power)));
    }
    for power in low as i32..=high as i32 {
        let at = y(10f64.powi(power));
        svg.line([[80.0, at], [WIDTH - 30.0, at]], "grid");
        svg.faint([74.0, at + 4.0], Anchor::End, &number(10f64.powi(power - 9)));
    }
    svg.faint([WIDTH - 30.0, FOOT + 36.0], Anchor::End, "floating-point operations a byte");
    svg.faint([4.0, TOP - 8.0], Anchor::Start, "GFLOP/s");
    let start = 10f64.powf(left.max(low - copy.log10()));
    let end = 10f64.powf(right);
    svg.path(&[[x(start), y(start * copy)], [x(ridge), y(peak)], [x(end), y(peak)]], 1);
    let roof =
        format!("{} {:.0} GFLOP/s, copies {:.1} GB/s", dtype(record), peak / 1e9, copy / 1e9);
    svg.text([x(end), y(peak) - 8.0], Anchor::End, &roof);
    let lowest = y(least(&achieved, peak));
    for (row, verb) in verbs.iter().enumerate() {
        let at = [x(intensity(verb)), y(achieved(verb))];
        // The names hang below all dots, each to the left of its line and lower than those further left: no line
        // crosses a name.
        let foot = lowest + 26.0 + 17.0 * row as f64;
        svg.line([at, [at[0], foot]], "grid");
        svg.dot(at, 5.0, 0.9, 0, &format!("{}: {:.1} GFLOP/s", verb.verb, achieved(verb) / 1e9));
        svg.text([at[0] - 5.0, foot], Anchor::End, &verb.verb);
    }
    Some(svg.end("roofline"))
}

/// Points joined by lines, with names for the places on the horizontal axis.
struct Lines {
    title: String,
    places: Vec<String>,
    lines: Vec<(String, Vec<(usize, f64)>)>,
}

impl Lines {
    fn draw(&self) -> String {
        const FOOT: f64 = 240.0;
        let most = self.lines.iter().flat_map(|(_, p)| p).map(|p| p.1).fold(0.0, f64::max);
        let ticks = ticks(most);
        let top = ticks[ticks.len() - 1];
        let y = |value: f64| FOOT - value / top * (FOOT - 40.0);
        let gaps = (self.places.len() - 1).max(1) as f64;
        let x = |place: usize| 80.0 + place as f64 / gaps * (WIDTH - 160.0);
        let mut svg = Svg::new(FOOT + 40.0 + 20.0 * self.lines.len() as f64);
        svg.text([0.0, 16.0], Anchor::Start, &self.title);
        for &tick in &ticks {
            svg.line([[60.0, y(tick)], [WIDTH - 30.0, y(tick)]], "grid");
            svg.faint([54.0, y(tick) + 4.0], Anchor::End, &number(tick));
        }
        for (place, name) in self.places.iter().enumerate() {
            svg.faint([x(place), FOOT + 18.0], Anchor::Middle, name);
        }
        for (colour, (name, points)) in self.lines.iter().enumerate() {
            let path: Vec<[f64; 2]> = points.iter().map(|&(place, ms)| [x(place), y(ms)]).collect();
            svg.path(&path, colour);
            for (at, (_, ms)) in path.iter().zip(points) {
                svg.dot(*at, 4.0, 1.0, colour, &format!("{name}: {ms:.3} ms"));
            }
            let line = FOOT + 40.0 + 20.0 * colour as f64;
            svg.bar([80.0, line - 10.0], [12.0, 12.0], colour, name);
            svg.text([98.0, line], Anchor::Start, name);
        }
        svg.end(&self.title)
    }
}

/// A place on the horizontal axis, by its order and its name.
type Place = (u64, String);

/// Records that are alike in `key`, at the places `place` gives them: groups of two places or more.
fn lines(
    records: &[Record],
    title: &str,
    key: impl Fn(&Record) -> Option<String>,
    place: impl Fn(&Record) -> Place,
) -> Option<String> {
    let mut places: Vec<Place> = Vec::new();
    let mut groups: Vec<(String, Vec<(Place, f64)>)> = Vec::new();
    for record in records.iter().filter(|record| record.command == "step") {
        let Some(key) = key(record) else { continue };
        for series in steps_of(record) {
            let name = format!("{key}, {}", series.name);
            let point = (place(record), series.summary.median);
            match groups.iter_mut().find(|group| group.0 == name) {
                Some(group) => group.1.push(point),
                None => groups.push((name, vec![point])),
            }
        }
    }
    groups.retain(|(_, points)| points.iter().any(|point| point.0 != points[0].0));
    places.extend(groups.iter().flat_map(|(_, points)| points).map(|point| point.0.clone()));
    places.sort();
    places.dedup();
    if groups.is_empty() {
        return None;
    }
    let at = |place: &Place| places.iter().position(|p| p == place).unwrap_or_default();
    let lines = groups.iter().map(|(name, points)| {
        let mut points: Vec<_> = points.iter().map(|(place, ms)| (at(place), *ms)).collect();
        points.sort_by_key(|point| point.0);
        (name.clone(), points)
    });
    let lines = lines.collect();
    let places = places.iter().map(|place| place.1.clone()).collect();
    Some(Lines { title: title.into(), places, lines }.draw())
}

/// Step times against the size of the batch, the number of steps and of threads.
pub fn against(records: &[Record]) -> Vec<String> {
    /// A setting, taken out of the others.
    type Take = fn(&mut Settings) -> Option<u32>;
    let axes: [(&str, Take); 3] = [
        ("against batch", |s| Some(std::mem::take(&mut s.batch))),
        ("against steps", |s| s.steps.take()),
        ("against threads", |s| s.threads.take()),
    ];
    let chart = |(title, take): (&str, Take)| {
        let split = |record: &Record| {
            let subject = record.subject.as_ref()?;
            let mut others = subject.settings.clone();
            let value = take(&mut others);
            let key = format!("{}, {}", named(record, &others), record.program.commit);
            Some((key, value))
        };
        let place = |record: &Record| {
            let value = split(record).and_then(|(_, value)| value);
            let name = value.map_or_else(|| "default".to_owned(), |n| n.to_string());
            (u64::from(value.unwrap_or(u32::MAX)), name)
        };
        lines(records, title, |record| Some(split(record)?.0), place)
    };
    axes.into_iter().filter_map(chart).collect()
}

/// Step times of one thing over time.
pub fn history(records: &[Record]) -> Vec<String> {
    let key = |record: &Record| {
        record.subject.as_ref()?;
        Some(format!("{}, {}", label(record), record.machine.device))
    };
    let place = |record: &Record| (record.time, record.program.commit.clone());
    lines(records, "over commits", key, place).into_iter().collect()
}
