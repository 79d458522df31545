//! The page to read first: prompt → text → base loop → super-res → VQ → image.
//!
//! ```text
//! prompt ──tokenizer──▶ ids [L] ──text encoder (frozen)──▶ text [L, text_size]
//! text, all-[MASK] grid ──base decode loop──▶ coarse tokens [h, w]
//! text, coarse tokens, all-[MASK] grid ──super-res decode loop──▶ fine tokens [2h, 2w]
//! tokens ──codebook lookup + VQ decoder──▶ RGB8 [H, W, 3]
//! ```
//!
//! An edit begins with an image's tokens instead of masks only (`src/pipeline/edit.rs`).
//!
//! What differs between families of models is behind the trait `Family`; `src/muse.rs` has the two
//! stages above. All else, the decode loop above all, is written once, here and in [`crate::decode`].

mod edit;
mod negative;
mod parts;
mod probe;

use std::cell::RefCell;
use std::f64::consts::FRAC_PI_2;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::decode::{
    DecodeOptions, OnStep, Stage, Start, StepPlan, TorchNoise, decode_with, drawn,
};
use crate::device::{Device, Masked};
use crate::edit::touched;
use crate::error::Result;
use crate::image::{Image, Mask};
use crate::models::MaskedModel;
use crate::request::{Embeddings, Request, Rng};
use crate::rng::NoiseKey;
use crate::spans;
use crate::tensor::Tensor;
use crate::vq::Vq;
use crate::weights::Reading;

use negative::{Begun, Negatives, Texts};
pub use probe::Probe;

/// Most images that are decoded side by side: more of them gain nothing, and make progress coarse.
const MAX_BATCH: usize = 8;

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
    pub vq: Arc<Vq<D>>,
}

/// The models of one checkpoint, of one family, on one device.
pub(crate) trait Family<D: Device>: Send + Sync + Sized {
    /// An encoded text: what [`Family::prepare`] conditions on.
    type Text: Send + Sync;

    /// Loads the checkpoint in directory `path`.
    fn load(device: &D, path: &Path, reading: &Reading) -> Result<Self>;

    /// What the model is called in reports and image files.
    fn name(&self) -> &str;

    /// Every file of the model that decides about images, in a fixed order: its name and its path.
    fn files(&self) -> &[(String, PathBuf)];

    /// The stages, coarse to fine; at least one.
    fn levels(&self) -> &[Level<D>];

    /// The stages that a request runs, coarse to fine, with its grids.
    ///
    /// # Errors
    /// [`Error::Option`] for what a request asks and this family does not have.
    fn levels_for(&self, request: &Request) -> Result<Vec<Level<D>>>;

    /// Encodes a text; "" is the unconditional one. `name` is what an error calls it.
    fn encode_text(
        &self,
        device: &D,
        name: &'static str,
        text: &str,
        request: &Request,
    ) -> Result<Self::Text>;

    /// What to know of a text, for the user.
    fn notes<'a>(&self, _text: &'a Self::Text) -> &'a [String] {
        &[]
    }

    /// The text on the way from one to another, at `part` from 0 to 1.
    fn between(
        &self,
        device: &D,
        from: Self::Text,
        to: Self::Text,
        part: f32,
    ) -> Result<Self::Text>;

    /// The states of a text.
    fn embeddings(&self, device: &D, text: &Self::Text) -> Result<Embeddings>;

    /// A text of such states.
    ///
    /// # Errors
    /// [`Error::Option`] for those of another model.
    fn embedded(
        &self,
        device: &D,
        embeddings: &Embeddings,
        request: &Request,
    ) -> Result<Self::Text>;

    /// Whether the images of a request, of seeds that follow one another, can be decoded side by side: whether as
    /// many tokens are masked in each of them.
    fn side_by_side(&self, _request: &Request) -> bool {
        true
    }

    /// Bytes that decoding takes for each image of `grid` tokens in stage number `level`.
    fn bytes_per_image(&self, level: usize, grid: [usize; 2]) -> usize;

    /// The transformer of stage number `level`, with everything computed that is constant for `images` images of
    /// `grid` tokens. `texts` are the prompt's and, for guidance, the negative one. `coarse` u32 `[images*cells]` are the finished grids of the stage before it.
    fn prepare<'a>(
        &'a self,
        device: &D,
        level: usize,
        grid: [usize; 2],
        texts: &[&Self::Text],
        coarse: Option<&Tensor<D::Buffer>>,
        images: usize,
    ) -> Result<impl MaskedModel<D> + 'a>;

    /// The steps that decode a stage.
    fn plan(
        &self,
        start: Start,
        options: &DecodeOptions,
        _request: &Request,
    ) -> Result<Vec<StepPlan>> {
        start.plan(options)
    }

    /// The tokens of a grid that inpainting masks: those with a pixel of the mask, which is as large as the
    /// grid's picture.
    fn marked(&self, mask: &Mask, grid: [usize; 2]) -> Vec<bool> {
        touched(mask, grid)
    }

    /// The tokens of `cells` that image-to-image forgets to begin at step `first` of `steps`: as many as the
    /// cosine schedule leaves masked there. `torch` is the noise of a family that has it.
    fn forget(
        &self,
        cells: usize,
        first: usize,
        steps: usize,
        noise: NoiseKey,
        _torch: Option<&mut TorchNoise>,
    ) -> Vec<usize> {
        let ratio = (FRAC_PI_2 * first as f64 / steps as f64).cos();
        drawn(&vec![0.0; cells], (cells as f64 * ratio + 1e-9).floor() as usize, noise)
    }
}

/// A family's models, and how an image is made with them.
pub(crate) struct Pipeline<D: Device, F: Family<D>> {
    pub(crate) device: D,
    pub(crate) family: F,
    negatives: Negatives<D, F::Text>,
}

/// Where the time of one generation went: that of all images which were made side by side.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Timings {
    /// Tokenizing and text encoding, all prompts.
    pub text: Duration,
    /// The VQ encoders, of an edit.
    pub encode: Duration,
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
        self.text + self.encode + self.base.saturating_sub(self.base_steps.iter().sum())
    }
}

/// A finished image with the tokens it was decoded from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Generated {
    /// The picture.
    pub image: Image,
    /// The base grid, row-major; of an outpainted image that of all windows, which may be a little larger
    /// than the image.
    pub base_tokens: Vec<u32>,
    /// The super-res grid, row-major, when that stage ran.
    pub superres_tokens: Option<Vec<u32>>,
    /// Images that were made side by side, this one among them.
    pub batch: usize,
    /// Where the time went, that of all of them.
    pub timings: Timings,
    /// What to know of it besides, as that a text was cut off.
    pub notes: Vec<String>,
}

/// One request under way, for one image or several.
struct Run<'a, D: Device, F: Family<D>> {
    device: &'a D,
    family: &'a F,
    levels: Vec<Level<D>>,
    request: &'a Request,
    images: usize, // the first one with the request's seed, the others with those that follow
    texts: Texts<D, F::Text>,
    torch: Option<RefCell<TorchNoise>>, // instead of counter-based noise
}

/// What one stage made, and the time it took.
struct Finished<D: Device> {
    tokens: Tensor<D::Buffer>, // u32 [images*cells]
    /// Rows and columns.
    grid: [usize; 2],
    steps: Vec<Duration>,
    end: D::Mark,
}

impl<D: Device, F: Family<D>> Pipeline<D, F> {
    /// Loads the checkpoint in directory `path`.
    pub(crate) fn load(device: D, path: &Path, reading: &Reading) -> Result<Self> {
        let family = F::load(&device, path, reading)?;
        Ok(Self::new(device, family))
    }

    /// Of a family that is loaded.
    pub(crate) fn new(device: D, family: F) -> Self {
        Pipeline { device, family, negatives: Negatives::new() }
    }

    /// Forgets what images have in common: the next one is made as the first one was.
    pub(crate) fn forget(&self) {
        self.negatives.forget();
    }

    /// How many images of a request, at most `count`, are made side by side: as many as half of the free memory is
    /// enough for.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub(crate) fn batch(&self, request: &Request, count: usize) -> Result<usize> {
        request.validate()?;
        let levels = self.family.levels_for(request)?;
        if request.rng == Rng::Torch || !self.family.side_by_side(request) {
            return Ok(1);
        }
        let bytes =
            levels.iter().enumerate().map(|(i, level)| self.family.bytes_per_image(i, level.grid));
        let fit = self.device.free_memory() / 2 / bytes.max().unwrap_or(1).max(1);
        Ok(fit.min(MAX_BATCH).min(count).max(1))
    }

    /// Makes images side by side, `images` of them, of seeds from the request's on.
    pub(crate) fn generate(
        &self,
        request: &Request,
        images: usize,
        mut on_step: Option<&mut OnStep<'_>>,
    ) -> Result<Vec<Generated>> {
        request.validate()?;
        let device = &self.device;

        let levels = self.family.levels_for(request)?;
        let torch = (request.rng == Rng::Torch)
            .then(|| RefCell::new(TorchNoise::new(request.seed, levels[0].vq.codes())));

        let start = device.mark()?;
        let texts = {
            let _span = spans::stage("text");
            self.encode_texts(request)?
        };
        let family = &self.family;
        let run = Run { device, family, levels, request, images, texts, torch };

        let text_done = device.mark()?;
        let edit = request.edit.as_ref();
        let source = edit.map(|edit| {
            let _span = spans::stage("encode");
            run.encode(edit)
        });
        let source = source.transpose()?;

        let encoded = device.mark()?;
        let mut stages = match edit.zip(source.as_ref()) {
            Some((edit, source)) => run.edit(edit, source, &mut on_step)?,
            None => run.stages(&run.masked(), 0, &mut on_step)?,
        };

        let _span = spans::stage("vq");
        let finest = stages.len() - 1;
        let tokens = stages.iter().map(|stage| device.download(&stage.tokens));
        let tokens: Vec<Vec<u32>> = tokens.collect::<Result<_>>()?;
        let tokens_of = |stage: usize, image: usize| -> &[u32] {
            let cells = tokens[stage].len() / images;
            &tokens[stage][image * cells..][..cells]
        };
        let mut pictures = Vec::new();
        for image in 0..images {
            let tokens = tokens_of(finest, image);
            let tokens = device.upload(tokens, [tokens.len()])?;
            let picture = run.levels[finest].picture(device, &tokens, stages[finest].grid)?;
            pictures.push(match edit.zip(source.as_ref()) {
                Some((edit, source)) => source.compose(edit, picture),
                None => picture,
            });
        }
        let image_done = device.mark()?;

        let mut timings = Timings {
            text: device.elapsed(&start, &text_done)?,
            encode: device.elapsed(&text_done, &encoded)?,
            base: device.elapsed(&encoded, &stages[0].end)?,
            base_steps: std::mem::take(&mut stages[0].steps),
            vq: device.elapsed(&stages[finest].end, &image_done)?,
            ..Timings::default()
        };
        if let [base, superres] = &mut stages[..] {
            timings.superres = device.elapsed(&base.end, &superres.end)?;
            timings.superres_steps = std::mem::take(&mut superres.steps);
        }
        let generated = |(i, image)| Generated {
            image,
            base_tokens: tokens_of(0, i).to_vec(),
            superres_tokens: (finest > 0).then(|| tokens_of(finest, i).to_vec()),
            batch: images,
            timings: timings.clone(),
            notes: run.texts.both().map(|text| run.family.notes(text)).concat(),
        };
        Ok(pictures.into_iter().enumerate().map(generated).collect())
    }

    fn encode_texts(&self, request: &Request) -> Result<Texts<D, F::Text>> {
        let encode = |name, text: &str| self.family.encode_text(&self.device, name, text, request);
        let mut prompt = match &request.embeddings {
            Some(embeddings) => self.family.embedded(&self.device, embeddings, request)?,
            None => encode("prompt", &request.prompt)?,
        };
        if let Some(toward) = &request.toward {
            let other = encode("prompt", &toward.prompt)?;
            prompt = self.family.between(&self.device, prompt, other, toward.part)?;
        }
        let negative = || encode("negative prompt", &request.negative);
        Ok(Texts { prompt, negative: self.negatives.of(request, negative)? })
    }
}

impl<D: Device, F: Family<D>> Run<'_, D, F> {
    /// Settings of stage number `index`.
    fn options(&self, index: usize) -> DecodeOptions {
        self.request.stage(index).over(&self.levels[index].defaults)
    }

    /// Grids of masks, those of all images for each stage: what they begin with.
    fn masked(&self) -> Vec<Vec<u32>> {
        let cells = |level: &Level<D>| level.grid[0] * level.grid[1];
        let masked = |level: &Level<D>| vec![level.mask_token; self.images * cells(level)];
        self.levels.iter().map(masked).collect()
    }

    /// Decodes what is masked of `grids`, stage by stage; the first one from step `first` on.
    fn stages(
        &self,
        grids: &[Vec<u32>],
        first: usize,
        on_step: &mut Option<&mut OnStep<'_>>,
    ) -> Result<Vec<Finished<D>>> {
        let mut stages: Vec<Finished<D>> = Vec::new();
        for (index, tokens) in grids.iter().enumerate() {
            let coarse = stages.last().map(|stage| &stage.tokens);
            let first = if index == 0 { first } else { 0 };
            let on_step = on_step.as_deref_mut();
            let (tokens, steps) = self.fill([index, 0], tokens, coarse, first, on_step)?;
            let grid = self.levels[index].grid;
            stages.push(Finished { tokens, grid, steps, end: self.device.mark()? });
        }
        Ok(stages)
    }

    /// The decode loop of stage number `index`; each window has noise of its own.
    fn stage(&self, index: usize, window: usize) -> Stage {
        let level = &self.levels[index];
        Stage {
            name: level.name,
            index: (index + window * self.levels.len()) as u16,
            grid: level.grid,
            mask_token: level.mask_token,
            seed: self.request.seed,
            order: self.options(index).order,
        }
    }

    /// Decodes what is masked of `tokens`, a window of stage number `index` of every image, from step `first` on.
    fn fill(
        &self,
        [index, window]: [usize; 2],
        tokens: &[u32],
        coarse: Option<&Tensor<D::Buffer>>,
        first: usize,
        on_step: Option<&mut OnStep<'_>>,
    ) -> Result<(Tensor<D::Buffer>, Vec<Duration>)> {
        let device = self.device;
        let stage = self.stage(index, window);
        let _span = spans::stage(stage.name);
        let masked = tokens.iter().filter(|&&token| token == stage.mask_token).count();
        let start =
            Start { cells: tokens.len() / self.images, masked: masked / self.images, first };
        let plan = self.family.plan(start, &self.options(index), self.request)?;
        if plan.is_empty() {
            return Ok((device.upload(tokens, [tokens.len()])?, Vec::new()));
        }
        let unconditional = match coarse {
            None => self.first_step(tokens, stage.grid, &plan)?,
            Some(_) => None,
        };
        let mut masked = Masked::of_images(device, tokens, stage.mask_token, self.images)?;
        let model = self.family.prepare(
            device,
            index,
            stage.grid,
            &self.texts.both(),
            coarse,
            self.images,
        )?;
        let mut model = Begun { model, unconditional, begun: false };
        let mut torch = self.torch.as_ref().map(RefCell::borrow_mut);
        let torch = torch.as_deref_mut();
        let steps = decode_with(device, &mut model, &mut masked, &plan, stage, torch, on_step)?;
        Ok((masked.tokens, steps))
    }
}

impl<D: Device> Level<D> {
    /// The same stage with another grid, or the same one.
    pub(crate) fn with_grid(&self, grid: [usize; 2]) -> Self {
        let Level { name, mask_token, defaults, ref vq, .. } = *self;
        Level { name, grid, mask_token, defaults, vq: Arc::clone(vq) }
    }

    /// Height and width of the grid's picture, in pixels.
    pub(crate) fn side(&self) -> [usize; 2] {
        self.grid.map(|n| n * self.vq.grid_factor())
    }

    /// Tokens of an image whose sides are multiples of the grid factor.
    fn encode(&self, device: &D, image: &Image) -> Result<Vec<u32>> {
        let pixels = device.upload(&image.rgb, [image.height, image.width, 3])?;
        device.download(&self.vq.encode(device, &pixels)?)
    }

    /// Picture of a grid of any size.
    fn picture(&self, device: &D, tokens: &Tensor<D::Buffer>, grid: [usize; 2]) -> Result<Image> {
        let pixels = self.vq.decode(device, tokens, grid)?;
        let (height, width) = (pixels.dim(0), pixels.dim(1));
        Ok(Image { width, height, rgb: device.download(&pixels)? })
    }
}
