//! The page to read first: prompt → text → base loop → super-res → VQ → image.
//!
//! ```text
//! prompt ──tokenizer──▶ ids [L] ──text encoder (frozen)──▶ text [L, text_size]
//! text, all-[MASK] grid ──base decode loop──▶ coarse tokens [h, w]
//! text, coarse tokens, all-[MASK] grid ──super-res decode loop──▶ fine tokens [2h, 2w]
//! tokens ──codebook lookup + VQ decoder──▶ RGB8 [H, W, 3]
//! ```

use std::path::Path;
use std::time::Duration;

use crate::config::Config;
use crate::decode::{DecodeOptions, OnStep, Stage, decode};
use crate::device::{Device, Masked};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::models::muse::{Muse, Text};
use crate::request;
use crate::request::Request;
use crate::text::bert::Bert;
use crate::tokenizer::Tokenizer;
use crate::vq::Vq;
use crate::weights::Weights;

/// A transformer with the tokenizer of its grid.
struct Level<D: Device> {
    model: Muse<D>,
    vq: Vq<D>,
    grid: [usize; 2],
    defaults: DecodeOptions,
}

/// All models of one checkpoint on one device.
pub(crate) struct Pipeline<D: Device> {
    pub(crate) device: D,
    pub(crate) config: Config,
    tokenizer: Tokenizer,
    text_encoder: Bert<D>,
    base: Level<D>,
    superres: Option<Level<D>>,
}

/// Where the time of one generation went.
#[derive(Clone, Debug, Default)]
pub struct Timings {
    /// Tokenizing and text encoding, both prompts.
    pub text: Duration,
    /// The base stage.
    pub base: Duration,
    /// Each step of its decode loop.
    pub base_steps: Vec<Duration>,
    /// The super-res stage; zero when it did not run.
    pub superres: Duration,
    /// Each step of its decode loop.
    pub superres_steps: Vec<Duration>,
    /// The VQ decoder.
    pub vq: Duration,
}

impl Timings {
    /// From the call to the start of the first decode step: text, and what is prepared per image.
    pub fn first_step(&self) -> Duration {
        self.text + self.base.saturating_sub(self.base_steps.iter().sum())
    }
}

/// A finished image with the tokens it was decoded from.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The picture.
    pub image: Image,
    /// The base grid, row-major.
    pub base_tokens: Vec<u32>,
    /// The super-res grid, row-major, when that stage ran.
    pub superres_tokens: Option<Vec<u32>>,
    /// Where the time went.
    pub timings: Timings,
}

impl<D: Device> Pipeline<D> {
    /// Loads the checkpoint in directory `path`, its parts in parallel.
    pub(crate) fn load(device: D, path: &Path) -> Result<Self> {
        let config = Config::read(path)?;
        let open = |file: &str| Weights::open(path.join(file));
        let d = &device;
        let (text, image) = std::thread::scope(|scope| {
            let text = scope.spawn(|| -> Result<_> {
                let tokenizer = Tokenizer::open(path.join("tokenizer.json"))?;
                let weights = open("text_encoder.safetensors")?;
                Ok((tokenizer, Bert::load(d, weights, &config.text_encoder)?))
            });
            let image = || -> Result<_> {
                let base = Level {
                    model: Muse::load(d, open("base.safetensors")?, &config.base)?,
                    vq: Vq::load(d, open("vq_base.safetensors")?, &config.vq_base)?,
                    grid: config.base.grid,
                    defaults: config.base.decode,
                };
                let Some((model, vq)) = config.superres.as_ref().zip(config.vq_superres.as_ref())
                else {
                    return Ok((base, None));
                };
                let superres = Level {
                    model: Muse::load(d, open("superres.safetensors")?, model)?,
                    vq: Vq::load(d, open("vq_superres.safetensors")?, vq)?,
                    grid: model.grid,
                    defaults: model.decode,
                };
                Ok((base, Some(superres)))
            };
            let image = image();
            (text.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), image)
        });
        let ((tokenizer, text_encoder), (base, superres)) = (text?, image?);
        Ok(Pipeline { device, config, tokenizer, text_encoder, base, superres })
    }

    /// Makes one image.
    pub(crate) fn generate(
        &self,
        request: &Request,
        mut on_step: Option<&mut OnStep<'_>>,
    ) -> Result<Generated> {
        request.validate()?;
        let device = &self.device;
        let superres = self.superres.as_ref().filter(|_| request.size == request::Size::Full);
        let base_options = request.base.over(&self.base.defaults);
        let superres_options = superres.map(|level| request.superres.over(&level.defaults));

        let start = device.mark()?;
        let text = self.encode_text(request)?;

        let text_done = device.mark()?;
        let (base, base_steps) =
            self.base.run(device, &text, None, &base_options, 0, request.seed, &mut on_step)?;

        let base_done = device.mark()?;
        let mut superres_steps = Vec::new();
        let fine = match superres.zip(superres_options) {
            Some((level, options)) => {
                let coarse = Some(&base.tokens);
                let (fine, steps) =
                    level.run(device, &text, coarse, &options, 1, request.seed, &mut on_step)?;
                superres_steps = steps;
                Some(fine)
            }
            None => None,
        };

        let superres_done = device.mark()?;
        let image = match (superres, &fine) {
            (Some(level), Some(fine)) => level.picture(device, &fine.tokens)?,
            _ => self.base.picture(device, &base.tokens)?,
        };
        let image_done = device.mark()?;

        let timings = Timings {
            text: device.elapsed(&start, &text_done)?,
            base: device.elapsed(&text_done, &base_done)?,
            base_steps,
            superres: match superres {
                Some(_) => device.elapsed(&base_done, &superres_done)?,
                None => Duration::ZERO,
            },
            superres_steps,
            vq: device.elapsed(&superres_done, &image_done)?,
        };

        Ok(Generated {
            image,
            base_tokens: device.download(&base.tokens)?,
            superres_tokens: fine.map(|fine| device.download(&fine.tokens)).transpose()?,
            timings,
        })
    }

    /// Text states of the prompt, then of the negative prompt ("" is the unconditional text).
    fn encode_text(&self, request: &Request) -> Result<Text<D>> {
        let limit = self.config.text_encoder.max_length;
        let tokens = |name, prompt: &str| {
            let encoded = self.tokenizer.encode(prompt, limit)?;
            if encoded.truncated > 0 {
                let found = format!("a text of {} tokens", encoded.ids.len() + encoded.truncated);
                return Err(Error::option(name, found, format!("at most {limit} tokens")));
            }
            Ok(encoded.ids)
        };
        let prompt = tokens("prompt", &request.prompt)?;
        let negative = tokens("negative prompt", &request.negative)?;
        let states = self.text_encoder.encode(&self.device, [&prompt, &negative])?;
        Ok(Text { states, lengths: [prompt.len(), negative.len()], batch: 2 })
    }

    /// The picture of a grid that is still being decoded; masked cells are drawn as such.
    pub(crate) fn preview(&self, grid: [usize; 2], tokens: &[u32], mask: u32) -> Result<Image> {
        let level = match &self.superres {
            Some(level) if level.grid == grid => level,
            _ => &self.base,
        };
        let known: Vec<u32> = tokens.iter().map(|&t| if t == mask { 0 } else { t }).collect();
        let mut image = level.picture(&self.device, &self.device.upload(&known, [known.len()])?)?;
        let side = level.vq.grid_factor();
        for (cell, _) in tokens.iter().enumerate().filter(|&(_, &token)| token == mask) {
            image.hatch(cell % grid[1] * side, cell / grid[1] * side, side);
        }
        Ok(image)
    }

    /// Tokens of an image in the base (or super-res) tokenizer; its sides are the tokenizer's.
    pub(crate) fn encode_image(&self, image: &Image, size: request::Size) -> Result<Vec<u32>> {
        let level = match (&self.superres, size) {
            (Some(level), request::Size::Full) => level,
            _ => &self.base,
        };
        let side = level.grid.map(|n| n * level.vq.grid_factor());
        if [image.height, image.width] != side {
            let found = format!("{}×{} pixels", image.width, image.height);
            return Err(Error::option("image", found, format!("{}×{} pixels", side[1], side[0])));
        }
        let pixels = self.device.upload(&image.rgb, [image.height, image.width, 3])?;
        self.device.download(&level.vq.encode(&self.device, &pixels)?)
    }
}

impl<D: Device> Level<D> {
    /// Decodes this level's grid from all-masked.
    #[allow(clippy::too_many_arguments)]
    fn run(
        &self,
        device: &D,
        text: &Text<D>,
        coarse: Option<&crate::tensor::Tensor<D::Buffer>>,
        options: &DecodeOptions,
        index: u16,
        seed: u64,
        on_step: &mut Option<&mut OnStep<'_>>,
    ) -> Result<(Masked<D::Buffer>, Vec<Duration>)> {
        let stage = Stage {
            name: if index == 0 { "base" } else { "superres" },
            index,
            grid: self.grid,
            mask_token: self.model.mask_token(),
            seed,
        };
        let tokens = vec![stage.mask_token; self.model.positions()];
        let mut masked = Masked::new(device, &tokens, stage.mask_token)?;
        let mut model = self.model.prepare(device, text, coarse)?;
        let on_step = on_step.as_deref_mut();
        let steps = decode(device, &mut model, &mut masked, options, stage, on_step)?;
        Ok((masked, steps))
    }

    fn picture(&self, device: &D, tokens: &crate::tensor::Tensor<D::Buffer>) -> Result<Image> {
        let pixels = self.vq.decode(device, tokens, self.grid)?;
        let (height, width) = (pixels.dim(0), pixels.dim(1));
        Ok(Image { width, height, rgb: device.download(&pixels)? })
    }
}
