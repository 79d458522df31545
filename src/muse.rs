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
use crate::request::{Request, Rng, Size};
use crate::tensor::Tensor;
use crate::text::bert::Bert;
use crate::text::{read, write};
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
    type Text = Text<D>;

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

    fn encode_text(&self, device: &D, prompt: &str, request: &Request) -> Result<Text<D>> {
        let prompt = self.ids("prompt", prompt)?;
        let negative = self.ids("negative prompt", &request.negative)?;
        let states = self.text_encoder.encode(device, [&prompt, &negative])?;
        Ok(Text { states, lengths: [prompt.len(), negative.len()], batch: 2 })
    }

    fn negative(&self, device: &D, text: &Text<D>) -> Result<Text<D>> {
        text.negative(device)
    }

    /// Mixes row by row. Where one text is shorter, its last row, the end of the text, stands for those that it
    /// lacks.
    fn between(&self, device: &D, from: Text<D>, to: Text<D>, part: f32) -> Result<Text<D>> {
        if part == 0.0 {
            return Ok(from);
        } else if part == 1.0 {
            return Ok(to);
        }
        let (dtype, size) = (from.states.dtype(), from.states.shape().last());
        let (a, b) = (read(device, &from.states)?, read(device, &to.states)?);
        let (length, negative) = (from.lengths[0].max(to.lengths[0]), from.lengths[1]);
        let longest = length.max(negative);
        let mut states = vec![0.0; 2 * longest * size];
        for (i, row) in states.chunks_exact_mut(size).take(length).enumerate() {
            let [a, b] = [(&a, &from), (&b, &to)]
                .map(|(states, text)| &states[i.min(text.lengths[0] - 1) * size..][..size]);
            for (mixed, (a, b)) in row.iter_mut().zip(a.iter().zip(b)) {
                *mixed = a * (1.0 - part) + b * part;
            }
        }
        states[longest * size..][..negative * size]
            .copy_from_slice(&a[a.len() / 2..][..negative * size]);
        let states = write(device, &states, dtype, [2 * longest, size])?;
        Ok(Text { states, lengths: [length, negative], batch: 2 })
    }

    fn bytes_per_image(&self, level: usize, _grid: [usize; 2]) -> usize {
        self.transformers[level].bytes_per_image()
    }

    fn prepare<'a>(
        &'a self,
        device: &D,
        level: usize,
        _grid: [usize; 2],
        text: &Text<D>,
        coarse: Option<&Tensor<D::Buffer>>,
        images: usize,
    ) -> Result<impl MaskedModel<D> + 'a> {
        self.transformers[level].prepare(device, text, coarse, images)
    }
}
