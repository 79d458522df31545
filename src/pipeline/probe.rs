//! What the models make of fixed tokens: to hold other engines against this one, whatever they draw.

use super::{Family, Pipeline};
use crate::device::{Device, Masked};
use crate::error::Result;
use crate::image::Image;
use crate::models::MaskedModel;
use crate::request::Request;

/// Cell `i` of a probe's grids holds code `31·i` modulo the codebook; every second one, from the second on, is
/// masked for the transformer.
#[derive(Clone, Debug)]
pub struct Probe {
    /// f32 `[2, masked, codes]` of the first stage: of the prompt, then of the negative one.
    pub logits: Vec<f32>,
    /// The picture of the last stage's grid, nothing masked.
    pub picture: Image,
}

impl<D: Device, F: Family<D>> Pipeline<D, F> {
    pub(crate) fn probe(&self, request: &Request) -> Result<Probe> {
        request.validate()?;
        let device = &self.device;
        let levels = self.family.levels_for(request)?;
        let (first, last) = (&levels[0], &levels[levels.len() - 1]);
        let texts = self.encode_texts(request)?;

        let mut tokens = codes(first.grid, first.vq.codes());
        tokens.iter_mut().skip(1).step_by(2).for_each(|token| *token = first.mask_token);
        let masked = Masked::new(device, &tokens, first.mask_token)?;
        let texts = texts.both();
        let mut model = self.family.prepare(device, 0, first.grid, &texts, None, 1)?;
        let logits = device.download(model.logits(device, &masked, 2)?)?;

        let tokens = codes(last.grid, last.vq.codes());
        let tokens = device.upload(&tokens, [tokens.len()])?;
        Ok(Probe { logits, picture: last.picture(device, &tokens, last.grid)? })
    }
}

fn codes([height, width]: [usize; 2], codes: usize) -> Vec<u32> {
    (0..height * width).map(|cell| (31 * cell % codes) as u32).collect()
}
