//! Parts of the pipeline by themselves: a text's states, a picture's tokens, the picture of tokens.

use super::{Family, Pipeline};
use crate::decode::Step;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::request::{Embeddings, Request, Size};

impl<D: Device, F: Family<D>> Pipeline<D, F> {
    /// The states of a text.
    pub(crate) fn embed(&self, text: &str) -> Result<Embeddings> {
        let text = self.family.encode_text(&self.device, "prompt", text, &Request::default())?;
        self.family.embeddings(&self.device, &text)
    }

    /// The picture of a grid that is still being decoded; masked cells are drawn as such.
    pub(crate) fn preview(&self, step: &Step<'_>) -> Result<Image> {
        let levels = self.family.levels();
        let level = levels.iter().find(|level| level.name == step.stage).unwrap_or(&levels[0]);
        let known = |&token: &u32| if token == step.mask_token { 0 } else { token };
        let known: Vec<u32> = step.tokens.iter().map(known).collect();
        let mut image =
            level.picture(&self.device, &self.device.upload(&known, [known.len()])?, step.grid)?;
        let (columns, side) = (step.grid[1], level.vq.grid_factor());
        let masked = step.tokens.iter().enumerate().filter(|&(_, &t)| t == step.mask_token);
        for (cell, _) in masked {
            image.hatch(cell % columns * side, cell / columns * side, side);
        }
        Ok(image)
    }

    /// Tokens of an image in the base (or finest) tokenizer; its sides are the tokenizer's.
    pub(crate) fn encode_image(&self, image: &Image, size: Size) -> Result<Vec<u32>> {
        let levels = self.family.levels_for(&Request { size, ..Request::default() })?;
        let level = &levels[levels.len() - 1];
        let side = level.side();
        if [image.height, image.width] != side {
            let found = format!("{}×{} pixels", image.width, image.height);
            return Err(Error::option("image", found, format!("{}×{} pixels", side[1], side[0])));
        }
        level.encode(&self.device, image)
    }

    /// The picture of a finished grid in the base (or finest) tokenizer.
    pub(crate) fn decode_tokens(&self, tokens: &[u32], size: Size) -> Result<Image> {
        let levels = self.family.levels_for(&Request { size, ..Request::default() })?;
        let level = &levels[levels.len() - 1];
        let [rows, columns] = level.grid;
        if tokens.len() != rows * columns {
            let found = format!("{} of them", tokens.len());
            return Err(Error::option("tokens", found, format!("{rows} rows of {columns}")));
        }
        let codes = level.vq.codes();
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= codes) {
            return Err(Error::option(
                "tokens",
                token,
                format!("less than {codes}, the codebook's"),
            ));
        }
        level.picture(&self.device, &self.device.upload(tokens, [tokens.len()])?, level.grid)
    }
}
