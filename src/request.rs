//! What to generate: checked before any model runs.

use crate::decode::{DecodeOptions, GuidanceSchedule, Order};
use crate::edit::{Edit, within};
use crate::error::{Error, Result};
use crate::queue::Cancel;

/// Longest side of a picture that is asked for by its size, in pixels.
const MAX_SIDE: usize = 4096;

/// How far the pipeline goes, or how large its picture is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Size {
    /// Decode the base grid only: the small image.
    Base,
    /// Base, then super-res where the model has one; of an edit by aMUSEd, the size of its image.
    #[default]
    Full,
    /// Width and height, of aMUSEd: multiples of the pixels of a token.
    Pixels([usize; 2]),
}

/// Where noise comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Rng {
    /// Our own counter-based generator ([`crate::rng`]).
    #[default]
    Counter,
    /// PyTorch's on the processor, in diffusers' order of draws: the tokens of `torch.Generator("cpu")` with
    /// the same seed. Of aMUSEd.
    Torch,
}

impl Rng {
    fn is_default(&self) -> bool {
        *self == Rng::default()
    }
}

/// Settings of one decode loop; what is absent comes from the model's config.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Overrides {
    /// Decode steps.
    pub steps: Option<usize>,
    /// Guidance scale; of a linear schedule that of the last step.
    pub guidance: Option<f32>,
    /// How guidance changes over the steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_schedule: Option<GuidanceSchedule>,
    /// Which draws a step keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// Temperature of the confidence noise.
    pub temperature: Option<f32>,
    /// That of the last step, to which the other one is annealed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_temperature: Option<f32>,
    /// Temperature of the token distribution; 0 is greedy.
    pub token_temperature: Option<f32>,
    /// Draw tokens from the `top_k` largest logits; 0 means all.
    pub top_k: Option<usize>,
}

/// A second prompt, and how far towards it.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Toward {
    /// What the image would show at part 1.
    pub prompt: String,
    /// From 0, the first prompt alone, to 1, the second one alone.
    pub part: f32,
}

/// A text as a model's text encoder leaves it, for a request that has it in place of its prompt
/// ([`Request::embeddings`]): of the demonstration model BERT's last hidden states, of aMUSEd CLIP's states before
/// the last layer and the pooled projection (diffusers' `encoder_hidden_states` and `prompt_embeds`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embeddings {
    /// `[rows, channels]`, row-major.
    pub states: Vec<f32>,
    /// Rows of `states`: tokens of the text.
    pub rows: usize,
    /// `[channels]` of aMUSEd's pooled states; empty of a Muse model.
    pub pooled: Vec<f32>,
}

/// One image to generate, or to edit.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// What the image shows; of an edit it may be empty, which is the unconditional text.
    pub prompt: String,
    /// Text between this prompt and another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toward: Option<Toward>,
    /// What guidance leads away from; empty is the unconditional text.
    pub negative: String,
    /// Seed of all noise: the same seed gives the same image.
    pub seed: u64,
    /// Base image or full size.
    pub size: Size,
    /// Where noise comes from.
    #[serde(skip_serializing_if = "Rng::is_default")]
    pub rng: Rng,
    /// What aMUSEd is told of the picture: pixels cut off of a larger one at its left and top; 0, 0 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<[f32; 2]>,
    /// What aMUSEd is told of the picture: its aesthetic score, 6 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aesthetic: Option<f32>,
    /// Settings of the base stage.
    pub base: Overrides,
    /// Settings of the super-res stage.
    pub superres: Overrides,
    /// The image to begin with, and what to change of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edit: Option<Edit>,
    /// The prompt's text states, in place of what the text encoder would make of it ([`crate::Engine::embed`]); JSON does
    /// not hold them.
    #[serde(skip)]
    pub embeddings: Option<Embeddings>,
    /// What cancels it from another thread; JSON cannot hold it.
    #[serde(skip)]
    pub cancel: Option<Cancel>,
}

impl Request {
    /// A request with the model's own settings.
    pub fn new(prompt: impl Into<String>) -> Self {
        Request { prompt: prompt.into(), ..Request::default() }
    }

    /// A request to change an image, with the model's own settings.
    pub fn edit(prompt: impl Into<String>, edit: Edit) -> Self {
        Request { prompt: prompt.into(), edit: Some(edit), ..Request::default() }
    }

    /// Reads a request from JSON; absent fields have their defaults, unknown ones are errors. The image and
    /// the mask of an edit are not in it: set them afterwards.
    pub fn from_json(json: &str) -> Result<Self> {
        let request: Request = serde_json::from_str(json)
            .map_err(|e| Error::option("request", e, "a JSON object with the fields of Request"))?;
        request.validate_settings()?;
        Ok(request)
    }

    /// Checks everything that does not depend on the model.
    pub fn validate(&self) -> Result<()> {
        self.validate_settings()?;
        self.embeddings.as_ref().map_or(Ok(()), Embeddings::validate)?;
        self.edit.as_ref().map_or(Ok(()), Edit::validate_pixels)
    }

    /// Everything but images and masks.
    fn validate_settings(&self) -> Result<()> {
        let empty = |text: &str| text.trim().is_empty();
        if let Some(toward) = &self.toward {
            within("part", toward.part, 0.0..=1.0)?;
        }
        let other = self.toward.as_ref().is_some_and(|toward| empty(&toward.prompt));
        let described = self.edit.is_some() || self.embeddings.is_some() || !empty(&self.prompt);
        if other || !described {
            return Err(Error::option("prompt", "an empty text", "a description of the image"));
        }
        if let Some(edit) = &self.edit {
            edit.validate_settings()?;
        }
        if let Size::Pixels(sides) = self.size
            && let Some(side) = sides.into_iter().find(|side| !(1..=MAX_SIDE).contains(side))
        {
            return Err(Error::option("size", side, format!("1 to {MAX_SIDE} pixels each way")));
        }
        for margin in self.crop.into_iter().flatten() {
            within("crop", margin, 0.0..=65536.0)?;
        }
        self.aesthetic.map_or(Ok(()), |score| within("aesthetic", score, 0.0..=100.0))?;
        for overrides in [&self.base, &self.superres] {
            overrides.validate()?;
        }
        Ok(())
    }

    /// The settings of stage number `index`, coarse to fine.
    pub(crate) fn stage(&self, index: usize) -> &Overrides {
        if index == 0 { &self.base } else { &self.superres }
    }
}

impl Embeddings {
    fn validate(&self) -> Result<()> {
        let values = || self.states.iter().chain(&self.pooled);
        match values().find(|value| !value.is_finite()) {
            Some(value) => Err(Error::option("embeddings", value, "finite numbers")),
            None => Ok(()),
        }
    }
}

impl Overrides {
    fn validate(&self) -> Result<()> {
        if self.steps == Some(0) {
            return Err(Error::option("steps", 0, "at least 1"));
        }
        let ranges = [
            ("guidance", self.guidance),
            ("temperature", self.temperature),
            ("last temperature", self.last_temperature),
            ("token temperature", self.token_temperature),
        ];
        for (name, value) in ranges {
            value.map_or(Ok(()), |value| within(name, value, 0.0..=100.0))?;
        }
        if let Some(GuidanceSchedule::Interval([from, to])) = self.guidance_schedule {
            within("guidance interval", from, 0.0..=1.0)?;
            within("guidance interval", to, from..=1.0)?;
        }
        Ok(())
    }

    /// These settings where given, `defaults` elsewhere.
    pub(crate) fn over(&self, defaults: &DecodeOptions) -> DecodeOptions {
        let guidance = self.guidance.unwrap_or(defaults.guidance);
        DecodeOptions {
            steps: self.steps.unwrap_or(defaults.steps),
            guidance_start: defaults.guidance_start.min(guidance),
            guidance,
            guidance_schedule: self.guidance_schedule.unwrap_or(defaults.guidance_schedule),
            order: self.order.unwrap_or(defaults.order),
            temperature: self.temperature.unwrap_or(defaults.temperature),
            last_temperature: match (self.temperature, self.last_temperature) {
                (None, None) => defaults.last_temperature,
                (_, last) => last,
            },
            token_temperature: self.token_temperature.unwrap_or(defaults.token_temperature),
            top_k: self.top_k.unwrap_or(defaults.top_k),
        }
    }
}
