//! What to generate: checked before any model runs.

use crate::decode::DecodeOptions;
use crate::error::{Error, Result};

/// How far the pipeline goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Size {
    /// Decode the base grid only: the small image.
    Base,
    /// Base, then super-res where the model has one.
    #[default]
    Full,
}

/// Settings of one decode loop; what is absent comes from the model's config.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Overrides {
    /// Decode steps.
    pub steps: Option<usize>,
    /// Guidance scale of the last step.
    pub guidance: Option<f32>,
    /// Temperature of the confidence noise.
    pub temperature: Option<f32>,
    /// Temperature of the token distribution; 0 is greedy.
    pub token_temperature: Option<f32>,
    /// Draw tokens from the `top_k` largest logits; 0 means all.
    pub top_k: Option<usize>,
}

/// One image to generate.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// What the image shows.
    pub prompt: String,
    /// What guidance leads away from; empty is the unconditional text.
    pub negative: String,
    /// Seed of all noise: the same seed gives the same image.
    pub seed: u64,
    /// Base image or full size.
    pub size: Size,
    /// Settings of the base stage.
    pub base: Overrides,
    /// Settings of the super-res stage.
    pub superres: Overrides,
}

impl Request {
    /// A request with the model's own settings.
    pub fn new(prompt: impl Into<String>) -> Self {
        Request { prompt: prompt.into(), ..Request::default() }
    }

    /// Reads a request from JSON; absent fields have their defaults, unknown ones are errors.
    pub fn from_json(json: &str) -> Result<Self> {
        let request: Request = serde_json::from_str(json)
            .map_err(|e| Error::option("request", e, "a JSON object with the fields of Request"))?;
        request.validate()?;
        Ok(request)
    }

    /// Checks everything that does not depend on the model.
    pub fn validate(&self) -> Result<()> {
        if self.prompt.trim().is_empty() {
            return Err(Error::option("prompt", "an empty text", "a description of the image"));
        }
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

impl Overrides {
    fn validate(&self) -> Result<()> {
        if self.steps == Some(0) {
            return Err(Error::option("steps", 0, "at least 1"));
        }
        let ranges = [
            ("guidance", self.guidance, 100.0),
            ("temperature", self.temperature, 100.0),
            ("token temperature", self.token_temperature, 100.0),
        ];
        for (name, value, limit) in ranges {
            if let Some(value) = value
                && !(0.0..=limit).contains(&value)
            {
                return Err(Error::option(name, value, format!("a number from 0 to {limit}")));
            }
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
            temperature: self.temperature.unwrap_or(defaults.temperature),
            token_temperature: self.token_temperature.unwrap_or(defaults.token_temperature),
            top_k: self.top_k.unwrap_or(defaults.top_k),
        }
    }
}
