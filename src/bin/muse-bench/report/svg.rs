//! A picture of lines, boxes and words, in pixels from its upper left corner.

use std::fmt::Write;

/// Width of every picture.
pub const WIDTH: f64 = 800.0;

pub struct Svg {
    height: f64,
    body: String,
}

/// Which end of a word stands at its place.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    pub fn new(height: f64) -> Self {
        Svg { height, body: String::new() }
    }

    pub fn text(&mut self, [x, y]: [f64; 2], anchor: Anchor, text: &str) {
        self.word([x, y], anchor, "", text);
    }

    /// A word of less weight.
    pub fn faint(&mut self, [x, y]: [f64; 2], anchor: Anchor, text: &str) {
        self.word([x, y], anchor, " class=\"faint\"", text);
    }

    fn word(&mut self, [x, y]: [f64; 2], anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        self.push(format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{class}>{text}</text>"
        ));
    }

    /// `class` is `grid` or `ink`.
    pub fn line(&mut self, [a, b]: [[f64; 2]; 2], class: &str) {
        self.push(format!(
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
            a[0], a[1], b[0], b[1]
        ));
    }

    pub fn path(&mut self, points: &[[f64; 2]], colour: usize) {
        let points: Vec<String> = points.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
        self.push(format!(
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\" points=\"{}\"/>",
            ink(colour),
            points.join(" ")
        ));
    }

    pub fn bar(&mut self, [x, y]: [f64; 2], [width, height]: [f64; 2], colour: usize, tip: &str) {
        self.push(format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"{}\"><title>{}</title></rect>",
            width.max(0.5),
            ink(colour),
            escape(tip)
        ));
    }

    /// A part of a bar that stands out less.
    pub fn veil(&mut self, [x, y]: [f64; 2], [width, height]: [f64; 2]) {
        self.push(format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"var(--page)\" \
             opacity=\".55\"/>"
        ));
    }

    pub fn dot(&mut self, [x, y]: [f64; 2], radius: f64, opacity: f64, colour: usize, tip: &str) {
        self.push(format!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{}\" opacity=\"{opacity}\"><title>{}</title></circle>",
            ink(colour),
            escape(tip)
        ));
    }

    fn push(&mut self, element: String) {
        let _ = writeln!(self.body, "{element}");
    }

    /// The element.
    pub fn end(self, label: &str) -> String {
        format!(
            "<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\" aria-label=\"{}\">\n{}</svg>",
            self.height,
            escape(label),
            self.body
        )
    }
}

fn ink(colour: usize) -> String {
    format!("var(--c{})", colour % 6)
}

/// Text between tags or in a quoted attribute.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Round numbers from 0 to at least `most`, at most about eight.
pub fn ticks(most: f64) -> Vec<f64> {
    if !(most.is_finite() && most > 0.0) {
        return vec![0.0, 1.0];
    }
    let power = 10f64.powf((most / 7.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|s| most / s <= 7.0);
    let step = step.unwrap_or(10.0 * power);
    (0..=(most / step).ceil() as usize).map(|i| i as f64 * step).collect()
}

/// A number in as many digits as it is worth.
pub fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v == 0.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
