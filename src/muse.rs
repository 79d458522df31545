//! The Muse family: BERT, the base and super-res transformers with their VQ tokenizers, and the files
//! that hold them (a directory like `models/demo`, see [`crate::config`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{Config, FILES};
use crate::device::Device;
use crate::edit::Change;
use crate::error::{Error, Result};
use crate::models::MaskedModel;
use crate::models::muse::{Muse, Text};
use crate::pipeline::{Family, Level};
use crate::request::{Embeddings, Request, Rng, Size};
use crate::tensor::Tensor;
use crate::text::bert::Bert;
use crate::text::{read, states_of, write};
use crate::tokenizer::Tokenizer;
use crate::vq::Vq;
use crate::weights::Reading;

/// All models of one checkpoint on one device.
pub(crate) struct Parts<D: Device> {
    config: Config,
    files: Vec<(String, PathBuf)>,
    tokenizer: Tokenizer,
    text_encoder: Bert<D>,
    transformers: Vec<Muse<D>>, // base, and super-res where there is one
    levels: Vec<Level<D>>,      // of the same stages
}

impl<D: Device> Parts<D> {
    /// Ids of one text, which must fit the encoder.
    fn ids(&self, name: &'static str, text: &str) -> Result<Vec<u32>> {
        let limit = self.config.text_encoder.max_length;
        let encoded = self.tokenizer.encode(text, limit)?;
        if encoded.truncated > 0 {
            let found = format!("a text of {} tokens", encoded.ids.len() + encoded.truncated);
            return Err(Error::option(name, found, format!("at most {limit} tokens")));
        }
        Ok(encoded.ids)
    }
}

impl<D: Device> Family<D> for Parts<D> {
    type Text = Tensor<D::Buffer>; // float [rows, text_size]

    fn load(device: &D, path: &Path, reading: &Reading) -> Result<Self> {
        let config = Config::read(path)?;
        let open = |file: &str| reading.open(&[path.join(file)], file);
        let stages = [
            Some((&config.base, &config.vq_base)),
            config.superres.as_ref().zip(config.vq_superres.as_ref()),
        ];
        let (text, image) = std::thread::scope(|scope| {
            let text = scope.spawn(|| -> Result<_> {
                let tokenizer = Tokenizer::open(path.join("tokenizer.json"))?;
                let weights = open("text_encoder.safetensors")?;
                Ok((tokenizer, Bert::load(device, weights, &config.text_encoder)?))
            });
            let image = || -> Result<_> {
                let (mut transformers, mut levels) = (Vec::new(), Vec::new());
                for (name, (transformer, vq)) in
                    ["base", "superres"].into_iter().zip(stages.into_iter().flatten())
                {
                    let weights = open(&format!("{name}.safetensors"))?;
                    let model = Muse::load(device, weights, transformer)?;
                    let weights = open(&format!("vq_{name}.safetensors"))?;
                    levels.push(Level {
                        name,
                        grid: transformer.grid,
                        mask_token: model.mask_token(),
                        defaults: transformer.decode,
                        vq: Arc::new(Vq::load(device, weights, vq)?),
                    });
                    transformers.push(model);
                }
                Ok((transformers, levels))
            };
            let image = image();
            (text.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), image)
        });
        let ((tokenizer, text_encoder), (transformers, levels)) = (text?, image?);
        let files = FILES.into_iter().map(|file| (file.to_owned(), path.join(file)));
        let files = files.filter(|(_, path)| path.exists()).collect(); // super-res is optional
        Ok(Parts { config, files, tokenizer, text_encoder, transformers, levels })
    }

    fn name(&self) -> &str {
        &self.config.name
    }

    fn files(&self) -> &[(String, PathBuf)] {
        &self.files
    }

    fn levels(&self) -> &[Level<D>] {
        &self.levels
    }

    fn levels_for(&self, request: &Request) -> Result<Vec<Level<D>>> {
        let (side, none) =
            (self.levels[self.levels.len() - 1].side(), "none: this is a Muse model");
        if let Some(crop) = request.crop {
            return Err(Error::option("crop", format!("{crop:?}"), none));
        }
        if let Some(aesthetic) = request.aesthetic {
            return Err(Error::option("aesthetic", aesthetic, none));
        }
        if request.rng == Rng::Torch {
            return Err(Error::option("rng", "torch", "counter: this is a Muse model"));
        }
        if let Some(Change::Inpaint { strength, .. }) = request.edit.as_ref().map(|e| &e.change)
            && *strength < 1.0
        {
            return Err(Error::option("strength", strength, "1: this is a Muse model"));
        }
        let levels = match request.size {
            Size::Base => &self.levels[..1],
            Size::Full => &self.levels,
            Size::Pixels([width, height]) => {
                let found = format!("{width}x{height}");
                let expected = format!("full ({}x{} pixels) or base", side[1], side[0]);
                return Err(Error::option("size", found, expected));
            }
        };
        Ok(levels.iter().map(|level| level.with_grid(level.grid)).collect())
    }

    fn encode_text(
        &self,
        device: &D,
        name: &'static str,
        text: &str,
        _request: &Request,
    ) -> Result<Self::Text> {
        self.text_encoder.encode(device, &[&self.ids(name, text)?])
    }

    /// Mixes row by row. Where one text is shorter, its last row, the end of the text, stands for those that it
    /// lacks.
    fn between(
        &self,
        device: &D,
        from: Self::Text,
        to: Self::Text,
        part: f32,
    ) -> Result<Self::Text> {
        if part == 0.0 {
            return Ok(from);
        } else if part == 1.0 {
            return Ok(to);
        }
        let size = from.shape().last();
        let (a, b) = (read(device, &from)?, read(device, &to)?);
        let length = from.shape().rows().max(to.shape().rows());
        let row = |states: &[f32], i: usize| {
            let last = states.len() / size - 1;
            states[i.min(last) * size..][..size].to_vec()
        };
        let mixed = (0..length).flat_map(|i| {
            let mix = |(a, b): (f32, f32)| a * (1.0 - part) + b * part;
            row(&a, i).into_iter().zip(row(&b, i)).map(mix)
        });
        write(device, &Vec::from_iter(mixed), from.dtype(), [length, size])
    }

    fn embeddings(&self, device: &D, text: &Self::Text) -> Result<Embeddings> {
        let (states, rows) = (read(device, text)?, text.shape().rows());
        Ok(Embeddings { states, rows, pooled: Vec::new() })
    }

    fn embedded(
        &self,
        device: &D,
        Embeddings { states, rows, pooled }: &Embeddings,
        _request: &Request,
    ) -> Result<Self::Text> {
        let encoder = &self.config.text_encoder;
        let (limit, channels) = (encoder.max_length, self.config.base.text_size);
        if !(1..=limit).contains(rows) || states.len() != rows * channels || !pooled.is_empty() {
            let found = states_of(*rows, states.len() / rows.max(&1), pooled.len());
            let expected = format!("1 to {limit} rows of {channels} channels, none pooled");
            return Err(Error::option("embeddings", found, expected));
        }
        write(device, states, self.text_encoder.dtype(), [*rows, channels])
    }

    fn bytes_per_image(&self, level: usize, _grid: [usize; 2]) -> usize {
        self.transformers[level].bytes_per_image()
    }

    fn prepare<'a>(
        &'a self,
        device: &D,
        level: usize,
        _grid: [usize; 2],
        texts: &[&Self::Text],
        coarse: Option<&Tensor<D::Buffer>>,
        images: usize,
    ) -> Result<impl MaskedModel<D> + 'a> {
        self.transformers[level].prepare(device, &Text::of(device, texts)?, coarse, images)
    }
}
