//! One job: what the page asks for, and the events that it is answered with.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muse::decode::Step;
use muse::image::{Mask, Picture};
use muse::{Change, Engine, Error, Image, Request, Result};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

/// Most pixels of an image or a mask: those of 32 waiting jobs fit in memory.
const MOST_PIXELS: usize = 1 << 22;
/// Longest prompt, in bytes: many times what text encoders read of it.
const LONGEST_PROMPT: usize = 1 << 14;

/// What the page sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// A [`Request`] as JSON.
    request: Box<RawValue>,
    /// PNG, JPEG or WebP in base64: the image of an edit.
    image: Option<String>,
    /// As the image, of its size: white is painted anew.
    mask: Option<String>,
    /// Whether steps carry a picture of what there is so far.
    #[serde(default)]
    preview: bool,
}

/// What the page hears.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    Queued {
        ahead: usize,
    },
    Step {
        stage: &'static str,
        step: usize,
        steps: usize,
        window: usize,
        windows: usize,
        /// Height and width.
        grid: [usize; 2],
        /// Row-major; null where masked.
        tokens: Vec<Option<u32>>,
        /// What the draws of this step were compared by; null where none was drawn.
        confidence: Vec<Option<f32>>,
        milliseconds: f64,
        /// A PNG in base64.
        preview: Option<String>,
    },
    Done {
        /// A PNG in base64.
        image: String,
        width: usize,
        height: usize,
        seconds: Seconds,
        notes: Vec<String>,
        base_tokens: Vec<u32>,
        superres_tokens: Option<Vec<u32>>,
    },
    Failed {
        error: String,
    },
}

/// Where the time went.
#[derive(Serialize)]
pub struct Seconds {
    waited: f64,
    text: f64,
    base: f64,
    superres: f64,
    vq: f64,
    all: f64,
}

impl Order {
    /// The request, with its image and mask.
    pub fn request(&self) -> Result<Request> {
        let mut request = Request::from_json(self.request.get())?;
        let toward = request.toward.as_ref().map_or("", |toward| &toward.prompt);
        if let Some(text) = [&request.prompt[..], &request.negative, toward]
            .iter()
            .find(|t| t.len() > LONGEST_PROMPT)
        {
            return Err(Error::Option {
                name: "prompt",
                found: format!("{} bytes", text.len()),
                expected: format!("at most {LONGEST_PROMPT}"),
            });
        }
        let unwanted = |name| Error::Option {
            name,
            found: "given".into(),
            expected: "none: this request changes no image, or no part of it".into(),
        };
        let Some(edit) = &mut request.edit else {
            return match (&self.image, &self.mask) {
                (None, None) => Ok(request),
                (Some(_), _) => Err(unwanted("image")),
                _ => Err(unwanted("mask")),
            };
        };
        edit.image = picture("image", self.image.as_deref())?;
        match (&mut edit.change, &self.mask) {
            (Change::Inpaint { mask, .. }, given) => {
                *mask = Mask::of_image(&picture("mask", given.as_deref())?);
            }
            (_, Some(_)) => return Err(unwanted("mask")),
            _ => {}
        }
        request.validate()?;
        Ok(request)
    }

    pub fn preview(&self) -> bool {
        self.preview
    }
}

fn picture(name: &'static str, base64: Option<&str>) -> Result<Image> {
    let wrong = |found: String| Error::Option {
        name,
        found,
        expected: "a PNG, JPEG or WebP file in base64".into(),
    };
    let text = base64.ok_or_else(|| wrong("none".into()))?;
    let bytes = STANDARD.decode(text).map_err(|e| wrong(e.to_string()))?;
    let image = Picture::decode(&bytes, Path::new(name))?.image;
    if image.width * image.height > MOST_PIXELS {
        let found = format!("{}×{} pixels", image.width, image.height);
        return Err(Error::Option {
            name,
            found,
            expected: format!("at most {MOST_PIXELS} pixels"),
        });
    }
    Ok(image)
}

/// Makes the image; what cannot keep up with the steps misses some, who has gone away cancels it.
pub fn run(
    engine: &Engine,
    request: &Request,
    preview: bool,
    joined: Instant,
    events: &mpsc::Sender<Event>,
) -> Event {
    let start = Instant::now();
    let made = engine.generate_with(request, &mut |step| {
        if events.is_closed() {
            return ControlFlow::Break(());
        }
        if events.capacity() > 0 {
            let _ = events.try_send(seen(engine, &step, preview));
        }
        ControlFlow::Continue(())
    });
    let done = made.and_then(|made| {
        let png = made.image.to_png(&engine.png_text(request)?)?;
        let timings = &made.timings;
        Ok(Event::Done {
            image: STANDARD.encode(png),
            width: made.image.width,
            height: made.image.height,
            seconds: Seconds {
                waited: (start - joined).as_secs_f64(),
                text: timings.text.as_secs_f64(),
                base: timings.base.as_secs_f64(),
                superres: timings.superres.as_secs_f64(),
                vq: timings.vq.as_secs_f64(),
                all: start.elapsed().as_secs_f64(),
            },
            notes: made.notes,
            base_tokens: made.base_tokens,
            superres_tokens: made.superres_tokens,
        })
    });
    done.unwrap_or_else(|error| Event::Failed { error: error.to_string() })
}

fn seen(engine: &Engine, step: &Step<'_>, preview: bool) -> Event {
    let known = |&token: &u32| (token != step.mask_token).then_some(token);
    let picture = || engine.preview(step).and_then(|image| image.to_png(&[] as &[(&str, &str)]));
    Event::Step {
        stage: step.stage,
        step: step.step,
        steps: step.steps,
        window: step.window,
        windows: step.windows,
        grid: step.grid,
        tokens: step.tokens.iter().map(known).collect(),
        confidence: step.confidence.iter().map(|&c| c.is_finite().then_some(c)).collect(),
        milliseconds: step.elapsed.as_secs_f64() * 1e3,
        // Without it the step is seen all the same.
        preview: preview.then(|| picture().ok().map(|png| STANDARD.encode(png))).flatten(),
    }
}
