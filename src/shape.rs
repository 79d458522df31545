//! Models of known sizes whose weights are noise: what a step of them costs, without a checkpoint.
//!
//! The transformers, the VQ tokenizers and, where there is one for them, the text encoders are those of the
//! families; there is no tokenizer, so that a text is as long as [`Shape::describe`] says, whatever the prompt.

mod sizes;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::amused::{DEFAULTS, Schedule};
use crate::config::{Config, TextConfig, TransformerConfig, VqConfig};
use crate::decode::{DecodeOptions, Start, StepPlan};
use crate::device::{Device, Masked};
use crate::error::{Error, Result};
use crate::hub::{ClipConfig, MaskingSchedule, UvitConfig, VqModelConfig};
use crate::models::MaskedModel;
use crate::models::muse::{Muse, Text};
use crate::models::uvit::{Conditions, Uvit};
use crate::pipeline::{Family, Level};
use crate::request::{Embeddings, Request, Size};
use crate::tensor::{DType, Precision, Tensor};
use crate::text::bert::Bert;
use crate::text::clip::{Clip, Encoded};
use crate::vq::Vq;
use crate::weights::{Reading, Weights};

pub use sizes::NAMES;

/// Rows of the prompt's text states, and of the empty text's, where no encoder says otherwise.
const TEXT_ROWS: [usize; 2] = [77, 1];

/// Sizes of a whole model.
#[derive(Clone, Debug)]
pub struct Shape {
    name: String,
    sizes: Sizes,
}

#[derive(Clone, Debug)]
enum Sizes {
    /// `text`: the encoder, or else its states are noise.
    Muse {
        text: Option<TextConfig>,
        stages: Vec<Stage>,
    },
    Amused {
        text: ClipConfig,
        transformer: Box<UvitConfig>,
        vq: Box<VqModelConfig>,
    },
}

/// One stage of a Muse model.
#[derive(Clone, Debug)]
struct Stage {
    name: &'static str,
    transformer: TransformerConfig,
    vq: VqConfig,
}

impl Shape {
    /// The shape of that name, one of [`NAMES`], or of a Muse model's `config.json` at that path.
    ///
    /// # Errors
    /// [`Error::Option`] for a name that is neither; [`Error::Model`] for a config that cannot be used.
    pub fn named(name: &str) -> Result<Self> {
        if let Some(sizes) = sizes::of(name) {
            return Ok(Shape { name: name.into(), sizes });
        }
        let path = Path::new(name);
        if !path.is_file() {
            let expected = format!("{} or the path of a config.json", NAMES.join(", "));
            return Err(Error::option("shape", name, expected));
        }
        let json = std::fs::read(path).map_err(Error::io(path, "reading the config"))?;
        let config = Config::parse(&json, path)?;
        Ok(Shape { name: config.name.clone(), sizes: Sizes::from(config) })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Hash of all sizes, 16 hexadecimal digits.
    pub fn hash(&self) -> String {
        blake3::hash(format!("{self:?}").as_bytes()).to_hex()[..16].to_string()
    }

    /// What is drawn, and what the paper leaves open and was chosen here.
    pub fn describe(&self) -> String {
        let parameters = self.parameters() as f64 / 1e6;
        let text = match &self.sizes {
            Sizes::Muse { text: None, .. } => format!(
                "no text encoder: states of {} and {} rows are noise",
                TEXT_ROWS[0], TEXT_ROWS[1]
            ),
            Sizes::Muse { text: Some(_), .. } => {
                format!("texts of {} and {} tokens", TEXT_ROWS[0].min(16), 2)
            }
            Sizes::Amused { text, .. } => {
                format!("texts of {} tokens", text.max_position_embeddings)
            }
        };
        format!("weights are noise, {parameters:.0} M parameters; {text}")
    }

    /// What the paper reports of it, and what that is.
    pub fn reference(&self) -> Option<&'static str> {
        Some(match self.name.as_str() {
            "muse-3b" => {
                "Muse-3B in the paper: 0.5 s for an image of 256 pixels on TPUv4, chips not given, T5-XXL and VQ \
                 with it; here this device, without T5-XXL"
            }
            "muse-superres" => {
                "Muse-3B in the paper: 1.3 s for an image of 512 pixels on TPUv4, chips not given, base, T5-XXL and \
                 VQ with it; here this device, the second stage alone"
            }
            _ => return None,
        })
    }

    /// Bytes that loading and decoding it take, roughly.
    pub fn bytes(&self, precision: Precision) -> u64 {
        const BESIDES: u64 = 512 << 20; // one tensor as it is packed, and the activations
        let element = precision.activations().size() as u64;
        self.parameters() * element + BESIDES
    }

    /// Parameters, norms and biases not counted.
    pub fn parameters(&self) -> u64 {
        self.sizes.parameters()
    }

    /// Refuses what does not fit in the memory that is free.
    ///
    /// # Errors
    /// [`Error::Device`] with both sizes.
    pub(crate) fn check_memory(&self, precision: Precision) -> Result<()> {
        let (needed, free) = (self.bytes(precision), available_memory());
        match free {
            Some(free) if free < needed => {
                let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
                let problem = format!(
                    "{} in {precision} needs about {:.1} GiB of memory and {:.1} are free; choose a smaller \
                     shape{}",
                    self.name,
                    gib(needed),
                    gib(free),
                    if precision == Precision::F32 { " or dtype bf16" } else { "" }
                );
                Err(Error::Device { device: "cpu".into(), problem })
            }
            _ => Ok(()),
        }
    }
}

/// Bytes that programs can still get without swapping, where the system tells.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// A shape's models on one device.
pub(crate) struct Drawn<D: Device> {
    name: String,
    text: TextEncoder<D>,
    transformers: Vec<Transformer<D>>,
    coarse: Option<(usize, u32)>, // cells and codes of the grid that the first stage refines
    levels: Vec<Level<D>>,
}

enum TextEncoder<D: Device> {
    Bert(Bert<D>),
    Clip(Clip<D>),
    Noise(usize), // channels
}

enum Transformer<D: Device> {
    Muse(Box<Muse<D>>),
    Uvit(Box<Uvit<D>>),
}

pub(crate) enum DrawnText<D: Device> {
    Muse(Tensor<D::Buffer>), // float [rows, text_size]
    Amused(Encoded<D>),
}

/// A shape's text encoder is of its transformer's family.
impl<D: Device> DrawnText<D> {
    fn states(&self) -> &Tensor<D::Buffer> {
        match self {
            DrawnText::Muse(states) => states,
            DrawnText::Amused(_) => unreachable!("CLIP's states for a Muse transformer"),
        }
    }

    fn encoded(&self) -> &Encoded<D> {
        match self {
            DrawnText::Amused(encoded) => encoded,
            DrawnText::Muse(_) => unreachable!("BERT's states for a U-ViT"),
        }
    }
}

/// A transformer of either family, ready for one image.
struct Prepared<'a, D: Device>(Box<dyn MaskedModel<D> + 'a>);

impl<D: Device> MaskedModel<D> for Prepared<'_, D> {
    fn logits(
        &mut self,
        device: &D,
        masked: &Masked<D::Buffer>,
        batch: usize,
    ) -> Result<&mut Tensor<D::Buffer>> {
        self.0.logits(device, masked, batch)
    }
}

impl<D: Device> Drawn<D> {
    /// Draws the weights, each in the dtype that it is computed in.
    pub(crate) fn new(device: &D, shape: &Shape, precision: Precision) -> Result<Self> {
        let noise = |part: &str| Weights::noise(part).in_precision(precision);
        let name = format!("{} (noise)", shape.name);
        match &shape.sizes {
            Sizes::Muse { text, stages } => {
                let first = &stages[0].transformer;
                let mut drawn = Drawn {
                    name,
                    text: match text {
                        Some(text) => {
                            TextEncoder::Bert(Bert::load(device, noise("text_encoder"), text)?)
                        }
                        None => TextEncoder::Noise(first.text_size),
                    },
                    coarse: first
                        .coarse
                        .as_ref()
                        .map(|c| (c.grid[0] * c.grid[1], c.codebook_size as u32)),
                    transformers: Vec::new(),
                    levels: Vec::new(),
                };
                for Stage { name, transformer, vq } in stages {
                    let model = Muse::load(device, noise(name), transformer)?;
                    drawn.levels.push(Level {
                        name,
                        grid: transformer.grid,
                        mask_token: model.mask_token(),
                        defaults: transformer.decode,
                        vq: Arc::new(Vq::load(device, noise(&format!("vq_{name}")), vq)?),
                    });
                    drawn.transformers.push(Transformer::Muse(Box::new(model)));
                }
                Ok(drawn)
            }
            Sizes::Amused { text, transformer, vq } => Ok(Drawn {
                name,
                text: TextEncoder::Clip(Clip::load(device, noise("text_encoder"), text)?),
                transformers: vec![Transformer::Uvit(Box::new(Uvit::load(
                    device,
                    noise("transformer"),
                    transformer,
                )?))],
                coarse: None,
                levels: vec![Level {
                    name: "base",
                    grid: [transformer.sample_size; 2],
                    mask_token: transformer.vocab_size as u32 - 1,
                    defaults: DEFAULTS,
                    vq: Arc::new(Vq::load(device, noise("vqvae"), &VqConfig::from(&**vq))?),
                }],
            }),
        }
    }
}

/// Ids of a made-up text: a few of a vocabulary, the last one the largest.
fn ids(length: usize) -> Vec<u32> {
    (1..length as u32 + 1).collect()
}

impl<D: Device> Family<D> for Drawn<D> {
    type Text = DrawnText<D>;

    fn load(device: &D, path: &Path, reading: &Reading) -> Result<Self> {
        Drawn::new(device, &Shape::named(&path.to_string_lossy())?, reading.precision)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn files(&self) -> &[(String, PathBuf)] {
        &[]
    }

    fn levels(&self) -> &[Level<D>] {
        &self.levels
    }

    fn levels_for(&self, request: &Request) -> Result<Vec<Level<D>>> {
        let levels = match request.size {
            Size::Base => &self.levels[..1],
            _ => &self.levels,
        };
        Ok(levels.iter().map(|level| level.with_grid(level.grid)).collect())
    }

    /// Of a made-up text; an empty one is as short as the unconditional one of a model.
    fn encode_text(
        &self,
        device: &D,
        _name: &'static str,
        text: &str,
        _request: &Request,
    ) -> Result<DrawnText<D>> {
        let rows = TEXT_ROWS[usize::from(text.is_empty())];
        Ok(match &self.text {
            TextEncoder::Bert(bert) => {
                let length = if text.is_empty() { 2 } else { rows.min(16) };
                DrawnText::Muse(bert.encode(device, &[&ids(length)])?)
            }
            TextEncoder::Clip(clip) => {
                DrawnText::Amused(clip.encode(device, &[&ids(clip.length())])?)
            }
            TextEncoder::Noise(channels) => {
                let mut weights = Weights::noise("text").in_precision(match &self.levels[0].vq {
                    vq if vq.dtype() == DType::F32 => Precision::F32,
                    _ => Precision::Bf16,
                });
                DrawnText::Muse(weights.table(device, "embedding", [rows, *channels])?)
            }
        })
    }

    fn between(&self, _: &D, _: DrawnText<D>, _: DrawnText<D>, part: f32) -> Result<DrawnText<D>> {
        Err(Error::option("part", part, "none: a shape has no text"))
    }

    fn embeddings(&self, _: &D, _: &DrawnText<D>) -> Result<Embeddings> {
        Err(Error::option("embeddings", "those of a shape", "a model: a shape has no text"))
    }

    fn embedded(&self, _: &D, _: &Embeddings, _: &Request) -> Result<DrawnText<D>> {
        Err(Error::option("embeddings", "a text", "none: a shape has no text"))
    }

    fn bytes_per_image(&self, level: usize, grid: [usize; 2]) -> usize {
        match &self.transformers[level] {
            Transformer::Muse(muse) => muse.bytes_per_image(),
            Transformer::Uvit(uvit) => uvit.bytes_per_image(grid),
        }
    }

    fn prepare<'a>(
        &'a self,
        device: &D,
        level: usize,
        grid: [usize; 2],
        texts: &[&DrawnText<D>],
        coarse: Option<&Tensor<D::Buffer>>,
        images: usize,
    ) -> Result<impl MaskedModel<D> + 'a> {
        let made_up = match (coarse, self.coarse) {
            (None, Some((cells, codes))) => {
                let tokens: Vec<u32> = (0..cells as u32).map(|i| i * 31 % codes).collect();
                let tokens = tokens.repeat(images);
                Some(device.upload(&tokens, [tokens.len()])?)
            }
            _ => None,
        };
        let coarse = coarse.or(made_up.as_ref());
        Ok(Prepared(match &self.transformers[level] {
            Transformer::Muse(muse) => {
                let states: Vec<_> = texts.iter().map(|text| text.states()).collect();
                Box::new(muse.prepare(device, &Text::of(device, &states)?, coarse, images)?)
            }
            Transformer::Uvit(uvit) => {
                let texts: Vec<_> = texts.iter().map(|text| text.encoded()).collect();
                let Encoded { states, pooled } = &Encoded::stacked(device, &texts)?;
                let [height, width] =
                    grid.map(|side| (side * self.levels[level].vq.grid_factor()) as f32);
                let micro = [width, height, 0.0, 0.0, crate::amused::AESTHETIC];
                let conditions = Conditions { states, pooled, micro };
                Box::new(uvit.prepare(device, &conditions, grid, images)?)
            }
        }))
    }

    fn plan(
        &self,
        start: Start,
        options: &DecodeOptions,
        _request: &Request,
    ) -> Result<Vec<StepPlan>> {
        match self.text {
            TextEncoder::Clip(_) => {
                let Start { cells, masked, first } = start;
                let schedule =
                    Schedule { masking: MaskingSchedule::Cosine, start: first, share: 1.0 };
                Ok(schedule.plan(cells, masked, options))
            }
            _ => start.plan(options),
        }
    }
}
