//! The aMUSEd family (Patil et al., arXiv 2401.01808): CLIP, a U-ViT and a VQ tokenizer from a folder as the
//! Hugging Face hub publishes it, one stage, and diffusers' schedule.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::VqConfig;
use crate::decode::{DecodeOptions, GuidanceSchedule, Order, Start, StepPlan, TorchNoise};
use crate::device::Device;
use crate::edit::Change;
use crate::error::{Error, Result};
use crate::hub::{Folder, MaskingSchedule, weights_file};
use crate::image::Mask;
use crate::models::MaskedModel;
use crate::models::uvit::{Conditions, Uvit};
use crate::pipeline::{Family, Level};
use crate::request::{Embeddings, Overrides, Request, Rng, Size};
use crate::rng::{NoiseKey, Purpose};
use crate::tensor::Tensor;
use crate::text::clip::{Clip, Encoded};
use crate::text::{blend, read, states_of, write};
use crate::tokenizer::Encoded as Tokens;
use crate::tokenizer::clip::ClipTokenizer;
use crate::vq::Vq;
use crate::weights::Reading;

/// Temperature that a single given temperature falls to over the steps, as in diffusers.
pub const LAST_TEMPERATURE: f32 = 0.01;
/// Aesthetic score unless a request names one, as in diffusers.
pub const AESTHETIC: f32 = 6.0;
/// What diffusers' pipelines decode with.
pub const DEFAULTS: DecodeOptions = DecodeOptions {
    steps: 12,
    guidance_start: 10.0,
    guidance: 10.0,
    guidance_schedule: GuidanceSchedule::Constant,
    order: Order::Confidence,
    temperature: 2.0,
    last_temperature: Some(0.0),
    token_temperature: 1.0,
    top_k: 0,
};

/// Most steps: a step has a number in the noise.
const MAX_STEPS: usize = 1000;
/// Most tokens of a picture: attention takes time with their square.
const MAX_TOKENS: usize = 1 << 14;

/// All models of one checkpoint on one device.
pub(crate) struct Amused<D: Device> {
    name: String,
    files: Vec<(String, PathBuf)>,
    masking: MaskingSchedule,
    tokenizer: ClipTokenizer,
    text_encoder: Clip<D>,
    transformer: Uvit<D>,
    unit: usize,           // tokens that the sides of a grid are multiples of
    levels: [Level<D>; 1], // of the size that the model was trained with
}

/// A text, and what else the transformer is told of the picture.
pub(crate) struct Scene<D: Device> {
    text: Encoded<D>,
    notes: Vec<String>,
    crop: [f32; 2],
    aesthetic: f32,
}

impl<D: Device> Scene<D> {
    fn new(text: Encoded<D>, notes: Vec<String>, request: &Request) -> Self {
        let (crop, aesthetic) = (request.crop.unwrap_or_default(), request.aesthetic);
        Scene { text, notes, crop, aesthetic: aesthetic.unwrap_or(AESTHETIC) }
    }
}

impl<D: Device> Amused<D> {
    /// Ids of a text, padded. What does not fit is cut off, as diffusers does, and noted.
    fn ids(&self, name: &str, text: &str, notes: &mut Vec<String>) -> Result<Vec<u32>> {
        let length = self.text_encoder.length();
        let Tokens { mut ids, truncated } = self.tokenizer.encode(text, length)?;
        if truncated > 0 {
            let kept = length - 2; // start and end have a place of their own
            notes.push(format!(
                "the last {truncated} tokens of the {name} were cut off: {kept} fit"
            ));
        }
        ids.resize(length, self.tokenizer.pad());
        Ok(ids)
    }

    /// The grid of a request: that of the size it names, of the image it edits, or the model's own.
    fn grid(&self, request: &Request) -> Result<[usize; 2]> {
        let [level] = &self.levels;
        let pixels = level.vq.grid_factor() * self.unit; // a side is a multiple of them
        let edited =
            request.edit.as_ref().filter(|edit| !matches!(edit.change, Change::Outpaint { .. }));
        let [width, height] = match (request.size, edited) {
            (Size::Pixels(size), _) => {
                if size.iter().any(|side| !side.is_multiple_of(pixels)) {
                    let found = format!("{}x{} pixels", size[0], size[1]);
                    return Err(Error::option(
                        "size",
                        found,
                        format!("multiples of {pixels} pixels"),
                    ));
                }
                size
            }
            (_, Some(edit)) => {
                [edit.image.width, edit.image.height].map(|side| side - side % pixels)
            }
            (_, None) => return Ok(level.grid),
        };
        let grid = [height, width].map(|side| side / level.vq.grid_factor());
        if !(1..=MAX_TOKENS).contains(&(grid[0] * grid[1])) {
            let found = format!("{width}x{height} pixels, {} tokens", grid[0] * grid[1]);
            let expected = format!(
                "a size of at least {pixels} pixels each way and at most {MAX_TOKENS} tokens"
            );
            return Err(Error::option("size", found, expected));
        }
        Ok(grid)
    }

    /// What `--rng torch` cannot reproduce, because diffusers has no such thing.
    fn check_torch(request: &Request) -> Result<()> {
        let Overrides { order, token_temperature, top_k, .. } = request.base;
        let beyond = [
            ("order", order.is_some_and(|order| order != Order::Confidence)),
            ("token temperature", token_temperature.is_some_and(|t| t != 1.0)),
            ("top-k", top_k.is_some_and(|k| k > 0)),
        ];
        if let Some((name, _)) = beyond.into_iter().find(|(_, given)| *given) {
            let expected = "none with rng torch: diffusers has no such setting";
            return Err(Error::option(name, "a setting", expected));
        }
        match request.edit.as_ref().map(|edit| &edit.change) {
            None | Some(Change::Inpaint { .. } | Change::Repaint { .. }) => Ok(()),
            Some(_) => {
                let expected = "counter for this edit, which diffusers does not have";
                Err(Error::option("rng", "torch", expected))
            }
        }
    }
}

impl<D: Device> Family<D> for Amused<D> {
    type Text = Scene<D>;

    fn load(device: &D, path: &Path, reading: &Reading) -> Result<Self> {
        let folder = Folder::open(path, None)?;
        let open = |paths: &[PathBuf], part: &str| reading.open(paths, &weights_file(part));
        let (text, image) = std::thread::scope(|scope| {
            let text = scope.spawn(|| -> Result<_> {
                let tokenizer = ClipTokenizer::open(&folder.tokenizer)?;
                let (ids, rows) = (tokenizer.vocabulary_size(), folder.text_encoder.vocab_size);
                if ids > rows {
                    let problem = format!("{ids} ids; expected at most {rows}, the text encoder's");
                    return Err(Error::model(&folder.tokenizer, problem));
                }
                let weights = open(&folder.text_encoder_weights, "text_encoder")?;
                Ok((tokenizer, Clip::load(device, weights, &folder.text_encoder)?))
            });
            let image = || -> Result<_> {
                let weights = open(&folder.transformer_weights, "transformer")?;
                let transformer = Uvit::load(device, weights, &folder.transformer)?;
                let weights = open(&folder.vqvae_weights, "vqvae")?;
                Ok((transformer, Vq::load(device, weights, &VqConfig::from(&folder.vqvae))?))
            };
            let image = image();
            (text.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), image)
        });
        let ((tokenizer, text_encoder), (transformer, vq)) = (text?, image?);
        let level = Level {
            name: "base",
            grid: [folder.transformer.sample_size; 2],
            mask_token: folder.scheduler.mask_token_id as u32,
            defaults: DEFAULTS,
            vq: Arc::new(vq),
        };
        Ok(Amused {
            name: folder.name(),
            files: folder.files(),
            masking: folder.scheduler.masking_schedule,
            tokenizer,
            text_encoder,
            transformer,
            unit: if folder.transformer.downsample { 2 } else { 1 },
            levels: [level],
        })
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn files(&self) -> &[(String, PathBuf)] {
        &self.files
    }

    fn levels(&self) -> &[Level<D>] {
        &self.levels
    }

    fn levels_for(&self, request: &Request) -> Result<Vec<Level<D>>> {
        if request.superres != Overrides::default() {
            let expected = "none: this model has one stage";
            return Err(Error::option("superres", "settings of a second stage", expected));
        }
        if request.rng == Rng::Torch {
            Self::check_torch(request)?;
        }
        Ok(vec![self.levels[0].with_grid(self.grid(request)?)])
    }

    fn encode_text(
        &self,
        device: &D,
        name: &'static str,
        text: &str,
        request: &Request,
    ) -> Result<Scene<D>> {
        let mut notes = Vec::new();
        let ids = self.ids(name, text, &mut notes)?;
        Ok(Scene::new(self.text_encoder.encode(device, &[&ids])?, notes, request))
    }

    fn notes<'a>(&self, scene: &'a Scene<D>) -> &'a [String] {
        &scene.notes
    }

    /// Mixes states and pooled states; padding is a part of the text.
    fn between(&self, device: &D, from: Scene<D>, to: Scene<D>, part: f32) -> Result<Scene<D>> {
        let text = Encoded {
            states: blend(device, &from.text.states, &to.text.states, part)?,
            pooled: blend(device, &from.text.pooled, &to.text.pooled, part)?,
        };
        let notes = [from.notes, to.notes].concat();
        Ok(Scene { text, notes, crop: from.crop, aesthetic: from.aesthetic })
    }

    fn embeddings(&self, device: &D, scene: &Scene<D>) -> Result<Embeddings> {
        let Encoded { states, pooled } = &scene.text;
        Ok(Embeddings {
            states: read(device, states)?,
            rows: states.shape().rows(),
            pooled: read(device, pooled)?,
        })
    }

    fn embedded(
        &self,
        device: &D,
        Embeddings { states, rows, pooled }: &Embeddings,
        request: &Request,
    ) -> Result<Scene<D>> {
        let (length, [channels, projection]) =
            (self.text_encoder.length(), self.text_encoder.channels());
        if *rows != length || states.len() != length * channels || pooled.len() != projection {
            let found = states_of(*rows, states.len() / rows.max(&1), pooled.len());
            let expected = states_of(length, channels, projection);
            return Err(Error::option("embeddings", found, expected));
        }
        let dtype = self.text_encoder.dtype();
        let text = Encoded {
            states: write(device, states, dtype, [length, channels])?,
            pooled: write(device, pooled, dtype, [1, projection])?,
        };
        Ok(Scene::new(text, Vec::new(), request))
    }

    /// Image to image forgets tokens each by itself: more of one image than of another.
    fn side_by_side(&self, request: &Request) -> bool {
        !matches!(request.edit.as_ref().map(|e| &e.change), Some(Change::Repaint { .. }))
    }

    fn bytes_per_image(&self, _level: usize, grid: [usize; 2]) -> usize {
        self.transformer.bytes_per_image(grid)
    }

    fn prepare<'a>(
        &'a self,
        device: &D,
        _level: usize,
        grid: [usize; 2],
        scenes: &[&Scene<D>],
        _coarse: Option<&Tensor<D::Buffer>>,
        images: usize,
    ) -> Result<impl MaskedModel<D> + 'a> {
        let [height, width] = grid.map(|side| (side * self.levels[0].vq.grid_factor()) as f32);
        let Scene { crop: [left, top], aesthetic, .. } = *scenes[0];
        let texts: Vec<_> = scenes.iter().map(|scene| &scene.text).collect();
        let Encoded { states, pooled } = &Encoded::stacked(device, &texts)?;
        let micro = [width, height, left, top, aesthetic];
        self.transformer.prepare(device, &Conditions { states, pooled, micro }, grid, images)
    }

    /// diffusers' schedule. Where a mask is filled in, it is linear and begins with what is masked.
    fn plan(
        &self,
        Start { cells, masked, first }: Start,
        options: &DecodeOptions,
        request: &Request,
    ) -> Result<Vec<StepPlan>> {
        if options.steps > MAX_STEPS {
            return Err(Error::option("steps", options.steps, format!("1 to {MAX_STEPS}")));
        }
        if masked > 0 && first == options.steps {
            let found = format!("one that runs none of the {first} steps");
            return Err(Error::option("strength", found, "a part that is at least one step"));
        }
        let filled = match request.edit.as_ref().map(|edit| &edit.change) {
            Some(Change::Inpaint { .. } | Change::Outpaint { .. }) => true,
            Some(Change::Repaint { .. } | Change::Resample { .. }) | None => false,
        };
        let schedule = Schedule {
            masking: if filled { MaskingSchedule::Linear } else { self.masking },
            start: first,
            share: if filled { masked as f32 / cells as f32 } else { 1.0 },
        };
        Ok(schedule.plan(cells, masked, options))
    }

    /// Those of whose pixels about half are: diffusers scales the mask down by Lanczos's filter.
    fn marked(&self, mask: &Mask, [rows, columns]: [usize; 2]) -> Vec<bool> {
        mask.filtered(columns, rows).repaint
    }

    /// Each by itself, with the chance that the schedule leaves it masked, as diffusers does; but where all
    /// steps run, all of them.
    fn forget(
        &self,
        cells: usize,
        first: usize,
        steps: usize,
        noise: NoiseKey,
        torch: Option<&mut TorchNoise>,
    ) -> Vec<usize> {
        let mut uniform = vec![0.0; cells];
        match torch {
            Some(torch) => torch.uniform(&mut uniform),
            None => {
                for (i, value) in uniform.iter_mut().enumerate() {
                    let word = noise.words(Purpose::Order, i as u32, 0)[0];
                    *value = (word >> 8) as f32 / (1 << 24) as f32;
                }
            }
        }
        let ratio = ratio(self.masking, first, steps);
        (0..cells).filter(|&cell| uniform[cell] < ratio).collect()
    }
}

/// How an image is decoded: diffusers' `AmusedScheduler` and the pipelines around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// How the share of masked tokens falls.
    pub masking: MaskingSchedule,
    /// First step that is taken: more than 0 where an image is given.
    pub start: usize,
    /// Share of the grid that is masked at first, where the schedule scales with it (inpainting); else 1.
    pub share: f32,
}

impl Schedule {
    /// The steps that decode `masked` of `cells` tokens. As in diffusers all in f32, where cos(π/3)
    /// lies below ½ and 127 of 256 tokens stay masked, and one token stays masked up to the last
    /// step even if it was the only one.
    pub fn plan(&self, cells: usize, masked: usize, options: &DecodeOptions) -> Vec<StepPlan> {
        if masked == 0 {
            return Vec::new();
        }
        let steps = options.steps;
        let mut unknown = masked;
        let plan = (self.start..steps).map(|index| {
            let share = self.share * ratio(self.masking, index + 1, steps);
            let target = (cells as f32 * share).floor() as usize;
            let last = index + 1 == steps;
            let remaining = if last { 0 } else { target.min(unknown - 1).max(1) };
            let step = StepPlan {
                number: index as u16,
                masked: unknown,
                remaining,
                guidance: options.guidance_at(index, steps).max(1.0), // diffusers guides above 1 only
                noise: options.noise(temperature(options, index)),
                token_temperature: options.token_temperature,
                top_k: options.top_k,
            };
            unknown = remaining;
            step
        });
        plan.collect()
    }
}

/// Share of the tokens that is masked when `done` of `steps` steps are.
fn ratio(masking: MaskingSchedule, done: usize, steps: usize) -> f32 {
    let done = done as f32 / steps as f32;
    match masking {
        // By way of f64, so that the cosine is correctly rounded on every platform.
        MaskingSchedule::Cosine => f64::from(done * std::f32::consts::PI / 2.0).cos() as f32,
        MaskingSchedule::Linear => 1.0 - done,
    }
}

/// Temperature of the confidence noise in step `index`.
fn temperature(options: &DecodeOptions, index: usize) -> f32 {
    let (first, last) = (options.temperature, options.last_temperature.unwrap_or(LAST_TEMPERATURE));
    let along = if options.steps == 1 { 0.0 } else { index as f32 / (options.steps - 1) as f32 };
    first + (last - first) * along
}
