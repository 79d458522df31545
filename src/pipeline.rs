//! The page to read first: prompt → text → base loop → super-res → VQ → image.
//!
//! ```text
//! prompt ──tokenizer──▶ ids [L] ──text encoder (frozen)──▶ text [L, text_size]
//! text, all-[MASK] grid ──base decode loop──▶ coarse tokens [h, w]
//! text, coarse tokens, all-[MASK] grid ──super-res decode loop──▶ fine tokens [2h, 2w]
//! tokens ──codebook lookup + VQ decoder──▶ RGB8 [H, W, 3]
//! ```
//!
//! What differs between families of models is behind the trait `Family`; `src/muse.rs` has the two
//! stages above. All else, the decode loop above all, is written once, here and in [`crate::decode`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::decode::{DecodeOptions, OnStep, Stage, Step, StepPlan, decode, plan};
use crate::device::{Device, Masked};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::models::MaskedModel;
use crate::request::{Request, Size};
use crate::tensor::{Precision, Tensor};
use crate::vq::Vq;

/// One stage of a family: a token grid, its VQ tokenizer, and how it is decoded.
pub(crate) struct Level<D: Device> {
    /// `"base"` or `"superres"`.
    pub name: &'static str,
    /// Rows and columns.
    pub grid: [usize; 2],
    /// The id that stands for a masked token.
    pub mask_token: u32,
    /// What a request leaves open.
    pub defaults: DecodeOptions,
    /// Pixels to tokens and back.
    pub vq: Vq<D>,
}

/// The models of one checkpoint, of one family, on one device.
pub(crate) trait Family<D: Device>: Send + Sync + Sized {
    /// The encoded prompts: what [`Family::prepare`] conditions on.
    type Text;

    /// Loads the checkpoint in directory `path`, to compute in `precision`.
    fn load(device: &D, path: &Path, precision: Precision) -> Result<Self>;

    /// What the model is called in reports and image files.
    fn name(&self) -> &str;

    /// Every file of the model that decides about images, in a fixed order: its name and its path.
    fn files(&self) -> &[(String, PathBuf)];

    /// The stages, coarse to fine; at least one.
    fn levels(&self) -> &[Level<D>];

    /// Encodes the prompt, and what guidance leads away from ("" is the unconditional text).
    fn encode_text(&self, device: &D, prompt: &str, negative: &str) -> Result<Self::Text>;

    /// The transformer of stage number `level`, with everything computed that is constant for one image.
    /// `coarse` u32 `[cells]` is the finished grid of the stage before it.
    fn prepare<'a>(
        &'a self,
        device: &D,
        level: usize,
        text: &Self::Text,
        coarse: Option<&Tensor<D::Buffer>>,
    ) -> Result<impl MaskedModel<D> + 'a>;

    /// The steps that decode `masked` positions of stage number `level`.
    fn plan(&self, _level: usize, masked: usize, options: &DecodeOptions) -> Result<Vec<StepPlan>> {
        plan(masked, options)
    }
}

/// A family's models, and how an image is made with them.
pub(crate) struct Pipeline<D: Device, F> {
    pub(crate) device: D,
    pub(crate) family: F,
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

/// What one stage of one image made, and the time it took.
struct Finished<D: Device> {
    masked: Masked<D::Buffer>,
    steps: Vec<Duration>,
    end: D::Mark,
}

impl<D: Device, F: Family<D>> Pipeline<D, F> {
    /// Loads the checkpoint in directory `path`.
    pub(crate) fn load(device: D, path: &Path, precision: Precision) -> Result<Self> {
        let family = F::load(&device, path, precision)?;
        Ok(Pipeline { device, family })
    }

    /// Makes one image.
    pub(crate) fn generate(
        &self,
        request: &Request,
        mut on_step: Option<&mut OnStep<'_>>,
    ) -> Result<Generated> {
        request.validate()?;
        let device = &self.device;

        let start = device.mark()?;
        let text = self.family.encode_text(device, &request.prompt, &request.negative)?;

        let text_done = device.mark()?;
        let levels = self.levels(request.size);
        let mut stages: Vec<Finished<D>> = Vec::new();
        for (index, level) in levels.iter().enumerate() {
            let tokens = vec![level.mask_token; level.grid[0] * level.grid[1]];
            let coarse = stages.last().map(|stage| &stage.masked.tokens);
            stages.push(self.stage(index, request, &text, coarse, &tokens, &mut on_step)?);
        }

        let finest = stages.len() - 1;
        let image = levels[finest].picture(device, &stages[finest].masked.tokens)?;
        let image_done = device.mark()?;

        let mut timings = Timings {
            text: device.elapsed(&start, &text_done)?,
            base: device.elapsed(&text_done, &stages[0].end)?,
            base_steps: std::mem::take(&mut stages[0].steps),
            vq: device.elapsed(&stages[finest].end, &image_done)?,
            ..Timings::default()
        };
        if let [base, superres] = &mut stages[..] {
            timings.superres = device.elapsed(&base.end, &superres.end)?;
            timings.superres_steps = std::mem::take(&mut superres.steps);
        }
        let mut tokens = stages.iter().map(|stage| device.download(&stage.masked.tokens));
        Ok(Generated {
            image,
            base_tokens: tokens.next().transpose()?.unwrap_or_default(),
            superres_tokens: tokens.next().transpose()?,
            timings,
        })
    }

    /// Decodes what is masked of `tokens`, the grid of stage number `index`.
    fn stage(
        &self,
        index: usize,
        request: &Request,
        text: &F::Text,
        coarse: Option<&Tensor<D::Buffer>>,
        tokens: &[u32],
        on_step: &mut Option<&mut OnStep<'_>>,
    ) -> Result<Finished<D>> {
        let device = &self.device;
        let level = &self.family.levels()[index];
        let options = request.stage(index).over(&level.defaults);
        let stage = Stage {
            name: level.name,
            index: index as u16,
            grid: level.grid,
            mask_token: level.mask_token,
            seed: request.seed,
        };
        let mut masked = Masked::new(device, tokens, stage.mask_token)?;
        let plan = self.family.plan(index, masked.positions.shape().elements(), &options)?;
        let mut model = self.family.prepare(device, index, text, coarse)?;
        let on_step = on_step.as_deref_mut();
        let steps = decode(device, &mut model, &mut masked, &plan, stage, on_step)?;
        Ok(Finished { masked, steps, end: device.mark()? })
    }

    /// The stages of an image of this size.
    fn levels(&self, size: Size) -> &[Level<D>] {
        let levels = self.family.levels();
        match size {
            Size::Base => &levels[..1],
            Size::Full => levels,
        }
    }

    /// The picture of a grid that is still being decoded; masked cells are drawn as such.
    pub(crate) fn preview(&self, step: &Step<'_>) -> Result<Image> {
        let levels = self.family.levels();
        let level = levels.iter().find(|level| level.name == step.stage).unwrap_or(&levels[0]);
        let known = |&token: &u32| if token == step.mask_token { 0 } else { token };
        let known: Vec<u32> = step.tokens.iter().map(known).collect();
        let mut image = level.picture(&self.device, &self.device.upload(&known, [known.len()])?)?;
        let (columns, side) = (level.grid[1], level.vq.grid_factor());
        let masked = step.tokens.iter().enumerate().filter(|&(_, &t)| t == step.mask_token);
        for (cell, _) in masked {
            image.hatch(cell % columns * side, cell / columns * side, side);
        }
        Ok(image)
    }

    /// Tokens of an image in the base (or finest) tokenizer; its sides are the tokenizer's.
    pub(crate) fn encode_image(&self, image: &Image, size: Size) -> Result<Vec<u32>> {
        let levels = self.levels(size);
        let level = &levels[levels.len() - 1];
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
    fn picture(&self, device: &D, tokens: &Tensor<D::Buffer>) -> Result<Image> {
        let pixels = self.vq.decode(device, tokens, self.grid)?;
        let (height, width) = (pixels.dim(0), pixels.dim(1));
        Ok(Image { width, height, rgb: device.download(&pixels)? })
    }
}
